"""A sink holds exactly the bytes that it was given, where they belong."""

from __future__ import annotations

import os
import resource

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IFileSink, IPieceSink
from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.transport.sinks import FileSink, MemorySink

METADATA = sample_piece(9).metadata


class MemorySinkTests(SynchronousTestCase):
    """A piece in memory."""

    def test_provides_the_interface(self) -> None:
        """It has a sink's methods."""
        verifyObject(IPieceSink, MemorySink())

    def test_joins(self) -> None:
        """Chunks come out joined, whether they were bytes or views."""
        sink = MemorySink()
        sink.begin(METADATA)
        sink.write(b"abc")
        sink.write(memoryview(b"xdefx")[1:4])
        self.assertEqual(sink.finish(), b"abcdef")

    def test_nothing(self) -> None:
        """A piece of no bytes is empty."""
        sink = MemorySink()
        sink.begin(METADATA)
        self.assertEqual(sink.finish(), b"")

    def test_keeps_no_view(self) -> None:
        """A view is good only during the call: what it shows later does not come in."""
        sink, buffer = MemorySink(), bytearray(b"abc")
        sink.begin(METADATA)
        sink.write(memoryview(buffer))
        buffer[:] = b"xyz"
        self.assertEqual(sink.finish(), b"abc")

    def test_begins_again(self) -> None:
        """After a failure, and without one, it begins with nothing."""
        sink = MemorySink()
        for end in (sink.fail, lambda: None):
            sink.begin(METADATA)
            sink.write(b"abc")
            end()
            sink.begin(METADATA)
            sink.write(b"d")
            self.assertEqual(sink.finish(), b"d")


class FileSinkTests(SynchronousTestCase):
    """A piece in a file."""

    def setUp(self) -> None:
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        os.write(self.descriptor, b"." * 8)

    def content(self) -> bytes:
        """All that is in the file."""
        return os.pread(self.descriptor, 100, 0)

    def test_provides_the_interface(self) -> None:
        """It has a sink's methods."""
        verifyObject(IFileSink, FileSink(self.descriptor, 0))

    def test_writes_in_place(self) -> None:
        """Chunks are in the file as soon as they are written, one behind the other, and nothing else is touched."""
        sink = FileSink(self.descriptor, 2)
        sink.begin(METADATA)
        sink.write(b"ab")
        self.assertEqual(self.content(), b"..ab....")
        sink.write(memoryview(b"xcdx")[1:3])
        self.assertEqual(self.content(), b"..abcd..")
        sink.finish()
        self.assertEqual(os.lseek(self.descriptor, 0, os.SEEK_CUR), 8)

    def test_written_by_others(self) -> None:
        """A client learns where the next byte goes, and what it put there is not overwritten."""
        sink = FileSink(self.descriptor, 2)
        sink.begin(METADATA)
        self.assertEqual(sink.place(), FilePlace(self.descriptor, 2))
        os.pwrite(self.descriptor, b"ab", 2)
        sink.wrote(2)
        sink.write(b"c")
        self.assertEqual((sink.place(), self.content()), (FilePlace(self.descriptor, 5), b"..abc..."))
        sink.begin(METADATA)
        self.assertEqual(sink.place(), FilePlace(self.descriptor, 2))

    def test_cannot_be_read(self) -> None:
        """What is put into a file that cannot be read back could not be verified: so it is written."""
        descriptor = os.open(self.mktemp(), os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        sink = FileSink(descriptor, 0)
        sink.begin(METADATA)
        self.assertIsNone(sink.place())
        sink.write(b"abc")
        self.assertEqual(os.fstat(descriptor).st_size, 3)

    def test_ignores_the_parents_offset(self) -> None:
        """The piece goes where this side wants it, whatever offset the parent names."""
        sink = FileSink(self.descriptor, 0)
        sink.begin(sample_piece(9, number=5).metadata)
        sink.write(b"ab")
        self.assertEqual(self.content(), b"ab......")

    def test_begins_again(self) -> None:
        """A piece that is asked for a second time is written over the first."""
        sink = FileSink(self.descriptor, 1)
        sink.begin(METADATA)
        sink.write(b"abc")
        sink.fail()
        sink.begin(METADATA)
        sink.write(b"de")
        self.assertEqual(self.content(), b".dec....")

    def test_short_writes(self) -> None:
        """What the kernel did not take in one call is written by the next."""
        taken: list[int] = []

        def reluctant(descriptor: int, data: memoryview, position: int) -> int:
            taken.append(len(data))
            return pwrite(descriptor, data[:3], position)

        pwrite = os.pwrite
        self.patch(os, "pwrite", reluctant)
        sink = FileSink(self.descriptor, 0)
        sink.begin(METADATA)
        sink.write(b"abcdefgh")
        self.assertEqual((taken, self.content()), ([8, 5, 2], b"abcdefgh"))

    def test_no_progress(self) -> None:
        """A file that takes nothing and says nothing is an error, and not an endless loop."""
        self.patch(os, "pwrite", lambda descriptor, data, position: 0)
        sink = FileSink(self.descriptor, 0)
        sink.begin(METADATA)
        self.assertRaises(OSError, sink.write, b"abc")

    def test_full(self) -> None:
        """A file that may not grow further raises, with what fits in place."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        sink = FileSink(self.descriptor, 6)
        sink.begin(METADATA)
        self.assertRaises(OSError, sink.write, b"abcdef")
        self.assertEqual(self.content(), b"......abcd")
