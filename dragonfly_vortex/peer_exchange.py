"""
Exchanges the addresses of a task's peers: a child names its door, and a parent names the peers that asked it for the
same task.

Both are metadata of the call that asks which pieces there are, which other implementations skip: the child sends
:data:`PORT_KEY`, and a parent that takes part answers with :data:`PEERS_KEY`. Peers that are asked write the addresses
of those that ask into a file for each task, which a download into the same storage reads.

What a stranger can do by this is bounded. A peer is known by the IP address that its connection comes from, and by a
port from :data:`LEAST_PORT` on. An address that another peer names has to be one of a private network.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from threading import Lock
from urllib.parse import unquote

from msgspec import Struct

from dragonfly_vortex.address import LEAST_PORT, ParentAddress, is_private, plain_ip, split_address
from dragonfly_vortex.wire import PieceKind

__all__ = [
    "AGE",
    "MOST_MET",
    "MOST_NAMED",
    "MOST_OF_A_HOST",
    "MOST_OF_A_TASK",
    "MOST_TASKS",
    "PEERS_KEY",
    "PORT_KEY",
    "Askers",
    "Metadata",
    "PeerExchange",
    "askers_file",
    "asking_peer",
    "takes_part",
]

PORT_KEY = "dfvortex-port"
"""The metadata of a question that has the port of the child's gRPC door; 0 where others cannot fetch from it."""

PEERS_KEY = "dfvortex-peers"
"""The metadata of an answer that names other peers: ``HOST:PORT`` with IP addresses, with commas between them."""

MOST_NAMED = 32
"""Peers that are named in one answer, and that are read of one: 2 KB of metadata, of which grpcio takes 8 KiB."""

MOST_OF_A_TASK = 64
"""Peers that a parent remembers for one task."""

MOST_OF_A_HOST = 16
"""How many of them may have one IP address."""

MOST_TASKS = 1024
"""Tasks for which it remembers peers."""

MOST_MET = 64
"""Peers that one download asks because others name them, who may name any number."""

AGE = 3600.0
"""Seconds after its last question in which a peer is remembered."""

_LONGEST = 64
"""Characters of a named address: those of IPv6 have 39, brackets and a port."""

Metadata = Iterable[tuple[str, str | bytes]]
"""What goes with a call or an answer beside its messages."""


# -- the child's side --------------------------------------------------------------------------------------------------


class PeerExchange(Struct, frozen=True, kw_only=True):
    """
    A download's part in the exchange.

    :param port: of the gRPC door that serves what the download stores; 0 where there is none.
    :param is_secure: whether that door uses TLS. Parents that differ in this get no door.
    :param follow: whether any address is taken that a parent names.
    :param on_peers: called in the reactor's thread with the peers that a parent names.
    """

    port: int = 0
    is_secure: bool = False
    follow: bool = False
    on_peers: Callable[[list[ParentAddress]], None]

    def question(self, parent: ParentAddress) -> tuple[tuple[str, str], ...]:
        """The metadata of a question to a parent."""
        return ((PORT_KEY, str(self.port if parent.is_secure is self.is_secure else 0)),)

    def hear(self, parent: ParentAddress, answer: Metadata) -> None:
        """Take the peers from the metadata of a parent's answer."""
        texts = [text for key, text in answer if key == PEERS_KEY and isinstance(text, str)]
        peers = [peer for text in texts[:1] for peer in self._named(parent, text)]
        if peers:
            self.on_peers(peers)

    def _named(self, parent: ParentAddress, text: str) -> list[ParentAddress]:
        """The peers that a parent names, as far as they may be asked. They are spoken to as their parent is."""
        named = []
        for each in text.split(",", MOST_NAMED)[:MOST_NAMED]:
            with suppress(ValueError):  # it is no address
                host, port = split_address(each.strip() if len(each) <= _LONGEST else "")
                if port >= LEAST_PORT and self._is_taken(parent, plain_ip(host)):
                    named.append(ParentAddress(scheme=parent.scheme, host=host, port=port))
        return named

    def _is_taken(self, parent: ParentAddress, ip: IPv4Address | IPv6Address) -> bool:
        """Whether a peer that a parent names may have this address."""
        if ip.is_unspecified or ip.is_multicast:
            return False
        if ip.is_loopback:  # else it means another machine's services here
            with suppress(ValueError):
                return plain_ip(parent.host).is_loopback
            return False
        return self.follow or (is_private(ip) and not ip.is_link_local)


