"""
A client of one parent over TCP: :class:`TCPClient` shares a few connections among many requests.

Between two peers of this package a connection serves one piece after the other. The reference's parent closes after
each piece: then the next one gets a new connection at once. The end of its connections shows which kind a parent is.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import cast

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.address import CONNECT_TIMEOUT
from dragonfly_vortex.deferreds import LOOK_INTERVAL, Ending
from dragonfly_vortex.errors import LocalProtocolError, ParentUnreachable, PieceTimeout, PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.transport.endpoints import connect_within
from dragonfly_vortex.transport.tls_errors import kind_of, why_tls_failed
from dragonfly_vortex.vortex.client_protocol import ClientSettings, VortexClientFactory, VortexClientProtocol
from dragonfly_vortex.wire import PieceRequest

__all__ = ["TCPClient", "why_unreachable"]

_SOON = 1.0
"""Seconds. A connection that ends so soon after its piece was closed because of it. One that stays longer is kept by
its parent, and ends one day because it was idle."""


class _Asked(Struct, kw_only=True, eq=False):
    """
    A request under way.

    :param timeout: seconds without progress after which it fails.
    :param since: when it was made.
    :param connection: the connection that the piece was asked for on last; None before it was asked for.
    :param is_late: whether it has been given up for that.
    :param has_place: whether it is one of those that may have a connection at once.
    """

    request: DownloadPieceRequest
    timeout: float
    since: float
    connection: VortexClientProtocol | None = None
    is_late: bool = False
    has_place: bool = False


@implementer(IClient)
class TCPClient:
    """
    Fetch pieces from one parent. Up to ``connections_per_address`` are under way at once, the others wait in order.

    :param address: the parent, ``HOST:PORT``.
    :param make_endpoint: makes the endpoint that connects to an address; a ``ValueError`` of its says what is
        wrong with the address.
    :param settings: what all connections have in common.
    :param connections_per_address: how many connections there may be.
    :param idle_timeout: seconds that an unused connection is kept.
    :param connect_timeout: seconds that connecting may take.
    """

    def __init__(
        self,
        address: str,
        make_endpoint: Callable[[str], IStreamClientEndpoint],
        settings: ClientSettings,
        *,
        connections_per_address: int = 32,
        idle_timeout: float = 420.0,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self.address = address
        self._make_endpoint = make_endpoint
        self._clock = settings.clock
        self._factory = VortexClientFactory(address, settings, self._connection_ended)
        self._idle_timeout = idle_timeout
        self._connect_timeout = connect_timeout
        self._places = connections_per_address  # that are free
        self._waiting: deque[Deferred[None]] = deque()  # each fires when there is a place for its request
        self._is_admitting = False
        self._open: dict[VortexClientProtocol, float | None] = {}  # when each has had its last piece, None: none yet
        self._kept: OrderedDict[VortexClientProtocol, float] = OrderedDict()  # since when idle; longest first
        self._under_way: dict[Deferred[DownloadPieceResponse], _Asked] = {}
        self._looking: IDelayedCall | None = None  # one for all requests and idle connections: there are many of them
        self._look_at = float("inf")
        self._parent_closes = False
        self._ending = Ending(lambda: not self._open)
        self._is_stopping = False

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._open)

    def download_piece(self, request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        """See :meth:`IClient.download_piece`. Fails with :class:`PoolClosed` after :meth:`stop`."""
        asked = _Asked(request=request, timeout=timeout, since=self._clock.seconds())
        result = self._begin(asked)
        self._under_way[result] = asked
        self._look_by(asked.since + min(timeout, LOOK_INTERVAL))
        return result.addBoth(self._ended, result, asked)

    def stop(self) -> Deferred[None]:
        """See :meth:`IClient.stop`."""
        self._is_stopping = True
        for result in list(self._under_way):
            result.cancel()
        for connection in list(self._kept):
            self._give_up(connection)
        return self._ending.wait()

    # -- one piece

    def _begin(self, asked: _Asked) -> Deferred[DownloadPieceResponse]:
        """Fetch a piece: over a kept connection at once, if there is one that is good for it."""
        kept = self._take_kept() if self._has_place() and not self._is_stopping else None
        if kept is not None:
            self._take_place(asked)
            return self._ask_kept(asked, kept)
        request = asked.request
        try:  # before a connection is made for what cannot be asked for
            PieceRequest(packet_id=0, kind=request.kind, task_id=request.task_id, number=request.number).to_bytes()
        except LocalProtocolError as error:
            return fail(error)
        return Deferred.fromCoroutine(self._download(asked))

    async def _download(self, asked: _Asked) -> DownloadPieceResponse:
        """Wait for a place, and fetch a piece over a kept connection, or else over a new one."""
        if not self._has_place():
            place: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(place)
            await place
        self._take_place(asked)
        kept = None if self._is_stopping else self._take_kept()
        return await (self._ask_new(asked) if kept is None else self._ask_kept(asked, kept))

    def _ask_kept(self, asked: _Asked, connection: VortexClientProtocol) -> Deferred[DownloadPieceResponse]:
        """Fetch a piece over a connection, which is kept for the next one."""
        asked.connection = connection
        try:
            result = connection.download_piece(asked.request)
        except LocalProtocolError:
            result = fail()
        return result.addCallbacks(
            self._kept_gave, self._kept_failed, callbackArgs=(connection,), errbackArgs=(asked, connection)
        )

    def _kept_gave(self, response: DownloadPieceResponse, connection: VortexClientProtocol) -> DownloadPieceResponse:
        self._keep(connection)
        return response

    def _kept_failed(
        self, failure: Failure, asked: _Asked, connection: VortexClientProtocol
    ) -> Failure | Deferred[DownloadPieceResponse]:
        self._keep(connection)
        if failure.check(ParentUnreachable) and not connection.answered:
            # It had ended before it was asked, which could not be seen: that is no fault of the parent.
            return Deferred.fromCoroutine(self._ask_new(asked))
        return failure

    async def _ask_new(self, asked: _Asked) -> DownloadPieceResponse:
        """Fetch a piece over a new connection, which is kept for the next one."""
        if self._is_stopping:
            raise self._closed()
        connection = asked.connection = await self._connect(asked.request)
        try:
            return await connection.download_piece(asked.request)
        finally:
            self._keep(connection)

    def _ended(
        self, outcome: DownloadPieceResponse | Failure, result: Deferred[DownloadPieceResponse], asked: _Asked
    ) -> DownloadPieceResponse | Failure:
        """Handle the end of a request, however it ended."""
        self._under_way.pop(result, None)
        if asked.has_place:
            self._places += 1
            self._admit()
        self._look_no_more()
        if self._is_stopping:
            return Failure(self._closed())
        return self._too_late(outcome, asked) if asked.is_late else outcome

    def _too_late(self, outcome: DownloadPieceResponse | Failure, asked: _Asked) -> Failure:
        """What a request fails with that was given up."""
        got = isinstance(outcome, Failure) and outcome.getErrorMessage()
        seconds = round(asked.timeout, 3)
        reason = f"expected bytes of the piece within {seconds:g} s, got {got or 'no free connection'}"
        name = piece_id(asked.request.task_id, asked.request.number)
        return Failure(PieceTimeout(self.address, name, reason))

    async def _connect(self, request: DownloadPieceRequest) -> VortexClientProtocol:
        while len(self._kept) > self._places:  # only those of a parent that seems to close them
            self._give_up(next(iter(self._kept)))
        try:
            endpoint = self._make_endpoint(self.address)
            connection = await connect_within(self._connect_timeout, self._clock, endpoint, self._factory)
        except CancelledError:
            raise
        except Exception as error:
            reason, name = why_unreachable(error, self._connect_timeout), piece_id(request.task_id, request.number)
            raise kind_of(error)(self.address, name, reason) from error
        protocol = cast(VortexClientProtocol, connection)  # an endpoint promises any protocol; the factory makes ours
        self._open[protocol] = None
        return protocol

    # -- places

    def _has_place(self) -> bool:
        """Whether there is a place for one more request. One that is free goes to those that wait first."""
        return self._places > 0 and not self._waiting

    def _take_place(self, asked: _Asked) -> None:
        """Count a request among those that may have a connection."""
        self._places -= 1
        asked.has_place = True

    def _admit(self) -> None:
        """Let the next requests go on. One that ends at once leaves its place to the loop: there may be hundreds."""
        if not self._is_admitting:
            self._is_admitting = True
            while self._places and self._waiting:
                self._waiting.popleft().callback(None)
            self._is_admitting = False

    # -- connections

    def _keep(self, connection: VortexClientProtocol) -> None:
        """Keep the connection of a piece that has ended for the next one, if it is usable."""
        if connection.usable:
            now = self._clock.seconds()
            self._open[connection] = self._kept[connection] = now
            self._look_by(now + self._idle_timeout)
        else:
            connection.close()

    def _take_kept(self) -> VortexClientProtocol | None:
        """
        The connection that was used last, because it will be closed last.

        Of a parent that closes after each piece, only one that has stayed open nevertheless: it shows that the parent
        has changed.
        """
        now = self._clock.seconds()
        for connection, since in reversed(self._kept.items()):
            if connection.usable and (not self._parent_closes or now - since >= _SOON):
                self._parent_closes = False
                del self._kept[connection]
                return connection
        return None

    def _give_up(self, connection: VortexClientProtocol) -> None:
        del self._kept[connection]
        connection.close()

    def _connection_ended(self, connection: VortexClientProtocol) -> None:
        last_piece_at = self._open.pop(connection, None)
        was_idle = self._kept.pop(connection, None) is not None or not connection.answered
        if last_piece_at is not None and was_idle and not connection.closed_here:
            self._parent_closes = self._clock.seconds() - last_piece_at < _SOON
        self._look_no_more()
        self._ending.look()

    # -- what time changes

    def _look_by(self, moment: float) -> None:
        """Look at the requests and the idle connections at a moment, if not before."""
        if moment >= self._look_at:
            return
        self._look_at = moment
        seconds = max(0.0, moment - self._clock.seconds())
        if self._looking is None:
            self._looking = self._clock.callLater(seconds, self._look)
        else:
            self._looking.reset(seconds)

    def _look_no_more(self) -> None:
        """Look no more, if there is nothing to look at."""
        if self._looking is not None and not self._under_way and not self._kept:
            self._looking.cancel()
            self._looking, self._look_at = None, float("inf")

    def _look(self) -> None:
        """Give up the requests without progress, and the connections that have been idle for long."""
        self._looking, self._look_at = None, float("inf")
        for result, asked in list(self._under_way.items()):
            if asked.connection is not None:
                asked.connection.look()
            if result not in self._under_way:
                continue
            left = self._progressed_at(asked) + asked.timeout - self._clock.seconds()
            if left > 0:
                self._look_by(self._clock.seconds() + min(left, LOOK_INTERVAL))
            else:
                asked.is_late = True
                result.cancel()
        while self._kept:
            connection, since = next(iter(self._kept.items()))
            if self._clock.seconds() < since + self._idle_timeout:
                self._look_by(since + self._idle_timeout)
                return
            self._give_up(connection)

    def _progressed_at(self, asked: _Asked) -> float:
        """
        When a request has got on last. While it waits for a connection, bytes on the others show that the parent is
        there.
        """
        connections = self._open if asked.connection is None else (asked.connection,)
        return max([asked.since, *(connection.progressed_at for connection in connections)])

    # -- the end

    def _closed(self) -> PoolClosed:
        return PoolClosed(f"the client of parent {self.address} has been stopped")


def why_unreachable(error: Exception, timeout: float) -> str:
    """
    Say in few words why a parent cannot be connected to.

    :param error: what connecting has failed with.
    :param timeout: seconds that it could take.
    """
    if isinstance(error, TimeoutError):
        return f"no connection within {timeout:g} s"
    known = why_tls_failed(error) or _WHY_UNREACHABLE.get(type(error))
    if known is None and isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError).lower()  # Twisted's text is a sentence around it
    return known or str(error)


_WHY_UNREACHABLE: dict[type[BaseException], str] = {
    ConnectionRefusedError: "connection refused",
    DNSLookupError: "the name cannot be resolved",
    ConnectionDone: "TLS: closed in the handshake",
    ConnectionLost: "TLS: lost in the handshake",
}
"""What a failure to connect is called in few words; others speak for themselves."""
