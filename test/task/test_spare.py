"""Tests of the place for another copy of a piece."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.task.spare import SparePlace

MIB = 1024 * 1024


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

    def test_no_directory(self) -> None:
        """Where there is no directory there is no place."""
        self.assertRaises(OSError, SparePlace(self.directory / "none").open)
