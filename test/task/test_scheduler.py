"""Tests of the plan of a download: example by example, and with parents that do anything in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import (
    DigestMismatch,
    NoParentLeft,
    ParentFailed,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTimeout,
    TaskDigestMismatch,
    TaskError,
    TaskNotFound,
)
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import Standing
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.timing import SILENCE, Request
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import DIGEST, TASK_ID, PlanTestCase, piece, why
from test.wire.profiles import PROFILE


class LayoutTests(PlanTestCase):
    """The piece length is what the first piece says."""

    def test_nothing_before_the_first(self) -> None:
        """Until piece 0 is verified no other piece is asked of any parent."""
        self.begin("a", "b")
        self.assertEqual(self.numbers(self.ask_all()), [0])

    def test_all_at_once_then(self) -> None:
        """Behind it as many are asked for as may be under way, each of the parent that has least to do."""
        requests = self.begin_with_first("a", "b")
        self.assertEqual(self.numbers(requests), [1, 2, 3, 4])
        self.assertEqual(Counter(request.parent for request in requests), {"a": 2, "b": 2})
        self.assertEqual(self.plan.requests_under_way, 4)

    def test_one_after_the_other(self) -> None:
        """Parents that have equally much to do take turns, even if only one piece is asked for at once."""
        self.begin("a", "b", at_once=1)
        for parent in ("a", "b", "a", "b"):
            request = self.ask()
            self.assertEqual(request.parent, parent)
            self.give(request)

    def test_many_allowed(self) -> None:
        """Without a known end few pieces are asked for at first, and twice as many when those have arrived."""
        first = self.begin_with_first("a", at_once=9999)
        self.assertEqual(len(first), 32)
        for request in first:
            self.give(request)
        self.assertEqual(len(self.ask_all()), 33)

    def test_many_allowed_and_announced(self) -> None:
        """With a known end as many pieces are asked for as are allowed."""
        self.begin("a", at_once=9999)
        self.plan.announcements.learn("a", 10_000, 10)
        self.assertEqual(len(self.ask_all()), 1000)

    def test_lost(self) -> None:
        """A verified piece that could not be kept is asked for again; nothing was offered, so nothing is dropped."""
        requests = self.begin_with_first("a")
        self.give(requests[0])
        drops = self.plan.pieces.drops
        for _ in range(2):
            self.plan.pieces.lose([1])
        self.assertEqual(
            (self.plan.layout.prefix, self.plan.pieces.drops, self.plan.pieces.take_dropped()), (1, drops + 1, [])
        )
        self.assertEqual(self.ask().number, 1)

    def test_prefix(self) -> None:
        """What is verified without a gap is counted from the beginning, in pieces and bytes."""
        requests = self.begin_with_first("a")
        self.give(requests[1])
        self.assertEqual((self.plan.layout.prefix, self.plan.layout.prefix_length), (1, 10))
        self.give(requests[0])
        self.assertEqual((self.plan.layout.prefix, self.plan.layout.prefix_length), (3, 30))

    def test_offset_of_the_first(self) -> None:
        """Piece 0 starts at 0; a parent that says otherwise has lied."""
        self.begin("a", "b")
        self.assertEqual(self.refuse(self.ask(), piece(0, offset=10)), "expected offset 0, got 10")
        self.assertIs(self.plan.parents["a"].standing, Standing.LIED)
        self.assertEqual(self.ask().parent, "b")

    def test_number(self) -> None:
        """A piece with another number is refused."""
        self.begin("a")
        self.assertEqual(self.refuse(self.ask(), piece(1, offset=0)), "expected number 0, got 1")

    def test_offset_and_length(self) -> None:
        """Piece n starts at n times the piece length and is not longer; a parent that says otherwise has lied."""
        for metadata, reason in (
            (piece(1, offset=11), "expected offset 10, 1 x 10, got 11"),
            (piece(1, length=11), "expected at most 10 bytes, got 11"),
        ):
            self.begin("a", "b", at_once=1)
            self.give(self.ask())
            self.assertEqual(self.refuse(self.ask(), metadata), reason)
            self.assertIs(self.plan.parents["b"].standing, Standing.LIED)
            self.assertEqual(self.ask().parent, "a")

    def test_judged_again(self) -> None:
        """A piece that was possible when it was announced is refused if it is not any more when it is complete."""
        requests = self.begin_with_first("a", "b", "c")
        by_number = {request.number: request for request in requests}
        self.plan.judge(by_number[3], piece(3))
        self.give(by_number[2], length=4)
        self.give(by_number[3])
        self.assertIs(self.plan.parents[by_number[3].parent].standing, Standing.LIED)
        self.assertNotIn(3, self.plan.layout.verified)

    def test_no_parents(self) -> None:
        """A plan needs a parent, and leave to ask."""
        self.assertRaises(ValueError, Plan, TASK_ID, [], 1)
        self.assertRaises(ValueError, Plan, TASK_ID, ["a"], 0)


class EndTests(PlanTestCase):
    """The end is a shorter piece, or the number that no parent has."""

    def test_shorter_piece(self) -> None:
        """A shorter piece is the last: nothing beyond it is asked for, and with all before it the task is complete."""
        requests = self.begin_with_first("a", at_once=2)
        self.give(requests[1], length=4)
        self.assertEqual((self.plan.numbers.end, self.plan.pieces.content_length), (3, 24))
        self.assertEqual(self.ask_all(), [])
        self.assertFalse(self.plan.is_complete)
        self.give(requests[0])
        self.assertTrue(self.plan.is_complete)
        self.assertIsNone(self.plan.failure())

    def test_not_found(self) -> None:
        """After several full pieces the end is the first number that the only parent does not have."""
        self.fail_with(PieceNotFound, *self.begin_with_first("a"))
        self.assertTrue(self.plan.is_complete)
        self.assertEqual((self.plan.numbers.end, self.plan.pieces.content_length), (1, 10))
        self.assertIsNone(self.plan.next_request())

    def test_empty(self) -> None:
        """A first piece of no bytes is all there is."""
        self.begin("a")
        self.give(self.ask(), length=0)
        self.assertTrue(self.plan.is_complete)
        self.assertEqual((self.plan.pieces.content_length, self.plan.layout.prefix_length), (0, 0))

    def test_empty_last_piece(self) -> None:
        """A last piece of no bytes is one too."""
        requests = self.begin_with_first("a", at_once=1)
        self.give(requests[0], length=0)
        self.assertTrue(self.plan.is_complete)
        self.assertEqual((self.plan.numbers.end, self.plan.pieces.content_length), (2, 10))

    def test_nothing_beyond(self) -> None:
        """After a "not found" nothing beyond it is asked for; each other parent is asked for this number."""
        requests = self.begin_with_first("a", "b", "c", at_once=3)
        first = requests[0]
        self.fail_with(PieceNotFound, first)
        again = self.ask_all()
        self.assertEqual(self.numbers(again), [1])
        self.assertNotEqual(again[0].parent, first.parent)
        self.fail_with(PieceNotFound, *again)
        (third,) = self.ask_all()
        self.assertEqual({first.parent, again[0].parent, third.parent}, {"a", "b", "c"})
        self.assertIsNone(self.plan.numbers.end)
        self.fail_with(PieceNotFound, third, *requests[1:])
        self.assertEqual(self.plan.numbers.end, 1)

    def test_hold_is_lifted(self) -> None:
        """If another parent has the piece it goes on, and the one that lacks it is asked for others."""
        requests = self.begin_with_first("a", "b", at_once=2)
        self.fail_with(PieceNotFound, requests[0])
        self.give(requests[1])
        again = self.ask()
        self.assertEqual((again.number, again.parent), (1, requests[1].parent))
        self.give(again)
        self.assertEqual({request.parent for request in self.ask_all()}, {"a", "b"})

    def test_lowest_holds(self) -> None:
        """Of several numbers that are not found the lowest holds; lower ones are still asked for."""
        requests = self.begin_with_first("a", at_once=4)
        self.fail_with(PieceNotFound, requests[3], requests[2])
        self.assertEqual(self.ask_all(), [])
        self.fail_with(ParentUnreachable, requests[1])
        self.assertEqual(self.numbers(self.ask_all()), [2])

    def test_parent_out(self) -> None:
        """What a parent lacked counts when it is out, too: no parent is left that could have more."""
        self.begin("a", at_once=1)
        self.give(self.ask())
        self.fail_with(PieceNotFound, self.ask())
        self.assertTrue(self.plan.is_complete)

    def test_hole(self) -> None:
        """A number that no parent has is not the end if there are pieces after it: the download fails."""
        requests = self.begin_with_first("a", "b", at_once=2)
        self.give(requests[1])
        self.fail_with(PieceNotFound, requests[0])
        self.fail_with(PieceNotFound, self.ask())
        failure = self.plan.failure()
        self.assertIsInstance(failure, NoParentLeft)
        self.assertIn("piece 1 from parent", str(failure))

    def test_short_before_others(self) -> None:
        """A piece is not the last if an honest parent has sent one after it."""
        requests = self.begin_with_first("a", "b", at_once=2)
        self.give(requests[1])
        reason = self.refuse(requests[0], piece(1, length=3))
        self.assertEqual(reason, "expected 10 bytes, as others come after it, got 3")

    def test_beyond_the_end(self) -> None:
        """A piece after the last one is refused."""
        requests = self.begin_with_first("a", "b", at_once=2)
        self.give(requests[0], length=3)
        reason = self.refuse(requests[1], piece(2))
        self.assertEqual(reason, "expected nothing after piece 1, the last, got piece 2")


class NotFoundTests(PlanTestCase):
    """A task that no parent has."""

    def test_by_all(self) -> None:
        """When no parent has the first piece the task is not found; each was asked."""
        self.begin("a", "b")
        self.fail_with(PieceNotFound, self.ask())
        self.assertIsNone(self.plan.failure())
        self.fail_with(PieceNotFound, self.ask())
        self.assertIsInstance(self.plan.failure(), TaskNotFound)
        self.assertIn("a, b", str(self.plan.failure()))

    def test_by_one(self) -> None:
        """When one parent lacks it and another cannot be reached, the other's failure is raised."""
        self.begin("a", "b")
        self.fail_with(ParentUnreachable, self.ask())
        for _ in range(2):
            request = self.ask()
            self.fail_with(PieceNotFound if request.parent == "b" else ParentUnreachable, request)
        failure = self.plan.failure()
        self.assertIsInstance(failure, NoParentLeft)
        self.assertIsInstance(failure and failure.last, ParentUnreachable)  # type: ignore[attr-defined]  # it is a NoParentLeft


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """
    What a parent does.

    :param has: numbers of the pieces that it has.
    :param faults: what it does at its first, second, … request instead of an answer.
    :param piece_length: of the content that it serves; the true one, or it is a liar's.
    :param last_length: of the last piece that it serves.
    :param count: how many pieces that content has.
    """

    has: frozenset[int]
    faults: tuple[type[PieceError] | None, ...]
    piece_length: int
    last_length: int
    count: int

    def metadata(self, number: int) -> PieceMetadata:
        """What it says about a piece that it has."""
        length = self.last_length if number == self.count - 1 else self.piece_length
        return piece(number, length, piece_length=self.piece_length)


