"""
The storage as the target of a download: each piece is served once it is committed, stored pieces are not fetched again,
and committed pieces stay for the next download however this one ends.

Waiting for the disk is done in a thread of its own, so that the storage answers questions meanwhile. Pieces that have
been verified while it waits are committed together afterwards: one wait and one transaction for all of them.

A running peer does not wait: it offers a piece at once, and then brings it to the disk
(:mod:`~dragonfly_vortex.storage.reactor.syncing`). Its row says so until that is done, and counts until the kernel
ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.deferreds import FlatLock
from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import PieceTakenOver, StorageFailure, VortexError
from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.geometry import BLOCK_LENGTH, piece_length_for
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import Claim, Found, piece_id
from dragonfly_vortex.storage.disk import MOST_UNWRITTEN, free_run
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.reactor.syncing import Syncing
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["StoredTarget"]

_T = TypeVar("_T")


class Arrived(Protocol):
    """The pieces of a download that are in the storage, as a target reports them."""

    def add(self, metadata: PieceMetadata, piece_length: int | None = None, content_length: int | None = None) -> None:
        """
        Record a piece that is in the storage.

        :param piece_length: of its task; None for as before.
        :param content_length: of its task; None while it is not known.
        """

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove pieces that are not in the storage any more."""

    def clear(self) -> None:
        """Remove all pieces."""


