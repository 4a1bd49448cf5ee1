"""A loop in a thread of its own, and what crosses between it and the reactor."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import grpc
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.rpc.event_loop import EventLoopThread, ILoopReactor, _Poller, shared_event_loop

reactor: Any = installed_reactor  # the stubs do not know its type


class EventLoopThreadTests(TestCase):
    """A thread that is stopped in the end."""

    timeout = 120

    def setUp(self) -> None:
        self.thread = EventLoopThread(IReactorFromThreads(reactor), "loop-under-test")
        self.thread.start()
        self.stopped = False
        self.addCleanup(self.stop)

    def stop(self) -> Deferred[None]:
        """Stop the thread, if it runs."""
        if self.stopped:
            return succeed(None)
        self.stopped = True
        return self.thread.stop()

    async def test_run(self) -> None:
        """A coroutine runs in the thread, and its result and its error come back to the reactor's."""

        async def name() -> str:
            return threading.current_thread().name

        async def fails() -> None:
            raise ValueError("expected")

        self.assertEqual(await self.thread.run(name), "loop-under-test")
        self.assertIn(threading.current_thread(), (threading.main_thread(),))
        with self.assertRaises(ValueError):
            await self.thread.run(fails)

    async def test_closed_loop_of_another_user_of_grpcio(self) -> None:
        """What grpcio hands on to a loop that is closed leaves no traceback; any other error does."""

        async def handled(message: str, error: Exception) -> None:
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

        poller = "Exception in callback PollerCompletionQueue._handle_events()"
        with self.assertNoLogs("asyncio"):
            await self.thread.run(lambda: handled(poller, RuntimeError("Event loop is closed")))
        with self.assertLogs("asyncio"):
            await self.thread.run(lambda: handled("another", RuntimeError("expected")))

    async def test_together(self) -> None:
        """Calls that wait for a thread cross together, in order, and one that fails does not stop those behind it."""
        wakes: list[object] = []
        wake_reactor = reactor.callFromThread

        def count(call: Callable[..., object], *arguments: object) -> None:
            wakes.append(call)
            wake_reactor(call, *arguments)

        self.patch(reactor, "callFromThread", count)
        told: list[int] = []
        done: Deferred[None] = Deferred()

        def tell() -> None:
            for call in (partial(told.append, 1), partial(int, "x"), partial(told.append, 2)):
                self.thread.tell(call)
            self.thread.tell(done.callback, None)
            has_told.set()

        has_told = threading.Event()
        self.thread.post(tell)
        has_told.wait(60.0)  # the reactor takes nothing meanwhile
        await done
        own = wakes.count(self.thread._take_told)  # the thread of the channels wakes the reactor, too
        self.assertEqual((told, own), ([1, 2], 1))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_posted_together(self) -> None:
        """So do calls to the loop's thread."""
        posted: list[int] = []
        is_held, is_free = threading.Event(), threading.Event()

        def hold() -> None:
            is_held.set()
            is_free.wait(60.0)

        async def nothing() -> None:
            await asyncio.sleep(0)

        loop = cast(asyncio.AbstractEventLoop, self.thread._loop)
        wakes: list[object] = []
        wake_loop = loop.call_soon_threadsafe

        def count(call: Callable[..., object], *arguments: object) -> None:
            wakes.append(call)
            wake_loop(call, *arguments)

        with self.assertLogs("asyncio"):
            self.thread.post(hold)
            await deferToThread(is_held.wait, 60.0)
            self.patch(loop, "call_soon_threadsafe", count)
            for call in (partial(posted.append, 1), partial(int, "x"), partial(posted.append, 2)):
                self.thread.post(call)
            self.assertEqual((len(self.thread._posted), len(wakes)), (3, 1))
            is_free.set()
            await self.thread.run(nothing)
        self.assertEqual(posted, [1, 2])

    async def test_cancelled_run(self) -> None:
        """Cancelling what a run gave cancels the coroutine."""
        begun, ended = threading.Event(), threading.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.sleep(1000)
            finally:
                ended.set()

        running = self.thread.run(work)
        self.assertTrue(begun.wait(120))
        running.cancel()
        with self.assertRaises(CancelledError):
            await running
        self.assertTrue(ended.wait(120))

    async def test_ask(self) -> None:
        """What is asked is answered in the reactor's thread; an answer and an error come back to the loop."""
        asked_in: list[threading.Thread] = []

        def question(value: int) -> Deferred[int]:
            asked_in.append(threading.current_thread())
            return succeed(value + 1)

        async def work() -> int:
            return await self.thread.ask(question, 1)

        async def failing() -> None:
            await self.thread.ask(lambda: fail(KeyError("expected")))

        async def raising() -> None:
            await self.thread.ask(lambda: succeed(1 // 0))

        self.assertEqual(await self.thread.run(work), 2)
        self.assertEqual(asked_in, [threading.current_thread()])
        with self.assertRaises(KeyError):
            await self.thread.run(failing)
        with self.assertRaises(ZeroDivisionError):
            await self.thread.run(raising)

    async def test_cancel(self) -> None:
        """A waiting call that is cancelled cancels its request."""
        cancelled: Deferred[None] = Deferred()
        asked: Deferred[None] = Deferred()

        def question() -> Deferred[None]:
            asked.callback(None)
            return Deferred(lambda _: cancelled.callback(None))

        tasks: list[asyncio.Task[None]] = []

        async def begin() -> None:
            tasks.append(asyncio.create_task(self.thread.ask(question)))

        await self.thread.run(begin)
        await asked
        self.thread.post(tasks[0].cancel)
        await cancelled

    async def test_unwanted(self) -> None:
        """An answer that is under way when its caller is cancelled goes to the cleanup function."""
        asked: Deferred[None] = Deferred()
        unwanted: Deferred[str] = Deferred()

        def question() -> Deferred[str]:
            asked.callback(None)
            return Deferred(lambda answer: answer.callback("late"))

        def clean_up(answer: str) -> None:
            self.thread.tell(unwanted.callback, answer)

        tasks: list[asyncio.Task[str]] = []

        async def begin() -> None:
            tasks.append(asyncio.create_task(self.thread.ask(question, unwanted=clean_up)))

        await self.thread.run(begin)
        await asked
        self.thread.post(tasks[0].cancel)
        self.assertEqual(await unwanted, "late")

    async def test_unwanted_in_the_same_turn(self) -> None:
        """So is one that is there already when its asker is cancelled, before he has seen it."""
        unwanted: list[str] = []
        answer: Deferred[str] = Deferred()

        async def work() -> None:
            loop = asyncio.get_running_loop()
            asking = asyncio.create_task(self.thread.ask(lambda: answer, unwanted=unwanted.append))
            await asyncio.sleep(0.05)
            self.thread.tell(answer.callback, "early")
            # Hold the loop until the answer waits in it, and have the cancellation follow in the same turn.
            arrived = threading.Event()
            self.thread.tell(arrived.set)
            arrived.wait(120)
            loop.call_soon(asking.cancel)
            await asyncio.gather(asking, return_exceptions=True)

        await self.thread.run(work)
        self.assertEqual(unwanted, ["early"])

    async def test_stop(self) -> None:
        """Stopping cancels what is under way, ends the thread, and refuses what comes later."""
        ended: list[str] = []

        async def endless() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append("cancelled")

        async def nothing() -> None:
            """Is not called."""

        endless_run = self.thread.run(endless)
        await self.stop()
        with self.assertRaises(asyncio.CancelledError):
            await endless_run
        self.assertEqual(ended, ["cancelled"])
        self.assertFalse(self.thread.post(lambda: None))
        with self.assertRaises(RuntimeError):
            await self.thread.run(nothing)

    async def test_run_while_it_stops(self) -> None:
        """What is to be run while the loop ends fails, also where the loop has accepted it."""
        late: list[Deferred[None]] = []

        async def forever() -> None:
            await asyncio.Event().wait()

        def run_late(accepted: threading.Event) -> None:
            late.append(self.thread.run(forever))
            accepted.set()

        async def slow_to_end() -> None:
            try:
                await forever()
            finally:
                accepted = threading.Event()
                self.thread.tell(run_late, accepted)
                accepted.wait(120)

        begun: Deferred[None] = Deferred()

        async def work() -> None:
            self.thread.tell(begun.callback, None)
            await slow_to_end()

        running = self.thread.run(work)
        await begun
        await self.stop()
        self.failureResultOf(running, asyncio.CancelledError)
        self.assertEqual(len(late), 1)
        self.failureResultOf(late[0], RuntimeError)


_FORGETS = """
import sys, threading
from twisted.internet import reactor
from dragonfly_vortex.rpc.event_loop import shared_event_loop
thread = shared_event_loop(reactor).enter()
if sys.argv[1] == "stop":
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    sys.exit(len(threading.enumerate()) != 1)
"""

_LAST_WORDS = """
import asyncio, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from dragonfly_vortex.rpc.event_loop import shared_event_loop
loop = shared_event_loop(reactor)

async def last_words():
    await loop.enter().run(lambda: asyncio.sleep(0.2))
    print("said")

if sys.argv[1] == "before":
    loop.enter()
reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(last_words()))
if sys.argv[1] == "behind":
    loop.enter()
reactor.callWhenRunning(reactor.stop)
reactor.run()
"""


_FORKS = """
import os, sys
from twisted.internet import reactor, selectreactor
from dragonfly_vortex.rpc.channel import Channel, GRPCSettings

def call(reactor, ended):
    channel = Channel("127.0.0.1:1", GRPCSettings(reactor=reactor), 1000)
    called = channel.call("/method", b"", 20.0).addErrback(lambda failure: print(failure.value, flush=True))
    called.addCallback(lambda _: channel.close()).addCallback(ended)

def fork(_):
    if os.fork():
        sys.stderr.write(str(os.waitstatus_to_exitcode(os.wait()[1])))
        reactor.stop()
    else:
        del sys.modules["twisted.internet.reactor"]
        selectreactor.install()
        from twisted.internet import reactor as own
        own.callWhenRunning(call, own, lambda _: own.stop())
        own.run()
        os._exit(7)

reactor.callWhenRunning(call, reactor, fork)
reactor.run()
"""


class SharedEventLoopTests(TestCase):
    """A loop that is started when it is first used."""

    timeout = 120

    def test_users(self) -> None:
        """All users of a reactor have one loop."""
        loop = shared_event_loop(cast(ILoopReactor, reactor))
        self.assertIs(loop, shared_event_loop(cast(ILoopReactor, reactor)))
        self.assertIs(loop.enter(), loop.enter())

    def test_forgotten(self) -> None:
        """A program that leaves it running ends anyway, and a reactor that stops ends the thread."""
        for how in ("stop", "exit"):
            ran = subprocess.run([sys.executable, "-c", _FORGETS, how], capture_output=True, timeout=120)
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, b"", b""), how)

    def test_last_words(self) -> None:
        """A service that stops with the reactor can finish its calls, whoever hears first that it stops."""
        for place in ("before", "behind"):
            ran = subprocess.run([sys.executable, "-c", _LAST_WORDS, place], capture_output=True, timeout=120)
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, b"said\n", b""), place)

    def test_fork(self) -> None:
        """In a fork of a process that has made calls, which has neither thread, each call fails at once."""
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _FORKS], capture_output=True, timeout=100, text=True
        )
        self.assertRegex(ran.stdout, "connect.*\n.*UNAVAILABLE.*fork")
        self.assertEqual((ran.returncode, ran.stderr), (0, "7"))


class PollerTests(SynchronousTestCase):
    """The thread of grpcio's own, of which a process has one."""

    def test_no_thread(self) -> None:
        """Where the system starts no thread grpcio is not asked for one. It is asked later, once."""
        asked: list[None] = []
        self.patch(grpc.aio, "init_grpc_aio", lambda: asked.append(None))
        poller = _Poller()
        patched = self.patch(threading.Thread, "start", _refuse)
        self.assertRaises(RuntimeError, poller.start)
        self.assertEqual(asked, [])
        patched.restore()
        poller.start()
        poller.start()
        self.assertEqual(asked, [None])

    def test_failed(self) -> None:
        """Where grpcio has failed to start its thread it is not asked again: it believes that it has one."""
        poller = _Poller()
        patched = self.patch(grpc.aio, "init_grpc_aio", _refuse)
        self.assertRaises(RuntimeError, poller.start)
        patched.restore()
        with self.assertRaisesRegex(RuntimeError, "cannot start it again"):
            poller.start()


def _refuse(*_: object) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")
