"""Tests of the room that a storage keeps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.ballast import BALLAST_LENGTH, drop_ballast, keep_ballast


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
