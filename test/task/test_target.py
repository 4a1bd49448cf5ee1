"""Tests of a file as a download's target. What it does to the file is tested with the output."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from dragonfly_vortex.errors import OutputError
from dragonfly_vortex.model import Claim
from dragonfly_vortex.task import disk
from dragonfly_vortex.task import target as target_module
from dragonfly_vortex.task.target import MOST_UNWRITTEN, Found, IDownloadTarget, OutputTarget
from dragonfly_vortex.wire import PieceMetadata
from test.task.test_file_hash import HeldThreads

PIECE = PieceMetadata(number=0, offset=0, length=3, digest="crc32:0")
LARGE = PieceMetadata(number=0, offset=0, length=1024 * 1024, digest="crc32:0")


def _fail(*_: object) -> None:
    """What a broken disk does."""
    raise OSError("Input/output error")


class OutputTargetTests(SynchronousTestCase):
    """A file that nobody else writes to."""

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
        for done in (self.target.keep(PIECE, 3), self.target.set_content_length(3), self.target.publish(3)):
            self.assertIsNone(self.successResultOf(done))
        self.successResultOf(self.target.close())
        self.assertEqual((os.listdir(self.directory), self.path.read_bytes()), (["file"], b"abc"))

    def test_closed(self) -> None:
        """Closed before that, nothing is left."""
        self.successResultOf(self.target.open())
        self.target.release(0)
        self.target.subscribe(lambda: None)()
        self.assertIsNone(self.successResultOf(self.target.drop([0])))
        self.successResultOf(self.target.close())
        self.assertEqual(os.listdir(self.directory), [])

    def opened(self, most_unwritten: int | None, **options: bool) -> OutputTarget:
        """A target with a mebibyte in it, and threads that are held."""
        self.threads = HeldThreads()
        target = OutputTarget(self.path, self.threads, most_unwritten=most_unwritten, **options)
        opened = target.open()
        self.threads.run_one()
        self.successResultOf(opened)
        os.pwrite(target.descriptor, bytes(LARGE.length), 0)
        return target

    def test_behind(self) -> None:
        """A piece that comes faster than the disk writes holds the download back until it is written."""
        target = self.opened(LARGE.length - 1)
        self.assertFalse(target.is_behind)
        kept = target.keep(LARGE, LARGE.length)
        self.assertTrue(target.is_behind)
        self.assertNoResult(kept)
        self.threads.run_one()
        self.assertIsNone(self.successResultOf(kept))
        self.assertFalse(target.is_behind)

    def test_not_behind(self) -> None:
        """As long as little waits for the disk nobody is held back; how little follows from what is waited for."""
        # As the memory that is free changes, so does what the kernel says.
        for options, told, most in (
            ({}, 2 * MOST_UNWRITTEN, MOST_UNWRITTEN),
            ({"sync": False}, 2 * MOST_UNWRITTEN, 2 * MOST_UNWRITTEN),
            ({"sync": False}, 1, MOST_UNWRITTEN),
        ):
            self.patch(target_module, "free_run", lambda told=told: told)
            target = self.opened(None, overwrite=True, **options)
            for length in (most, LARGE.length):
                self.assertFalse(target.is_behind)
                kept = target.keep(replace(LARGE, length=length), length)
            self.assertTrue(target.is_behind)
            self.assertNoResult(kept)
            closed = target.close()
            for _ in range(2):
                self.threads.run_one()
            self.successResultOf(closed)

    def test_when_it_begins(self) -> None:
        """A piece is brought to the disk at once; where nobody waits for that, when half of what may wait has come."""
        for sync, lengths in ((True, [LARGE.length]), (False, [MOST_UNWRITTEN // 2 - 1, 1])):
            self.patch(target_module, "free_run", lambda: 0)
            target = self.opened(None, overwrite=True, sync=sync)
            for length in lengths:
                self.assertEqual(self.threads.calls, [])
                target.keep(replace(LARGE, length=length), length)
            self.assertEqual(len(self.threads.calls), 1)
            closed = target.close()
            for _ in range(2):
                self.threads.run_one()
            self.successResultOf(closed)

    def test_left_alone(self) -> None:
        """Where the file is left to the kernel no thread is asked for anything."""
        target = self.opened(0, writes_early=False)
        self.successResultOf(target.keep(LARGE, LARGE.length))
        self.assertEqual((self.threads.calls, target.is_behind), ([], False))

    def test_closed_while_written(self) -> None:
        """The file is closed when no thread writes it any more."""
        target = self.opened(None)
        self.successResultOf(target.keep(LARGE, LARGE.length))
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
        self.successResultOf(target.keep(LARGE, LARGE.length))
        self.threads.run_one()
        for failed in (target.keep(LARGE, LARGE.length), target.publish(LARGE.length)):
            error = self.failureResultOf(failed, OutputError).value
            self.assertEqual(str(error), f"{self.path}: cannot be written: Input/output error")
            self.assertIsInstance(error.__cause__, OSError)
        self.assertEqual(self.threads.calls, [])
        closed = target.close()
        self.threads.run_one()
        self.successResultOf(closed)
        self.assertEqual(os.listdir(self.directory), [])

    def test_failure(self) -> None:
        """What fails is told with the file's name."""
        error = self.target.failure("no space")
        self.assertIsInstance(error, OutputError)
        self.assertEqual(str(error), f"{self.path}: no space")
