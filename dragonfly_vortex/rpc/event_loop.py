"""
An asyncio event loop in a thread of its own, and the ways between it and the reactor.

grpcio's asynchronous server and channels need such a loop; storage and everything else live in the reactor's thread.
Neither thread waits for the other: everything crosses as a call that is made soon. All calls that wait cross together,
because it costs more to wake a thread than to make a call.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.threads import STOP_TIMEOUT

__all__ = [
    "EventLoopEnded",
    "EventLoopThread",
    "ILoopReactor",
    "SharedEventLoop",
    "shared_event_loop",
    "start_grpcio",
]

_T = TypeVar("_T")


class EventLoopEnded(RuntimeError):
    """A coroutine was not finished, or not begun, because its loop has ended."""


class EventLoopThread:
    """
    A loop that runs between :meth:`start` and :meth:`stop`.

    :param reactor: the other side.
    :param name: what to call the thread.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._unfinished: set[Deferred[Any]] = set()  # of the runs; it belongs to the reactor's thread
        self._stopped: Deferred[None] = Deferred()
        self._posted: deque[Callable[[], object]] = deque()  # to be called in the loop's thread
        self._is_loop_woken = False
        self._told: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()  # in the reactor's
        self._is_reactor_woken = False

    # -- from the reactor's thread

    def start(self) -> None:
        """Start the thread. It does not keep the process alive."""
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(_handle_exception)
        thread = threading.Thread(target=self._work, args=(loop,), name=self._name, daemon=True)
        try:
            thread.start()
        except BaseException:  # the system gives no more threads
            loop.close()
            raise
        self._loop, self._thread = loop, thread

    def run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> Deferred[_T]:
        """
        Run a coroutine in the loop.

        :param work: makes it, in the loop's thread.
        :returns: fires in the reactor's thread with what the coroutine returns, or fails with what it raises, or with
            :class:`EventLoopEnded`. Cancelling it cancels the coroutine.
        """
        tasks: set[asyncio.Task[None]] = set()

        def cancel(_: Deferred[_T]) -> None:
            self._unfinished.discard(finished)
            self.post(lambda: [task.cancel() for task in tasks])

        def finish(outcome: _T | Failure) -> None:
            self._unfinished.discard(finished)
            if not finished.called:  # else it has been cancelled
                finished.callback(outcome)  # a Failure is taken as one

        finished: Deferred[_T] = Deferred(cancel)

        async def in_loop() -> None:
            try:
                self.tell(finish, await work())
            except BaseException as error:
                self.tell(finish, Failure(error))

        def begin(loop: asyncio.AbstractEventLoop) -> None:
            task = loop.create_task(in_loop())
            tasks.add(task)  # the loop itself does not hold on to it
            task.add_done_callback(tasks.discard)

        if self.post(lambda: begin(asyncio.get_running_loop())):
            self._unfinished.add(finished)
        else:
            finished.errback(EventLoopEnded("the event loop is not running"))
        return finished

    def stop(self) -> Deferred[None]:
        """Cancel what the loop still does, and end it. Fires when the thread has ended; called once."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not self.post(loop.stop):
            self._stopped.callback(None)
            return self._stopped
        # The thread's last act is to say that it ends, so that this takes no time.
        return self._stopped.addCallback(lambda _: thread.join())

    def finish(self) -> None:
        """Do what :meth:`stop` does, and block until the thread has ended. For a reactor that ends."""
        if self._loop is not None and self._thread is not None and self.post(self._loop.stop):
            self._thread.join(STOP_TIMEOUT)
            self._take_told()  # how the calls under way have ended

    # -- from either

    def post(self, call: Callable[[], object]) -> bool:
        """Have something called in the loop's thread soon; False when the loop has ended."""
        if self._loop is None or self._loop.is_closed():
            return False
        self._posted.append(call)
        if not self._is_loop_woken:
            self._is_loop_woken = True
            try:
                self._loop.call_soon_threadsafe(self._take_posted, self._loop)
            except RuntimeError:  # closed just now
                return False
        return True

    def tell(self, call: Callable[..., object], *arguments: object) -> None:
        """Have something called in the reactor's thread soon."""
        self._told.append((call, arguments))
        if not self._is_reactor_woken:
            self._is_reactor_woken = True
            self._reactor.callFromThread(self._take_told)

    # -- from the loop's thread

    async def ask(
        self,
        question: Callable[..., Deferred[_T]],
        *arguments: object,
        unwanted: Callable[[_T], object] = lambda answer: None,
    ) -> _T:
        """
        Ask something that is answered in the reactor's thread.

        :param question: called there with the arguments. Cancelling the caller cancels its Deferred.
        :param unwanted: called, in either thread, with an answer that came after the caller had been cancelled.
        :returns: what the Deferred fires with; what it fails with is raised.
        """
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        asked: list[Deferred[_T]] = []

        def put() -> None:
            deferred = maybeDeferred(question, *arguments)
            asked.append(deferred)
            deferred.addCallbacks(deliver, refuse)

        def deliver(result: _T) -> None:
            def in_loop() -> None:
                if answer.cancelled():
                    unwanted(result)
                else:
                    answer.set_result(result)

            if not self.post(in_loop):
                unwanted(result)

        def refuse(failure: Failure) -> None:
            error = failure.value or RuntimeError("a failure without an error")
            self.post(lambda: None if answer.cancelled() else answer.set_exception(error))

        def cancel() -> None:
            for deferred in asked:
                deferred.cancel()

        self.tell(put)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled():
                self.tell(cancel)
            elif answer.exception() is None:  # it came in the same turn of the loop
                unwanted(answer.result())
            raise

    def _take_posted(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the calls that wait for the loop's thread."""
        self._is_loop_woken = False  # before the queue is emptied: what comes later wakes the thread again
        for _ in range(len(self._posted)):
            call = self._posted.popleft()
            try:
                call()
            except Exception as error:
                loop.call_exception_handler({"message": "a call from the reactor's thread failed", "exception": error})

    # -- in the reactor's thread

    def _take_told(self) -> None:
        """Make the calls that wait for the reactor's thread."""
        self._is_reactor_woken = False  # as above
        for _ in range(len(self._told)):
            call, arguments = self._told.popleft()
            try:
                call(*arguments)
            except Exception:
                self._log.failure("a call from the event loop's thread failed")

    # -- the thread

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            self.tell(self._ended)

    def _ended(self) -> None:
        """
        In the reactor's thread: the loop has ended. What came while it ended has not been begun, or not been finished.
        """
        unfinished, self._unfinished = self._unfinished, set()
        for run in unfinished:
            run.errback(EventLoopEnded("the event loop has ended"))
        self._stopped.callback(None)


class ILoopReactor(IReactorCore, IReactorFromThreads):
    """The interfaces of a reactor that a shared event loop uses."""


class SharedEventLoop:
    """
    An event loop in a thread that is started when it is first used, and ends with the reactor.

    :param reactor: as for :class:`EventLoopThread`.
    """

    def __init__(self, reactor: ILoopReactor) -> None:
        self._reactor = reactor
        self._thread: EventLoopThread | None = None

    def enter(self) -> EventLoopThread:
        """
        Use the loop, which is started if it does not run.

        :raises RuntimeError: the system starts no further thread.
        """
        if self._thread is None:
            thread = EventLoopThread(self._reactor, "grpc-child")
            thread.start()
            self._thread = thread
            # As Twisted's thread pool: services that stop "before" the shutdown have made their last calls by then.
            self._reactor.addSystemEventTrigger("during", "shutdown", self._end)
        return self._thread

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.finish()


_shared: WeakKeyDictionary[ILoopReactor, SharedEventLoop] = WeakKeyDictionary()


def shared_event_loop(reactor: ILoopReactor) -> SharedEventLoop:
    """The event loop that all channels of a reactor share, as they share the reactor's thread pool."""
    return _shared.setdefault(reactor, SharedEventLoop(reactor))


class _Poller:
    """
    The thread in which grpcio waits for all channels and servers of a process. grpcio would end it with the last of
    them and start it with the next. Here it stays, because grpcio 1.85 corrupts the process's memory where a channel is
    made and that thread cannot be started: from Python 3.12 on, while the interpreter ends.
    """

    def __init__(self) -> None:
        self._runs = False
        self._has_failed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """
        Start the thread, if it does not run. Called in an event loop.

        :raises RuntimeError: the system starts no further thread. Where grpcio has failed to start it once, it can
            never start it again, and so it is in a fork, which has none of its parent's threads.
        """
        import grpc

        with self._lock:
            if self._runs:
                return
            if self._has_failed:
                raise RuntimeError("grpcio could not start its thread, or this is a fork, and cannot start it again")
            threading.Thread(target=_do_nothing, daemon=True).start()  # as a trial
            self._has_failed = True
            grpc.aio.init_grpc_aio()
            self._runs = True
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a fork: the thread, and those of the event loops, are the parent's."""
        self._lock = threading.Lock()
        self._runs = False
        _shared.clear()


def _do_nothing() -> None:
    """Do nothing: a thread could be started for it."""


start_grpcio = _Poller().start


def _handle_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """
    Log what went wrong in a loop. All loops of a process share one poller of grpcio 1.85. It hands on what another loop
    was waiting for, and raises where that loop is closed by now, which does no harm.
    """
    if isinstance(context.get("exception"), RuntimeError) and "PollerCompletionQueue" in context.get("message", ""):
        return
    loop.default_exception_handler(context)


async def _cancel_all() -> None:
    """Cancel all tasks but this one, and let them end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
