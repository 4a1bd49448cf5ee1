"""
A download of a whole task: the plan's requests are asked, their answers recorded, the bytes written and hashed, the
whole published.

Everything that is known changes in the reactor's thread alone. Where the bytes go, and what is done with them there, is
the target's business.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import outlast
from dragonfly_vortex.errors import (
    PieceError,
    PieceRefused,
    PieceTakenOver,
    SinkFailed,
    TaskDigestMismatch,
    TaskError,
    VortexError,
)
from dragonfly_vortex.interfaces import IDownloader, IDownloadTarget, InThread, IPieceAnnouncer
from dragonfly_vortex.model import Claim, DownloadPieceResponse, piece_id
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.task.disk import Allocation
from dragonfly_vortex.task.file_hash import GrowingHash
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.requests import Answer, Requests
from dragonfly_vortex.task.results import DownloadedTask, ParentShare, Progress, share_of
from dragonfly_vortex.task.scheduler import END_DISPUTED_AT, Plan
from dragonfly_vortex.task.trials import Trials
from dragonfly_vortex.wire import PieceKind, PieceMetadata, TrafficType

__all__ = ["DownloadedTask", "ParentShare", "Progress", "TaskDownload"]

_MOST_WAITING = 32 * 1024 * 1024
"""
Bytes that may wait to be hashed before no more is asked for. With as much under way, 8 pieces of 4 MiB, at most 64 MiB
are left to be hashed when the last piece comes.
"""

_LOOK_AGAIN = 2.0
"""Seconds after which it is tried again to claim what another process fetches: one that is killed tells nothing."""

_TICK = 0.5
"""Seconds between two looks at how far the requests are."""

_LATE_TICK = 2 * _TICK
"""Seconds between two such looks at the most, while this process keeps up with what comes."""

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
    :param task_id: the task, which is the SHA-256 of its content in small hexadecimal letters. The content of a task
        with any other ID, such as one made from a URL, never fits.
    :param parents: the addresses, ``HOST:PORT``, of those who may have it.
    :param target: an :class:`~dragonfly_vortex.interfaces.IDownloadTarget`.
    :param announcers: an :class:`~dragonfly_vortex.interfaces.IPieceAnnouncer` for each parent that has one. The others
        are asked for anything.
    :param concurrent_piece_count: how many pieces are asked for at once.
    :param retry: seconds without progress for which parents that failed are asked again, after growing pauses; 0 for
        not at all.
    :param late_after: seconds after which a piece is late: its parent is asked for fewer at once. A downloader's own
        time-out is as long.
    :param end_disputed_at: bytes from which on a parent is not followed without end where another one says that the
        task is much shorter.
    :param on_progress: called in the reactor's thread whenever a piece has come.
    :param on_wait: called with one line for each parent that is waited for.
    :raises ValueError: there is no parent, or nothing may be asked.
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
        announcers: Mapping[str, IPieceAnnouncer] | None = None,
        concurrent_piece_count: int = 8,
        retry: float = RETRY,
        late_after: float = 360.0,
        end_disputed_at: int = END_DISPUTED_AT,
        on_progress: Callable[[Progress], None] | None = None,
        on_wait: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.kind = kind
        self.task_id = task_id
        self.parents = tuple(dict.fromkeys(parents))
        self._reactor = reactor
        self._in_thread = in_thread
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._make_plan = partial(
            Plan,
            task_id,
            concurrent_piece_count=concurrent_piece_count,
            retry=retry,
            late_after=late_after,
            jitter=random.random,
        )
        self._plan = self._make_plan(parents=self.parents, end_disputed_at=end_disputed_at)
        self._trials = Trials(self._plan, self._make_trial, end_disputed_at)
        self._target = IDownloadTarget(target)
        self._announcers = announcers or {}
        self._stop_hearing: list[Callable[[], None]] = []
        self._stop_announcers: dict[str, Callable[[], None]] = {}
        self._look_again_at: float | None = None
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._ticked_at = 0.0
        self._lost_time = 0.0
        self._is_subscribed = False
        self._changes = 0  # of the target, that are under way
        self._dropping = 0  # drops at the target that are under way
        self._hash: GrowingHash | None = None
        self._allocation: Allocation | None = None
        self._drops = 0
        self._left_to_hash: int | None = None
        self._requests = Requests(reactor, in_thread, downloader, self._target, kind, task_id, self._answered)
        self._turn: Deferred[None] | None = None  # fires when all is there and hashed, or fails
        self._is_advancing = False
        self._running: Deferred[DownloadedTask] | None = None

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
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def cancel(self) -> None:
        """Give up, unless the file is being published by now. What :meth:`start` gave fires when nothing is left."""
        if self._running is not None:
            self._running.cancel()

    # -- from the beginning to the end ---------------------------------------------------------------------------------

    async def _run(self) -> DownloadedTask:
        """Open, fetch, verify and publish; and whatever happens, tidy up."""
        started = self._reactor.seconds()
        self._ticked_at = started
        self._plan.advance(self._time())
        try:
            await self._open()
            self._hash = GrowingHash(self._target.descriptor, self._in_thread, self._advance)
            self._allocation = Allocation(self._target.descriptor, self._in_thread)
            opened = self._reactor.seconds()
            self._lost_time += opened - self._ticked_at
            self._ticked_at = opened
            self._ticking.start(_TICK, now=False).addErrback(self._end_turn)
            await self._fetch_from_all_or_one(self._hash)
            await outlast(self._requests.stop())
            await outlast(self._allocation.stop())  # what it has made too much of is given back in the end
            with contextlib.suppress(CancelledError):  # too late: by now it is published
                await outlast(self._target.publish(self._plan.pieces.content_length or 0))
        finally:
            await self._tidy_up()
        return self._summary(self._reactor.seconds() - started)

    async def _open(self) -> None:
        """Open the target, and begin with what is there."""
        found = await outlast(self._target.open())
        if found.task is not None:
            self._plan.learn_layout(STORAGE, found.task.content_length, found.task.piece_length)
        refused = [metadata.number for metadata in found.pieces if not self._is_possible(metadata)]
        if refused:
            await outlast(self._target.drop(refused))
        if found.pieces:
            self._tell_progress()
        self._ask_for_announcements(*self.parents)

    def _ask_for_announcements(self, *parents: str) -> None:
        """Ask these parents what they have, and no others from now on."""
        self._stop_announcements()
        for parent in parents:
            if parent in self._announcers:
                self._plan.announcing_began(parent)
                self._inquire(parent)

    def _inquire(self, parent: str) -> None:
        """Ask a parent what it has, for the first time or once more."""
        self._stop_announcers[parent] = self._announcers[parent].start(
            self.kind,
            self.task_id,
            partial(self._hear, partial(self._plan.learn_layout, parent)),
            partial(self._hear, partial(self._plan.announce, parent)),
            partial(self._hear, partial(self._plan.announcing_ended, parent)),
        )

    def _stop_announcements(self) -> None:
        """Ask no parent any more what it has."""
        stops, self._stop_announcers = self._stop_announcers, {}
        for stop in stops.values():
            stop()

    def _hear(self, record: Callable[..., None], *told: int | None) -> None:
        """A parent has told something."""
        record(*told)
        self._advance()

    async def _fetch_from_all_or_one(self, growing: GrowingHash) -> None:
        """Have everything fetched from all parents together, and where that fails as each of them alone gives it."""
        while True:
            try:
                await self._fetch(growing)
            except TaskError as failure:
                self._stop_announcements()
                await outlast(self._requests.stop())
                await self._drop(self._plan.pieces.take_dropped())
                plan = self._trials.next(failure)
                if plan is None:
                    await self._drop(self._trials.doubtful())
                    raise self._verdict(failure) from failure
                self._begin_trial(plan, growing)
            else:
                await outlast(self._requests.stop())
                await self._drop(self._trials.succeed())
                for parent, lie in self._trials.lies.items():
                    self._log.warn("parent {parent} has lied: {lie}", parent=parent, lie=lie)
                return

    def _begin_trial(self, plan: Plan, growing: GrowingHash) -> None:
        """Go on with another plan: by the word of one parent alone, or of all. What has been hashed may change."""
        self._log.info(
            "task {task_id}: believing {parents} from now on", task_id=self.task_id, parents=", ".join(plan.parents)
        )
        self._plan = plan
        self._drops = plan.pieces.drops
        self._left_to_hash = None
        growing.start_anew()
        self._ask_for_announcements(*plan.parents)

    def _make_trial(self, parent: str, there: Mapping[int, VerifiedPiece], compares: bool, most: int) -> Plan:
        """The plan of one parent alone."""
        plan = self._make_plan(parents=[parent], there=there, compares=compares, end_disputed_at=most)
        plan.advance(self._time())
        return plan

    def _verdict(self, failure: TaskError) -> TaskError:
        """
        What the download ends with, when there is nothing left to be tried.

        :param failure: the last failure.
        """
        first = self._trials.failure or failure
        if not isinstance(first, TaskDigestMismatch) or self._trials.on_trial is None:
            return first
        lies = "".join(f"; parent {parent} has lied: {lie}" for parent, lie in self._trials.lies.items())
        return TaskDigestMismatch(self.task_id, f"{first.reason}; it is wrong as each parent alone gives it{lies}")

    async def _drop(self, numbers: Sequence[int]) -> None:
        """Have pieces dropped that are no good."""
        if numbers:
            await outlast(self._target.drop(numbers))

    async def _fetch(self, growing: GrowingHash) -> None:
        """Have everything fetched, until the file as a whole is what its ID says."""
        while True:
            self._turn = Deferred()
            self._advance()
            await self._turn
            if growing.text() == f"sha256:{self.task_id}":
                return
            self._left_to_hash = None
            self._plan.record_mismatch(growing.text().partition(":")[2])

    async def _tidy_up(self) -> None:
        """Leave nothing behind: no request, no thread at work, no temporary."""
        self._turn = None
        self._stop_announcements()
        for stop in self._stop_hearing:
            stop()
        if self._ticking.running:
            self._ticking.stop()
        await outlast(self._requests.stop(), forget_cancellation=True)
        if self._hash is not None:
            await outlast(self._hash.stop(), forget_cancellation=True)
        if self._allocation is not None:
            await outlast(self._allocation.stop(), forget_cancellation=True)
        try:
            await outlast(self._target.close(), forget_cancellation=True)
        except VortexError:
            self._log.failure("Something is left behind")

    def _summary(self, seconds: float) -> DownloadedTask:
        """What has been done, when it is done."""
        pieces = [self._plan.layout.verified[number] for number in range(self._plan.choice.end or 0)]
        return DownloadedTask(
            task_id=self.task_id,
            content_length=self._plan.pieces.content_length or 0,
            piece_length=self._plan.layout.piece_length or 0,
            piece_count=len(pieces),
            seconds=seconds,
            left_to_hash=self._left_to_hash or 0,
            shares=tuple(share_of(parent, pieces) for parent in self.parents),
            found_piece_count=share_of(STORAGE, pieces).piece_count,
            lies=dict(self._trials.lies),
        )

    # -- one thing after the other -------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Do all that can be done now. What changes meanwhile is seen by the same loop."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            self._plan.advance(self._time())
            self._tell_waits()
            while self._turn is not None and not self._turn.called and self._try_step(self._turn):
                pass
        finally:
            self._is_advancing = False

    def _try_step(self, turn: Deferred[None]) -> bool:
        """Do the next thing; whatever goes wrong, this turn ends with it. Tell whether there may be another thing."""
        try:
            return self._take_step(turn)
        except Exception:
            self._end_turn(Failure())
            return True  # there may be another turn by now

    def _take_step(self, turn: Deferred[None]) -> bool:
        """Do the next thing; tell whether there may be another."""
        withdrawn = self._plan.pieces.next_withdrawn()
        if withdrawn is not None:
            self._requests.give_up(withdrawn)
            return True
        inquiry = self._plan.waits.next_inquiry()
        if inquiry is not None:
            self._inquire(inquiry)
            return True
        self._drop_what_is_forgotten()
        if self._dropping:
            return False
        waiting = self._hash_what_is_there()
        if self._plan.is_complete:
            return self._take_last_step(turn, waiting)
        failure = self._plan.failure()
        if failure is not None:
            raise failure
        stuck = self._plan.stuck()
        if stuck is not None:
            raise self._target.failure(stuck)
        may_ask = waiting <= _MOST_WAITING and not self._target.is_behind
        request = self._plan.next_request() if may_ask else None
        if request is None:
            return False
        self._requests.ask(request, partial(self._plan.judge, request), needs_claim=not request.is_comparison)
        return True

    def _take_last_step(self, turn: Deferred[None], waiting: int) -> bool:
        """All pieces are there: what is still under way is superfluous, and when all is hashed this turn ends."""
        if self._left_to_hash is None:
            self._left_to_hash = waiting
        if not self._plan.is_end_doubtful:
            self._requests.give_up_all()
        if waiting or self._changes:
            return False
        turn.callback(None)
        return True  # this was the end, or there is another turn by now

    def _hash_what_is_there(self) -> int:
        """Have the verified bytes hashed; how many of them have not been."""
        if self._hash is None:
            return 0
        if self._hash.error is not None:
            raise self._target.failure(f"cannot be read back: {self._hash.error}") from self._hash.error
        if self._drops != self._plan.pieces.drops:
            self._drops = self._plan.pieces.drops
            self._hash.start_anew()
        self._hash.grow(self._plan.pieces.prefix_length)
        return self._hash.waiting

    def _make_room(self, metadata: PieceMetadata) -> None:
        """Have room on the disk behind a piece that has come."""
        if self._allocation is not None:
            self._allocation.reach(metadata.offset + metadata.length, self._plan.pieces.content_length)

    def _end_turn(self, failure: Failure) -> None:
        """Nothing more is to be done but tidying up."""
        if self._turn is not None and not self._turn.called:
            self._turn.errback(failure)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """See how far the requests are, and what time has changed."""
        now = self._reactor.seconds()
        self._lost_time += max(0.0, now - self._ticked_at - _LATE_TICK)
        self._ticked_at = now
        self._plan.advance(self._time())
        self._requests.report(self._plan.timing.progress)
        if self._turn is not None and not self._turn.called:
            self._target.renew()
            self._requests.look_at_claims()
        if self._look_again_at is not None and now >= self._look_again_at:
            self._look_again()
        else:
            self._advance()

    def _time(self) -> float:
        """
        The plan's time, in seconds. It stands still while this process does not run, or is too busy to see what comes:
        no parent is slow because of that.
        """
        return min(self._reactor.seconds(), self._ticked_at + _LATE_TICK) - self._lost_time

    def _tell_waits(self) -> None:
        """Tell what is waited for."""
        for line in self._plan.waits.take():
            self._log.info("{line}", line=line)
            self._on_wait(line)

    def _answered(self, answer: Answer) -> None:
        """A request has come to its end."""
        was_advancing, self._is_advancing = self._is_advancing, True  # once, when all that it changes is recorded
        try:
            self._plan.advance(self._time())
            self._record(answer)
            self._commit_or_release(answer)
        except Exception:  # whatever it is, the download ends with it
            self._end_turn(Failure())
        finally:
            self._is_advancing = was_advancing
        self._advance()

    def _record(self, answer: Answer) -> None:
        """Tell the plan what has become of a request."""
        request, result = answer.request, answer.result
        if not self._plan.choice.is_under_way(request):
            return  # it was given up with the plan before this one
        if answer.is_given_up:
            self._plan.record_cancelled(request)
        elif isinstance(result, DownloadPieceResponse):
            self._plan.record_verified(request, result.metadata, result.waited)
            self._make_room(result.metadata)
            self._tell_progress()
        elif isinstance(result, Claim):
            self._plan.record_busy(request, result.owner)
            if result.piece is None:
                self._wait_for_others()
            else:
                self._record_present(result.piece)
                self._tell_progress()
        elif answer.refusal is not None:
            self._plan.record_refusal(request, answer.refusal)
        elif isinstance(result.value, PieceError):
            self._plan.record_failure(request, result.value)
        else:
            self._plan.record_cancelled(request)
            self._end_turn(self._own_failure(result))

    def _commit_or_release(self, answer: Answer) -> None:
        """Have a verified piece committed; the claim to any other is given up when no other request needs it."""
        request, result = answer.request, answer.result
        is_verified = request.number in self._plan.layout.verified
        if isinstance(result, DownloadPieceResponse) and not answer.is_given_up and is_verified:
            # First: what it has shown to be wrong may have told the target of another piece length.
            self._drop_what_is_forgotten()
            self._commit(result.metadata, request.parent, answer.seconds)
        elif is_verified or request.number in self._plan.choice.under_way:
            return
        elif not isinstance(result, Claim) or result.is_ours:
            self._target.release(request.number)

    def _own_failure(self, failure: Failure) -> Failure:
        """What a failure that is no parent's means for the download."""
        if not isinstance(failure.value, SinkFailed):
            return failure
        error = self._target.failure(reason_of(failure.value.__cause__ or failure.value))
        error.__cause__ = failure.value
        return Failure(error)

    def _tell_progress(self) -> None:
        """Tell how far it is."""
        if self._on_progress is not None:
            progress = Progress(
                verified_bytes=self._plan.layout.verified_length,
                verified_pieces=len(self._plan.layout.verified),
                content_length=self._plan.pieces.content_length,
            )
            self._on_progress(progress)

    # -- the target ----------------------------------------------------------------------------------------------------

    def _commit(self, metadata: PieceMetadata, parent: str, seconds: float) -> None:
        """Have a verified piece committed."""
        row = replace(
            metadata,
            parent_id=parent,
            traffic_type=TrafficType.REMOTE_PEER,
            cost=int(seconds),
            created_at=int(time.time()),
        )
        # The parent on trial may say less than there is.
        length = self._plan.layout.content_length if self._trials.on_trial is None else None
        committed = self._target.commit(row, self._plan.layout.piece_length or 0, length)
        self._change(committed.addErrback(self._lost, metadata.number))

    def _lost(self, failure: Failure, number: int) -> None:
        """A piece could not be committed: another download has it. It is asked for again, or there by now."""
        failure.trap(PieceTakenOver)
        self._plan.record_lost(number)

    def _is_possible(self, metadata: PieceMetadata) -> bool:
        """Record a piece that was there before, unless it does not go together with the others that were."""
        try:
            self._plan.record_present(metadata)
        except PieceRefused:
            return False
        return True

    def _record_present(self, metadata: PieceMetadata) -> None:
        """A piece is there without this download having fetched it."""
        try:
            self._plan.record_present(metadata)
        except PieceRefused as refusal:
            name = piece_id(self.task_id, metadata.number)
            raise self._target.failure(f"piece {name} there contradicts what is known: {refusal}") from refusal

    def _drop_what_is_forgotten(self) -> None:
        """Have the pieces dropped that the plan has forgotten: until that is done nothing is written in their place."""
        dropped = self._plan.pieces.take_dropped()
        if dropped:
            self._dropping += 1
            self._change(self._target.drop(dropped)).addCallback(self._dropped)

    def _dropped(self, _: None) -> None:
        """Their places can be written again."""
        self._dropping -= 1
        self._advance()

    def _change(self, change: Deferred[None]) -> Deferred[None]:
        """The download ends no sooner than what has been begun at its target, and fails with it."""
        self._changes += 1
        return change.addBoth(self._changed).addErrback(self._end_turn)

    def _changed(self, result: Failure | None) -> Failure | None:
        """Something has been done at the target, or could not be."""
        self._changes -= 1
        if not isinstance(result, Failure):
            self._advance()
        return result

    def _wait_for_others(self) -> None:
        """Look again when somebody else may have fetched a piece, and if nothing is heard, after a while."""
        if not self._is_subscribed:
            self._is_subscribed = True
            self._stop_hearing.append(self._target.subscribe(self._look_again))
        if self._look_again_at is None:
            self._look_again_at = self._reactor.seconds() + _LOOK_AGAIN

    def _look_again(self) -> None:
        """What somebody else was fetching may be there, or may not come from there any more."""
        self._look_again_at = None
        self._plan.pieces.take_from_others()
        self._advance()
