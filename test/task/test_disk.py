"""Tests of a file's way to the disk, of the room ahead of it and beside it: real files, threads that the test runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.task import disk
from dragonfly_vortex.task.disk import Allocation, Reservation, SparePlace, WriteBack
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

        self.patch(disk, "write_back", write)

    def test_at_once(self) -> None:
        """
        A piece is written as soon as it has arrived; those that arrive while a thread is at work are written together.
        """
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
        """A writer that adds more than may wait is held back until enough is on the disk."""
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
        """When the disk fails, waiting and later writers get the error, and no more is written."""
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
        """
        Stopped, it releases all waiting writers and begins nothing more; a thread at work ends soon, and is waited for.
        """
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

    def test_skips(self) -> None:
        """Where there is room already, none is made."""
        self.allocation.skip(50 * MIB)
        self.assertEqual(self.reach(4, 40, length=50), [])
        self.allocation.skip(0)
        self.assertEqual(self.reach(50, length=90), [(7, 50, 90)])

    def test_one_thread(self) -> None:
        """Room for bytes that arrived while a thread was at work is made by the next one."""
        for end in (4, 8, 12):
            self.allocation.reach(end * MIB, None)
        self.assertEqual(len(self.threads.calls), 1)
        self.threads.run_one()
        self.threads.run_one()
        self.assertEqual((self.made, self.threads.calls), ([(7, 0, 8), (7, 8, 24)], []))

    def test_refused(self) -> None:
        """If the disk has no room it is not asked again."""
        self.is_refused = True
        self.assertEqual(self.reach(4, 8, 12), [(7, 0, 8)])

    def test_defect(self) -> None:
        """Another error is logged, and room is not asked for again either."""

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


class ReservationTests(SynchronousTestCase):
    """A content whose length becomes known."""

    def setUp(self) -> None:
        self.asked: list[tuple[int, Deferred[None]]] = []
        self.changes = 0
        self.reservation = Reservation(self.reserve, self.change)

    def reserve(self, content_length: int) -> Deferred[None]:
        """Write down what is asked for."""
        reserved: Deferred[None] = Deferred()
        self.asked.append((content_length // MIB, reserved))
        return reserved

    def change(self) -> None:
        """Something has changed."""
        self.changes += 1

    def test_once(self) -> None:
        """Room is reserved once for each length, and a few bytes or an unknown length need none."""
        for length in (None, MIB - 1, 5 * MIB, 5 * MIB):
            self.assertIsNone(self.reservation.ask(length))
        ((length, reserved),) = self.asked
        self.assertEqual((length, self.reservation.length), (5, 0))
        reserved.callback(None)
        self.assertEqual((self.reservation.length, self.changes), (5 * MIB, 1))
        self.reservation.ask(5 * MIB)
        self.assertEqual(len(self.asked), 1)
        self.reservation.ask(6 * MIB)
        self.assertEqual(len(self.asked), 2)

    def test_refused(self) -> None:
        """Why there is no room is said for that length, and another one is asked for again."""
        self.reservation.ask(5 * MIB)
        refusal = OSError("no room")
        self.asked[0][1].errback(refusal)
        self.assertIs(self.reservation.ask(5 * MIB), refusal)
        self.assertEqual(self.changes, 1)
        self.assertIsNone(self.reservation.ask(4 * MIB))

    def test_stops(self) -> None:
        """The end waits for a thread at work."""
        self.reservation.ask(5 * MIB)
        stopped = self.reservation.stop()
        self.assertNoResult(stopped)
        self.asked[0][1].callback(None)
        self.assertIsNone(self.successResultOf(stopped))


class SparePlaceTests(SynchronousTestCase):
    """A place in a directory of its own, and a file that the piece goes to."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.spare = SparePlace(self.directory)
        self.addCleanup(self.spare.close)
        self.target = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.target)

    def test_copied(self) -> None:
        """A piece is copied to its place, whatever its length, and nothing else is written."""
        self.spare.open()
        content = os.urandom(2 * MIB + 5)
        os.pwrite(self.spare.descriptor, content, 0)
        os.pwrite(self.target, b"before", 0)
        self.spare.copy(FilePlace(self.target, 6), len(content))
        self.assertEqual(os.pread(self.target, 3 * MIB, 0), b"before" + content)

    def test_no_name(self) -> None:
        """The file has no name, so that nothing is left when the process is killed; closed again, it is closed."""
        self.spare.open()
        self.assertEqual(list(self.directory.iterdir()), [])
        for _ in range(2):
            self.spare.close()
        self.assertRaises(OSError, lambda: self.spare.descriptor)

    def test_too_short(self) -> None:
        """What is not there cannot be copied."""
        self.spare.open()
        os.pwrite(self.spare.descriptor, b"abc", 0)
        self.assertRaisesRegex(OSError, "expected 4 bytes", self.spare.copy, FilePlace(self.target, 0), 4)

    def test_lost(self) -> None:
        """Nothing is copied to the place of a piece that another download has taken over meanwhile."""
        self.spare.open()
        os.pwrite(self.spare.descriptor, bytes(2 * MIB), 0)
        held = [True, False]
        with self.assertRaisesRegex(OSError, "taken this piece over"):
            self.spare.copy(FilePlace(self.target, 0), 2 * MIB, partial(held.pop, 0))
        self.assertEqual(os.fstat(self.target).st_size, MIB)

    def test_no_directory(self) -> None:
        """Where there is no directory there is no place."""
        self.assertRaises(OSError, SparePlace(self.directory / "none").open)
