"""
The storage for the rest of a peer: :class:`~dragonfly_vortex.interfaces.ITaskStore` over content and catalog.

All work is done in one thread, one question after the other: so the catalog's connection has one owner, and what was
asked first is done first. Waiting for the disk while a task is downloaded has a thread of its own.

The exception is a piece that is asked for while it is remembered
(:mod:`~dragonfly_vortex.storage.reactor.piece_cache`): it is handed out at once. What is remembered is no older than
the question: what another process has imported is there for the next one, and what it has removed or found to be
damaged is not. While a change that was asked for here has not been made, nothing is handed out from memory, so that the
order is kept.

The storage may be replaced while it is served: deleted and made anew, restored, mounted over. Before each question to
the catalog a look at its path shows whether that still leads to it, so what has been imported into the new storage is
there at once. What is remembered of the old one may be handed out for :data:`CHECK_INTERVAL` more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.errors import StorageError, StorageFailure
from dragonfly_vortex.interfaces import IHotPieceStore, ITaskStore
from dragonfly_vortex.model import FileRange, OpenPiece, Origin, StoredPiece, StoredTask
from dragonfly_vortex.storage.ballast import keep_ballast
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.disk import boot_id, reserve
from dragonfly_vortex.storage.failures import is_out_of_descriptors
from dragonfly_vortex.storage.killed_holders import forget_killed_holder, killed_holders
from dragonfly_vortex.storage.reactor.piece_cache import HotPieces, OpenedPiece, Seen, find_piece, open_piece
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from dragonfly_vortex.storage.reactor.uses import TaskUses
from dragonfly_vortex.storage.reactor.watch import CatalogWatch
from dragonfly_vortex.storage.reading import Place
from dragonfly_vortex.storage.room import Room
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.storage.unsynced import has_unsynced, settle_unsynced
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.threads import STOP_TIMEOUT, DaemonThreadPool, run_in_pool
from dragonfly_vortex.wire import PieceKind

__all__ = ["CHECK_INTERVAL", "PieceStore"]

_T = TypeVar("_T")

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the storage's place, where nothing is asked of the catalog."""


