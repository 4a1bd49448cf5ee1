"""A server at endpoints: what it does where one of them fails or comes late."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dragonfly_vortex.errors import CannotServe
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.endpoint_server import LISTEN_TIMEOUT, EndpointServer
from dragonfly_vortex.vortex.server import VortexServerFactory


class Port:
    """A listening port that only counts its end."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_stopped = False

    def getHost(self) -> IPv4Address:
        """Where it listens."""
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def stopListening(self) -> None:
        """End."""
        self.is_stopped = True


@implementer(IStreamServerEndpoint)
class Endpoint:
    """Listens with the result that it is given."""

    def __init__(self, result: Deferred[Any]) -> None:
        self.result = result

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        """Listen."""
        return self.result


class EndpointServerTests(SynchronousTestCase):
    """Endpoints that the test plays."""

    def server(self, *results: Deferred[Any]) -> EndpointServer:
        """A server at endpoints with these results."""
        clock = self.clock = Clock()
        settings = ServerSettings(clock=clock, limiter=UploadLimiter(10**9, clock))
        store: Any = PieceStore.__new__(PieceStore)  # no connection asks it
        factory = VortexServerFactory(store, settings, ConnectionRegistry(clock))
        return EndpointServer(clock, factory, [Endpoint(result) for result in results])

    def test_all(self) -> None:
        """It listens when all of its endpoints do, and says where."""
        ports = [Port(1), Port(2)]
        late: Deferred[Any] = Deferred()
        server = self.server(succeed(ports[0]), late)
        server.start()
        listening = server.listening()
        self.assertNoResult(listening)
        late.callback(ports[1])
        self.successResultOf(listening)
        self.assertEqual(server.addresses, [port.getHost() for port in ports])
        self.successResultOf(server.stop(1.0))
        self.assertEqual([port.is_stopped for port in ports], [True, True])
        self.assertIsNone(server.address)

    def test_fails_at_once(self) -> None:
        """Where one fails at once, the start does, and the others do not listen any more."""
        port = Port(1)
        server = self.server(succeed(port), fail(CannotListenError("any", 1, OSError("taken"))))
        self.assertRaises(CannotListenError, server.start)
        self.assertTrue(port.is_stopped)

    def test_fails_while_another_opens(self) -> None:
        """Where one fails at once, the port of another one that opens later is closed."""
        late: Deferred[Any] = Deferred()
        server = self.server(late, fail(CannotListenError("any", 1, OSError("taken"))))
        self.assertRaises(CannotListenError, server.start)
        port = Port(1)
        late.callback(port)
        self.assertTrue(port.is_stopped)

    def test_stopped_before_it_is_waited_for(self) -> None:
        """A port that comes after the end is closed, also where nothing has waited for it."""
        late: Deferred[Any] = Deferred()
        server = self.server(late)
        server.start()
        self.successResultOf(server.stop(1.0))
        port = Port(1)
        late.callback(port)
        self.assertTrue(port.is_stopped)

    def test_fails_later(self) -> None:
        """Where one fails later, what waits for it fails."""
        late: Deferred[Any] = Deferred()
        server = self.server(late)
        server.start()
        listening = server.listening()
        late.errback(CannotListenError("any", 1, OSError("taken")))
        self.failureResultOf(listening, CannotListenError)

    def test_never(self) -> None:
        """One that neither listens nor fails is named after a while; a port of it that opens later is closed."""
        never: Deferred[Any] = Deferred()
        server = self.server(succeed(Port(1)), never)
        server.start()
        listening = server.listening()
        self.clock.advance(LISTEN_TIMEOUT - 1)
        self.assertNoResult(listening)
        self.clock.advance(1)
        error = self.failureResultOf(listening, CannotServe).value
        self.assertRegex(str(error), "expected the endpoint <.*Endpoint object at .*> to listen within 30 s")
        late = Port(2)
        never.callback(late)
        self.assertTrue(late.is_stopped)
        self.assertEqual((len(server.addresses), self.clock.getDelayedCalls()), (1, []))

    def test_late_port(self) -> None:
        """A port that comes after the end is closed."""
        late: Deferred[Any] = Deferred()
        server = self.server(late)
        server.start()
        listening = server.listening()
        self.successResultOf(server.stop(1.0))
        self.failureResultOf(listening, CannotServe)
        port = Port(1)
        late.callback(port)
        self.assertTrue(port.is_stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
