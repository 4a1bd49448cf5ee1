"""Tests of threads that do not keep a process alive: real threads, and a process that forgets them."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.errors import PoolClosed
from dragonfly_vortex.threads import DaemonThreadPool, LazyThreads, run_in_pool

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
        thread.join(120.0)
        self.assertFalse(thread.is_alive())

    def test_process_ends(self) -> None:
        """A process ends although a thread of a pool is at work for ever."""
        self.pool.finish(lambda: None, 10.0)
        subprocess.run([sys.executable, "-c", _FORGETFUL], check=True, timeout=120)


class RunTests(TestCase):
    """Work for a pool of one thread, which is started when it is needed."""

    def setUp(self) -> None:
        self.pool = DaemonThreadPool(minthreads=0, maxthreads=1)
        self.pool.start()
        self.addCleanup(self.pool.stop)

    async def test_result(self) -> None:
        """What the work returns or raises arrives in the reactor's thread."""
        in_reactor = cast(IReactorFromThreads, reactor)
        self.assertEqual(await run_in_pool(in_reactor, self.pool, divmod, 7, 2), (3, 1))
        with self.assertRaises(ZeroDivisionError):
            await run_in_pool(in_reactor, self.pool, divmod, 7, 0)

    def test_stopped(self) -> None:
        """Work for a pool that is stopped fails, and is not dropped without a word."""
        pool = DaemonThreadPool(minthreads=0, maxthreads=1, name="a-test")
        pool.start()
        pool.stop()
        called = run_in_pool(cast(IReactorFromThreads, reactor), pool, divmod, 7, 2)
        error = self.failureResultOf(called, PoolClosed).value
        self.assertIn("expected the threads 'a-test' to run", str(error))

    def test_no_thread(self) -> None:
        """Where the system starts no further thread that is a failure like any other, and the pool can be stopped."""

        def refuse(**arguments: object) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(self.pool, "threadFactory", refuse)
        refused = run_in_pool(cast(IReactorFromThreads, reactor), self.pool, divmod, 7, 2)
        self.failureResultOf(refused, RuntimeError)


class LazyThreadsTests(TestCase):
    """Threads that are started when they are needed."""

    timeout = 120

    async def test_calls(self) -> None:
        """The first call starts a thread, a failure is passed on, and after the end nothing is called."""
        threads = LazyThreads(cast(IReactorFromThreads, reactor), 1, "test")
        self.assertIsNone(threads._pool)
        self.assertEqual(await threads(lambda: 7), 7)
        await self.assertFailure(threads(lambda: 1 // 0), ZeroDivisionError)
        threads.close()
        await self.assertFailure(threads(lambda: 7), PoolClosed)

    async def test_never_needed(self) -> None:
        """Threads that are never needed are never started, nor after the end."""
        threads = LazyThreads(cast(IReactorFromThreads, reactor), 1, "test")
        threads.close()
        await self.assertFailure(threads(lambda: 7), PoolClosed)
        self.assertIsNone(threads._pool)
