"""
A gRPC server on Twisted.

grpcio's own server ends a stream at its caller's ``grpc-timeout``, and real children send one of ten seconds that they
mean for the headers only. It also sends each message by itself, where this one puts all messages that are ready into
one frame. Here a stream has no deadline, as in the reference, whose library (tonic) applies the timeout to the
headers; a call with one reply has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import grpc
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.address import most_of_share, share_of
from dragonfly_vortex.deferreds import Ending, call_if_late
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.http2_connection import GRPCServerProtocol
from dragonfly_vortex.rpc.http2_openings import Openings
from dragonfly_vortex.rpc.server_call import Answer, Metadata

__all__ = ["GRPCServerFactory"]

_CONNECTIONS = 1024
"""Connections at once; further ones are closed. Each share has at most half of those that the others leave."""


class _Details(NamedTuple):
    """What grpcio's tables of handlers are asked with."""

    method: str
    invocation_metadata: Sequence[tuple[str, str]]


@implementer(IProtocolNegotiationFactory)
class GRPCServerFactory(Factory):
    """
    Connections from children.

    :param thread: the event loop in which handlers run, and the way to it.
    :param handlers: grpcio's tables of methods. Requests are messages of bytes.
    :param clock: for timeouts.
    :param max_calls: calls that are under way at once; further ones are refused with ``RESOURCE_EXHAUSTED``.
    :param max_request: bytes of a request.
    :param limited_log: for what a call can cause; None for one of its own. It is used in the reactor's thread.
    """

    log: ClassVar[Logger] = Logger()

    noisy = False

    def __init__(
        self,
        thread: EventLoopThread,
        handlers: Sequence[grpc.GenericRpcHandler],
        clock: IReactorTime,
        *,
        max_calls: int,
        max_request: int,
        limited_log: LimitedLog | None = None,
    ) -> None:
        self.limited_log = limited_log or LimitedLog(self.log, clock)
        self.thread = thread
        self.clock = clock
        self.max_calls = max_calls
        self.max_request = max_request
        self.connections: set[GRPCServerProtocol] = set()
        self.openings = Openings(clock)
        self._begun = 0  # counted in the reactor's thread
        self._ended_unanswered = 0  # so is this
        self._ended = 0  # counted in the event loop's
        self.answer_at_once: Callable[[str, Metadata, bytes], Answer | None] = lambda method, metadata, data: None
        """Gives the whole answer to a call, in the reactor's thread; None where its handler has to give it."""
        self._numbered = 0
        self._handlers = handlers
        self._calls_of: Counter[str] = Counter()  # that are open for their children, by the shares of these
        self._is_draining = False
        self._ending = Ending(lambda: not self.connections)

    @property
    def calls(self) -> int:
        """The number of calls under way."""
        return self._begun - self._ended_unanswered - self._ended

    def buildProtocol(self, addr: IAddress | None) -> GRPCServerProtocol | None:
        share = share_of(str(getattr(addr, "host", "")))
        if self._is_draining or not self._has_room(share):
            return None
        self._numbered += 1
        protocol = GRPCServerProtocol(self, _name_of(addr, self._numbered), share)
        protocol.factory = self
        return protocol

    def _has_room(self, share: str) -> bool:
        """Whether there may be one more connection of a share."""
        if not share:
            return len(self.connections) < _CONNECTIONS
        own = sum(connection.share == share for connection in self.connections)
        others = len(self.connections) - own
        return own < most_of_share(_CONNECTIONS, others) and others + own < _CONNECTIONS

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols that TLS negotiates."""
        return [b"h2"]

    def handler_of(self, method: str, metadata: Sequence[tuple[str, str]]) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method; None if there is none."""
        details = _Details(method, metadata)
        found = (each.service(cast(grpc.HandlerCallDetails, details)) for each in self._handlers)
        return next((handler for handler in found if handler is not None), None)

    def call_begins(self, share: str) -> bool:
        """
        Record the beginning of a call. Each share has at most half of the calls that the others leave.

        :param share: of the calls, to which this one counts; empty for none.
        :returns: whether the call may be answered.
        """
        self._begun += 1
        self._calls_of[share] += 1
        own = self._calls_of[share]
        return self.calls <= self.max_calls and (not share or own <= most_of_share(self.max_calls, self.calls - own))

    def call_is_over(self, share: str, *, has_handler: bool) -> None:
        """
        Record that a call is over for its child.

        :param has_handler: whether its end is recorded by :meth:`call_ended`, too.
        """
        self._calls_of[share] -= 1
        if not self._calls_of[share]:
            del self._calls_of[share]
        if not has_handler:
            self._ended_unanswered += 1

    def call_ended(self) -> None:
        """Record the end of a call. Called in the event loop's thread."""
        self._ended += 1

    def connection_lost(self, connection: GRPCServerProtocol) -> None:
        """Record that a connection has ended."""
        self.connections.discard(connection)
        self._ending.look()

    def drain(self, timeout: float) -> Deferred[None]:
        """
        Take no further call, and let those under way end.

        :param timeout: seconds after which connections are closed in any case.
        :returns: fires when there is no connection any more.
        """
        self._is_draining = True
        self.openings.stop()
        for connection in list(self.connections):
            connection.drain()
        call_if_late(self._ending.wait(), self.clock, timeout, self._abort_all)
        return self._ending.wait()  # another one: where this is cancelled, connections are closed in time nevertheless

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()


def _name_of(address: IAddress | None, number: int) -> str:
    """An address in grpcio's form; connections over a Unix socket, which have none, get a number."""
    if isinstance(address, IPv6Address):
        return f"ipv6:[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"ipv4:{address.host}:{address.port}"
    return f"unix:{number}"
