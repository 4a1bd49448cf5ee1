"""Tests of directories."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.directories import locked, make_directory, sync_directory

_TRY = """
import fcntl, os, sys
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("locked")
else:
    print("free")
"""


class MakeDirectoryTests(SynchronousTestCase):
    """Directories and those above them."""

    def test_made(self) -> None:
        """All that is missing is made; what is there stays."""
        directory = Path(self.mktemp()) / "a" / "b"
        make_directory(directory)
        (directory / "file").touch()
        make_directory(directory)
        self.assertEqual(os.listdir(directory), ["file"])

    def test_in_the_way(self) -> None:
        """A file in the way is an error."""
        path = Path(self.mktemp())
        path.touch()
        self.assertRaises(FileExistsError, make_directory, path)

    def test_synced(self) -> None:
        """Every new name is written to the disk, by its own directory."""
        root = Path(self.mktemp()).absolute()
        root.mkdir()
        synced: list[str] = []
        fsync = os.fsync

        def noting_fsync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        self.patch(os, "fsync", noting_fsync)
        make_directory(root / "a" / "b")
        self.assertEqual(synced, [str(root), str(root / "a")])


class SyncDirectoryTests(SynchronousTestCase):
    """Names on the disk."""

    def test_missing(self) -> None:
        """A directory that is not there is an error."""
        self.assertRaises(FileNotFoundError, sync_directory, Path(self.mktemp()))

    def test_without_support(self) -> None:
        """A file system that cannot is forgiven, a disk that fails is not."""

        def fail(number: int) -> None:
            def fsync(descriptor: int) -> None:
                raise OSError(number, os.strerror(number))

            self.patch(os, "fsync", fsync)

        fail(errno.EINVAL)
        sync_directory(Path())
        fail(errno.EIO)
        self.assertRaises(OSError, sync_directory, Path())


class LockedTests(SynchronousTestCase):
    """Directories that one process has to itself."""

    def state(self, directory: Path) -> str:
        """What another process sees."""
        command = [sys.executable, "-c", _TRY, str(directory)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def test_locked(self) -> None:
        """Another process is kept out inside the block, and not after it, even when the block fails."""
        directory = Path(self.mktemp())
        directory.mkdir()
        with self.assertRaises(ZeroDivisionError), locked(directory):
            self.assertEqual(self.state(directory), "locked")
            raise ZeroDivisionError
        self.assertEqual(self.state(directory), "free")
