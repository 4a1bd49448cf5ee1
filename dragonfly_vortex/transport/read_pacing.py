"""
Controls how a connection is read: the bytes of one read, pauses under a rate limit, and the low-water mark that wakes
its reader. At the pace of a network card the wake-ups cost more than the copies do.
"""

from __future__ import annotations

import contextlib
import socket

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime

from dragonfly_vortex.transport.ratelimit import OUT_OF_REACH, TokenBucket

__all__ = ["LOW_WATER", "READ_SIZE", "LowWaterMark", "Pace"]

READ_SIZE = 256 * 1024
"""Bytes to read from a socket at a time. Twisted's default, a quarter of it, takes half as long again."""

LOW_WATER = 256 * 1024
"""Bytes that must have arrived before a connection is read again in the middle of a piece."""

_PART = 8
"""
The part of the receive buffer that may be waited for. The kernel lets a buffer grow, and with it the sender's window,
by how much is taken from it in a round trip. A reader that waits for a large part of it wakes late and takes little in
that time: on a link with a long round trip the buffer then stays small. (Measured: docs/tuning.md, "Sockets".)
"""


class LowWaterMark:
    """
    A socket's low-water mark (``SO_RCVLOWAT``). The end of the connection, or its failure, wakes the reader below it,
    too.

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
        Wake the reader when that many bytes have arrived.

        :param length: bytes, at least 1.
        """
        if length > 1:
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


_WAKE_UPS = 16
"""
How often a connection is read at least during a piece. A piece that comes in time is then never silent for longer than
this part of its time, however slow it is.
"""

_TURN = 2 * 1024 * 1024
"""
Bytes to take past the wire in one turn of the reactor, where others want theirs: a millisecond's worth. Half a megabyte
leaves a third of the content to be read in the ordinary way, which every turn begins with and which costs half as much
again.
"""


class Pace:
    """
    The pace of one connection. All that comes at once is within the limiter's step.

    :param transport: is paused while the connection rests.
    :param sock: a plain socket, which is read when enough bytes have arrived; None: the transport reads at once.
    :param clock: for the rests.
    :param limiter: what all content is spent from; None, or one out of reach, for no limit.
    :param low_water: bytes that must have arrived before the socket is read again in the middle of a piece.
    """

    def __init__(
        self,
        transport: IPushProducer,
        sock: socket.socket | None,
        clock: IReactorTime,
        *,
        limiter: TokenBucket | None = None,
        low_water: int = 1,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._limiter = limiter if limiter is not None and limiter.rate < OUT_OF_REACH else None
        self._mark = LowWaterMark(sock) if sock is not None else None
        self._low_water = self.at_once(low_water)
        self.is_limited = self._limiter is not None
        """Whether :meth:`spend` has anything to do."""
        self.waits_for_many = False
        """Whether the socket is read only when more than a byte has arrived."""
        self.turn = self.at_once(_TURN)
        """Bytes that may be taken in one turn of the reactor."""
        self.rest: IDelayedCall | None = None
        """Ends the connection's rest, in which nothing is to be read or taken; None where it does not rest."""
        self.rested = 0.0
        """Seconds of all rests together."""
        self.rests_until = float("-inf")
        """When the last rest ends, or has ended."""

    def at_once(self, length: int) -> int:
        """How many of these bytes may be read at once."""
        return length if self._limiter is None else min(length, self._limiter.step)

    def spend(self, length: int) -> None:
        """
        Rest for as long as the limiter asks for; the kernel's window then slows the other side down.

        :param length: bytes that have arrived.
        """
        if self._limiter is None:
            return
        seconds = self._limiter.spend(length)
        if seconds > 0 and self.rest is None:
            self.rested += seconds
            self.rests_until = self._clock.seconds() + seconds
            self._transport.pauseProducing()
            self.rest = self._clock.callLater(seconds, self._resume)

    def wait_for(self, left: int, whole: int) -> None:
        """
        Read the connection again when a large part of the missing bytes of a piece has arrived.

        :param left: bytes that are missing.
        :param whole: bytes of the piece; 0 before a piece, which any byte may begin.
        """
        if self._mark is not None:
            length = max(1, min(left, self._low_water, whole // _WAKE_UPS))
            self.waits_for_many = length > 1
            self._mark.set(length)

    def wait_for_any(self) -> None:
        """Have the connection read on with the next byte: it is seen then that something comes, however slowly."""
        if self._mark is not None:
            self.waits_for_many = False
            self._mark.set(1)

    def stop(self) -> None:
        """Stop reading, because the connection ends."""
        rest, self.rest = self.rest, None
        if rest is not None:
            rest.cancel()

    def _resume(self) -> None:
        self.rest = None
        self._transport.resumeProducing()
