"""
The storage as the rest of a peer sees it: :class:`~dragonfly_vortex.interfaces.ITaskStore` over content and catalog.

All work is done in one thread, one question after the other: so the catalog's connection has one owner, and what was
asked first is done first. Waiting for the disk while a task is downloaded has a thread of its own.

The exception is a piece that is asked for while it is remembered (:mod:`~dragonfly_vortex.storage.hot`): it is handed
out at once. What is remembered is no older than the question: what another process has imported is there for the next
one, and what it has removed or found to be damaged is not. While a change that was asked for here has not been made,
nothing is handed out from memory, so that the order is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageError, StorageFailure
from dragonfly_vortex.interfaces import (
    FileRange,
    ITaskStore,
    ITaskWriter,
    OpenPiece,
    StoredPiece,
    StoredTask,
    piece_id,
)
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.digest import new_hash, parse_digest, verify
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.hot import HotPieces
from dragonfly_vortex.storage.pieces import check_lengths, piece_span
from dragonfly_vortex.storage.rows import page_of
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.storage.watch import CatalogWatch
from dragonfly_vortex.storage.writer import TaskWriter
from dragonfly_vortex.storage.writing import TaskFile
from dragonfly_vortex.threads import DaemonThreadPool
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["PieceStore"]

_T = TypeVar("_T")

_SHUTDOWN_TIMEOUT = 5.0
"""Seconds that the end of the reactor waits for a storage that nobody has stopped."""


class _Opened(NamedTuple):
    """
    What was read for a question.

    :param rows: of the whole page, by number.
    :param piece: what was asked for.
    """

    rows: Mapping[int, StoredPiece]
    piece: OpenPiece


@implementer(ITaskStore)
class PieceStore:
    """
    A storage's tasks and pieces, without blocking the reactor.

    :param directory: the storage's directory; made at :meth:`start` where it is not there.
    :param reactor: where the Deferreds fire.
    """

    _log = Logger()

    def __init__(self, directory: Path, reactor: IReactorFromThreads) -> None:
        self.directory = directory
        self._reactor = reactor
        self._content = Content(directory)
        self._catalog = Catalog(directory)
        self._version = CatalogVersion(self._catalog.path)
        self._hot = HotPieces(self._version, IReactorTime(reactor), self._close_files)
        self._changes = 0  # that were asked for and have not been made
        self._watch = CatalogWatch(self._catalog.path, IReactorTime(reactor))
        self._thread: DaemonThreadPool | None = None
        self._disk_thread: DaemonThreadPool | None = None
        self._shutdown_trigger: object = None

    def start(self) -> Deferred[None]:
        """
        Open the storage. What is asked before the Deferred fires waits for it.

        :returns: fires when it is open; fails with :class:`~dragonfly_vortex.errors.StorageFailure`, and is stopped
            then.
        """
        if self._thread is None:
            self._thread = DaemonThreadPool(minthreads=1, maxthreads=1, name="storage")
            self._thread.start()
            core = IReactorCore(self._reactor)
            # "during": behind those who stop it in order, who use it until then.
            self._shutdown_trigger = core.addSystemEventTrigger("during", "shutdown", self._stop_at_shutdown)
            return Deferred.fromCoroutine(self._opened(self._ask(self._open)))
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """
        Finish what has been asked, close the storage and end its thread. What is asked from now on fails.

        :returns: fires when all that is done.
        """
        thread, disk_thread = self._thread, self._disk_thread
        if thread is None:
            return succeed(None)
        self._hot.stop()
        closed = self._ask(self._close)
        synced = succeed(None) if disk_thread is None else self._at_disk(_do_nothing)
        self._thread = self._disk_thread = None
        IReactorCore(self._reactor).removeSystemEventTrigger(self._shutdown_trigger)
        return Deferred.fromCoroutine(_end(synced, disk_thread, closed, thread))

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[StoredTask]:
        """See :meth:`IPieceStore.get_task`."""
        return self._ask(lambda: self._catalog.get_task(kind, task_id))

    def get_pieces(self, kind: PieceKind, task_id: str) -> Deferred[list[StoredPiece]]:
        """See :meth:`IPieceStore.get_pieces`."""
        return self._ask(lambda: self._catalog.get_pieces(kind, task_id))

    def open_piece(
        self, kind: PieceKind, task_id: str, number: int, start: int = 0, length: int | None = None
    ) -> Deferred[OpenPiece]:
        """
        See :meth:`IPieceStore.open_piece`. Whether the file is long enough shows when it is sent.

        :returns: fails also with :class:`~dragonfly_vortex.errors.StorageError` for a range outside the piece.
        """
        # Not while it is being closed: SQLite crashes where one thread closes what another one asks.
        seen = self._hot.refresh() if self._thread is not None else None
        try:
            piece = self._open_hot(kind, task_id, number, start, length)
        except StorageError as error:
            return fail(error)
        if piece is not None:
            return succeed(piece)
        opened: Deferred[OpenPiece] = Deferred()

        def deliver(result: _Opened) -> None:
            self._hot.remember(seen, kind, task_id, number, result.rows, result.piece.range.descriptor)
            if opened.called:  # cancelled: nobody else will close it
                os.close(result.piece.range.descriptor)
            else:
                opened.callback(result.piece)

        self._ask(lambda: self._open_piece(kind, task_id, number, start, length)).addCallbacks(deliver, opened.errback)
        return opened

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        """See :meth:`IPieceStore.mark_damaged`. Fails with :class:`~dragonfly_vortex.errors.NotStored` for no piece."""
        return self._change(lambda: self._catalog.mark_damaged(kind, task_id, number, reason))

    def add_task(self, task: StoredTask) -> Deferred[None]:
        """
        See :meth:`IPieceStore.add_task`.

        :returns: fails with :class:`~dragonfly_vortex.errors.StorageError` for a task that cannot be stored, or that is
            there with other lengths.
        """
        return self._change(lambda: self._add_task(task))

    def add_piece(self, kind: PieceKind, task_id: str, metadata: PieceMetadata, content: bytes) -> Deferred[None]:
        """
        See :meth:`IPieceStore.add_piece`. A sound piece that is there is never written again: it may be being sent.

        :param metadata: without a digest it gets a CRC-32.
        :returns: fails with :class:`~dragonfly_vortex.errors.NotStored` for no task, and with
            :class:`~dragonfly_vortex.errors.StorageError` where metadata, content and task do not fit together, or the
            piece is there and is damaged or another one.
        """
        return self._change(lambda: self._add_piece(kind, task_id, metadata, content))

    def write_task(self, kind: PieceKind, task_id: str) -> Deferred[ITaskWriter]:
        """See :meth:`ITaskStore.write_task`."""
        file = TaskFile(self.directory, self._catalog, kind, task_id)

        def close(_: Deferred[ITaskWriter]) -> None:
            # Behind the opening, whatever comes of that; nobody else will close it.
            self._change(file.close).addErrback(lambda failure: self._log.failure("A task is left open", failure))

        def deliver(result: Failure | None) -> None:
            if opened.called:
                return
            if isinstance(result, Failure):
                opened.errback(result)
            else:
                opened.callback(TaskWriter(file, self._change, self._at_disk))

        opened: Deferred[ITaskWriter] = Deferred(close)
        self._change(file.open).addBoth(deliver)
        return opened

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`IPieceStore.subscribe`."""
        return self._watch.subscribe(changed)

    # -- in the reactor's thread -------------------------------------------------------------------------------------

    async def _opened(self, opening: Deferred[None]) -> None:
        """A storage that cannot be opened has no thread."""
        try:
            await opening
        except Exception:
            await self.stop()
            raise

    def _stop_at_shutdown(self) -> None:
        """
        The reactor ends, and nobody has stopped the storage: close it, so that no recovery is needed at the next start.
        What has been committed is safe in any case. This blocks, as the reactor does for its own threads.
        """
        thread, self._thread = self._thread, None
        disk_thread, self._disk_thread = self._disk_thread, None
        self._hot.stop()
        if disk_thread is not None:
            disk_thread.finish(_do_nothing, _SHUTDOWN_TIMEOUT)
        if thread is not None and not thread.finish(self._close, _SHUTDOWN_TIMEOUT):
            self._log.warn("the storage {directory} is still busy and is not closed", directory=self.directory)

    def _ask(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done in the storage's thread, that changes nothing."""
        if self._thread is None:
            return fail(StorageFailure(f"expected the storage {self.directory} to be open, it is closed"))
        deferred: Deferred[_T] = deferToThreadPool(self._reactor, self._thread, work)
        return deferred

    def _change(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done in the storage's thread, that may change rows."""

        def changed(result: _T) -> _T:
            self._changes -= 1
            return result

        self._changes += 1
        return self._ask(work).addBoth(changed)

    def _at_disk(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done that waits for the disk, while the storage answers questions."""
        if self._thread is None:
            return fail(StorageFailure(f"expected the storage {self.directory} to be open, it is closed"))
        if self._disk_thread is None:
            self._disk_thread = DaemonThreadPool(minthreads=0, maxthreads=1, name="storage-disk")
            self._disk_thread.start()
        deferred: Deferred[_T] = deferToThreadPool(self._reactor, self._disk_thread, work)
        return deferred

    def _open_hot(self, kind: PieceKind, task_id: str, number: int, start: int, length: int | None) -> OpenPiece | None:
        """
        A piece from memory.

        :returns: None where it is to be read.
        :raises NotStored: it is not there.
        :raises StorageError: the range is not in the piece.
        """
        if self._thread is None or self._changes:
            return None
        rows = self._hot.find(kind, task_id, number)
        if rows is None:
            return None
        metadata, offset, length = _find(rows, task_id, number, start, length)
        descriptor = self._hot.open(kind, task_id)
        if descriptor is None:
            return None
        return OpenPiece(metadata=metadata, range=FileRange(descriptor, offset, length))

    def _close_files(self, descriptors: Sequence[int]) -> None:
        """Close files that may have been deleted: to give back their space can take its time."""
        if self._thread is not None:
            self._thread.callInThread(_close_all, descriptors)
        else:
            _close_all(descriptors)

    # -- in the storage's thread -------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the database, twice: its version is asked for in another thread."""
        self._catalog.open()
        self._version.open()
        self._content.sweep()

    def _close(self) -> None:
        """Close the database."""
        self._version.close()
        self._catalog.close()

    def _open_piece(self, kind: PieceKind, task_id: str, number: int, start: int, length: int | None) -> _Opened:
        """The row, with its neighbours, then the file."""
        name = piece_id(task_id, number)
        rows = {row.metadata.number: row for row in self._catalog.find_pieces(kind, task_id, page_of(number))}
        metadata, offset, length = _find(rows, task_id, number, start, length)
        with storage_failures(f"cannot open piece {name}"):
            try:
                descriptor = self._content.open(kind, task_id)
            except FileNotFoundError as error:
                self._catalog.mark_damaged(kind, task_id, number, "expected a file, got none")
                raise PieceDamaged(f"piece {name}: expected a file, got none") from error
        return _Opened(rows, OpenPiece(metadata=metadata, range=FileRange(descriptor, offset, length)))

    def _add_task(self, task: StoredTask) -> None:
        """The file, then the row."""
        check_lengths(task.content_length, task.piece_length)
        with storage_failures(f"cannot add task {task.task_id}"), self._content.lock():
            try:
                self._catalog.get_task(task.kind, task.task_id)
            except NotStored:
                self._content.create(task.kind, task.task_id)
            self._catalog.add_task(task)

    def _add_piece(self, kind: PieceKind, task_id: str, metadata: PieceMetadata, content: bytes) -> None:
        """The bytes, then the row."""
        name = piece_id(task_id, metadata.number)
        task = self._catalog.get_task(kind, task_id)
        offset, length = _span(metadata.number, task, len(content))
        if (metadata.offset, metadata.length) != (offset, length) or len(content) != metadata.length:
            raise StorageError(
                f"piece {name}: expected {length} bytes at {offset}, got {len(content)} bytes,"
                f" said to be {metadata.length} at {metadata.offset}"
            )
        metadata = replace(metadata, digest=_digest(name, metadata.digest, content))
        try:
            there = self._catalog.get_piece(kind, task_id, metadata.number)
        except NotStored:
            pass
        else:
            if there.damage or there.metadata.digest != metadata.digest:
                raise StorageError(
                    f"piece {name}: expected it not to be there, or to be the same,"
                    f" got {there.damage or there.metadata.digest}"
                )
            return
        with storage_failures(f"cannot write piece {name}"):
            self._content.write(kind, task_id, metadata.offset, content)
        self._catalog.add_piece(kind, task_id, metadata)


def _find(
    rows: Mapping[int, StoredPiece], task_id: str, number: int, start: int, length: int | None
) -> tuple[PieceMetadata, int, int]:
    """
    A piece among rows: its row, and which bytes of the file are asked for, from where and how many.

    :raises NotStored: it is not there, or is damaged.
    :raises StorageError: the range is not in the piece.
    """
    name = piece_id(task_id, number)
    row = rows.get(number)
    if row is None or row.damage:
        raise NotStored(f"piece {name} not found")
    metadata = row.metadata
    if length is None:
        length = metadata.length - start
    if not 0 <= start <= start + length <= metadata.length:
        raise StorageError(f"piece {name}: expected a range in {metadata.length} bytes, got {length} from {start}")
    return metadata, metadata.offset + start, length


def _close_all(descriptors: Sequence[int]) -> None:
    """Close files."""
    for descriptor in descriptors:
        os.close(descriptor)


def _do_nothing() -> None:
    """What is done when all before it has been done."""


async def _end(
    synced: Deferred[None], disk_thread: DaemonThreadPool | None, closed: Deferred[None], thread: DaemonThreadPool
) -> None:
    """End the threads, each when it has nothing left to do, so that this does not wait."""
    try:
        await synced
        if disk_thread is not None:
            disk_thread.stop()
        await closed
    finally:
        thread.stop()


def _span(number: int, task: StoredTask, length: int) -> tuple[int, int]:
    """Where a piece lies. While a task's length is not known any piece may be a shorter one, the last."""
    if task.content_length is None:
        return number * task.piece_length, min(length, task.piece_length)
    return piece_span(number, task.content_length, task.piece_length)


def _digest(name: str, expected: str, content: bytes) -> str:
    """The digest that a piece's row will have: the one that it came with, if it is right."""
    try:
        hasher = new_hash(parse_digest(expected)[0] if expected else "crc32")
    except ValueError as error:
        raise StorageError(f"piece {name}: {error}") from error
    hasher.update(content)
    if expected and not verify(hasher, expected):
        raise StorageError(f"piece {name}: expected the digest {expected}, got {hasher.text()}")
    return hasher.text()
