"""A server endpoint under TLS asks its clients for certificates."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IHandshakeListener, IReactorTime, ITLSTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.tls_server_endpoint import TLSServerEndpoint
from test.certificates import Authority, Issued


@implementer(IHandshakeListener)
class _Greets(Protocol):
    """Says by whom its client is known."""

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
        """A file that cannot be used is told when it listens."""
        files = f"certificate={self.directory / 'none'}:trustRoots={self.authority.file}"
        endpoint = serverFromString(reactor, f"mtls:0:{files}")
        error = await self.assertFailure(endpoint.listen(Factory.forProtocol(_Greets)), CertificateUnusable)
        self.assertIn(str(self.directory / "none"), str(error))
