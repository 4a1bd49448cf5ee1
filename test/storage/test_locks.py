"""Tests of real locks, of several owners, some of which cannot use one kind of lock."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage import locks
from dragonfly_vortex.storage.locks import HAS_RANGES, try_lock


def refuse_flock(*_: int) -> None:
    """What a file system without flock answers."""
    raise OSError(errno.ENOSYS, "Function not implemented")


def refuse_bytes(*_: object) -> bool:
    """What a filter that does not know the locks of open files answers."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


@skipUnless(HAS_RANGES, "there is one kind of locks here")
class TryLockTests(SynchronousTestCase):
    """Open files of one path."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.touch()

    def open(self) -> int:
        """One more open file."""
        descriptor = os.open(self.path, os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        return descriptor

    def refused(self, name: str, lock: Callable[[], bool]) -> bool:
        """Lock while one kind of lock, or both, are refused."""
        flock, lock_byte = fcntl.flock, locks.lock_byte
        if name in ("flock", "both"):
            fcntl.flock = refuse_flock  # type: ignore[assignment]
        if name in ("bytes", "both"):
            locks.lock_byte = refuse_bytes  # type: ignore[assignment]
        try:
            return lock()
        finally:
            fcntl.flock, locks.lock_byte = flock, lock_byte

    def test_one_kind_refused(self) -> None:
        """An owner without one kind of lock is excluded by one that has both, and the other way round."""
        for name in ("flock", "bytes"):
            first, second = os.open(self.path, os.O_RDWR), os.open(self.path, os.O_RDWR)
            self.assertTrue(self.refused(name, lambda descriptor=first: try_lock(descriptor)))  # type: ignore[misc]
            self.assertFalse(try_lock(second), name)
            os.close(first)
            os.close(second)
            third = os.open(self.path, os.O_RDWR)
            self.assertTrue(try_lock(third))
            fourth = self.open()
            self.assertFalse(self.refused(name, lambda descriptor=fourth: try_lock(descriptor)))  # type: ignore[misc]
            os.close(third)

    def test_both_refused(self) -> None:
        """Without any lock an error says what was expected."""
        descriptor = self.open()
        error = self.assertRaises(OSError, self.refused, "both", lambda: try_lock(descriptor))
        self.assertEqual(error.errno, errno.ENOLCK)

    def test_in_all_ways(self) -> None:
        """Where one kind is refused, nothing is sure about the owners that have the other one."""
        descriptor = self.open()
        for name in ("flock", "bytes"):
            self.assertRaises(OSError, self.refused, name, lambda: try_lock(descriptor, in_all_ways=True))
        self.assertTrue(try_lock(descriptor, in_all_ways=True))

    def test_failures(self) -> None:
        """An error that is no refusal is passed on."""
        descriptor = self.open()

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        for module, name in ((fcntl, "flock"), (locks, "lock_byte")):
            patched = self.patch(module, name, fail)
            self.assertRaises(OSError, try_lock, descriptor)
            patched.restore()
