"""
The downloads of a running peer: each fetches one task into the peer's own storage, from the parents that there are. Two
requests for one task at the same time share one download.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.exchanged_parents import ExchangedParents
from dragonfly_vortex.daemon.logs import TransferLog
from dragonfly_vortex.daemon.shared_download import OnPiece, SharedDownload, SharedParents, Wishes
from dragonfly_vortex.daemon.sources import Sources
from dragonfly_vortex.daemon.transfers import Transfer, Transfers
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.errors import NoParentKnown, NotStored, PoolClosed, VortexError
from dragonfly_vortex.events import DownloadEvent, OnEvent
from dragonfly_vortex.geometry import is_complete
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import ArrivedPiece, BackToSource, StoredTask, TaskRequest
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.source_choice import REASONS
from dragonfly_vortex.threads import LazyThreads
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.transport_table import is_url
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.cluster.membership import Membership
    from dragonfly_vortex.daemon.scheduled_parents import ScheduledParents

__all__ = ["Downloads", "OnRequestEvent"]

_T = TypeVar("_T")

_THREADS, _IN_A_TURN = 10, 256
"""Threads in which all downloads hash and write, as many as a reactor has; stored pieces told of in one turn of it."""

_Key = tuple[PieceKind, str]

OnRequestEvent = Callable[[TaskRequest, DownloadEvent], None]
"""Called in the reactor's thread with an event of a download, and the request that began it: the same object each
time, and another one for another download of the same task."""


class Downloads:
    """
    All downloads into one storage.

    :param config: the peer's configuration; its ``download`` section is used.
    :param reactor: what the peer runs on.
    :param store: the storage, which is open while anything is downloaded.
    :param metrics: counts the requests; None: in metrics of its own.
    :param dial: makes the endpoints for parents' addresses; None for the usual ones.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: IPeerReactor,
        store: PieceStore,
        metrics: TaskMetrics | None = None,
        dial: Dial | None = None,
    ) -> None:
        self.metrics = metrics or TaskMetrics(reactor.seconds)
        """Counts the requests."""
        self.from_source: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """How many pieces the downloads that are over have asked of sources, by the reason. Any thread may read it."""
        self.sources = Sources(config, self._known_parents, self.metrics)
        """What is asked of the tasks' sources."""
        self.transfers = Transfers()
        """What the status page shows."""
        self.listeners: list[OnRequestEvent] = [lambda request, event: self.metrics.transfers.on_event(event)]
        """The functions that are called for each event of each download."""
        self._config = config
        self._reactor = reactor
        self._store = store
        self._dial = dial
        self.transfer_log = TransferLog(reactor)
        """The IDs of the downloads under way."""
        self._fetching: set[TaskDownload] = set()
        self._scheduled: dict[_Key, ScheduledParents] = {}  # of the downloads that are registered
        self.metrics.transfers.rarest = self._rarest
        self._running: dict[_Key, SharedDownload] = {}
        self._ending: set[Deferred[None]] = set()
        self._locks: dict[_Key, DeferredLock] = {}  # held by the downloads that are under way, or end
        self._slots = DeferredSemaphore(config.download.concurrent_task_count)
        self._parents: SharedParents | None = None
        self._is_stopped = False  # no download begins
        self.in_thread = LazyThreads(reactor, _THREADS, "downloads")
        """Calls a function in a thread. Not in the reactor's pool, which at its end waits for a disk without answer."""
        self.grpc_port: Callable[[], int | None] = lambda: None
        """Gives the port of this peer's gRPC door, for the exchange of peers; None where there is none."""
        self.membership: Membership | None = None
        """What registers downloads with schedulers; None while there is nothing like that."""

    def __len__(self) -> int:
        """How many tasks are being downloaded, or wait for that."""
        return len(self._running)

    def is_running(self, kind: PieceKind, task_id: str) -> bool:
        """Whether a task is being downloaded, or waits for that."""
        return (kind, task_id) in self._running

    def meet(self, kind: PieceKind, task_id: str, host_id: str) -> None:
        """
        Record that a child asks for the pieces of a task. While the task is being downloaded, the child is asked for
        pieces in turn.

        :param host_id: the ID of the child's host, as the child says.
        """
        scheduled = self._scheduled.get((kind, task_id))
        if scheduled is not None:
            scheduled.meet(host_id)

    def download(
        self, request: TaskRequest, on_piece: OnPiece = lambda piece: None, wishes: Wishes | None = None
    ) -> Deferred[StoredTask]:
        """
        Download a task into the storage, unless all of it is there. One that is complete there is not asked for
        anywhere.

        :param request: which task.
        :param on_piece: called in the reactor's thread for each piece, also for those that are there already.
        :param wishes: what is wanted of the content, which may change; None for the range of the request.
        :returns: fires with the task when all of it is there. Fails as
            :meth:`~dragonfly_vortex.task.download.TaskDownload.start` does, and with
            :class:`~dragonfly_vortex.errors.NoParentKnown`. Cancelling it ends the download unless others wait for it.
        """
        count_end = self.metrics.download(request)

        def ended(result: StoredTask | Failure) -> StoredTask | Failure:
            count_end(None if isinstance(result, Failure) else result.content_length or 0)
            return result

        downloading: Deferred[StoredTask] = Deferred.fromCoroutine(self._download(request, on_piece, wishes))
        return downloading.addBoth(ended)

    def reload(self, config: Config) -> None:
        """Take another configuration for downloads that begin from now on."""
        self._config = config
        self._forget_parents()

    def see_end(self, ending: Deferred[None]) -> None:
        """Make :meth:`stop` wait for a Deferred that its callers end."""
        self._ending.add(ending)

        def forget(result: _T) -> _T:
            self._ending.discard(ending)
            return result

        ending.addBoth(forget)

    async def stop(self) -> None:
        """Give up all downloads. What was committed stays in the storage."""
        self._is_stopped = True
        for running in list(self._running.values()):
            running.cancel()
        self.sources.stop()
        self._forget_parents()
        for failure in await failures_of(list(self._ending)):
            self._log.failure("a download did not end as it should", failure)
        self.in_thread.close()
        self.transfer_log.close()

    async def _download(self, request: TaskRequest, on_piece: OnPiece, wishes: Wishes | None) -> StoredTask:
        """Take the task from the storage if all of it is there; else share the download with its other callers."""
        key = (request.kind, request.task_id)
        if wishes is None:
            wishes = Wishes() if request.range is None else Wishes((request.range,), is_all=False)
        while True:
            if key not in self._running:
                task = await self._find_complete(request, on_piece)
                if task is not None:
                    return task
            running = self._running.get(key) or self._begin(key, request)
            try:
                return await running.join(on_piece, wishes)
            except VortexError:
                if running.request.can_fail_for(request):
                    raise
                # Another request had other wishes, which have failed.

    async def _find_complete(self, request: TaskRequest, on_piece: OnPiece) -> StoredTask | None:
        """A task that is complete in the storage, once its pieces have been reported."""
        try:
            task = await self._store.get_task(request.kind, request.task_id)
            pieces = await self._store.get_pieces(request.kind, request.task_id)
        except NotStored:
            return None
        if not is_complete(task, pieces):
            return None
        self._store.add_use(request.kind, request.task_id)
        if request.ttl is not None or request.is_pinned:
            pin = request.is_pinned or None
            await self._store.update_task(request.kind, request.task_id, ttl=request.ttl, is_pinned=pin)
        for count, piece in enumerate(pieces, 1):
            self.metrics.transfers.found(piece.metadata.length)
            on_piece(ArrivedPiece(piece.metadata, task.piece_length, task.content_length))
            if count % _IN_A_TURN == 0:
                await deferLater(self._reactor, 0)
        return task

    def _begin(self, key: _Key, request: TaskRequest) -> SharedDownload:
        """Begin a download."""
        if self._is_stopped:
            raise PoolClosed("expected a running peer, got one that is stopped")

        def over() -> None:
            if self._running.get(key) is running:
                del self._running[key]  # a request that comes now begins it anew

        running = self._running[key] = SharedDownload(request, over, self._reactor)
        self.see_end(running.run(lambda: self._record(request, running)))
        return running

    async def _record(self, request: TaskRequest, running: SharedDownload) -> StoredTask:
        """Fetch a task, and record the beginning and the end of that."""
        transfer = self.transfers.begin(request)
        try:
            task = await self._fetch(request, running, transfer)
        except BaseException as error:
            self.transfers.end(transfer, error)
            raise
        self.transfers.end(transfer)
        return task

    async def _fetch(self, request: TaskRequest, running: SharedDownload, transfer: Transfer) -> StoredTask:
        """Fetch a task into the storage, when no earlier download of it is ending any more, and there is a slot."""
        key = (request.kind, request.task_id)
        lock = self._locks.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            has_to_wait = not self._slots.tokens
            await self._slots.acquire()
            try:
                if has_to_wait:  # begin in a turn of its own: the download before calls this from its end
                    await deferLater(self._reactor, 0)
                with self._known_parents() as parents, self.transfer_log.transfer(request):
                    await self._fetch_from(parents, request, running, transfer)
            finally:
                self._slots.release()
        finally:
            lock.release()
            if not lock.locked and self._locks.get(key) is lock:
                del self._locks[key]
        self._store.add_use(request.kind, request.task_id)
        return await self._store.get_task(request.kind, request.task_id)

    def _known_parents(self) -> SharedParents:
        """What is known of parents, for the next download."""
        if self._parents is None or self._parents.is_full:
            self._forget_parents()
            self._parents = SharedParents(self._config, self._reactor, self._dial)
        return self._parents

    async def _fetch_from(
        self, parents: SharedParents, request: TaskRequest, running: SharedDownload, transfer: Transfer
    ) -> None:
        """Fetch a task from its parents: those of the configuration, those that a scheduler offers, and the source."""
        negotiation, config = parents.negotiation, parents.config.download
        source = self.sources.add(parents, request)
        scheduled: ScheduledParents | None = None
        exchanged = self._exchange(parents, request)
        announcer = negotiation.announcers.get if exchanged is None else exchanged.announcer
        try:
            own = [ParentAddress.from_text(parent) for parent in request.parents]
            for parent in own:
                negotiation.add(parent)
            named = [str(parent) for parent in (*config.parents, *own)]
            scheduled = await self._register(parents, request, source)
            if scheduled is not None:
                scheduled.announcer = announcer
                self._scheduled[request.kind, request.task_id] = scheduled
                if not named:
                    await scheduled.answer()
                named += scheduled.addresses
            if source and not named:
                await negotiation.stat_source(source, request.task_id)  # no piece is asked for where this fails
            if not named and not source:
                reason = scheduled.reason if scheduled is not None else "expected a parent or a source, got none"
                if request.origin is not None and not is_url(request.origin.url):
                    scheme = request.origin.url.partition("://")[0]
                    reason += f"; sources of the scheme {scheme[:20]!r} cannot be asked"
                raise NoParentKnown(request.task_id, reason)
            target = self._store.write_task(
                request.kind,
                request.task_id,
                digest=request.digest,
                origin=request.origin,
                ttl=request.ttl,
                is_pinned=request.is_pinned,
                offers_early=True,
                is_foreign=request.is_foreign,
            )
            target.arrived = running.arrived
            download = TaskDownload(
                self._reactor,
                self.in_thread,
                negotiation.downloader,
                kind=request.kind,
                task_id=request.task_id,
                parents=[*named, source] if source else named,
                target=target,
                digest=request.digest,
                announcers={each: found for each in (*named, source) if each and (found := announcer(each))},
                concurrent_piece_count=config.concurrent_piece_count,
                late_after=config.piece_timeout,
                source=source,
                stat_source=partial(negotiation.stat_source, source, request.task_id) if source else None,
                back_to_source=BackToSource.ALWAYS if request.must_ask_source else config.back_to_source,
                on_event=partial(self._report, request, transfer, scheduled),
            )
            running.follow_wanted(download.want)
            transfer.follow(download.under_way, source)
            if scheduled is not None:
                scheduled.follow(download)
            if exchanged is not None:
                exchanged.follow(download, named)
            self._fetching.add(download)
            try:
                await download.start()
            finally:
                self._fetching.discard(download)
                self.from_source.update(download.from_source)
        except BaseException as error:
            if scheduled is not None:
                scheduled.fail(str(error) or type(error).__name__)
            raise
        else:
            if scheduled is not None:
                scheduled.finish()
        finally:
            self._scheduled.pop((request.kind, request.task_id), None)
            if exchanged is not None:
                exchanged.end()
            if source:
                negotiation.remove_source(source, request.task_id)

    def _exchange(self, parents: SharedParents, request: TaskRequest) -> ExchangedParents | None:
        """The part of a download in the exchange of peers; None where the peer takes no part."""
        if not parents.config.discovery.peer_exchange:
            return None
        return ExchangedParents(
            parents.config,
            request,
            parents.negotiation,
            self.grpc_port(),
            self._reactor,
            self.in_thread,
        )

    def _report(
        self, request: TaskRequest, transfer: Transfer, scheduled: ScheduledParents | None, event: DownloadEvent
    ) -> None:
        """Report an event of a download. A listener that fails does not end it."""
        if scheduled is not None:
            scheduled.on_event(event)
        listeners: list[OnEvent] = [transfer.hear, *(partial(listener, request) for listener in self.listeners)]
        for listener in listeners:
            try:
                listener(event)
            except Exception:
                self._log.failure("an event of a download could not be reported")

    def _rarest(self) -> list[int]:
        """How many parents have the rarest piece of each download in a swarm. Called in any thread."""
        found = [download.rarest_parents for download in list(self._fetching)]
        return [count for count in found if count is not None]

    async def _register(self, parents: SharedParents, request: TaskRequest, source: str) -> ScheduledParents | None:
        """Have schedulers offer parents, if there are schedulers."""
        if self.membership is None or request.kind is PieceKind.CACHE:
            return None
        from dragonfly_vortex.daemon.scheduled_parents import register

        return await register(self.membership, parents.config, parents.negotiation, request, source)

    def _forget_parents(self) -> None:
        """Have the next download make connections of its own."""
        parents, self._parents = self._parents, None
        if parents is not None:
            self.see_end(parents.retire())
