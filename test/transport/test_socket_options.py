"""Tests of socket options, on both ends of real connections."""

from __future__ import annotations

import socket
import struct

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.socket_options import (
    SocketOptions,
    apply_connection_options,
    apply_listening_options,
    plain_socket,
    set_cork,
)

TCP = socket.IPPROTO_TCP
CAPPED = 1 << 30  # bytes of a buffer that no kernel gives
TOO_MUCH = 1 << 40  # more than C's int holds


class Pair:
    """Both ends of a connection, made with the options."""

    def __init__(self, options: SocketOptions, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.listening = socket.socket(family)
        self.child = socket.socket(family)
        self.listening_warnings = apply_listening_options(self.listening, options)
        self.listening.bind(("127.0.0.1" if family is socket.AF_INET else "::1", 0))
        self.listening.listen()
        self.connection_warnings = apply_connection_options(self.child, options)
        for sock in (self.listening, self.child):
            sock.settimeout(120)
        self.child.connect(self.listening.getsockname())
        if options.fastopen:  # the handshake may wait for the first bytes
            self.child.sendall(b"first")
        self.parent, _ = self.listening.accept()
        self.parent.settimeout(120)

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        """The accepted socket and the one that connected."""
        return self.parent, self.child

    def close(self) -> None:
        """End the connection."""
        for sock in (self.parent, self.child, self.listening):
            sock.close()


class OptionTests(SynchronousTestCase):
    """What was asked for is what the kernel says afterwards."""

    def pair(self, options: SocketOptions, family: socket.AddressFamily = socket.AF_INET) -> Pair:
        """A connection that is closed when the test ends."""
        pair = Pair(options, family)
        self.addCleanup(pair.close)
        return pair

    def test_every_option(self) -> None:
        """Both ends of a connection have every option, over IPv4 and IPv6, whatever the values."""
        values = [
            SocketOptions(congestion_control="reno", buffer_size=100_000),
            SocketOptions(
                nodelay=False,
                keepalive_idle=7.0,
                keepalive_interval=11.0,
                keepalive_probes=13,
                congestion_control="reno",
                buffer_size=300_000,
            ),
        ]
        for options in values:
            for family in (socket.AF_INET, socket.AF_INET6):
                pair = self.pair(options, family)
                self.assertEqual(pair.listening_warnings + pair.connection_warnings, [])
                for sock in pair.ends:
                    self.assertEqual(bool(sock.getsockopt(TCP, socket.TCP_NODELAY)), options.nodelay)
                    self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
                    self.assertEqual(sock.getsockopt(TCP, socket.TCP_KEEPIDLE), options.keepalive_idle)
                    self.assertEqual(sock.getsockopt(TCP, socket.TCP_KEEPINTVL), options.keepalive_interval)
                    self.assertEqual(sock.getsockopt(TCP, socket.TCP_KEEPCNT), options.keepalive_probes)
                    self.assertEqual(sock.getsockopt(TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0"), b"reno")
                    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, buffer), 2 * (options.buffer_size or 0))

    def test_left_to_the_kernel(self) -> None:
        """Buffers and congestion control that are not asked for are the system's."""
        plain = socket.socket()
        self.addCleanup(plain.close)
        asked = socket.socket()
        self.addCleanup(asked.close)
        self.assertEqual(apply_connection_options(asked, SocketOptions()), [])
        for level, option in (
            (socket.SOL_SOCKET, socket.SO_SNDBUF),
            (socket.SOL_SOCKET, socket.SO_RCVBUF),
            (TCP, socket.TCP_CONGESTION),
        ):
            self.assertEqual(asked.getsockopt(level, option, 16), plain.getsockopt(level, option, 16))

    def test_capped_buffers(self) -> None:
        """A buffer that the kernel caps is a warning with the size that it has."""
        pair = self.pair(SocketOptions(buffer_size=CAPPED))
        for sock, warnings in ((pair.listening, pair.listening_warnings), (pair.child, pair.connection_warnings)):
            sizes = [sock.getsockopt(socket.SOL_SOCKET, option) // 2 for option in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
            self.assertEqual(
                warnings,
                [
                    f"socket option buffer_size ({which}): asked for {CAPPED} bytes, capped to {size} by the kernel"
                    for which, size in zip(("send", "receive"), sizes, strict=True)
                ],
            )

    def test_unknown_congestion_control(self) -> None:
        """An algorithm that the kernel does not have is a warning with the one that stays, and the pair connects."""
        pair = self.pair(SocketOptions(congestion_control="no-such-thing"))
        stays = pair.child.getsockopt(TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        expected = (
            "socket option congestion_control: asked for no-such-thing, refused (No such file or directory); "
            f"it stays {stays}"
        )
        self.assertEqual(pair.listening_warnings, [expected])
        self.assertEqual(pair.connection_warnings, [expected])

    def test_refused_values(self) -> None:
        """Values that the kernel refuses, or that no integer of its holds, are warnings with what stays."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        probes = sock.getsockopt(TCP, socket.TCP_KEEPCNT)
        options = SocketOptions(keepalive_probes=1000, keepalive_idle=1e12, buffer_size=TOO_MUCH)
        warnings = apply_connection_options(sock, options)
        self.assertEqual(len(warnings), 4, warnings)
        self.assertIn(
            f"socket option keepalive.probes: asked for 1000, refused (Invalid argument); it stays {probes}", warnings
        )
        self.assertTrue(warnings[0].startswith("socket option keepalive.idle: asked for 1000000000000, refused ("))
        self.assertTrue(warnings[2].startswith(f"socket option buffer_size (send): asked for {TOO_MUCH} bytes, capped"))

    def test_part_of_a_second(self) -> None:
        """The kernel's whole seconds are never none."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        self.assertEqual(apply_connection_options(sock, SocketOptions(keepalive_idle=0.2, keepalive_interval=2.6)), [])
        self.assertEqual(sock.getsockopt(TCP, socket.TCP_KEEPIDLE), 1)
        self.assertEqual(sock.getsockopt(TCP, socket.TCP_KEEPINTVL), 3)

    def test_fastopen(self) -> None:
        """With fast open on both ends a connection is made, again and again, and carries bytes both ways."""
        for _ in range(3):
            pair = self.pair(SocketOptions(fastopen=True))
            self.assertEqual(pair.listening_warnings + pair.connection_warnings, [])
            self.assertGreater(pair.listening.getsockopt(TCP, socket.TCP_FASTOPEN), 0)
            self.assertEqual(pair.child.getsockopt(TCP, getattr(socket, "TCP_FASTOPEN_CONNECT", 30)), 1)
            self.assertEqual(pair.parent.recv(100), b"first")
            pair.parent.sendall(b"answer")
            self.assertEqual(pair.child.recv(100), b"answer")

    def test_no_fastopen(self) -> None:
        """Fast open is off unless asked for."""
        pair = self.pair(SocketOptions())
        self.assertEqual(pair.listening.getsockopt(TCP, socket.TCP_FASTOPEN), 0)
        self.assertEqual(pair.child.getsockopt(TCP, getattr(socket, "TCP_FASTOPEN_CONNECT", 30)), 0)

    def test_refused_fastopen(self) -> None:
        """A socket that has no fast open is a warning."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        warnings = apply_listening_options(one, SocketOptions(fastopen=True))
        self.assertTrue(warnings[-1].startswith("socket option fastopen: asked for 1024, refused"), warnings)
        self.assertTrue(warnings[-1].endswith("this platform does not know it"), warnings)

    def test_cork(self) -> None:
        """A corked socket holds back a segment that is not full until the cork is out."""
        pair = self.pair(SocketOptions())
        set_cork(pair.parent, True)
        self.assertEqual(pair.parent.getsockopt(TCP, socket.TCP_CORK), 1)
        pair.parent.sendall(b"held")
        pair.child.setblocking(False)
        self.assertRaises(BlockingIOError, pair.child.recv, 100)
        set_cork(pair.parent, False)
        pair.child.settimeout(120)
        self.assertEqual(pair.child.recv(100), b"held")

    def test_cork_of_a_closed_socket(self) -> None:
        """A connection that has ended does not mind its cork."""
        pair = self.pair(SocketOptions())
        pair.parent.close()
        set_cork(pair.parent, True)
        self.assertEqual(pair.parent.fileno(), -1)

    def test_socket_of_other_type(self) -> None:
        """Options that a socket does not have are warnings, one for each."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        names = [warning.split(":")[0] for warning in apply_connection_options(one, SocketOptions())]
        self.assertEqual(
            names,
            [
                "socket option nodelay",
                "socket option keepalive.idle",
                "socket option keepalive.interval",
                "socket option keepalive.probes",
            ],
        )


class PlainSocketTests(SynchronousTestCase):
    """Whose socket may be read and written past its transport."""

    def test_none(self) -> None:
        """A transport without a handle, or whose handle is not a socket, has none."""
        self.assertIsNone(plain_socket(StringTransport()))
        self.assertIsNone(plain_socket(HandleTransport(object())))

    def test_socket(self) -> None:
        """A transport whose handle is a socket has that."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        self.assertIs(plain_socket(HandleTransport(sock)), sock)


class HandleTransport:
    """A transport with a handle: a connection of OpenSSL's under TLS, a socket else."""

    def __init__(self, handle: object) -> None:
        self._handle = handle

    def getHandle(self) -> object:
        """Its handle."""
        return self._handle
