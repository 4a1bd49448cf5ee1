"""
The block lists of the file that the reference calls dynconfig: what a peer does not download or import for programs on
its machine. Read from dragonfly-client 1.5.10, ``dynconfig/mod.rs`` and ``dynconfig/block_list.rs``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from dragonfly_vortex.config.yaml_tree import Items, Node, Scalar, Section, shown
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.model import BlockSubject
from dragonfly_vortex.wire import PieceKind

__all__ = ["BlockList", "BlockLists", "read_block_lists"]

_KINDS = {
    "task": PieceKind.STANDARD,
    "persistentTask": PieceKind.PERSISTENT,
    "persistentCacheTask": PieceKind.PERSISTENT_CACHE,
}
"""The kinds of tasks, by the keys of their lists."""

_LISTS = ("applications", "urls", "tags", "priorities")


class BlockList(Struct, frozen=True, kw_only=True):
    """
    What is blocked. One match is enough.

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
    key, below = f"{key}.blockList", _below(file, config, key, "blockList")
    for name, kind in _KINDS.items():
        of_kind = _below(file, below, key, name)
        for is_import, act in ((False, "download"), (True, "upload")):
            node = _below(file, of_kind, f"{key}.{name}", act)
            if node is not None:
                lists[kind, is_import] = _read(file, node, f"{key}.{name}.{act}")
    return lists


def _read(file: str, node: Node, key: str) -> BlockList:
    """One list."""
    texts = {name: _texts(file, _below(file, node, key, name), f"{key}.{name}") for name in _LISTS}
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


def _below(file: str, node: Node | None, path: str, key: str) -> Node | None:
    """What stands under a key, in either of its spellings; None for nothing."""
    if node is None:
        return None
    if not isinstance(node, Section):
        raise ConfigError(file, node.line, path, f"expected keys ({key}); got {shown(node)}")
    names = (key, re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key))
    found = [entry.value for entry in node.entries if entry.key in names]
    return found[-1] if found and not (isinstance(found[-1], Scalar) and found[-1].tag == "null") else None
