"""Tests of a file as a download's target, over real directories."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from msgspec.structs import replace
from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import OutputError
from dragonfly_vortex.model import Claim, Found
from dragonfly_vortex.storage.disk import MOST_UNWRITTEN
from dragonfly_vortex.task import disk
from dragonfly_vortex.task import output as output_module
from dragonfly_vortex.task.output import Output, OutputTarget
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.task.test_file_hash import HeldThreads


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


PIECE = PieceMetadata(number=0, offset=0, length=3, digest="crc32:0")
LARGE = PieceMetadata(number=0, offset=0, length=1024 * 1024, digest="crc32:0")


def _fail(*_: object) -> None:
    """What a broken disk does."""
    raise OSError("Input/output error")


class OutputTargetTests(SynchronousTestCase):
    """A file without another writer."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "file"
        self.target = OutputTarget(self.path, execute)

    def test_provides(self) -> None:
        """It is a target."""
        self.assertTrue(verifyClass(IDownloadTarget, OutputTarget))

    def test_published(self) -> None:
        """It begins with nothing, every piece is its own, and published it stays when it is closed."""
        self.assertEqual(self.successResultOf(self.target.open()), Found())
        self.assertEqual(self.successResultOf(self.target.claim(0)), Claim(is_ours=True))
        os.pwrite(self.target.descriptor, b"abcdef", 0)
        for done in (self.target.commit(PIECE, 3, 3), self.target.publish(3)):
            self.assertIsNone(self.successResultOf(done))
        self.successResultOf(self.target.close())
        self.assertEqual((os.listdir(self.directory), self.path.read_bytes()), (["file"], b"abc"))

    def test_kept(self) -> None:
        """Closed before that, a target for a task leaves its verified pieces, which the next one finds, or forgets."""
        kept_for = (PieceKind.STANDARD, "ab" * 32)
        piece = replace(PIECE, digest=f"crc32:{zlib.crc32(b'abc')}")
        for is_published in (False, True):
            target = OutputTarget(self.path, execute, kept_for=kept_for)
            found = self.successResultOf(target.open())
            self.assertEqual(list(found.pieces), [piece] if is_published else [])
            if is_published:
                self.successResultOf(target.publish(3))
            else:
                os.pwrite(target.descriptor, b"abc", 0)
                self.successResultOf(target.commit(piece, 3, 3))
            self.successResultOf(target.close())
        self.assertEqual((os.listdir(self.directory), self.path.read_bytes()), (["file"], b"abc"))
        self.path.unlink()
        target = OutputTarget(self.path, execute, kept_for=kept_for)
        self.assertEqual(self.successResultOf(target.open()), Found())
        self.successResultOf(target.commit(piece, 3, 3))
        self.successResultOf(target.close())
        self.assertEqual(len(os.listdir(self.directory)), 2)
        target.forget()
        self.assertEqual(os.listdir(self.directory), [])

    def test_closed(self) -> None:
        """Closed before that, nothing is left."""
        self.successResultOf(self.target.open())
        self.target.release(0)
        self.target.subscribe(lambda: None)()
        self.assertIsNone(self.successResultOf(self.target.drop([0])))
        self.successResultOf(self.target.close())
        self.assertEqual(os.listdir(self.directory), [])

    def opened(self, most_unwritten: int | None, *, overwrite: bool = False, sync: bool = True) -> OutputTarget:
        """A target with a mebibyte in it, and threads that are held."""
        self.threads = HeldThreads()
        if most_unwritten is not None:
            self.patch(output_module, "MOST_UNWRITTEN", most_unwritten)
        target = OutputTarget(self.path, self.threads, overwrite=overwrite, sync=sync)
        opened = target.open()
        self.threads.run_one()
        self.successResultOf(opened)
        os.pwrite(target.descriptor, bytes(LARGE.length), 0)
        return target

    def test_behind(self) -> None:
        """A piece that comes faster than the disk writes holds the download back until it is written."""
        target = self.opened(LARGE.length - 1)
        self.assertFalse(target.is_behind)
        committed = target.commit(LARGE, LARGE.length, None)
        self.assertTrue(target.is_behind)
        self.assertNoResult(committed)
        self.threads.run_one()
        self.assertIsNone(self.successResultOf(committed))
        self.assertFalse(target.is_behind)

    def test_not_behind(self) -> None:
        """As long as little waits for the disk no request is held back; the bound follows from what is waited for."""
        # As the memory that is free changes, so does what the kernel says.
        for options, told, most in (
            ({}, 2 * MOST_UNWRITTEN, MOST_UNWRITTEN),
            ({"sync": False}, 2 * MOST_UNWRITTEN, 2 * MOST_UNWRITTEN),
            ({"sync": False}, 1, MOST_UNWRITTEN),
        ):
            self.patch(output_module, "free_run", lambda told=told: told)
            target = self.opened(None, overwrite=True, **options)
            for length in (most, LARGE.length):
                self.assertFalse(target.is_behind)
                committed = target.commit(replace(LARGE, length=length), length, None)
            self.assertTrue(target.is_behind)
            self.assertNoResult(committed)
            closed = target.close()
            for _ in range(2):
                self.threads.run_one()
            self.successResultOf(closed)

    def test_when_it_begins(self) -> None:
        """
        A piece is written to the disk at once; without waiting for the disk, when half of what may wait has arrived.
        """
        for sync, lengths in ((True, [LARGE.length]), (False, [MOST_UNWRITTEN // 2 - 1, 1])):
            self.patch(output_module, "free_run", lambda: 0)
            target = self.opened(None, overwrite=True, sync=sync)
            for length in lengths:
                self.assertEqual(self.threads.calls, [])
                target.commit(replace(LARGE, length=length), length, None)
            self.assertEqual(len(self.threads.calls), 1)
            closed = target.close()
            for _ in range(2):
                self.threads.run_one()
            self.successResultOf(closed)

    def test_closed_while_written(self) -> None:
        """The file is closed when no thread writes it any more."""
        target = self.opened(None)
        self.successResultOf(target.commit(LARGE, LARGE.length, None))
        descriptor = target.descriptor
        closed = target.close()
        self.assertEqual(len(self.threads.calls), 1)
        os.fstat(descriptor)
        self.threads.run_one()
        self.threads.run_one()
        self.successResultOf(closed)
        self.assertEqual(os.listdir(self.directory), [])

    def test_disk_fails(self) -> None:
        """A file that could not be written is not published, and a later piece ends its download."""
        target = self.opened(None)
        self.patch(disk, "write_back", _fail)
        self.successResultOf(target.commit(LARGE, LARGE.length, None))
        self.threads.run_one()
        for failed in (target.commit(LARGE, LARGE.length, None), target.publish(LARGE.length)):
            error = self.failureResultOf(failed, OutputError).value
            self.assertEqual(str(error), f"{self.path}: cannot be written: Input/output error")
            self.assertIsInstance(error.__cause__, OSError)
        self.assertEqual(self.threads.calls, [])
        closed = target.close()
        self.threads.run_one()
        self.successResultOf(closed)
        self.assertEqual(os.listdir(self.directory), [])

    def test_failure(self) -> None:
        """An error names the file."""
        error = self.target.failure("no space")
        self.assertIsInstance(error, OutputError)
        self.assertEqual(str(error), f"{self.path}: no space")
