"""Tests of a time-out that counts from the last progress."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.deadline import add_deadline


class DeadlineTests(SynchronousTestCase):
    """A Deferred that has five seconds without progress, from 100 seconds on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.progressed_at = 100.0
        self.looks = 0
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

    def test_fires(self) -> None:
        """What comes in time is passed on, and nothing is left."""
        self.waiting.callback("here")
        self.assertEqual((self.successResultOf(self.waiting), self.clock.getDelayedCalls()), ("here", []))

    def test_cancelled(self) -> None:
        """If somebody else cancels it, it is not late."""
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
