"""
Picks the pieces that are asked of the source. No I/O, clock or reactor.

The source is a parent that has everything and is asked last: for a piece that no other parent has, at present or soon.
How long is waited for the other parents is the user's choice, see :class:`~dragonfly_vortex.model.BackToSource`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.task.layout import Layout
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.timing import Timing

__all__ = ["FIRST_WORD", "QUIET", "REASONS", "SourceChoice"]

REASONS = ("no_parent", "not_found", "not_announced", "failed", "slow")
"""
Why a piece is asked of the source: there is no other parent; none has it; one may still announce it; one has failed to
give it; one that has it is slow.
"""

FIRST_WORD = 1.0
"""Seconds from the beginning in which the other parents may say what they have, before the source is asked."""

QUIET = 5.0
"""Seconds without progress after which nothing is waited for that parents may announce."""


STALLED = 10.0
"""
Seconds without a word after which a parent that has a piece is not waited for, where the source is the last resort. A
parent with an upload limit may serve many children before this one.
"""


class SourceChoice:
    """
    The pieces that are asked of the source.

    :param source: the source, one of the parents.
    :param parents: all parents that can be asked, by address.
    :param layout: what is known of the task.
    :param timing: how far the requests are.
    :param policy: how long is waited for the other parents.
    :param reasons: counts the pieces that are asked of the source, by one of :data:`REASONS`.
    """

    def __init__(
        self,
        source: Parent,
        parents: Mapping[str, Parent],
        layout: Layout,
        timing: Timing,
        policy: BackToSource,
        reasons: Counter[str],
    ) -> None:
        self.source = source
        self._reasons = reasons
        self._parents = parents
        self._layout = layout
        self._timing = timing
        self._policy = policy
        self._began_at: float | None = None
        self._asked: dict[int, str] = {}  # the reasons of the numbers that were picked
        self._stalled: set[str] = set()  # the parents that are not waited for
        self._from = 0  # no number below is for the source, as far as that was seen, but for some of those
        self._again: list[int] = []  # numbers below that are to be looked at again; a heap
        self._seen: list[tuple[bool, bool, bool, bool]] = []  # what was seen of each parent when that was looked at

    def look_from(self, number: int) -> None:
        """Look again at the pieces from a number on: the source may be asked for one that others had."""
        self._from = min(self._from, number)

    def look_at(self, number: int) -> None:
        """Look again at one piece: the source may be asked for it."""
        if number < self._from:
            heapq.heappush(self._again, number)

    def advance(self, *, is_idle: bool) -> None:
        """
        Advance the time.

        :param is_idle: whether nothing is under way.
        """
        timing = self._timing
        self._began_at = timing.now if self._began_at is None else self._began_at
        if is_idle and timing.progressed_at is not None and timing.now - timing.progressed_at >= QUIET:
            self._policy = BackToSource.ALWAYS

    def next(
        self, is_free: Callable[[int], bool], owed: Collection[int], last: int, wanted: Sequence[int] | None = None
    ) -> int | None:
        """
        The lowest number that is to be asked of the source; None where there is none.

        :param is_free: whether a piece is neither there nor under way.
        :param owed: numbers that are under way at stalled parents alone.
        :param last: the highest number that may be asked for.
        :param wanted: the only numbers that are asked for, in order; None for all.
        """
        self._look_at_parents()
        number = min((number for number in owed if self.source.may_have(number)), default=None)
        if number is not None:
            return self._pick(number, "slow")
        if wanted is not None:
            found = (each for each in wanted if each <= last and is_free(each) and self.source.may_have(each))
            number = next((each for each in found if not self._is_with_another(each)), None)
            return None if number is None else self._pick(number, self._reason(number))
        while self._again and self._again[0] <= last:
            number = self._again[0]
            if is_free(number) and self.source.may_have(number) and not self._is_with_another(number):
                return self._pick(number, self._reason(number))
            heapq.heappop(self._again)
        for number in range(max(self._from, self._layout.prefix), last + 1):
            if is_free(number) and self.source.may_have(number) and not self._is_with_another(number):
                self._from = number
                return self._pick(number, self._reason(number))
        self._from = last + 1
        return None

    def _look_at_parents(self) -> None:
        """
        See which parents are not waited for. All numbers are looked at again only where anything has changed that says
        of a parent which pieces are to be had of it, not at each step.
        """
        self._stalled = {address for address, parent in self._parents.items() if self._is_stalled(parent)}
        seen = [
            (each.is_alive, each.is_open, each.address in self._stalled, self._is_awaited(each))
            for each in self._parents.values()
        ]
        if seen != self._seen:
            self._seen = seen
            self.look_from(0)

    def is_patient(self, parents: Collection[str]) -> bool:
        """Whether one of the parents that are asked for a piece is still waited for, slow as they are."""
        return not all(self._is_stalled(self._parents[address]) for address in parents)

    def take_back(self, number: int) -> None:
        """Count a piece that was picked as not asked for: another process fetches it, or has."""
        self._reasons[self._asked.pop(number)] -= 1

    def _pick(self, number: int, reason: str) -> int:
        """Count a number that is to be asked of the source."""
        self._asked[number] = reason
        self._reasons[reason] += 1
        return number

    def _is_with_another(self, number: int) -> bool:
        """Whether a piece is to be had of another parent, or may be soon."""
        return any(
            parent is not self.source
            and parent.address not in self._stalled
            and (_has(parent, number) or (parent.may_come_to_have(number) and self._is_awaited(parent)))
            for parent in self._parents.values()
        )

    def _is_stalled(self, parent: Parent) -> bool:
        """Whether a slow parent is not waited for any more."""
        if not parent.is_left_alone:
            return False
        return self._policy is BackToSource.ALWAYS or self._timing.silence(parent) >= STALLED

    def _is_awaited(self, parent: Parent) -> bool:
        """
        Whether it is waited for what a parent may announce. A child that is asked in turn is not waited for: what it
        has comes from this peer, or from parents that this peer has, too.
        """
        if not (parent.is_announcing and parent.is_awaited):
            return False
        if self._policy is BackToSource.LAST_RESORT:
            return True
        has_spoken = bool(parent.announced) or parent.told_piece_length is not None
        return not has_spoken and self._timing.now - (self._began_at or self._timing.now) < FIRST_WORD

    def _reason(self, number: int) -> str:
        """Why a piece is asked of the source."""
        others = [parent for parent in self._parents.values() if parent is not self.source and not parent.is_removed]
        if not others:
            return "no_parent"
        if any(parent.address in self._stalled and _has(parent, number) for parent in others):
            return "slow"
        if any(not parent.is_alive or parent.has_failed_at(number) for parent in others):
            return "failed"
        return "not_announced" if any(parent.is_announcing for parent in others) else "not_found"


def _has(parent: Parent, number: int) -> bool:
    """
    Whether a parent can be asked for a piece. One that cannot say what it has, and lacks an earlier one, has no later
    one either, as far as that is known.
    """
    if not parent.may_have(number):
        return False
    return number in parent.announced or all(lacked > number for lacked in parent.lacks)
