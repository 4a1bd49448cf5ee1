"""Tests of :mod:`dragonfly_vortex.transport.tls_records`, between two connections of OpenSSL in memory."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.tls_records import RECORD, decrypt, encrypt, receive, take_output, window
from dragonfly_vortex.transport.tls_transport import write_whole
from test.certificates import Authority

KIB = 1024


class Public:
    """A connection of which only the documented names can be seen, as of another version of pyOpenSSL."""

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> object:
        """A public name of the connection."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.connection, name)


class RecordsTests(SynchronousTestCase):
    """Two ends of a connection whose handshake is complete."""

    def setUp(self) -> None:
        """As the contexts of a peer are."""
        self.connect(write_whole)

    def connect(self, prepare: Callable[[SSL.Context], object]) -> None:
        """Complete the handshake of two connections with contexts of one kind."""
        directory = Path(self.mktemp())
        directory.mkdir()
        identity = Authority(directory).issue().identity()
        ends = []
        for is_server in (True, False):
            context = SSL.Context(SSL.TLS_METHOD)
            context.set_min_proto_version(SSL.TLS1_3_VERSION)
            prepare(context)
            if is_server:
                context.use_certificate_file(str(identity.certificate))
                context.use_privatekey_file(str(identity.key))
            ends.append(SSL.Connection(context))
        self.server, self.client = ends
        self.server.set_accept_state()
        self.client.set_connect_state()
        for _ in range(3):
            for one, other in ((self.client, self.server), (self.server, self.client)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(64 * KIB))
        decrypt(self.client, encrypt(self.server, b"the session's tickets come before it"))

    def ways(self) -> list[tuple[SSL.Connection, SSL.Connection]]:
        """The sender and the receiver, as they are and with their documented names alone."""
        return [
            (cast(SSL.Connection, sender), cast(SSL.Connection, receiver))
            for sender in (self.server, Public(self.server))
            for receiver in (self.client, Public(self.client))
        ]

    def test_whole(self) -> None:
        """Content of any length arrives as it was, with every version of pyOpenSSL."""
        for sender, receiver in self.ways():
            for length in (1, RECORD, RECORD + 1, 128 * KIB, 300 * KIB, 1000 * KIB):
                with self.subTest(sender=sender, receiver=receiver, length=length):
                    content = os.urandom(length)
                    self.assertEqual(decrypt(receiver, encrypt(sender, content)), (content, None))

    def test_partial_writes(self) -> None:
        """All of the content is encrypted with a context, too, by which a call of OpenSSL may take a part."""
        self.connect(lambda context: None)
        for sender, receiver in self.ways():
            content = os.urandom(100 * KIB)
            self.assertEqual(decrypt(receiver, encrypt(sender, content)), (content, None))

    def test_in_parts(self) -> None:
        """A part of a record is kept until its rest arrives."""
        for sender, receiver in self.ways():
            content = os.urandom(100 * KIB)
            records = bytes(encrypt(sender, content))
            got = b""
            for start in range(0, len(records), 7001):
                part, error = decrypt(receiver, records[start : start + 7001])
                self.assertIsNone(error)
                got += part
            self.assertEqual(got, content)

    def test_from_a_socket(self) -> None:
        """What a socket holds is read and decrypted in any parts, until there is no more now, or ever."""
        for sender, receiver in self.ways():
            for length in (501, 7001, 256 * KIB):
                with self.subTest(sender=sender, receiver=receiver, length=length):
                    other, sock = socket.socketpair()
                    sock.setblocking(False)
                    with sock:
                        with other:
                            content, got = os.urandom(50 * KIB), b""
                            other.sendall(encrypt(sender, content))
                            with self.assertRaises(BlockingIOError):
                                while True:
                                    part, error = receive(receiver, sock, length)
                                    self.assertIsNone(error)
                                    got += part
                            self.assertTrue(got == content)
                        self.assertEqual(receive(receiver, sock, length), (b"", None))

    def test_forged_from_a_socket(self) -> None:
        """What comes before a forged record is read from a socket, too, and its error is pyOpenSSL's."""
        records = bytearray(encrypt(self.server, b"a" * 3 * RECORD))
        records[2 * RECORD] ^= 1
        other, sock = socket.socketpair()
        with other, sock:
            other.sendall(records)
            content, error = receive(self.client, sock, 256 * KIB)
        self.assertEqual(content, b"a" * RECORD)
        self.assertIn("bad record mac", str(error))

    def test_no_call_for_each_record(self) -> None:
        """pyOpenSSL's own read and write, which cost more than the encryption, are not used for each record."""
        called: list[str] = []
        self.patch(self.client, "recv", lambda *_: called.append("recv"))
        self.patch(self.server, "sendall", lambda *_: called.append("sendall"))
        content = os.urandom(128 * KIB)
        self.assertEqual(decrypt(self.client, encrypt(self.server, content)), (content, None))
        self.assertEqual(called, [])

    def test_window(self) -> None:
        """What is read into the window can be encrypted from there."""
        part = window(100 * KIB)
        self.assertEqual(len(part), 100 * KIB)
        part[:] = content = os.urandom(100 * KIB)
        self.assertEqual(decrypt(self.client, encrypt(self.server, part)), (content, None))

    def test_forged(self) -> None:
        """What comes before a forged record is read, and its error is pyOpenSSL's."""
        records = bytearray(encrypt(self.server, b"a" * 3 * RECORD))
        records[2 * RECORD] ^= 1
        content, error = decrypt(self.client, bytes(records))
        self.assertEqual(content, b"a" * RECORD)
        self.assertIsInstance(error, SSL.Error)
        self.assertIn("bad record mac", str(error))

    def test_end(self) -> None:
        """The end of what the other side sends is reported after its last content."""
        records = bytes(encrypt(self.server, b"last"))
        self.server.shutdown()
        content, error = decrypt(self.client, records + self.server.bio_read(RECORD))
        self.assertEqual(content, b"last")
        self.assertIsInstance(error, SSL.ZeroReturnError)

    def test_output(self) -> None:
        """OpenSSL has nothing to say after content, and what it has is given as it is."""
        for _, receiver in self.ways():
            self.assertEqual(take_output(receiver), b"")
        self.client.shutdown()
        output = take_output(self.client)
        self.assertTrue(output)
        self.assertIsInstance(decrypt(self.server, output)[1], SSL.ZeroReturnError)
