"""Tests of the room ahead of a growing file: what is asked for is written down, in threads that the test lets run."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task import disk
from dragonfly_vortex.task.disk import Allocation
from test.task.test_file_hash import HeldThreads

MIB = 1024 * 1024


class AllocationTests(SynchronousTestCase):
    """A file that grows."""

    def setUp(self) -> None:
        self.made: list[tuple[int, int, int]] = []
        self.is_refused = False
        self.patch(disk, "allocate", self.allocate)
        self.threads = HeldThreads()
        self.allocation = Allocation(7, self.threads)

    def allocate(self, descriptor: int, start: int, end: int) -> None:
        """Write down what is asked for, in MiB."""
        self.made.append((descriptor, start // MIB, end // MIB))
        if self.is_refused:
            raise OSError("no room")

    def reach(self, *ends: int, length: int | None = None) -> list[tuple[int, int, int]]:
        """Come so far, in MiB, one after the other, and let all threads run; the room that was made since."""
        before = len(self.made)
        for end in ends:
            self.allocation.reach(end * MIB, None if length is None else length * MIB)
            while self.threads.calls:
                self.threads.run_one()
        return self.made[before:]

    def test_doubles(self) -> None:
        """There is as much room ahead as there is behind, and it is made when half of that is used."""
        self.assertEqual(self.reach(4), [(7, 0, 8)])
        self.assertEqual(self.reach(5), [])
        self.assertEqual(self.reach(6), [(7, 8, 12)])
        self.assertEqual(self.reach(3), [])

    def test_far(self) -> None:
        """It is never more than 64 MiB ahead, and no more than 128 MiB are asked for at once."""
        self.assertEqual(self.reach(1000), [(7, 936, 1064)])
        self.assertEqual(self.reach(1031), [])
        self.assertEqual(self.reach(1032), [(7, 1064, 1096)])

    def test_limit(self) -> None:
        """It ends where the file does, as soon as that is known."""
        self.assertEqual(self.reach(40, length=50), [(7, 0, 50)])
        self.assertEqual(self.reach(45, 50, length=50), [])
        self.assertEqual(self.reach(45, length=60), [])
        self.assertEqual(self.reach(50, length=90), [(7, 50, 90)])

    def test_small(self) -> None:
        """Of a few bytes there is nothing to be done."""
        self.allocation.reach(MIB // 2 - 1, None)
        self.allocation.reach(MIB - 1, MIB - 1)
        self.assertEqual(self.threads.calls, [])

    def test_one_thread(self) -> None:
        """What has come while a thread was at work is asked for by the next one."""
        for end in (4, 8, 12):
            self.allocation.reach(end * MIB, None)
        self.assertEqual(len(self.threads.calls), 1)
        self.threads.run_one()
        self.threads.run_one()
        self.assertEqual((self.made, self.threads.calls), ([(7, 0, 8), (7, 8, 24)], []))

    def test_refused(self) -> None:
        """Where there is no room to be had nobody asks again."""
        self.is_refused = True
        self.assertEqual(self.reach(4, 8, 12), [(7, 0, 8)])

    def test_defect(self) -> None:
        """What is no refusal is logged, and nobody asks again either."""

        def fail(descriptor: int, start: int, end: int) -> None:
            raise RuntimeError("a defect")

        self.patch(disk, "allocate", fail)
        self.reach(4, 8)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stops(self) -> None:
        """Stopped, it asks for no more, and a thread at work is waited for."""
        self.allocation.reach(4 * MIB, None)
        self.allocation.reach(8 * MIB, None)
        stopped = self.allocation.stop()
        self.assertNoResult(stopped)
        self.threads.run_one()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.reach(12), [])
        self.assertIsNone(self.successResultOf(self.allocation.stop()))