@implementer(ITaskStore, IHotPieceStore)
class PieceStore:
    """
    A storage's tasks and pieces, without blocking the reactor.

    :param directory: the storage's directory; made at :meth:`start` where it is not there. One that can only be read is
        served, and nothing can be changed in it.
    :param reactor: where the Deferreds fire.
    """

    _log = Logger()

    def __init__(self, directory: Path, reactor: IReactorFromThreads) -> None:
        self.directory = directory
        self.room: Room | None = None
        """The room that downloads may use; None for what the disk has."""
        self._reactor = reactor
        self._content = Content(directory)
        self._catalog = Catalog(directory, Access.SERVE)
        self._hot = HotPieces(CatalogVersion(self._catalog.path), IReactorTime(reactor), self._close_files)
        self._uses = TaskUses(IReactorTime(reactor), self._record_uses)
        self._generation = 0  # of the catalog, whose version the reactor has; the storage's thread's, as the next two
        self._place: Place | None = None
        self._read_only = ""
        self._checking = LoopingCall(self._check)
        self._checking.clock = IReactorTime(reactor)
        self._trouble = ""  # that was logged, and is there still
        self._changes = 0  # that were asked for and have not been made
        self._watch = CatalogWatch(self._catalog.path, IReactorTime(reactor))
        self._thread: DaemonThreadPool | None = None
        self._disk_thread: DaemonThreadPool | None = None
        self._shutdown_trigger: object = None
        self._may_be_unsynced = False  # what an earlier process has offered; the storage's thread's
        self._lingering = 0  # tasks that are closed, and not on the disk yet
        self._synced = Ending(lambda: not self._lingering)

    def start(self) -> Deferred[None]:
        """
        Open the storage. What is asked before the Deferred fires waits for it.

        :returns: fires when it is open; fails with :class:`~dragonfly_vortex.errors.StorageFailure`, and is stopped
            then.
        """
        if self._thread is None:
            self._thread = DaemonThreadPool(minthreads=0, maxthreads=1, name="storage")
            self._thread.start()
            core = IReactorCore(self._reactor)
            # "during": after the services that stop it in order and use it until then.
            self._shutdown_trigger = core.addSystemEventTrigger("during", "shutdown", self._stop_at_shutdown)
            return Deferred.fromCoroutine(self._opened(self._ask(self._open)))
        return succeed(None)

    def stop(self, timeout: float = STOP_TIMEOUT) -> Deferred[None]:
        """
        Finish what has been asked, close the storage and end its threads. What is asked from now on fails.

        :param timeout: seconds after which a thread that the disk does not answer is left behind. What it commits after
            that is as safe as in a ``kill -9``.
        :returns: fires when all that is done, or the time is over.
        """
        if not self._lingering:
            return self._stop(timeout)
        clock = IReactorTime(self._reactor)
        until = clock.seconds() + timeout

        def stop(_: object) -> Deferred[None]:
            return self._stop(max(0.0, until - clock.seconds()))

        return self._synced.wait().addTimeout(timeout, clock).addBoth(stop)

    def _stop(self, timeout: float) -> Deferred[None]:
        """Stop, whether what is offered is on the disk or not."""
        thread, disk_thread = self._thread, self._disk_thread
        if thread is None:
            return succeed(None)
        version, used = self._end_looks(), self._uses.take()
        closed: Deferred[None] = run_in_pool(self._reactor, thread, self._close, version, used)
        synced = succeed(None) if disk_thread is None else self._at_disk(_do_nothing)
        self._thread = self._disk_thread = None
        IReactorCore(self._reactor).removeSystemEventTrigger(self._shutdown_trigger)
        finished: Deferred[None] = Deferred.fromCoroutine(_all_of(synced, closed))
        pools = [pool for pool in (disk_thread, thread) if pool is not None]
        return Deferred.fromCoroutine(self._end(finished.addTimeout(timeout, IReactorTime(self._reactor)), pools))

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[StoredTask]:
        """See :meth:`ITaskStore.get_task`."""
        return self._ask(lambda: self._offered(kind, task_id).get_task(kind, task_id))

    def get_pieces(self, kind: PieceKind, task_id: str) -> Deferred[list[StoredPiece]]:
        """See :meth:`ITaskStore.get_pieces`."""
        return self._ask(lambda: self._offered(kind, task_id).get_pieces(kind, task_id))

    def list_tasks(self, kind: PieceKind) -> Deferred[list[StoredTask]]:
        """All tasks that are offered in a kind, the oldest first. Fails as :meth:`get_task` does."""

        def read() -> list[StoredTask]:
            offered: dict[str, PieceKind] = {}  # of an ID that is there in two kinds the older task
            tasks = self._catalog.list_tasks()
            return [task for task in tasks if offered.setdefault(task.task_id, task.kind) is task.kind is kind]

        return self._ask(read)

    def newest_tasks(self, most: int) -> Deferred[tuple[list[StoredTask], int, int]]:
        """See :meth:`~dragonfly_vortex.storage.catalog.Catalog.newest_tasks`."""
        return self._ask(lambda: self._catalog.newest_tasks(most))

    def count_pieces(self, kind: PieceKind, task_id: str) -> Deferred[int]:
        """See :meth:`~dragonfly_vortex.storage.catalog.Catalog.count_pieces`."""
        return self._ask(lambda: self._catalog.count_pieces(kind, task_id))

    def open_piece(
        self, kind: PieceKind, task_id: str, number: int, start: int = 0, length: int | None = None
    ) -> Deferred[OpenPiece]:
        """
        See :meth:`IPieceStore.open_piece`. Whether the file is long enough shows when it is sent.

        :returns: fails also with :class:`~dragonfly_vortex.errors.StorageError` for a range outside the piece.
        """
        seen = self._seen()
        try:
            piece = self._open_hot(kind, task_id, number, start, length)
        except StorageError as error:
            return fail(error)
        if piece is not None:
            self.add_use(kind, task_id)
            return succeed(piece)
        opened: Deferred[OpenPiece] = Deferred()

        def deliver(result: OpenedPiece) -> None:
            self._hot.remember(seen, kind, task_id, number, result.rows, result.piece.range.descriptor)
            if opened.called:  # cancelled: it is closed here or never
                os.close(result.piece.range.descriptor)
            else:
                self.add_use(kind, task_id)
                opened.callback(result.piece)

        def ask() -> Deferred[OpenedPiece]:
            return self._ask(lambda: open_piece(self._catalog, self._content, kind, task_id, number, start, length))

        def failed(failure: Failure) -> None:
            # The files that are kept for later are given up first; they are closed before the piece is asked for again.
            if is_out_of_descriptors(failure.value) and self._hot.close_files():
                ask().addCallbacks(deliver, opened.errback)
            else:
                opened.errback(failure)

        ask().addCallbacks(deliver, failed)
        return opened

    def hot_piece(self, kind: PieceKind, task_id: str, number: int) -> OpenPiece | None:
        """See :meth:`IHotPieceStore.hot_piece`: a piece that is remembered, and whose file is open."""
        if self._thread is None or self._changes:
            return None
        self._hot.refresh()
        rows = self._hot.find(kind, task_id, number)
        row = rows.get(number) if rows is not None else None
        descriptor = self._hot.find_file(kind, task_id)
        if row is None or row.damage or descriptor is None:
            return None
        self._uses.add(kind, task_id)
        metadata = row.metadata
        return OpenPiece(metadata=metadata, range=FileRange(descriptor, metadata.offset, metadata.length))

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        """See :meth:`IPieceStore.mark_damaged`. Fails with :class:`~dragonfly_vortex.errors.NotStored` for no piece."""
        return self._change(lambda: self._catalog.mark_damaged(kind, task_id, number, reason))

    def update_task(
        self, kind: PieceKind, task_id: str, *, ttl: int | None = None, is_pinned: bool | None = None
    ) -> Deferred[None]:
        """See :meth:`Catalog.update_task <dragonfly_vortex.storage.catalog.Catalog.update_task>`."""
        return self._ask(lambda: self._catalog.update_task(kind, task_id, ttl=ttl, is_pinned=is_pinned))

    def add_use(self, kind: PieceKind, task_id: str) -> None:
        """Remember that a task is used at this moment, as it is by each :meth:`open_piece`."""
        if self._thread is not None:
            self._uses.add(kind, task_id)

    def write_task(
        self,
        kind: PieceKind,
        task_id: str,
        digest: str | None = None,
        origin: Origin | None = None,
        *,
        ttl: int | None = None,
        is_pinned: bool = False,
        offers_early: bool = False,
        is_foreign: bool = False,
    ) -> StoredTarget:
        """
        A task as the target of a download. Nothing is opened before its ``open``; the file is made where there is none,
        and the task's row comes with the first piece. ``open`` fails with
        :class:`~dragonfly_vortex.errors.StorageError` for an ID that no task can have, and where the storage has the
        task with another digest.

        :param digest: the digest of the whole, as the download has it, too: empty where none is known. None for the
            SHA-256 that the ID is.
        :param origin: what the task was made from, which is kept; None where that is not known.
        :param ttl: see :class:`~dragonfly_vortex.model.StoredTask`; None for what is known of the task.
        :param is_pinned: see there, too.
        :param offers_early: whether pieces are offered before they are on the disk, and the download does not wait for
            that; :meth:`stop` does. After the end of the kernel those that are not there are fetched anew.
        :param is_foreign: whether a stranger wants it (:meth:`Room.reserve <dragonfly_vortex.storage.room.Room>`).
        """

        def reserve_room(descriptor: int, content_length: int) -> None:
            if self.room is None:
                reserve(descriptor, content_length)
            else:
                self.room.reserve(descriptor, content_length, is_foreign=is_foreign)

        sync = not (offers_early and boot_id())
        file = TaskFile(
            self.directory,
            self._catalog,
            kind,
            task_id,
            digest,
            origin,
            ttl=ttl,
            is_pinned=is_pinned,
            sync=sync,
            reserve=reserve_room,
        )
        linger = None if sync else self._linger
        clock = IReactorTime(self._reactor)
        return StoredTarget(file, self._change, self._at_disk, self._watch.subscribe, linger, clock)

    def offer_mark(self) -> object:
        """See :meth:`ITaskStore.offer_mark`."""
        mark, version = self._seen()
        return object() if version is None else mark

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`ITaskStore.subscribe`."""
        return self._watch.subscribe(changed)

    # -- in the reactor's thread -------------------------------------------------------------------------------------

    async def _opened(self, opening: Deferred[None]) -> None:
        """A storage that cannot be opened has no thread."""
        try:
            await opening
        except Exception:
            await self.stop()
            raise
        if self._thread is not None:
            self._checking.start(CHECK_INTERVAL, now=False)
            if self._may_be_unsynced:
                settled = self._at_disk(lambda: settle_unsynced(self.directory))
                settled.addErrback(
                    lambda failure: self._log.failure("Pieces of a killed process are not settled", failure)
                )

    def _linger(self, synced: Deferred[None]) -> None:
        """Have :meth:`stop` wait until a task is on the disk."""

        def done(_: object) -> None:
            self._lingering -= 1
            self._synced.look()

        self._lingering += 1
        synced.addBoth(done)

    async def _end(self, finished: Deferred[None], pools: Sequence[DaemonThreadPool]) -> None:
        """End the threads when they have nothing left to do, so that this does not wait, or when the time is over."""
        is_busy = False
        try:
            await finished
        except TimeoutError:
            is_busy = True
            self._tell_busy()
        finally:
            for pool in pools:
                pool.abandon() if is_busy else pool.stop()

    def _tell_busy(self) -> None:
        """A thread is left behind."""
        self._log.warn("the storage {directory} is still busy and is not closed", directory=self.directory)

    def _stop_at_shutdown(self) -> None:
        """
        The reactor ends, and the storage was not stopped: close it, so that no recovery is needed at the next start.
        What has been committed is safe in any case. This blocks, as the reactor does for its own threads.
        """
        thread, self._thread = self._thread, None
        disk_thread, self._disk_thread = self._disk_thread, None
        version, used = self._end_looks(), self._uses.take()
        until = time.monotonic() + STOP_TIMEOUT
        if disk_thread is not None:
            disk_thread.finish(_do_nothing, STOP_TIMEOUT)
        if thread is not None and not thread.finish(lambda: self._close(version, used), until - time.monotonic()):
            self._tell_busy()

    def _end_looks(self) -> CatalogVersion:
        """Nothing is scheduled any more, and nothing is remembered; the version that is to be closed."""
        if self._checking.running:
            self._checking.stop()
        self._hot.stop()
        return self._hot.follow(CatalogVersion(self._catalog.path))

    def _check(self) -> Deferred[None]:
        """Have a look at the storage's place. What is wrong with it is logged once."""

        def looked(result: Failure | None) -> None:
            trouble = result.getErrorMessage() if isinstance(result, Failure) else ""
            if trouble and trouble != self._trouble:
                self._log.error("the storage cannot be used: {reason}", reason=trouble)
            self._trouble = trouble

        return self._ask(self._doubt_what_was_held).addBoth(looked)

    def _record_uses(self, used: Collection[tuple[PieceKind, str]]) -> None:
        """Have it written which tasks are used. No piece is taken back by that, so it is no change to wait for."""

        def failed(failure: Failure) -> None:
            reason = failure.getErrorMessage()
            self._log.warn("the last use of {count} tasks cannot be written: {reason}", count=len(used), reason=reason)

        self._ask(lambda: self._write_uses(used)).addErrback(failed)

    def _switch(self, version: CatalogVersion, text: str) -> None:
        """The catalog has been opened or closed: what is remembered may be another one's."""
        if self._thread is None:  # closed for good meanwhile
            version.close()
            return
        self._thread.callInThread(self._hot.follow(version).close)
        if text:
            self._log.warn("the storage {directory} {text}", directory=self.directory, text=text)
            self._watch.renew()

    def _ask(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done in the storage's thread, that changes nothing."""
        if self._thread is None:
            return fail(StorageFailure(f"expected the storage {self.directory} to be open, it is closed"))
        deferred: Deferred[_T] = run_in_pool(self._reactor, self._thread, self._follow, work)
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
        deferred: Deferred[_T] = run_in_pool(self._reactor, self._disk_thread, work)
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
        metadata, offset, length = find_piece(rows, task_id, number, start, length)
        descriptor = self._hot.open(kind, task_id)
        if descriptor is None:
            return None
        return OpenPiece(metadata=metadata, range=FileRange(descriptor, offset, length))

    def _seen(self) -> Seen:
        """What has been seen of the catalog by now."""
        # Not while it is being closed: SQLite crashes where one thread closes what another one asks.
        return self._hot.refresh() if self._thread is not None else (None, None)

    def _close_files(self, descriptors: Sequence[int]) -> None:
        """Close files that may have been deleted: to give back their space can take its time."""
        if self._thread is not None:
            self._thread.callInThread(_close_all, descriptors)
        else:
            _close_all(descriptors)

    # -- in the storage's thread -------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the database, and tidy up."""
        self._catalog.open()
        if not self._catalog.read_only:
            self._content.sweep()
            keep_ballast(self.directory)
            self._may_be_unsynced = has_unsynced(self.directory)
            self._doubt_what_was_held()

    def _offered(self, kind: PieceKind, task_id: str) -> Catalog:
        """The catalog, for a question about a task that is offered in that kind."""
        self._catalog.check_offered(kind, task_id)
        return self._catalog

    def _doubt_what_was_held(self) -> None:
        """Stop offering tasks of which a download that was killed had not yet found the wrong pieces."""
        if self._catalog.read_only:
            return
        with suppress(OSError, StorageFailure):  # the next look may succeed
            for kind, task_id in killed_holders(self.directory):
                self._catalog.doubt_task(kind, task_id)
                forget_killed_holder(self.directory, kind, task_id)

    def _follow(self, work: Callable[[], _T]) -> _T:
        """
        Work on the catalog that is there now. Where that is another one, the reactor hears of it before it gets the
        result: so nothing of the new one is remembered under the version of the old one.
        """
        try:
            if self._generation:
                self._catalog.refresh()
            return work()
        finally:
            if self._generation != self._catalog.generation:
                self._tell_version()

    def _tell_version(self) -> None:
        """Have the reactor's thread ask the version of what is open now, and say what has become of the storage."""
        place, read_only = self._catalog.place, self._catalog.read_only
        text = ""
        if self._generation and place is not None:
            if place.file is None:
                text = "was deleted: nothing is served until it exists again"
            elif place != self._place or read_only != self._read_only:
                text = "has been replaced: what is there now is served" * (place != self._place)
                text = f"can only be read: {read_only}" if read_only else text or "can be written again"
        version = self._catalog.version()
        self._generation, self._place, self._read_only = self._catalog.generation, place or self._place, read_only
        self._reactor.callFromThread(self._switch, version, text)

    def _write_uses(self, used: Collection[tuple[PieceKind, str]]) -> None:
        """Write which tasks are used now, where the storage can be written."""
        if used and not self._catalog.read_only:
            self._catalog.record_uses(used, int(time.time()))

    def _close(self, version: CatalogVersion, used: Collection[tuple[PieceKind, str]]) -> None:
        """Close the database."""
        with suppress(StorageFailure):  # a full disk
            self._write_uses(used)
        version.close()
        self._generation = 0
        self._catalog.close()


def _close_all(descriptors: Sequence[int]) -> None:
    """Close files."""
    for descriptor in descriptors:
        os.close(descriptor)


def _do_nothing() -> None:
    """What is done when all before it has been done."""


async def _all_of(*deferreds: Deferred[None]) -> None:
    """Wait for one after the other."""
    for deferred in deferreds:
        await deferred
