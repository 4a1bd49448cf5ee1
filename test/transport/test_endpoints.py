"""An address in text becomes a connection, or an error, in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet import reactor
from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from dragonfly_vortex.address import split_address
from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.testing.memory_endpoint import MemoryEndpoint
from dragonfly_vortex.testing.scripted_parent import ScriptedParent
from dragonfly_vortex.transport import endpoints
from dragonfly_vortex.transport.endpoints import ATTEMPT_DELAY, NameEndpoint, client_endpoint, connect_within
from dragonfly_vortex.transport.tls import client_tls_from
from dragonfly_vortex.transport.tls_endpoint import TLSEndpoint


@implementer(IStreamClientEndpoint)
class Resolving:
    """An endpoint that fails with an error of its own when it is cancelled, as Twisted's do while they resolve."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred(lambda connecting: connecting.errback(ValueError("name not found")))


class ClientEndpointTests(SynchronousTestCase):
    """Which endpoint."""

    def test_kinds(self) -> None:
        """An address of numbers is connected to as it is, a name is resolved."""
        for address, expected in (
            ("127.0.0.1:1", TCP4ClientEndpoint),
            ("[::1]:1", TCP6ClientEndpoint),
            ("example.org:1", NameEndpoint),
        ):
            self.assertIsInstance(client_endpoint(MemoryReactorClock(), address, 1.0), expected)

    def test_tls(self) -> None:
        """The scheme decides whether TLS is spoken; one that is not Vortex's is refused."""
        tls = client_tls_from(TLSIdentity())
        for address in ("tls://127.0.0.1:1", "tls://[::1]:1", "tls://example.org:1"):
            self.assertIsInstance(client_endpoint(MemoryReactorClock(), address, 1.0, tls), TLSEndpoint)
        for address, known in (("tls://host:1", "of tcp://, got"), ("grpc://host:1", "of tcp://, got")):
            error = self.assertRaises(ValueError, client_endpoint, MemoryReactorClock(), address, 1.0)
            self.assertIn(known, str(error))
        error = self.assertRaises(ValueError, client_endpoint, MemoryReactorClock(), "grpcs://host:1", 1.0, tls)
        self.assertIn("of tcp:// and tls://, got", str(error))

    def test_numbers(self) -> None:
        """Host, port and time-out are those that were given."""
        memory = MemoryReactorClock()
        client_endpoint(memory, "[::1]:7", 3.0).connect(Factory.forProtocol(Protocol))
        client_endpoint(memory, "127.0.0.1:8", 4.0).connect(Factory.forProtocol(Protocol))
        self.assertEqual(
            [client[:2] + client[3:4] for client in memory.tcpClients], [("::1", 7, 3.0), ("127.0.0.1", 8, 4.0)]
        )


@implementer(IHostnameResolver)
class Resolver:
    """
    Knows these addresses of every name.

    :param at_once: whether it says them at once, or never.
    """

    def __init__(self, *addresses: str, at_once: bool = True) -> None:
        self.addresses = addresses
        self.at_once = at_once
        self.asked: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Answer."""
        self.asked.append(hostName)
        resolution = HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        if self.at_once:
            for address in self.addresses:
                kind = IPv6Address if ":" in address else IPv4Address
                resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
            resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IReactorPluggableNameResolver)
class ResolvingReactor(MemoryReactorClock):
    """A reactor that makes no connection, and has a resolver."""

    def __init__(self, resolver: Resolver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types for it
        self.nameResolver = resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Not needed."""
        raise NotImplementedError

    @property
    def hosts(self) -> list[str]:
        """Where it was to connect."""
        return [client[0] for client in self.tcpClients]

    def end(self, number: int, error: Exception | None = None) -> None:
        """An attempt fails, or else succeeds."""
        factory, connector = self.tcpClients[number][2], self.connectors[number]
        if error is not None:
            factory.clientConnectionFailed(connector, Failure(error))
        else:
            cast(Protocol, factory.buildProtocol(None)).makeConnection(StringTransport())


