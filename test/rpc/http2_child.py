"""A child that speaks HTTP/2 frame by frame, and a server without sockets for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    Event,
    ResponseReceived,
    TrailersReceived,
)
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.http2_connection import GRPCServerProtocol
from dragonfly_vortex.rpc.http2_server import GRPCServerFactory

__all__ = ["LONGEST", "METHODS", "Case", "Child"]

LONGEST = 1000
"""Bytes of a request."""


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def _never(request: bytes, context: Any) -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def _count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def _wait(request: bytes, context: Any) -> None:
    await context.send_initial_metadata(())
    await asyncio.get_running_loop().create_future()


async def _long(request: bytes, context: Any) -> bytes:
    return bytes(int(request))


METHODS: dict[str, Any] = {
    "Echo": grpc.unary_unary_rpc_method_handler(cast(Any, _echo)),
    "Never": grpc.unary_unary_rpc_method_handler(cast(Any, _never)),
    "Long": grpc.unary_unary_rpc_method_handler(cast(Any, _long)),
    "Count": grpc.unary_stream_rpc_method_handler(cast(Any, _count)),
    "Wait": grpc.unary_stream_rpc_method_handler(cast(Any, _wait)),
}


class Transport(StringTransport):
    """A connection without a socket."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It has no delay."""


class Child:
    """
    The other end of such a connection.

    :ivar events: what the server has said.
    """

    def __init__(self, protocol: GRPCServerProtocol) -> None:
        self.protocol = protocol
        self.transport = Transport()
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.events: list[Event] = []
        protocol.makeConnection(self.transport)

    @property
    def producer(self) -> Any:
        """What the transport pauses and resumes."""
        return self.transport.producer

    def greet(self) -> None:
        """Begin as HTTP/2."""
        self.h2.initiate_connection()
        self.send()

    def send(self) -> None:
        """Send what has been said, and hear what comes back."""
        self.protocol.dataReceived(self.h2.data_to_send())
        self.hear()

    def hear(self) -> list[Event]:
        """All that the server has said so far."""
        data = self.transport.value()
        self.transport.clear()
        if data:
            self.events += self.h2.receive_data(data)
        return self.events

    def ask(self, method: str, request: bytes = b"", *, end: bool = True, **more: str) -> int:
        """Call a method; the number of the call."""
        number = self.h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": f"/test/{method}", ":authority": "x"}
        fields |= {"content-type": "application/grpc", "te": "trailers"}
        fields |= {name.replace("_", "-"): value for name, value in more.items()}
        self.h2.send_headers(number, list(fields.items()))
        self.h2.send_data(number, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=end)
        self.send()
        return number

    def status(self, number: int) -> str | None:
        """What a call has ended with; None where it has not."""
        for event in self.hear():
            if isinstance(event, (ResponseReceived, TrailersReceived)) and event.stream_id == number:
                fields = dict(cast("list[tuple[str, str]]", event.headers))
                if "grpc-status" in fields:
                    return fields["grpc-status"]
        return None

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.transport.disconnecting or self.transport.disconnected


class Case(TestCase):
    """A server whose connections have no sockets, and whose clock stands still."""

    timeout = 120

    def setUp(self) -> None:
        self.clock = Clock()
        self.thread = EventLoopThread(IReactorFromThreads(reactor), "test")
        self.thread.start()
        self.addCleanup(self.thread.stop)
        handlers = (grpc.method_handlers_generic_handler("test", METHODS),)
        self.factory = GRPCServerFactory(self.thread, handlers, self.clock, max_calls=10, max_request=LONGEST)

    def connect(self, host: str = "192.0.2.1", *, greet: bool = True) -> Child:
        """A connection from an address."""
        kind = IPv6Address if ":" in host else IPv4Address
        protocol = self.factory.buildProtocol(kind("TCP", host, 1))
        if protocol is None:
            raise self.failureException("expected a connection")
        child = Child(protocol)
        self.addCleanup(self.lose, child)
        if greet:
            child.greet()
        return child

    def lose(self, child: Child) -> None:
        """End a connection."""
        if child.protocol in self.factory.connections:
            child.protocol.connectionLost(Failure(ConnectionError()))

    async def until(self, condition: Any) -> None:
        """Wait until something is so."""
        while not condition():
            self.clock.advance(0)
            await deferLater(IReactorTime(reactor), 0.001)
