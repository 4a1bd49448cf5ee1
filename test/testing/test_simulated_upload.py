"""The upload of a simulated peer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.scheduler import Request
from dragonfly_vortex.testing.simulated_upload import AllAtOnce, InTurn, ServingOrder, Transfer, Upload


def transfer(number: int, length: int = 100, child: int = 1) -> Transfer:
    """A piece that a child has asked for."""
    request = Request(parent="peer-0", number=number, round=0)
    return Transfer(child=child, number=number, length=length, request=request)


class UploadTests(SynchronousTestCase):
    """A link of 10 bytes per second."""

    def begin(self, order: ServingOrder) -> None:
        """Serve in this order."""
        self.clock = Clock()
        self.begun: list[int] = []
        self.ended: list[tuple[int, float]] = []

        def later(seconds: float, call: Callable[[], None]) -> None:
            self.clock.callLater(seconds, call)

        self.upload = Upload(
            order,
            10.0,
            self.clock.seconds,
            later,
            lambda each: self.begun.append(each.number),
            lambda each: self.ended.append((each.number, round(self.clock.seconds(), 6))),
        )

    def wait(self, seconds: float) -> None:
        """Let time go by, in small steps."""
        self.clock.pump([0.5] * round(seconds * 2))

    def test_alone(self) -> None:
        """One piece has the whole rate."""
        self.begin(AllAtOnce())
        self.upload.add(transfer(0))
        self.wait(20)
        self.assertEqual(self.ended, [(0, 10.0)])

    def test_shares(self) -> None:
        """Pieces that are served at the same time have equal shares, and what is left has more when one has ended."""
        self.begin(AllAtOnce())
        self.upload.add(transfer(0, 100))
        self.upload.add(transfer(1, 50))
        self.wait(20)
        self.assertEqual(self.ended, [(1, 10.0), (0, 15.0)])

    def test_remove(self) -> None:
        """A piece that is not wanted any more tells what of it has left, and makes room for others."""
        self.begin(AllAtOnce())
        given_up, other = transfer(0), transfer(1)
        self.upload.add(given_up)
        self.upload.add(other)
        self.wait(10)
        self.assertEqual((self.upload.sent(given_up), self.upload.remove(given_up)), (50, 50))
        self.wait(10)
        self.assertEqual(self.ended, [(1, 15.0)])
        self.assertEqual((self.upload.remove(other), self.upload.transfers), (0, []))

    def test_in_turn(self) -> None:
        """Few pieces are served at a time, in the order in which they were asked for."""
        self.begin(InTurn(1))
        for number in range(3):
            self.upload.add(transfer(number))
        self.wait(40)
        self.assertEqual(self.ended, [(0, 10.0), (1, 20.0), (2, 30.0)])
        self.assertEqual(self.begun, [0, 1, 2])

    def test_first_copies(self) -> None:
        """A piece that has left is served again after those that have not."""
        self.begin(InTurn(1))
        for number, child in ((0, 1), (0, 2), (1, 3)):
            self.upload.add(transfer(number, child=child))
        self.wait(40)
        self.assertEqual([number for number, _ in self.ended], [0, 1, 0])

    def test_waiting_is_removed(self) -> None:
        """A piece that waits for its turn can be given up, and no byte of it leaves."""
        self.begin(InTurn(1))
        waiting = transfer(1)
        self.upload.add(transfer(0))
        self.upload.add(waiting)
        self.assertEqual(self.upload.remove(waiting), 0)
        self.wait(40)
        self.assertEqual(self.ended, [(0, 10.0)])
