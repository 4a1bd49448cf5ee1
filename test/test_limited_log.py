"""Tests of the log with limited lines of a kind."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import Logger, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dragonfly_vortex.limited_log import LINES, SECONDS, LimitedLog


class LimitedLogTests(TestCase):
    """Lines that are logged, and lines that are left out."""

    def setUp(self) -> None:
        self.observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.clock = Clock()
        self.log = LimitedLog(Logger("test"), self.clock)

    def said(self) -> list[str]:
        """What was logged since this was asked last."""
        said = [formatEvent(event) for event in self.observer]
        self.observer._events.clear()
        return said

    def flood(self, count: int) -> None:
        """Log lines of one kind."""
        for number in range(count):
            self.log.info("refused {peer}", peer=number)

    def test_few(self) -> None:
        """A few lines are logged as they come, and nothing is scheduled."""
        self.flood(LINES)
        self.assertEqual(self.said(), [f"refused {number}" for number in range(LINES)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """Of many lines in a minute the first ones are logged, and at its end how many were left out."""
        self.flood(55_000)
        self.assertEqual(len(self.said()), LINES)
        self.clock.advance(SECONDS - 0.1)
        self.flood(7)
        self.assertEqual(self.said(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.said(), [f"{55_007 - LINES} more lines of this kind were left out: refused {{peer}}"])
        self.flood(1)
        self.assertEqual(self.said(), ["refused 0"])

    def test_late_timer(self) -> None:
        """A period whose end comes late, because the reactor is busy, lasts until then."""
        self.flood(LINES + 1)
        self.said()
        self.clock.rightNow += SECONDS + 1.0  # the timer is due, and has not been called
        self.flood(1)
        self.assertEqual(self.said(), [])
        self.clock.advance(0)
        self.assertEqual(self.said(), ["2 more lines of this kind were left out: refused {peer}"])

    def test_few_in_each_minute(self) -> None:
        """Where no line was left out, the next minute has as many again."""
        self.flood(LINES)
        self.clock.advance(SECONDS)
        self.flood(LINES)
        self.assertEqual(len(self.said()), 2 * LINES)

    def test_kinds(self) -> None:
        """Lines of another kind are not left out, of whichever level."""
        self.flood(2 * LINES)
        self.said()
        self.log.warn("no room for {peer}", peer=1)
        self.log.error("piece {piece}", piece=2)
        self.log.failure("it failed", Failure(ValueError("why")))
        self.assertEqual(self.said(), ["no room for 1", "piece 2", "it failed"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_close(self) -> None:
        """Closing it says at once what was left out, and nothing is scheduled any more."""
        self.flood(LINES + 3)
        self.said()
        self.log.close()
        self.assertEqual(self.said(), ["3 more lines of this kind were left out: refused {peer}"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.log.close()
        self.assertEqual(self.said(), [])
