"""Tests of waiting that is not given up."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.outlast import outlast


class OutlastTests(SynchronousTestCase):
    """Something that cannot be cancelled, and whoever waits for it."""

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
