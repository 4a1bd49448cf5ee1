"""Tests of the uses of tasks that are written now and then."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.reactor.uses import RECORD_INTERVAL, TaskUses
from dragonfly_vortex.wire import PieceKind

KIND = PieceKind.STANDARD


class TaskUsesTests(SynchronousTestCase):
    """What is used is recorded once for many uses."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recorded: list[Collection[tuple[PieceKind, str]]] = []
        self.uses = TaskUses(self.clock, self.recorded.append)

    def test_recorded_together(self) -> None:
        """All uses in a minute are recorded in one call, and nothing is scheduled before the next use."""
        for task_id in ("one", "two", "one"):
            self.uses.add(KIND, task_id)
            self.clock.advance(RECORD_INTERVAL / 4)
        self.assertEqual(self.recorded, [])
        self.clock.advance(RECORD_INTERVAL / 4)
        self.assertEqual(self.recorded, [{(KIND, "one"), (KIND, "two")}])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.uses.add(KIND, "one")
        self.clock.advance(RECORD_INTERVAL)
        self.assertEqual(self.recorded[1:], [{(KIND, "one")}])

    def test_taken(self) -> None:
        """At the end what was not recorded is taken, and nothing is scheduled."""
        self.assertEqual(self.uses.take(), set())
        self.uses.add(KIND, "one")
        self.assertEqual(self.uses.take(), {(KIND, "one")})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.uses.take(), set())
