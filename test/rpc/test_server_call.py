"""A call, as its handler sees it."""

from __future__ import annotations

from typing import Any, cast

import grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.limited_log import LINES, LimitedLog
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.server_call import ServerCall, timeout_of
from dragonfly_vortex.rpc.status import Status


class CallTests(TestCase):
    """A call without a connection."""

    timeout = 120

    def setUp(self) -> None:
        self.thread = EventLoopThread(IReactorFromThreads(reactor), "test")
        self.thread.start()
        self.addCleanup(self.thread.stop)
        self.sent: list[Any] = []
        self.limited_log = LimitedLog(Logger(), Clock())
        self.call = ServerCall(self.thread, "ipv4:192.0.2.1:1", (), 10.0, self.take, self.limited_log)

    def take(self) -> None:
        """Take what the handler has sent."""
        self.sent += self.call.taken()

    async def until(self, condition: Any) -> None:
        """Wait until something is so."""
        while not condition():
            await deferLater(IReactorTime(reactor), 0.001)

    async def test_not_read(self) -> None:
        """A handler whose child does not read waits, and goes on when what it sent has been sent."""

        async def many(request: bytes, context: Any) -> None:
            for _ in range(100):
                await context.write(bytes(10_000))

        self.call.begin(grpc.unary_stream_rpc_method_handler(cast(Any, many)), b"")
        await self.until(lambda: len(self.sent) == 7)
        self.call.sent(70_000)
        await self.until(lambda: len(self.sent) == 14)
        self.call.sent(1_000_000)
        await self.until(lambda: isinstance(self.sent[-1], Status))
        self.assertEqual(len(self.sent), 101)

    async def test_log(self) -> None:
        """Calls that fail by an error that no handler expects do not fill the log."""

        async def fail(request: bytes, context: Any) -> bytes:
            raise ValueError("of the handler")

        async def nothing() -> None:
            """Come behind what the loop has told the reactor."""

        for _ in range(LINES + 10):
            self.call.begin(grpc.unary_unary_rpc_method_handler(cast(Any, fail)), b"")
        await self.until(lambda: len(self.sent) == LINES + 10)
        await self.thread.run(nothing)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), LINES)

    async def test_gone(self) -> None:
        """A child that goes away cancels the handler, and callbacks hear of the end."""
        cancelled: Deferred[bool] = Deferred()

        async def wait(request: bytes, context: Any) -> bytes:
            context.add_done_callback(lambda call: self.thread.tell(cancelled.callback, call.cancelled()))
            await cast(Any, self.thread).ask(Deferred)
            return b""

        begun: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(cast(Any, wait))
        self.call.begin(begun, b"")
        ended: Deferred[None] = Deferred()
        await self.thread.run(_nothing)
        self.call.end(lambda: self.thread.tell(ended.callback, None), is_cancelled=True)
        self.assertTrue(await cancelled)
        await ended

    async def test_defect(self) -> None:
        """What a handler raises is logged, and the child hears only that the call failed."""

        async def fail(request: bytes, context: Any) -> bytes:
            raise ZeroDivisionError("/a/path")

        self.call.begin(grpc.unary_unary_rpc_method_handler(cast(Any, fail)), b"")
        await self.until(lambda: self.sent)
        self.assertEqual(self.sent, [Status(grpc.StatusCode.UNKNOWN, "the call could not be answered")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_deadline(self) -> None:
        """The time that is left is known."""
        self.assertTrue(0 < (self.call.time_remaining() or 0) <= 10)
        self.assertIsNone(ServerCall(self.thread, "", (), None, self.take, self.limited_log).time_remaining())


async def _nothing() -> None:
    """A turn of the loop."""


class TimeoutTests(SynchronousTestCase):
    """The header that says how long a child waits."""

    def test_units(self) -> None:
        """Each unit of the protocol is read; what is none means no timeout."""
        for text, expected in (("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 4e-3), ("5u", 5e-6), ("6n", 6e-9)):
            self.assertAlmostEqual(timeout_of(text) or -1.0, expected, 12)
        self.assertEqual([timeout_of(text) for text in ("", "S", "1", "-1S", "1s", "123456789S")], [None] * 6)
