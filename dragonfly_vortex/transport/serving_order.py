"""
The order in which replies are sent, where children ask for more than a parent may send.

Replies are sent one after the other, in the order in which they were asked for: a piece that is complete can be passed
on, where many pieces in equal shares would all be complete at the end. A connection has one reply at a time, so each
next request of its own stands behind those of the others. From that there are four exceptions:

- A piece that has not left yet goes before one that has (BitTorrent's super-seeding): the children get the second copy
  from each other. A reply is passed over by at most :data:`MAX_PASSED` replies that were asked for later.
- Every second step goes to a reply that is much shorter than the first in the order.
- A reply that had no step for :data:`LONGEST_PAUSE` gets one, so that its child does not give it up. At most one step
  in five is spent on that.
- A reply whose child takes nothing at the moment does not wait here, so others have its turn.

There is no I/O here and no timer; the time comes from a function.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from itertools import islice

from msgspec import Struct

__all__ = ["LONGEST_PAUSE", "MAX_PASSED", "ServingOrder", "Turn"]

MAX_PASSED = 64
"""Replies that may go before one that was asked for earlier, because their pieces have left less often."""

LONGEST_PAUSE = 5.0
"""Seconds without a step after which a reply gets one out of the order."""

_STEPS_FOR_OVERDUE = 5

_MUCH_SHORTER = 4
"""How many times as much the first in the order has left as a reply that goes between its steps."""

_MANY = 64  # entries of replies that do not wait any more, from which on they are removed

_MAX_COPIES = 8192
"""Pieces of which it is remembered how often they have left, some 1.5 MB."""


class Turn(Struct, eq=False, kw_only=True):
    """
    The place of a reply in the order.

    :param piece: identifies the piece.
    :param left: bytes that are still to be sent.
    :param asked: grows with each reply that is asked for.
    :param served_at: when it had a step last, or else when it was asked for, in seconds.
    :param begun: grows with each reply that is begun; None before.
    :param passed: replies that were asked for later and begun before.
    """

    piece: Hashable
    left: int
    asked: int
    served_at: float
    begun: int | None = None
    passed: int = 0


class ServingOrder:
    """
    Decides which reply has the next step.

    :param seconds: the time in seconds.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # Those that wait: few have been begun, and are looked through for each step. The others may be many, and are
        # looked through for each piece.
        self._begun: dict[Turn, None] = {}
        self._new: dict[Turn, None] = {}  # the longest waiting first
        self._shortest: list[tuple[int, int, Turn]] = []  # a heap of what is new, and of some that is not any more
        self._copies: OrderedDict[Hashable, int] = OrderedDict()  # begun or complete; the longest unchanged first
        self._times_asked = 0
        self._times_begun = 0
        self._steps = 0

    def __len__(self) -> int:
        """How many replies wait for a step."""
        return len(self._begun) + len(self._new)

    def enter(self, piece: Hashable, left: int, *, is_begun: bool = False) -> Turn:
        """
        Add a reply that was requested.

        :param piece: identifies the piece.
        :param left: bytes that are to be sent.
        :param is_begun: whether some of it has been sent already.
        """
        self._times_asked += 1
        turn = Turn(piece=piece, left=left, asked=self._times_asked, served_at=self._seconds())
        if is_begun:
            self._begin(turn)
        return turn

    def wait(self, turn: Turn) -> None:
        """Have a reply wait for its step, which :meth:`next` gives."""
        if turn.begun is not None:
            self._begun[turn] = None
        elif turn not in self._new:
            self._new[turn] = None
            heappush(self._shortest, (turn.left, turn.asked, turn))
            if len(self._shortest) > 2 * len(self._new) + _MANY:
                self._shortest = [(each.left, each.asked, each) for each in self._new]
                heapify(self._shortest)

    def next(self) -> Turn | None:
        """The reply that has the next step, and does not wait any more; None where none waits."""
        if not self._begun and not self._new:
            return None
        self._steps += 1
        now = self._seconds()
        turn = self._overdue(now) if self._steps % _STEPS_FOR_OVERDUE == 0 else None
        if turn is None:
            turn = self._first()
            if self._steps % 2:
                turn = self._much_shorter(turn)
            if turn.begun is None:
                self._begin(turn)
        self._stop_waiting(turn)
        turn.served_at = now
        return turn

    def leave(self, turn: Turn, *, is_whole: bool) -> None:
        """
        Remove a reply that has ended.

        :param is_whole: whether all of it has been sent; if not, the copy does not count.
        """
        self._stop_waiting(turn)
        if is_whole and turn.begun is None:
            self._count(turn.piece, 1)
        elif not is_whole and turn.begun is not None:
            self._count(turn.piece, -1)

    def sent(self, piece: Hashable) -> None:
        """Count a reply that was sent without waiting."""
        self._count(piece, 1)

    def _stop_waiting(self, turn: Turn) -> None:
        self._begun.pop(turn, None)
        self._new.pop(turn, None)
        if not self._new:
            self._shortest.clear()

    def _first(self) -> Turn:
        if self._begun:
            return min(self._begun, key=lambda turn: turn.begun or 0)
        return min(self._new, key=self._rank)

    def _rank(self, turn: Turn) -> tuple[int, int]:
        return 0 if turn.passed >= MAX_PASSED else self._copies.get(turn.piece, 0), turn.asked

    def _much_shorter(self, first: Turn) -> Turn:
        """The shortest reply that is much shorter than the first one, or else the first one."""
        while self._shortest and self._shortest[0][2] not in self._new:
            heappop(self._shortest)
        shortest = min(self._begun, key=lambda turn: turn.left, default=first)
        if self._shortest and self._shortest[0][0] < shortest.left:
            shortest = self._shortest[0][2]
        return shortest if shortest.left * _MUCH_SHORTER <= first.left else first

    def _overdue(self, now: float) -> Turn | None:
        """The reply that has had no step for the longest time, if that is long."""
        candidates = [*self._begun, *islice(self._new, 1)]
        turn = min(candidates, key=lambda turn: turn.served_at)
        return turn if now - turn.served_at >= LONGEST_PAUSE else None

    def _begin(self, turn: Turn) -> None:
        self._times_begun += 1
        turn.begun = self._times_begun
        self._count(turn.piece, 1)
        for other in self._new:
            if other.asked < turn.asked:
                other.passed += 1

    def _count(self, piece: Hashable, change: int) -> None:
        self._copies[piece] = self._copies.pop(piece, 0) + change
        if len(self._copies) > _MAX_COPIES:
            self._copies.popitem(last=False)
