"""Tests of decisions by time, through the plan, which gets the time as an argument."""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NoParentLeft, ParentFailed, ParentUnreachable, PieceLate, PieceTimeout
from dragonfly_vortex.task.parent_state import Standing
from dragonfly_vortex.task.timing import SILENCE, Request, RunningTime, backoff
from test.task.planning import PlanTestCase, piece


class RunningTimeTests(SynchronousTestCase):
    """The time of a process that may be stopped."""

    def test_stopped(self) -> None:
        """It goes on with the clock, stands still one tick after the last, and goes on from there with the next."""
        time = RunningTime(100.0, 1.0)
        self.assertEqual([time.at(now) for now in (100.0, 100.5, 101.0, 150.0)], [100.0, 100.5, 101.0, 101.0])
        time.tick(100.5)
        self.assertEqual(time.at(101.5), 101.5)
        time.tick(150.0)
        self.assertEqual([time.at(now) for now in (150.0, 150.5, 160.0)], [101.5, 102.0, 102.5])


class PauseTests(PlanTestCase):
    """The pauses before a parent is asked again."""

    def test_grow(self) -> None:
        """They are twice as long each time, up to eight seconds, and at random up to half as long."""
        self.assertEqual([backoff(n, 1.0) for n in range(7)], [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0])
        self.assertEqual([backoff(n, 0.0) for n in (0, 4, 10_000)], [0.25, 4.0, 4.0])


