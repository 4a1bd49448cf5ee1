"""
The streaming methods of the gRPC servicer: the pieces of a task, and the host.

All streams share the event loop's thread. In each turn of the loop only a few of them say something, so that a thousand
of them do not keep another call waiting.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from operator import eq

import grpc

from dragonfly_vortex.rpc.host import HOST_INTERVAL
from dragonfly_vortex.rpc.server_call import is_tonic
from dragonfly_vortex.rpc.task_watch import Arrival, TaskWatch

__all__ = ["HOST_INTERVAL", "Interest", "LoopTurns", "tell_host", "tell_pieces", "time_for"]

_BEFORE_DEADLINE = 0.5
"""Seconds before a caller's deadline at which a stream ends: the caller's library would end it with an error."""

_LATER_THAN_MEANT = 0.04
"""
The part of a caller's timeout by which the deadline that arrives can be later than the caller's own. grpcio rounds a
timeout up by less than 1 %, and sends an earlier call's of the same connection again where that is less than 3 % more
(``src/core/ext/transport/chttp2/transport/hpack_encoder.cc`` and ``src/core/lib/transport/timeout_encoding.cc``).
"""

_MOST_IN_A_TURN = 10
"""Streams that say something in one turn of the loop."""

_PAUSE = 0.001
"""Seconds between two such turns while more streams wait."""

_QUIET = 0.002
"""Seconds since the last call came in, before which the streams that wait let other calls come in first."""

_LONGEST_PAUSE = 0.005
"""Seconds after which they go on anyway."""

_MOST_ARRIVALS = 1000
"""Pieces that are looked up, or told, for one stream in one turn of the loop."""

Context = grpc.aio.ServicerContext[bytes, bytes]
"""A call, whose messages are bytes."""


class LoopTurns:
    """
    Lets a few of many coroutines go on in each turn of the event loop; the others wait in order. While some wait, there
    is a pause between two turns, in which grpcio takes in calls; and while calls come in, they come first.

    :param most: how many go on in a turn.
    """

    def __init__(self, most: int = _MOST_IN_A_TURN) -> None:
        self._most = most
        self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False
        self._last_turn = self._last_call = 0.0

    def call_begins(self) -> None:
        """Count a call that has begun."""
        self._last_call = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Wait for a turn in which this coroutine may go on; it may be this one."""
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._next)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        """Begin a turn, or put it off while calls arrive."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting and now - self._last_call < _QUIET and now - self._last_turn < _LONGEST_PAUSE:
            loop.call_later(_PAUSE, self._next)
            return
        self._last_turn = now
        self._left = self._most
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # else its coroutine has been cancelled
                turn.set_result(None)
                self._left -= 1
        if self._waiting:
            loop.call_later(_PAUSE, self._next)
        elif self._left < self._most:
            loop.call_soon(self._next)
        else:
            self._is_counting = False


class Interest:
    """
    The pieces that a stream is asked for, in 8 bytes for each; without a table where they follow one another, as those
    of a whole task do.

    :param numbers: as they are asked for, in that order; one may be there more than once.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        first = numbers[0] if numbers else 0
        span = range(first, first + len(numbers))
        self._span = span if all(map(eq, span, numbers)) else None
        order = sorted(range(len(numbers)), key=numbers.__getitem__) if self._span is None else ()
        self._places = array("I", order)
        self._numbers = array("I", map(numbers.__getitem__, order))
        self.left = len(numbers)
        """How many have not been found yet."""

    def find(self, arrivals: Sequence[Arrival], first: int = 0) -> array[int]:
        """
        Look up pieces that have arrived. Each is looked up once.

        :param first: how many pieces came before these.
        :returns: a number for each time that one of the pieces is asked for, of 8 bytes. Sorted, they are in the order
            in which the pieces are asked for. The lower 32 bits say how many pieces had arrived before that piece.
        """
        found = array("Q")
        for at, arrival in enumerate(arrivals, first):
            if self._span is not None:
                if arrival.number in self._span:
                    found.append(arrival.number - self._span.start << 32 | at)
                continue
            begin, end = bisect_left(self._numbers, arrival.number), bisect_right(self._numbers, arrival.number)
            found.extend(place << 32 | at for place in self._places[begin:end])
        self.left -= len(found)
        return found


async def tell_pieces(
    watch: TaskWatch, interest: Interest, context: Context, turns: LoopTurns, closing: asyncio.Event
) -> None:
    """
    Say which of the pieces that a stream is asked for are there, and which come, until there is nothing more to say. As
    the reference does, those that are there are sent in the order in which they are requested, twice where they are
    requested twice (``dragonfly-client/src/grpc/dfdaemon_upload.rs``, ``sync_pieces``).

    :param closing: ends the stream.
    :raises Exception: the task cannot be looked at.
    """
    end = end_of(context)
    seen = 0
    while not closing.is_set():
        await turns.wait()
        changed, complete, is_looked_at = watch.changed, watch.complete, watch.looked
        found = array("Q")  # a stream that is not read keeps this
        upto = len(watch.arrived)
        while seen < upto:
            arrivals = watch.arrived[seen : min(seen + _MOST_ARRIVALS, upto)]
            found += interest.find(arrivals, seen)
            seen += len(arrivals)
            if seen < upto:
                await turns.wait()
        for count, each in enumerate(array("Q", sorted(found)), 1):
            await context.write(watch.arrived[each & 0xFFFF_FFFF].message)
            if closing.is_set():
                return
            if not count % _MOST_ARRIVALS:
                await turns.wait()
        if watch.failure is not None:
            raise watch.failure
        if complete or (is_looked_at and not interest.left):
            return
        # However short the time is, what is there is sent.
        if not await _happens(changed, end if is_looked_at else None):
            return


async def tell_host(message: Callable[[], bytes], context: Context, turns: LoopTurns, closing: asyncio.Event) -> None:
    """
    Send the host, once a second.

    :param message: gives what is said.
    :param closing: ends the stream.
    """
    end = end_of(context)
    loop = asyncio.get_running_loop()
    while not closing.is_set():
        await turns.wait()
        await context.write(message())
        next_one = loop.time() + HOST_INTERVAL
        if await _happens(closing, next_one if end is None else min(end, next_one)):
            return
        if end is not None and loop.time() >= end:
            return


def time_for(remaining: float) -> float:
    """
    How long a stream may last so that its caller sees it end well.

    :param remaining: seconds until the deadline, as it arrived here.
    :returns: seconds; negative where there is no time.
    """
    return remaining * (1 - _LATER_THAN_MEANT) - _BEFORE_DEADLINE


def end_of(context: Context) -> float | None:
    """
    Return when a stream must end so that its caller sees it end well, on the loop's clock; None for never.

    A real child's deadline ends nothing. It sends one of ten seconds, which its library, tonic, applies to the headers
    only; and it leaves a parent whose stream ends while pieces are still to come.
    """
    remaining: float | None = context.time_remaining()
    if remaining is None or is_tonic(context.invocation_metadata() or ()):
        return None
    return asyncio.get_running_loop().time() + time_for(remaining)


async def _happens(event: asyncio.Event, end: float | None) -> bool:
    """Wait for an event; False when it has not happened in time."""
    timeout = None if end is None else max(0.0, end - asyncio.get_running_loop().time())
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except asyncio.TimeoutError:
        return False
    return True
