"""Tests of directories."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage import directories
from dragonfly_vortex.storage.directories import create_file, locked, make_directory, open_file, sync_directory
from test import sandbox
from test.sandbox import refusing

_OWNER = """
import pathlib, sys
from dragonfly_vortex.storage.directories import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

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


@skipUnless(os.geteuid() == 0, "only root can give a file to another user")
class OwnerTests(SynchronousTestCase):
    """What root makes in a directory of another user, with a umask that gives no rights to others."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        os.chown(self.root, 23456, 34567)
        self.addCleanup(os.umask, os.umask(0o077))

    def assert_owned(self, path: Path, mode: int) -> None:
        """Assert that the directory's owner and group have it, with that mode."""
        status = path.stat()
        self.assertEqual((status.st_uid, status.st_gid), (23456, 34567))
        self.assertEqual(oct(stat.S_IMODE(status.st_mode)), oct(mode))

    def test_directories(self) -> None:
        """Each directory belongs to the owner of the one above."""
        make_directory(self.root / "a" / "b")
        for path in (self.root / "a", self.root / "a" / "b"):
            self.assert_owned(path, 0o700)

    def test_files(self) -> None:
        """A new file belongs to the directory's owner; one that is there stays as it is."""
        path = self.root / "file"
        os.close(open_file(path))
        self.assert_owned(path, 0o600)
        self.assertRaises(FileExistsError, create_file, path)
        os.chown(path, 0, 0)
        os.close(open_file(path))
        self.assertEqual(path.stat().st_uid, 0)

    def test_shared_with_a_group(self) -> None:
        """What is new in a directory that its group shares is shared by it, whatever the umask is."""
        self.root.chmod(0o775)
        os.close(create_file(self.root / "not-shared"))
        self.assert_owned(self.root / "not-shared", 0o600)
        self.root.chmod(0o2775)
        make_directory(self.root / "a" / "b")
        os.close(create_file(self.root / "a" / "b" / "file"))
        self.assert_owned(self.root / "a", 0o2770)
        self.assert_owned(self.root / "a" / "b", 0o2770)
        self.assert_owned(self.root / "a" / "b" / "file", 0o660)

    def test_cannot_be_given_away(self) -> None:
        """Where root must not give files away, none is left behind."""

        def refuse(*_: int) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        self.patch(os, "fchown", refuse)
        self.assertRaises(PermissionError, create_file, self.root / "file")
        self.assertEqual(os.listdir(self.root), [])


class OpenFileTests(SynchronousTestCase):
    """Files that are made where they are not there."""

    def test_symbolic_link(self) -> None:
        """A symbolic link is refused at once and not followed, whether it leads to a file or nowhere."""
        link, other = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        link.symlink_to(other)
        for _ in range(2):
            error = self.assertRaises(OSError, open_file, link)
            self.assertEqual(error.errno, errno.ELOOP)
            other.touch()


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

    def test_never_given_up(self) -> None:
        """A lock that is not given up, as of a process that is frozen, is not waited for without end."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.patch(directories, "_LOCK_TIMEOUT", 0.05)
        with (
            locked(directory),
            self.assertRaisesRegex(TimeoutError, "expected the lock of the directory within 0.05 s, another"),
            locked(directory),
        ):
            pass
        with locked(directory):
            self.assertEqual(self.state(directory), "locked")


def is_waiting(pid: int) -> bool:
    """Whether a process sleeps until its next attempt, by a call that differs between Pythons: proc_pid_syscall(5)."""
    number = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[0]
    return number in {str(sandbox.NUMBERS.get(call)) for call in ("clock_nanosleep", "pselect6", "select")}


@skipUnless(sandbox.IS_POSSIBLE, "filters of system calls are known here for Linux on x86-64 and aarch64 only")
class RefusedLocksTests(SynchronousTestCase):
    """Directories that processes hold, some of them in a sandbox."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def owner(self, *refused: str) -> subprocess.Popen[str]:
        """Another process that asks for the directory; it gives up what it has when its input ends."""
        command = [sys.executable, "-c", _OWNER, str(self.directory)]
        process = subprocess.Popen(
            refusing("EPERM", refused, command) if refused else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def assert_held(self, process: subprocess.Popen[str]) -> None:
        """Wait until it has the directory."""
        self.assertEqual(process.stdout and process.stdout.readline(), "held\n")

    def assert_excluded(self, first: Sequence[str], second: Sequence[str]) -> None:
        """A process that is refused some calls waits for one that is refused others."""
        having = self.owner(*first)
        self.assert_held(having)
        waiting = self.owner(*second)
        while not is_waiting(waiting.pid):
            self.assertIsNone(waiting.poll())
        having.kill()
        self.assert_held(waiting)
        waiting.kill()
        waiting.wait()

    def test_sandboxed(self) -> None:
        """Processes to which flock is refused exclude each other, and those to which it is not, either way."""
        self.assert_excluded(["flock"], ["flock"])
        self.assert_excluded(["flock"], [])
        self.assert_excluded([], ["flock"])
        self.assertEqual(os.listdir(self.directory), [".lock"])

    def test_none(self) -> None:
        """Without any lock a directory cannot be held, and nothing is left in it."""
        process = self.owner("flock", "ofd_locks")
        self.assertEqual(process.wait(), 1)

    def test_ordinary(self) -> None:
        """Where nothing is refused, nothing is written into the directory."""
        with locked(self.directory):
            self.assertEqual(os.listdir(self.directory), [])
