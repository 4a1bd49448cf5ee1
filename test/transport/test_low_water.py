"""A reader is woken when so much has come as it waits for, or when nothing more will."""

from __future__ import annotations

import select
import socket

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.transport.low_water import LowWaterMark


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection: an end to be read, and the other one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    return ours, other


class CountingSocket(socket.socket):
    """A socket that counts how often an option is set."""

    options_set = 0

    def setsockopt(self, *arguments: object) -> None:
        self.options_set += 1
        super().setsockopt(*arguments)  # type: ignore[call-overload] # nor here


class LowWaterMarkTests(SynchronousTestCase):
    """What wakes a reader."""

    def setUp(self) -> None:
        self.ours, self.other = tcp_pair()
        self.addCleanup(self.other.close)
        self.addCleanup(self.ours.close)

    def is_woken(self) -> bool:
        """Whether whoever waits for the socket to be readable is told that it is."""
        return bool(select.select([self.ours], [], [], 0.02)[0])

    def test_below(self) -> None:
        """Less than the mark wakes nobody; as much does, and a lower mark does it at once."""
        mark = LowWaterMark(self.ours)
        mark.set(100)
        self.other.send(bytes(99))
        self.assertFalse(self.is_woken())
        self.other.send(b"x")
        self.assertTrue(self.is_woken())
        mark.set(101)
        self.assertFalse(self.is_woken())
        mark.set(1)
        self.assertTrue(self.is_woken())

    def test_end(self) -> None:
        """The end of the connection wakes the reader below the mark."""
        LowWaterMark(self.ours).set(100)
        self.other.send(bytes(10))
        self.assertFalse(self.is_woken())
        self.other.shutdown(socket.SHUT_WR)
        self.assertTrue(self.is_woken())

    def test_small_buffer(self) -> None:
        """More than the receive buffer holds is not waited for."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        LowWaterMark(self.ours).set(1 << 20)
        self.assertLessEqual(self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), 4096)
        self.other.setblocking(False)
        self.other.send(bytes(1 << 18))
        self.assertTrue(self.is_woken())

    def test_growing_buffer(self) -> None:
        """No more than an eighth of the receive buffer is waited for, however large that is at the moment."""
        mark = LowWaterMark(self.ours)
        for asked in (1 << 14, 1 << 18):
            self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
            mark.set(1 << 20)
            buffer = self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertEqual(self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), buffer // 8)

    def test_once(self) -> None:
        """The kernel is told of changes alone."""
        sock = CountingSocket()
        self.addCleanup(sock.close)
        mark = LowWaterMark(sock)
        for length in (1, 5, 5, 5, 1, 1):
            mark.set(length)
        self.assertEqual(sock.options_set, 2)

    def test_closed(self) -> None:
        """A socket that has been closed is left alone."""
        self.ours.close()
        LowWaterMark(self.ours).set(100)
