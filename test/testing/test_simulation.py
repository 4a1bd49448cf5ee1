"""The frame of the simulator: its clock, and its values."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.testing.simulation import Outcome, Simulation, Swarm, Transfer, Upload


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


def transfer(number: int, length: int = 1000, child: int = 1) -> Transfer:
    """A piece that a child has asked for."""
    request = Request(parent="peer-0", number=number, round=0)
    return Transfer(child=child, number=number, length=length, request=request)


class UploadTests(SynchronousTestCase):
    """A link of 100 bytes per second, and so of one byte a step."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ended: list[tuple[int, float]] = []

        def later(seconds: float, call: Callable[[], None]) -> None:
            self.clock.callLater(seconds, call)

        def end(each: Transfer) -> None:
            self.ended.append((each.number, round(self.clock.seconds(), 3)))

        self.upload = Upload(100.0, self.clock.seconds, later, end)

    def wait(self, seconds: float) -> None:
        """Let time go by, step by step."""
        self.clock.pump([0.01] * round(seconds * 100))

    def test_alone(self) -> None:
        """One piece has the whole rate."""
        self.upload.add(transfer(0))
        self.wait(11)
        self.assertEqual(self.ended, [(0, 10.0)])

    def test_in_turn(self) -> None:
        """One piece is sent after the other, in the order of the requests."""
        for number in range(3):
            self.upload.add(transfer(number, 100))
        self.wait(4)
        self.assertEqual(self.ended, [(0, 1.0), (1, 2.0), (2, 3.0)])

    def test_first_copies(self) -> None:
        """A piece that has left is sent again after those that have not."""
        for number, child in ((0, 1), (0, 2), (1, 3)):
            self.upload.add(transfer(number, 100, child))
        self.wait(4)
        self.assertEqual([number for number, _ in self.ended], [0, 1, 0])

    def test_remove(self) -> None:
        """A piece that is not wanted any more makes room for others; what has left of it is counted."""
        given_up, other = transfer(0, 200), transfer(1, 100)
        self.upload.add(given_up)
        self.upload.add(other)
        self.wait(1)
        self.upload.remove(given_up)
        self.assertEqual((given_up.sent, self.upload.transfers), (100, [other]))
        self.wait(2)
        self.assertEqual([number for number, _ in self.ended], [1])
        self.upload.remove(other)
        self.assertEqual(self.upload.transfers, [])
