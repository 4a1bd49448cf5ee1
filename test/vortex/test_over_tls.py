"""Vortex over TLS between a parent and a child on real sockets: which children are served, and what others get."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTCP, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import EventLoggingObserver
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher

from dragonfly_vortex.config import Config, DownloadConfig, TLSConfig, TLSIdentity
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.errors import (
    CertificateRejected,
    DigestMismatch,
    OtherProtocol,
    ParentUnreachable,
    PieceError,
)
from dragonfly_vortex.interfaces import IDownloader
from dragonfly_vortex.testing.pieces import reply_bytes, sample_piece
from dragonfly_vortex.transport.read_pacing import LowWaterMark
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.transport.tls import TLSServerFactory, client_tls_from, server_tls_from
from dragonfly_vortex.transport.tls_endpoint import TLSEndpoint
from dragonfly_vortex.transport.tls_transport import TLSTransport
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_protocol import ClientSettings, VortexClientFactory, VortexClientProtocol
from dragonfly_vortex.vortex.server import VortexServerFactory
from dragonfly_vortex.wire import Close
from test.certificates import Authority, Issued, self_signed
from test.vortex.child import request_bytes
from test.vortex.serving import REACTOR, ServingTestCase
from test.vortex.shelf import TASK_ID

MIB = 1024 * 1024


class TLSTestCase(ServingTestCase):
    """Tests of a parent that speaks TLS, with an authority that both sides trust."""

    timeout = 120

    def setUp(self) -> None:
        """Make the authority, a good certificate, and look at the log."""
        super().setUp()
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.peer = self.authority.issue()
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self._events = observer

    def said(self, pattern: str = "refused") -> list[str]:
        """The lines of the parent's log with that text."""
        lines = [formatEvent(event) for event in self._events]
        return [line for line in lines if pattern in line]

    def serve_identity(self, factory: VortexServerFactory, identity: TLSIdentity | None) -> int:
        """Serve on 127.0.0.1 until the test ends; the port."""
        return self.serve(factory, identity=identity)[1]

    def downloader(self, shown: Issued | None = None, authority: Path | None = None) -> IDownloader:
        """A child that shows a certificate, and trusts the tests' authority or another."""
        tls = TLSConfig(
            cert=shown.certificate if shown is not None else None,
            key=shown.key if shown is not None else None,
            ca_cert=authority or self.authority.file,
        )
        config = Config(tls=tls, download=DownloadConfig(piece_timeout=120.0))
        downloader = DownloaderFactory("tcp", config, reactor=IReactorTCP(REACTOR)).build()
        self.addCleanup(downloader.stop)
        return downloader

    def context(self, **options: Any) -> ssl.SSLContext:
        """A child's of Python's own, that trusts the tests' authority."""
        return ssl.create_default_context(cafile=str(self.authority.file), **options)

    async def tls_socket(self, port: int, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A connection of Python's own under TLS, closed when the test ends."""

        def connect() -> ssl.SSLSocket:
            sock = socket.create_connection(("127.0.0.1", port), timeout=120)
            return (context or self.context()).wrap_socket(sock, server_hostname="localhost")

        connected = await deferToThread(connect)
        self.addCleanup(connected.close)
        return connected

    async def plain_socket(self, port: int) -> socket.socket:
        """A connection without TLS, closed when the test ends."""
        connected = await deferToThread(socket.create_connection, ("127.0.0.1", port), 10)
        self.addCleanup(connected.close)
        return connected


class Answering(Protocol):
    """A parent that answers a request by bytes of the test."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self.answer = answer

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        cast(ITransport, self.transport).write(self.answer())


class TakingTests(TLSTestCase):
    """How a child reads content that it has to decrypt."""

    answer = b""

    async def connect(self) -> VortexClientProtocol:
        """A child's connection to a parent that sends :attr:`answer`, which the child reads in small parts."""
        factory = Factory.forProtocol(partial(Answering, lambda: self.answer))
        tls = TLSServerFactory(server_tls_from(self.peer.identity()), factory, lambda _: b"", REACTOR, aggregates=False)
        listening = REACTOR.listenTCP(0, tls, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        creator = client_tls_from(TLSIdentity(authority=self.authority.file)).to("127.0.0.1")
        endpoint = TLSEndpoint(creator, TCP4ClientEndpoint(REACTOR, "127.0.0.1", listening.getHost().port), REACTOR)
        settings = ClientSettings(clock=REACTOR, read_size=20_000)
        protocol = cast(VortexClientProtocol, await endpoint.connect(VortexClientFactory("parent", settings)))
        self.addCleanup(protocol.close)
        return protocol

    async def test_takes(self) -> None:
        """Most content is decrypted past the transport, which copies each part; what is behind a piece is not its."""
        received: list[int] = []
        usual = TLSTransport.receive

        def receive(transport: TLSTransport, sock: socket.socket, length: int) -> memoryview:
            content = usual(transport, sock, length)
            received.append(len(content))
            return content

        self.patch(TLSTransport, "receive", receive)
        protocol = await self.connect()
        for number, behind in enumerate((b"", b"", Close(packet_id=0).to_bytes())):
            piece = sample_piece(400_000 + number, number=number)
            self.answer = reply_bytes(piece) + behind
            response = await protocol.download_piece(piece.request())
            self.assertTrue(response.content == piece.content)
        self.assertGreater(sum(received), 400_000)
        self.assertFalse(protocol.usable)

    async def test_forged(self) -> None:
        """A piece whose content is wrong fails, however it was decrypted, and its connection ends."""
        protocol = await self.connect()
        piece = sample_piece(400_000)
        wrong = bytearray(reply_bytes(piece))
        wrong[-1] ^= 1
        self.answer = bytes(wrong)
        with self.assertRaises(DigestMismatch):
            await protocol.download_piece(piece.request())
        self.assertFalse(protocol.usable)


class ServedTests(TLSTestCase):
    """Children that are served."""

    async def test_pieces(self) -> None:
        """Pieces of all sizes come as they are, over a name, an IPv4 address and a chain of two authorities."""
        store = self.shelf(0, 1, 70_000, 3 * MIB + 1)
        below = Authority(self.directory, "below", above=self.authority)
        port = self.serve_identity(self.factory(store), below.issue("chained").identity())
        downloader = self.downloader()
        for host in ("127.0.0.1", "localhost"):
            for number in range(4):
                piece = await downloader.download_piece(f"tls://{host}:{port}", number, "", TASK_ID)
                self.assertTrue(piece.content == store.content(number))
        self.assertEqual(self.said(), [])

    async def test_names_that_cannot_be_used(self) -> None:
        """A certificate may have names that can be none beside others."""
        store = self.shelf(100)
        identity = self.authority.issue("odd", hosts=("*", "*.org", "localhost", "127.0.0.1")).identity()
        port = self.serve_identity(self.factory(store), identity)
        for host in ("127.0.0.1", "localhost"):
            piece = await self.downloader().download_piece(f"tls://{host}:{port}", 0, "", TASK_ID)
            self.assertTrue(piece.content == store.content(0))

    async def test_authority_that_is_no_root(self) -> None:
        """An authority below another is trusted by itself, and so is a peer's own certificate."""
        store = self.shelf(100)
        below = Authority(self.directory, "below", above=self.authority)
        issued = below.issue("chained")
        port = self.serve_identity(self.factory(store), issued.identity())
        for authority in (below.file, issued.certificate):
            piece = await self.downloader(authority=authority).download_piece(f"tls://localhost:{port}", 0, "", TASK_ID)
            self.assertTrue(piece.content == store.content(0))

    async def test_mutual(self) -> None:
        """With an authority on both sides each shows a certificate, and is served."""
        store = self.shelf(100)
        port = self.serve_identity(self.factory(store), self.peer.identity(self.authority.file))
        piece = await self.downloader(self.peer).download_piece(f"tls://127.0.0.1:{port}", 0, "", TASK_ID)
        self.assertEqual(piece.content, store.content(0))

    async def test_without_sendfile(self) -> None:
        """Content is copied and not sent by sendfile, which the log says once."""

        def sendfile(*_: object) -> int:
            raise OSError("sendfile under TLS")

        self.patch(os, "sendfile", sendfile)
        store = self.shelf(MIB, MIB)
        port = self.serve_identity(self.factory(store), self.peer.identity())
        downloader = self.downloader()
        for number in (0, 1):
            piece = await downloader.download_piece(f"tls://127.0.0.1:{port}", number, "", TASK_ID)
            self.assertTrue(piece.content == store.content(number))
        self.assertEqual(len(self.said("content is copied, sendfile cannot encrypt")), 1)

    async def test_without_splice(self) -> None:
        """Nothing is taken from the socket into a file, nor waited for: what the socket holds is not the content."""

        def splice(*_: object, **__: object) -> int:
            raise OSError("splice under TLS")

        self.patch(os, "splice", splice)
        marks: list[int] = []
        self.patch(LowWaterMark, "set", lambda mark, length: marks.append(length))
        store = self.shelf(3 * MIB)
        port = self.serve_identity(self.factory(store), self.peer.identity())
        descriptor = os.open(self.directory / "piece", os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        sink = FileSink(descriptor, 0)
        await self.downloader().download_piece(f"tls://127.0.0.1:{port}", 0, "", TASK_ID, sink)
        self.assertTrue((self.directory / "piece").read_bytes() == store.content(0))
        self.assertEqual(marks, [])

    async def test_throughput(self) -> None:
        """64 MiB take few seconds of this process, which is both sides."""
        store = self.shelf(64 * MIB)
        port = self.serve_identity(self.factory(store), self.peer.identity())
        before = time.process_time()
        await self.downloader().download_piece(f"tls://127.0.0.1:{port}", 0, "", TASK_ID)
        self.assertLess(time.process_time() - before, 15.0)

    async def test_a_connection_is_kept(self) -> None:
        """One connection, and one handshake, serve several pieces; it ends with both sides' goodbye."""
        store = self.shelf(10, 20, 30)
        factory = self.factory(store)
        port = self.serve_identity(factory, self.peer.identity())
        downloader = self.downloader()
        for number in range(3):
            await downloader.download_piece(f"tls://127.0.0.1:{port}", number, "", TASK_ID)
        self.assertEqual(len(factory.connections), 1)
        await downloader.stop()
        await self.until(lambda: not factory.connections)
        self.assertEqual(self.said(), [])


class RefusedTests(TLSTestCase):
    """Children that are not served: one line at the child, one at the parent."""

    async def refused(
        self,
        parent: TLSIdentity | None,
        child: IDownloader,
        scheme: str = "tls",
        error: type[PieceError] = CertificateRejected,
        host: str = "127.0.0.1",
    ) -> tuple[str, str]:
        """What the child says, and what the parent says."""
        factory = self.factory(self.shelf(10))
        port = self.serve_identity(factory, parent)
        address = f"{host}:{port}" if scheme == "tcp" else f"{scheme}://{host}:{port}"
        with self.assertRaises(error) as raised:
            await child.download_piece(address, 0, "", TASK_ID)
        await self.until(self.said)
        await self.until(lambda: not factory.connections)
        failed: PieceError = raised.exception
        self.assertIs(type(failed), error)
        self.assertEqual((failed.parent, len(str(failed).splitlines())), (address, 1))
        (line,) = self.said()
        self.assertEqual(len(line.splitlines()), 1)
        return failed.reason, line

    async def test_expired(self) -> None:
        """A parent's certificate that has expired."""
        expired = self.authority.issue("expired", begins=-3, ends=-1)
        child, parent = await self.refused(expired.identity(), self.downloader())
        self.assertEqual(child, "TLS: the certificate has expired")
        self.assertIn("TLS: to the other side, the certificate that it was shown has expired", parent)

    async def test_not_yet_valid(self) -> None:
        """A parent's certificate that is for later."""
        later = self.authority.issue("later", begins=1, ends=2)
        child, parent = await self.refused(later.identity(), self.downloader())
        self.assertEqual(child, "TLS: the certificate is not valid yet: is a clock wrong?")
        self.assertIn("TLS: the other side refused the certificate that it was shown", parent)

    async def test_self_signed(self) -> None:
        """A parent's certificate that only itself has signed."""
        child, parent = await self.refused(self_signed(self.directory).identity(), self.downloader())
        self.assertEqual(child, "TLS: the certificate is self-signed, and not trusted here")
        self.assertIn("TLS: the other side does not trust the authority of the certificate that it was shown", parent)

    async def test_another_authority(self) -> None:
        """A parent's certificate of an authority that the child does not know."""
        other = Authority(self.directory, "other").issue("alien")
        child, parent = await self.refused(other.identity(), self.downloader())
        self.assertEqual(child, "TLS: the certificate was not signed by an authority that is trusted here")
        self.assertIn("TLS: the other side does not trust the authority", parent)

    async def test_platform(self) -> None:
        """Without an authority of its own, a child trusts its platform's, which have not signed the tests'."""
        downloader = DownloaderFactory("tcp", Config(), reactor=IReactorTCP(REACTOR)).build()
        self.addCleanup(downloader.stop)
        child, _ = await self.refused(self.peer.identity(), downloader)
        self.assertEqual(child, "TLS: the certificate was not signed by an authority that is trusted here")

    async def test_wrong_name(self) -> None:
        """A parent's certificate for another host, or for none, whatever the parent is called by."""
        for hosts in (("example.org", "10.0.0.1"), ()):
            for host in ("127.0.0.1", "localhost"):
                wrong = self.authority.issue("wrong", hosts=hosts)
                self._events._events.clear()
                child, parent = await self.refused(wrong.identity(), self.downloader(), host=host)
                self.assertEqual(child, f"TLS: the certificate is not for {host}")
                self.assertIn("TLS: the other side cannot go on; is the certificate", parent)

    async def test_wrong_purpose(self) -> None:
        """A parent's certificate that is for clients alone."""
        client = self.authority.issue("client", usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
        child, parent = await self.refused(client.identity(), self.downloader())
        self.assertEqual(child, "TLS: the certificate is for another purpose (extended key usage)")
        self.assertIn("TLS: to the other side, the certificate that it was shown is for another purpose", parent)

    async def test_no_certificate(self) -> None:
        """A child that shows no certificate to a parent that wants one."""
        child, parent = await self.refused(self.peer.identity(self.authority.file), self.downloader())
        self.assertEqual(child, "TLS: the other side asks for a certificate, and was shown none")
        self.assertIn("TLS: expected a certificate of the other side, got none", parent)

    async def test_bad_certificate_of_a_child(self) -> None:
        """A child whose certificate has expired, or is of another authority."""
        mutual = self.peer.identity(self.authority.file)
        expired = self.authority.issue("expired", begins=-3, ends=-1)
        child, parent = await self.refused(mutual, self.downloader(expired))
        self.assertEqual(child, "TLS: to the other side, the certificate that it was shown has expired")
        self.assertIn("TLS: the certificate has expired", parent)
        self._events._events.clear()
        alien = Authority(self.directory, "other").issue("alien")
        child, parent = await self.refused(mutual, self.downloader(alien))
        self.assertEqual(child, "TLS: the other side does not trust the authority of the certificate that it was shown")
        self.assertIn("TLS: the certificate was not signed by an authority that is trusted here", parent)

    async def test_plain_child(self) -> None:
        """A child without TLS gets the answer, without TLS, that TLS is expected, and asks no more."""
        child, parent = await self.refused(self.peer.identity(), self.downloader(), "tcp", OtherProtocol)
        self.assertIn("expected TLS (tls://) on this port, got a request without it", child)
        self.assertIn("TLS: expected TLS, got something else", parent)

    async def test_plain_parent(self) -> None:
        """A child under TLS at a parent without."""
        child, parent = await self.refused(None, self.downloader(), error=OtherProtocol)
        self.assertEqual(child, "TLS: expected TLS, got something else: the other side speaks none here")
        self.assertIn("expected a request without TLS on this port, got TLS", parent)

    async def test_parent_that_goes(self) -> None:
        """A parent that closes in the handshake, and one that says nothing, are unreachable."""
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def close() -> None:
                connection, _ = listening.accept()
                connection.recv(65536)
                connection.close()

            address = f"tls://127.0.0.1:{listening.getsockname()[1]}"
            closing = deferToThread(close)
            with self.assertRaises(ParentUnreachable) as raised:
                await self.downloader().download_piece(address, 0, "", TASK_ID)
            await closing
            self.assertEqual(raised.exception.reason, "TLS: lost in the handshake")
            defaults = TCPClient.__init__.__kwdefaults__ or {}
            self.patch(TCPClient.__init__, "__kwdefaults__", {**defaults, "connect_timeout": 0.5})
            with self.assertRaises(ParentUnreachable) as raised:
                await self.downloader().download_piece(address, 0, "", TASK_ID)
            self.assertEqual(raised.exception.reason, "no connection within 0.5 s")

    async def test_earlier_version(self) -> None:
        """TLS 1.2 is refused."""
        port = self.serve_identity(self.factory(self.shelf(10)), self.peer.identity())
        context = self.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(ssl.SSLError):
            await self.tls_socket(port, context)
        await self.until(self.said)
        self.assertIn("TLS: expected TLS 1.3, got an earlier version", self.said()[0])

    async def test_a_child_that_comes_and_goes(self) -> None:
        """A client that disconnects without a packet, or with half of one, is not logged, and leaves nothing."""
        factory = self.factory(self.shelf(10))
        port = self.serve_identity(factory, self.peer.identity())
        for data in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
            connection = await self.plain_socket(port)
            await self.until(lambda: factory.connections)
            connection.sendall(data)
            connection.close()
            await self.until(lambda: not factory.connections)
        self.assertEqual(self.said(), [])


class EndTests(TLSTestCase):
    """How connections end under TLS."""

    async def test_silent_child(self) -> None:
        """A child that does not begin its handshake, or stays in it, counts, and is ended by the idle time-out."""
        for data in (b"", b"\x16\x03\x01\x02\x00\x01"):
            factory = self.factory(self.shelf(10), idle_timeout=0.3)
            port = self.serve_identity(factory, self.peer.identity())
            connection = await self.plain_socket(port)
            connection.sendall(data)
            await self.until(lambda: len(factory.connections) == 1)  # noqa: B023 # it is over before the next turn
            ended = await deferToThread(_read_to_the_end, connection)
            self.assertEqual(ended, b"")
            self.assertEqual(len(factory.connections), 0)

    async def test_idle(self) -> None:
        """An idle connection ends in order, also when the child never says goodbye."""
        factory = self.factory(self.shelf(10), idle_timeout=0.3)
        port = self.serve_identity(factory, self.peer.identity())
        child = await self.tls_socket(port)
        await self.until(lambda: len(factory.connections) == 1)
        await self.until(lambda: len(factory.connections) == 0)
        self.assertEqual(await deferToThread(child.recv, 100), b"")

    async def test_drain(self) -> None:
        """When the parent stops, idle connections end at once, whether the child says goodbye or not."""
        store = self.shelf(10)
        factory = self.factory(store, idle_timeout=1000.0)
        port = self.serve_identity(factory, self.peer.identity())
        child = await self.tls_socket(port)
        child.sendall(request_bytes(0))  # the parent's handshake may end after the child's, and not be idle before that
        self.assertTrue((await deferToThread(_read_until, child, store.content(0))).endswith(store.content(0)))
        await factory.connections.drain(1000.0)  # longer than this test may take
        self.assertEqual(await deferToThread(child.recv, 100), b"")

    async def test_room(self) -> None:
        """
        At the limit the longest idle makes room, though it sends no close_notify; when all are busy, no other gets in.
        """
        store = self.shelf(8 * MIB)
        factory = self.factory(store, max_connections=1)
        port = self.serve_identity(factory, self.peer.identity())
        idle = await self.tls_socket(port)
        await self.until(lambda: factory.connections._idle)
        busy = await self.tls_socket(port)
        busy.sendall(request_bytes(0))
        self.assertEqual(await deferToThread(idle.recv, 100), b"")
        await self.until(lambda: len(factory.connections) == 1 and not factory.connections._idle)
        waiting = await self.plain_socket(port)  # in the listener's queue
        waiting.sendall(request_bytes(0))
        await self.pause(1.5)
        self.assertEqual((len(factory.connections), self.said()), (1, []))
        busy.close()
        self.assertIn(b"expected TLS", await deferToThread(_read_to_the_end, waiting))

    async def test_no_room_without_a_listener(self) -> None:
        """A factory that makes no protocol has the connection closed, and nothing in the log."""
        factory = self.factory(self.shelf(8 * MIB), max_connections=0)
        # As a listener that does not ask.
        factory.connections.has_room = lambda share="": True  # type: ignore[method-assign]
        port = self.serve_identity(factory, self.peer.identity())
        connection = await self.plain_socket(port)
        self.assertEqual(await deferToThread(_read_to_the_end, connection), b"")

    async def test_malformed_request(self) -> None:
        """What is malformed is answered with an error under TLS, and then the connection ends in order."""
        factory = self.factory(self.shelf(10))
        port = self.serve_identity(factory, self.peer.identity())
        child = await self.tls_socket(port)
        child.sendall(b"\x05\x00\xff\xff\xff\xff" + b"x" * 100)
        reply = await deferToThread(_read_to_the_end, child)
        self.assertEqual(reply[:2], b"\x05\xff")
        await self.until(lambda: not factory.connections)

    async def test_goodbye_inside_a_piece(self) -> None:
        """Under TLS there is no half-close: a child's goodbye ends the connection, and the piece's file is closed."""
        factory = self.factory(self.shelf(32 * MIB))
        port = self.serve_identity(factory, self.peer.identity())
        child = await self.tls_socket(port)
        child.sendall(request_bytes(0))
        await deferToThread(child.recv, 100)
        await deferToThread(_say_goodbye, child)
        await self.until(lambda: not factory.connections)

    async def test_parent_that_never_says_goodbye(self) -> None:
        """A child that stops does not wait for the goodbye of a parent that is silent."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.peer.certificate, self.peer.key)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def accept() -> ssl.SSLSocket:
                return context.wrap_socket(listening.accept()[0], server_side=True)

            accepting = deferToThread(accept)
            downloader = self.downloader()
            failing = downloader.download_piece(f"tls://127.0.0.1:{port}", 0, "", TASK_ID)
            parent = await accepting
            await deferToThread(parent.recv, 100)
            parent.sendall(b"\x00\xff\x00\x00\x00\x03\x02no")  # not found: the connection is kept
            with self.assertRaises(PieceError):
                await failing
            await downloader.stop()  # while the parent says no goodbye
            parent.close()


def _read_until(connection: socket.socket, ending: bytes) -> bytes:
    """Read until something has arrived, or the connection ends."""
    data = b""
    while not data.endswith(ending) and (more := connection.recv(1000)):
        data += more
    return data


def _read_to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the connection ends, in order or not."""
    data = bytearray()
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        return bytes(data)
    return bytes(data)


def _say_goodbye(connection: ssl.SSLSocket) -> None:
    """Send TLS's goodbye, and read whatever comes until the connection has ended."""
    with contextlib.suppress(ssl.SSLError):  # content where Python expects the other side's goodbye
        connection.unwrap()
    with contextlib.suppress(ConnectionResetError):
        while socket.socket.recv(connection, 1 << 18):
            pass
