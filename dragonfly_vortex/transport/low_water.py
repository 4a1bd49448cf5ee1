"""
How much must have come on a socket before its reader is woken (``SO_RCVLOWAT``). At the pace of a network card it is
the wake-ups that cost, more than the copies do.
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["LowWaterMark"]


class LowWaterMark:
    """
    A socket's low-water mark. The end of the connection, or its failure, wakes the reader below it, too.

    The kernel keeps it below half of what the receive buffer may hold, and wakes the reader of a buffer that is full.
    More than will come must never be waited for.

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
        if length != self._length:
            self._length = length
            with contextlib.suppress(OSError):  # the platform has no such mark, or the connection has just ended
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)
