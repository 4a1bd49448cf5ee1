"""A store of pieces in memory, for tests of what serves pieces."""

from __future__ import annotations

import hashlib
import os
import tempfile

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.interfaces import IPieceStore
from dragonfly_vortex.model import FileRange, OpenPiece, piece_id
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["MemoryStore", "memory_file", "pieces_of"]

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
