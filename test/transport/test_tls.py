"""Files of certificates and keys are read, or refused in one line; what TLS does is tried where it is spoken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.transport.socket_options import beneath, hang_up
from dragonfly_vortex.transport.tls import TLSServerFactory, begins_tls, client_tls_from, server_tls_from
from test.certificates import Authority


class FilesTests(SynchronousTestCase):
    """What can be wrong with a file."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.peer = self.authority.issue()

    def write(self, content: str | bytes) -> Path:
        """A file with that content."""
        path = self.directory / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def assert_refused(self, identity: TLSIdentity, file: Path, reason: str) -> None:
        """Assert that both sides refuse it, in one line that begins with the file."""
        for read in (server_tls_from, client_tls_from):
            error = self.assertRaises(CertificateUnusable, read, identity)
            self.assertEqual(error.file, str(file))
            self.assertIn(reason, error.reason)
            self.assertEqual(str(error).splitlines(), [f"{file}: {error.reason}"])

    def test_good(self) -> None:
        """What is right is taken, with an authority and without, and with a chain of authorities."""
        below = Authority(self.directory, "below", above=self.authority).issue("chained")
        for identity in (self.peer.identity(), self.peer.identity(self.authority.file), below.identity()):
            server_tls_from(identity)
            client_tls_from(identity)
        client_tls_from(TLSIdentity())
        client_tls_from(TLSIdentity(authority=self.authority.file))
        self.assertEqual(
            [server_tls_from(self.peer.identity(each)).mutual for each in (None, self.authority.file)], [False, True]
        )

    def test_several_authorities(self) -> None:
        """A file may have several authorities, with other text between them."""
        other = Authority(self.directory, "other").file.read_text()
        client_tls_from(TLSIdentity(authority=self.write(f"ours\n{self.authority.file.read_text()}\ntheirs\n{other}")))

    def test_unreadable(self) -> None:
        """A file that is not there, or is a directory."""
        missing = self.directory / "missing"
        for file, reason in ((missing, "cannot be read: No such file"), (self.directory, "cannot be read: Is a dir")):
            self.assert_refused(TLSIdentity(certificate=file, key=self.peer.key), file, reason)
            self.assert_refused(TLSIdentity(certificate=self.peer.certificate, key=file), file, reason)
            self.assert_refused(self.peer.identity(file), file, reason)

    def test_no_certificate(self) -> None:
        """A file without a certificate, or with one that is none."""
        broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for content, reason in (
            ("", "expected a certificate in PEM, found none"),
            (self.peer.key.read_bytes(), "expected a certificate in PEM, found none"),
            (os.urandom(1000), "expected a certificate in PEM, found none"),
            (broken, "expected certificates in PEM: "),
            (self.peer.certificate.read_text() + broken, "expected certificates in PEM: "),
        ):
            file = self.write(content)
            self.assert_refused(TLSIdentity(certificate=file, key=self.peer.key), file, reason)
            self.assert_refused(self.peer.identity(file), file, reason)

    def test_no_key(self) -> None:
        """A file without a key, with one that is none, or with one that wants a password."""
        locked = self.authority.issue("locked", password=b"secret").key.read_bytes()
        broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        for content in (b"", self.peer.certificate.read_bytes(), os.urandom(1000), locked, broken):
            file = self.write(content)
            identity = TLSIdentity(certificate=self.peer.certificate, key=file)
            self.assert_refused(identity, file, "expected a private key in PEM, without a password: ")

    def test_another_key(self) -> None:
        """A key that is not the certificate's."""
        other = self.authority.issue("other-peer")
        identity = TLSIdentity(certificate=self.peer.certificate, key=other.key)
        self.assert_refused(
            identity, other.key, f"expected the private key of the certificate in {self.peer.certificate}: "
        )

    def test_hosts(self) -> None:
        """Names and addresses can be connected to; what can be no name is refused."""
        tls = client_tls_from(TLSIdentity())
        for host in ("localhost", "127.0.0.1", "::1", "fe80::1%eth0", "seed_client", "bücher.example"):
            tls.to(host)
        self.assertRaises(ValueError, tls.to, "a" * 64)


class TransportTests(SynchronousTestCase):
    """What lies under TLS."""

    def test_beginning(self) -> None:
        """A TLS client's first bytes are known, and no request's are like them."""
        self.assertTrue(begins_tls(b"\x16\x03\x01\x02\x00"))
        for tag in (0, 2, 4, 6, 0xFE):
            self.assertFalse(begins_tls(bytes([0x16, tag, 0, 0, 0, 68])))
        self.assertFalse(begins_tls(b""))

    def test_beneath(self) -> None:
        """Under TLS there is another transport, without it there is none; both learn of the end."""
        directory = Path(self.mktemp())
        directory.mkdir()
        tls = server_tls_from(Authority(directory).issue().identity())
        plain = StringTransport()
        as_tcp = cast(ITCPTransport, plain)
        self.assertIs(beneath(as_tcp), plain)
        hang_up(as_tcp)
        self.assertTrue(plain.disconnecting)
        factory = TLSServerFactory(tls, Factory.forProtocol(Protocol), lambda data: b"", Clock())
        wrapped, tcp = factory.buildProtocol(None), StringTransport()
        if wrapped is None:
            self.fail("expected a protocol")
        self.assertIsInstance(wrapped, TLSMemoryBIOProtocol)
        wrapped.makeConnection(tcp)
        self.assertIs(beneath(wrapped), tcp)
        hang_up(wrapped)
        self.assertTrue(tcp.disconnecting)

    def test_answer_without_tls(self) -> None:
        """A client without TLS is answered once, by its first bytes; one with TLS, even byte by byte, is not."""
        directory = Path(self.mktemp())
        directory.mkdir()
        tls = server_tls_from(Authority(directory).issue().identity())
        for pieces, expected in (
            ((b"\x00\x00\x00\x00\x00\x44", b"more"), b"no TLS: 000000000044"),
            ((b"G", b"ET / HTTP/1.1"), b"no TLS: 47"),
            ((b"\x16", b"\x03", b"\x01\x02\x00\x01"), b""),
            ((b"\x16\x03\x01\x02\x00\x01",), b""),
        ):
            factory = TLSServerFactory(
                tls, Factory.forProtocol(Protocol), lambda data: b"no TLS: " + data.hex().encode(), Clock()
            )
            wrapped, tcp = factory.buildProtocol(None), StringTransport()
            if wrapped is None:
                self.fail("expected a protocol")
            wrapped.makeConnection(tcp)
            for piece in pieces:
                wrapped.dataReceived(piece)
            self.assertEqual(tcp.value()[: len(expected) or None], expected)
