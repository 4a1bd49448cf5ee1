"""Tests of files that are complete or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage import atomic_file
from dragonfly_vortex.storage.atomic_file import StagedFile, check_target, lock, sweep

_WRITER = """
import sys, pathlib
from dragonfly_vortex.storage.atomic_file import StagedFile
staged = StagedFile.create(pathlib.Path(sys.argv[1]), sys.argv[2])
print(staged.path, flush=True)
sys.stdin.read()
"""


def writer(directory: Path, name: str) -> tuple[subprocess.Popen[str], Path]:
    """Another process that has begun a file, and the hidden name of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(directory), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if process.stdout is None:
        raise AssertionError("expected a pipe")
    return process, Path(process.stdout.readline().rstrip("\n"))


class StagedFileTests(SynchronousTestCase):
    """A file from its hidden name to its place."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.target = self.directory / "target"

    def stage(self, content: bytes = b"new") -> StagedFile:
        """A staged file with that content, discarded after the test."""
        staged = StagedFile.create(self.directory, "target")
        self.addCleanup(staged.discard)
        os.write(staged.descriptor, content)
        return staged

    def names(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.directory))

    def assert_closed(self, descriptor: int) -> None:
        """The descriptor is no open file any more."""
        with self.assertRaises(OSError) as caught:
            os.fstat(descriptor)
        self.assertEqual(caught.exception.errno, errno.EBADF)

    def test_publish(self) -> None:
        """A published file stands at its target, alone, and is closed."""
        staged = self.stage()
        self.assertEqual(self.names(), [staged.path.name])
        self.assertTrue(staged.path.name.startswith(".target."))
        staged.publish(self.target, overwrite=False)
        self.assertEqual(self.names(), ["target"])
        self.assertEqual(self.target.read_bytes(), b"new")
        self.assert_closed(staged.descriptor)

    def test_publish_waits_for_the_disk(self) -> None:
        """A published file and its name are on the disk, unless that is not to be waited for."""
        waited: list[str] = []
        self.patch(os, "fdatasync", lambda descriptor: waited.append("file"))
        self.patch(atomic_file, "sync_directory", lambda directory: waited.append("name"))
        self.stage().publish(self.target, overwrite=False)
        self.assertEqual(waited, ["file", "name"])
        self.stage(b"newer").publish(self.target, overwrite=True, sync=False)
        self.assertEqual((waited, self.target.read_bytes()), (["file", "name"], b"newer"))

    def test_publish_over_nothing(self) -> None:
        """Leave to overwrite needs nothing to overwrite."""
        self.stage().publish(self.target, overwrite=True)
        self.assertEqual(self.target.read_bytes(), b"new")

    def test_publish_over_a_file(self) -> None:
        """A file is replaced where that is allowed, and a process that has it open keeps it."""
        self.target.write_bytes(b"old")
        with open(self.target, "rb") as reader:
            self.stage().publish(self.target, overwrite=True)
            self.assertEqual(reader.read(), b"old")
        self.assertEqual(self.target.read_bytes(), b"new")
        self.assertEqual(self.names(), ["target"])

    def test_publish_refused(self) -> None:
        """A file is not replaced where that is not allowed, and the new one is still staged."""
        self.target.write_bytes(b"old")
        staged = self.stage()
        self.assertRaises(FileExistsError, staged.publish, self.target, overwrite=False)
        self.assertEqual(self.target.read_bytes(), b"old")
        staged.publish(self.target, overwrite=True)
        self.assertEqual(self.target.read_bytes(), b"new")

    def test_publish_beside_a_rival(self) -> None:
        """A file that appears after the last look at the target is not overwritten."""
        self.patch(atomic_file, "check_target", lambda target, overwrite: self.target.write_bytes(b"rival"))
        self.assertRaises(FileExistsError, self.stage().publish, self.target, overwrite=False)
        self.assertEqual(self.target.read_bytes(), b"rival")

    def test_publish_without_links(self) -> None:
        """Where there are no hard links a file is published as well, and overwrites nothing."""

        def no_links(source: Path, target: Path) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        def rival(source: Path, target: Path) -> None:
            target.write_bytes(b"rival")
            no_links(source, target)

        self.patch(os, "link", no_links)
        self.stage(b"first").publish(self.target, overwrite=False)
        self.assertEqual(self.target.read_bytes(), b"first")
        self.target.unlink()
        self.patch(os, "link", rival)
        self.assertRaises(FileExistsError, self.stage().publish, self.target, overwrite=False)
        self.assertEqual(self.target.read_bytes(), b"rival")

    def test_publish_nowhere(self) -> None:
        """A target whose directory is not there is an error, and the file is still staged."""
        staged = self.stage()
        self.assertRaises(FileNotFoundError, staged.publish, self.directory / "no" / "target", overwrite=False)
        self.assertEqual(self.names(), [staged.path.name])

    def test_mode(self) -> None:
        """The file has the mode that the umask gives to any new file."""
        self.addCleanup(os.umask, os.umask(0o027))
        self.stage().publish(self.target, overwrite=False)
        self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o640)

    def test_discard(self) -> None:
        """A discarded file is gone and closed, however often it is discarded."""
        staged = self.stage()
        staged.discard()
        self.assert_closed(staged.descriptor)
        staged.discard()
        self.assertEqual(self.names(), [])

    def test_context(self) -> None:
        """What is not published by the end of the block is discarded; what is stays."""
        with self.stage() as staged:
            pass
        self.assertEqual(self.names(), [])
        with self.stage() as staged:
            staged.publish(self.target, overwrite=False)
        self.assertEqual(self.names(), ["target"])

    def test_long_name(self) -> None:
        """A target may have the longest name that there is, in letters of two bytes too."""
        for name in ("n" * 255, "é" * 127):
            with StagedFile.create(self.directory, name) as staged:
                staged.publish(self.directory / name, overwrite=False)
        self.assertEqual(len(self.names()), 2)


class CheckTargetTests(SynchronousTestCase):
    """What a file may be published over."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_nothing(self) -> None:
        """A missing file does not conflict."""
        check_target(self.directory / "target", overwrite=False)

    def test_file(self) -> None:
        """A file is in the way until it may be overwritten, and so is a link to nowhere."""
        (self.directory / "file").touch()
        (self.directory / "link").symlink_to("nowhere")
        for name in ("file", "link"):
            self.assertRaises(FileExistsError, check_target, self.directory / name, overwrite=False)
            check_target(self.directory / name, overwrite=True)

    def test_no_file(self) -> None:
        """A directory, a pipe and a device are never overwritten."""
        os.mkfifo(self.directory / "pipe")
        for target in (self.directory, self.directory / "pipe", Path("/dev/null")):
            what = "got a directory" if target is self.directory else "got something else"
            for overwrite in (True, False):
                with self.assertRaisesRegex(FileExistsError, f"expected no file or a regular one there, {what}"):
                    check_target(target, overwrite=overwrite)


