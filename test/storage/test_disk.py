"""
Tests of a file's room on the disk and of its way there: on real files, and with what the kernel is asked written down.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.storage import disk
from dragonfly_vortex.storage.disk import (
    BALLAST_LENGTH,
    allocate,
    drop_ballast,
    free_run,
    keep_ballast,
    reserve,
    write_back,
)

MIB = 1024 * 1024


class _FileTestCase(SynchronousTestCase):
    """A real file."""

    def setUp(self) -> None:
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)

    def room(self) -> int:
        """Bytes that the file has on the disk."""
        return os.fstat(self.descriptor).st_blocks * 512


class AllocateTests(_FileTestCase):
    """Room in a real file."""

    def test_room(self) -> None:
        """There is room afterwards, and nothing else has changed; truncating the file to its length gives it back."""
        os.pwrite(self.descriptor, b"abc", 0)
        os.fsync(self.descriptor)
        before = self.room()
        try:
            allocate(self.descriptor, 0, 8 * MIB)
        except OSError as error:
            raise SkipTest(f"this file system makes no room: {error}") from error
        self.assertGreaterEqual(self.room(), 8 * MIB)
        self.assertEqual(os.pread(self.descriptor, 10, 0), b"abc")
        os.ftruncate(self.descriptor, 3)
        self.assertLessEqual(self.room(), max(before, 4096))

    def test_nearly_full(self) -> None:
        """As much again stays free for others: a file system that fills up would give this file all that it has."""
        free = os.fstatvfs(self.descriptor)
        full = os.statvfs_result((free.f_bsize, 4096, 10_000, 4000, 4000, 0, 0, 0, 0, 255))
        self.patch(os, "fstatvfs", lambda descriptor: full)
        error = self.assertRaises(OSError, allocate, self.descriptor, 0, 8 * MIB)
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertEqual(self.room(), 0)

    def test_refused(self) -> None:
        """Where the system has no such call, or refuses it, that is an OSError."""
        self.assertRaises(OSError, allocate, self.descriptor, 0, 1 << 62)
        self.patch(disk, "fallocate", lambda: None)
        self.assertEqual(self.assertRaises(OSError, allocate, self.descriptor, 0, 1).errno, errno.ENOSYS)


class ReserveTests(_FileTestCase):
    """Room for a file that is going to have some length."""

    def test_reserved(self) -> None:
        """What is reserved is on the disk, and the file is as long as before; a second time nothing is done."""
        os.pwrite(self.descriptor, b"abc", 0)
        reserve(self.descriptor, 3 * MIB)
        if self.room() < 3 * MIB:
            raise SkipTest("this file system allocates nothing in advance")
        self.assertEqual(os.fstat(self.descriptor).st_size, 3)
        self.patch(disk, "allocate", lambda *arguments: self.fail("expected nothing to be done"))
        reserve(self.descriptor, 3 * MIB)

    def test_full(self) -> None:
        """Too little room is an error with the numbers, whatever the length is, and nothing is allocated."""
        free = os.fstatvfs(self.descriptor)
        full = os.statvfs_result((free.f_bsize, 4096, 10_000, 2000, 2000, 0, 0, 0, 0, 255))
        self.patch(os, "fstatvfs", lambda descriptor: full)
        error = self.assertRaises(OSError, reserve, self.descriptor, 5 * MIB)
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertRegex(str(error), f"expected room for {5 * MIB} more bytes, got {2000 * 4096 - 5 * MIB}")
        self.assertRaises(OSError, reserve, self.descriptor, 1 << 60)
        self.assertEqual(self.room(), 0)

    def test_made_meanwhile(self) -> None:
        """Room that is made for a file counts at once."""
        disks = [os.statvfs_result((4096, 4096, 10_000, free, free, 0, 0, 0, 0, 255)) for free in (0, 10_000)]
        self.patch(os, "fstatvfs", lambda descriptor: disks[0])

        def find(needed: int) -> int:
            self.patch(os, "fstatvfs", lambda descriptor: disks[1])
            return needed

        reserve(self.descriptor, MIB, find)
        self.assertRaises(OSError, reserve, self.descriptor, 5 * MIB, lambda needed: needed - 1)

    def test_cannot_allocate(self) -> None:
        """A file system that allocates nothing in advance is no reason to fail; one that is full meanwhile is."""
        for number, fails in ((errno.EOPNOTSUPP, False), (errno.ENOSYS, False), (errno.ENOSPC, True)):

            def refuse(descriptor: int, start: int, end: int, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            self.patch(disk, "allocate", refuse)
            if fails:
                self.assertRaises(OSError, reserve, self.descriptor, MIB)
            else:
                reserve(self.descriptor, MIB)


class WriteBackTests(SynchronousTestCase):
    """Ranges of a file."""

    def setUp(self) -> None:
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        self.asked: list[tuple[int, int, int]] = []

    def record(self) -> None:
        """From now on, only write down what the kernel is asked."""

        def sync(descriptor: int, start: int, length: int, flags: int) -> None:
            self.assertEqual(descriptor, self.descriptor)
            self.asked.append((start, length, flags))

        self.patch(disk, "sync_file_range", lambda: sync)

    def test_pages_stay(self) -> None:
        """What is written back stays in memory, also what was on the disk already."""
        os.pwrite(self.descriptor, bytes(MIB), 0)
        os.fdatasync(self.descriptor)
        write_back(self.descriptor, [(0, MIB)])
        try:
            self.assertEqual(os.preadv(self.descriptor, [bytearray(1)], 0, os.RWF_NOWAIT), 1)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise SkipTest("this file system does not tell what is in memory") from error
            raise

    def test_asked(self) -> None:
        """Ranges that touch are joined, long ones are cut, and all are begun before the first is waited for."""
        self.record()
        write_back(self.descriptor, [(20 * MIB, 30 * MIB), (5, 10), (0, 5), (7, 8)])
        steps = [(0, 10), (20 * MIB, 8 * MIB), (28 * MIB, 2 * MIB)]
        self.assertEqual(self.asked, [(*step, 2) for step in steps] + [(*step, 7) for step in steps])

    def test_refused(self) -> None:
        """A file system that refuses the call gets all that was written; an error of the disk is raised."""
        waited: list[int] = []
        self.patch(os, "fdatasync", waited.append)
        for number, expected in ((errno.EINVAL, [self.descriptor]), (errno.EIO, [])):

            def fail(*_: int, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            self.patch(disk, "sync_file_range", lambda fail=fail: fail)
            waited.clear()
            try:
                write_back(self.descriptor, [(0, 10)])
            except OSError as error:
                self.assertEqual(error.errno, errno.EIO)
            self.assertEqual(waited, expected)

    def test_not_wanted(self) -> None:
        """When it is not wanted any more, the rest is left."""
        self.record()
        write_back(self.descriptor, [(0, 20 * MIB)], lambda: len(self.asked) < 4)
        self.assertEqual(len(self.asked), 4)

    def test_nothing(self) -> None:
        """Of nothing nothing is asked."""
        self.record()
        write_back(self.descriptor, [])
        self.assertEqual(self.asked, [])

    def test_without(self) -> None:
        """Where the C library has no such call the whole file is synchronised, if that is wanted."""
        synced: list[int] = []
        self.patch(disk, "sync_file_range", lambda: None)
        self.patch(os, "fdatasync", synced.append)
        write_back(self.descriptor, [])
        write_back(self.descriptor, [(0, 1)], lambda: False)
        write_back(self.descriptor, [(0, 1)])
        self.assertEqual(synced, [self.descriptor])

    def test_fails(self) -> None:
        """What the kernel answers is raised."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        error = self.assertRaises(OSError, write_back, writing, [(0, 1)])
        self.assertIn(error.errno, (errno.ESPIPE, errno.EINVAL))


