"""
Downloads a whole task: opens its target, follows the plan of all parents together, then if necessary that of each
parent alone, and publishes the whole. :mod:`~dragonfly_vortex.task.fetcher` follows each plan.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dragonfly_vortex.deferreds import outlast
from dragonfly_vortex.digest import digest_of_id, new_hash, parse_digest
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import PieceRefused, SourceError, TaskChanged, TaskError, VortexError
from dragonfly_vortex.events import (
    DownloadedTask,
    DownloadFailed,
    DownloadFinished,
    OnEvent,
    PieceUnderWay,
)
from dragonfly_vortex.interfaces import IDownloader, InThread, IPieceAnnouncer
from dragonfly_vortex.model import BackToSource, ByteRange, Found, SourceStat
from dragonfly_vortex.task.commits import LOOK_AGAIN
from dragonfly_vortex.task.fetcher import Fetcher
from dragonfly_vortex.task.layout import VerifiedPiece, Wanted
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.reporter import Reporter, summary_of
from dragonfly_vortex.task.scheduler import END_DISPUTED_AT, Plan
from dragonfly_vortex.task.trials import Trials
from dragonfly_vortex.wire import PieceKind

__all__ = ["TaskDownload"]

RETRY = 30.0
"""Seconds without progress for which parents that failed are asked again."""


class TaskDownload:
    """
    One download of one task to one place.

    :param reactor: the clock.
    :param in_thread: how to call a function in a thread.
    :param downloader: an :class:`~dragonfly_vortex.interfaces.IDownloader`, which also ends a request that takes too
        long.
    :param kind: the kind of the task's pieces.
    :param task_id: the task.
    :param parents: the addresses, ``HOST:PORT``, of parents that may have it.
    :param target: an :class:`~dragonfly_vortex.download_target.IDownloadTarget`.
    :param digest: the digest that the whole must have: ``sha256:<hex>``, ``sha512:<hex>`` or ``crc32:<decimal>``. Empty
        where none is known: then the target's decides, if it knows one, or else the length that parents say and the
        digest of each piece. None for the SHA-256 that the task's ID is.
    :param announcers: an :class:`~dragonfly_vortex.interfaces.IPieceAnnouncer` for each parent that has one. The others
        are asked for anything.
    :param concurrent_piece_count: how many pieces are asked for at once.
    :param retry: seconds without progress for which parents that failed are asked again, after growing pauses; 0 for
        not at all.
    :param late_after: seconds after which a piece is late: its parent is asked for fewer at once. A downloader's own
        time-out is as long.
    :param end_disputed_at: bytes from which on a parent is not followed without end where another one says that the
        task is much shorter.
    :param source: which of the parents is the source, that has everything and is asked last; empty for none.
    :param back_to_source: when it is asked. A source that is never to be asked is none of the parents.
    :param stat_source: asks the source what it has; None where there is no source. A download without a digest, that
        goes on with pieces of another version, drops them and begins anew.
    :param on_event: called in the reactor's thread with each event, see :mod:`dragonfly_vortex.events`. An exception
        that it raises ends the download, which fails with it.
    :raises ValueError: there is no parent, nothing may be asked, or the digest is none.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        in_thread: InThread,
        downloader: IDownloader,
        *,
        kind: PieceKind,
        task_id: str,
        parents: Sequence[str],
        target: IDownloadTarget,
        digest: str | None = None,
        announcers: Mapping[str, IPieceAnnouncer] | None = None,
        concurrent_piece_count: int = 8,
        retry: float = RETRY,
        late_after: float = 360.0,
        end_disputed_at: int = END_DISPUTED_AT,
        source: str = "",
        back_to_source: BackToSource = BackToSource.LAST_RESORT,
        stat_source: Callable[[], Deferred[SourceStat]] | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> None:
        self.kind = kind
        self.task_id = task_id
        self.digest = digest_of_id(task_id) if digest is None else digest
        """The digest that the whole must have; empty where none is known."""
        if self.digest:
            parse_digest(self.digest)
        self._reactor = reactor
        self._in_thread = in_thread
        self._downloader = downloader
        self._target = IDownloadTarget(target)
        self._announcers = dict(announcers or {})
        self._reporter = Reporter(on_event)
        self._stat_source = stat_source
        self.from_source: Counter[str] = Counter()
        """How many pieces have been asked of the source so far, by the reasons."""
        self._wanted = Wanted()
        self._make_plan = partial(
            Plan,
            task_id,
            concurrent_piece_count=concurrent_piece_count,
            retry=retry,
            late_after=late_after,
            jitter=random.random,
            end_disputed_at=end_disputed_at,
            is_in_order=target.is_read_in_order,
            source=source,
            back_to_source=back_to_source,
            from_source=self.from_source,
            wanted=self._wanted,
        )
        self._trials = Trials(self._make_plan(parents=parents), self._make_trial, end_disputed_at)
        self._running: Deferred[DownloadedTask] | None = None
        self._fetcher: Fetcher | None = None

    def start(self) -> Deferred[DownloadedTask]:
        """
        Download it. To be called once.

        :returns: fires when the task is at its target. Fails, when nothing is left to be done there, with
            :class:`~dragonfly_vortex.errors.TaskNotFound`, :class:`~dragonfly_vortex.errors.NoParentLeft`,
            :class:`~dragonfly_vortex.errors.TaskDigestMismatch`, with what the target fails with
            (:class:`~dragonfly_vortex.errors.OutputError`, :class:`~dragonfly_vortex.errors.StorageError`), or with
            what a downloader says that is about no parent, such as :class:`~dragonfly_vortex.errors.PoolClosed`.
            Cancelling it is :meth:`cancel`: it fails with ``CancelledError`` then.
        """
        self._running = Deferred.fromCoroutine(self._run_cancellably())
        return self._running

    def cancel(self) -> None:
        """Give up, unless the file is being published by now. What :meth:`start` gave fires when nothing is left."""
        if self._running is not None:
            self._running.cancel()

    def add_parent(self, parent: str, announcer: IPieceAnnouncer | None = None, *, is_awaited: bool = True) -> None:
        """
        Ask one more parent from now on, or one again that was removed or did not answer.

        :param parent: its address.
        :param announcer: what says which pieces it has; None where it is asked for anything.
        :param is_awaited: whether the source waits for what it may announce.
        """
        if announcer is not None:
            self._announcers[parent] = announcer
        self._trials.add_parent(parent, is_awaited=is_awaited)
        if self._fetcher is not None:
            self._fetcher.add_parent(parent)

    def remove_parent(self, parent: str) -> None:
        """
        Ask a parent for nothing more. Its requests that are under way go on, and its pieces stay.

        :param parent: its address.
        """
        self._trials.remove_parent(parent)
        if self._fetcher is not None:
            self._fetcher.remove_parent(parent)

    def want(self, ranges: Sequence[ByteRange], is_all: bool) -> None:
        """
        Ask for some ranges first from now on, or for these alone. A download ends when all of the task is there: one
        of which only ranges are wanted is cancelled when they are.

        :param ranges: what is wanted first.
        :param is_all: whether the rest is wanted, too.
        """
        self._wanted.ranges, self._wanted.is_all = ranges, is_all
        if self._fetcher is not None:
            self._fetcher.choose_anew()

    @property
    def rarest_parents(self) -> int | None:
        """How many parents have the piece that was chosen last; None where it is in no swarm. For any thread."""
        fetcher = self._fetcher
        return None if fetcher is None else fetcher.plan.pieces.swarm.rarest_parents

    def under_way(self) -> list[PieceUnderWay]:
        """The requests without an answer, with the bytes that arrived. Nothing is kept up to date between calls."""
        return [] if self._fetcher is None else self._fetcher.requests.under_way()

    # -- from the beginning to the end ---------------------------------------------------------------------------------

    async def _run_cancellably(self) -> DownloadedTask:
        """Download it. A listener may cancel it too: a coroutine cannot be cancelled while it runs, but soon after."""
        work = Deferred.fromCoroutine(self._run_and_report())

        def cancel() -> None:
            if self._reporter.is_reporting:
                self._reactor.callLater(0, work.cancel)
            else:
                work.cancel()

        return await outlast(work, forget_cancellation=True, cancelled=cancel)

    async def _run_and_report(self) -> DownloadedTask:
        """Download it, and report the end."""
        try:
            done = await self._run()
        except BaseException as error:
            self._reporter.end(DownloadFailed(error=type(error).__name__, reason=str(error)))
            raise
        self._reporter.end(DownloadFinished(task=done))
        return done

    async def _run(self) -> DownloadedTask:
        """Download it, from the beginning again where another download has changed what this one had verified."""
        started = self._reactor.seconds()
        while True:
            try:
                return await self._attempt(started)
            except TaskChanged as error:
                self._log.info("{reason}; it begins again", reason=str(error))
                self._reporter.begin_anew(str(error))
            await deferLater(self._reactor, LOOK_AGAIN)
            self._trials = self._trials.anew(self._make_plan(parents=[*self._trials.parents]))

    async def _attempt(self, started: float) -> DownloadedTask:
        """Open the target, fetch, verify and publish; close the target in any case."""
        try:
            found = await outlast(self._target.open())
            digest = self.digest or (found.task.digest if found.task is not None else "")
            outdated: list[int] = []
            if not digest and await self._is_of_another_version(found):
                outdated = [metadata.number for metadata in found.pieces]
                found = Found()
            fetcher = Fetcher(
                self._reactor,
                self._in_thread,
                self._downloader,
                self._target,
                self._trials.plan,
                kind=self.kind,
                task_id=self.task_id,
                digest=digest,
                announcers=self._announcers,
                source_version=found.task.source_version if found.task is not None else "",
                reporter=self._reporter,
            )
            try:
                await self._begin(fetcher, found, outdated, digest)
                self._fetcher = fetcher
                await self._fetch_from_all_or_one(fetcher, digest)
            finally:
                self._fetcher = None
                await fetcher.end()
            with contextlib.suppress(CancelledError):  # too late: by now it is published
                await outlast(self._target.publish(fetcher.plan.pieces.content_length or 0))
        finally:
            await self._close()
        return summary_of(
            fetcher.plan,
            [*self._trials.parents],
            seconds=self._reactor.seconds() - started,
            left_to_hash=fetcher.left_to_hash or 0,
            lies=self._lies(fetcher.plan, digest),
            digest=digest,
            from_source=self.from_source,
        )

    async def _is_of_another_version(self, found: Found) -> bool:
        """Whether the pieces that are there came from another version of the source than it has now."""
        if self._stat_source is None or found.task is None or not found.task.source_version:
            return False
        try:
            stat = await self._stat_source()
        except SourceError:
            return False  # it is asked again for pieces, and what is wrong is said then
        return stat.version != found.task.source_version

    async def _begin(self, fetcher: Fetcher, found: Found, outdated: Sequence[int], digest: str) -> None:
        """Begin with the pieces at the target; drop those of an earlier version, and those that contradict others."""
        if outdated:
            reason = "the source has another version than the pieces that are there; beginning anew"
            await fetcher.commits.drop(outdated, reason)
        plan, refused = fetcher.plan, []
        if found.task is not None:
            plan.announcements.learn(STORAGE, found.task.content_length, found.task.piece_length)
        for metadata in found.pieces:
            try:
                plan.record_present(metadata)
            except PieceRefused:
                refused.append(metadata.number)
        await fetcher.commits.drop(refused)
        plan.may_be_empty = not digest
        if not found.pieces and digest in (new_hash("sha256").text(), new_hash("sha512").text()):
            await fetcher.commits.put_nothing()  # the digest says that there is nothing to ask for
        for metadata in found.pieces:
            if plan.has(metadata.number):
                self._reporter.keep(plan, metadata)
        fetcher.follow(plan)

    async def _fetch_from_all_or_one(self, fetcher: Fetcher, digest: str) -> None:
        """
        Have everything fetched from all parents together, and where that fails as each of them alone gives it. Without
        a digest it would not be known whether one of them alone is right.
        """
        while True:
            try:
                await self._fetch(fetcher, digest)
            except TaskError as failure:
                await fetcher.stop()
                await fetcher.commits.hold()
                await fetcher.commits.drop(fetcher.plan.pieces.take_dropped())
                plan = self._trials.next(failure) if digest else None
                if plan is None:
                    await fetcher.commits.drop(self._trials.doubtful())
                    raise self._trials.verdict(failure) from failure
                self._log.info(
                    "task {task_id}: believing {parents} from now on",
                    task_id=self.task_id,
                    parents=", ".join(plan.parents),
                )
                fetcher.follow(plan)
            else:
                await fetcher.stop()
                await fetcher.commits.drop(self._trials.succeed())
                for parent, lie in self._lies(fetcher.plan, digest).items():
                    what = "has lied" if digest else "contradicts the other parents"
                    self._log.warn("parent {parent} {what}: {lie}", parent=parent, what=what, lie=lie)
                return

    async def _fetch(self, fetcher: Fetcher, digest: str) -> None:
        """Have everything fetched, until the file has its digest, or its length where there is none."""
        while True:
            got = await fetcher.fetch()
            if digest:
                if got == digest:
                    return
                self._reporter.mismatch(f"expected {digest}, got {got}")
                await fetcher.commits.hold()
                fetcher.plan.reputation.record_mismatch(digest, got)
            elif fetcher.plan.is_known_empty:
                await fetcher.commits.put_nothing()
            elif fetcher.plan.layout.content_length is not None:
                return
            else:
                fetcher.plan.reputation.record_unknown_end()

    def _lies(self, plan: Plan, digest: str) -> dict[str, str]:
        """What parents have said that others contradict; without a digest it is not known which of them are right."""
        return self._trials.lies if digest else plan.reputation.disagreements | self._trials.lies

    def _make_trial(self, parent: str, there: Mapping[int, VerifiedPiece], compares: bool, most: int) -> Plan:
        """The plan of one parent alone."""
        return self._make_plan(parents=[parent], there=there, compares=compares, end_disputed_at=most)

    async def _close(self) -> None:
        """Close the target, in spite of a cancellation."""
        try:
            await outlast(self._target.close(), forget_cancellation=True)
        except VortexError:
            self._log.failure("The end of a download failed")
