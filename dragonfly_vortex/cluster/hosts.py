"""The hosts of a cluster, as its schedulers list them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from dragonfly_api import scheduler_pb2
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dragonfly_vortex.cluster.schedulers import Schedulers
from dragonfly_vortex.deferreds import FlatLock

__all__ = ["Hosts", "read_places"]

_UNKNOWN_FOR: Final = 2.0
"""Seconds for which a host is unknown that a scheduler has not listed."""

_KEPT_FOR: Final = 60.0
"""Seconds for which a listed host is taken to be where it was."""

Places: TypeAlias = Mapping[str, tuple[str, int]]
"""The IP address and the gRPC port of each host, by its ID."""


def read_places(data: bytes) -> Places:
    """
    Read a scheduler's list of its hosts. It has some hundred bytes for each host of the cluster: this blocks for tenths
    of a second where there are tens of thousands.

    :raises google.protobuf.message.DecodeError: it is no such list.
    """
    return {one.id: (one.ip, one.port) for one in scheduler_pb2.ListHostsResponse.FromString(data).hosts}


class Hosts:
    """
    Finds hosts by their IDs. A scheduler is asked for all of them together, and its answer is kept for a while.

    :param schedulers: those that can be asked.
    :param clock: for the age of an answer.
    :param in_thread: calls a function in a thread, where an answer is read.
    """

    def __init__(
        self, schedulers: Schedulers, clock: IReactorTime, in_thread: Callable[[Callable[[], Places]], Deferred[Places]]
    ) -> None:
        self._schedulers = schedulers
        self._clock = clock
        self._in_thread = in_thread
        self._listing = FlatLock()  # held while a scheduler lists its hosts
        self._listed: tuple[str, float, Places] = ("", -math.inf, {})  # by which scheduler, and when

    def find(self, task_id: str, host_id: str) -> Deferred[tuple[str, int] | None]:
        """See :meth:`~dragonfly_vortex.cluster.membership.Membership.find_host`."""
        return self._listing.run(lambda: Deferred.fromCoroutine(self._find(task_id, host_id)))

    async def _find(self, task_id: str, host_id: str) -> tuple[str, int] | None:
        address, now = self._schedulers.first(task_id), self._clock.seconds()
        if not address:
            return None
        listed_by, listed_at, places = self._listed
        kept_for = _KEPT_FOR if host_id in places else _UNKNOWN_FOR
        if address != listed_by or now - listed_at >= kept_for:
            places = {}
            try:
                request: Any = scheduler_pb2.ListHostsRequest()
                data = await self._schedulers.call(address, "ListHosts", request)
                places = await self._in_thread(partial(read_places, data))
            finally:  # after a failure no host is known for a while
                self._listed = address, self._clock.seconds(), places
        return places.get(host_id)