@dataclass
class Course:
    """A download that is played: a plan, parents that behave, and what must hold at every step."""

    plan: Plan
    parents: dict[str, Behaviour]
    at_once: int
    true: dict[str, bool]
    under_way: list[Request] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    in_vain: Counter[str] = field(default_factory=Counter)
    sent: dict[int, VerifiedPiece] = field(default_factory=dict)

    def play(self, order: st.DataObject) -> TaskError | None:
        """Play it to its end. The error that it ends with, None for success."""
        for _ in range(2000):
            while (withdrawn := self.plan.pieces.next_withdrawn()) is not None:
                if order.draw(st.booleans(), label="cancelled in time"):
                    self.under_way.remove(withdrawn)
                    self.plan.record_cancelled(withdrawn)
            if self.plan.is_complete:
                got = self.got()
                if got is None:
                    return None
                self.cancel_all()
                self.plan.reputation.record_mismatch(DIGEST, got)
                continue
            failure = self.plan.failure()
            if failure is not None:
                return failure
            while (request := self.plan.next_request()) is not None:
                self.ask(request)
            if not self.under_way:
                raise AssertionError(f"hangs: {vars(self.plan)}")
            self.answer(self.under_way.pop(order.draw(st.integers(0, len(self.under_way) - 1), label="answers")))
        raise AssertionError("does not come to an end")

    def cancel_all(self) -> None:
        """What a complete download does with what is still under way."""
        for request in self.under_way:
            self.plan.record_cancelled(request)
        self.under_way.clear()

    def ask(self, request: Request) -> None:
        """Check a request as it is made."""
        standing = self.plan.parents[request.parent].standing
        if standing in (Standing.OUT, Standing.LIED):
            raise AssertionError(f"{request} asked of a parent that is {standing}")
        if request.number in self.plan.layout.verified:
            raise AssertionError(f"{request} asks for what is verified")
        if any(other.number == request.number for other in self.under_way):
            raise AssertionError(f"{request} asks for what is under way")
        if self.plan.layout.piece_length is None and request.number:
            raise AssertionError(f"{request} asked before the first piece was there")
        self.under_way.append(request)
        if len(self.under_way) > self.at_once:
            raise AssertionError(f"{len(self.under_way)} under way")

    def answer(self, request: Request) -> None:
        """Answer a request as the parent does."""
        parent = self.parents[request.parent]
        nth = self.asked[request.parent]
        self.asked[request.parent] += 1
        fault = parent.faults[nth] if nth < len(parent.faults) else None
        if fault is not None:
            self.plan.record_failure(request, why(fault, request))
        elif request.number not in parent.has:
            self.in_vain[request.parent] += 1
            self.plan.record_failure(request, why(PieceNotFound, request))
        else:
            self.plan.record_verified(request, parent.metadata(request.number))
        self.check()

    def check(self) -> None:
        """A verified piece is never replaced, unless its parent has lied."""
        for number, sent in self.sent.items():
            if (
                self.plan.layout.verified.get(number) is not sent
                and self.plan.parents[sent.parent].standing is not Standing.LIED
            ):
                raise AssertionError(f"piece {number} of {sent.parent} has been forgotten")
        self.sent = dict(self.plan.layout.verified)

    def got(self) -> str | None:
        """The task's digest, None if it is right: if the pieces are the true content, and all of it."""
        true = next(parent for name, parent in self.parents.items() if self.true[name])
        pieces = [self.plan.layout.verified[number] for number in range(self.plan.numbers.end or 0)]
        is_right = len(pieces) == true.count and all(self.true[sent.parent] for sent in pieces)
        return None if is_right else "cd" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """
    How a parent takes its time.

    :param seconds: how long it takes for a piece.
    :param silent_from: its first request that it never answers.
    :param trickles: whether it sends a byte now and then instead of an answer, from that request on.
    :param down: from when to when it is away, in seconds after the start.
    """

    seconds: float
    silent_from: int = 10_000
    trickles: bool = False
    down: tuple[float, float] = (0.0, 0.0)

    def is_down(self, at: float) -> bool:
        """Whether it is away at that time."""
        return self.down[0] <= at < self.down[1]


