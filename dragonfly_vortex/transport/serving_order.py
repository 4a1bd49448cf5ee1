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
from dataclasses import dataclass

__all__ = ["LONGEST_PAUSE", "MAX_PASSED", "ServingOrder", "Turn"]

MAX_PASSED = 64
"""Replies that may go before one that was asked for earlier, because their pieces have left less often."""

LONGEST_PAUSE = 5.0
"""Seconds without a step after which a reply gets one out of the order."""

_STEPS_FOR_OVERDUE = 5

_MUCH_SHORTER = 4
"""How many times as much the first in the order has left as a reply that goes between its steps."""

_MAX_COPIES = 8192
"""Pieces of which it is remembered how often they have left, some 1.5 MB."""


@dataclass(slots=True, eq=False, kw_only=True)
class Turn:
    """
    The place of a reply in the order.

    :param piece: tells the piece from others.
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

    :param seconds: tells the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._waiting: dict[Turn, None] = {}
        self._copies: OrderedDict[Hashable, int] = OrderedDict()  # begun or complete; the longest unchanged first
        self._asked = 0
        self._begun = 0
        self._steps = 0

    def __len__(self) -> int:
        """How many replies wait for a step."""
        return len(self._waiting)

    def enter(self, piece: Hashable, left: int, *, is_begun: bool = False) -> Turn:
        """
        A reply has been asked for.

        :param piece: tells the piece from others.
        :param left: bytes that are to be sent.
        :param is_begun: whether some of it has been sent already.
        """
        self._asked += 1
        turn = Turn(piece=piece, left=left, asked=self._asked, served_at=self._seconds())
        if is_begun:
            self._begin(turn)
        return turn

    def wait(self, turn: Turn) -> None:
        """A reply could be sent now; :meth:`next` says when it is its turn."""
        self._waiting[turn] = None

    def next(self) -> Turn | None:
        """The reply that has the next step, and does not wait any more; None where none waits."""
        if not self._waiting:
            return None
        self._steps += 1
        now = self._seconds()
        turn = self._overdue(now) if self._steps % _STEPS_FOR_OVERDUE == 0 else None
        if turn is None:
            turn = min(self._waiting, key=self._rank)
            if self._steps % 2:
                turn = self._much_shorter(turn)
            if turn.begun is None:
                self._begin(turn)
        del self._waiting[turn]
        turn.served_at = now
        return turn

    def leave(self, turn: Turn, *, is_whole: bool) -> None:
        """
        A reply has ended.

        :param is_whole: whether all of it has been sent; if not, the copy does not count.
        """
        self._waiting.pop(turn, None)
        if is_whole and turn.begun is None:
            self._count(turn.piece, 1)
        elif not is_whole and turn.begun is not None:
            self._count(turn.piece, -1)

    def sent(self, piece: Hashable) -> None:
        """A whole reply has been sent that never had to wait."""
        self._count(piece, 1)

    def _rank(self, turn: Turn) -> tuple[int, int, int]:
        if turn.begun is not None:
            return 0, 0, turn.begun
        return 1, 0 if turn.passed >= MAX_PASSED else self._copies.get(turn.piece, 0), turn.asked

    def _much_shorter(self, first: Turn) -> Turn:
        """The shortest reply that is much shorter than the first one, or else the first one."""
        shortest = min(self._waiting, key=lambda turn: (turn.left, self._rank(turn)))
        return shortest if shortest.left * _MUCH_SHORTER <= first.left else first

    def _overdue(self, now: float) -> Turn | None:
        turn = min(self._waiting, key=lambda turn: turn.served_at)
        return turn if now - turn.served_at >= LONGEST_PAUSE else None

    def _begin(self, turn: Turn) -> None:
        self._begun += 1
        turn.begun = self._begun
        self._count(turn.piece, 1)
        for other in self._waiting:
            if other.begun is None and other.asked < turn.asked:
                other.passed += 1

    def _count(self, piece: Hashable, change: int) -> None:
        self._copies[piece] = self._copies.pop(piece, 0) + change
        if len(self._copies) > _MAX_COPIES:
            self._copies.popitem(last=False)
