"""
Picks pieces and parents where parents announce different pieces, as in a swarm. No I/O, clock or reactor.

The rarest piece comes first (Bram Cohen, "Incentives Build Robustness in BitTorrent", 2003), at random among equals, so
that children that ask the same parents get different pieces and can give them to each other. Only pieces in a window
behind the first gap are chosen, so that the hash of the whole file, which needs the bytes in order, is not left far
behind. A parent is asked for as few pieces at once as keep it busy: what is asked of one cannot be asked of another.
When a parent has nothing else to give, a piece that waits at a slower one moves to it; one that has begun to come from
the slower one is asked of both, and the first copy counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dragonfly_vortex.task.layout import Layout
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.timing import Request, Timing

__all__ = ["WINDOW", "Swarm", "window"]

WINDOW = 128
"""Pieces from the first gap on among which the rarest is chosen; fewer where they are long, see :func:`window`."""

_WINDOW_BYTES = 512 * 1024 * 1024
_LEAST_WINDOW = 16

_BUSY = 0.9
"""The part of its time for which a parent is to be kept busy."""

_SOONER = 2.0
"""How many times as long as an idle parent a slower one must still need for a piece, so that the idle one is asked."""


def window(piece_length: int) -> int:
    """
    Return among how many pieces, from the first gap on, the rarest is chosen: so few that the hash of the whole is not
    left behind for long, and no fewer than spread well among eight peers.

    :param piece_length: bytes of every piece but the last.
    """
    return min(WINDOW, max(_LEAST_WINDOW, _WINDOW_BYTES // max(1, piece_length)))


class Swarm:
    """
    The pieces that parents have announced, and the parent that gives each soonest.

    :param parents: the parents that can be asked, by address.
    :param timing: how far the requests are.
    :param random: gives a random number from 0 to 1.
    :param is_in_order: whether the first piece comes first, because the bytes are read in order.
    """

    def __init__(
        self,
        parents: Mapping[str, Parent],
        layout: Layout,
        timing: Timing,
        random: Callable[[], float],
        *,
        is_in_order: bool = False,
    ) -> None:
        self._parents = parents
        self._layout = layout
        self._timing = timing
        self._random = random
        self._is_in_order = is_in_order
        self.rarest_parents: int | None = None
        """How many parents have the piece that was chosen last; None before the first one."""
        self._announcers: Counter[int] = Counter()
        self._moved: set[tuple[str, int]] = set()

    @property
    def is_on(self) -> bool:
        """Whether there are several parents, one of which has less than the whole, in pieces of a known length."""
        if len(self._parents) == 1 or self._layout.piece_length is None:
            return False
        count = self._layout.told_count
        peers = (parent for parent in self._parents.values() if not parent.is_source)
        is_partial = any(  # this is asked at each step: the first that has less will do
            parent.has_announcer and parent.is_alive and len(parent.announced) != count for parent in peers
        )
        return is_partial and (len(self._parents) > 2 or not any(map(_is_source, self._parents.values())))

    def announced(self, number: int) -> None:
        """Record that one more parent has a piece."""
        self._announcers[number] += 1

    def moved(self, request: Request) -> None:
        """
        Record that a piece has moved away from a parent: it does not move back, or two silent parents would keep it.
        """
        self._moved.add((request.parent, request.number))

    def count_anew(self) -> None:
        """Count the parents of each piece anew, because a parent is asked no more, or again."""
        self._announcers = Counter(
            number for parent in self._parents.values() if parent.is_alive for number in parent.announced
        )

    def has_room(self, parent: Parent) -> bool:
        """
        Whether a parent may be asked for one piece more: of as many as its rate and its round trip need to keep it
        busy, and of one before these are known.
        """
        length = self._layout.piece_length
        if parent.rate is None or parent.round_trip is None or not length:
            return parent.under_way < 1
        return parent.under_way < _BUSY * (1 + parent.rate * parent.round_trip / length)

    def rarest(
        self, ready: Sequence[Parent], is_free: Callable[[int], bool], end: int | None
    ) -> tuple[Parent, int] | None:
        """
        The piece that the fewest parents have, and the parent that is to give it: of those that have it, the one that
        has least else.

        :param ready: the parents that can be asked now.
        :param is_free: says whether a piece is neither there nor under way.
        :param end: how many pieces there are; None while that is unknown.
        """
        best: tuple[tuple[int, float], int] | None = None
        first = self._layout.prefix
        last = first + window(self._layout.piece_length or 0)
        for number in range(first, last if end is None else min(end, last)):
            if is_free(number) and any(_has(parent, number) for parent in ready):
                rank = (number, 0.0) if self._is_in_order else (self._announcers[number], self._random())
                if best is None or rank < best[0]:
                    best = rank, number
        if best is None:
            return None
        _, number = best
        self.rarest_parents = self._announcers[number]
        able = [parent for parent in ready if _has(parent, number)]
        return min(able, key=lambda parent: (parent.under_way, len(parent.announced), -(parent.rate or 0.0))), number

    def better(
        self, ready: Sequence[Parent], under_way: Mapping[int, Sequence[Request]], *, may_fetch_twice: bool
    ) -> tuple[Parent, int] | None:
        """
        A parent that has nothing else to give, and a piece that it would give much sooner than the one that is asked.

        :param ready: the parents that can be asked now.
        :param under_way: the requests for each piece that is under way.
        :param may_fetch_twice: whether it may be one of which something has arrived.
        """
        best: tuple[float, Parent, int] | None = None
        for parent in ready:
            seconds = self._timing.expected(parent)
            for number, requests in under_way.items():
                request = requests[0]
                if len(requests) > 1 or request.parent == parent.address or not parent.may_have(number):
                    continue
                if (parent.address, number) in self._moved:
                    continue
                if not may_fetch_twice and self._timing.has_begun(request):
                    continue
                left = self._timing.left(request)
                if left > _SOONER * seconds and (best is None or left - seconds > best[0]):
                    best = left - seconds, parent, number
        return None if best is None else (best[1], best[2])


def _has(parent: Parent, number: int) -> bool:
    """Whether a parent that can be asked now has announced a piece, and is worth asking for it."""
    return number in parent.announced and parent.may_have(number)


def _is_source(parent: Parent) -> bool:
    """Whether a parent is the source."""
    return parent.is_source
