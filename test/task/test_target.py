"""Tests of a file as a download's target. What it does to the file is tested with the output."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from dragonfly_vortex.errors import OutputError
from dragonfly_vortex.interfaces import Claim
from dragonfly_vortex.task.target import Found, IDownloadTarget, OutputTarget
from dragonfly_vortex.wire import PieceMetadata

PIECE = PieceMetadata(number=0, offset=0, length=3, digest="crc32:0")


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

    def test_failure(self) -> None:
        """What fails is told with the file's name."""
        error = self.target.failure("no space")
        self.assertIsInstance(error, OutputError)
        self.assertEqual(str(error), f"{self.path}: no space")
