"""
How fast a connection is read: how many bytes at once, when it rests, and how many must have come before it is read on.
"""

from __future__ import annotations

import socket

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime

from dragonfly_vortex.transport.low_water import LowWaterMark
from dragonfly_vortex.transport.ratelimit import TokenBucket

__all__ = ["Pace"]

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
    :param sock: a plain socket, which is read when enough has come; None where the transport reads as it likes.
    :param clock: for the rests.
    :param limiter: what all content is spent from; None for no limit.
    :param low_water: bytes that must have come before the socket is read on in the middle of a piece.
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
        self._limiter = limiter
        self._mark = LowWaterMark(sock) if sock is not None else None
        self._low_water = self.at_once(low_water)
        self.turn = self.at_once(_TURN)
        """Bytes that may be taken in one turn of the reactor."""
        self.rest: IDelayedCall | None = None
        """Ends the connection's rest, in which nothing is to be read or taken; None where it does not rest."""
        self.rested = 0.0
        """Seconds of all rests together."""
        self.rests_until = float("-inf")
        """When the last rest ends, or has ended."""

    def at_once(self, length: int) -> int:
        """As many of so many bytes as may come at once."""
        return length if self._limiter is None else min(length, self._limiter.step)

    def spend(self, length: int) -> None:
        """
        Rest for as long as the limiter asks for; the kernel's window then slows the other side down.

        :param length: bytes that have come.
        """
        seconds = self._limiter.spend(length) if self._limiter is not None else 0.0
        if seconds > 0 and self.rest is None:
            self.rested += seconds
            self.rests_until = self._clock.seconds() + seconds
            self._transport.pauseProducing()
            self.rest = self._clock.callLater(seconds, self._resume)

    def wait_for(self, left: int, whole: int) -> None:
        """
        Have the connection read on when a good part of what is missing of a piece has come.

        :param left: bytes that are missing.
        :param whole: bytes of the piece; 0 before a piece, which any byte may begin.
        """
        if self._mark is not None:
            self._mark.set(max(1, min(left, self._low_water, whole // _WAKE_UPS)))

    def wait_for_any(self) -> None:
        """Have the connection read on with the next byte: it is seen then that something comes, however slowly."""
        if self._mark is not None:
            self._mark.set(1)

    def stop(self) -> None:
        """The connection ends: it is not to be read again."""
        rest, self.rest = self.rest, None
        if rest is not None:
            rest.cancel()

    def _resume(self) -> None:
        self.rest = None
        self._transport.resumeProducing()