@implementer(IDownloadTarget)
class StoredTarget:
    """
    A task's place in a storage.

    :param file: the task, not opened yet.
    :param in_storage: calls a function in the storage's thread, one after the other.
    :param at_disk: calls a function in a thread that may wait for the disk.
    :param subscribe: see :meth:`~dragonfly_vortex.interfaces.ITaskStore.subscribe`.
    :param linger: what pieces are offered with before they are on the disk: it waits for what is to be done after
        :meth:`close`. None for pieces that are on the disk before they are offered.
    :param clock: for pauses before that.
    """

    _log = Logger()

    is_read_in_order = False

    def __init__(
        self,
        file: TaskFile,
        in_storage: InThread,
        at_disk: InThread,
        subscribe: Callable[[Callable[[], None]], Callable[[], None]],
        linger: Callable[[Deferred[None]], None] | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.arrived: Arrived | None = None
        """Where each piece is reported, from :meth:`open` on; None for nowhere."""
        self._linger = linger
        self._clock = clock
        self._syncing: Syncing | None = None
        self._most: int | None = None  # bytes that may wait for the disk, where the download does not
        self.directory: Path = file.directory
        self.task_id = file.task_id
        """The task, which lines of the log about this download name."""
        self._file = file
        self._in_storage = in_storage
        self._at_disk = at_disk
        self._subscribe = subscribe
        self._descriptor: int | None = None
        self._order = FlatLock()  # what changes rows is done in the order in which it was asked for
        self._waiting: list[tuple[PieceMetadata, Deferred[None]]] = []
        self._unwritten = 0  # bytes of the pieces that are to be committed
        self._piece_length = 0
        self._content_length: int | None = None
        self._piece_length_there: int | None = None  # of a task of one piece
        file.claims.report = lambda line: self._log.warn("{line}", line=line)

    @property
    def descriptor(self) -> int:
        if self._descriptor is None:
            raise self.failure("expected it to be open for writing, it is closed")
        return self._descriptor

    @property
    def is_behind(self) -> bool:
        waiting = 0 if self._syncing is None else self._syncing.waiting
        return self._unwritten + waiting > (self._most or MOST_UNWRITTEN)

    def open(self) -> Deferred[Found]:
        return self._in_storage(self._open).addCallback(self._opened)

    def _open(self) -> Found:
        """In the storage's thread."""
        found = self._file.open()
        self._most = None if self._linger is None else max(MOST_UNWRITTEN, free_run())
        return found

    def _opened(self, found: Found) -> Found:
        """The file is open."""
        if self._linger is not None and self._clock is not None:
            self._syncing = Syncing(self._file, self._at_disk, self._in_order, self._clock)
        self._descriptor = self._file.descriptor
        task = found.task
        if task is not None and task.content_length is not None and task.content_length < task.piece_length:
            self._piece_length_there = task.piece_length
        if self.arrived is not None:
            self.arrived.clear()  # a download that begins again may find others than before
            if task is not None:
                for metadata in found.pieces:
                    self.arrived.add(metadata, task.piece_length, task.content_length)
        return found

    def reserve(self, content_length: int) -> Deferred[None]:
        return self._at_disk(lambda: self._file.reserve(content_length))

    def claim(self, number: int) -> Deferred[Claim]:
        claiming = self._in_storage(lambda: self._file.claim(number))
        return claiming if self.arrived is None else claiming.addCallback(self._claimed, self.arrived)

    def _claimed(self, claim: Claim, arrived: Arrived) -> Claim:
        """A piece is claimed, or another download has put it there."""
        if claim.piece is not None:
            arrived.add(claim.piece)
        return claim

    def release(self, number: int) -> None:
        # In the thread, too, so that it comes behind the claim.
        released = self._in_storage(lambda: self._file.release(number))
        released.addErrback(lambda failure: self._log.failure("A claim cannot be released", failure))

    def renew(self) -> None:
        # Not in the storage's thread, which may wait for a slow disk: others would think that this process is frozen.
        try:
            self._file.renew()
        except StorageFailure:
            self._log.failure("Claims cannot be renewed")

    def commit(self, metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        # Of a task of one piece the piece length cannot be seen: only an earlier download may know it.
        there, said_length = self._piece_length_there, piece_length
        if there is not None and metadata.number == 0 and metadata.length <= there:
            piece_length = there
        self._piece_length = piece_length or piece_length_for(0)
        self._content_length = content_length
        committed: Deferred[None] = Deferred()
        if self.arrived is not None:
            committed.addCallback(self._has_arrived, self.arrived, metadata, said_length, content_length)
        self._waiting.append((metadata, committed))
        self._unwritten += metadata.length
        if len(self._waiting) == 1:
            self._order.run(self._commit_waiting).addErrback(
                lambda failure: self._log.failure("Pieces cannot be committed", failure)
            )
        return committed

    def _has_arrived(
        self,
        result: None,
        arrived: Arrived,
        metadata: PieceMetadata,
        piece_length: int,
        content_length: int | None,
    ) -> None:
        """A piece is committed."""
        arrived.add(metadata, piece_length, content_length)

    def keep_source_version(self, version: str) -> None:
        self._file.source_version = version

    def hold(self) -> Deferred[bool]:
        return self._in_order(self._file.hold)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        self._piece_length_there = None
        if self.arrived is not None:
            self.arrived.forget(numbers)
        if self._syncing is not None:
            self._syncing.forget(numbers)
        return self._in_order(lambda: self._file.drop(numbers))

    def publish(self, content_length: int) -> Deferred[None]:
        is_synced = self._syncing is None
        return self._in_order(lambda: self._file.publish(content_length, is_synced=is_synced))

    def close(self) -> Deferred[None]:
        if self._descriptor is None:
            return succeed(None)
        self._descriptor = None
        closed = self._in_order(self._file.close)
        if self._syncing is not None and self._linger is not None:
            self._linger(self._finish_behind(closed, self._syncing))
        return closed

    def _finish_behind(self, closed: Deferred[None], syncing: Syncing) -> Deferred[None]:
        """Bring all to the disk when the last commit, which a cancellation may have left, has added its pieces."""
        finished: Deferred[None] = Deferred()

        def finish(result: Failure | None) -> Failure | None:
            syncing.finish().chainDeferred(finished)
            return result

        closed.addBoth(finish)
        return finished

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._subscribe(changed)

    def failure(self, reason: str) -> VortexError:
        return StorageFailure(f"task {self._file.task_id}: {reason}")

    def _in_order(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Do something in the storage's thread, behind all changes that were asked for before."""
        done: Deferred[_T] = self._order.run(self._in_storage, work)
        return done

    def _commit_waiting(self) -> Deferred[None]:
        """Commit all pieces that wait by now."""
        batch, self._waiting = self._waiting, []
        lengths = self._piece_length, self._content_length
        descriptor = self._file.descriptor
        pieces, syncing = [metadata for metadata, _ in batch], self._syncing
        ready: Deferred[Sequence[PieceMetadata]]
        if syncing is None or not all(piece.digest for piece in pieces):
            ready = self._at_disk(lambda: self._sync(descriptor, pieces, is_waiting=syncing is None))
        else:
            ready = succeed(pieces)

        def commit(pieces: Sequence[PieceMetadata]) -> Deferred[set[int]]:
            commit = partial(self._file.commit, pieces, *lengths, is_synced=syncing is None)
            committed = self._in_storage(commit)
            return committed if syncing is None else committed.addCallback(offered, pieces, syncing)

        def offered(lost: set[int], pieces: Sequence[PieceMetadata], syncing: Syncing) -> set[int]:
            syncing.add(piece for piece in pieces if piece.number not in lost)
            return lost

        return ready.addCallback(commit).addBoth(self._committed, batch)

    def _sync(self, descriptor: int, pieces: Sequence[PieceMetadata], *, is_waiting: bool) -> list[PieceMetadata]:
        """In a thread: wait for the disk, if that is to be done. A piece whose parent has named no digest gets one."""
        if is_waiting:
            os.fdatasync(descriptor)
        return [piece if piece.digest else replace(piece, digest=self._digest(descriptor, piece)) for piece in pieces]

    def _digest(self, descriptor: int, piece: PieceMetadata) -> str:
        """In a thread: the digest of the bytes in a piece's place."""
        hasher = new_hash("crc32")
        buffer = memoryview(bytearray(min(BLOCK_LENGTH, piece.length)))
        with storage_failures(f"cannot read piece {piece_id(self._file.task_id, piece.number)}"):
            for start in range(0, piece.length, BLOCK_LENGTH):
                block = buffer[: piece.length - start]
                read_exactly(descriptor, block, piece.offset + start)
                hasher.update(block)
        return hasher.text()

    def _committed(self, result: Failure | set[int], batch: Sequence[tuple[PieceMetadata, Deferred[None]]]) -> None:
        """Fire the Deferreds of a batch that was committed, or that could not be."""
        self._unwritten -= sum(metadata.length for metadata, _ in batch)
        for metadata, committed in batch:
            if isinstance(result, Failure):
                committed.errback(result)
            elif metadata.number in result:
                name = piece_id(self._file.task_id, metadata.number)
                committed.errback(PieceTakenOver(f"piece {name}: another download has taken it over"))
            else:
                committed.callback(None)