class SlowTests(PlanTestCase):
    """What a slow parent owes is asked of another one as well."""

    def of(self, parent: str, requests: list[Request]) -> list[Request]:
        """The requests to a parent."""
        return [request for request in requests if request.parent == parent]

    def test_silent(self) -> None:
        """A piece of which nothing has arrived for a few seconds is asked of another parent, in a place of its own."""
        self.begin("a", "b")
        first = self.ask()
        self.wait(SILENCE - 0.1)
        self.assertEqual(self.ask_all(), [])
        self.wait(0.5)
        (second,) = self.ask_all()
        self.assertEqual((first.parent, second.parent, second.number), ("a", "b", 0))
        self.assertEqual((first.is_spare, second.is_spare), (False, True))
        self.give(second)
        self.assertEqual(self.withdrawn(), [first])

    def test_progress(self) -> None:
        """A piece that comes at a good rate is not slow, however long it is."""
        self.begin("a", "b")
        first = self.ask()
        for received in range(1, 10):
            self.wait(1)
            self.plan.timing.progress(first, received * 1000, 10_000)
        self.assertEqual(self.ask_all(), [])

    def test_trickle(self) -> None:
        """One that would take far longer than others take for a whole piece is slow, though bytes come."""
        requests = self.begin_with_first("a", "b", at_once=2)
        (slow,), (good,) = self.of("a", requests), self.of("b", requests)
        self.wait(0.5)
        self.give(good)
        for received in range(1, 6):
            self.wait(1)
            self.plan.timing.progress(slow, received, 10_000)
            for request in self.ask_all():
                self.assertEqual(request.parent, "b")
                if request.number == slow.number:
                    return
                self.give(request)
        self.fail("it was asked of no other parent")

    def test_lone(self) -> None:
        """A lone parent is waited for until something comes; one line names it."""
        requests = self.begin_with_first("a")
        self.assertEqual(len(requests), 4)
        for _ in range(20):
            self.wait(1)
        self.assertEqual(self.ask_all(), [])
        self.assertEqual(
            [waiting.text for waiting in self.plan.waits.take()], ["parent a has sent nothing for 7 s; waiting for it"]
        )
        self.plan.timing.progress(requests[0], 5, 10)
        self.wait(1)
        for _ in range(6):
            self.wait(1)
        self.assertEqual(len(self.plan.waits.take()), 1)

    def test_all_silent(self) -> None:
        """Where all parents are silent, none is asked for what another owes."""
        self.begin_with_first("a", "b")
        self.wait(10)
        self.assertEqual(self.ask_all(), [])

    def test_does_not_count(self) -> None:
        """Slow requests leave their places to others: a parent that answers is asked for as many as ever."""
        requests = self.begin_with_first("a", "b", at_once=4)
        silent, answering = self.of("a", requests), self.of("b", requests)
        self.assertEqual((len(silent), len(answering)), (2, 2))
        self.wait(SILENCE)
        for request in answering:
            self.give(request)
        again = self.ask_all()
        self.assertEqual((len(again), {request.parent for request in again}), (4, {"b"}))
        self.assertLess({request.number for request in silent}, {request.number for request in again})

    def test_left_alone(self) -> None:
        """A parent whose piece another one gave is left alone for a while, and then asked for one piece at a time."""
        self.begin("a", "b", at_once=4)
        silent = self.ask()
        self.wait(SILENCE)
        self.give(self.ask())
        (withdrawn,) = self.withdrawn()
        self.plan.record_cancelled(withdrawn)
        requests = self.ask_all()
        self.assertEqual({request.parent for request in requests}, {"b"})
        self.give(requests[0])
        self.wait(0.6)
        for request in requests[1:]:
            self.give(request)
        self.assertEqual(len(self.of(silent.parent, self.ask_all())), 1)

    def test_first_copy(self) -> None:
        """Whichever copy comes first counts, and the other is cancelled; then the place is free for a new one."""
        self.begin("a", "b", at_once=1)
        first = self.ask()
        self.wait(SILENCE)
        second = self.ask()
        self.give(first)
        self.assertEqual(self.withdrawn(), [second])
        self.give(second)
        self.assertEqual(self.plan.layout.verified[0].parent, "a")

    def test_copy_fails(self) -> None:
        """Where the other copy fails, the slow request still counts, and its place is not taken by a new one."""
        self.begin("a", "b", "c", at_once=4)
        first = self.ask()
        self.wait(SILENCE)
        self.fail_with(ParentFailed, self.ask())
        self.wait(1)
        third = self.ask()
        self.assertEqual((third.number, third.is_spare), (0, True))
        self.fail_with(ParentFailed, first)
        self.assertIsNone(self.plan.failure())
        self.give(third)
        self.assertIn(0, self.plan.layout.verified)

    def test_slow_from_habit(self) -> None:
        """A parent that takes long for each piece may take long to begin with one."""
        self.begin("a", "b", at_once=2)
        for _ in range(3):
            requests = self.ask_all()
            self.wait(2)
            for request in requests:
                self.give(request)
        requests = self.ask_all()
        self.wait(2)
        (by_b,) = self.of("b", requests)
        self.give(by_b)
        self.wait(2)
        self.assertNotIn(self.of("a", requests)[0].number, self.numbers(self.ask_all()))

    def test_queue(self) -> None:
        """A piece that its parent has promised may wait there for four times as long as one that it has not."""
        self.begin("a", "b")
        first = self.ask()
        self.plan.judge(first, piece(0))
        self.wait(4 * SILENCE - 0.1)
        self.assertEqual(self.ask_all(), [])
        self.wait(0.5)
        self.assertEqual(self.ask().number, 0)

    def test_one_after_the_other(self) -> None:
        """Parents that send one piece after the other, and a little of the others, are asked for no piece twice."""
        self.begin("a", "b", at_once=8)
        received = dict.fromkeys(self.ask_all(), 0)
        for second in range(1, 40):
            self.wait(1)
            for parent in ("a", "b"):
                for place, request in enumerate(self.of(parent, list(received))):
                    step = 10 * (second % 5 == 0) if place else 200
                    received[request] = min(1000, received[request] + step)
                    self.plan.timing.progress(request, received[request], 1000)
                    if received[request] == 1000:
                        del received[request]
                        self.give(request)
            asked = {request.number for request in received}
            more = self.ask_all()
            self.assertFalse(asked & set(self.numbers(more)), f"after {second} s")
            received |= dict.fromkeys(more, 0)

    def test_queue_of_a_frozen_parent(self) -> None:
        """Where a parent that sends one piece after the other stands still, all that it owes is asked of another."""
        requests = self.begin_with_first("a", "b", at_once=8)
        owed = self.of("a", requests)
        for second in range(1, 4):
            self.wait(1)
            self.plan.timing.progress(owed[0], second, 10)
            for request in self.of("b", requests):
                self.plan.timing.progress(request, second, 10)
        for request in self.of("b", requests):
            self.give(request)
        self.ask_all()
        self.wait(SILENCE + 0.5)
        self.ask_all()
        self.assertTrue(all(map(self.plan.timing.is_slow, owed)))

    def test_after_the_queue(self) -> None:
        """The rate of a piece counts from when its content began to arrive."""
        requests = self.begin_with_first("a", "b", at_once=2)
        (queued,), (good,) = self.of("a", requests), self.of("b", requests)
        self.wait(0.5)
        self.give(good)
        self.plan.judge(queued, piece(queued.number))
        for request in self.ask_all():
            self.give(request)
        self.wait(4)
        self.plan.timing.progress(queued, 0, 10_000)
        for received in (1_000, 2_000):
            self.wait(0.5)
            self.plan.timing.progress(queued, received, 10_000)
            self.assertNotIn(queued.number, self.numbers(self.ask_all()))


