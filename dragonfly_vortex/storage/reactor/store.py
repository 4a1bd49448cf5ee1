"""
The storage for the rest of a peer: :class:`~dragonfly_vortex.interfaces.ITaskStore` over content and catalog.

All work is done in one thread, one question after the other: so the catalog's connection has one owner, and what was
asked first is done first. Waiting for the disk while a task is downloaded has a thread of its own.

The exception is a piece that is asked for while it is remembered
(:mod:`~dragonfly_vortex.storage.reactor.piece_cache`): it is handed out at once. What is remembered is no older than
the question: what another process has imported is there for the next one, and what it has removed or found to be
damaged is not. While a change that was asked for here has not been made, nothing is handed out from memory, so that the
order is kept.

The storage may be replaced while it is served (:mod:`~dragonfly_vortex.storage.reactor.current_catalog`). What is
remembered of the old one may be handed out for :data:`CHECK_INTERVAL` more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.interfaces import IHotPieceStore, ITaskStore
from dragonfly_vortex.model import FileRange, OpenPiece, Origin, StoredPiece, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.disk import boot_id, reserve
from dragonfly_vortex.storage.failures import is_out_of_descriptors
from dragonfly_vortex.storage.queries import CatalogQueries
from dragonfly_vortex.storage.reactor.collecting import TaskUses
from dragonfly_vortex.storage.reactor.current_catalog import CurrentCatalog, OpenedPiece, open_piece
from dragonfly_vortex.storage.reactor.piece_cache import HotPieces, Seen, find_piece
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from dragonfly_vortex.storage.reactor.threads import StorageThreads
from dragonfly_vortex.storage.reactor.watch import CatalogWatch
from dragonfly_vortex.storage.room import Room
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.storage.unsynced import settle_unsynced
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.threads import STOP_TIMEOUT
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
        self._current = CurrentCatalog(
            directory, self._catalog, self._content, lambda *what: reactor.callFromThread(self._switch, *what)
        )
        self._checking = LoopingCall(self._check)
        self._checking.clock = IReactorTime(reactor)
        self._trouble = ""  # that was logged, and is there still
        self._changes = 0  # that were asked for and have not been made
        self._watch = CatalogWatch(self._catalog.path, IReactorTime(reactor))
        self._threads = StorageThreads(directory, reactor)
        self._shutdown_trigger: object = None
        self._lingering = 0  # tasks that are closed, and not on the disk yet
        self._synced = Ending(lambda: not self._lingering)

    def start(self) -> Deferred[None]:
        """
        Open the storage. What is asked before the Deferred fires waits for it.

        :returns: fires when it is open; fails with :class:`~dragonfly_vortex.errors.StorageFailure`, and is stopped
            then.
        """
        if not self._threads.are_started:
            self._threads.start()
            core = IReactorCore(self._reactor)
            # "during": after the services that stop it in order and use it until then.
            self._shutdown_trigger = core.addSystemEventTrigger("during", "shutdown", self._stop_at_shutdown)
            return Deferred.fromCoroutine(self._opened(self._ask(self._current.open)))
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
        if not self._threads.are_started:
            return succeed(None)
        version, used = self._end_looks(), self._uses.take()
        IReactorCore(self._reactor).removeSystemEventTrigger(self._shutdown_trigger)
        return self._threads.stop(lambda: self._current.close(version, used), timeout)

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[StoredTask]:
        """See :meth:`ITaskStore.get_task`."""
        return self._ask(lambda: self._current.offered(kind, task_id).get_task(kind, task_id))

    def get_pieces(self, kind: PieceKind, task_id: str, first: int = 0) -> Deferred[list[StoredPiece]]:
        """See :meth:`ITaskStore.get_pieces`."""
        return self._ask(lambda: self._current.offered(kind, task_id).get_pieces(kind, task_id, first))

    def list_tasks(self, kind: PieceKind) -> Deferred[list[StoredTask]]:
        """All tasks that are offered in a kind, the oldest first. Fails as :meth:`get_task` does."""

        def read() -> list[StoredTask]:
            offered: dict[str, PieceKind] = {}  # of an ID that is there in two kinds the older task
            tasks = self._catalog.list_tasks()
            return [task for task in tasks if offered.setdefault(task.task_id, task.kind) is task.kind is kind]

        return self._ask(read)

    def query(self, question: Callable[[CatalogQueries], _T]) -> Deferred[_T]:
        """Ask the catalog, in the storage's thread. Fires with the answer; fails as the question does."""
        return self._ask(lambda: question(self._catalog))

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
        if not self._threads.are_started or self._changes:
            return None
        self._hot.refresh()
        row = (self._hot.find(kind, task_id, number) or {}).get(number)
        descriptor = self._hot.find_file(kind, task_id)
        if row is None or row.damage or descriptor is None:
            return None
        if (kind, task_id) not in self._uses.used:
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
        if self._threads.are_started and (kind, task_id) not in self._uses.used:
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
        return StoredTarget(file, self._change, self._threads.at_disk, self._watch.subscribe, linger, clock)

    def offer_mark(self) -> object:
        """See :meth:`ITaskStore.offer_mark`."""
        mark, version = self._seen()
        return object() if version is None else mark

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`ITaskStore.subscribe`."""
        return self._watch.subscribe(changed)

    async def _opened(self, opening: Deferred[None]) -> None:
        """Start what an open storage does from time to time; stop the thread of one that cannot be opened."""
        try:
            await opening
        except Exception:
            await self.stop()
            raise
        if self._threads.are_started:
            self._checking.start(CHECK_INTERVAL, now=False)
            if self._current.may_be_unsynced:
                settled = self._threads.at_disk(lambda: settle_unsynced(self.directory))
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

    def _stop_at_shutdown(self) -> None:
        """
        The reactor ends, and the storage was not stopped: close it, so that no recovery is needed at the next start.
        What has been committed is safe in any case. This blocks, as the reactor does for its own threads.
        """
        version, used = self._end_looks(), self._uses.take()
        self._threads.finish(lambda: self._current.close(version, used))

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

        return self._ask(self._current.doubt_what_was_held).addBoth(looked)

    def _record_uses(self, used: Collection[tuple[PieceKind, str]]) -> None:
        """Have it written which tasks are used. No piece is taken back by that, so it is no change to wait for."""

        def failed(failure: Failure) -> None:
            reason = failure.getErrorMessage()
            self._log.warn("the last use of {count} tasks cannot be written: {reason}", count=len(used), reason=reason)

        self._ask(lambda: self._current.write_uses(used)).addErrback(failed)

    def _switch(self, version: CatalogVersion, text: str) -> None:
        """Forget what is remembered of the catalog, because it has been opened or closed."""
        if not self._threads.are_started:  # closed for good meanwhile
            version.close()
            return
        self._threads.call(self._hot.follow(version).close)
        if text:
            self._log.warn("the storage {directory} {text}", directory=self.directory, text=text)
            self._watch.renew()

    def _ask(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done in the storage's thread, that changes nothing."""
        return self._threads.ask(lambda: self._current.follow(work))

    def _change(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have work done in the storage's thread, that may change rows."""

        def changed(result: _T) -> _T:
            self._changes -= 1
            return result

        self._changes += 1
        return self._ask(work).addBoth(changed)

    def _open_hot(self, kind: PieceKind, task_id: str, number: int, start: int, length: int | None) -> OpenPiece | None:
        """A piece from memory; None where it is to be read. Raises what :meth:`open_piece` fails with."""
        if not self._threads.are_started or self._changes:
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
        return self._hot.refresh() if self._threads.are_started else (None, None)

    def _close_files(self, descriptors: Sequence[int]) -> None:
        """Close files that may have been deleted: to give back their space can take its time."""
        if self._threads.are_started:
            self._threads.call(lambda: _close_all(descriptors))
        else:
            _close_all(descriptors)


def _close_all(descriptors: Sequence[int]) -> None:
    """Close files."""
    for descriptor in descriptors:
        os.close(descriptor)
