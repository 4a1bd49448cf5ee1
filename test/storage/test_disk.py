"""Tests of making room for a file, on the file system that the tests run on."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.storage import disk
from dragonfly_vortex.storage.disk import allocate

MIB = 1024 * 1024


class AllocateTests(SynchronousTestCase):
    """Room in a real file."""

    def setUp(self) -> None:
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)

    def room(self) -> int:
        """Bytes that the file has on the disk."""
        return os.fstat(self.descriptor).st_blocks * 512

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