@dataclass
class TimedCourse:
    """
    A download that is played against the clock, in steps of a quarter of a second: what it asks is checked at each.

    :ivar under_way: when each request was made, and the how manieth of its parent it is.
    """

    plan: Plan
    habits: dict[str, Habit]
    count: int
    at_once: int
    under_way: dict[Request, tuple[float, int]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def play(self, longest: float) -> float:
        """Play it to a good end; gives the seconds until then."""
        for step in range(int(longest * 4)):
            now = step / 4
            self.plan.advance(now)
            self.cancel()
            if self.plan.is_complete:
                return now
            failure = self.plan.failure()
            if failure is not None:
                raise failure
            while (request := self.plan.next_request()) is not None:
                self.ask(request, now)
            self.answer(now)
        raise AssertionError(f"not complete after {longest} s: {vars(self.plan)}")

    def cancel(self) -> None:
        """Cancel what is withdrawn."""
        while (withdrawn := self.plan.pieces.next_withdrawn()) is not None:
            del self.under_way[withdrawn]
            self.plan.record_cancelled(withdrawn)

    def ask(self, request: Request, now: float) -> None:
        """Check a request as it is made."""
        copies = [other for other in self.under_way if other.number == request.number]
        if any(other.parent == request.parent for other in copies):
            raise AssertionError(f"{request} asks the same parent twice at once")
        if sum(not other.is_spare for other in [*copies, request]) > 1:
            raise AssertionError(f"{request} would write where another request writes")
        if request.number in self.plan.layout.verified:
            raise AssertionError(f"{request} asks for what is verified")
        self.under_way[request] = now, self.asked[request.parent]
        self.asked[request.parent] += 1
        young = [made for made, _ in self.under_way.values() if now - made < SILENCE]
        if len(young) > self.at_once:
            raise AssertionError(f"{len(young)} under way that cannot be slow")

    def answer(self, now: float) -> None:
        """Answer the requests that are due."""
        for request, (made, nth) in list(self.under_way.items()):
            habit = self.habits[request.parent]
            if request not in self.under_way or self.plan.is_complete:
                continue
            if habit.is_down(now):
                del self.under_way[request]
                self.plan.record_failure(request, why(ParentUnreachable, request))
            elif nth >= habit.silent_from:
                if habit.trickles:
                    self.plan.timing.progress(request, int(now - made), 10_000)
            elif now - made >= habit.seconds:
                del self.under_way[request]
                length = 7 if request.number == self.count - 1 else 10
                if request.number < self.count:
                    self.plan.record_verified(request, piece(request.number, length))
                else:
                    self.plan.record_failure(request, why(PieceNotFound, request))
                self.cancel()


@st.composite
def timed_courses(draw: st.DrawFn, lone: bool) -> TimedCourse:
    """Downloads from one parent that answers, at times, and from others that fall silent, trickle or are away."""
    count, at_once = draw(st.integers(1, 12), label="pieces"), draw(st.integers(1, 6), label="at once")
    away = st.tuples(st.sampled_from((0.0, 0.5, 1.0)), st.sampled_from((0.0, 1.0, 3.0, 20.0)))
    habits = {"steady": Habit(seconds=draw(st.sampled_from((0.0, 0.25, 1.0))), down=draw(away) if lone else (0, 0))}
    for name in () if lone else ("p", "q", "r")[: draw(st.integers(1, 3), label="others")]:
        habits[name] = Habit(
            seconds=draw(st.sampled_from((0.0, 0.25, 1.0))),
            silent_from=draw(st.integers(0, 6)),
            trickles=draw(st.booleans()),
            down=draw(away),
        )
    plan = Plan(TASK_ID, draw(st.permutations(sorted(habits))), at_once, retry=30.0)
    return TimedCourse(plan=plan, habits=habits, count=count, at_once=at_once)


FAULTS = (None, ParentUnreachable, ParentFailed, PieceTimeout, DigestMismatch, PieceNotFound)


@st.composite
def courses(draw: st.DrawFn, liars: bool, faults: bool, partial: bool) -> Course:
    """Downloads of a task from parents of which one is steady: it has the whole task, and answers every request."""
    count = draw(st.integers(1, 9), label="pieces")
    last_length = draw(st.sampled_from((10, 7, 0)), label="last")
    at_once = draw(st.integers(1, 5), label="at once")
    every = frozenset(range(count))
    steady = Behaviour(has=every, faults=(), piece_length=10, last_length=last_length, count=count)
    parents, true = {"steady": steady}, {"steady": True}
    for name in ("p", "q", "r")[: draw(st.integers(0, 3), label="others")]:
        true[name] = not liars or draw(st.booleans(), label="true")
        own_count = count if true[name] else draw(st.integers(1, 9), label="pieces of a liar")
        own_every = frozenset(range(own_count))
        parents[name] = Behaviour(
            has=draw(st.frozensets(st.sampled_from(sorted(own_every)))) if partial else own_every,
            faults=tuple(draw(st.lists(st.sampled_from(FAULTS), max_size=6))) if faults else (),
            piece_length=10 if true[name] else draw(st.sampled_from((10, 5, 12))),
            last_length=last_length if true[name] else draw(st.sampled_from((5, 3, 0))),
            count=own_count,
        )
    order = draw(st.permutations(sorted(parents)))
    plan = Plan(TASK_ID, order, at_once)
    return Course(plan=plan, parents=parents, at_once=at_once, true=true)


class TimedPropertyTests(SynchronousTestCase):
    """Parents that take their time, against the clock."""

    @PROFILE
    @given(timed_courses(lone=False))
    def test_others_give_what_is_owed(self, course: TimedCourse) -> None:
        """
        With one parent that answers, the download is complete soon, whatever others owe; no request ever writes where
        another one does.

        Fails if :attr:`PieceNumbers.owed` stays empty.
        """
        self.assertLessEqual(course.play(60.0), 2 * course.count + 30)

    def test_those_that_never_answer(self) -> None:
        """
        Where one piece is asked for at once, parents that never answer are not asked before one that gives, each time
        they have rested.

        Fails if pieces are asked of the parent that was asked for least, as long as it has nothing to do.
        """
        silent = Habit(seconds=0.0, silent_from=0, trickles=True)
        habits = {"p": silent, "steady": Habit(seconds=1.0), "q": silent, "r": replace(silent, down=(0.0, 20.0))}
        plan = Plan(TASK_ID, list(habits), 1, retry=30.0)
        self.assertLess(TimedCourse(plan=plan, habits=habits, count=9, at_once=1).play(60.0), 25.0)

    @PROFILE
    @given(timed_courses(lone=True))
    def test_waits_for_the_only_parent(self, course: TimedCourse) -> None:
        """
        A lone parent that is away for less than the time for retries gives it all when it is back.

        Fails if :meth:`Waits.recover` does nothing.
        """
        self.assertLessEqual(course.play(60.0), 2 * course.count + 30)


class PropertyTests(SynchronousTestCase):
    """Parents that do anything, in any order."""

    @PROFILE
    @given(st.data(), courses(liars=False, faults=False, partial=False))
    def test_in_vain(self, order: st.DataObject, course: Course) -> None:
        """
        With whole and honest parents it succeeds, and no parent is asked uselessly more often than pieces may be under
        way.

        Fails if :meth:`Picker._askable` does not stop at the hold.
        """
        self.assertIsNone(course.play(order))
        self.assertLessEqual(max(course.in_vain.values(), default=0), course.at_once)

    @PROFILE
    @given(st.data(), courses(liars=False, faults=True, partial=True))
    def test_steady(self, order: st.DataObject, course: Course) -> None:
        """
        With one parent that is steady it succeeds, however the others fail, as long as they do not agree on another
        content.

        Fails if :meth:`PieceNumbers._is_end` does not ask whether a parent may have the piece.
        """
        self.assertIsNone(course.play(order))

    @PROFILE
    @given(st.data(), courses(liars=True, faults=True, partial=True))
    def test_anything(self, order: st.DataObject, course: Course) -> None:
        """
        With liars it comes to an end: in success, or in an error that says why not. Nothing that must hold is broken on
        the way.

        Fails if :meth:`Reputation.expose` does not have the layout forgotten.
        """
        failure = course.play(order)
        if failure is not None:
            self.assertIsInstance(failure, (NoParentLeft, TaskDigestMismatch))

    @PROFILE
    @given(st.data(), courses(liars=True, faults=False, partial=False))
    def test_lone_liar(self, order: st.DataObject, course: Course) -> None:
        """A download from liars with a content of their own ends in success or in a wrong digest, never in silence."""
        failure = course.play(order)
        if failure is not None:
            self.assertIsInstance(failure, TaskDigestMismatch)
