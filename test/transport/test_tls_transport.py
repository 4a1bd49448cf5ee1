"""Tests of TLS with many records at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.transport.tls import TLSServerFactory, client_tls_from, server_tls_from
from dragonfly_vortex.transport.tls_transport import TLSTransport, prefer_fast_ciphers
from test.certificates import Authority

KIB = 1024


class Listener(Protocol):
    """Keeps what it receives, and with what the connection ended."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep the bytes."""
        self.received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.reason = reason


class TLSTransportTests(SynchronousTestCase):
    """Two ends of a connection in memory."""

    def setUp(self) -> None:
        """Complete the handshake."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        server_tls = server_tls_from(authority.issue().identity())
        client_tls = client_tls_from(TLSIdentity(authority=authority.file)).to("127.0.0.1")
        self.client_tcp, self.server_tcp = StringTransport(), StringTransport()
        factory = Factory.forProtocol(Listener)
        client_factory = TLSMemoryBIOFactory(client_tls, True, factory, Clock())
        client_factory.protocol = TLSTransport
        server_factory = TLSServerFactory(server_tls, factory, lambda _: b"", Clock(), aggregates=False)
        self.client = cast(TLSTransport, client_factory.buildProtocol(None))
        self.server = cast(TLSTransport, server_factory.buildProtocol(None))
        self.client.makeConnection(cast(ITransport, self.client_tcp))
        self.server.makeConnection(cast(ITransport, self.server_tcp))
        while self.client_tcp.value() or self.server_tcp.value():
            for tcp, other in ((self.client_tcp, self.server), (self.server_tcp, self.client)):
                said = tcp.value()
                tcp.clear()
                if said:
                    other.dataReceived(said)
        self.listener = cast(Listener, self.client.wrappedProtocol)

    def test_many_records(self) -> None:
        """The content of many records is handed over as one; of the last, which may be the end, by itself."""
        content = os.urandom(200 * KIB)
        records = bytes(self.server.encrypt(content))
        self.client.dataReceived(records)
        self.assertLessEqual(len(self.listener.received), 2)
        self.assertTrue(b"".join(self.listener.received) == content)

    def test_cut_anywhere(self) -> None:
        """It does not matter how records are cut."""
        content = os.urandom(300 * KIB)
        records = bytes(self.server.encrypt(content))
        for start in range(0, len(records), 40_001):
            self.client.dataReceived(records[start : start + 40_001])
        self.assertTrue(b"".join(self.listener.received) == content)
        self.assertLessEqual(len(self.listener.received), 16)

    def test_end(self) -> None:
        """What comes before the end is handed over, and then the connection ends."""
        content = os.urandom(100 * KIB)
        records = bytes(self.server.encrypt(content))
        self.server.loseConnection()
        self.client.dataReceived(records + self.server_tcp.value())
        self.assertTrue(b"".join(self.listener.received) == content)
        self.assertTrue(self.client_tcp.disconnecting)
        self.client.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.listener.reason is not None and self.listener.reason.check(ConnectionDone))

    def test_forged(self) -> None:
        """A record that was changed on its way ends the connection, with OpenSSL's reason; none behind it is read."""
        content = os.urandom(200 * KIB)
        records = bytearray(self.server.encrypt(content))
        records[100 * KIB] ^= 1
        self.client.dataReceived(bytes(records))
        received = b"".join(self.listener.received)
        self.assertTrue(content.startswith(received))
        self.assertLess(len(received), 100 * KIB)
        self.client.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.listener.reason is not None and self.listener.reason.check(SSL.Error))

    def closed_socket(self, content: bytes) -> socket.socket:
        """A socket that has some bytes, and the end behind them."""
        other, sock = socket.socketpair()
        self.addCleanup(sock.close)
        sock.setblocking(False)
        with other:
            other.sendall(content)
        return sock

    def take_on(self, *later: bytes) -> None:
        """Have the client's protocol read a socket with these bytes whenever it is given some content."""
        sock, listener = self.closed_socket(b"".join(later)), self.listener

        def receive(data: bytes) -> None:
            listener.received.append(data)
            while content := self.client.receive(sock, 256 * KIB):
                listener.received.append(bytes(content))

        self.patch(listener, "dataReceived", receive)

    def test_received_past_the_transport(self) -> None:
        """A protocol reads on while it handles some; what follows goes the usual way."""
        content = [os.urandom(length) for length in (100 * KIB, 60 * KIB, 50 * KIB)]
        first, second, third = (bytes(self.server.encrypt(each)) for each in content)
        self.take_on(second)
        self.client.dataReceived(first)
        self.client.dataReceived(third)
        self.assertTrue(b"".join(self.listener.received) == b"".join(content))

    def test_forged_past_the_transport(self) -> None:
        """A forged record that a protocol reads itself ends the connection, whatever came before it."""
        for length in (10, 100 * KIB):
            with self.subTest(length=length):
                self.setUp()
                first, forged = bytes(self.server.encrypt(bytes(length))), bytearray(self.server.encrypt(b"content"))
                forged[-1] ^= 1
                self.take_on(bytes(forged))
                self.client.dataReceived(first)
                self.assertEqual(b"".join(self.listener.received), bytes(length))
                self.assertTrue(self.client_tcp.disconnecting)
                self.client.connectionLost(Failure(ConnectionLost()))
                self.assertTrue(self.listener.reason is not None and self.listener.reason.check(SSL.Error))

    def test_end_past_the_transport(self) -> None:
        """The other side's end that a protocol reads itself ends the connection, behind all content."""
        for length in (10, 100 * KIB):
            with self.subTest(length=length):
                self.setUp()
                first, second = bytes(self.server.encrypt(bytes(length))), bytes(self.server.encrypt(b"content"))
                self.server.loseConnection()
                self.take_on(second, self.server_tcp.value())
                self.client.dataReceived(first)
                self.assertEqual(b"".join(self.listener.received), bytes(length) + b"content")
                self.assertTrue(self.client_tcp.disconnecting)
                self.assertEqual(len(self.client.receive(self.closed_socket(b"more"), 100)), 0)

    def test_socket_that_failed(self) -> None:
        """A protocol that reads a socket which has failed learns it at once: the transport would not."""
        with socket.socket() as sock:
            pass
        with self.assertRaises(ConnectionLost):
            self.client.receive(sock, 100)

    def test_nothing_behind_the_end(self) -> None:
        """Nothing can be encrypted for a connection that has ended, or is about to."""
        self.server.loseConnection()
        with self.assertRaises(ConnectionLost):
            self.server.encrypt(b"content")
        self.server.connectionLost(Failure(ConnectionDone()))
        with self.assertRaises(ConnectionLost):
            self.server.encrypt(b"content")

    def test_dropped_behind_the_end(self) -> None:
        """What comes after the other side's end, or after an error, is dropped: it must not gather in memory."""
        self.server.loseConnection()
        forged = bytearray(self.client.encrypt(b"content"))
        forged[-1] ^= 1
        for side, last in ((self.client, self.server_tcp.value()), (self.server, bytes(forged))):
            with self.subTest(side=side):
                side.dataReceived(last)
                kept: list[int] = []
                self.patch(side.getHandle(), "bio_write", lambda data, kept=kept: kept.append(len(data)))
                for length in (1, 100 * KIB):
                    side.dataReceived(os.urandom(length))
                self.assertEqual(kept, [])

    def test_nothing_behind_an_abort(self) -> None:
        """A protocol that ends the connection receives nothing more."""
        protocol = self.listener

        def receive(data: bytes) -> None:
            protocol.received.append(data)
            self.client.abortConnection()

        self.patch(protocol, "dataReceived", receive)
        self.client.dataReceived(bytes(self.server.encrypt(os.urandom(100 * KIB))))
        self.assertEqual(len(protocol.received), 1)


