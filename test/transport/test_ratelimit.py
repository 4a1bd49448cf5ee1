"""Tests of the limit on bytes per second."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.ratelimit import TokenBucket, UploadLimiter
from dragonfly_vortex.transport.serving_order import Turn


class Mover:
    """Moves steps for ever: asks first and moves when it may, or moves first and rests."""

    def __init__(self, bucket: TokenBucket, clock: Clock, asks: bool, step: int) -> None:
        self.moved: dict[int, int] = {}  # bytes by the second in which they were moved
        self._bucket = bucket
        self._clock = clock
        self._asks = asks
        self._step = step

    def start(self) -> None:
        """Take the first turn."""
        if self._asks:
            self._clock.callLater(self._bucket.reserve(self._step), self._move)
        else:
            self._move()

    def _move(self) -> None:
        second = int(self._clock.seconds())
        self.moved[second] = self.moved.get(second, 0) + self._step
        rest = self._bucket.reserve(self._step) if self._asks else self._bucket.spend(self._step)
        self._clock.callLater(rest, self._move)


class TokenBucketTests(SynchronousTestCase):
    """Bytes are paid for in seconds."""

    def setUp(self) -> None:
        """A bucket of a thousand bytes per second that owes nothing and has saved nothing."""
        self.clock = Clock()
        self.bucket = TokenBucket(1000, self.clock)
        self.bucket.spend(50)

    def test_spend(self) -> None:
        """A caller that has moved bytes rests for all debts, its own too."""
        self.assertAlmostEqual(self.bucket.spend(100), 0.1)
        self.assertAlmostEqual(self.bucket.spend(100), 0.2)
        self.clock.advance(0.15)
        self.assertAlmostEqual(self.bucket.debt, 0.05)
        self.assertAlmostEqual(self.bucket.spend(100), 0.15)

    def test_reserve(self) -> None:
        """A caller that asks first waits for all debts but its own."""
        self.assertEqual(self.bucket.reserve(100), 0.0)
        self.assertAlmostEqual(self.bucket.reserve(100), 0.1)
        self.assertAlmostEqual(self.bucket.reserve(1), 0.2)

    def test_give_back(self) -> None:
        """What was reserved and is given back is not owed."""
        self.bucket.reserve(100)
        self.bucket.reserve(300)
        self.bucket.give_back(300)
        self.assertAlmostEqual(self.bucket.reserve(1), 0.1)

    def test_no_debt(self) -> None:
        """A debt that has been paid is none."""
        self.bucket.spend(100)
        self.clock.advance(1.0)
        self.assertEqual(self.bucket.debt, 0.0)
        self.assertEqual(self.bucket.reserve(1), 0.0)

    def test_little_is_saved(self) -> None:
        """However long nothing has moved, no more than a twentieth of a second is saved."""
        self.clock.advance(3600.0)
        self.assertEqual(self.bucket.spend(50), 0.0)
        self.assertAlmostEqual(self.bucket.spend(10), 0.01)

    def test_step(self) -> None:
        """A step is a hundredth of a second's bytes, at least one, and never so much that others wait for long."""
        for rate, step in ((1, 1), (99, 1), (1_000_000, 10_000), (50_000_000_000, 2 * 1024 * 1024)):
            self.assertEqual(TokenBucket(rate, self.clock).step, step)

    def test_no_rate(self) -> None:
        """A rate of nothing is refused."""
        for rate in (0, -1):
            self.assertRaises(ValueError, TokenBucket, rate, self.clock)

    def test_every_second(self) -> None:
        """In each of ten seconds four movers move what the limit allows, within a hundredth, and as much each."""
        for asks in (True, False):
            clock = Clock()
            bucket = TokenBucket(1_000_000, clock)
            movers = [Mover(bucket, clock, asks, bucket.step) for _ in range(4)]
            clock.advance(100.0)
            for mover in movers:
                mover.start()
            clock.pump([0.001] * 10_000)
            for second in range(100, 110):
                self.assertLess(abs(sum(mover.moved[second] for mover in movers) - 1_000_000), 100_000)
            shares = [sum(mover.moved.values()) for mover in movers]
            self.assertLess(max(shares) - min(shares), 50_000)

    def test_late_timers(self) -> None:
        """A clock that ticks seldom does not cost any of the rate."""
        clock = Clock()
        bucket = TokenBucket(1_000_000, clock)
        mover = Mover(bucket, clock, True, bucket.step)
        mover.start()
        clock.pump([0.015] * 1000)
        self.assertGreater(sum(mover.moved.values()), 14_000_000 // 2)


class UploadLimiterTests(SynchronousTestCase):
    """Replies that wait for a limit of a thousand bytes per second, ten bytes in a step."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.waits: list[float] = []
        self.limiter = UploadLimiter(1000, self.clock, self.waits.append)
        self.limiter.spend(50)  # what has been saved up
        self.sent: dict[str, int] = {}

    def ask(self, piece: str, length: int) -> Turn:
        """Ask for a piece, and send it step by step."""
        turn = self.limiter.enter(piece, length, is_begun=False)

        def grant(length: int) -> None:
            turn.left -= length
            self.sent[piece] = self.sent.get(piece, 0) + length
            if turn.left:
                self.limiter.wait(turn, grant)
            else:
                self.limiter.leave(turn, is_whole=True)

        self.limiter.wait(turn, grant)
        return turn

    def test_at_once(self) -> None:
        """Bytes are sent at once where there is no debt and no reply waits, and are paid for."""
        self.assertTrue(self.limiter.try_spend(10))
        self.assertAlmostEqual(self.limiter.debt, 0.01)
        self.assertFalse(self.limiter.try_spend(1))
        self.clock.advance(0.0101)
        self.assertTrue(self.limiter.try_spend(1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits(self) -> None:
        """The time for which replies wait is counted, also of one that gives up."""
        self.limiter.spend(100)
        self.ask("a", 10)
        given_up = self.ask("b", 10)
        self.clock.advance(0.0625)
        self.limiter.leave(given_up, is_whole=False)
        self.assertEqual(self.waits, [0.0625])
        self.clock.advance(0.0625)
        self.assertEqual(self.waits, [0.0625, 0.125])

    def test_not_before_those_who_wait(self) -> None:
        """Where a reply waits, another one does not pass it without having been in the order."""
        self.limiter.spend(10)
        self.ask("a", 10)
        self.clock.rightNow += 1.0  # the reactor is late
        self.assertFalse(self.limiter.try_spend(1))

    def test_one_after_the_other(self) -> None:
        """Replies are sent one after the other, at the limit in sum."""
        for piece in "abc":
            self.ask(piece, 100)
        self.clock.pump([0.001] * 105)
        self.assertEqual(self.sent["a"], 100)
        self.assertLessEqual(self.sent.get("b", 0), 20)
        self.clock.pump([0.001] * 100)
        self.assertEqual((self.sent["a"], self.sent["b"]), (100, 100))
        self.assertLessEqual(self.sent.get("c", 0), 20)
        self.clock.pump([0.001] * 100)
        self.assertEqual(self.sent, {"a": 100, "b": 100, "c": 100})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late_timer(self) -> None:
        """What a late timer has saved up is for the first in the order, and not for the next."""
        self.limiter.spend(10)
        self.ask("a", 1000)
        self.ask("b", 1000)
        self.clock.advance(0.045)
        self.assertGreaterEqual(self.sent["a"], 30)
        self.assertNotIn("b", self.sent)

    def test_leave(self) -> None:
        """A reply that ends while it waits has no step any more, and leaves no timer."""
        self.limiter.spend(10)
        first, second = self.ask("a", 100), self.ask("b", 100)
        self.limiter.leave(first, is_whole=False)
        self.clock.advance(0.02)
        self.assertNotIn("a", self.sent)
        self.assertIn("b", self.sent)
        self.limiter.leave(second, is_whole=False)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_sent_at_once(self) -> None:
        """A reply that is sent at once waits for its turn, and for most of its bytes."""
        self.successResultOf(self.limiter.spend_in_turn("a", 10))
        self.assertAlmostEqual(self.limiter.debt, 0.01)
        waiting = [self.limiter.spend_in_turn(piece, 100) for piece in "ab"]
        self.clock.pump([0.001] * 105)
        self.assertNoResult(waiting[0])
        self.successResultOf(waiting[1])
        self.clock.pump([0.001] * 100)
        self.successResultOf(waiting[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_standstill(self) -> None:
        """While a long reply that is sent at once waits for its bytes, the others have steps, however low the limit."""
        self.ask("a", 100_000)
        long = self.limiter.spend_in_turn("b", 100_000)
        pauses = []
        for _ in range(100):
            before = dict(self.sent)
            self.clock.pump([0.01] * 10)
            pauses.append(self.sent == before)
        self.assertNoResult(long)
        self.assertNotIn([True] * 51, [pauses[start : start + 51] for start in range(50)])
        self.assertGreater(self.sent["a"], 7_000)

    def test_no_standstill_behind(self) -> None:
        """A reply that is asked for after a long one that is sent at once has its steps, too."""
        self.limiter.spend_in_turn("b", 1_000_000)
        self.ask("a", 10_000)
        self.clock.pump([0.01] * 1000)
        self.assertGreater(self.sent.get("a", 0), 10)

    def test_cancelled(self) -> None:
        """A reply that is not wanted any more is not paid for, and leaves no timer."""
        self.limiter.spend(100)
        waiting = self.limiter.spend_in_turn("a", 100)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertAlmostEqual(self.limiter.debt, 0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_half_way(self) -> None:
        """What has been granted to a reply that is not wanted any more is given back."""
        waiting = self.limiter.spend_in_turn("a", 1000)
        self.clock.pump([0.01] * 50)
        debt = self.limiter.debt
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertLess(self.limiter.debt, max(debt - 0.4, 0.001))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_given_back(self) -> None:
        """Where bytes are given back, waiting callers are served earlier."""
        self.limiter.spend(1000)
        self.ask("a", 10)
        self.limiter.give_back(990)
        self.clock.advance(0.0101)
        self.assertEqual(self.sent, {"a": 10})

    def test_another_rate(self) -> None:
        """Another rate holds for the replies that wait."""
        self.ask("a", 1000)
        self.limiter.change_rate(10_000)
        self.clock.pump([0.001] * 120)
        self.assertEqual(self.sent, {"a": 1000})
