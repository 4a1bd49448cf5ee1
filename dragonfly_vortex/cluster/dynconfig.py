"""
The file that the reference calls dynconfig: the addresses of the schedulers, and the block lists, which name what a
peer does not download or import for programs on its machine.

Read from dragonfly-client 1.5.10, ``dynconfig/mod.rs``, ``dynconfig/local.rs`` and ``dynconfig/block_list.rs``. A list
of addresses there goes before a name, and a name stands for all addresses that it has, or for the IPv4 ones where it
has both. Addresses are used once, in order.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct, field, structs
from twisted.logger import Logger

from dragonfly_vortex.address import split_address
from dragonfly_vortex.config.kinds import AddressAndPort, ListOf
from dragonfly_vortex.config.yaml_tree import Items, Node, Scalar, Section, shown
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.rpc.peer_tasks import BlockSubject
from dragonfly_vortex.wire import PieceKind

__all__ = [
    "MOST_ADDRESSES",
    "BlockList",
    "BlockLists",
    "Dynconfig",
    "in_order",
    "read_block_lists",
    "read_dynconfig",
    "resolve",
]

_log = Logger()

_KINDS = {
    "task": PieceKind.STANDARD,
    "persistentTask": PieceKind.PERSISTENT,
    "persistentCacheTask": PieceKind.PERSISTENT_CACHE,
}
"""The kinds of tasks, by the keys of their lists."""

_LISTS = ("applications", "urls", "tags", "priorities")


class BlockList(Struct, frozen=True, kw_only=True):
    """
    The requests that the operator of a cluster blocks. One match is enough.

    :param urls: patterns, of which one is found in the URL.
    :param applications: names of applications.
    :param tags: tags of tasks.
    :param priorities: priorities of downloads.
    """

    urls: tuple[re.Pattern[str], ...] = ()
    applications: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    priorities: frozenset[int] = frozenset()

    def blocks(self, subject: BlockSubject) -> bool:
        """Whether a request is blocked."""
        return (
            any(pattern.search(subject.url) for pattern in self.urls if subject.url is not None)
            or subject.application in self.applications
            or subject.tag in self.tags
            or subject.priority in self.priorities
        )


BlockLists: TypeAlias = "Mapping[tuple[PieceKind, bool], BlockList]"
"""The lists for downloads, and for imports (True), of each kind of task that has one."""


def read_block_lists(file: str, config: Node | None, key: str) -> BlockLists:
    """
    Read the lists for peers of one type.

    :param file: its name, for messages.
    :param config: what stands under the key of that type.
    :param key: that key, for messages.
    :raises ConfigError: something else stands there, or a pattern is none.
    """
    lists = {}
    key, below = f"{key}.blockList", _under(file, config, key, "blockList")
    for name, kind in _KINDS.items():
        of_kind = _under(file, below, key, name)
        for is_import, act in ((False, "download"), (True, "upload")):
            node = _under(file, of_kind, f"{key}.{name}", act)
            if node is not None:
                lists[kind, is_import] = _read(file, node, f"{key}.{name}.{act}")
    return lists


def _read(file: str, node: Node, key: str) -> BlockList:
    """One list."""
    texts = {name: _texts(file, _under(file, node, key, name), f"{key}.{name}") for name in _LISTS}
    try:
        return BlockList(
            urls=tuple(map(re.compile, texts["urls"])),
            applications=frozenset(texts["applications"]),
            tags=frozenset(texts["tags"]),
            priorities=frozenset(map(int, texts["priorities"])),
        )
    except (re.error, ValueError) as error:
        raise ConfigError(file, node.line, key, f"expected patterns and numbers: {error}") from error


def _texts(file: str, node: Node | None, key: str) -> list[str]:
    """The texts of a list of scalars."""
    if node is None:
        return []
    if not isinstance(node, Items) or not all(isinstance(item, Scalar) for item in node.items):
        raise ConfigError(file, node.line, key, f"expected a list of texts; got {shown(node)}")
    return [item.text for item in node.items if isinstance(item, Scalar)]


def _under(file: str, node: Node | None, path: str, key: str) -> Node | None:
    """What stands under a key, in either of its spellings; None for nothing."""
    if node is None:
        return None
    if not isinstance(node, Section):
        raise ConfigError(file, node.line, path, f"expected keys ({key}); got {shown(node)}")
    names = (key, re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key))
    found = [entry.value for entry in node.entries if entry.key in names]
    return found[-1] if found and not (isinstance(found[-1], Scalar) and found[-1].tag == "null") else None


_DEFAULT_NAME = "dragonfly-scheduler:8002"
"""Where the schedulers are if the file does not say it."""

MOST_ADDRESSES = 64
"""
Addresses of a name that are used. All peers take the same ones. A DNS answer has up to some thousands, and each costs
a connection.
"""

_CLIENT, _SEED = "clientConfig", "seedClientConfig"
"""The keys of what peers of the two types block."""


class Dynconfig(Struct, frozen=True, kw_only=True):
    """
    The contents of the file.

    :param addresses: ``IP:PORT`` of each scheduler.
    :param name: ``NAME:PORT``, where there are no addresses.
    :param client: what peers that are no seeds block.
    :param seed: what seeds block.
    :param unused: the keys of the file that are not used here.
    """

    addresses: tuple[str, ...] = ()
    name: str = ""
    client: BlockLists = field(default_factory=dict)
    seed: BlockLists = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def read_dynconfig(path: Path) -> Dynconfig:
    """
    Read the file. This blocks.

    :raises ConfigError: it cannot be read, is no YAML, or names no scheduler in the way that the reference expects.
    """
    from dragonfly_vortex.config.reading import read_document  # which loads YAML

    file = str(path)
    document = read_document(file)
    unused = tuple(sorted({entry.key for entry in document.entries} - {"scheduler", _CLIENT, _SEED}))
    return structs.replace(
        _schedulers(file, _below(document, "scheduler")),
        client=read_block_lists(file, _below(document, _CLIENT), _CLIENT),
        seed=read_block_lists(file, _below(document, _SEED), _SEED),
        unused=unused,
    )


def _schedulers(file: str, scheduler: Node | None) -> Dynconfig:
    """What stands under the key of the schedulers."""
    if scheduler is None or (isinstance(scheduler, Scalar) and scheduler.tag == "null"):
        return Dynconfig(name=_DEFAULT_NAME)
    if not isinstance(scheduler, Section):
        raise ConfigError(file, scheduler.line, "scheduler", f"expected keys (addrs, addr); got {shown(scheduler)}")
    addresses = _addresses(file, _below(scheduler, "addrs"))
    if addresses:
        return Dynconfig(addresses=in_order(addresses))
    name = _below(scheduler, "addr")
    if name is None:
        return Dynconfig(name=_DEFAULT_NAME)
    reason = f"expected a name and a port such as {_DEFAULT_NAME}; got {shown(name)}"
    if not isinstance(name, Scalar):
        raise ConfigError(file, name.line, "scheduler.addr", reason)
    try:
        split_address(name.text)
    except ValueError as error:
        raise ConfigError(file, name.line, "scheduler.addr", reason) from error
    return Dynconfig(name=name.text)


def resolve(name: str) -> tuple[str, ...]:
    """
    Return the addresses that a name stands for, at most :data:`MOST_ADDRESSES`. This blocks.

    :param name: ``NAME:PORT``.
    :raises OSError: the name is not known.
    """
    host, port = split_address(name)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    addresses = in_order(_joined(str(address[0]), port) for family, _, _, _, address in found if family == wanted)
    if len(addresses) > MOST_ADDRESSES:
        text = "{name} stands for {count} addresses of schedulers; the first {most} are used"
        _log.warn(text, name=name, count=len(addresses), most=MOST_ADDRESSES)
    return addresses[:MOST_ADDRESSES]


def in_order(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return each address once, in the order of their numbers."""

    def number(address: str) -> tuple[int, int, int]:
        host, port = split_address(address)
        ip = ipaddress.ip_address(host)
        return ip.version, int(ip), port

    return tuple(sorted(set(addresses), key=number))


def _addresses(file: str, node: Node | None) -> tuple[str, ...]:
    """The addresses of a list, in their usual form."""
    if node is None or (isinstance(node, Scalar) and node.tag == "null"):
        return ()
    kind = ListOf(AddressAndPort())
    if not isinstance(node, Items):
        raise ConfigError(file, node.line, "scheduler.addrs", f"expected {kind.allowed}; got {shown(node)}")
    addresses = []
    for number, item in enumerate(node.items):
        try:
            if not isinstance(item, Scalar):
                raise ValueError
            addresses.append(kind.item.parse(item))
        except ValueError as error:
            reason = f"expected {kind.item.allowed}; got {shown(item)}"
            raise ConfigError(file, item.line, f"scheduler.addrs[{number}]", reason) from error
    return tuple(addresses)


def _below(section: Section, key: str) -> Node | None:
    """What stands under a key; the last one, where it is there twice."""
    found = None
    for entry in section.entries:
        if entry.key == key:
            found = entry.value
    return found


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
