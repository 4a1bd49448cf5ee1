"""The frame of the simulator: its clock, and its values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.testing.simulation import Outcome, Simulation, Swarm


class SimulationTests(SynchronousTestCase):
    """The clock."""

    def setUp(self) -> None:
        self.simulation = Simulation(Swarm(peers=1))
        self.seen: list[tuple[str, float]] = []

    def see(self, name: str) -> None:
        """Note a name and the time."""
        self.seen.append((name, self.simulation.now))

    def test_order(self) -> None:
        """What is due is called at its time, and at the same time in the order in which it was asked for."""
        for name, seconds in (("last", 2.0), ("first", 1.0), ("second", 1.0)):
            self.simulation.later(seconds, lambda name=name: self.see(name))  # type: ignore[misc]
        self.simulation.run(lambda: False, 10.0)
        self.assertEqual(self.seen, [("first", 1.0), ("second", 1.0), ("last", 2.0)])

    def test_ends(self) -> None:
        """It ends when it is over, and when its longest time has gone by."""

        def again() -> None:
            self.see("again")
            self.simulation.later(1.0, again)

        self.simulation.later(1.0, again)
        self.simulation.run(lambda: len(self.seen) == 3, 10.0)
        self.assertEqual(self.simulation.now, 3.0)
        self.simulation.run(lambda: False, 10.0)
        self.assertEqual(self.simulation.now, 10.0)


class ValueTests(SynchronousTestCase):
    """A swarm, and what comes of it."""

    def test_pieces(self) -> None:
        """The last piece has the rest of the task."""
        swarm = Swarm(peers=1, content_length=25, piece_length=10)
        self.assertEqual([swarm.length(number) for number in range(swarm.piece_count)], [10, 10, 5])

    def test_seconds(self) -> None:
        """The time of a swarm is that of its last child; of none it is nothing."""
        self.assertEqual(Outcome(finished={1: 2.0, 2: 3.0}).seconds, 3.0)
        self.assertEqual(Outcome().seconds, 0.0)
