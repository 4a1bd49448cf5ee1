"""
A limit on the bytes of pieces that are in memory at once: whoever wants a piece waits until there is room for it.

gRPC has a message in memory as a whole, so that the number of pieces under way has to be limited by their lengths. This
knows neither reactor nor event loop: it calls those who wait, in the thread of whoever leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

__all__ = ["PIECES_IN_MEMORY", "PIECES_OF_ONE_CHILD", "Budget", "Place"]

PIECES_IN_MEMORY = 256 * 1024 * 1024
"""Bytes of pieces that a peer has in memory at once for gRPC, in each direction: four of the longest."""

PIECES_OF_ONE_CHILD = PIECES_IN_MEMORY // 2
"""Bytes of them that a parent holds for one connection: a child that does not read keeps them until its deadline."""


class Budget:
    """
    Bytes to share. First come, first served: a long piece is not overtaken by short ones. One that is longer than the
    whole budget enters when it is alone.

    Where owners are told apart, none of them has more than ``share``: one that keeps what it has for long, because it
    does not read, leaves room for the others. A single piece that is longer than a share is let in all the same.

    :param total: how many bytes.
    :param share: how many of them one owner may have; None for all.
    """

    def __init__(self, total: int = PIECES_IN_MEMORY, share: int | None = None) -> None:
        self.total = total
        self.share = share
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
        The first of those who wait, leaving out whose owners have their share; None while there is no room for it.
        """
        for place in self._waiting:
            has = self._taken_by[place.owner]
            if self.share is None or not has or has + place.length <= self.share:
                return place if self.taken + place.length <= self.total else None
        return None

    def _take(self, place: Place, length: int) -> None:
        self.taken += length
        self._taken_by[place.owner] += length
        if not self._taken_by[place.owner]:
            del self._taken_by[place.owner]


class Place:
    """
    Somebody's bytes in a budget, or the wish for them.

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
