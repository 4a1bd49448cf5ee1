"""
Which piece is asked of which parent next, and what each answer changes. No I/O here, no clock and no reactor.

Two things are unknown at first, and only parents can tell them: the piece length, which is the length of piece 0, and
the end, which is a piece shorter than that, or a number that no parent has. Whatever a parent has told is kept with its
name, so that it can be forgotten when the parent turns out to have lied.

The life of a parent::

    GOOD --a request fails--> DOUBTED --the next one fails too--> OUT
      ^                          |
      +----- any answer ---------+            a time-out puts it OUT, a lie makes it LIED, from anywhere

In doubt it is asked for one piece at a time. Requests that were under way together fail together: each belongs to a
round, a failure ends the round, and the failures of earlier rounds say nothing new.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dragonfly_vortex.errors import (
    InvalidPiece,
    NoParentLeft,
    PieceError,
    PieceNotFound,
    PieceRefused,
    PieceTimeout,
    TaskDigestMismatch,
    TaskError,
    TaskNotFound,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import piece_id
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Plan", "Request", "Standing", "VerifiedPiece"]

_TRIES = 2
"""How often a parent may fail to give a piece: it is asked once more, and then not for that piece again."""


class Standing(enum.Enum):
    """What is thought of a parent."""

    GOOD = "good"
    DOUBTED = "doubted"
    OUT = "out"
    LIED = "lied"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """
    One piece, asked of one parent. Two requests are never equal.

    :param parent: the parent's address, ``HOST:PORT``.
    :param number: the piece's number.
    :param round: the parent's round, see the module.
    """

    parent: str
    number: int
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPiece:
    """
    A piece that has the digest its parent named.

    :param parent: who sent it.
    :param length: bytes of it.
    """

    parent: str
    length: int


@dataclass(slots=True, kw_only=True)
class _Parent:
    """
    What is known of a parent.

    :param asked: how many requests it has had.
    :param under_way: how many of them have no answer yet.
    :param lacks: numbers of the pieces that it said it does not have.
    :param failures: how often it failed to give a piece, by number.
    :param accusers: who vouches for what its lie contradicts; None where it is a lie whatever others say.
    :param acquitted: whether its word has stood against that of liars alone before.
    """

    address: str
    standing: Standing = Standing.GOOD
    round: int = 0
    asked: int = 0
    under_way: int = 0
    lacks: set[int] = field(default_factory=set)
    failures: Counter[int] = field(default_factory=Counter)
    accusers: set[str] | None = None
    acquitted: bool = False

    @property
    def alive(self) -> bool:
        """Whether it is asked at all."""
        return self.standing in (Standing.GOOD, Standing.DOUBTED)

    def may_have(self, number: int) -> bool:
        """Whether it is worth asking for a piece, now or later."""
        return self.alive and number not in self.lacks and self.failures[number] < _TRIES


class Plan:
    """
    The course of one download: :meth:`next_request` as long as it gives one, an answer to each by one of the
    ``record_`` methods, and the requests that :meth:`next_withdrawn` gives are to be cancelled. It is over when
    :attr:`is_complete`, or with :meth:`failure`.

    :param task_id: the task, for messages.
    :param parents: the parents' addresses; each counts once.
    :param concurrent_piece_count: how many requests may be under way at once.
    :raises ValueError: there is no parent, or nothing may be asked.
    """

    def __init__(self, task_id: str, parents: Sequence[str], concurrent_piece_count: int) -> None:
        if not parents:
            raise ValueError("expected at least one parent, got none")
        if concurrent_piece_count < 1:
            raise ValueError(f"expected to ask for at least one piece at once, got {concurrent_piece_count}")
        self.task_id = task_id
        self.piece_length: int | None = None
        self.verified: dict[int, VerifiedPiece] = {}
        self.verified_length = 0
        """Bytes of all verified pieces."""
        self.prefix = 0
        """How many pieces from the first one on are verified without a gap."""
        self.drops = 0
        """How often verified pieces have been forgotten: what was made of their bytes is void then."""
        self._limit = concurrent_piece_count
        self._parents = {address: _Parent(address=address) for address in parents}
        self._under_way: dict[int, Request] = {}
        self._returned: set[int] = set()  # numbers below the frontier that are neither verified nor under way
        self._frontier = 0  # no number from here on has been asked for, but for some that are under way
        self._short: int | None = None  # the verified piece that is shorter than the others, which makes it the last
        self._to_withdraw: list[Request] = []
        self._withdrawn: set[Request] = set()
        self._contradicted: dict[Request, set[str] | None] = {}
        self._last_error: PieceError | None = None
        self._mismatch: TaskDigestMismatch | None = None
        self._is_hopeless = False

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int | None:
        """How many pieces the task has; None while nobody knows."""
        if self._short is not None:
            return self._short + 1
        hold = self._hold()
        return hold if hold and self._is_end(hold) else None

    @property
    def is_complete(self) -> bool:
        """Whether every piece up to the end is verified, and the whole is not known to be wrong."""
        end = self.end
        return end is not None and self.prefix >= end and not self._is_hopeless

    @property
    def content_length(self) -> int | None:
        """Bytes of the whole task; None while nobody knows."""
        end = self.end
        if end is None or self.piece_length is None or end - 1 not in self.verified:
            return None
        return (end - 1) * self.piece_length + self.verified[end - 1].length

    @property
    def prefix_length(self) -> int:
        """Bytes that are verified from the first one on without a gap."""
        if not self.prefix or self.piece_length is None:
            return 0
        return (self.prefix - 1) * self.piece_length + self.verified[self.prefix - 1].length

    @property
    def requests_under_way(self) -> int:
        """How many requests have no answer yet, those that are withdrawn too."""
        return len(self._under_way)

    def standing(self, parent: str) -> Standing:
        """What is thought of a parent."""
        return self._parents[parent].standing

    # -- what is to be done --------------------------------------------------------------------------------------------

    def next_request(self) -> Request | None:
        """The next request, which counts as under way from now on; None while there is nothing to ask."""
        if len(self._under_way) >= self._limit or self.is_complete:
            return None
        for number in self._askable():
            parent = self._best_parent(number)
            if parent is not None:
                return self._ask(parent, number)
        return None

    def next_withdrawn(self) -> Request | None:
        """
        A request that is to be cancelled, each once; None while there is none. It is under way until its answer is
        recorded, whichever that is: nothing comes of it.
        """
        return self._to_withdraw.pop() if self._to_withdraw else None

    def failure(self) -> TaskError | None:
        """Why the task cannot be had, as soon as that is certain: a piece of it can be had from nobody."""
        if self._mismatch is not None and self._is_hopeless:
            return self._mismatch
        if not any(self._is_lost(number) for number in self._askable()):
            return None
        if self._mismatch is not None:
            return self._mismatch
        if self._last_error is None or all(0 in parent.lacks for parent in self._parents.values()):
            return TaskNotFound(self.task_id, f"expected its first piece at {', '.join(self._parents)}, got not found")
        return NoParentLeft(self.task_id, self._last_error)

    # -- what has come -------------------------------------------------------------------------------------------------

    def judge(self, request: Request, metadata: PieceMetadata) -> None:
        """
        See whether the piece that a parent announces can be the one that was asked for, by all that is known now.

        :raises PieceRefused: it cannot.
        """
        if request in self._withdrawn:
            raise PieceRefused("the request has been given up")
        for reason, accusers in self._contradictions(request.number, metadata):
            # Who contradicts itself lies, whoever else says the same.
            self._contradicted[request] = None if accusers is None or request.parent in accusers else accusers
            raise PieceRefused(reason)

    def record_verified(self, request: Request, metadata: PieceMetadata) -> None:
        """The piece has come, and has its digest. What is known by now may still make it a lie."""
        if request in self._withdrawn:
            self._settle(request)
            return
        try:
            self.judge(request, metadata)
        except PieceRefused as refusal:
            name = piece_id(self.task_id, request.number)
            self.record_failure(request, UnexpectedPiece(request.parent, name, str(refusal)))
            return
        parent = self._settle(request)
        if self.piece_length is None:
            self.piece_length = metadata.length
        if metadata.length < self.piece_length or not metadata.length:
            self._short = request.number
            # Only liars have sent what comes after the last piece: from others it would have contradicted this one.
            self._drop([number for number in self.verified if number > request.number])
        self.verified[request.number] = VerifiedPiece(parent=request.parent, length=metadata.length)
        self.verified_length += metadata.length
        self._returned.discard(request.number)
        self._advance_prefix()
        self._believe(parent)

    def record_failure(self, request: Request, error: PieceError) -> None:
        """The parent did not give the piece: what follows depends on why."""
        withdrawn = request in self._withdrawn
        accusers = self._contradicted.get(request)
        parent = self._settle(request)
        if withdrawn or (accusers is not None and not accusers):
            return  # given up, or refused on the word of liars alone: that says nothing about the parent
        if isinstance(error, PieceNotFound):
            parent.lacks.add(request.number)
            self._believe(parent)
            self._last_error = self._last_error or error
            return
        self._last_error = error
        if isinstance(error, InvalidPiece):
            self._expose(parent, accusers)
        elif isinstance(error, PieceTimeout):
            parent.standing = Standing.OUT
            self._withdraw(parent)
        else:
            parent.failures[request.number] += 1
            self._doubt(parent, request.round)

    def record_cancelled(self, request: Request) -> None:
        """The request has been cancelled: the piece can be asked for again."""
        self._settle(request)

    def record_mismatch(self, got: str) -> None:
        """
        The task is complete, and does not have the SHA-256 that its ID is. If somebody is known to have lied, what came
        from there is to be fetched again from others; and who has sent it all has lied.

        :param got: the SHA-256 that it has.
        """
        end, length = self.end or 0, self.content_length
        senders = sorted({self.verified[number].parent for number in range(end)})
        whole = f"{length} bytes in {end} pieces from {', '.join(senders)}"
        reason = f"expected SHA-256 {self.task_id}, got {got}, of {whole}"
        self._mismatch = TaskDigestMismatch(self.task_id, reason)
        if len(senders) == 1:
            self._expose(self._parents[senders[0]], None)
        self._drop([number for number, piece in self.verified.items() if not self._is_honest(piece.parent)])
        self._is_hopeless = self.is_complete and self.content_length == length

    # -- what to ask ---------------------------------------------------------------------------------------------------

    def _askable(self) -> Iterator[int]:
        """What may be asked for now, and is neither verified nor under way, lowest first, with one new number."""
        if self.piece_length is None:
            if 0 not in self._under_way:
                yield 0
            return
        while self._frontier in self.verified or self._frontier in self._under_way:
            self._frontier += 1
        end, hold = self.end, self._hold()
        for number in (*sorted(self._returned), self._frontier):
            if (end is None or number < end) and (hold is None or number <= hold):
                yield number

    def _ask(self, parent: _Parent, number: int) -> Request:
        """Count a request as under way."""
        request = Request(parent=parent.address, number=number, round=parent.round)
        parent.asked += 1
        parent.under_way += 1
        self._under_way[number] = request
        self._returned.discard(number)
        return request

    def _best_parent(self, number: int) -> _Parent | None:
        """Of the parents that can be asked for a piece now, the one that has least to do."""
        able = [parent for parent in self._parents.values() if parent.may_have(number) and not self._is_probed(parent)]
        return min(able, key=lambda parent: (parent.under_way, parent.asked), default=None)

    def _is_probed(self, parent: _Parent) -> bool:
        """Whether a parent is in doubt, and the request that will tell is under way."""
        return parent.standing is Standing.DOUBTED and any(
            request.parent == parent.address and request.round == parent.round for request in self._under_way.values()
        )

    # -- the end -------------------------------------------------------------------------------------------------------

    def _hold(self) -> int | None:
        """The lowest number that is not verified and that some parent does not have: nothing beyond it is asked for."""
        lacking = (
            number for parent in self._parents.values() for number in parent.lacks if number not in self.verified
        )
        return min(lacking, default=None)

    def _is_end(self, number: int) -> bool:
        """Whether a number that some parent lacks is the end: nobody else can have it, nobody has what comes after."""
        return (
            number not in self._under_way
            and not self._may_be_had(number)
            and not any(later > number for later in self._honest_numbers())
        )

    def _may_be_had(self, number: int) -> bool:
        """Whether there is a parent to ask for a piece, now or later."""
        return any(parent.may_have(number) for parent in self._parents.values())

    def _is_lost(self, number: int) -> bool:
        """
        Whether a piece that is not under way can be had from nobody, and is part of the task for certain. While the end
        is unknown, a piece under way can turn out to be the last one and make those after it superfluous.
        """
        if self._may_be_had(number):
            return False
        end = self.end
        is_needed = (end is not None and number < end) or any(later > number for later in self._honest_numbers())
        return is_needed or not any(earlier < number for earlier in self._under_way)

    # -- what is thought of parents ------------------------------------------------------------------------------------

    def _is_honest(self, parent: str) -> bool:
        """Whether a parent is not known to have lied."""
        return self._parents[parent].standing is not Standing.LIED

    def _honest_numbers(self) -> Iterator[int]:
        """The numbers of the verified pieces that honest parents have sent."""
        return (number for number, piece in self.verified.items() if self._is_honest(piece.parent))

    def _senders(self, after: int = -1) -> set[str]:
        """The honest parents of which there are verified pieces after a number: who vouches for the piece length."""
        return {self.verified[number].parent for number in self._honest_numbers() if number > after}

    def _contradictions(self, number: int, metadata: PieceMetadata) -> Iterator[tuple[str, set[str] | None]]:
        """What a piece's metadata contradict, and who vouches for that; None where nobody needs to."""
        if metadata.number != number:
            yield f"expected number {number}, got {metadata.number}", None
        if number == 0 and metadata.offset != 0:
            yield f"expected offset 0, got {metadata.offset}", None
        if self.piece_length is None:
            return
        offset = number * self.piece_length
        if metadata.offset != offset:
            yield f"expected offset {offset}, {number} x {self.piece_length}, got {metadata.offset}", self._senders()
        if metadata.length > self.piece_length:
            yield f"expected at most {self.piece_length} bytes, got {metadata.length}", self._senders()
        if self._short is not None and number > self._short:
            told_by = {self.verified[self._short].parent}
            yield f"expected nothing after piece {self._short}, the last, got piece {number}", told_by
        if metadata.length < self.piece_length and (later := self._senders(number)):
            yield f"expected {self.piece_length} bytes, as others come after it, got {metadata.length}", later

    def _believe(self, parent: _Parent) -> None:
        """The parent has answered as it should."""
        if parent.standing is Standing.DOUBTED:
            parent.standing = Standing.GOOD

    def _doubt(self, parent: _Parent, failed_round: int) -> None:
        """A request of a parent has failed."""
        if failed_round == parent.round:
            parent.round += 1
            if parent.standing is Standing.GOOD:
                parent.standing = Standing.DOUBTED
            elif parent.standing is Standing.DOUBTED:
                parent.standing = Standing.OUT

    def _expose(self, parent: _Parent, accusers: set[str] | None) -> None:
        """A parent has lied: it is not asked again, and what is known from it alone is forgotten."""
        parent.accusers = accusers if parent.alive and not parent.acquitted else None
        parent.standing = Standing.LIED
        parent.lacks.clear()
        self._withdraw(parent)
        self._acquit(parent.address)
        if self._short is not None and not self._is_honest(self.verified[self._short].parent):
            self._drop([self._short])
        if self.piece_length is not None and not any(True for _ in self._honest_numbers()):
            self._start_anew()

    def _acquit(self, liar: str) -> None:
        """Whoever was called a liar on the word of liars alone is not one, but for once only: this comes to an end."""
        for accusers in self._contradicted.values():
            (accusers or set()).discard(liar)
        for parent in self._parents.values():
            if parent.standing is Standing.LIED and parent.accusers is not None:
                parent.accusers.discard(liar)
                if not parent.accusers:
                    parent.standing = Standing.GOOD
                    parent.round += 1
                    parent.acquitted = True

    # -- what is forgotten ---------------------------------------------------------------------------------------------

    def _start_anew(self) -> None:
        """Nobody vouches for the piece length any more: no piece's place is known."""
        for parent in self._parents.values():
            self._withdraw(parent)
        self._drop(list(self.verified))
        self._returned.clear()
        self._frontier = 0
        self.piece_length = None

    def _drop(self, numbers: list[int]) -> None:
        """Forget verified pieces: they are to be fetched again."""
        for number in numbers:
            self.verified_length -= self.verified.pop(number).length
            self._returned.add(number)
            self.prefix = min(self.prefix, number)
            if number == self._short:
                self._short = None
        self.drops += bool(numbers)

    def _withdraw(self, parent: _Parent) -> None:
        """Have the requests of a parent cancelled."""
        for request in self._under_way.values():
            if request.parent == parent.address and request not in self._withdrawn:
                self._withdrawn.add(request)
                self._to_withdraw.append(request)

    def _settle(self, request: Request) -> _Parent:
        """A request is under way no more. Its parent."""
        del self._under_way[request.number]
        self._contradicted.pop(request, None)
        if request in self._withdrawn:
            self._withdrawn.discard(request)
            # It may have had its answer before anybody came to cancel it.
            self._to_withdraw = [other for other in self._to_withdraw if other is not request]
        if request.number < self._frontier:
            self._returned.add(request.number)
        parent = self._parents[request.parent]
        parent.under_way -= 1
        return parent

    def _advance_prefix(self) -> None:
        """Count the pieces without a gap anew, after one more is verified."""
        while self.prefix in self.verified:
            self.prefix += 1