class LockTests(SynchronousTestCase):
    """Files that are in use."""

    def test_locked(self) -> None:
        """A lock is had by one, or shared by several."""
        path = Path(self.mktemp())
        path.touch()
        with open(path, "rb") as first, open(path, "rb") as second:
            self.assertTrue(lock(first.fileno()))
            self.assertFalse(lock(second.fileno()))
            self.assertFalse(lock(second.fileno(), shared=True))
            self.assertTrue(lock(first.fileno(), shared=True))
            self.assertTrue(lock(second.fileno(), shared=True))

    def test_without_locks(self) -> None:
        """Where there are no locks a file is as good as locked, and is never swept away."""
        directory = Path(self.mktemp())
        directory.mkdir()

        def flock(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        self.patch(fcntl, "flock", flock)
        with StagedFile.create(directory, "target") as staged:
            sweep(directory, "target")
            self.assertTrue(staged.path.exists())


class SweepTests(SynchronousTestCase):
    """Files whose writers are gone."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def start(self, name: str) -> tuple[subprocess.Popen[str], Path]:
        """Another process that has begun a file; it ends with the test."""
        process, path = writer(self.directory, name)
        self.addCleanup(process.communicate)
        return process, path

    def test_dead(self) -> None:
        """What a killed process leaves behind goes when the next file of that name is begun, and nothing else does."""
        process, dead = self.start("target")
        _, alive = self.start("target")
        stranger = self.directory / ".target.download.part"
        stranger.touch()
        process.kill()
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertTrue(dead.exists())
        with StagedFile.create(self.directory, "other"):
            self.assertTrue(dead.exists())
        with StagedFile.create(self.directory, "target"):
            self.assertFalse(dead.exists())
        self.assertTrue(alive.exists())
        self.assertTrue(stranger.exists())

    def test_own(self) -> None:
        """A file of this process is in use too."""
        with StagedFile.create(self.directory, "target") as staged:
            sweep(self.directory, "target")
            self.assertTrue(staged.path.exists())

    def test_swept_while_created(self) -> None:
        """A file that a sweep took between its opening and its lock is created anew."""
        lock = atomic_file.lock
        swept: list[bool] = []

        def late_lock(descriptor: int) -> bool:
            if not swept:
                swept.append(True)
                sweep(self.directory, "target")
            return lock(descriptor)

        self.patch(atomic_file, "lock", late_lock)
        with StagedFile.create(self.directory, "target") as staged:
            self.assertEqual(os.listdir(self.directory), [staged.path.name])
        self.assertEqual(swept, [True])

    def test_published_while_swept(self) -> None:
        """A sweep that comes late to the lock does not delete what took the name since."""
        with StagedFile.create(self.directory, "target") as staged:
            path = staged.path
            staged.publish(self.directory / "target", overwrite=False)
        path.write_bytes(b"another")
        is_named = atomic_file.is_named
        self.patch(atomic_file, "is_named", lambda descriptor, name: is_named(descriptor, self.directory / "target"))
        sweep(self.directory, "target")
        self.assertTrue(path.exists())
