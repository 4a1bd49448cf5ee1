"""Accepted connections that wait for the shares of their addresses."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.address import most_of_share
from dragonfly_vortex.system_calls import is_refused
from dragonfly_vortex.transport.socket_options import BACKLOG
from dragonfly_vortex.vortex.connections import ConnectionRegistry

__all__ = ["WaitingConnections"]

_Accepted = tuple[socket.socket, tuple[str, int]]
"""A connection without a protocol, and the child's address."""


class WaitingConnections:
    """
    Accepted connections that wait, because their addresses have their shares of the connections. Nothing is read from
    them. The addresses take turns, and the connections of one keep their order.

    They are at most :data:`~dragonfly_vortex.transport.socket_options.BACKLOG`, and one address has at most half of
    what the others leave. They leave a quarter of the descriptors that the process may have to the rest of the peer.

    :param clock: for the time that a connection waits at most, the registry's ``idle_timeout``.
    :param registry: says whether there is room.
    :param timed_out: called after a connection has waited for too long and was closed.
    """

    def __init__(
        self, clock: IReactorTime, registry: ConnectionRegistry, timed_out: Callable[[], None] = lambda: None
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._timed_out = timed_out
        self._of_share: dict[str, dict[_Accepted, IDelayedCall]] = {}  # the next address and connection first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, accepted: _Accepted, share: str) -> bool:
        """
        Keep a connection.

        :returns: whether there is room; otherwise the connection has been closed.
        """
        own = len(self._of_share.get(share, ()))
        most = min(most_of_share(BACKLOG, self._count - own), BACKLOG - self._count + own)
        if own >= most or accepted[0].fileno() >= _most_descriptors():
            accepted[0].close()
            return False
        timer = self._clock.callLater(self._registry.idle_timeout, self._give_up, share, accepted)
        self._of_share.setdefault(share, {})[accepted] = timer
        self._count += 1
        return True

    def next(self) -> _Accepted | None:
        """Take out the next connection for which there is room; None where there is none."""
        for share in self._of_share:
            if self._registry.has_room(share):
                accepted = next(iter(self._of_share[share]))
                self._take(share, accepted)
                if share in self._of_share:  # behind the other addresses
                    self._of_share[share] = self._of_share.pop(share)
                return accepted
        return None

    def close(self) -> None:
        """Close all of them."""
        for share, waiting in list(self._of_share.items()):
            for accepted in list(waiting):
                self._close(share, accepted)

    def _give_up(self, share: str, accepted: _Accepted) -> None:
        self._close(share, accepted)
        self._timed_out()

    def _close(self, share: str, accepted: _Accepted) -> None:
        self._take(share, accepted)
        accepted[0].close()

    def _take(self, share: str, accepted: _Accepted) -> None:
        timer = self._of_share[share].pop(accepted)
        self._count -= 1
        if not self._of_share[share]:
            del self._of_share[share]
        if timer.active():
            timer.cancel()


def _most_descriptors() -> int:
    """Three quarters of the limit of open files. A new descriptor is the least number that is free."""
    try:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except OSError as error:
        if not is_refused(error):
            raise
        limit = resource.RLIM_INFINITY
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit * 3 // 4
