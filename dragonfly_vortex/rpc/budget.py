"""
A limit on the bytes of pieces that are in memory at once: whoever wants a piece waits until there is room for it.

gRPC has a message in memory as a whole, so that the number of pieces under way has to be limited by their lengths. This
knows neither reactor nor event loop: it calls those who wait, in the thread of whoever leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["PIECES_IN_MEMORY", "Budget", "Place"]

PIECES_IN_MEMORY = 256 * 1024 * 1024
"""Bytes of pieces that a peer has in memory at once for gRPC, in each direction: four of the longest."""


class Budget:
    """
    Bytes to share. First come, first served: a long piece is not overtaken by short ones. One that is longer than the
    whole budget enters when it is alone.

    :param total: how many bytes.
    """

    def __init__(self, total: int = PIECES_IN_MEMORY) -> None:
        self.total = total
        self.taken = 0
        self._waiting: deque[Place] = deque()

    def enter(self, length: int, entered: Callable[[], None]) -> Place:
        """
        Wait for room.

        :param length: bytes.
        :param entered: called when there is room; before this returns where there is room now.
        :returns: what ends the stay, or the waiting.
        """
        place = Place(self, min(length, self.total), entered)
        self._waiting.append(place)
        self._admit()
        return place

    def leave(self, place: Place) -> None:
        """Give up a place: :meth:`Place.leave`, which calls this, can be called twice."""
        if place.inside:
            self.taken -= place.length
        else:
            self._waiting.remove(place)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.taken + self._waiting[0].length <= self.total:
            place = self._waiting.popleft()
            self.taken += place.length
            place.inside = True
            place.entered()


class Place:
    """
    Somebody's bytes in a budget, or the wish for them.

    :param length: how many bytes.
    :param entered: called when they are there.
    """

    def __init__(self, budget: Budget, length: int, entered: Callable[[], None]) -> None:
        self.length = length
        self.entered = entered
        self.inside = False
        self._budget: Budget | None = budget

    def leave(self) -> None:
        """Give the bytes back, or stop waiting for them. A second call does nothing."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.leave(self)