class CipherTests(SynchronousTestCase):
    """Which cipher two sides choose."""

    def chosen(self, server: str | None, client: str | None) -> str | None:
        """The cipher of a connection between sides whose processors are described so."""
        directory = Path(self.mktemp())
        directory.mkdir()
        identity = Authority(directory).issue().identity()
        ends = []
        for name, described in (("server", server), ("client", client)):
            context = SSL.Context(SSL.TLS_METHOD)
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
            described_in = directory / name
            if described is not None:
                described_in.write_text(f"processor\t: 0\nflags\t\t: fpu {described}\n", encoding="ascii")
            prefer_fast_ciphers(context, described_in)
            if name == "server":
                context.use_certificate_file(str(identity.certificate))
                context.use_privatekey_file(str(identity.key))
            ends.append(SSL.Connection(context))
        ends[0].set_accept_state()
        ends[1].set_connect_state()
        for _ in range(3):
            for one, other in ((ends[1], ends[0]), (ends[0], ends[1])):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(2**16))
        return ends[1].get_cipher_name()

    def test_chosen(self) -> None:
        """AES-128 where both have instructions for AES, ChaCha20 where one has none."""
        for server, client, expected in (
            ("sse aes", "aes avx", "TLS_AES_128_GCM_SHA256"),
            ("aes", "vaesx", "TLS_CHACHA20_POLY1305_SHA256"),
            ("sse", "aes", "TLS_CHACHA20_POLY1305_SHA256"),
            ("aes", None, "TLS_AES_128_GCM_SHA256"),
            (None, None, "TLS_AES_256_GCM_SHA384"),
        ):
            self.assertEqual(self.chosen(server, client), expected, f"{server}, {client}")
