"""
Picks the next piece and its parent. No I/O, clock or reactor. Which pieces are free is in
:mod:`~dragonfly_vortex.task.piece_numbers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dragonfly_vortex.task.layout import Layout
from dragonfly_vortex.task.parent_state import Parent, Standing
from dragonfly_vortex.task.piece_numbers import PieceNumbers
from dragonfly_vortex.task.source_choice import SourceChoice
from dragonfly_vortex.task.swarm import Swarm

__all__ = ["Picker"]


class Picker:
    """
    Chooses the numbers that are asked for, and the parents that are asked.

    :param parents: the parents that can be asked, by address.
    :param layout: what is known of the task.
    :param numbers: those that are free, and those that are under way.
    :param swarm: chooses where parents announce different pieces.
    :param source: chooses what is asked of the source; None where there is no source.
    """

    def __init__(
        self,
        parents: Mapping[str, Parent],
        layout: Layout,
        numbers: PieceNumbers,
        swarm: Swarm,
        source: SourceChoice | None = None,
    ) -> None:
        self._parents = parents
        self._layout = layout
        self._numbers = numbers
        self._swarm = swarm
        self._source = source

    # -- the next one --------------------------------------------------------------------------------------------------

    def next(self) -> tuple[Parent, int] | None:
        """
        A number that can be asked for now, and the parent that is to be asked: the lowest number, of the parent that
        has least to do, or the rarest where parents announce different pieces. The source is asked last. What is
        wanted before the rest comes before it.
        """
        wanted = self._numbers.wanted_first()
        if wanted is not None:
            chosen = self._next_wanted(wanted) or self._next_of_source(wanted)
            if chosen is not None or not self._numbers.wanted.is_all:
                return chosen
        if self._swarm.is_on:
            chosen = self._next_in_swarm()
        else:
            chosen = self._lowest([parent for parent in self._peers() if self._is_ready(parent)])
        return chosen or self._next_of_source()

    def _next_wanted(self, wanted: Sequence[int]) -> tuple[Parent, int] | None:
        """The lowest of these numbers that a parent can be asked for now, and the parent that has least to do."""
        if self._swarm.is_on:
            ready = self._ready_in_swarm()
        else:
            ready = [parent for parent in self._peers() if self._is_ready(parent)]
        end, bound = self._numbers.end, self._numbers.bound()
        for number in self._numbers.missing(wanted) if ready else ():
            if not (number in self._numbers.owed or self._numbers.is_free(number)):
                continue
            able = [each for each in self._able(ready, number) if self._is_allowed(each, number, end, bound)]
            if able:
                return min(able, key=_load), number
        return None

    def _next_of_source(self, wanted: Sequence[int] | None = None) -> tuple[Parent, int] | None:
        """
        A number that is asked of the source, because no other parent has it.

        :param wanted: the only numbers that are asked for; None for all.
        """
        if self._source is None or not self._is_ready(self._source.source):
            return None
        source, end, bound = self._source.source, self._numbers.end, self._numbers.bound()
        last = 0 if self._layout.piece_length is None else self._numbers.new() if end is None else end - 1
        if bound is not None and not source.announced:
            last = min(last, bound)
        owed = []
        for number in self._numbers.owed if wanted is None else self._numbers.owed.intersection(wanted):
            asked = [request.parent for request in self._numbers.under_way[number]]
            if source.address not in asked and not self._source.is_patient(asked):
                owed.append(number)
        chosen = self._source.next(self._numbers.is_free, owed, last, wanted)
        return None if chosen is None else (source, chosen)

    def better(self, *, may_fetch_twice: bool) -> tuple[Parent, int] | None:
        """
        A parent that has nothing else to give, and a piece that it would give much sooner than the one that is asked.

        :param may_fetch_twice: whether it may be one of which something has arrived.
        """
        if not self._swarm.is_on:
            return None
        return self._swarm.better(self._ready_in_swarm(), self._numbers.under_way, may_fetch_twice=may_fetch_twice)

    def _next_in_swarm(self) -> tuple[Parent, int] | None:
        """As :meth:`next`: what slow parents owe comes first, then the rarest piece, then what is far ahead."""
        ready = self._ready_in_swarm()
        if not ready:
            return None
        for number in sorted(self._numbers.owed):
            if able := self._able(ready, number):
                return min(able, key=_load), number
        return self._swarm.rarest(ready, self._numbers.is_free, self._numbers.end) or self._lowest(ready)

    def _lowest(self, ready: list[Parent]) -> tuple[Parent, int] | None:
        """
        The lowest number that can be requested now, and the parent with the fewest requests that can be asked for it.
        """
        end, bound, new = self._numbers.end, self._numbers.bound(), self._numbers.new()
        number = min((n for parent in ready for n in self._askable(parent, end, bound, new)), default=None)
        if number is None:
            return None
        if len(ready) == 1 and number not in self._numbers.under_way:
            return ready[0], number  # the one that can be asked for it
        able = [each for each in self._able(ready, number) if self._is_allowed(each, number, end, bound)]
        return min(able, key=_load), number

    # -- the parents that can be asked ---------------------------------------------------------------------------------

    def _peers(self) -> Iterator[Parent]:
        """All parents but the source."""
        return (parent for parent in self._parents.values() if not parent.is_source)

    def _is_ready(self, parent: Parent) -> bool:
        """Whether a parent can be asked for anything now."""
        return parent.is_alive and parent.has_room and not parent.is_left_alone and not self._is_probed(parent)

    def _is_probed(self, parent: Parent) -> bool:
        """Whether a parent is in doubt, and the request that decides is under way."""
        return parent.standing is Standing.DOUBTED and any(
            request.parent == parent.address and request.round == parent.round
            for requests in self._numbers.under_way.values()
            for request in requests
        )

    def _ready_in_swarm(self) -> list[Parent]:
        """The parents that can be asked for anything now, and have room."""
        return [parent for parent in self._peers() if self._swarm.has_room(parent) and self._is_ready(parent)]

    def _able(self, ready: list[Parent], number: int) -> list[Parent]:
        """Those of these parents that can be asked for a number, and are not."""
        return [parent for parent in ready if parent.may_have(number) and not self._numbers.is_asked(parent, number)]

    def _askable(self, parent: Parent, end: int | None, bound: int | None, new: int) -> Iterator[int]:
        """The lowest numbers that a parent may be asked for now: a returned one, a new one, those owed."""
        numbers = self._numbers
        offer = numbers.lowest_offer(parent)
        if offer is not None and self._is_allowed(parent, offer, end, bound):
            yield offer
        if parent.may_have(new) and self._is_allowed(parent, new, end, bound):
            yield new
        for owed in numbers.owed:
            is_asked = numbers.is_asked(parent, owed)
            if not is_asked and parent.may_have(owed) and self._is_allowed(parent, owed, end, bound):
                yield owed

    def _is_allowed(self, parent: Parent, number: int, end: int | None, bound: int | None) -> bool:
        """Whether a number can be one of the task's, as far as is known, so that a parent may be asked for it."""
        if self._layout.piece_length is None:
            return number == 0
        return (end is None or number < end) and (bound is None or number <= bound or number in parent.announced)


def _load(parent: Parent) -> tuple[int, int, int]:
    """The parent with the least is asked: with least to do, then left alone least often since it last gave a piece."""
    return parent.under_way, parent.backoffs, parent.asked
