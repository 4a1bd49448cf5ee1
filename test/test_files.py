"""Tests of reading and writing all bytes of a range, where one call takes and gives fewer; and of shared memory."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.files import read_at, read_exactly, shared_memory, write_all


class FilesTests(SynchronousTestCase):
    """A file, and calls that the test cuts short."""

    def setUp(self) -> None:
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)

    def content(self) -> bytes:
        """All of the file."""
        return os.pread(self.descriptor, 100, 0)

    def read(self, length: int, offset: int) -> bytes:
        """Read a range of the file."""
        buffer = bytearray(length)
        read_exactly(self.descriptor, memoryview(buffer), offset)
        return bytes(buffer)

    def test_write(self) -> None:
        """Bytes go to a place, or to where the file is written next."""
        write_all(self.descriptor, b"abc")
        write_all(self.descriptor, memoryview(b"fgh"), 5)
        write_all(self.descriptor, b"de")
        self.assertEqual(self.content(), b"abcdefgh")

    def test_write_nothing(self) -> None:
        """No bytes are written at once."""
        write_all(self.descriptor, b"")
        write_all(self.descriptor, b"", 5)
        self.assertEqual(self.content(), b"")

    def test_write_in_parts(self) -> None:
        """What the system does not take in one call is written by the next."""
        write, pwrite = os.write, os.pwrite
        self.patch(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        self.patch(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:3], offset))
        write_all(self.descriptor, b"abcdefgh")
        write_all(self.descriptor, b"ijklmnop", 8)
        self.assertEqual(self.content(), b"abcdefghijklmnop")

    def test_write_takes_nothing(self) -> None:
        """A file that takes nothing and says nothing is an error, and no endless loop."""
        self.patch(os, "write", lambda descriptor, data: 0)
        self.patch(os, "pwrite", lambda descriptor, data, offset: 0)
        for offset in (None, 3):
            error = self.assertRaises(OSError, write_all, self.descriptor, b"abc", offset)
            self.assertEqual((error.errno, error.strerror), (errno.EIO, "expected to write 3 bytes, none were taken"))

    def test_read(self) -> None:
        """A range is read, in as many calls as that takes."""
        os.write(self.descriptor, b"abcdefgh")
        preadv = os.preadv
        self.patch(os, "preadv", lambda descriptor, buffers, offset: preadv(descriptor, [buffers[0][:3]], offset))
        self.assertEqual((self.read(7, 1), self.read(0, 8)), (b"bcdefgh", b""))

    def test_read_past_the_end(self) -> None:
        """A file that ends before the range does is an error."""
        os.write(self.descriptor, b"abcdefgh")
        error = self.assertRaises(OSError, self.read, 7, 4)
        self.assertEqual((error.errno, error.strerror), (errno.EIO, "expected 7 bytes at 4, got 4"))


class SharedMemoryTests(SynchronousTestCase):
    """A file without a name."""

    def assert_shared(self) -> None:
        """Assert that it has its content, and that each mapping shows what another one writes."""
        descriptor = shared_memory("dfvortex-test", b"four")
        try:
            with mmap.mmap(descriptor, 0) as one, mmap.mmap(descriptor, 0) as other:
                self.assertEqual(one[:], b"four")
                one[1:3] = b"ea"
                self.assertEqual(other[:], b"fear")
        finally:
            os.close(descriptor)

    def test_shared(self) -> None:
        """It has its content, and each mapping shows what another one writes."""
        self.assert_shared()

    def test_refused(self) -> None:
        """So it is where a sandbox refuses the call for it."""

        def refuse(name: str) -> int:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        self.patch(os, "memfd_create", refuse)
        self.assert_shared()

    def test_elsewhere(self) -> None:
        """So it is where there are no files in memory; nothing of it is left in a directory."""
        place = Path(self.mktemp())
        place.mkdir()
        self.patch(sys, "platform", "darwin")
        self.patch(tempfile, "tempdir", str(place))
        self.assert_shared()
        self.assertEqual(list(place.iterdir()), [])


class ReadAtTests(SynchronousTestCase):
    """Reading from a place in a file into memory."""

    def setUp(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(b"abcdef")
        self.descriptor = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, self.descriptor)

    def assert_reads(self) -> None:
        """Assert that bytes are put where they belong, and that the file has an end."""
        buffer = bytearray(4)
        self.assertEqual((read_at(self.descriptor, memoryview(buffer)[:3], 1), buffer), (3, b"bcd\0"))
        self.assertEqual((read_at(self.descriptor, memoryview(buffer), 4), buffer[:2]), (2, b"ef"))
        self.assertEqual(read_at(self.descriptor, memoryview(buffer), 6), 0)

    def test_read(self) -> None:
        """It is read in one call."""
        self.assert_reads()

    def test_refused(self) -> None:
        """It is read by another call where the first one is refused; other errors are raised."""
        numbers = [errno.EPERM] * 3

        def fail(*_: object) -> int:
            raise OSError(numbers.pop(0) if numbers else errno.EIO, "")

        self.patch(os, "preadv", fail)
        self.assert_reads()
        self.assertRaises(OSError, read_at, self.descriptor, memoryview(bytearray(1)), 0)

    def test_absent(self) -> None:
        """It is read by another call on a platform without the first one."""
        preadv = os.preadv
        del os.preadv
        self.addCleanup(setattr, os, "preadv", preadv)
        self.assert_reads()
