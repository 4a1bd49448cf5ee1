"""
A client of one parent over TCP: :class:`TCPClient` shares a few connections among many requests.

Between two peers of this package a connection serves one piece after the other. The reference's parent closes after
each piece: then the next one gets a new connection at once. The end of its connections shows which kind a parent is.
"""

from __future__ import annotations

import os
from collections import OrderedDict
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
from dragonfly_vortex.deferreds import Ending, FlatSemaphore, add_deadline
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


class _Kept(Struct, kw_only=True):
    """
    An idle connection.

    :param since: when its last piece was complete.
    :param giving_up: will close it.
    """

    since: float
    giving_up: IDelayedCall


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
        self._places = FlatSemaphore(connections_per_address)
        self._open: dict[VortexClientProtocol, float | None] = {}  # when each has had its last piece, None: none yet
        self._kept: OrderedDict[VortexClientProtocol, _Kept] = OrderedDict()  # the longest idle first
        self._under_way: set[Deferred[DownloadPieceResponse]] = set()
        self._parent_closes = False
        self._ending = Ending(lambda: not self._open)
        self._is_stopping = False

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._open)

    def download_piece(self, request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        """See :meth:`IClient.download_piece`. Fails with :class:`PoolClosed` after :meth:`stop`."""
        try:  # before a connection is made for what cannot be asked for
            PieceRequest(packet_id=0, kind=request.kind, task_id=request.task_id, number=request.number).to_bytes()
        except LocalProtocolError as error:
            return fail(error)

        started = self._clock.seconds()
        used: list[VortexClientProtocol] = []  # the connections that the piece was asked for on

        def since() -> float:
            # While a request waits for a connection, bytes on the others show that the parent is there.
            return max([started, *(connection.progressed_at for connection in used[-1:] or self._open)])

        def look() -> None:
            for connection in used[-1:]:
                connection.look()

        def too_late(outcome: DownloadPieceResponse | Failure) -> Failure:
            got = isinstance(outcome, Failure) and outcome.getErrorMessage()
            reason = f"expected bytes of the piece within {round(timeout, 3):g} s, got {got or 'no free connection'}"
            return Failure(PieceTimeout(self.address, piece_id(request.task_id, request.number), reason))

        def ended(outcome: DownloadPieceResponse | Failure) -> DownloadPieceResponse | Failure:
            self._under_way.discard(result)
            return Failure(self._closed()) if self._is_stopping else outcome

        result = Deferred.fromCoroutine(self._download(request, used))
        self._under_way.add(result)
        add_deadline(result, self._clock, timeout, since=since, too_late=too_late, look=look)
        return result.addBoth(ended)

    def stop(self) -> Deferred[None]:
        """See :meth:`IClient.stop`."""
        self._is_stopping = True
        for result in list(self._under_way):
            result.cancel()
        for connection in list(self._kept):
            self._give_up(connection)
        return self._ending.wait()

    # -- one piece

    async def _download(self, request: DownloadPieceRequest, used: list[VortexClientProtocol]) -> DownloadPieceResponse:
        """
        Wait for a place, and fetch a piece over a kept connection, or else over a new one.

        :param used: takes the connections.
        """
        await self._places.acquire()
        try:
            if self._is_stopping:
                raise self._closed()
            kept = self._take_kept()
            if kept is not None:
                used.append(kept)
                try:
                    return await self._ask(kept, request)
                except ParentUnreachable:
                    if kept.answered:
                        raise
                    # It had ended before it was asked, which could not be seen: that is no fault of the parent.
            used.append(await self._connect(request))
            return await self._ask(used[-1], request)
        finally:
            self._places.release()

    async def _ask(self, connection: VortexClientProtocol, request: DownloadPieceRequest) -> DownloadPieceResponse:
        try:
            return await connection.download_piece(request)
        finally:
            self._keep(connection)

    async def _connect(self, request: DownloadPieceRequest) -> VortexClientProtocol:
        while len(self._kept) > self._places.tokens:  # only those of a parent that seems to close them
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

    # -- connections

    def _keep(self, connection: VortexClientProtocol) -> None:
        """A piece has ended: keep its connection for the next, if it is good for one."""
        if connection.usable:
            now = self._clock.seconds()
            giving_up = self._clock.callLater(self._idle_timeout, self._give_up, connection)
            self._open[connection] = now
            self._kept[connection] = _Kept(since=now, giving_up=giving_up)
        else:
            connection.close()

    def _take_kept(self) -> VortexClientProtocol | None:
        """
        The connection that was used last, because it will be closed last.

        Of a parent that closes after each piece, only one that has stayed open nevertheless: it shows that the parent
        has changed.
        """
        now = self._clock.seconds()
        for connection, kept in reversed(self._kept.items()):
            if connection.usable and (not self._parent_closes or now - kept.since >= _SOON):
                self._parent_closes = False
                self._forget(connection)
                return connection
        return None

    def _give_up(self, connection: VortexClientProtocol) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: VortexClientProtocol) -> bool:
        """Forget a kept connection; returns whether it was kept."""
        kept = self._kept.pop(connection, None)
        if kept is not None and kept.giving_up.active():
            kept.giving_up.cancel()
        return kept is not None

    def _connection_ended(self, connection: VortexClientProtocol) -> None:
        last_piece_at = self._open.pop(connection, None)
        was_idle = self._forget(connection) or not connection.answered
        if last_piece_at is not None and was_idle and not connection.closed_here:
            self._parent_closes = self._clock.seconds() - last_piece_at < _SOON
        self._ending.look()

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
