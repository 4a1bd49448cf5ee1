"""Tests of threads that do not keep a process alive: real threads, and a process that forgets them."""

from __future__ import annotations

import subprocess
import sys
import threading

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.threads import DaemonThreadPool

_FORGETFUL = """
import threading
from dragonfly_vortex.threads import DaemonThreadPool
pool = DaemonThreadPool(minthreads=1, maxthreads=1)
pool.start()
pool.callInThread(threading.Event().wait)
"""


class DaemonThreadPoolTests(SynchronousTestCase):
    """A pool of one thread."""

    def setUp(self) -> None:
        self.pool = DaemonThreadPool(minthreads=1, maxthreads=1, name="a-test")
        self.pool.start()

    def test_finish(self) -> None:
        """The last call comes behind all others, and then the thread has ended."""
        calls: list[str] = []
        (thread,) = self.pool.threads
        self.pool.callInThread(calls.append, "first")
        self.assertTrue(self.pool.finish(lambda: calls.append("last"), 10.0))
        self.assertEqual(calls, ["first", "last"])
        self.assertFalse(thread.is_alive())

    def test_finish_with_an_error(self) -> None:
        """The thread ends where the last call fails, too."""
        (thread,) = self.pool.threads
        self.assertTrue(self.pool.finish(lambda: 1 // 0, 10.0))
        self.assertFalse(thread.is_alive())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_busy(self) -> None:
        """A thread that is still busy is not waited for, and ends after its work."""
        (thread,) = self.pool.threads
        free = threading.Event()
        self.pool.callInThread(free.wait)
        self.assertFalse(self.pool.finish(lambda: None, 0.01))
        free.set()
        thread.join(10.0)
        self.assertFalse(thread.is_alive())

    def test_process_ends(self) -> None:
        """A process ends although a thread of a pool is at work for ever."""
        self.pool.finish(lambda: None, 10.0)
        subprocess.run([sys.executable, "-c", _FORGETFUL], check=True, timeout=30)
