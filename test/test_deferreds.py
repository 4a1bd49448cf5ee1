"""Waiting for an end, in spite of a cancellation, for as long as there is progress, and with a call when it is late."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.deferreds import Ending, FlatLock, add_deadline, call_if_late, failures_of, outlast


class EndingTests(SynchronousTestCase):
    """An end that comes when nothing is left of what the test has under way."""

    def setUp(self) -> None:
        self.left = ["a thread"]
        self.ending = Ending(lambda: not self.left)

    def test_nothing_left(self) -> None:
        """Where nothing is left there is nothing to wait for."""
        self.left.clear()
        self.successResultOf(self.ending.wait())
        self.assertFalse(self.ending.is_awaited)

    def test_something_left(self) -> None:
        """All waiting Deferreds fire when the last has ended and :meth:`look` is called, not before."""
        self.assertFalse(self.ending.is_awaited)
        waiting = [self.ending.wait(), self.ending.wait()]
        self.ending.look()
        for each in waiting:
            self.assertNoResult(each)
        self.assertTrue(self.ending.is_awaited)
        self.left.clear()
        self.ending.look()
        for each in waiting:
            self.successResultOf(each)
        self.assertFalse(self.ending.is_awaited)

    def test_comes_again(self) -> None:
        """After a new beginning there is another end; Deferreds that have fired are not concerned."""
        first = self.ending.wait()
        self.left.clear()
        self.ending.look()
        self.left.append("another thread")
        second = self.ending.wait()
        self.successResultOf(first)
        self.assertNoResult(second)

    def test_told_once(self) -> None:
        """A second look while the Deferreds fire fires none twice."""
        told: list[str] = []

        def hear(_: None, name: str) -> None:
            told.append(name)
            self.ending.look()

        for name in ("first", "second"):
            self.ending.wait().addCallback(hear, name)
        self.left.clear()
        self.ending.look()
        self.assertEqual(told, ["first", "second"])


class FlatLockTests(SynchronousTestCase):
    """A lock that many wait for."""

    def test_many(self) -> None:
        """Hundreds that release it at once hold it one after the other, and it is free then."""
        lock, first = FlatLock(), Deferred[int]()
        done: list[int] = []
        holding = 0

        async def hold(number: int) -> None:
            nonlocal holding
            async with lock:
                holding += 1
                self.assertEqual(holding, 1)
                if not number:
                    await first
                holding -= 1
                done.append(number)

        holders = [Deferred.fromCoroutine(hold(number)) for number in range(600)]
        first.callback(0)
        for each in holders:
            self.successResultOf(each)
        self.assertEqual((done, lock.locked), ([*range(600)], False))


class FailuresTests(SynchronousTestCase):
    """Waiting for all of some Deferreds."""

    def test_waits_for_all(self) -> None:
        """A failure does not end the waiting for the others; the failures come in the order of the Deferreds."""
        deferreds: list[Deferred[None]] = [Deferred() for _ in range(3)]
        waiting = Deferred.fromCoroutine(failures_of(deferreds))
        deferreds[2].errback(ValueError("last"))
        deferreds[0].errback(ValueError("first"))
        self.assertNoResult(waiting)
        deferreds[1].callback(None)
        failures = self.successResultOf(waiting)
        self.assertEqual([failure.getErrorMessage() for failure in failures], ["first", "last"])

    def test_nothing(self) -> None:
        """There is nothing to wait for where there are no Deferreds."""
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(failures_of([]))), [])


class OutlastTests(SynchronousTestCase):
    """Something that cannot be cancelled, and a wait for it."""

    def setUp(self) -> None:
        self.cancelled = 0
        self.work: Deferred[int] = Deferred(self.cancel)

    def cancel(self, _: Deferred[int]) -> None:
        """Count how often the work itself is cancelled."""
        self.cancelled += 1

    def test_result(self) -> None:
        """It gives what the work gives, now or later."""
        waiting = Deferred.fromCoroutine(outlast(self.work))
        self.work.callback(7)
        self.assertEqual(self.successResultOf(waiting), 7)
        done: Deferred[int] = Deferred()
        done.callback(8)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(outlast(done))), 8)

    def test_failure(self) -> None:
        """It fails with what the work fails with, also when it was cancelled before."""
        for times in (0, 1):
            work: Deferred[None] = Deferred()
            waiting = Deferred.fromCoroutine(outlast(work))
            for _ in range(times):
                waiting.cancel()
            work.errback(ValueError("no"))
            self.failureResultOf(waiting, ValueError)

    def test_cancelled(self) -> None:
        """Cancelled, however often, it waits for the end, and says then that it was cancelled."""
        waiting = Deferred.fromCoroutine(outlast(self.work))
        waiting.cancel()
        waiting.cancel()
        self.assertNoResult(waiting)
        self.work.callback(7)
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.cancelled, 0)

    def test_forgotten(self) -> None:
        """Where that is wished for the cancellation is forgotten."""
        waiting = Deferred.fromCoroutine(outlast(self.work, forget_cancellation=True))
        waiting.cancel()
        self.work.callback(7)
        self.assertEqual(self.successResultOf(waiting), 7)


class DeadlineTests(SynchronousTestCase):
    """A Deferred that has five seconds without progress, from 100 seconds on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.progressed_at = 100.0
        self.looks = 0
        self.on_look: Callable[[], None] = lambda: None
        self.waiting: Deferred[str] = Deferred()
        add_deadline(
            self.waiting,
            self.clock,
            5.0,
            since=lambda: self.progressed_at,
            too_late=lambda outcome: Failure(TimeoutError("late")),
            look=self.look,
        )

    def look(self) -> None:
        """It is looked at."""
        self.looks += 1
        self.on_look()

    def test_no_progress(self) -> None:
        """Without progress it is cancelled when the time is over, and fails with what was given for that."""
        self.clock.pump([0.5] * 9)
        self.assertNoResult(self.waiting)
        self.clock.advance(0.5)
        self.failureResultOf(self.waiting, TimeoutError)
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (5, []))

    def test_progress(self) -> None:
        """With progress now and then it may take as long as it likes; the time counts from the last progress."""
        for _ in range(20):
            self.clock.advance(4)
            self.progressed_at = self.clock.seconds()
        self.clock.advance(4.9)
        self.assertNoResult(self.waiting)
        self.clock.advance(0.1)
        self.failureResultOf(self.waiting, TimeoutError)

    def test_fires_when_looked_at(self) -> None:
        """What comes because it is looked at is passed on, too, and it is not looked at again."""
        self.on_look = lambda: self.waiting.callback("here")
        self.clock.advance(1)
        self.assertEqual((self.successResultOf(self.waiting), self.clock.getDelayedCalls()), ("here", []))

    def test_fires(self) -> None:
        """What comes in time is passed on, and nothing is left."""
        self.waiting.callback("here")
        self.assertEqual((self.successResultOf(self.waiting), self.clock.getDelayedCalls()), ("here", []))

    def test_cancelled(self) -> None:
        """If another caller cancels it, it is not late."""
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LateCallTests(SynchronousTestCase):
    """A function that is called if a Deferred has not fired within five seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls = 0
        self.waiting: Deferred[str] = Deferred()
        self.assertIs(call_if_late(self.waiting, self.clock, 5.0, self.call), self.waiting)

    def call(self) -> None:
        """Count the call."""
        self.calls += 1

    def test_late(self) -> None:
        """When the time is over it is called once, and the Deferred may still fire."""
        self.clock.advance(4.9)
        self.assertEqual(self.calls, 0)
        self.clock.advance(0.1)
        self.assertNoResult(self.waiting)
        self.waiting.callback("here")
        self.assertEqual((self.calls, self.successResultOf(self.waiting)), (1, "here"))

    def test_in_time(self) -> None:
        """A result or a failure in time is passed on, and nothing is called."""
        failing: Deferred[str] = Deferred()
        call_if_late(failing, self.clock, 5.0, self.call)
        self.waiting.callback("here")
        failing.errback(ValueError("away"))
        self.assertEqual((self.successResultOf(self.waiting), self.clock.getDelayedCalls()), ("here", []))
        self.failureResultOf(failing, ValueError)
        self.assertEqual(self.calls, 0)

    def test_fires_by_the_call(self) -> None:
        """The call itself may fire the Deferred."""
        late: Deferred[str] = Deferred()
        call_if_late(late, self.clock, 5.0, lambda: late.callback("late"))
        self.clock.advance(5)
        self.assertEqual((self.successResultOf(late), self.clock.getDelayedCalls()), ("late", []))
