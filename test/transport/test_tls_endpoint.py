"""An endpoint under TLS has connected after the handshake, and says why when it has not."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTCP,
    IReactorTime,
    ITLSTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.testing.scripted_parent import ScriptedParent, Send
from dragonfly_vortex.transport.endpoints import client_endpoint, connect_within
from dragonfly_vortex.transport.tls import client_tls_from, server_tls_from
from dragonfly_vortex.transport.tls_endpoint import TLSServerEndpoint
from test.certificates import Authority, Issued

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
                connection.settimeout(120)
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


@implementer(IHandshakeListener)
class _Greets(Protocol):
    """Says which authority has signed its client's certificate."""

    def handshakeCompleted(self) -> None:
        transport = cast(ITLSTransport, self.transport)
        try:
            issuer = Certificate.peerFromTransport(transport).getIssuer().CN.decode()
        except Exception:  # of several kinds where there is no certificate
            issuer = "nobody"
        transport.write(f"known by {issuer}".encode())
        transport.loseConnection()


class TLSServerEndpointTests(TestCase):
    """Endpoints of strings, and a client of the standard library."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.peer = self.authority.issue()

    async def listen(self, where: str) -> object:
        """Listen, and return the address."""
        files = f"certificate={self.peer.certificate}:privateKey={self.peer.key}:trustRoots={self.authority.file}"
        port = await serverFromString(reactor, f"mtls:{where}:{files}").listen(Factory.forProtocol(_Greets))
        self.addCleanup(port.stopListening)
        return port.getHost()

    def ask(self, family: int, address: object, shown: Issued | None = None) -> bytes:
        """Connect, in a thread, and return what the server says."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        with socket.socket(family) as plain:
            plain.settimeout(60)
            plain.connect(address)  # type: ignore[arg-type] # of any family
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                said = b""
                while data := secure.recv(100):
                    said += data
                return said

    def asked(self, family: int, address: object, shown: Issued | None = None) -> Deferred[bytes]:
        """See :meth:`ask`."""
        asking: Deferred[bytes] = deferToThread(self.ask, family, address, shown)
        return asking

    async def test_no_certificate_asked_for(self) -> None:
        """Without authorities of clients, any client is served."""
        plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        endpoint = TLSServerEndpoint(IReactorTime(reactor), plain, certificate=self.peer.certificate, key=self.peer.key)
        port = await endpoint.listen(Factory.forProtocol(_Greets))
        self.addCleanup(port.stopListening)
        said = await self.asked(socket.AF_INET, ("127.0.0.1", port.getHost().port))  # type: ignore[attr-defined]
        self.assertEqual(said, b"known by nobody")

    async def test_certificate(self) -> None:
        """With them, a client must show a certificate that one of them has signed; the protocol gets to know it."""
        address = await self.listen("0:interface=127.0.0.1")
        place = ("127.0.0.1", address.port)  # type: ignore[attr-defined]
        self.assertEqual(await self.asked(socket.AF_INET, place, self.peer), b"known by ca")
        await self.assertFailure(self.asked(socket.AF_INET, place), ssl.SSLError, ConnectionError)
        (self.directory / "other").mkdir()
        stranger = Authority(self.directory / "other", "other").issue()
        await self.assertFailure(self.asked(socket.AF_INET, place, stranger), ssl.SSLError, ConnectionError)

    async def test_other_endpoints(self) -> None:
        """It listens at any other endpoint, such as a Unix socket or IPv6."""
        short = tempfile.mkdtemp()  # the path of a socket has at most 107 bytes
        self.addCleanup(shutil.rmtree, short)
        path = f"{short}/s"
        await self.listen(f"unix\\:{path}")
        self.assertEqual(await self.asked(socket.AF_UNIX, path, self.peer), b"known by ca")
        address = await self.listen("0:interface=\\:\\:1")
        place = ("::1", address.port)  # type: ignore[attr-defined]
        self.assertEqual(await self.asked(socket.AF_INET6, place, self.peer), b"known by ca")

    async def test_file(self) -> None:
        """A file that cannot be used is an error when it listens."""
        files = f"certificate={self.directory / 'none'}:trustRoots={self.authority.file}"
        endpoint = serverFromString(reactor, f"mtls:0:{files}")
        error = await self.assertFailure(endpoint.listen(Factory.forProtocol(_Greets)), CertificateUnusable)
        self.assertIn(str(self.directory / "none"), str(error))