# -- the parent's side -------------------------------------------------------------------------------------------------


def takes_part(question: Metadata) -> bool:
    """Whether a child takes part in the exchange."""
    return any(key == PORT_KEY for key, _ in question)


def asking_peer(scheme: str, connection: str, question: Metadata) -> ParentAddress | None:
    """
    The address of the door of the peer that asks.

    :param scheme: of the door that it asks at: its own is taken to be alike.
    :param connection: the other side of its connection, as grpcio writes it: ``ipv4:192.0.2.1:50000``, or
        ``ipv6:%5B2001:db8::1%5D:50000``.
    :returns: None where it serves nothing, or at an address that others cannot use.
    """
    texts = [text for key, text in question if key == PORT_KEY and isinstance(text, str)]
    family, _, address = connection.partition(":")
    if len(texts) != 1 or family not in ("ipv4", "ipv6"):
        return None
    text = texts[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and LEAST_PORT <= int(text) <= 65535):
        return None
    try:
        ip = plain_ip(unquote(address).rpartition(":")[0].strip("[]"))
    except ValueError:
        return None
    needs_zone = ip.version == 6 and ip.is_link_local
    return None if needs_zone else ParentAddress(scheme=scheme, host=str(ip), port=int(text))


class Askers:
    """
    Remembers which peers have asked for which task, the latest of them. It has a file for each task, for downloads into
    the same storage.

    :param storage: the directory of the storage.
    :param seconds: the time.
    """

    def __init__(self, storage: Path, seconds: Callable[[], float]) -> None:
        self._storage = storage
        self._seconds = seconds
        # Both by the time of the last question, so that the oldest are in front.
        self._tasks: OrderedDict[tuple[PieceKind, str], dict[ParentAddress, float]] = OrderedDict()
        self._writing = Lock()

    def add(self, kind: PieceKind, task_id: str, peer: ParentAddress) -> bool:
        """
        Record a peer that asked for a stored task.

        :returns: whether it was not known: the file of the task is to be written then.
        """
        self._forget_old(kind, task_id)
        known = self._tasks.setdefault((kind, task_id), {})
        self._tasks.move_to_end((kind, task_id))
        is_new = known.pop(peer, None) is None
        of_host = [each for each in known if each.host == peer.host]
        if len(of_host) >= MOST_OF_A_HOST:
            del known[of_host[0]]
        elif len(known) >= MOST_OF_A_TASK:
            del known[next(iter(known))]
        known[peer] = self._seconds()
        if len(self._tasks) > MOST_TASKS:
            self._tasks.popitem(last=False)
        return is_new

    def others(self, kind: PieceKind, task_id: str, peer: ParentAddress | None) -> tuple[tuple[str, str], ...]:
        """
        The metadata that names the other peers of a task to a peer, the latest first.

        :param peer: who asks; None where that is not known.
        """
        self._forget_old(kind, task_id)
        latest = [each for each in reversed(self._tasks.get((kind, task_id), {})) if each != peer][:MOST_NAMED]
        return ((PEERS_KEY, ",".join(each.host_and_port for each in latest)),) if latest else ()

    def write(self, kind: PieceKind, task_id: str) -> None:
        """
        Write the file of a task. Blocks, and may be called in any thread.

        :raises OSError: it cannot be written.
        """
        path = askers_file(self._storage, kind, task_id)
        with self._writing:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            new.write_text("".join(f"{peer}\n" for peer in list(self._tasks.get((kind, task_id), ()))))
            os.replace(new, path)

    def clear(self) -> None:
        """Delete all files: their addresses are of another run. Blocks, and may be called in any thread."""
        shutil.rmtree(self._storage / _DIRECTORY, ignore_errors=True)

    def _forget_old(self, kind: PieceKind, task_id: str) -> None:
        """Forget the peers of a task that have not asked for long."""
        oldest = self._seconds() - AGE
        known = self._tasks.get((kind, task_id), {})
        for peer in [peer for peer, asked_at in known.items() if asked_at < oldest]:
            del known[peer]


_DIRECTORY = "askers"


def askers_file(storage: Path, kind: PieceKind, task_id: str) -> Path:
    """
    The file that has the addresses of the peers that have asked for a task, a line for each.

    :param storage: the directory of the storage.
    :param task_id: of a task that a storage can have.
    """
    return storage / _DIRECTORY / kind.directory / task_id