class AttemptTests(SynchronousTestCase):
    """The addresses of a name, one after the other."""

    def connect(self, *addresses: str, at_once: bool = True) -> Deferred[IProtocol]:
        """Connect to a name with these addresses."""
        self.reactor = ResolvingReactor(Resolver(*addresses, at_once=at_once))
        return NameEndpoint(self.reactor, "peer", 7, 3.0).connect(Factory.forProtocol(Protocol))

    def assert_nothing_left(self) -> None:
        """No clock runs on."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """After an address that refuses the next one is tried at once."""
        connecting = self.connect("::1", "127.0.0.1")
        self.assertEqual(self.reactor.hosts, ["::1"])
        self.reactor.end(0, ConnectionRefusedError())
        self.assertEqual(self.reactor.hosts, ["::1", "127.0.0.1"])
        self.reactor.end(1)
        self.assertIsInstance(self.successResultOf(connecting), Protocol)
        self.assert_nothing_left()

    def test_all_refuse(self) -> None:
        """When the last address has refused the failure comes at once, and is that of the last one."""
        connecting = self.connect("10.0.0.1", "10.0.0.2")
        self.reactor.end(0, TimeoutError())
        self.reactor.end(1, ConnectionRefusedError())
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.assert_nothing_left()

    def test_silent(self) -> None:
        """While an address is silent the next one is tried as well; the first that answers is taken."""
        connecting = self.connect("10.0.0.1", "10.0.0.2", "10.0.0.3")
        self.reactor.advance(ATTEMPT_DELAY)
        self.assertEqual(self.reactor.hosts, ["10.0.0.1", "10.0.0.2"])
        self.reactor.end(1, ConnectionRefusedError())
        self.assertEqual(len(self.reactor.hosts), 3)
        self.assertNoResult(connecting)
        self.reactor.end(0)
        self.successResultOf(connecting)
        self.assert_nothing_left()

    def test_no_address(self) -> None:
        """A name without an address is an error of its own."""
        self.failureResultOf(self.connect(), DNSLookupError)

    def test_cancelled(self) -> None:
        """A cancelled connection is not made, whether the name is resolved or not."""
        for at_once in (True, False):
            connecting = self.connect("10.0.0.1", "10.0.0.2", at_once=at_once)
            connecting.cancel()
            self.failureResultOf(connecting)
            self.reactor.advance(10 * ATTEMPT_DELAY)
            self.assertEqual(self.reactor.hosts, ["10.0.0.1"] if at_once else [])
            self.assert_nothing_left()


class NameTests(TestCase):
    """Names, by the reactor's own resolver."""

    def plug(self, *addresses: str) -> Resolver:
        """Have the reactor resolve every name to these addresses."""
        resolver = Resolver(*addresses)
        plugged = cast(IReactorPluggableNameResolver, reactor)
        self.addCleanup(plugged.installNameResolver, plugged.installNameResolver(resolver))
        return resolver

    def test_underscore(self) -> None:
        """A name with an underscore is looked up like any other."""
        resolver = self.plug()
        endpoint = client_endpoint(cast(IReactorTCP, reactor), "seed_client:1", 1.0)
        connecting = endpoint.connect(Factory.forProtocol(Protocol))
        self.failureResultOf(connecting, DNSLookupError)
        self.assertEqual(resolver.asked, ["seed_client"])

    async def test_refused(self) -> None:
        """A host whose first address refuses is connected to by the second one, well before an attempt's delay."""
        self.plug("127.0.0.2", "127.0.0.1")
        parent = ScriptedParent(IReactorTCP(reactor), lambda request: [])
        self.addCleanup(parent.stop)
        port = split_address(parent.start())[1]
        self.patch(endpoints, "ATTEMPT_DELAY", 3600.0)
        protocol = await client_endpoint(IReactorTCP(reactor), f"peer:{port}", 5.0).connect(
            Factory.forProtocol(Protocol)
        )
        self.assertIsInstance(protocol, Protocol)


class ConnectWithinTests(SynchronousTestCase):
    """Connecting in a limited time."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, endpoint: IStreamClientEndpoint) -> Deferred[IProtocol]:
        """Connect within two seconds."""
        return connect_within(2.0, self.clock, endpoint, Factory.forProtocol(Protocol))

    def test_connects(self) -> None:
        """The protocol comes out, and no clock runs on."""
        endpoint = MemoryEndpoint(self.clock)
        self.assertIs(self.successResultOf(self.connect(endpoint)), endpoint.connections[0].protocol)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """The endpoint's own error comes out."""
        endpoint = MemoryEndpoint(self.clock, at_once=False)
        connecting = self.connect(endpoint)
        endpoint.refuse(ConnectionRefusedError())
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """When the time is over the attempt is given up, whatever the endpoint makes of that."""
        endpoint = MemoryEndpoint(self.clock, at_once=False)
        waiting = [self.connect(endpoint), self.connect(Resolving())]
        self.clock.advance(1.9)
        self.assertEqual([each.called for each in waiting], [False, False])
        self.clock.advance(0.2)
        for each in waiting:
            self.failureResultOf(each, TimeoutError)
        self.assertEqual(endpoint.attempts, [])

    def test_cancelled(self) -> None:
        """A cancelled attempt is given up and is called cancelled, whatever the endpoint makes of that."""
        endpoint = MemoryEndpoint(self.clock, at_once=False)
        for each in (self.connect(endpoint), self.connect(Resolving())):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual((endpoint.attempts, self.clock.getDelayedCalls()), ([], []))


class RealEndpointTests(TestCase):
    """Real connections."""

    async def test_name(self) -> None:
        """A name is resolved and connected to."""
        parent = ScriptedParent(IReactorTCP(reactor), lambda request: [])
        self.addCleanup(parent.stop)
        port = split_address(parent.start())[1]
        endpoint = client_endpoint(IReactorTCP(reactor), f"localhost:{port}", 5.0)
        protocol = await endpoint.connect(Factory.forProtocol(Protocol))
        self.assertIsInstance(protocol, Protocol)
