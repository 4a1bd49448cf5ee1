"""Tests of a file's way to the disk: real files, with threads that the test lets run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task import writeback
from dragonfly_vortex.task.writeback import WriteBack
from test.task.test_file_hash import HeldThreads

MIB = 1024 * 1024


class WriteBackTests(SynchronousTestCase):
    """Pieces of a file, on their way."""

    def setUp(self) -> None:
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        self.threads = HeldThreads()
        self.write_back = WriteBack(self.descriptor, self.threads, most=3 * MIB)
        self.written: list[tuple[list[tuple[int, int]], bool]] = []

    def record(self) -> None:
        """From now on, only write down what is written."""

        def write(descriptor: int, ranges: Sequence[tuple[int, int]], is_wanted: Callable[[], bool]) -> None:
            self.assertEqual(descriptor, self.descriptor)
            self.written.append((list(ranges), is_wanted()))

        self.patch(writeback, "write_back", write)

    def test_at_once(self) -> None:
        """A piece is begun as soon as it has come; those that come while a thread is at work are taken together."""
        self.record()
        for start in (0, 4 * MIB, 2 * MIB):
            self.write_back.add(start, start + MIB)
        self.assertEqual((len(self.threads.calls), self.write_back.waiting), (1, 3 * MIB))
        self.threads.run_one()
        self.assertEqual((len(self.threads.calls), self.write_back.waiting), (1, 2 * MIB))
        self.threads.run_one()
        self.assertEqual((self.threads.calls, self.write_back.waiting), ([], 0))
        ranges = [written for written, _ in self.written]
        self.assertEqual(ranges, [[(0, MIB)], [(4 * MIB, 5 * MIB), (2 * MIB, 3 * MIB)]])

    def test_small(self) -> None:
        """Small pieces wait until together they are worth a thread's time."""
        self.record()
        for start in range(0, MIB, MIB // 4):
            self.assertEqual(self.threads.calls, [])
            self.successResultOf(self.write_back.add(start, start + MIB // 4))
        self.threads.run_one()
        self.assertEqual([len(written) for written, _ in self.written], [4])

    def test_few_allowed(self) -> None:
        """Small pieces do not wait when nothing may."""
        self.write_back = WriteBack(self.descriptor, self.threads, most=0)
        added = self.write_back.add(0, 10)
        self.assertNoResult(added)
        self.threads.run_one()
        self.assertIsNone(self.successResultOf(added))

    def test_behind(self) -> None:
        """Whoever adds more than may wait is held back until enough is on the disk."""
        self.assertIsNone(self.successResultOf(self.write_back.add(0, MIB)))
        self.assertIsNone(self.successResultOf(self.write_back.add(MIB, 3 * MIB)))
        self.assertFalse(self.write_back.is_behind)
        last = self.write_back.add(3 * MIB, 4 * MIB)
        self.assertTrue(self.write_back.is_behind)
        self.assertNoResult(last)
        self.threads.run_one()
        self.assertFalse(self.write_back.is_behind)
        self.assertIsNone(self.successResultOf(last))

    def test_fails(self) -> None:
        """When the disk fails, whoever is held back and whoever comes later is told, and no more is written."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.write_back = WriteBack(writing, self.threads, most=MIB)
        held_back = self.write_back.add(0, 2 * MIB)
        self.threads.run_one()
        self.assertIsInstance(self.write_back.error, OSError)
        self.failureResultOf(held_back, OSError)
        self.failureResultOf(self.write_back.add(2 * MIB, 4 * MIB), OSError)
        self.assertEqual(self.threads.calls, [])

    def test_stops(self) -> None:
        """Stopped, it lets go of everybody and begins nothing more; a thread at work hears of it, and is waited for."""
        self.record()
        held_back = self.write_back.add(0, 4 * MIB)
        self.write_back.add(4 * MIB, 5 * MIB)
        stopped = self.write_back.stop()
        self.assertIsNone(self.successResultOf(held_back))
        self.assertNoResult(stopped)
        self.threads.run_one()
        self.assertEqual(self.written, [([(0, 4 * MIB)], False)])
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIsNone(self.successResultOf(self.write_back.stop()))
        self.assertIsNone(self.successResultOf(self.write_back.add(5 * MIB, 9 * MIB)))
        self.assertEqual(self.threads.calls, [])
