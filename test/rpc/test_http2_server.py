"""How a gRPC server ends, and grpcio's client at it."""

from __future__ import annotations

from typing import Any, cast

import grpc
from h2.events import (
    ConnectionTerminated,
)
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTCP, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.http2_server import GRPCServerFactory
from test.rpc.http2_child import LONGEST, METHODS, Case
from test.rpc.test_http2_openings import first_bytes


class DrainTests(Case):
    """How a server ends."""

    async def test_idle(self) -> None:
        """An idle connection gets a GOAWAY, and is closed at once."""
        child = self.connect()
        ended: Deferred[None] = self.factory.drain(10)
        self.assertTrue(any(isinstance(event, ConnectionTerminated) for event in child.hear()))
        self.assertTrue(child.is_closed)
        self.lose(child)
        self.successResultOf(ended)
        self.assertIsNone(self.factory.buildProtocol(None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_prepared(self) -> None:
        """A server that ends prepares no further connections."""
        for _ in range(2):
            self.factory.openings.learn(b"".join(first_bytes("/test/Echo")))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.successResultOf(self.factory.drain(10))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_in_time(self) -> None:
        """A call that is under way is finished, and then the connection ends."""
        child = self.connect()
        child.ask("Echo", b"last")
        self.factory.drain(10)
        await self.until(lambda: child.is_closed)
        self.assertIn(b"\0\0\0\0\x04last", child.transport.value())

    async def test_too_late(self) -> None:
        """A call that takes too long is cut off."""
        child = self.connect()
        child.ask("Never")
        self.factory.drain(10)
        self.clock.advance(9)
        self.assertFalse(child.is_closed)
        self.clock.advance(2)
        self.assertTrue(child.is_closed)

    async def test_not_waited_for(self) -> None:
        """A call that takes too long is cut off, too, when its end is not waited for any more."""
        child = self.connect()
        child.ask("Never")
        ended: Deferred[None] = self.factory.drain(10)
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.clock.advance(11)
        self.assertTrue(child.is_closed)


class ShareTests(Case):
    """How many calls a share may have."""

    def test_half(self) -> None:
        """A share has half of the calls that the others leave; the end of one makes room for one."""
        factory = self.factory
        factory.max_calls = 4

        def begin() -> bool:
            is_taken = factory.call_begins("share")
            if not is_taken:
                factory.call_is_over("share", has_handler=False)
            return is_taken

        self.assertEqual([begin() for _ in range(4)], [True, True, False, False])
        factory.call_is_over("share", has_handler=False)
        self.assertEqual([begin() for _ in range(2)], [True, False])


class GRPCIOTests(TestCase):
    """grpcio's client at such a server."""

    timeout = 120

    async def test_calls(self) -> None:
        """Calls of both kinds, long and short, and an error with any text."""

        async def fail(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nö: 100 %")
            return b""

        thread = EventLoopThread(IReactorFromThreads(reactor), "test")
        thread.start()
        self.addCleanup(thread.stop)
        methods = METHODS | {"Fail": grpc.unary_unary_rpc_method_handler(cast(Any, fail))}
        handlers = (grpc.method_handlers_generic_handler("test", methods),)
        factory = GRPCServerFactory(thread, handlers, IReactorTime(reactor), max_calls=100, max_request=LONGEST)
        port = IReactorTCP(reactor).listenTCP(0, cast(Any, factory), interface="127.0.0.1")
        self.addCleanup(factory.drain, 0.0)
        self.addCleanup(port.stopListening)
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]

        def child() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{cast(IPv4Address, port.getHost()).port}", options) as channel:
                count: Any = channel.unary_stream("/test/Count")
                self.assertEqual([int(each) for each in count(b"1000", timeout=120)], list(range(1000)))
                long: Any = channel.unary_unary("/test/Long")
                self.assertEqual([len(long(length)) for length in (b"0", b"16384", b"9000000")], [0, 16384, 9_000_000])
                failing: Any = channel.unary_unary("/test/Fail")
                error: Any = self.assertRaises(grpc.RpcError, failing, b"")
                self.assertEqual((error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "nö: 100 %"))

        await deferToThread(child)


class NameTests(Case):
    """What a child is called."""

    def test_unix(self) -> None:
        """Connections over a Unix socket have names of their own."""
        children = [self.factory.buildProtocol(UNIXAddress(None)) for _ in range(2)]
        self.assertEqual(len({child.peer for child in children if child is not None}), 2)
