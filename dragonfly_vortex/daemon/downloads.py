"""
The downloads of a running peer: each fetches one task into the peer's own storage, from the parents that there are. Two
requests for one task at the same time share one download.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.config import Config, client_tls
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.downloaders.factory import negotiate
from dragonfly_vortex.errors import NoParentKnown, NoSourceKnown, NotStored, PoolClosed, SourceError, VortexError
from dragonfly_vortex.geometry import piece_count, piece_length_for
from dragonfly_vortex.interfaces import IDownloadTarget
from dragonfly_vortex.metrics.counters import DownloadTally
from dragonfly_vortex.model import (
    ArrivedPiece,
    BackToSource,
    Claim,
    Found,
    Origin,
    SourceStat,
    StoredPiece,
    StoredTask,
    TaskRequest,
)
from dragonfly_vortex.source.policy import SourcePolicy
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.source_choice import REASONS
from dragonfly_vortex.threads import DaemonThreadPool, run_in_pool
from dragonfly_vortex.transport_table import GRPC
from dragonfly_vortex.wire import PieceKind, PieceMetadata

if TYPE_CHECKING:
    from dragonfly_vortex.cluster.membership import Membership
    from dragonfly_vortex.daemon.scheduled_parents import ScheduledParents

__all__ = ["Downloads", "Tell", "is_complete"]

_T = TypeVar("_T")

Tell = Callable[[ArrivedPiece], None]
"""Called for each piece that is in the storage; for one that was wrong and was fetched again, twice."""

_THREADS = 10
"""Threads in which all downloads together hash and write, as many as a reactor has by itself."""

_SMALL = 4 * 1024 * 1024
"""Bytes of a task up to which the source is asked without a scheduler, as by the reference (``task.rs``)."""

_MOST_PARENTS = 1000
"""Parents that are remembered before all is forgotten that is known of them."""

_Key = tuple[PieceKind, str]


class Downloads:
    """
    All downloads into one storage.

    :param config: the peer's configuration; its ``download`` section is used.
    :param reactor: what the peer runs on.
    :param store: the storage, which is open while anything is downloaded.
    """

    _log = Logger()

    def __init__(self, config: Config, reactor: IPeerReactor, store: PieceStore) -> None:
        self.tally = DownloadTally()
        """Counts the requests."""
        self.from_source: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """How many pieces the downloads that are over have asked of sources, by the reason. Any thread may read it."""
        self._config = config
        self._reactor = reactor
        self._store = store
        self._running: dict[_Key, _Running] = {}
        self._ending: set[Deferred[None]] = set()
        self._slots = DeferredSemaphore(config.download.concurrent_task_count)
        self._parents: _Parents | None = None
        self._pool: DaemonThreadPool | None = None
        self._is_stopped = False
        self._policy = SourcePolicy(config.seed_peer.sources)
        self.membership: Membership | None = None
        """What registers downloads with schedulers; None while there is nothing like that."""

    def __len__(self) -> int:
        """How many tasks are being downloaded, or wait for that."""
        return len(self._running)

    def download(self, request: TaskRequest, tell: Tell = lambda piece: None) -> Deferred[StoredTask]:
        """
        Have a task in the storage. One that is complete there is not asked for anywhere.

        :param request: which task.
        :param tell: called in the reactor's thread for each piece, also for those that are there already.
        :returns: fires with the task when all of it is there. Fails as
            :meth:`~dragonfly_vortex.task.download.TaskDownload.start` does, and with
            :class:`~dragonfly_vortex.errors.NoParentKnown`. Cancelling it ends the download unless others wait for it.
        """
        key = (request.kind, request.priority)
        self.tally.begun[key] += 1
        self.tally.under_way[key] += 1

        def ended(result: StoredTask | Failure) -> StoredTask | Failure:
            self.tally.under_way[key] -= 1
            self.tally.failed[key] += isinstance(result, Failure)
            return result

        downloading: Deferred[StoredTask] = Deferred.fromCoroutine(self._download(request, tell))
        return downloading.addBoth(ended)

    async def ask_source(self, origin: Origin, headers: Mapping[str, str], *, is_foreign: bool) -> SourceStat:
        """
        Ask a source what it has.

        :param origin: its URL is asked for.
        :param headers: what is sent along.
        :param is_foreign: see :class:`~dragonfly_vortex.model.TaskRequest`.
        :raises InvalidOrigin: it has no URL of a source.
        :raises NoSourceKnown: sources are never asked.
        :raises SourceError: the source does not answer well.
        """
        name = str(uuid4())  # no task has it
        request = TaskRequest(
            kind=PieceKind.STANDARD, task_id=name, origin=origin, headers=headers, is_foreign=is_foreign
        )
        with self._known_parents() as parents:
            source = self._add_source(parents, request)
            if not source:
                raise NoSourceKnown("this peer asks no source (download.back_to_source)")
            try:
                return await parents.negotiation.stat_source(source, name)
            finally:
                parents.negotiation.remove_source(source, name)

    def reload(self, config: Config) -> None:
        """Take another configuration for downloads that begin from now on."""
        self._config = config
        self._forget_parents()

    async def stop(self) -> None:
        """Give up all downloads. What was committed stays in the storage."""
        self._is_stopped = True
        for running in list(self._running.values()):
            running.cancel()
        self._forget_parents()
        for failure in await failures_of(list(self._ending)):
            self._log.failure("a download did not end in order", failure)
        if self._pool is not None:
            self._pool.abandon()

    async def _download(self, request: TaskRequest, tell: Tell) -> StoredTask:
        """From the storage where all of it is there; else together with all others who want it now."""
        key = (request.kind, request.task_id)
        while True:
            if key not in self._running:
                task = await self._find_complete(request, tell)
                if task is not None:
                    return task
            running = self._running.get(key) or self._begin(key, request)
            try:
                return await running.join(tell)
            except VortexError:
                if running.request.can_fail_for(request):
                    raise
                # Another request had other wishes, which have failed.

    async def _find_complete(self, request: TaskRequest, tell: Tell) -> StoredTask | None:
        """A task that is complete in the storage, once its pieces have been reported."""
        try:
            task = await self._store.get_task(request.kind, request.task_id)
            pieces = await self._store.get_pieces(request.kind, request.task_id)
        except NotStored:
            return None
        if not is_complete(task, pieces):
            return None
        for piece in pieces:
            tell(ArrivedPiece(piece.metadata, task.piece_length, task.content_length))
        return task

    def _begin(self, key: _Key, request: TaskRequest) -> _Running:
        """Begin a download."""
        if self._is_stopped:
            raise PoolClosed("expected a running peer, got one that is stopped")

        def over() -> None:
            if self._running.get(key) is running:
                del self._running[key]  # a request that comes now begins it anew

        running = self._running[key] = _Running(request, over)
        self._see_end(running.run(lambda: self._fetch(request, running.told)))
        return running

    def _see_end(self, ending: Deferred[None]) -> None:
        """Have the peer's end wait for something."""
        self._ending.add(ending)

        def forget(result: _T) -> _T:
            self._ending.discard(ending)
            return result

        ending.addBoth(forget)

    async def _fetch(self, request: TaskRequest, told: _Told) -> StoredTask:
        """Fetch a task into the storage, when there is a slot."""
        await self._slots.acquire()
        try:
            with self._known_parents() as parents:
                await self._fetch_from(parents, request, told)
        finally:
            self._slots.release()
        return await self._store.get_task(request.kind, request.task_id)

    def _known_parents(self) -> _Parents:
        """What is known of parents, for the next download."""
        if self._parents is None or self._parents.is_full:
            self._forget_parents()
            self._parents = _Parents(self._config, self._reactor)
        return self._parents

    async def _fetch_from(self, parents: _Parents, request: TaskRequest, told: _Told) -> None:
        """Fetch a task from its parents: those of the configuration, those that a scheduler offers, and the source."""
        negotiation, config = parents.negotiation, parents.config.download
        source = self._add_source(parents, request)
        scheduled: ScheduledParents | None = None
        try:
            named = [str(parent) for parent in config.parents]
            scheduled = await self._register(parents, request, source)
            if scheduled is not None:
                told.listen(scheduled.arrived)
                if not named:
                    await scheduled.answer()
                named += scheduled.addresses
            if source and not named:
                await negotiation.stat_source(source, request.task_id)  # no piece is asked for where this fails
            if not named and not source:
                reason = "expected a parent or a source, got none"
                raise NoParentKnown(request.task_id, scheduled.reason if scheduled is not None else reason)
            target = self._store.write_task(request.kind, request.task_id, digest=request.digest, origin=request.origin)
            download = TaskDownload(
                self._reactor,
                self.in_thread,
                negotiation.downloader,
                kind=request.kind,
                task_id=request.task_id,
                parents=[*named, source] if source else named,
                target=_ToldTarget(target, told),
                digest=request.digest,
                announcers=negotiation.announcers,
                concurrent_piece_count=config.concurrent_piece_count,
                late_after=config.piece_timeout,
                source=source,
                back_to_source=BackToSource.ALWAYS if request.must_ask_source else config.back_to_source,
                on_wait=scheduled.complain if scheduled is not None else lambda line: None,
            )
            if scheduled is not None:
                scheduled.follow(download)
            try:
                await download.start()
            finally:
                self.from_source.update(download.from_source)
        except BaseException as error:
            if scheduled is not None:
                scheduled.fail(str(error) or type(error).__name__)
            raise
        else:
            if scheduled is not None:
                scheduled.finish()
        finally:
            if source:
                negotiation.remove_source(source, request.task_id)

    def _add_source(self, parents: _Parents, request: TaskRequest) -> str:
        """The address of the source of a task; empty where none may be asked."""
        origin = request.origin
        if origin is None or not request.may_ask_source:
            return ""
        if parents.config.download.back_to_source is BackToSource.NEVER:
            return ""
        return parents.negotiation.add_source(
            origin,
            request.task_id,
            tuple(request.headers.items()),
            token=request.token,
            may_connect=self._policy.allows if request.is_foreign else None,
        )

    async def _register(self, parents: _Parents, request: TaskRequest, source: str) -> ScheduledParents | None:
        """Have schedulers offer parents, if there are schedulers, and the task is not a very small one."""
        membership, origin = self.membership, request.origin
        if membership is None or request.kind is PieceKind.CACHE:
            return None
        content_length = piece_length = None
        if source:
            with suppress(SourceError):  # a request for a piece shows why
                content_length = (await parents.negotiation.stat_source(source, request.task_id)).content_length
        if content_length is not None:
            if content_length <= _SMALL and not request.must_ask_scheduler:
                return None
            wanted = origin.piece_length if origin is not None else None
            piece_length = wanted or piece_length_for(content_length)
        from dragonfly_vortex.cluster.requests import TaskAnnouncement
        from dragonfly_vortex.daemon.scheduled_parents import ScheduledParents

        return ScheduledParents(
            membership,
            TaskAnnouncement(
                kind=request.kind,
                task_id=request.task_id,
                origin=origin,
                content_length=content_length,
                piece_length=piece_length,
                digest=request.digest or "",
                headers=tuple(request.headers.items()),
                priority=request.priority,
                need_back_to_source=request.must_ask_source,
                concurrent_piece_count=parents.config.download.concurrent_piece_count,
            ),
            parents.negotiation,
            scheme=GRPC.schemes[client_tls(parents.config).authority is not None],
        )

    def in_thread(self, function: Callable[[], _T], /) -> Deferred[_T]:
        """Not in the reactor's pool: at its end the reactor would wait for a disk that does not answer."""
        if self._pool is None:
            self._pool = DaemonThreadPool(minthreads=0, maxthreads=_THREADS, name="downloads")
            self._pool.start()
        result: Deferred[_T] = run_in_pool(self._reactor, self._pool, function)
        return result

    def _forget_parents(self) -> None:
        """Have the next download make connections of its own."""
        parents, self._parents = self._parents, None
        if parents is not None:
            self._see_end(parents.retire())


