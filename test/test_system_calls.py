"""Tests of the calls that Python's own os lacks: the C library's, and its absence."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex import system_calls
from dragonfly_vortex.system_calls import is_refused


class SystemCallTests(SynchronousTestCase):
    """Both calls, alike."""

    def setUp(self) -> None:
        for each in (system_calls.fallocate, system_calls.sync_file_range):
            each.cache_clear()
            self.addCleanup(each.cache_clear)

    @skipUnless(sys.platform == "linux", "they are Linux's")
    def test_calls(self) -> None:
        """What the kernel refuses is an OSError with its number and its words."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        for each in (system_calls.fallocate, system_calls.sync_file_range):
            call = each()
            assert call is not None
            error = self.assertRaises(OSError, call, writing, 0, 0, 1)
            self.assertEqual((error.errno, error.strerror), (errno.ESPIPE, os.strerror(errno.ESPIPE)))

    def test_no_function(self) -> None:
        """A C library without them is no error."""
        self.patch(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
        self.assertEqual((system_calls.fallocate(), system_calls.sync_file_range()), (None, None))

    def test_no_call(self) -> None:
        """Neither is a kernel without them."""

        def refuse(*_: int) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

        self.patch(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(fallocate=refuse, sync_file_range=refuse))
        self.assertEqual((system_calls.fallocate(), system_calls.sync_file_range()), (None, None))


class ReasonTests(SynchronousTestCase):
    """What is said of an error."""

    def test_words(self) -> None:
        """The system's words and the file, without the number; of another error its message."""
        for error, words in (
            (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
            (OSError(errno.ENOENT, "No such file or directory", "/some/file"), "No such file or directory: /some/file"),
            (OSError("only words"), "only words"),
            (ValueError("a value"), "a value"),
        ):
            self.assertEqual(system_calls.reason_of(error), words)


class IsRefusedTests(SynchronousTestCase):
    """Errors that say that a call cannot be had."""

    def test_refused(self) -> None:
        """A filter, a kernel and a file system each have their number; some calls have one more."""
        for number in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY):
            self.assertTrue(is_refused(OSError(number, "")))
        self.assertFalse(is_refused(OSError(errno.EIO, "")))
        self.assertFalse(is_refused(OSError(errno.EINVAL, "")))
        self.assertTrue(is_refused(OSError(errno.EINVAL, ""), errno.ESPIPE, errno.EINVAL))


_BLOCKS = """
import resource, threading
from dragonfly_vortex.system_calls import keep_freed_memory

def work():
    for _ in range(10):
        [bytearray(8 << 20) for _ in range(3)]

keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Writes to all pages of three blocks of 8 MiB, ten times; prints how many pages the system gave."""


class MemoryTests(SynchronousTestCase):
    """Memory that was freed."""

    @skipUnless("glibc" in platform.libc_ver(), "it is glibc's")
    def test_kept(self) -> None:
        """Blocks of some MiB that are made again and again use the same pages."""
        done = subprocess.run([sys.executable, "-c", _BLOCKS], capture_output=True, text=True, check=True)
        self.assertLess(int(done.stdout), 2 * 3 * 8 * 256)

    def test_no_memory(self) -> None:
        """A process that may not have so much more memory does without."""
        limited = "import resource; from dragonfly_vortex.system_calls import keep_freed_memory as keep; "
        limited += "resource.setrlimit(resource.RLIMIT_AS, (1 << 20, -1)); keep()"
        done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
