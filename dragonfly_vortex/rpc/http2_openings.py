"""
Connections of h2 that have received in advance the bytes with which children begin.

A child's library begins each new connection with the same bytes: the preface of HTTP/2, its settings, and the headers
of a call of the same method. h2 takes longer for them than all the rest of a short call takes. A real child makes a
connection for each question, and takes the pieces of the parents that answer first. So the beginnings of calls that
were answered at once twice are kept, and some connections of h2 receive them before a child comes. A child that traces
its calls has another ID in the headers of each. The question about the host comes just before the one about the pieces,
and waits for it.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.rpc.http2_frames import FRAME_HEADER, HEADERS, PREFACE

__all__ = ["LATER", "MAX_HEADERS", "Beginning", "Opening", "Openings"]

MAX_HEADERS = 16 * 1024
"""Bytes of the headers of a call."""

LATER = 0.005
"""Seconds for which a question waits that is not urgent."""

_LONGEST = 1024
"""Bytes of the longest beginning that is kept."""

_STREAMS = 256
"""Calls on one connection. A client waits by itself where a connection has all of its calls."""

_MOST_KEPT = 8
"""Beginnings that are kept: of two methods and one authority there are three."""

_READY = 4
"""Connections that are ready for each beginning, at some 20 KB each."""

_PAUSE = 0.1
"""Seconds from the use of a connection until others are made: the child that is being answered comes first."""

_END_HEADERS = 4
"""The flag of the frame with which a call begins where it has all headers (RFC 9113, section 6.2)."""


class Opening(NamedTuple):
    """
    A connection that has received some bytes.

    :param h2: the connection. What it has to send is in its buffer, but for the server's own settings.
    :param events: what the bytes have caused.
    :param beginning: the bytes.
    """

    h2: H2Connection
    events: list[Event]
    beginning: bytes


class Openings:
    """
    The connections that a server has prepared in advance.

    :param clock: for the time at which others are made.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ready: dict[bytes, list[Opening]] = {b"": []}  # the beginning that was used last is the last one
        self._can_wait: set[bytes] = set()  # some of these
        self._seen_once: deque[bytes] = deque(maxlen=_MOST_KEPT)
        self._next: IDelayedCall | None = None
        self._is_stopped = False
        self.greeting = _connection().data_to_send()
        """What a server sends first, which is the same for all connections."""

    def stop(self) -> None:
        """Make no further connections in advance."""
        self._is_stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def new(self) -> H2Connection:
        """A connection that has received nothing, and whose greeting has to be sent."""
        opening = self.take(b"")
        return (opening or _open(b"")).h2

    def take(self, data: bytes, beyond: int = -1) -> Opening | None:
        """
        Take the connection that has received most of what a child's bytes begin with.

        :param beyond: it must have received more bytes than this.
        :returns: the connection; None where none is ready.
        """
        found = [each for each, ready in self._ready.items() if ready and data.startswith(each) and len(each) > beyond]
        if not found:
            return None
        beginning = max(found, key=len)
        ready = self._ready[beginning] = self._ready.pop(beginning)
        self._make_soon(_PAUSE)
        return ready.pop()

    def give_back(self, h2: H2Connection) -> None:
        """Keep a connection of :meth:`new` that was not used."""
        if len(self._ready[b""]) < _READY:
            self._ready[b""].append(Opening(h2, [], b""))

    def learn(self, data: bytes, *, can_wait: bool = False) -> None:
        """
        Keep how a connection begins, for the next child that begins like it. Only what comes a second time is kept.

        :param data: its first bytes.
        :param can_wait: whether the call with which it begins is not urgent.
        """
        for beginning in (found := _beginnings(data)):
            if beginning not in self._ready and beginning not in self._seen_once:
                self._seen_once.append(beginning)
            elif beginning not in self._ready:
                if len(self._ready) > _MOST_KEPT:
                    oldest = next(filter(None, self._ready))
                    del self._ready[oldest]
                    self._can_wait.discard(oldest)
                self._ready[beginning] = []
                self._make_soon(_PAUSE)
        if can_wait and found and found[-1] in self._ready:
            self._can_wait.add(found[-1])

    def can_wait(self, data: bytes) -> bool:
        """Whether a connection that begins so has a call that is not urgent."""
        return any(map(data.startswith, self._can_wait))

    def _make_soon(self, seconds: float) -> None:
        if self._next is None and not self._is_stopped:
            self._next = self._clock.callLater(seconds, self._make_one)

    def _make_one(self) -> None:
        """Make a connection; the next one is made in another turn of the reactor."""
        self._next = None
        for beginning, ready in self._ready.items():
            if len(ready) < _READY:
                ready.append(_open(beginning))
                self._make_soon(0)
                return


class Beginning:
    """
    The first bytes of one connection.

    :param openings: the connections of its server.
    """

    def __init__(self, openings: Openings) -> None:
        self.h2 = openings.new()
        """What goes on with it."""
        self.came = b""
        """The first bytes of the connection."""
        self._openings = openings
        self._opened = self._seen = 0  # bytes that h2 had received before, and their events
        self._has_waited = False

    def can_wait(self, data: bytes) -> bool:
        """Whether the connection's first data should wait for other questions of its child; once at most."""
        has_waited, self._has_waited = self._has_waited, True
        return not has_waited and self._openings.can_wait(data)

    def recognize(self, data: bytes) -> tuple[list[Event], bytes]:
        """
        Go on with a connection of h2 that has received the same bytes, where one is ready.

        :param data: the next bytes of the connection.
        :returns: what the bytes that it has received have caused, and the rest of the data.
        """
        before, came = self.came, self.came + data
        self.came = came[:_LONGEST]
        if len(before) > self._opened or (opening := self._openings.take(came, self._opened)) is None:
            return [], data
        if self._opened:
            opening.h2.clear_outbound_data_buffer()  # the same was sent for fewer bytes
        else:
            self._openings.give_back(self.h2)
        self.h2, self._opened = opening.h2, len(opening.beginning)
        events, self._seen = opening.events[self._seen :], len(opening.events)
        return events, came[self._opened :]


def _open(beginning: bytes) -> Opening:
    """A connection that has received a beginning."""
    h2 = _connection()
    h2.clear_outbound_data_buffer()
    return Opening(h2, h2.receive_data(beginning) if beginning else [], beginning)


def _connection() -> H2Connection:
    # The headers of replies are ours: h2 need not look at each of them.
    configuration = H2Configuration(
        client_side=False,
        header_encoding="utf-8",
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    h2 = H2Connection(configuration)
    h2.local_settings.update(
        {
            SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            SettingCodes.ENABLE_PUSH: 0,
        }
    )
    # The setting above holds from the child's acknowledgement on, which may never come.
    h2.decoder.max_header_list_size = MAX_HEADERS
    h2.initiate_connection()
    return h2


def _beginnings(data: bytes) -> list[bytes]:
    """What a connection begins with: up to the headers of its first call, and up to their end."""
    at = PREFACE
    while at + FRAME_HEADER <= len(data):
        end = at + FRAME_HEADER + int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] == HEADERS:
            return [data[:at], data[:end]] if end <= len(data) and data[at + 4] & _END_HEADERS else []
        at = end
    return []
