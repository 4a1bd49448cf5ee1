"""Pieces in memory: a store for tests of what serves pieces, and the peers of a swarm in memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import NotStored, OutputError, StorageFailure, VortexError
from dragonfly_vortex.events import DownloadedTask, DownloadEvent
from dragonfly_vortex.interfaces import IPieceStore
from dragonfly_vortex.model import Claim, FileRange, Found, OpenPiece, piece_id
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.testing.contract_parent import Fault
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["MemoryChild", "MemoryPeer", "MemoryStore", "MemoryTarget", "memory_file", "pieces_of"]

_Key = tuple[PieceKind, str, int]


def memory_file(content: bytes = b"") -> int:
    """
    A file in memory, or where the platform has none a temporary one without a name.

    :param content: what is in it.
    :returns: its descriptor, which the caller closes.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pieces")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.pwrite(descriptor, content, 0)
    return descriptor


def pieces_of(content: bytes, piece_length: int) -> list[PieceMetadata]:
    """
    The rows of the pieces of a content, as an honest parent sends them.

    :param piece_length: bytes of every piece but the last. A content of no bytes has one piece of no bytes.
    """
    pieces = []
    for number, offset in enumerate(range(0, max(1, len(content)), piece_length)):
        hasher = new_hash("crc32")
        part = content[offset : offset + piece_length]
        hasher.update(part)
        pieces.append(PieceMetadata(number=number, offset=offset, length=len(part), digest=hasher.text()))
    return pieces


@implementer(IPieceStore)
class MemoryStore:
    """Pieces in memory. Nothing is opened before a task is added."""

    def __init__(self) -> None:
        self.damaged: dict[_Key, str] = {}
        """Pieces that a server has found to be damaged, and why. They are not found any more."""
        self._pieces: dict[_Key, tuple[PieceMetadata, bytes]] = {}

    def add(self, content: bytes, piece_length: int, *, kind: PieceKind = PieceKind.STANDARD, task_id: str = "") -> str:
        """
        Add a task.

        :param piece_length: bytes of every piece but the last.
        :param task_id: its ID; empty for the SHA-256 of the content.
        :returns: the ID.
        """
        task_id = task_id or hashlib.sha256(content).hexdigest()
        for metadata in pieces_of(content, piece_length):
            part = content[metadata.offset : metadata.offset + metadata.length]
            self._pieces[kind, task_id, metadata.number] = metadata, part
        return task_id

    def remove(self, task_id: str, *numbers: int, kind: PieceKind = PieceKind.STANDARD) -> None:
        """
        Remove pieces of a task.

        :param numbers: which; none for all.
        """
        for key in list(self._pieces):
            if key[:2] == (kind, task_id) and (not numbers or key[2] in numbers):
                del self._pieces[key]

    def open_piece(
        self, kind: PieceKind, task_id: str, number: int, start: int = 0, length: int | None = None
    ) -> Deferred[OpenPiece]:
        key = kind, task_id, number
        if key not in self._pieces or key in self.damaged:
            return fail(NotStored(f"piece {piece_id(task_id, number)} is not stored"))
        metadata, content = self._pieces[key]
        length = metadata.length - start if length is None else length
        if not 0 <= start <= start + length <= metadata.length:
            return fail(
                StorageFailure(f"expected a range within {metadata.length} bytes, got {length} from {start} on")
            )
        return succeed(OpenPiece(metadata=metadata, range=FileRange(memory_file(content), start, length)))

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        self.damaged[kind, task_id, number] = reason
        return succeed(None)


class MemoryPeer:
    """
    A peer of a swarm, and what it has of one task.

    :param name: its address.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.fault = Fault.NONE
        """What is wrong with every piece that it gives."""
        self.faults: dict[int, Fault] = {}
        """What is wrong with single pieces, by their numbers."""
        self.is_away = False
        """Whether it cannot be reached."""
        self.rate: float | None = None
        """Bytes per second at which each of its pieces arrives; None for the rate of the swarm."""
        self.asked: list[int] = []
        """The numbers of the pieces that it was asked for, in order."""
        self.content_length: int | None = None
        self.piece_length: int | None = None
        self.pieces: dict[int, tuple[PieceMetadata, bytes]] = {}
        self.is_complete = False
        self.listeners: list[Callable[[], None]] = []

    def add(self, metadata: PieceMetadata, content: bytes) -> None:
        """Add a piece."""
        self.pieces[metadata.number] = metadata, content
        for listener in list(self.listeners):
            listener()

    def complete(self) -> None:
        """Record that the peer gets no further piece."""
        self.is_complete = True
        for listener in list(self.listeners):
            listener()


class MemoryChild(MemoryPeer):
    """A peer that downloads the task, and gives others what it has."""

    task: TaskDownload
    """The download: parents can be added to it and removed."""
    done: Deferred[DownloadedTask]
    """Fires with the result of the download."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.events: list[DownloadEvent] = []
        """The events of the download so far."""
        self.content = b""
        """What was downloaded, once it is complete."""


@implementer(IDownloadTarget)
class MemoryTarget:
    """
    A target in memory. What is committed is the child's to give.

    :param child: whose download it belongs to.
    """

    directory = Path(tempfile.gettempdir())
    is_read_in_order = False
    is_behind = False

    def __init__(self, child: MemoryChild) -> None:
        self.descriptor = -1
        self._child = child

    def open(self) -> Deferred[Found]:
        self.descriptor = memory_file()
        return succeed(Found())

    def reserve(self, content_length: int) -> Deferred[None]:
        return succeed(None)

    def claim(self, number: int) -> Deferred[Claim]:
        return succeed(Claim(is_ours=True))

    def release(self, number: int) -> None:
        """Do nothing: there is no other download."""

    def renew(self) -> None:
        """Do nothing: there is no other download."""

    def commit(self, metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        child = self._child
        child.piece_length = piece_length
        child.content_length = content_length if content_length is not None else child.content_length
        child.add(metadata, os.pread(self.descriptor, metadata.length, metadata.offset))
        return succeed(None)

    def keep_source_version(self, version: str) -> None:
        """Do nothing: there is no source."""

    def hold(self) -> Deferred[bool]:
        return succeed(True)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        for number in numbers:
            self._child.pieces.pop(number, None)
        return succeed(None)

    def publish(self, content_length: int) -> Deferred[None]:
        self._child.content = os.pread(self.descriptor, content_length, 0)
        self._child.content_length = content_length
        self._child.complete()
        return succeed(None)

    def close(self) -> Deferred[None]:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        return succeed(None)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def failure(self, reason: str) -> VortexError:
        return OutputError(f"memory: {reason}")