class _Parents:
    """
    The state of parents and the connections to them, which all downloads share. As a context manager it is in use
    inside the block.

    :param config: the peer's configuration.
    :param reactor: connects, resolves names, and is the clock.
    :raises CertificateUnusable: a file for TLS cannot be used.
    """

    def __init__(self, config: Config, reactor: IPeerReactor) -> None:
        self.config = config
        download = config.download
        self.negotiation = negotiate(download.protocol, config, download.parents, reactor=reactor, has_source=True)
        self._users = 0
        self._is_retired = False
        self._stopped: Deferred[None] = Deferred()

    @property
    def is_full(self) -> bool:
        """Whether so many parents are remembered that it is to be replaced."""
        return len(self.negotiation.announcers) > _MOST_PARENTS

    def __enter__(self) -> _Parents:
        self._users += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._users -= 1
        self._stop_if_unused()

    def retire(self) -> Deferred[None]:
        """Close all connections when the last download is over that uses them. Fires then; called once."""
        self._is_retired = True
        self._stop_if_unused()
        return self._stopped

    def _stop_if_unused(self) -> None:
        if self._is_retired and not self._users:
            self.negotiation.downloader.stop().chainDeferred(self._stopped)


class _Told:
    """The pieces of a download that are in the storage, and the functions that are called for each."""

    def __init__(self) -> None:
        self.listeners: list[Tell] = []
        self._pieces: dict[int, ArrivedPiece] = {}
        self._piece_length = 0

    def add(self, metadata: PieceMetadata, piece_length: int | None = None, content_length: int | None = None) -> None:
        """
        Record a piece that is in the storage.

        :param piece_length: of its task; None for as before.
        :param content_length: of its task; None while it is not known.
        """
        self._piece_length = piece_length or self._piece_length
        piece = self._pieces[metadata.number] = ArrivedPiece(metadata, self._piece_length, content_length)
        for tell in list(self.listeners):
            tell(piece)

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove pieces that are not in the storage any more."""
        for number in numbers:
            self._pieces.pop(number, None)

    def listen(self, tell: Tell) -> None:
        """Add a listener, which is called for all pieces from the first one on."""
        for piece in self._pieces.values():
            tell(piece)
        self.listeners.append(tell)


class _Running:
    """
    A download, and those who wait for it.

    :param request: of the first of them.
    :param over: called when nothing more can come of it.
    """

    def __init__(self, request: TaskRequest, over: Callable[[], None]) -> None:
        self.request = request
        self.told = _Told()
        self._over = over
        self._waiting: list[Deferred[StoredTask]] = []
        self._work: Deferred[StoredTask] | None = None
        self._outcome: StoredTask | Failure | None = None

    def run(self, fetch: Callable[[], Coroutine[Deferred[Any], Any, StoredTask]]) -> Deferred[None]:
        """Begin. Fires when it is over, whether it has succeeded or not."""
        self._work = Deferred.fromCoroutine(fetch())
        return self._work.addBoth(self._ended)

    def join(self, tell: Tell) -> Deferred[StoredTask]:
        """Wait for its end. The last one who cancels this ends it."""
        self.told.listen(tell)

        def leave(left: Deferred[StoredTask]) -> None:
            self._waiting.remove(left)
            self.told.listeners.remove(tell)
            if not self._waiting:
                self.cancel()

        waiting: Deferred[StoredTask] = Deferred(leave)
        self._waiting.append(waiting)
        if self._outcome is not None:
            self._ended(self._outcome)
        return waiting

    def cancel(self) -> None:
        """End it."""
        self._over()
        if self._work is not None:
            self._work.cancel()

    def _ended(self, outcome: StoredTask | Failure) -> None:
        """Tell all who wait."""
        self._over()
        self._outcome = outcome
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(outcome)  # a Failure is taken as one


@implementer(IDownloadTarget)
class _ToldTarget:
    """
    A target that reports its pieces as soon as they are committed.

    :param target: where they go.
    :param told: called for each piece.
    """

    def __init__(self, target: StoredTarget, told: _Told) -> None:
        self._target = target
        self._told = told
        self.directory = target.directory
        self.is_read_in_order = target.is_read_in_order
        self.release = target.release
        self.renew = target.renew
        self.keep_source_version = target.keep_source_version
        self.hold = target.hold
        self.publish = target.publish
        self.close = target.close
        self.subscribe = target.subscribe
        self.failure = target.failure

    @property
    def descriptor(self) -> int:
        return self._target.descriptor

    @property
    def is_behind(self) -> bool:
        return self._target.is_behind

    def open(self) -> Deferred[Found]:
        def opened(found: Found) -> Found:
            for metadata in found.pieces:
                if found.task is not None:
                    self._told.add(metadata, found.task.piece_length, found.task.content_length)
            return found

        return self._target.open().addCallback(opened)

    def claim(self, number: int) -> Deferred[Claim]:
        def claimed(claim: Claim) -> Claim:
            if claim.piece is not None:
                self._told.add(claim.piece)
            return claim

        return self._target.claim(number).addCallback(claimed)

    def commit(self, metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        def committed(_: None) -> None:
            self._told.add(metadata, piece_length, content_length)

        return self._target.commit(metadata, piece_length, content_length).addCallback(committed)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        self._told.forget(numbers)
        return self._target.drop(numbers)


def is_complete(task: StoredTask, pieces: Sequence[StoredPiece]) -> bool:
    """Whether a storage has all of a task, and none of its pieces is damaged."""
    if task.content_length is None or any(piece.damage for piece in pieces):
        return False
    return len(pieces) >= piece_count(task.content_length, task.piece_length)
