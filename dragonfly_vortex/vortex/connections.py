"""
The settings and the registry of connections from children. The registry limits their number, closes idle ones for new
ones, and ends all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from msgspec import Struct, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.logger import Logger

from dragonfly_vortex.address import most_of_share
from dragonfly_vortex.deferreds import Ending, call_if_late
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import ReadAhead

__all__ = ["ConnectionRegistry", "ServedConnection", "ServerSettings"]


class ServerSettings(Struct, frozen=True, kw_only=True):
    """
    The settings of all connections from children.

    :param clock: for time-outs, and for the rests that the limiter asks for.
    :param limiter: what all content is spent from.
    :param configure_socket: sets socket options on a transport that has just connected.
    :param cork: have the kernel send full segments only, until a reply is complete.
    :param read_ahead: waits for the disk where a piece is not in memory; None: the reactor's thread does.
    :param tally: where pieces and bytes are counted.
    :param rechecks: is called for each piece that has been sent; None: pieces that children request again are not
        checked.
    """

    clock: IReactorTime
    limiter: UploadLimiter
    configure_socket: Callable[[ITCPTransport], None] = lambda transport: None
    cork: bool = False
    read_ahead: ReadAhead | None = None
    tally: Tally = field(default_factory=Tally)
    rechecks: Rechecks | None = None


class ServedConnection(Protocol):
    """
    The interface of a connection for the registry.

    :ivar is_idle: whether it waits for its next request, so that it may be closed to make room.
    :ivar share: to which of the shares it counts, see :func:`~dragonfly_vortex.address.share_of`.
    """

    is_idle: bool
    share: str

    def finish(self) -> None:
        """End: at once when idle, after the reply under way otherwise."""

    def abort(self) -> None:
        """End now, whatever is under way."""


class _Share(Struct):
    """The connections of an address, of IPv6 a network of 64 bits."""

    count: int = 0
    idle: dict[ServedConnection, None] = field(default_factory=dict)
    """The longest idle first."""


class ConnectionRegistry:
    """
    All connections from children.

    At ``max_connections`` the longest idle connection is closed to make room for a new one. When none is idle, a
    listener asks :meth:`has_room` before it accepts, and waits; a factory without such a listener closes the new
    connection.

    An address has a share of the connections: at most half of what the others leave, this machine excepted. At that
    number its own longest idle connection is closed for a new one. When none is idle, the listener keeps the new one
    waiting; a factory without such a listener takes it while there is room. Where it has no room, the address with most
    connections loses its newest one to an address that has at least two fewer.

    :param clock: for time-outs.
    :param max_connections: how many connections there may be.
    :param idle_timeout: seconds that a connection stays open without a request, or a reply without progress.
    :param tally: where connections are counted; None: in one of its own.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        max_connections: int = 1000,
        idle_timeout: float = 300.0,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout
        self.limited_log = LimitedLog(self.log, clock)
        """Where all connections log: strangers make them."""
        self._clock = clock
        self._all: dict[ServedConnection, None] = {}  # the oldest first
        self._idle: dict[ServedConnection, None] = {}  # the longest idle first
        self._shares: dict[str, _Share] = {}
        self._room_made: Callable[[], None] | None = None
        self._is_room_awaited = False
        self._ending = Ending(lambda: not self._all)

    def __len__(self) -> int:
        return len(self._all)

    def change_limits(self, *, max_connections: int, idle_timeout: float) -> None:
        """
        Set other limits; see the class. A wait that has begun takes its time, and connections that are too many stay
        until they end.
        """
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout
        self._tell_of_room()

    def drain(self, timeout: float) -> Deferred[None]:
        """
        End all connections: the idle ones at once, the others after the reply under way.

        :param timeout: seconds after which what is left is aborted.
        :returns: fires when the last connection has ended.
        """
        for connection in list(self._all):
            connection.finish()
        drained = call_if_late(self._ending.wait(), self._clock, timeout, self._abort_all)
        drained.addCallback(lambda _: self.limited_log.close())
        return self._ending.wait()  # another one: where this is cancelled, connections are aborted in time nevertheless

    # -- what listeners ask

    def call_when_room(self, room_made: Callable[[], None]) -> None:
        """
        Set the listener that is called when there is room.

        :param room_made: called once after each :meth:`has_room` that returned False, when there may be room.
        """
        self._room_made = room_made

    def has_room(self, share: str = "") -> bool:
        """
        Return whether a new connection can be made, at the expense of an idle one perhaps.

        :param share: to which it will count; empty for none.
        """
        if self._is_at_share(share):
            has_room = bool(self._shares[share].idle)
        else:
            has_room = len(self._all) < self.max_connections or bool(self._idle)
        self._is_room_awaited = self._is_room_awaited or not has_room
        return has_room

    def make_room(self, share: str = "") -> bool:
        """
        Close the longest idle connection, where there are as many as there may be, or as many of a share; where none is
        idle, abort one of the largest share.

        :param share: to which the new connection will count; empty for none.
        :returns: whether a new connection may be made.
        """
        idle = self._shares[share].idle if self._is_at_share(share) else {}
        if not idle and len(self._all) >= self.max_connections:
            if not self._idle:
                return self._abort_one_for(share)
            idle = self._idle
        if idle:
            next(iter(idle)).finish()
        return True

    def _abort_one_for(self, share: str) -> bool:
        """Abort the newest connection of the largest share, where that has at least two more; whether there was one."""
        most, largest = max(((each.count, name) for name, each in self._shares.items() if name), default=(0, ""))
        own = self._shares[share].count if share in self._shares else 0
        if most < own + 2:
            return False
        newest = next(each for each in reversed(self._all) if each.share == largest)
        newest.abort()
        self.closed(newest)  # it is lost later; more may come in this turn
        return True

    def _is_at_share(self, share: str) -> bool:
        """Whether a share has as many connections as it may have."""
        if not share or share not in self._shares:
            return False
        own = self._shares[share].count
        return own >= most_of_share(self.max_connections, len(self._all) - own)

    # -- what the connections tell

    def opened(self, connection: ServedConnection) -> None:
        """Add a new connection. It is not idle: its first request is on its way."""
        self._all[connection] = None
        self._shares.setdefault(connection.share, _Share()).count += 1
        self._tally.connections_changed(more=1)
        if self._ending.is_awaited:
            connection.finish()

    def became_idle(self, connection: ServedConnection) -> None:
        """Record that a connection waits for its next request, perhaps again after replies that took no time."""
        if not connection.is_idle:
            connection.is_idle = True
            self._tally.connections_changed(more_idle=1)
        for idle in (self._idle, self._shares[connection.share].idle):
            idle.pop(connection, None)
            idle[connection] = None
        if self._is_room_awaited:
            self._tell_of_room()

    def became_busy(self, connection: ServedConnection) -> None:
        """Record that a connection does something."""
        if connection.is_idle:
            connection.is_idle = False
            self._tally.connections_changed(more_idle=-1)
            del self._idle[connection]
            del self._shares[connection.share].idle[connection]

    def closed(self, connection: ServedConnection) -> None:
        """Remove a connection that has ended; one that has made room is not there any more."""
        if connection not in self._all:
            return
        self.became_busy(connection)
        del self._all[connection]
        share = self._shares[connection.share]
        share.count -= 1
        if not share.count:
            del self._shares[connection.share]
        self._tally.connections_changed(more=-1)
        self._tell_of_room()
        self._ending.look()

    def _tell_of_room(self) -> None:
        if self._is_room_awaited and self._room_made is not None:
            self._is_room_awaited = False
            self._room_made()

    def _abort_all(self) -> None:
        for connection in list(self._all):
            connection.abort()
