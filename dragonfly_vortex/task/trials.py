"""
Trials: if the parents together give a task that does not fit its digest, each parent in turn is tried alone. No I/O,
clock or reactor.

The digest is that of the whole, so no single piece can be judged by it. But if one parent has the whole task and is
honest, the task is right as soon as every piece of it is as that parent gives it. Pieces in the file that came from
elsewhere are compared by their digests, see :mod:`~dragonfly_vortex.task.pieces`. A CRC-32 can be forged: so a
parent with which that has failed is tried once more at the end, and gives every piece itself.

For n pieces and p parents that makes at most 2 times p times n comparisons and two copies of the task from each parent.
The usual case, one liar, costs the comparisons and the pieces that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dragonfly_vortex.errors import EndDisputed, TaskDigestMismatch, TaskError
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE, Parent, Standing
from dragonfly_vortex.task.pieces import Comparison
from dragonfly_vortex.task.scheduler import END_DISPUTED_AT, Plan

__all__ = ["MakeTrial", "Trials"]

MakeTrial = Callable[[str, Mapping[int, VerifiedPiece], bool, int], Plan]
"""
Makes the plan of a trial: of a parent, of the pieces that are there, of whether these are compared, and of the bytes at
which it fails where there is no end.
"""

_MOST_NAMED = 8
"""Numbers of pieces that a message names."""


class Trials:
    """
    The plans of one download, one after the other.

    :param plan: the first one, of all parents together.
    :param make_trial: makes the others.
    :param end_disputed_at: bytes that a parent may give without an end in its first trial. It is tried again after all
        others, with four times as many.
    """

    def __init__(self, plan: Plan, make_trial: MakeTrial, end_disputed_at: int = END_DISPUTED_AT) -> None:
        self.plan = plan
        """The one that is being followed."""
        self.on_trial: str | None = None
        """The parent whose word alone is believed; None where all are believed."""
        self.lies: dict[str, str] = {}
        """The parents that are known to have lied, and what the lies were."""
        self.failure: TaskError | None = None
        """Why the parents together did not give the task."""
        self._make_trial = make_trial
        self._together = plan
        self._end_disputed_at = end_disputed_at
        self._candidates: list[tuple[str, bool, int]] = []
        self._most = end_disputed_at
        self._confirmed: set[int] = set()
        self._removed: set[tuple[int, VerifiedPiece]] = set()  # what has been in the file, of any plan

    @property
    def parents(self) -> Mapping[str, Parent]:
        """All parents that have been named, by address."""
        return self._together.parents

    def anew(self, plan: Plan) -> Trials:
        """
        Begin anew with the same parents.

        :param plan: a new one of all of them together.
        """
        for address, parent in self.parents.items():
            plan.parents[address].is_awaited = parent.is_awaited
            if parent.is_removed:
                plan.remove_parent(address)
        return Trials(plan, self._make_trial, self._end_disputed_at)

    def next(self, failure: TaskError) -> Plan | None:
        """
        Return the plan after a failed one, where there is a parent that has not been tried.

        :param failure: what it has failed with.
        """
        plan, comparison = self.plan, self.plan.comparison
        self._removed |= plan.pieces.removed
        if comparison is None:
            self.failure = failure
            self.lies.update(
                (parent.address, parent.lie) for parent in self._together.parents.values() if parent.is_caught
            )
            most = max(self._end_disputed_at, plan.layout.prefix_length)
            self._candidates = [(address, True, most) for address in plan.reputation.may_be_right_alone()]
        else:
            self._fail(plan, comparison, failure)
        if self._candidates:
            self.on_trial, compares, most = self._candidates.pop(0)
            self._most = most
            self.plan = self._make_trial(self.on_trial, plan.there, compares, most)
            return self.plan
        if isinstance(self.failure, EndDisputed):
            self.on_trial = None
            self._together.reputation.is_end_disputed = False  # no parent that says that the task is shorter is right
            self._together.pieces.replace(plan.there)
            self.plan = self._together
            return self.plan
        return None

    def add_parent(self, address: str, *, is_awaited: bool = True) -> None:
        """
        Add a parent that may have the task. While another one is tried alone, it is tried after that.

        :param is_awaited: see :meth:`~dragonfly_vortex.task.parent_state.Parent.name_again`.
        """
        is_new = address not in self._together.parents
        self._together.add_parent(address, is_awaited=is_awaited)
        if is_new and self.plan is not self._together:
            self._candidates.append((address, True, self._end_disputed_at))

    def remove_parent(self, address: str) -> None:
        """Remove a parent, which is not asked or tried any more."""
        self._together.remove_parent(address)
        self._candidates = [candidate for candidate in self._candidates if candidate[0] != address]
        if self.plan is not self._together:
            self.plan.remove_parent(address)

    def succeed(self) -> list[int]:
        """
        Record that the whole is right: all parents that sent or announced anything else have lied.

        :returns: the numbers of pieces that are in the file and are no part of it.
        """
        comparison = self.plan.comparison
        self._removed |= self.plan.pieces.removed
        if comparison is not None:
            self._removed.update(comparison.there.items())
        self._name_senders(self.plan.layout.verified)
        for parent in self._together.parents.values():
            # The storage may know another piece length of a task of one piece, and be right.
            accusers = (parent.accusers or set()) - {STORAGE}
            is_refuted = parent.is_caught or (bool(accusers) if self.on_trial is None else self.on_trial in accusers)
            if parent.standing is Standing.LIED and is_refuted:
                self.lies.setdefault(parent.address, parent.lie)
        self.lies.pop(self.on_trial or "", None)
        return [] if comparison is None else sorted(comparison.there)

    def doubtful(self) -> list[int]:
        """
        After a failed download, return the numbers of the pieces in the file that must not be kept, because the parents
        disagree about them, or because the whole is wrong and they are known from a liar alone.
        """
        there = self.plan.there
        disputed = {n for n, piece in self._removed if n in there and not piece.is_like(there[n])}
        liars = self.lies if isinstance(self.failure, TaskDigestMismatch) else {}
        of_liars = {n for n, piece in there.items() if piece.parent in liars and n not in self._confirmed}
        return sorted(disputed | of_liars)

    def verdict(self, failure: TaskError) -> TaskError:
        """
        The error that the download ends with when no trial is left.

        :param failure: the last failure.
        """
        first = self.failure or failure
        if not isinstance(first, TaskDigestMismatch) or self.on_trial is None:
            return first
        lies = "".join(f"; parent {parent} has lied: {lie}" for parent, lie in self.lies.items())
        return TaskDigestMismatch(first.task_id, f"{first.reason}; it is wrong as each parent alone gives it{lies}")

    def _fail(self, plan: Plan, comparison: Comparison, failure: TaskError) -> None:
        """Record a failed trial."""
        self._confirmed |= comparison.confirmed
        (parent,) = plan.parents.values()
        is_certain = (
            plan.layout.content_length is not None
        )  # or else the parent may have given all that it has, and be honest
        of_parents = any(plan.layout.verified[number].parent != STORAGE for number in comparison.confirmed)
        if parent.is_caught:
            self.lies[parent.address] = parent.lie
        elif isinstance(failure, EndDisputed):
            if not isinstance(self.failure, EndDisputed):  # or else all together go on first
                self._candidates.append((parent.address, True, 4 * self._most))
        elif plan.reputation.got is not None and comparison.confirmed and (is_certain or of_parents):
            self._candidates.append((parent.address, False, self._most))
        elif plan.reputation.got is not None and is_certain and not comparison.confirmed:
            self.lies[parent.address] = f"all pieces as it gives them have the digest {plan.reputation.got}"

    def _name_senders(self, right: Mapping[int, VerifiedPiece]) -> None:
        """Name the senders of pieces that have been in the file and are not right."""
        wrong: dict[str, set[int]] = {}
        for number, piece in self._removed:
            if piece.parent != STORAGE and (number not in right or piece.differs(right[number])):
                wrong.setdefault(piece.parent, set()).add(number)
        self.lies.update(
            (sender, f"it sent {_named(sorted(numbers))} with other content") for sender, numbers in wrong.items()
        )


def _named(numbers: Sequence[int]) -> str:
    """Numbers of pieces for a message: the first ones, where there are many."""
    named = ", ".join(str(number) for number in numbers[:_MOST_NAMED])
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    return f"{'piece' if len(numbers) == 1 else 'pieces'} {named}{more}"
