"""Tests of the children that are busy, and of the one that asks for something small meanwhile."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.threads import deferToThread

from benchmarks.bystander import Busy, Fetched, bystander, slowest
from benchmarks.material import Task
from test.peer.serving import ServingTestCase
from test.peer.shelf import TASK_ID

MIB = 1024 * 1024


class BusyTests(ServingTestCase):
    """Children in a process of their own, and one in this, of a real server."""

    def run_them(self, port: int, endless: bool) -> tuple[Fetched, list[float]]:
        """In a thread: fetch four pieces on three connections, and meanwhile one of them on a fourth."""
        task = Task(task_id=TASK_ID, source=Path("file"), storage=Path("storage"))
        with bystander(port, task) as child, Busy(port, task, 4, 3, endless=endless) as busy:
            seconds = child.ask_while(lambda count: count < 20)
            return busy.end(), seconds

    async def test_once(self) -> None:
        """Each piece is fetched once, on all connections together."""
        address = self.serve(self.factory(self.shelf(*[1 * MIB] * 4)))
        fetched, seconds = await deferToThread(self.run_them, address[1], False)
        self.assertEqual(len(fetched.received), 3)
        self.assertLess(sum(fetched.received), 4 * MIB + 1024)
        self.assertEqual(len(seconds), 20)
        self.assertGreater(min(seconds), 0.0)

    async def test_endless(self) -> None:
        """They go on until they are told to end, and all have had something."""
        address = self.serve(self.factory(self.shelf(*[1 * MIB] * 4)))
        fetched, _ = await deferToThread(self.run_them, address[1], True)
        self.assertGreater(sum(fetched.received), 4 * MIB)
        self.assertGreater(min(fetched.received), 0)

    def test_slowest(self) -> None:
        """The part of all that took so long at the most."""
        seconds = [float(each) for each in range(100, 0, -1)]
        self.assertEqual([slowest(seconds, part) for part in (0.5, 0.95, 1)], [51.0, 96.0, 100.0])
