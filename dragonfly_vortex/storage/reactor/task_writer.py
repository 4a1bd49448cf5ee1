"""
A download's way into the storage, without blocking the reactor: :class:`~dragonfly_vortex.interfaces.ITaskWriter`.

Waiting for the disk is done in a thread of its own, so that the storage answers questions meanwhile. Pieces that have
been verified while it waits are written down together afterwards: one wait and one transaction for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.errors import PieceTakenOver, StorageFailure
from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.geometry import BLOCK_LENGTH
from dragonfly_vortex.interfaces import InThread, ITaskWriter
from dragonfly_vortex.model import Claim, StoredTask, piece_id
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["TaskWriter"]


@implementer(ITaskWriter)
class TaskWriter:
    """
    A task that is open for one download.

    :param file: the task, open.
    :param in_storage: calls a function in the storage's thread, one after the other.
    :param at_disk: calls a function in a thread that may wait for the disk.
    """

    _log = Logger()

    def __init__(self, file: TaskFile, in_storage: InThread, at_disk: InThread) -> None:
        self.descriptor: int = file.descriptor
        self.task: StoredTask | None = file.task
        self.pieces: list[PieceMetadata] = file.pieces
        self.unwritten = 0
        self._file = file
        file.report = lambda line: self._log.warn("{line}", line=line)
        self._in_storage = in_storage
        self._at_disk = at_disk
        self._order = DeferredLock()  # what changes rows is done in the order in which it was asked for
        self._waiting: list[tuple[PieceMetadata, Deferred[None]]] = []
        self._piece_length = 0

    def claim(self, number: int) -> Deferred[Claim]:
        return self._in_storage(lambda: self._file.claim(number))

    def release(self, number: int) -> None:
        # In the thread, too, so that it comes behind the claim.
        released = self._in_storage(lambda: self._file.release(number))
        released.addErrback(lambda failure: self._log.failure("A claim cannot be given up", failure))

    def renew(self) -> None:
        # Not in the storage's thread, which may wait for a slow disk: others would think that this process is frozen.
        try:
            self._file.renew()
        except StorageFailure:
            self._log.failure("Claims cannot be renewed")

    def add_piece(self, metadata: PieceMetadata, piece_length: int) -> Deferred[None]:
        added: Deferred[None] = Deferred()
        self._waiting.append((metadata, added))
        self._piece_length = piece_length
        self.unwritten += metadata.length
        if len(self._waiting) == 1:
            self._order.run(self._write_waiting).addErrback(
                lambda failure: self._log.failure("Rows cannot be written", failure)
            )
        return added

    def set_content_length(self, content_length: int | None) -> Deferred[None]:
        return self._in_order(lambda: self._file.set_content_length(content_length))

    def drop_pieces(self, numbers: Sequence[int]) -> Deferred[None]:
        return self._in_order(lambda: self._file.drop_pieces(numbers))

    def finish(self, content_length: int) -> Deferred[None]:
        return self._in_order(lambda: self._file.finish(content_length))

    def close(self) -> Deferred[None]:
        return self._in_order(self._file.close)

    def _in_order(self, work: Callable[[], None]) -> Deferred[None]:
        """Do something in the storage's thread, behind all changes that were asked for before."""
        done: Deferred[None] = self._order.run(self._in_storage, work)
        return done

    def _write_waiting(self) -> Deferred[None]:
        """Write down all pieces that wait by now."""
        batch, self._waiting = self._waiting, []
        synced = self._at_disk(lambda: self._sync([metadata for metadata, _ in batch]))
        written = synced.addCallback(
            lambda pieces: self._in_storage(lambda: self._file.add_pieces(pieces, self._piece_length))
        )
        return written.addBoth(self._written, batch)

    def _sync(self, pieces: Sequence[PieceMetadata]) -> list[PieceMetadata]:
        """In a thread: wait for the disk. A piece whose parent has named no digest gets one."""
        os.fdatasync(self.descriptor)
        return [piece if piece.digest else replace(piece, digest=self._digest(piece)) for piece in pieces]

    def _digest(self, piece: PieceMetadata) -> str:
        """In a thread: the digest of the bytes in a piece's place."""
        hasher = new_hash("crc32")
        buffer = memoryview(bytearray(min(BLOCK_LENGTH, piece.length)))
        with storage_failures(f"cannot read piece {piece_id(self._file.task_id, piece.number)}"):
            for start in range(0, piece.length, BLOCK_LENGTH):
                block = buffer[: piece.length - start]
                read_exactly(self.descriptor, block, piece.offset + start)
                hasher.update(block)
        return hasher.text()

    def _written(self, result: Failure | set[int], batch: Sequence[tuple[PieceMetadata, Deferred[None]]]) -> None:
        """A batch is in the catalog, or could not be put there."""
        self.unwritten -= sum(metadata.length for metadata, _ in batch)
        for metadata, added in batch:
            if isinstance(result, Failure):
                added.errback(result)
            elif metadata.number in result:
                name = piece_id(self._file.task_id, metadata.number)
                added.errback(PieceTakenOver(f"piece {name}: another download has taken it over"))
            else:
                added.callback(None)
