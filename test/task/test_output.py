"""Tests of the file that a download ends in, over real directories."""

from __future__ import annotations

import os
import resource
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import OutputError, PieceRefused
from dragonfly_vortex.interfaces import IFileSink
from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.task.output import Output, OutputSink
from dragonfly_vortex.wire import PieceMetadata


def metadata(offset: int) -> PieceMetadata:
    """A piece that starts there."""
    return PieceMetadata(number=0, offset=offset, length=3, digest="")


class OutputTestCase(SynchronousTestCase):
    """A directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.target = self.directory / "file"

    def opened(self, *, overwrite: bool = False) -> Output:
        """An output whose temporary is there."""
        output = Output(self.target, overwrite=overwrite)
        output.open()
        self.addCleanup(output.discard)
        return output

    def names(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.directory))


class OutputTests(OutputTestCase):
    """A target from the temporary to its name."""

    def test_publish(self) -> None:
        """Nothing has the target's name before it is published; then it has its length, and there is nothing else."""
        output = self.opened()
        os.pwrite(output.descriptor, b"content and more", 0)
        self.assertFalse(self.target.exists())
        output.publish(7)
        output.discard()
        self.assertEqual((self.names(), self.target.read_bytes()), (["file"], b"content"))

    def test_publish_without_waiting(self) -> None:
        """Where the disk is not to be waited for nothing is different but that."""
        synced: list[int] = []
        self.patch(os, "fdatasync", synced.append)
        for sync in (False, True):
            output = Output(self.target, overwrite=True, sync=sync)
            output.open()
            self.addCleanup(output.discard)
            os.pwrite(output.descriptor, b"content and more", 0)
            output.publish(7)
            self.assertEqual((self.names(), self.target.read_bytes(), len(synced)), (["file"], b"content", int(sync)))

    def test_discard(self) -> None:
        """Discarded, nothing is left; there is no descriptor then."""
        output = self.opened()
        output.discard()
        output.discard()
        self.assertEqual(self.names(), [])
        self.assertRaises(OutputError, lambda: output.descriptor)

    def test_existing(self) -> None:
        """What stands at the target is left alone, and the message names it."""
        self.target.write_bytes(b"mine")
        error = self.assertRaises(OutputError, Output(self.target).open)
        self.assertIn(str(self.target), str(error))
        self.assertEqual((self.names(), self.target.read_bytes()), (["file"], b"mine"))

    def test_existing_by_then(self) -> None:
        """What stands at the target by the time it is complete is left alone, too."""
        output = self.opened()
        self.target.write_bytes(b"mine")
        self.assertRaises(OutputError, output.publish, 0)
        output.discard()
        self.assertEqual((self.names(), self.target.read_bytes()), (["file"], b"mine"))

    def test_overwrite(self) -> None:
        """It is replaced where that is asked for."""
        self.target.write_bytes(b"mine")
        self.opened(overwrite=True).publish(0)
        self.assertEqual(self.target.read_bytes(), b"")

    def test_no_directory(self) -> None:
        """A directory that is not there, or is none, is an error that names the target."""
        for target in (self.directory / "none" / "file", self.directory / "file" / "file"):
            self.target.write_bytes(b"")
            error = self.assertRaises(OutputError, Output(target).open)
            self.assertIn(str(target), str(error))

    def test_sweeps(self) -> None:
        """What a killed download to the same target has left is swept away."""
        killed = Output(self.target)
        killed.open()
        os.close(killed.descriptor)
        self.assertEqual(len(self.names()), 1)
        self.opened().publish(0)
        self.assertEqual(self.names(), ["file"])


class OutputSinkTests(OutputTestCase):
    """The place of a piece."""

    def test_provides(self) -> None:
        """It is an IFileSink."""
        self.assertTrue(verifyObject(IFileSink, OutputSink(self.opened(), lambda _: None)))

    def test_writes(self) -> None:
        """Bytes go to the piece's place, one after the other; begun again, from its start."""
        output = self.opened()
        sink = OutputSink(output, lambda _: None)
        sink.begin(metadata(4))
        sink.write(b"xx")
        sink.fail()
        sink.begin(metadata(4))
        sink.write(b"ab")
        sink.write(memoryview(b"c"))
        sink.write(b"")
        self.assertEqual(sink.finish(), 3)
        self.assertEqual(os.pread(output.descriptor, 99, 0), b"\0\0\0\0abc")

    def test_written_by_others(self) -> None:
        """Others are told where the next byte goes, and their bytes count as those that are written do."""
        output = self.opened()
        sink = OutputSink(output, lambda _: None)
        sink.begin(metadata(4))
        sink.write(b"a")
        self.assertEqual(sink.place(), FilePlace(output.descriptor, 5))
        os.pwrite(output.descriptor, b"bc", 5)
        sink.wrote(2)
        sink.write(b"d")
        self.assertEqual(sink.finish(), 4)
        self.assertEqual(os.pread(output.descriptor, 99, 0), b"\0\0\0\0abcd")

    def test_judged(self) -> None:
        """A piece that cannot be is refused."""

        def refuse(_: PieceMetadata) -> None:
            raise PieceRefused("no")

        self.assertRaises(PieceRefused, OutputSink(self.opened(), refuse).begin, metadata(0))

    def test_revoked(self) -> None:
        """When its place is taken away, nothing is written any more."""
        output = self.opened()
        sink = OutputSink(output, lambda _: None)
        sink.begin(metadata(0))
        sink.revoke()
        self.assertRaises(OSError, sink.write, b"abc")
        self.assertRaises(OSError, sink.place)
        self.assertEqual(os.fstat(output.descriptor).st_size, 0)

    def test_lost(self) -> None:
        """A piece that another download has taken over is not written, and one lost meanwhile is not counted on."""
        output = self.opened()
        sink = OutputSink(output, lambda _: None)
        sink.begin(metadata(0))
        for held, written in (([False], b""), ([True, False], b"abc")):
            sink.is_held = partial(held.pop, 0)
            self.assertRaises(OSError, sink.write, b"abc")
            self.assertEqual(os.pread(output.descriptor, 99, 0), written)
        sink.is_held = bool
        self.assertRaises(OSError, sink.place)
        self.assertRaises(OSError, sink.wrote, 1)

    def test_full(self) -> None:
        """A write that the system refuses is its error."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        sink = OutputSink(self.opened(), lambda _: None)
        sink.begin(metadata(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2, hard))
        self.assertRaises(OSError, sink.write, b"abc")
