"""
Limits for gRPC: on the length of a request, and on what is in use at once, such as the bytes of pieces in memory.

A child keeps to the limits of requests, and a parent refuses longer ones. gRPC has a message in memory as a whole, so
that the number of pieces under way is limited by their lengths: a call that wants more waits until there is room. The
budget knows neither reactor nor event loop: it calls those that wait, in the thread of the one that leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dragonfly_vortex.address import share_of

__all__ = [
    "MAX_NUMBERS",
    "MAX_PLAIN_REQUEST",
    "MAX_REQUEST",
    "PIECES_IN_MEMORY",
    "READERS",
    "Budget",
    "Place",
    "owner_of",
]

MAX_NUMBERS = 65_536
"""Piece numbers that a parent may be asked for in one question: 256 GiB in the shortest pieces that Dragonfly makes."""

MAX_REQUEST = 256 * 1024
"""Bytes of a question: so many numbers of three bytes, which those below 2,097,152 have, and the IDs."""

MAX_PLAIN_REQUEST = 16 * 1024
"""Bytes of a question without piece numbers."""


PIECES_IN_MEMORY = 256 * 1024 * 1024
"""Bytes of pieces that a peer has in memory at once for gRPC, in each direction: four of the longest."""


READERS = 4
"""Threads that read pieces from files for a door: few, because a disk is no faster for more."""


def owner_of(peer: str) -> str:
    """
    The owner that a caller's bytes count to: all callers of one address together, on this machine each connection.

    :param peer: the caller in grpcio's form, like ``ipv4:192.0.2.7:1234``.
    """
    host = peer.partition(":")[2].rpartition(":")[0]
    return share_of(host.strip("[]")) or peer


class Budget:
    """
    A limited number of bytes, or of other units, that requests share. First come, first served: a long piece is not
    overtaken by short ones. One that is longer than the whole budget enters when it is alone.

    Where the budget is fair, it counts for each owner, and one owner has at most half of what the others leave: the
    first has at most a half, the second a quarter, and so on. An owner that keeps what it has for long, because it does
    not read, leaves room for the others. An owner that has nothing enters wherever there is room.

    :param total: how many bytes.
    :param fair: whether it counts for each owner.
    """

    def __init__(self, total: int = PIECES_IN_MEMORY, *, fair: bool = False) -> None:
        self.total = total
        self.fair = fair
        self.taken = 0
        self._taken_by: Counter[str] = Counter()
        self._waiting: list[Place] = []

    def enter(self, length: int, entered: Callable[[], None], owner: str = "") -> Place:
        """
        Wait for room.

        :param length: bytes.
        :param entered: called when there is room; before this returns where there is room now.
        :param owner: whose the bytes are.
        :returns: what ends the stay, or the waiting.
        """
        place = Place(self, min(length, self.total), entered, owner)
        self._waiting.append(place)
        self._admit()
        return place

    def leave(self, place: Place) -> None:
        """Give up a place: :meth:`Place.leave`, which calls this, can be called twice."""
        if place.inside:
            self._take(place, -place.length)
        else:
            self._waiting.remove(place)
        self._admit()

    def _admit(self) -> None:
        while (place := self._next()) is not None:
            self._waiting.remove(place)
            self._take(place, place.length)
            place.inside = True
            place.entered()

    def _next(self) -> Place | None:
        """
        The first waiting place whose owner does not have its share yet; None while there is no room for it.
        """
        for place in self._waiting:
            has = self._taken_by[place.owner]
            others = self.taken - has
            if not self.fair or not has or has + place.length <= (self.total - others) // 2:
                return place if self.taken + place.length <= self.total else None
        return None

    def _take(self, place: Place, length: int) -> None:
        self.taken += length
        self._taken_by[place.owner] += length
        if not self._taken_by[place.owner]:
            del self._taken_by[place.owner]


class Place:
    """
    An owner's bytes in a budget, or its request for them.

    :param length: how many bytes.
    :param entered: called when they are there.
    :param owner: whose they are.
    """

    def __init__(self, budget: Budget, length: int, entered: Callable[[], None], owner: str) -> None:
        self.length = length
        self.owner = owner
        self.entered = entered
        self.inside = False
        self._budget: Budget | None = budget

    def leave(self) -> None:
        """Give the bytes back, or stop waiting for them. A second call does nothing."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.leave(self)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()