class LateTests(PlanTestCase):
    """A way on which pieces come late gets fewer at once."""

    def test_fewer(self) -> None:
        """Pieces that come too late, though they come, halve how many there are at once, together once, down to one."""
        requests = self.begin_with_first("a", at_once=8, late_after=6.0)
        for expected in (4, 2, 1, 1):
            self.wait(7)
            for request in requests:
                self.give(request)
            requests = self.ask_all()
            self.assertEqual(len(requests), expected)
        self.assertIs(self.plan.parents["a"].standing, Standing.GOOD)

    def test_own_limit(self) -> None:
        """The time that this side's own limit took does not make a piece late."""
        requests = self.begin_with_first("a", at_once=8, late_after=6.0)
        self.wait(16)
        for request in requests:
            self.plan.record_verified(request, piece(request.number), waited=15.0)
        self.assertEqual(len(self.ask_all()), 8)

    def test_more(self) -> None:
        """Each piece that comes early gives one more at once."""
        requests = self.begin_with_first("a", at_once=4, late_after=8.0)
        self.wait(9)
        for request in requests:
            self.give(request)
        sizes = []
        for _ in range(3):
            requests = self.ask_all()
            sizes.append(len(requests))
            self.wait(1)
            for request in requests:
                self.give(request)
        self.assertEqual(sizes, [2, 4, 4])

    def test_neither(self) -> None:
        """A piece that is neither late nor early changes nothing."""
        requests = self.begin_with_first("a", at_once=4, late_after=8.0)
        sizes = []
        for seconds in (9, 2, 2):
            self.wait(seconds)
            for request in requests:
                self.give(request)
            requests = self.ask_all()
            sizes.append(len(requests))
        self.assertEqual(sizes, [2, 2, 2])

    def test_unseen(self) -> None:
        """Over a transport that shows no progress, a time-out of pieces that shared the way puts no parent out."""
        requests = self.begin_with_first("a", at_once=8)
        for expected in (4, 2, 1):
            self.wait(360)
            self.fail_with(PieceLate, *requests)
            self.assertIs(self.plan.parents["a"].standing, Standing.GOOD)
            requests = self.ask_all()
            self.assertEqual(len(requests), expected)
        self.wait(360)
        self.fail_with(PieceLate, *requests)
        self.assertIs(self.plan.parents["a"].standing, Standing.OUT)


class RetryTests(PlanTestCase):
    """A parent that has failed is asked again after growing pauses, as long as there is progress now and then."""

    def fail_twice(self) -> None:
        """Have the only parent fail until it is out."""
        self.fail_with(ParentUnreachable, *self.ask_all())
        self.fail_with(ParentUnreachable, *self.ask_all())

    def test_again(self) -> None:
        """It is asked for one piece after a pause, for as many as ever when that has arrived, and nothing is lost."""
        self.fail_with(ParentUnreachable, *self.begin_with_first("a", retry=30.0))
        self.fail_twice()
        self.assertEqual((self.ask_all(), self.plan.failure()), ([], None))
        self.assertEqual(set(self.plan.layout.verified), {0})
        self.wait(0.6)
        (probe,) = self.ask_all()
        self.give(probe)
        self.assertEqual((self.plan.parents["a"].standing, len(self.ask_all())), (Standing.GOOD, 4))

    def test_pauses(self) -> None:
        """The pauses grow while it goes on to fail."""
        self.begin("a", retry=60.0)
        self.fail_twice()
        asked_at = []
        for _ in range(160):
            self.wait(0.25)
            requests = self.ask_all()
            if requests:
                asked_at.append(self.now)
                self.fail_with(ParentUnreachable, *requests)
        pauses = [later - sooner for sooner, later in pairwise(asked_at)]
        self.assertEqual(pauses[:6], [1.0, 2.0, 4.0, 8.0, 8.0, 8.0])

    def test_limit(self) -> None:
        """After so long without progress the download ends with the last failure."""
        self.begin("a", retry=10.0)
        self.fail_twice()
        failure = None
        while (failure := self.plan.failure()) is None:
            self.wait(0.5)
            self.fail_with(ParentUnreachable, *self.ask_all())
        self.assertIsInstance(failure, NoParentLeft)
        self.assertTrue(110 <= self.now <= 112, self.now)

    def test_told(self) -> None:
        """One line says that it is asked again, why and for how long."""
        self.begin("a", "b", retry=10.0)
        self.fail_twice()
        for _ in range(8):
            self.wait(0.5)
            self.fail_with(ParentUnreachable, *self.ask_all())
        line = "parent {} failed (expected a piece, got none); asking it again for up to 10 s without progress"
        self.assertEqual([waiting.text for waiting in self.plan.waits.take()], [line.format("a"), line.format("b")])

    def test_time_out(self) -> None:
        """So is one that was silent for too long, if there was progress elsewhere; otherwise that was long enough."""
        self.fail_with(PieceTimeout, self.begin_with_first("a", retry=30.0, at_once=1)[0])
        self.assertIs(self.plan.parents["a"].standing, Standing.OUT)
        self.wait(1)
        self.assertEqual(len(self.ask_all()), 1)
        (request,) = self.begin_with_first("a", retry=30.0, at_once=1)
        self.wait(360)
        self.fail_with(PieceTimeout, request)
        self.wait(0.25)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_one_piece(self) -> None:
        """A piece that a parent fails to give, while it gives others, is asked for again, until the download fails."""
        requests = self.begin_with_first("a", retry=10.0, at_once=2)
        self.fail_with(ParentFailed, requests[0])
        self.give(requests[1], length=3)
        failure = None
        while (failure := self.plan.failure()) is None:
            self.fail_with(ParentFailed, *self.ask_all())
            self.wait(0.5)
        self.assertIsInstance(failure, NoParentLeft)
        self.assertTrue(110 <= self.now <= 113, self.now)

    def test_not_again(self) -> None:
        """Without leave to retry it is over at once."""
        self.begin("a")
        self.fail_twice()
        self.assertIsInstance(self.plan.failure(), NoParentLeft)
