"""An endpoint under TLS has connected after the handshake, and says why when it has not."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, NoProtocol, TimeoutError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.testing.scripted_parent import ScriptedParent, Send
from dragonfly_vortex.transport.endpoints import client_endpoint, connect_within
from dragonfly_vortex.transport.tls import client_tls_from, server_tls_from
from test.certificates import Authority

clock = IReactorTime(reactor)


class _Listener(Protocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.errback(reason)


class _NoFactory(Factory):
    """Makes no protocol."""

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class TLSEndpointTests(TestCase):
    """Connecting."""

    timeout = 120

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.authority = Authority(directory)
        self.peer = self.authority.issue()

    def connect(self, address: str, factory: IProtocolFactory, timeout: float = 10.0) -> Deferred[IProtocol]:
        """Connect to an address under TLS."""
        tls = client_tls_from(TLSIdentity(authority=self.authority.file))
        endpoint = client_endpoint(IReactorTCP(reactor), address, timeout, tls)
        return connect_within(timeout, clock, endpoint, factory)

    def parent(self) -> ScriptedParent:
        """A parent that speaks TLS, and greets."""
        parent = ScriptedParent(
            IReactorTCP(reactor), lambda _: (), greeting=[Send(b"hello")], tls=server_tls_from(self.peer.identity())
        )
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    async def test_connected(self) -> None:
        """The protocol gets the connection, its data and its end."""
        parent = self.parent()
        protocol = await self.connect(parent.address, Factory.forProtocol(_Listener))
        if not isinstance(protocol, _Listener):
            self.fail(f"expected the factory's protocol, got {protocol!r}")
        self.assertEqual(await protocol.heard, b"hello")
        if protocol.transport is not None:
            protocol.transport.loseConnection()
        with self.assertRaises(ConnectionDone):
            await protocol.lost

    async def test_refused(self) -> None:
        """If no process listens, the error says so."""
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError):
                await self.connect(f"tls://127.0.0.1:{bound_only.getsockname()[1]}", Factory.forProtocol(Protocol))

    async def test_no_protocol(self) -> None:
        """A factory that makes none has the connection ended."""
        parent = self.parent()
        with self.assertRaises(NoProtocol):
            await self.connect(parent.address, _NoFactory())
        await parent.until_deserted()

    async def test_silent(self) -> None:
        """A handshake without an answer ends with the time for connecting, and the connection with it."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = f"tls://127.0.0.1:{listening.getsockname()[1]}"
            with self.assertRaises(TimeoutError):
                await self.connect(address, Factory.forProtocol(Protocol), 0.3)
            await self.assert_ended(listening)

    async def test_cancelled(self) -> None:
        """So does one that is cancelled, before the connection is there or after."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            for seconds in (0.0, 0.2):
                connecting = self.connect(
                    f"tls://127.0.0.1:{listening.getsockname()[1]}", Factory.forProtocol(Protocol)
                )
                clock.callLater(seconds, connecting.cancel)
                with self.assertRaises(CancelledError):
                    await connecting
                await self.assert_ended(listening)

    async def assert_ended(self, listening: socket.socket) -> None:
        """Assert that the connection that was made ends."""

        def read() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                try:
                    while connection.recv(65536):
                        pass
                except ConnectionResetError:
                    return

        await deferToThread(read)

    async def test_closed(self) -> None:
        """One that the other side closes in the handshake fails with how it ended."""
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def close() -> None:
                connection, _ = listening.accept()
                connection.recv(65536)
                connection.close()

            closing = deferToThread(close)
            with self.assertRaises(Exception) as raised:
                await self.connect(f"tls://127.0.0.1:{listening.getsockname()[1]}", Factory.forProtocol(Protocol))
            await closing
            self.assertEqual(type(raised.exception).__name__, "ConnectionLost")