class FreeRunTests(SynchronousTestCase):
    """How much the kernel leaves alone."""

    def test_told(self) -> None:
        """It is what the kernel tells, in pages."""
        path = Path(self.mktemp())
        path.write_text("nr_dirty_threshold 9\nnr_dirty_background_threshold 3\n")
        self.patch(disk, "_VMSTAT", path)
        self.assertEqual(free_run(), 3 * os.sysconf("SC_PAGESIZE"))

    def test_not_told(self) -> None:
        """Where it does not tell, it is 128 MiB."""
        path = Path(self.mktemp())
        self.patch(disk, "_VMSTAT", path)
        self.assertEqual(free_run(), 128 * MIB)
        path.write_text("nr_free_pages 1\n")
        self.assertEqual(free_run(), 128 * MIB)


class BallastTests(SynchronousTestCase):
    """The ballast of a storage."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "ballast"

    def test_kept(self) -> None:
        """It takes its room, and is made again where a killed process has begun to."""
        for begun in (b"", b"x"):
            self.path.write_bytes(begun)
            keep_ballast(self.directory)
            status = self.path.stat()
            self.assertEqual(status.st_size, BALLAST_LENGTH)
            self.assertGreaterEqual(status.st_blocks * 512, BALLAST_LENGTH)
        keep_ballast(self.directory)
        self.assertEqual(self.path.stat(), status)

    def test_given_up(self) -> None:
        """It is given up once, and where there is none nothing happens."""
        keep_ballast(self.directory)
        for _ in range(2):
            drop_ballast(self.directory)
            self.assertEqual(os.listdir(self.directory), [])

    def test_no_room(self) -> None:
        """Without room for it there is none, and no error."""

        def allocate(*_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "posix_fallocate", allocate)
        keep_ballast(self.directory)
        self.assertEqual(os.listdir(self.directory), [])
        keep_ballast(self.directory / "not-there")

    def test_symbolic_link(self) -> None:
        """A link in its place is left alone, and so is the file that it leads to."""
        other = self.directory / "other"
        other.write_bytes(b"another's")
        self.path.symlink_to("other")
        keep_ballast(self.directory)
        self.assertEqual(other.read_bytes(), b"another's")
