"""Pieces in one temporary file, for tests of what sends them."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.interfaces import IHotPieceStore, IPieceStore
from dragonfly_vortex.model import FileRange, OpenPiece
from dragonfly_vortex.wire import PieceKind, PieceMetadata, TrafficType

__all__ = ["TASK_ID", "HotShelf", "Shelf"]

TASK_ID = "5e1f" * 16


@implementer(IPieceStore)
class Shelf:
    """
    A store of one task, whose pieces lie one behind the other in a file.

    :ivar failure: what every opening fails with from now on.
    :ivar waiting: where set to a list, openings are put there and do not fire by themselves.
    :ivar damaged: what has been marked as damaged: kind, task, number.
    :ivar opened: the descriptors that were handed out.

    :param path: the file, which is written.
    :param lengths: bytes of each piece.
    """

    def __init__(self, path: Path, lengths: Sequence[int], kind: PieceKind = PieceKind.STANDARD) -> None:
        self.path = path
        self.kind = kind
        self.failure: Exception | None = None
        self.waiting: list[Deferred[OpenPiece]] | None = None
        self.damaged: list[tuple[PieceKind, str, int]] = []
        self.opened: list[int] = []
        self._pieces: list[PieceMetadata] = []
        offset = 0
        with path.open("wb") as file:
            for number, length in enumerate(lengths):
                content = random.Random(number).randbytes(length)
                file.write(content)
                self._pieces.append(
                    PieceMetadata(
                        number=number,
                        offset=offset,
                        length=length,
                        digest=f"crc32:{zlib.crc32(content)}",
                        traffic_type=TrafficType.BACK_TO_SOURCE,
                    )
                )
                offset += length

    def metadata(self, number: int) -> PieceMetadata:
        """A piece's row."""
        return self._pieces[number]

    def replace(self, metadata: PieceMetadata) -> None:
        """Give a piece another row."""
        self._pieces[metadata.number] = metadata

    def content(self, number: int) -> bytes:
        """A piece's bytes."""
        piece = self._pieces[number]
        with self.path.open("rb") as file:
            file.seek(piece.offset)
            return file.read(piece.length)

    def open(self, number: int) -> OpenPiece:
        """A piece, with a new descriptor."""
        metadata = self._pieces[number]
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.opened.append(descriptor)
        return OpenPiece(metadata=metadata, range=FileRange(descriptor, metadata.offset, metadata.length))

    def open_piece(
        self, kind: PieceKind, task_id: str, number: int, start: int = 0, length: int | None = None
    ) -> Deferred[OpenPiece]:
        """See :meth:`IPieceStore.open_piece`."""
        if self.waiting is not None:
            opening: Deferred[OpenPiece] = Deferred()
            self.waiting.append(opening)
            return opening
        if self.failure is not None:
            return fail(self.failure)
        if kind is not self.kind or task_id != TASK_ID or number >= len(self._pieces):
            return fail(NotStored(f"{task_id}-{number} is not here"))
        return succeed(self.open(number))

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        """See :meth:`IPieceStore.mark_damaged`."""
        self.damaged.append((kind, task_id, number))
        return succeed(None)


@implementer(IHotPieceStore)
class HotShelf(Shelf):
    """
    A shelf that keeps its file open, and has all pieces at hand. The test calls :meth:`close`.

    :ivar handed_out: how many pieces were handed out at once.
    """

    def __init__(self, path: Path, lengths: Sequence[int], kind: PieceKind = PieceKind.STANDARD) -> None:
        super().__init__(path, lengths, kind)
        self.handed_out = 0
        kept_open = path.with_suffix(".hot")  # a name of its own, by which a test can tell its descriptor from others
        kept_open.hardlink_to(path)
        self._descriptor = os.open(kept_open, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the file, if it is open; from then on what is handed out has no open descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def hot_piece(self, kind: PieceKind, task_id: str, number: int) -> OpenPiece | None:
        """See :meth:`IHotPieceStore.hot_piece`."""
        if kind is not self.kind or task_id != TASK_ID or number >= len(self._pieces):
            return None
        self.handed_out += 1
        metadata = self._pieces[number]
        return OpenPiece(metadata=metadata, range=FileRange(self._descriptor, metadata.offset, metadata.length))
