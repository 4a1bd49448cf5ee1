"""
Follows the plan of a download: sends its requests, records the answers, commits and hashes the pieces.

What is known changes in the reactor's thread alone. Where the bytes go is the target's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import outlast
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import DigestMismatch, PieceError, PieceRefused, SinkFailed, TaskChanged, UnexpectedPiece
from dragonfly_vortex.interfaces import IDownloader, InThread, IPieceAnnouncer
from dragonfly_vortex.model import Claim, DownloadPieceResponse, piece_id
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.task.announcements import Inquiries
from dragonfly_vortex.task.commits import LOOK_AGAIN, Commits
from dragonfly_vortex.task.disk import Allocation, Reservation
from dragonfly_vortex.task.file_hash import TaskHash
from dragonfly_vortex.task.reporter import Reporter
from dragonfly_vortex.task.requests import Answer, Requests
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.timing import TICK, Request, RunningTime
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Fetcher"]

_MOST_WAITING = 32 * 1024 * 1024
"""
Bytes that may wait to be hashed before no more is asked for. With as much under way, 8 pieces of 4 MiB, at most 64 MiB
are left to be hashed when the last piece comes.
"""


class Fetcher:
    """
    Fetches the pieces of one task into its target, by one plan after the other.

    :param reactor: the clock.
    :param in_thread: how to call a function in a thread.
    :param target: where the pieces go; it is open, and stays so until :meth:`end` has fired.
    :param plan: the first plan.
    :param digest: the digest that the whole must have; empty for none, and then nothing is hashed.
    :param announcers: the parents that say what they have.
    :param source_version: the version of the source that pieces in the target are of; empty where that is not known.
    :param reporter: reports the events.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        in_thread: InThread,
        downloader: IDownloader,
        target: IDownloadTarget,
        plan: Plan,
        *,
        kind: PieceKind,
        task_id: str,
        digest: str,
        announcers: Mapping[str, IPieceAnnouncer],
        source_version: str,
        reporter: Reporter,
    ) -> None:
        self.plan = plan
        """The plan that is followed."""
        self.left_to_hash: int | None = None
        """Bytes that had not been hashed when the last piece had arrived; None before that."""
        self.task_id = task_id
        """The task, which lines of the log about this download name."""
        self._reactor = reactor
        self._target = target
        self._source_version = source_version
        self._reporter = reporter
        self._hash = TaskHash(target, in_thread, self._advance, digest)
        self._allocation = Allocation(target.descriptor, in_thread, task_id)
        self._reservation = Reservation(target.reserve, self._advance)
        self._refused_at: float | None = None  # when it was first seen that there is no room
        self.requests = Requests(
            reactor, in_thread, downloader, target, kind, task_id, self._answered, is_whole_verified=bool(digest)
        )
        self._inquiries = Inquiries(reactor, announcers, plan.announcements, kind, task_id, self._advance)
        self._unsubscribe: Callable[[], None] | None = None
        self._look_again_at = 0.0
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._running_time = RunningTime(reactor.seconds(), 2 * TICK)
        self.commits = Commits(reactor, target, plan, reporter, self._advance, self._fail)
        """What is changed at the target."""
        self._turn: Deferred[None] | None = None  # fires when all is there and hashed, or fails
        self._ended: Callable[[], None] | None = None  # fires the turn that has ended
        self._soon: IDelayedCall | None = None  # takes steps after a piece has begun
        self._events: deque[Callable[[], None]] = deque()  # what has changed; the first is being dealt with
        plan.advance(self._time())

    def follow(self, plan: Plan) -> None:
        """Follow this plan from now on: ask its parents, and no others, what they have."""
        self.plan = plan
        plan.advance(self._time())
        self.commits.follow(plan)
        self._reporter.follow(plan)
        if not self._ticking.running:
            self._ticking.start(TICK, now=False).addErrback(self._fail)
        self._inquiries.follow(plan.announcements)

    def add_parent(self, address: str) -> None:
        """Ask a parent that was added to the plan which pieces it has."""
        if address in self.plan.parents:
            self._inquiries.begin(address)
        self._advance()

    def remove_parent(self, address: str) -> None:
        """Stop asking a parent that was removed from the plan which pieces it has."""
        self._inquiries.end(address)
        self._advance()

    def choose_anew(self) -> None:
        """Choose the next requests again, because other pieces are wanted first."""
        self._advance()

    async def fetch(self) -> str:
        """
        Fetch all pieces of the plan.

        :returns: the digest of the whole, by the algorithm of the expected one; empty where there is none to expect.
        :raises TaskError: the plan has failed.
        """
        self.left_to_hash = None
        turn: Deferred[None] = Deferred()
        self._turn = turn
        self._advance()
        await turn
        return self._hash.text()

    async def stop(self) -> None:
        """Ask nothing more of the parents of this plan. Nothing is written to the target when this has returned."""
        self._inquiries.stop()
        await outlast(self.requests.stop())

    async def end(self) -> None:
        """End all work: no request, no thread at work; in spite of a cancellation."""
        self._turn = None
        self._inquiries.stop()
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._ticking.running:
            self._ticking.stop()
        for stop in (self.requests.stop, self._hash.stop, self._allocation.stop, self._reservation.stop):
            await outlast(stop(), forget_cancellation=True)
        if self._soon is not None and self._soon.active():
            self._soon.cancel()

    # -- one thing after the other -------------------------------------------------------------------------------------

    def _advance(self, record: Callable[[], None] = lambda: None) -> None:
        """
        Take steps until nothing more can be done now. What changes meanwhile comes after it, in the same loop.

        :param record: records what has changed.
        """
        self._events.append(record)
        if len(self._events) > 1:
            return  # the loop below is running
        while self._events:
            try:
                self.plan.advance(self._time())
                self._events[0]()
                self._take_steps()
            except Exception:  # of the plan, the target or the downloader, or a defect: the download ends with it
                self._end_turn(Failure())
            self._events.popleft()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()  # what follows may be another turn

    def _take_steps(self) -> None:
        """Take one step after the other, until there is none, or something else has changed."""
        self._reporter.look(self.plan)
        for waiting in self.plan.waits.take():
            self._log.info("{line}", line=waiting.text)
            self._reporter.wait(waiting)
        while self._is_fetching and len(self._events) == 1 and self._take_step():
            pass

    def _take_step(self) -> bool:
        """Do the next thing; return whether there may be another."""
        if (withdrawn := self.plan.pieces.next_withdrawn()) is not None:
            self.requests.give_up(withdrawn)
            return True
        if (inquiry := self.plan.waits.next_inquiry()) is not None:
            self._inquiries.repeat(inquiry)
            return True
        self.commits.drop_what_is_forgotten()
        if self.commits.is_dropping:
            return False
        # The bytes that have been hashed are no good any more when the plan has forgotten some.
        waiting = self._hash.follow((self.plan, self.plan.pieces.drops), self.plan.layout.prefix_length)
        if self.plan.is_complete:
            return self._take_last_step(waiting)
        if self.plan.is_known_empty:
            self._end_turn()
            return False
        if (failure := self.plan.failure()) is not None:
            raise failure
        if (stuck := self.plan.stuck()) is not None:
            raise self._target.failure(stuck)
        self._check_room()
        if waiting > _MOST_WAITING or self._target.is_behind:
            self.plan.timing.hold_back()
            return False
        if self.plan.pieces.swarm.is_on:
            self.requests.report(self.plan.timing.progress)  # a piece of which something has arrived does not move
        while (request := self.plan.next_request()) is not None:
            self.requests.ask(request, partial(self._judge, request), needs_claim=not request.is_comparison)
            if self.plan.pieces.swarm.is_on or len(self._events) > 1 or not self._is_fetching:
                return True  # what is above may have changed
        return False

    def _check_room(self) -> None:
        """
        Have room reserved for the whole, and end the download where there is none. Where there are several parents, the
        length may be one's lie: so others have some time to name another.

        :raises StorageFailure: there is no room.
        :raises OutputError: there is no room.
        """
        refusal = self._reservation.ask(self.plan.layout.content_length)
        self._allocation.skip(self._reservation.length)
        if refusal is None:
            self._refused_at = None
            return
        now = self._time()
        self._refused_at = now if self._refused_at is None else self._refused_at
        told = {parent.told_content_length for parent in self.plan.parents.values() if parent.is_honest} - {None}
        if len(told) < 2 and (len(self.plan.parents) == 1 or now >= self._refused_at + LOOK_AGAIN):
            raise refusal

    def _judge(self, request: Request, metadata: PieceMetadata) -> None:
        """Judge the beginning of a parent's answer: whether it can be the piece, and how long it has taken."""
        self.plan.advance(self._time())
        self.plan.judge(request, metadata)
        if self.plan.numbers.is_cautious and (self._soon is None or not self._soon.active()):
            self._soon = self._reactor.callLater(0, self._advance)  # the next piece may be asked for now

    def _take_last_step(self, waiting: int) -> bool:
        """All pieces are there: what is still under way is superfluous, and when all is hashed this turn ends."""
        if self.left_to_hash is None:
            self.left_to_hash = waiting
        if not self.plan.reputation.is_end_doubtful:
            self.requests.give_up_all()
        if not waiting and not self.commits.is_committing and len(self._events) == 1:
            self._end_turn()
        return False

    @property
    def _is_fetching(self) -> bool:
        """Whether a turn is under way."""
        return self._turn is not None and not self._turn.called

    def _end_turn(self, failure: Failure | None = None) -> None:
        """End the turn: no further step is taken in it. It fires when all that has happened by now is recorded."""
        if self._turn is not None:
            self._ended = partial(_fire, self._turn, failure)
            self._turn = None

    def _fail(self, failure: Failure) -> None:
        """End the turn with a failure that belongs to no request: the turn ends with it."""
        self._advance(partial(self._end_turn, failure))

    def _tick(self) -> None:
        """Report the progress of the requests, and advance the time of the plan."""
        now = self._reactor.seconds()
        self._running_time.tick(now)
        self.plan.advance(self._time())
        self.requests.report(self.plan.timing.progress)
        if self._is_fetching:
            self._target.renew()
            self.requests.look_at_claims()
        if now >= self._look_again_at:
            self._look_again()
        else:
            self._advance()

    def _time(self) -> float:
        """The plan's time, in seconds."""
        return self._running_time.at(self._reactor.seconds())

    # -- answers -------------------------------------------------------------------------------------------------------

    def _answered(self, answer: Answer) -> None:
        """Handle the end of a request."""
        self._advance(partial(self._record, answer))

    def _record(self, answer: Answer) -> None:
        """Record the outcome of a request, and commit, keep or release its piece."""
        self._record_in_plan(answer)
        self._commit_or_release(answer)

    def _record_in_plan(self, answer: Answer) -> None:
        """Record the outcome of a request in the plan."""
        request, result = answer.request, answer.result
        if request not in self.plan.numbers.under_way.get(request.number, ()):
            return  # it was given up with the plan before this one
        if answer.is_given_up:
            self.plan.record_cancelled(request, answer.received)
        elif isinstance(result, DownloadPieceResponse) and self._is_of_another_version(request, result):
            reason = f"expected version {self._source_version}, as that of other pieces, got {result.source_version}"
            name = piece_id(self.task_id, request.number)
            self.plan.record_failure(request, UnexpectedPiece(request.parent, name, reason))
        elif isinstance(result, DownloadPieceResponse):
            self.plan.numbers.is_cautious |= not result.repeats_id
            self.plan.record_verified(request, result.metadata, result.waited)
            if (end := result.metadata.offset + result.metadata.length) > self._allocation.enough_until:
                self._allocation.reach(end, self.plan.pieces.content_length)
        elif isinstance(result, Claim):
            self.plan.record_busy(request, result.owner)
            if result.piece is None:
                self._wait_for_others()
            else:
                self._record_present(result.piece)
                self._reporter.keep(self.plan, result.piece)
        elif answer.refusal is not None:
            self.plan.record_refusal(request, answer.refusal)
        elif isinstance(result.value, PieceError):
            if isinstance(result.value, DigestMismatch):
                self._reporter.mismatch(result.value.reason, request.number, request.parent)
            self.plan.record_failure(request, result.value)
        else:
            self.plan.record_cancelled(request)
            self._end_turn(self._own_failure(result))

    def _is_of_another_version(self, request: Request, response: DownloadPieceResponse) -> bool:
        """Whether a piece of the source is of another version than earlier ones, which may be of another day."""
        is_source = self.plan.parents[request.parent].is_source
        return is_source and self._source_version not in ("", response.source_version)

    def _commit_or_release(self, answer: Answer) -> None:
        """Have a verified piece committed; the claim to any other is given up when no other request needs it."""
        request, result = answer.request, answer.result
        is_verified = request.number in self.plan.layout.verified
        if isinstance(result, DownloadPieceResponse) and not answer.is_given_up and is_verified:
            # First: what it has shown to be wrong may have told the target of another piece length.
            self.commits.drop_what_is_forgotten()
            if self.plan.parents[request.parent].is_source and result.source_version:
                self._source_version = result.source_version
                self._target.keep_source_version(result.source_version)
            self.commits.commit(result, request.parent, answer.seconds)
        elif is_verified or request.number in self.plan.numbers.under_way:
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

    def _record_present(self, metadata: PieceMetadata) -> None:
        """Record a piece that another download has put to the target."""
        try:
            self.plan.record_present(metadata)
        except PieceRefused as refusal:
            name = piece_id(self.task_id, metadata.number)
            raise TaskChanged(f"stored piece {name} contradicts the others: {refusal}") from refusal

    # -- other downloads -----------------------------------------------------------------------------------------------

    def _wait_for_others(self) -> None:
        """Look again when another download may have fetched a piece; each tick does so, too, after a while."""
        if self._unsubscribe is None:
            self._unsubscribe = self._target.subscribe(self._look_again)

    def _look_again(self) -> None:
        """Look for pieces that other downloads have fetched, or fetch no more."""
        self._look_again_at = self._reactor.seconds() + LOOK_AGAIN
        self.plan.pieces.take_from_others()
        self._advance()


def _fire(turn: Deferred[None], failure: Failure | None) -> None:
    """Fire the Deferred of a turn that has ended, unless it was cancelled meanwhile."""
    if not turn.called:
        turn.callback(None) if failure is None else turn.errback(failure)
