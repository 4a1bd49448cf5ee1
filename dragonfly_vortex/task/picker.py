"""
Picks the next piece and its parent, and finds the pieces that no parent can give. No I/O, clock or reactor.

A number is free, or verified, or under way, or busy: another process is fetching it. New numbers are taken one after
the other, at the frontier; those that were taken and are free again are returned, and are offered to the parents that
may have them. A number is owed if it is under way and all its requests are slow: it is asked of another parent as well.
So no step looks at all pieces of a task.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from dragonfly_vortex.task.layout import Layout, Wanted
from dragonfly_vortex.task.parent_state import Parent, Standing
from dragonfly_vortex.task.source_choice import SourceChoice
from dragonfly_vortex.task.swarm import Swarm
from dragonfly_vortex.task.timing import Request

__all__ = ["Choice"]


class Choice:
    """
    The numbers of a task's pieces, and the parents that may be asked for them.

    :param parents: the parents that can be asked, by address.
    :param layout: what is known of the task.
    :param swarm: chooses where parents announce different pieces.
    :param source: chooses what is asked of the source; None where there is no source.
    :param wanted: what is wanted first, or alone; None for all alike.
    """

    def __init__(
        self,
        parents: Mapping[str, Parent],
        layout: Layout,
        swarm: Swarm,
        source: SourceChoice | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        self.under_way: dict[int, list[Request]] = {}
        """The requests for each number that is under way; more than one where all before were slow."""
        self.owed: set[int] = set()
        """Numbers that are under way in slow requests alone."""
        self.is_end_refuted = False
        """Whether the digest has shown that a supposed end is not the end: slow parents are waited for then."""
        self.busy: set[int] = set()
        """Numbers that another process is fetching."""
        self.returned: set[int] = set()
        """Numbers below the frontier that can be asked for again."""
        self._parents = parents
        self._layout = layout
        self.swarm = swarm
        """Chooses where parents announce different pieces."""
        self._source = source
        self._wanted = wanted or Wanted()
        self._numbers: Sequence[int] = ()  # the numbers that are wanted before the rest, as they were last
        self._there = 0  # how many of these, from the first one on, are verified without a gap
        self._orphans: set[int] = set()  # those of them that no parent has, or had when they were returned
        self._frontier = 0  # no number from here on has been asked for, but for some that were announced
        self._lacked: list[int] = []  # numbers that some parent lacks, and some that none does any more; a heap

    # -- what can be asked for -----------------------------------------------------------------------------------------

    def next(self) -> tuple[Parent, int] | None:
        """
        A number that can be asked for now, and the parent that is to be asked: the lowest number, of the parent that
        has least to do, or the rarest where parents announce different pieces. The source is asked last. What is
        wanted before the rest comes before it.
        """
        wanted = self._numbers_wanted()
        if wanted is not None:
            chosen = self._next_wanted(wanted) or self._next_of_source(wanted)
            if chosen is not None or not self._wanted.is_all:
                return chosen
        if self.is_in_swarm:
            chosen = self._next_in_swarm()
        else:
            chosen = self._lowest([parent for parent in self._peers() if self._is_ready(parent)])
        return chosen or self._next_of_source()

    def _peers(self) -> Iterator[Parent]:
        """All parents but the source."""
        return (parent for parent in self._parents.values() if not parent.is_source)

    @property
    def has_all_wanted(self) -> bool:
        """Whether only a part of the task is wanted, and that is verified."""
        if self._wanted.is_all:
            return False
        wanted = self._numbers_wanted()
        return wanted is not None and next(self._missing(wanted), None) is None

    def _numbers_wanted(self) -> list[int] | None:
        """The numbers that are wanted before the rest; None for none, or where they are not known yet."""
        if self._wanted.is_all and not self._wanted.ranges:
            return None
        return self._wanted.numbers(self._layout.content_length, self._layout.piece_length)

    def _missing(self, wanted: Sequence[int]) -> Iterator[int]:
        """Those of these numbers that are not verified. It does not look again at those before the first of them."""
        verified = self._layout.verified
        if wanted is not self._numbers:
            self._numbers, self._there = wanted, 0
        while self._there < len(wanted) and wanted[self._there] in verified:
            self._there += 1
        return (wanted[at] for at in range(self._there, len(wanted)) if wanted[at] not in verified)

    def _next_wanted(self, wanted: Sequence[int]) -> tuple[Parent, int] | None:
        """The lowest of these numbers that a parent can be asked for now, and the parent that has least to do."""
        ready = self._ready_in_swarm() if self.is_in_swarm else [each for each in self._peers() if self._is_ready(each)]
        end, hold = self.end, self._hold()
        for number in self._missing(wanted) if ready else ():
            if not (number in self.owed or self.is_free(number)):
                continue
            able = [each for each in self._able(ready, number) if self._is_allowed(each, number, end, hold)]
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
        source, end, hold = self._source.source, self.end, self._hold()
        last = 0 if self._layout.piece_length is None else self._new_number() if end is None else end - 1
        if hold is not None and not source.announced:
            last = min(last, hold)
        owed = []
        for number in self.owed if wanted is None else self.owed.intersection(wanted):
            asked = [request.parent for request in self.under_way[number]]
            if source.address not in asked and not self._source.is_patient(asked):
                owed.append(number)
        chosen = self._source.next(self.is_free, owed, last, wanted)
        return None if chosen is None else (source, chosen)

    @property
    def is_in_swarm(self) -> bool:
        """Whether parents announce different pieces."""
        return self.swarm.is_on() and self._layout.piece_length is not None

    def better(self, *, may_fetch_twice: bool) -> tuple[Parent, int] | None:
        """
        A parent that has nothing else to give, and a piece that it would give much sooner than the one that is asked.

        :param may_fetch_twice: whether it may be one of which something has arrived.
        """
        if not self.is_in_swarm:
            return None
        return self.swarm.better(self._ready_in_swarm(), self.under_way, may_fetch_twice=may_fetch_twice)

    def _next_in_swarm(self) -> tuple[Parent, int] | None:
        """As :meth:`next`: what slow parents owe comes first, then the rarest piece, then what is far ahead."""
        ready = self._ready_in_swarm()
        if not ready:
            return None
        for number in sorted(self.owed):
            if able := self._able(ready, number):
                return min(able, key=_load), number
        return self.swarm.rarest(ready, self.is_free, self.end) or self._lowest(ready)

    def _ready_in_swarm(self) -> list[Parent]:
        """The parents that can be asked for anything now, and have room."""
        return [parent for parent in self._peers() if self.swarm.has_room(parent) and self._is_ready(parent)]

    def _lowest(self, ready: list[Parent]) -> tuple[Parent, int] | None:
        """
        The lowest number that can be requested now, and the parent with the fewest requests that can be asked for it.
        """
        end, hold, new = self.end, self._hold(), self._new_number()
        number = min((n for parent in ready for n in self._askable(parent, end, hold, new)), default=None)
        if number is None:
            return None
        return min(self._able(ready, number), key=_load), number

    def _able(self, ready: list[Parent], number: int) -> list[Parent]:
        """Those of these parents that can be asked for a number, and are not."""
        return [parent for parent in ready if parent.may_have(number) and not self._is_asked(parent, number)]

    def lost(self) -> int | None:
        """A number that no parent can give, and that is part of the task for certain; None where there is none."""
        return next((number for number in self._doubtful() if self._is_lost(number)), None)

    def is_under_way(self, request: Request) -> bool:
        """Whether a request is one of this download's plan, and has no answer yet."""
        return request in self.under_way.get(request.number, ())

    def is_free(self, number: int) -> bool:
        """Whether a piece is neither verified nor being fetched, by this process or another."""
        return number not in self._layout.verified and number not in self.under_way and number not in self.busy

    # -- what changes it -----------------------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """Count a request that is under way."""
        self.under_way.setdefault(request.number, []).append(request)
        self.owed.discard(request.number)
        self.forget(request.number)

    def settle(self, request: Request) -> None:
        """Remove a request that has ended; its number is free again if no other is under way."""
        requests = self.under_way[request.number]
        requests.remove(request)
        if not requests:
            del self.under_way[request.number]
            self.owed.discard(request.number)
            if request.number not in self._layout.verified:
                self.put_back(request.number)

    def forget(self, number: int) -> None:
        """Take a number from the free ones."""
        self.returned.discard(number)
        self._orphans.discard(number)

    def put_back(self, number: int) -> None:
        """Make a number free again."""
        self._there = min(self._there, bisect_left(self._numbers, number))
        if self._source is not None:
            self._source.look_at(number)
        if number < self._frontier:
            self.returned.add(number)
        for parent in self._parents.values():
            parent.offer(number)
        if self._is_lacked(number):
            heapq.heappush(self._lacked, number)
        self.find_orphans({number})

    def lack(self, parent: Parent, number: int) -> None:
        """Record that a parent lacks a piece."""
        parent.lacks.add(number)
        heapq.heappush(self._lacked, number)
        self._look_from(number)

    def offer(self, parent: Parent, number: int) -> None:
        """Record that a parent has a piece now."""
        self.swarm.announced(number)
        if parent.is_alive and self.is_free(number):
            self._orphans.discard(number)
            parent.offer(number)

    def find_orphans(self, numbers: set[int] | None = None) -> None:
        """See which of the returned numbers no parent has: of these, or of all."""
        if numbers is None:
            self.swarm.count_anew()
            self._look_from(0)
            self._orphans.clear()
            numbers = self.returned
        self._orphans.update(number for number in numbers & self.returned if not self._may_be_had(number))

    def _look_from(self, number: int) -> None:
        """Let the source be asked again for pieces from a number on, which other parents had."""
        if self._source is not None:
            self._source.look_from(number)

    def start_anew(self) -> None:
        """Begin anew: every number is new, except those under way."""
        self.returned.clear()
        self._orphans.clear()
        self.busy.clear()
        self.is_end_refuted = False
        self._frontier = 0
        self._look_from(0)
        for parent in self._parents.values():
            parent.offer_anew(set())

    # -- the end -------------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int | None:
        """How many pieces the task has; None while that is unknown."""
        if self._layout.short is not None:
            return self._layout.short + 1
        told = self._layout.told_count
        if told is not None:
            return told
        hold = self._hold()
        if hold and self._is_end(hold):
            return hold
        new = self._new_number()
        for parent in self._parents.values():  # a plain loop: this is asked many times for each piece
            if parent.denies(new):
                return new if new and self._is_end(new) else None
        return None

    def _hold(self) -> int | None:
        """The lowest number that is not verified and that some parent does not have: nothing beyond it is asked for."""
        lacked = self._lacked
        while lacked and (lacked[0] in self._layout.verified or not self._is_lacked(lacked[0])):
            heapq.heappop(lacked)
        return lacked[0] if lacked else None

    def _is_lacked(self, number: int) -> bool:
        """Whether some parent has said that it does not have a piece."""
        return any(number in parent.lacks for parent in self._parents.values())

    def _is_end(self, number: int) -> bool:
        """
        Whether a number that some parent lacks is the end: no other can have it, none has a later one. A parent that
        rests, or is slow, is not waited for, unless the digest of what there is was wrong.
        """
        if not (self.is_free(number) or number in self.owed) or self._layout.is_something_behind(number):
            return False
        if self.is_end_refuted and self.may_turn_up(number):
            return False
        return not any(
            parent.may_come_to_have(number) and not parent.is_left_alone for parent in self._parents.values()
        )

    def may_turn_up(self, number: int) -> bool:
        """Whether there is a parent that rests or is slow, and may have a piece."""
        return any(
            parent.may_recover(number) or (parent.is_left_alone and parent.may_come_to_have(number))
            for parent in self._parents.values()
        )

    def _may_be_had(self, number: int) -> bool:
        """Whether there is a parent to ask for a piece, now or later."""
        return any(parent.may_come_to_have(number) or parent.may_recover(number) for parent in self._parents.values())

    def _doubtful(self) -> Iterator[int]:
        """The lowest numbers of those that may not be to be had any more. What is not wanted is not missed."""
        wanted = None if self._wanted.is_all else self._numbers_wanted()
        if wanted is not None:
            # The next one that is asked for: those after it are looked at in their turn.
            yield from islice((number for number in self._missing(wanted) if self.is_free(number)), 1)
            return
        if self._layout.piece_length is None:
            if self.is_free(0):
                yield 0
            return
        end, hold, new = self.end, self._hold(), self._new_number()
        for number in (min(self._orphans, default=new), new):
            if (end is None or number < end) and (hold is None or number <= hold):
                yield number

    def _is_lost(self, number: int) -> bool:
        """
        Whether no parent can give a piece that is not under way, and that is part of the task for certain. While the
        end is unknown, a piece under way can turn out to be the last one and make those after it superfluous.
        """
        if self._may_be_had(number):
            return False
        end = self.end
        is_needed = (end is not None and number < end) or self._layout.is_something_behind(number)
        return is_needed or not any(earlier < number for earlier in (*self.under_way, *self.busy))

    # -- the parents that can be asked ---------------------------------------------------------------------------------

    def _askable(self, parent: Parent, end: int | None, hold: int | None, new: int) -> Iterator[int]:
        """The lowest numbers that a parent may be asked for now: a returned one, a new one, those owed."""
        while (offer := parent.lowest_offer()) is not None and not (self.is_free(offer) and parent.may_have(offer)):
            parent.take_offer()
        if offer is not None and self._is_allowed(parent, offer, end, hold):
            yield offer
        if parent.may_have(new) and self._is_allowed(parent, new, end, hold):
            yield new
        for owed in self.owed:
            if parent.may_have(owed) and self._is_allowed(parent, owed, end, hold) and not self._is_asked(parent, owed):
                yield owed

    def _is_allowed(self, parent: Parent, number: int, end: int | None, hold: int | None) -> bool:
        """Whether a number can be one of the task's, as far as is known, so that a parent may be asked for it."""
        if self._layout.piece_length is None:
            return number == 0
        return (end is None or number < end) and (hold is None or number <= hold or number in parent.announced)

    def _new_number(self) -> int:
        """The lowest number that has never been asked for."""
        while not self.is_free(self._frontier):
            self._frontier += 1
        return self._frontier

    def _is_ready(self, parent: Parent) -> bool:
        """Whether a parent can be asked for anything now."""
        return parent.is_alive and parent.has_room and not parent.is_left_alone and not self._is_probed(parent)

    def _is_asked(self, parent: Parent, number: int) -> bool:
        """Whether a parent has a request for a piece under way."""
        return any(request.parent == parent.address for request in self.under_way.get(number, ()))

    def _is_probed(self, parent: Parent) -> bool:
        """Whether a parent is in doubt, and the request that decides is under way."""
        return parent.standing is Standing.DOUBTED and any(
            request.parent == parent.address and request.round == parent.round
            for requests in self.under_way.values()
            for request in requests
        )


def _load(parent: Parent) -> tuple[int, int, int]:
    """The parent with the least is asked: with least to do, then left alone least often since it last gave a piece."""
    return parent.under_way, parent.backoffs, parent.asked
