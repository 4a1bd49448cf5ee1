"""
Threads that do not keep a process alive.

Python waits at its end for every thread that is not a daemon. A pool that was not stopped would then keep the
process for ever, and no signal would end it. A daemon thread ends with the interpreter, at the point where it next
needs Python's lock: a call into SQLite or the kernel that is under way is finished or lost as in a ``kill -9``, so what
such a thread does must survive that. What a storage has committed does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from dragonfly_vortex.errors import PoolClosed

__all__ = ["STOP_TIMEOUT", "DaemonThreadPool", "LazyThreads", "run_in_pool"]

STOP_TIMEOUT = 5.0
"""Seconds that a stop waits for threads that are at work. A disk that does not answer would keep them for ever."""

_T = TypeVar("_T")


class _DaemonThread(Thread):
    """A thread for which the interpreter does not wait when it ends."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=True)


class DaemonThreadPool(ThreadPool):
    """A pool of Twisted's whose threads do not keep the process alive."""

    threadFactory: type[Thread] = _DaemonThread

    def finish(self, last: Callable[[], object], timeout: float) -> bool:
        """
        Call a function after all work that the pool has taken, and end the threads. This blocks. It is for a pool of
        one thread.

        :param last: called in the thread.
        :param timeout: seconds to wait. A thread that is still busy then ends after its work, or with the process.
        :returns: whether the threads have ended.
        """
        done = Event()

        def finish() -> None:
            try:
                last()
            finally:
                done.set()

        self.callInThread(finish)
        is_done = done.wait(timeout)
        if is_done:
            self.stop()
        else:
            self.abandon()
        return is_done

    def abandon(self) -> None:
        """End the threads without waiting for them. One that is busy ends after its work, or with the process."""
        self.threads = []  # stop() would wait for them
        self.stop()


def run_in_pool(
    reactor: IReactorFromThreads, pool: ThreadPool, function: Callable[..., _T], *arguments: object
) -> Deferred[_T]:
    """
    Call a function in a thread of a pool.

    :param reactor: in whose thread the Deferred fires.
    :returns: fires with what the function returns, or fails with what it raises. Unlike Twisted's
        ``deferToThreadPool``, this fails with :class:`RuntimeError` where the system starts no further thread, and does
        not raise that; and it fails with :class:`~dragonfly_vortex.errors.PoolClosed` where the pool is stopped, which
        would drop the function without a word.
    """
    if pool.joined:
        return fail(PoolClosed(f"expected the threads {pool.name!r} to run, they are stopped"))
    called: Deferred[_T] = maybeDeferred(deferToThreadPool, reactor, pool, function, *arguments)
    return called


class LazyThreads:
    """
    Threads that are started when they are needed. Calling this calls a function in one of them.

    :param reactor: where the Deferreds fire.
    :param most: threads at the most.
    :param name: of the threads.
    """

    def __init__(self, reactor: IReactorFromThreads, most: int, name: str) -> None:
        self._reactor = reactor
        self._most = most
        self._name = name
        self._pool: DaemonThreadPool | None = None
        self._is_closed = False

    def __call__(self, function: Callable[[], _T], /) -> Deferred[_T]:
        """Fires with what the function returns; fails with :class:`~dragonfly_vortex.errors.PoolClosed` at the end."""
        if self._is_closed:
            return fail(PoolClosed("expected a running peer, got one that is stopped"))
        if self._pool is None:
            self._pool = DaemonThreadPool(minthreads=0, maxthreads=self._most, name=self._name)
            self._pool.start()
        result: Deferred[_T] = run_in_pool(self._reactor, self._pool, function)
        return result

    def close(self) -> None:
        """Start no thread any more, and wait for none: a disk may not answer."""
        self._is_closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.abandon()
