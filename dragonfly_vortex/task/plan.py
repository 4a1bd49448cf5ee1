"""
Which piece is asked of which parent next, and what each answer changes. No I/O here, no clock and no reactor.

What is thought of a parent is in :mod:`~dragonfly_vortex.task.parents`, what is known of the task in
:mod:`~dragonfly_vortex.task.layout`, and who can be asked for what in :mod:`~dragonfly_vortex.task.choice`. Until the
piece length is known nothing but piece 0 is asked for; then new numbers are, one after the other, and those that have
come back because their requests failed. After the first "not found" nothing beyond it is asked for, but what has been
announced.

What was there before counts as sent by :data:`~dragonfly_vortex.task.parents.STORAGE`, which is believed like a parent,
but is the first to be doubted: when the whole is wrong, or when all parents contradict it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from dragonfly_vortex.task.choice import Choice, Request
from dragonfly_vortex.task.layout import Contradiction, Layout, VerifiedPiece
from dragonfly_vortex.task.parents import STORAGE, Parent, Standing
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Plan", "Request", "Standing", "VerifiedPiece"]

_MOST_BUSY = 256
"""Numbers that others may be fetching before no more is asked for: they may have claimed all that there are."""


class Plan:
    """
    The course of one download: :meth:`next_request` as long as it gives one, an answer to each by one of the
    ``record_`` methods, the requests that :meth:`next_withdrawn` gives are to be cancelled, and the pieces that
    :meth:`take_dropped` gives are not to be offered any more. It is over when :attr:`is_complete`, or with
    :meth:`failure`.

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
        self.prefix = 0
        """How many pieces from the first one on are verified without a gap."""
        self.drops = 0
        """How often verified pieces have been forgotten: what was made of their bytes is void then."""
        self._limit = concurrent_piece_count
        self._parents = {address: Parent(address=address) for address in parents}
        self._storage = Parent(address=STORAGE, is_open=False)
        self._everybody = {**self._parents, STORAGE: self._storage}
        self._layout = Layout(self._everybody)
        self._choice = Choice(self._parents, self._layout)
        self._to_withdraw: list[Request] = []
        self._withdrawn: set[Request] = set()
        self._contradicted: dict[Request, set[str] | None] = {}
        self._dropped: list[int] = []
        self._last_error: PieceError | None = None
        self._mismatch: TaskDigestMismatch | None = None
        self._is_hopeless = False

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def piece_length(self) -> int | None:
        """Bytes of every piece but the last; None while nobody knows."""
        return self._layout.piece_length

    @property
    def verified(self) -> dict[int, VerifiedPiece]:
        """The verified pieces, by number."""
        return self._layout.verified

    @property
    def verified_length(self) -> int:
        """Bytes of all verified pieces."""
        return self._layout.verified_length

    @property
    def end(self) -> int | None:
        """How many pieces the task has; None while nobody knows."""
        return self._choice.end

    @property
    def is_complete(self) -> bool:
        """Whether every piece up to the end is verified, and the whole is not known to be wrong."""
        end = self.end
        return end is not None and self.prefix >= end and not self._is_hopeless

    @property
    def content_length(self) -> int | None:
        """Bytes of the whole task; None while nobody knows."""
        known = self._layout.content_length
        if known is not None:
            return known
        end = self.end
        if end is None or self.piece_length is None or end - 1 not in self.verified:
            return None
        return (end - 1) * self.piece_length + self.verified[end - 1].length

    @property
    def certain_length(self) -> int | None:
        """
        Bytes of the whole task as its last piece or a parent says; None while it is known at the most that nobody has
        more: then what there is may be but a part of it.
        """
        return self._layout.content_length

    @property
    def prefix_length(self) -> int:
        """Bytes that are verified from the first one on without a gap."""
        if not self.prefix or self.piece_length is None:
            return 0
        return (self.prefix - 1) * self.piece_length + self.verified[self.prefix - 1].length

    @property
    def requests_under_way(self) -> int:
        """How many requests have no answer yet, those that are withdrawn too."""
        return len(self._choice.under_way)

    @property
    def is_waiting_for_others(self) -> bool:
        """Whether somebody else is fetching a piece."""
        return bool(self._choice.busy)

    def standing(self, parent: str) -> Standing:
        """What is thought of a parent."""
        return self._parents[parent].standing

    # -- what is to be done --------------------------------------------------------------------------------------------

    def next_request(self) -> Request | None:
        """The next request, which counts as under way from now on; None while there is nothing to ask."""
        if len(self._choice.under_way) >= self._limit or len(self._choice.busy) >= _MOST_BUSY or self.is_complete:
            return None
        chosen = self._choice.next()
        if chosen is None:
            return None
        parent, number = chosen
        request = Request(parent=parent.address, number=number, round=parent.round)
        parent.asked += 1
        parent.under_way += 1
        self._choice.take(request)
        return request

    def next_withdrawn(self) -> Request | None:
        """
        A request that is to be cancelled, each once; None while there is none. It is under way until its answer is
        recorded, whichever that is: nothing comes of it.
        """
        return self._to_withdraw.pop() if self._to_withdraw else None

    def take_dropped(self) -> list[int]:
        """The numbers of the pieces that have been forgotten since this was called last."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def failure(self) -> TaskError | None:
        """Why the task cannot be had, as soon as that is certain: a piece of it can be had from nobody."""
        if self._mismatch is not None and self._is_hopeless:
            return self._mismatch
        lost = self._choice.lost()
        if lost is None:
            return None
        if self._mismatch is not None:
            return self._mismatch
        names = ", ".join(self._parents)
        if 0 not in self.verified and (
            self._last_error is None or all(0 in parent.lacks for parent in self._parents.values())
        ):
            return TaskNotFound(self.task_id, f"expected its first piece at {names}, got not found")
        unknown = PieceNotFound(
            names, piece_id(self.task_id, lost), "expected one of them to have it, got none that has"
        )
        return NoParentLeft(self.task_id, self._last_error or unknown)

    # -- what has come -------------------------------------------------------------------------------------------------

    def judge(self, request: Request, metadata: PieceMetadata) -> None:
        """
        See whether the piece that a parent announces can be the one that was asked for, by all that is known now.

        :raises PieceRefused: it cannot.
        """
        if request in self._withdrawn:
            raise PieceRefused("the request has been given up")
        for reason, accusers in self._contradictions(request, metadata):
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
        self._believe(self._settle(request))
        self._add(request.number, VerifiedPiece(parent=request.parent, length=metadata.length))

    def record_present(self, metadata: PieceMetadata) -> None:
        """
        A piece is there already. The piece length is known by then, see :meth:`learn_layout`.

        :raises PieceRefused: it cannot be a piece of the task that is being downloaded.
        """
        for reason, _ in self._layout.contradictions(metadata.number, metadata):
            raise PieceRefused(reason)
        if metadata.number not in self.verified:
            self._add(metadata.number, VerifiedPiece(parent=STORAGE, length=metadata.length))

    def record_failure(self, request: Request, error: PieceError) -> None:
        """The parent did not give the piece: what follows depends on why."""
        withdrawn = request in self._withdrawn
        accusers = self._contradicted.get(request)
        parent = self._settle(request)
        if withdrawn or (accusers is not None and not accusers):
            return  # given up, or refused on the word of liars alone: that says nothing about the parent
        if isinstance(error, PieceNotFound):
            self._choice.lack(parent, request.number)
            self._believe(parent)
            self._last_error = self._last_error or error
        elif isinstance(error, InvalidPiece):
            self._last_error = error
            self._expose(parent, accusers)
        elif isinstance(error, PieceTimeout):
            self._last_error = error
            parent.standing = Standing.OUT
            self._withdraw(parent)
            self._choice.find_orphans()
        else:
            self._last_error = error
            parent.failures[request.number] += 1
            self._doubt(parent, request.round)
        self._choice.find_orphans({request.number})

    def record_cancelled(self, request: Request) -> None:
        """The request has been cancelled: the piece can be asked for again."""
        self._settle(request)

    def record_busy(self, request: Request) -> None:
        """Somebody else is fetching the piece: it is neither asked for nor missed until :meth:`release_busy`."""
        parent = self._settle(request)
        parent.asked -= 1
        self._choice.forget(request.number)
        self._choice.busy.add(request.number)

    def release_busy(self) -> None:
        """What others were fetching may be there by now, or may not come from them: it can be asked for again."""
        busy = sorted(self._choice.busy)
        self._choice.busy.clear()
        for number in busy:
            self._choice.put_back(number)

    def record_mismatch(self, got: str) -> None:
        """
        The task is complete, and does not have the SHA-256 that its ID is. What was there before is fetched anew, and
        what parents have only said is not believed any more. If somebody is known to have lied, what came from there is
        to be fetched again from others; and who has sent it all has lied.

        :param got: the SHA-256 that it has.
        """
        end, length = self.end or 0, self.content_length
        senders = sorted({self.verified[number].parent for number in range(end)})
        names = ", ".join(sender or "the storage" for sender in senders)
        reason = f"expected SHA-256 {self.task_id}, got {got}, of {length} bytes in {end} pieces from {names}"
        if self.certain_length is None:
            reason += f"; nobody has a piece {end}, but the task may have one"
        self._mismatch = TaskDigestMismatch(self.task_id, reason)
        if STORAGE in senders and self._storage.is_honest and self.certain_length is not None:
            self._expose(self._storage, None)
            return
        if self._layout.believes_tellings:
            self._layout.believes_tellings = False
            self._check_vouchers()
            if not (self.is_complete and self.content_length == length):
                return
        others = (parent for name, parent in self._parents.items() if name not in senders)
        if (
            self.certain_length is None
            and all(self._everybody[sender].is_honest for sender in senders)
            and not any(parent.is_alive or parent.accusers for parent in others)
        ):
            self._is_hopeless = True  # and what there is may be right, as far as it goes
            return
        if len(senders) == 1 and senders[0] != STORAGE:
            self._expose(self._parents[senders[0]], None)
        self._drop([number for number, piece in self.verified.items() if not self._everybody[piece.parent].is_honest])
        self._is_hopeless = self.is_complete and self.content_length == length

    # -- what is told --------------------------------------------------------------------------------------------------

    def announcing_began(self, parent: str) -> None:
        """From now on a parent is asked only for what it has announced, see :meth:`announce`."""
        self._parents[parent].is_announcing = True
        self._parents[parent].is_open = False

    def announce(self, parent: str, number: int, offset: int, length: int) -> None:
        """
        A parent says that it has a piece. That says something about the layout, too.

        :param offset: where the piece starts, in bytes.
        :param length: bytes of it.
        """
        told_by = self._parents[parent]
        if number in told_by.announced:
            if told_by.announced[number] != (offset, length):
                self._record_lie(
                    told_by, number, f"expected what it has announced, got {length} bytes at {offset}", None
                )
            return
        told_by.announced[number] = offset, length
        if offset % number if number else offset:
            self._record_lie(told_by, number, f"expected a piece at its place, got {length} bytes at {offset}", None)
            return
        piece_length = offset // number if number else max(length, self.piece_length or 0)
        content_length = offset + length if length < piece_length or not length else None
        self._learn(told_by, number, content_length, piece_length)
        if length > piece_length:
            self._record_lie(told_by, number, f"expected at most {piece_length} bytes, got {length}", None)
        else:
            self._choice.offer(told_by, number)

    def announcing_ended(self, parent: str, finished: bool) -> None:
        """
        A parent announces nothing more.

        :param finished: whether it has and will have what it has announced and nothing else. Otherwise nobody knows,
            and it may be asked for anything.
        """
        told_by = self._parents[parent]
        told_by.is_announcing = False
        if not finished:
            told_by.is_open = True
            told_by.offer_anew(self._choice.returned)
        self._choice.find_orphans()

    def learn_layout(self, parent: str, content_length: int | None, piece_length: int | None) -> None:
        """
        A parent says how a task is cut, or the storage does.

        :param parent: its address; :data:`~dragonfly_vortex.task.parents.STORAGE` for what is there already.
        :param content_length: bytes of the whole; None for what it does not say.
        :param piece_length: bytes of every piece but the last; None for what it does not say.
        """
        if content_length is not None and piece_length is not None:
            piece_length = min(piece_length, content_length)  # of a task of one piece that is the piece's own length
        self._learn(self._everybody[parent], 0, content_length, piece_length)

    # -- what is thought of parents ------------------------------------------------------------------------------------

    def _contradictions(self, request: Request, metadata: PieceMetadata) -> Iterator[Contradiction]:
        """What a piece's metadata contradict."""
        announced = self._parents[request.parent].announced.get(request.number)
        if announced not in (None, (metadata.offset, metadata.length)):
            reason = f"expected {announced[1]} bytes at {announced[0]}, as it has announced" if announced else ""
            yield f"{reason}, got {metadata.length} at {metadata.offset}", None
        yield from self._layout.contradictions(request.number, metadata)

    def _learn(self, parent: Parent, number: int, content_length: int | None, piece_length: int | None) -> None:
        """Take what a parent says of the layout for true, unless it cannot be."""
        for reason, accusers in self._layout.contradictions_of_telling(content_length, piece_length):
            self._record_lie(parent, number, reason, accusers)
            return
        if piece_length is not None:
            parent.told_piece_length = piece_length
        if content_length is not None:
            parent.told_content_length = content_length
        if parent.is_honest and self._layout.believes_tellings and self.piece_length is None:
            self._layout.piece_length = piece_length

    def _record_lie(self, parent: Parent, number: int, reason: str, accusers: set[str] | None) -> None:
        """A parent has said what cannot be true."""
        if parent.is_honest:
            self._last_error = UnexpectedPiece(parent.address, piece_id(self.task_id, number), reason)
            self._expose(parent, None if accusers is None or parent.address in accusers else accusers)

    def _believe(self, parent: Parent) -> None:
        """The parent has answered as it should."""
        if parent.standing is Standing.DOUBTED:
            parent.standing = Standing.GOOD

    def _doubt(self, parent: Parent, failed_round: int) -> None:
        """A request of a parent has failed."""
        if failed_round == parent.round:
            parent.round += 1
            if parent.standing is Standing.GOOD:
                parent.standing = Standing.DOUBTED
            elif parent.standing is Standing.DOUBTED:
                parent.standing = Standing.OUT
                self._choice.find_orphans()

    def _expose(self, parent: Parent, accusers: set[str] | None) -> None:
        """A parent has lied: it is not asked again, and what is known from it alone is forgotten."""
        parent.accusers = accusers if parent.is_alive and not parent.acquitted else None
        parent.standing = Standing.LIED
        parent.lacks.clear()
        self._withdraw(parent)
        self._acquit(parent.address)
        short = self._layout.short
        if parent is self._storage:
            self._drop([number for number, piece in self.verified.items() if piece.parent == STORAGE])
        elif short is not None and not self._everybody[self.verified[short].parent].is_honest:
            self._drop([short])
        self._check_vouchers()
        self._choice.find_orphans()
        is_anybody_left = any(other.is_alive for other in self._parents.values())
        if not is_anybody_left and self._storage.is_honest and STORAGE in (parent.accusers or ()):
            self._expose(self._storage, None)

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
                    parent.offer_anew(self._choice.returned)

    # -- what is there, and what is forgotten --------------------------------------------------------------------------

    def _add(self, number: int, piece: VerifiedPiece) -> None:
        """A piece is verified."""
        self._layout.add(number, piece)
        if self._layout.short == number:
            # Only liars have sent what comes after the last piece: from others it would have contradicted this one.
            self._drop([later for later in self.verified if later > number])
        self._choice.forget(number)
        self._choice.busy.discard(number)
        while self.prefix in self.verified:
            self.prefix += 1

    def _check_vouchers(self) -> None:
        """If nobody vouches for the piece length any more, no piece's place is known."""
        if self.piece_length is None or self._layout.vouchers():
            return
        for parent in self._parents.values():
            self._withdraw(parent)
        self._drop(list(self.verified))
        self._choice.start_anew()
        self._layout.piece_length = None
        for parent in self._parents.values():
            self._learn(parent, 0, parent.told_content_length, parent.told_piece_length)

    def _drop(self, numbers: list[int]) -> None:
        """Forget verified pieces: they are to be fetched again."""
        self._layout.drop(numbers)
        for number in numbers:
            self.prefix = min(self.prefix, number)
            self._choice.put_back(number)
        self._dropped += numbers
        self.drops += bool(numbers)

    def _withdraw(self, parent: Parent) -> None:
        """Have the requests of a parent cancelled."""
        for request in self._choice.under_way.values():
            if request.parent == parent.address and request not in self._withdrawn:
                self._withdrawn.add(request)
                self._to_withdraw.append(request)

    def _settle(self, request: Request) -> Parent:
        """A request is under way no more. Its parent."""
        del self._choice.under_way[request.number]
        self._contradicted.pop(request, None)
        if request in self._withdrawn:
            self._withdrawn.discard(request)
            # It may have had its answer before anybody came to cancel it.
            self._to_withdraw = [other for other in self._to_withdraw if other is not request]
        if request.number not in self.verified:
            self._choice.put_back(request.number)
        parent = self._parents[request.parent]
        parent.under_way -= 1
        return parent
