"""
The numbers of a task's pieces: which are free, where the task ends, and which pieces no parent can give. No I/O, clock
or reactor.

A number is free, or verified, or under way, or busy: another process is fetching it. New numbers are taken one after
the other, at the frontier; those that were taken and are free again are returned, and are offered to the parents that
may have them. A number is owed if it is under way and all its requests are slow: it is asked of another parent as well.
So no step looks at all pieces of a task.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from dragonfly_vortex.task.layout import Layout, Wanted
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.source_choice import SourceChoice
from dragonfly_vortex.task.swarm import Swarm
from dragonfly_vortex.task.timing import Request

__all__ = ["PieceNumbers"]


class PieceNumbers:
    """
    The numbers of the pieces that a download fetches.

    :param parents: the parents that can be asked, by address.
    :param layout: what is known of the task.
    :param swarm: counts the parents of each piece.
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
        self.is_cautious = False
        """Whether a parent logs an error for each piece that it lacks, so that no more are asked for than must be."""
        self.last_promised = -1
        """The highest number that a parent has begun to send, without the last one: there may be one behind it."""
        self.wanted = wanted or Wanted()
        """What is wanted first, or alone."""
        self._parents = parents
        self._layout = layout
        self._swarm = swarm
        self._source = source
        self._wanted_first: Sequence[int] = ()  # the numbers that are wanted before the rest, as they were last
        self._there = 0  # how many of these, from the first one on, are verified without a gap
        self._offers: defaultdict[str, list[int]] = defaultdict(list)  # a heap for each parent, by its address
        self._orphans: set[int] = set()  # the returned numbers that no parent has, or had when they were returned
        self._frontier = 0  # no number from here on has been asked for, but for some that were announced
        self._lacked: list[int] = []  # numbers that some parent lacks, and some that none does any more; a heap

    # -- which are free ------------------------------------------------------------------------------------------------

    def is_free(self, number: int) -> bool:
        """Whether a piece is neither verified nor being fetched, by this process or another."""
        return number not in self._layout.verified and number not in self.under_way and number not in self.busy

    def is_asked(self, parent: Parent, number: int) -> bool:
        """Whether a parent has a request for a piece under way."""
        return any(request.parent == parent.address for request in self.under_way.get(number, ()))

    def new(self) -> int:
        """The lowest number that has never been asked for."""
        number, verified = self._frontier, self._layout.verified
        while number in self.under_way or number in verified or number in self.busy:  # as is_free(), which is a call
            number += 1
        self._frontier = number
        return number

    @property
    def has_all_wanted(self) -> bool:
        """Whether only a part of the task is wanted, and that is verified."""
        if self.wanted.is_all:
            return False
        wanted = self.wanted_first()
        return wanted is not None and next(self.missing(wanted), None) is None

    def wanted_first(self) -> list[int] | None:
        """The numbers that are wanted before the rest; None for none, or where they are not known yet."""
        if self.wanted.is_all and not self.wanted.ranges:
            return None
        return self.wanted.numbers(self._layout.content_length, self._layout.piece_length)

    def missing(self, wanted: Sequence[int]) -> Iterator[int]:
        """Those of these numbers that are not verified. It does not look again at those before the first of them."""
        verified = self._layout.verified
        if wanted is not self._wanted_first:
            self._wanted_first, self._there = wanted, 0
        while self._there < len(wanted) and wanted[self._there] in verified:
            self._there += 1
        return (wanted[at] for at in range(self._there, len(wanted)) if wanted[at] not in verified)

    # -- what changes it -----------------------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """Count a request that is under way."""
        self.under_way.setdefault(request.number, []).append(request)
        self.owed.discard(request.number)
        self.forget(request.number)

    def settle(self, request: Request, *, is_given: bool = False) -> None:
        """
        Remove a request that has ended; its number is free again if no other is under way.

        :param is_given: whether its piece is verified next.
        """
        requests = self.under_way[request.number]
        requests.remove(request)
        if not requests:
            del self.under_way[request.number]
            self.owed.discard(request.number)
            if not is_given and request.number not in self._layout.verified:
                self.put_back(request.number)

    def forget(self, number: int) -> None:
        """Take a number from the free ones."""
        self.returned.discard(number)
        self._orphans.discard(number)

    def put_back(self, number: int) -> None:
        """Make a number free again."""
        self._there = min(self._there, bisect_left(self._wanted_first, number))
        if self._source is not None:
            self._source.look_at(number)
        if number < self._frontier:
            self.returned.add(number)
        for parent in self._parents.values():
            self._offer(parent, number)
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
        self._swarm.announced(number)
        if parent.is_alive and self.is_free(number):
            self._orphans.discard(number)
            self._offer(parent, number)

    def offer_anew(self, parent: Parent) -> None:
        """Let a parent be asked for what it has announced and for the returned numbers, and for no others again."""
        self._offers[parent.address] = sorted({*parent.announced, *self.returned})

    def lowest_offer(self, parent: Parent) -> int | None:
        """The lowest number that a parent can be asked for again, None where there is none."""
        offers = self._offers[parent.address]
        while offers and not (self.is_free(offers[0]) and parent.may_have(offers[0])):
            heapq.heappop(offers)
        return offers[0] if offers else None

    def _offer(self, parent: Parent, number: int) -> None:
        """Let a parent be asked for a number that is free."""
        if parent.may_have(number):
            heapq.heappush(self._offers[parent.address], number)

    def find_orphans(self, numbers: set[int] | None = None) -> None:
        """See which of the returned numbers no parent has: of these, or of all."""
        if numbers is None:
            self._swarm.count_anew()
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
        self._frontier, self.last_promised = 0, -1
        self._look_from(0)
        for parent in self._parents.values():
            self.offer_anew(parent)

    # -- the end -------------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int | None:
        """How many pieces the task has; None while that is unknown."""
        if self._layout.short is not None:
            return self._layout.short + 1
        told = self._layout.told_count
        if told is not None:
            return told
        hold = self.hold() if self._lacked else None
        if hold and self._is_end(hold):
            return hold
        new = self.new()
        for parent in self._parents.values():  # a plain loop: this is asked many times for each piece
            if parent.denies(new):
                return new if new and self._is_end(new) else None
        return None

    def hold(self) -> int | None:
        """The lowest number that is not verified and that some parent does not have: nothing beyond it is asked for."""
        lacked = self._lacked
        while lacked and (lacked[0] in self._layout.verified or not self._is_lacked(lacked[0])):
            heapq.heappop(lacked)
        return lacked[0] if lacked else None

    def bound(self) -> int | None:
        """
        The highest number that may be asked for where no parent has announced it; None for no bound. Where a parent
        logs an error for each piece that it lacks, that is the one behind those that have been promised.
        """
        hold = self.hold()
        if not self.is_cautious or self.end is not None:
            return hold
        next_one = max(self.last_promised + 1, self._layout.prefix)
        return next_one if hold is None else min(hold, next_one)

    def promised(self, number: int, length: int) -> None:
        """
        Record that a parent has begun to send a piece. There may be one behind it, unless it is shorter than others.

        :param length: bytes of it.
        """
        if length == self._layout.piece_length:
            self.last_promised = max(self.last_promised, number)

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

    # -- what is lost --------------------------------------------------------------------------------------------------

    def lost(self) -> int | None:
        """A number that no parent can give, and that is part of the task for certain; None where there is none."""
        return next((number for number in self._doubtful() if self._is_lost(number)), None)

    def _doubtful(self) -> Iterator[int]:
        """The lowest numbers of those that may not be to be had any more. What is not wanted is not missed."""
        wanted = None if self.wanted.is_all else self.wanted_first()
        if wanted is not None:
            # The next one that is asked for: those after it are looked at in their turn.
            yield from islice((number for number in self.missing(wanted) if self.is_free(number)), 1)
            return
        if self._layout.piece_length is None:
            if self.is_free(0):
                yield 0
            return
        end, hold, new = self.end, self.hold(), self.new()
        for number in (min(self._orphans), new) if self._orphans else (new,):
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

    def _may_be_had(self, number: int) -> bool:
        """Whether there is a parent to ask for a piece, now or later."""
        for parent in self._parents.values():
            if parent.may_have(number):  # nearly always, and at the first parent
                return True
        return any(parent.may_come_to_have(number) or parent.may_recover(number) for parent in self._parents.values())
