"""
All connections from children: how many there may be, which of them is idle, and how they end together.

What one of them says stands in :mod:`dragonfly_vortex.vortex.server_protocol`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.interfaces import IPieceStore
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.readahead import ReadAhead
from dragonfly_vortex.vortex.server_protocol import VortexServerProtocol
from dragonfly_vortex.wire import PieceRequest

__all__ = ["VortexServerFactory"]


class VortexServerFactory(Factory):
    """
    All connections from children: how many there may be, which of them is idle, and how they end together.

    At ``max_connections`` the longest idle connection is closed to make room for a new one. When none is idle the
    listener stops accepting until one ends; where this factory was not told of a listener (:meth:`control`), the new
    connection is closed.

    :param store: where pieces come from.
    :param clock: for time-outs, and for the rests that the limiter asks for.
    :param limiter: what all content is spent from.
    :param idle_timeout: seconds that a connection stays open without a request, or a reply without progress.
    :param max_connections: how many connections there may be.
    :param cork: have the kernel send full segments only, until a reply is complete.
    :param read_ahead: who waits for the disk where a piece is not in memory; None: the reactor's thread does.
    :param tally: where pieces and bytes are counted; None: in one of its own.
    :param rechecks: hears of every piece that has been sent; None: what children ask for again is not checked.
    """

    noisy = False

    def __init__(
        self,
        store: IPieceStore,
        clock: IReactorTime,
        *,
        limiter: TokenBucket,
        idle_timeout: float = 300.0,
        max_connections: int = 1000,
        cork: bool = False,
        read_ahead: ReadAhead | None = None,
        tally: Tally | None = None,
        rechecks: Rechecks | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.limiter = limiter
        self.idle_timeout = idle_timeout
        self.max_connections = max_connections
        self.cork = cork
        self.read_ahead = read_ahead
        self.tally = tally or Tally()
        self.rechecks = rechecks
        self.limited_log = LimitedLog(VortexServerProtocol.log, clock)
        """Where all connections log: strangers make them."""
        self._connections: set[VortexServerProtocol] = set()
        self._idle: dict[VortexServerProtocol, None] = {}  # the longest idle first
        self._accepting = True
        self._accept: Callable[[bool], None] | None = None
        self._ending = Ending(lambda: not self._connections)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def buildProtocol(self, addr: IAddress | None) -> VortexServerProtocol | None:  # type: ignore[override] # zope's IProtocol, not _ProtoWithFactory
        if len(self._connections) >= self.max_connections and not self._make_room():
            self.limited_log.warn(
                "no room for {peer}: all {count} connections are busy", peer=addr, count=self.connections
            )
            return None
        return VortexServerProtocol(self)

    def control(self, accept: Callable[[bool], None]) -> None:
        """
        Let the factory start and stop a listener's accepting.

        :param accept: called with False when there is no room, and with True when there is again.
        """
        self._accept = accept

    def change_limits(self, *, idle_timeout: float, max_connections: int) -> None:
        """
        Go on with other limits; see the class. A wait that has begun takes its time, and connections that are too many
        stay until they end.
        """
        self.idle_timeout = idle_timeout
        self.max_connections = max_connections
        self._mind_the_door()

    def drain(self, timeout: float) -> Deferred[None]:
        """
        End all connections: the idle ones at once, the others after the reply under way.

        :param timeout: seconds after which what is left is aborted.
        :returns: fires when the last connection has ended.
        """
        drained = self._ending.wait()
        for connection in list(self._connections):
            connection.finish()
        late = self.clock.callLater(timeout, self._abort_all)

        def cancel_late(result: object) -> object:
            if late.active():
                late.cancel()
            self.limited_log.close()
            return result

        return drained.addBoth(cancel_late)

    def mark_damaged(self, request: PieceRequest, reason: str) -> None:
        """Never offer a piece again whose file did not hold it."""
        marking = self.store.mark_damaged(request.kind, request.task_id, request.number, reason)
        marking.addErrback(lambda failure: self.limited_log.failure("a damaged piece could not be marked", failure))

    # -- what the connections tell

    def connection_opened(self, connection: VortexServerProtocol) -> None:
        """A connection was made. It is not idle: its first request is on its way."""
        self._connections.add(connection)
        self._mind_the_door()
        if self._ending.is_awaited:
            connection.finish()

    def connection_busy(self, connection: VortexServerProtocol) -> None:
        """A connection is replying, or ending: it cannot be closed to make room."""
        self._idle.pop(connection, None)
        self._mind_the_door()

    def connection_idle(self, connection: VortexServerProtocol) -> None:
        """A connection waits for its next request."""
        self._idle[connection] = None
        self._mind_the_door()

    def connection_closed(self, connection: VortexServerProtocol) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        self._mind_the_door()
        self._ending.look()

    def _make_room(self) -> bool:
        """Close the longest idle connection; False when none is idle."""
        if not self._idle:
            return False
        next(iter(self._idle)).finish()
        return True

    def _mind_the_door(self) -> None:
        accepting = len(self._connections) < self.max_connections or bool(self._idle)
        if accepting is not self._accepting and self._accept is not None:
            self._accepting = accepting
            self._accept(accepting)

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()
