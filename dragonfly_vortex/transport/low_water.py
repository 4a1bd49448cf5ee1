"""
How much must have come on a socket before its reader is woken (``SO_RCVLOWAT``). At the pace of a network card it is
the wake-ups that cost, more than the copies do.
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["LowWaterMark"]

_PART = 8
"""
The part of the receive buffer that may be waited for. The kernel lets a buffer grow, and with it the sender's window,
by how much is taken from it in a round trip. Whoever waits for a good part of it hears late of what has come, and takes
little in that time: on a long way the buffer then stays as small as it was. (Measured: docs/tuning.md, "Sockets".)
"""


class LowWaterMark:
    """
    A socket's low-water mark. The end of the connection, or its failure, wakes the reader below it, too.

    It is never more than an eighth of the receive buffer, which grows as long as it is read in time. More than will
    come must never be waited for.

    :param sock: the socket, of a transport that reads it itself: under TLS, some of what is waited for may have been
        read already.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._length = 1

    def set(self, length: int) -> None:
        """
        Have the reader woken when so much has come.

        :param length: bytes, at least 1.
        """
        length = min(length, max(1, self._receive_buffer() // _PART))
        if length != self._length:
            self._length = length
            with contextlib.suppress(OSError):  # the platform has no such mark, or the connection has just ended
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)

    def _receive_buffer(self) -> int:
        """Bytes of the socket's receive buffer, as it is at this moment."""
        try:
            return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        except OSError:  # the connection has just ended
            return 0
