"""
Which piece is asked of which parent next, and what each answer changes. No I/O here, no clock and no reactor.

Here each answer is taken apart: what it says about the piece goes to :mod:`~dragonfly_vortex.task.pieces`, what it says
about its parent to :mod:`~dragonfly_vortex.task.reputation`. What is known of the task is in
:mod:`~dragonfly_vortex.task.layout`, and who can be asked for what in :mod:`~dragonfly_vortex.task.picker`.

Until the piece length is known nothing but piece 0 is asked for; then new numbers are, one after the other, and those
that have come back because their requests failed. After the first "not found" nothing beyond it is asked for, but what
has been announced.

What time changes is in :mod:`~dragonfly_vortex.task.timing`, and what a user is told of it in
:mod:`~dragonfly_vortex.task.waits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dragonfly_vortex.errors import (
    EndDisputed,
    InvalidPiece,
    NoParentLeft,
    ParentUnreachable,
    PieceError,
    PieceLate,
    PieceNotFound,
    PieceRefused,
    PieceTimeout,
    TaskError,
    TaskNotFound,
    UnexpectedPiece,
)
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.task.comparison import Comparison
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE, Parent, Standing
from dragonfly_vortex.task.picker import Request
from dragonfly_vortex.task.pieces import Pieces
from dragonfly_vortex.task.reputation import Trust
from dragonfly_vortex.task.timing import Timing
from dragonfly_vortex.task.waits import Waits
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Plan", "Request", "Standing", "VerifiedPiece"]

END_DISPUTED_AT = 4 * 1024 * 1024 * 1024
"""
Bytes from which on a parent is not followed without end where another one says that the task is much shorter: hundreds
of pieces of the longest that Dragonfly makes need more, and no disk is full of them.
"""

_MOST_BUSY = 256
"""Numbers that others may be fetching before no more is asked for: they may have claimed all that there are."""


class Plan:
    """
    The course of one download: :meth:`next_request` as long as it gives one, an answer to each by one of the
    ``record_`` methods, the requests that :meth:`next_withdrawn` gives are to be cancelled, and the pieces that
    :meth:`take_dropped` gives are not to be offered any more. It is over when :attr:`is_complete`, or with
    :meth:`failure`. The time is what :meth:`advance` was told last.

    :param task_id: the task, for messages.
    :param parents: the parents' addresses; each counts once.
    :param concurrent_piece_count: how many requests may be under way at once, without those that are slow.
    :param there: the pieces that are in the file already, where the task is to be as its only parent gives it, see
        :mod:`~dragonfly_vortex.task.trials`. They count as verified when the parent has given or described them.
    :param compares: whether pieces of others are compared before they are fetched anew.
    :param end_disputed_at: bytes without a gap from which on the task fails where its end is disputed: where a parent
        says that it ends much earlier; in a trial in any case.
    :param retry: seconds without progress for which parents that failed are asked again; 0 for not at all.
    :param late_after: seconds after which a piece is late, and its parent is asked for fewer at once.
    :param jitter: gives a random number from 0 to 1, which shortens the pauses before a parent is asked again.
    :raises ValueError: there is no parent, or nothing may be asked.
    """

    def __init__(
        self,
        task_id: str,
        parents: Sequence[str],
        concurrent_piece_count: int,
        *,
        there: Mapping[int, VerifiedPiece] | None = None,
        compares: bool = True,
        end_disputed_at: int = END_DISPUTED_AT,
        retry: float = 0.0,
        late_after: float = 360.0,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        if not parents:
            raise ValueError("expected at least one parent, got none")
        if concurrent_piece_count < 1:
            raise ValueError(f"expected to ask for at least one piece at once, got {concurrent_piece_count}")
        self.task_id = task_id
        self._limit = concurrent_piece_count
        self._parents = {address: Parent(address=address) for address in parents}
        self._everybody = {STORAGE: Parent(address=STORAGE, is_open=False), **self._parents}
        for piece in (there or {}).values():  # of those that are not asked, the pieces are known nevertheless
            self._everybody.setdefault(piece.parent, Parent(address=piece.parent, standing=Standing.OUT))
        self._pieces = Pieces(self._parents, self._everybody)
        self._trust = Trust(task_id, self._parents, self._everybody, self._pieces)
        self._layout = self._pieces.layout
        self._choice = self._pieces.choice
        self._end_disputed_at = end_disputed_at
        self._is_end_disputed = False
        self._comparison = None if there is None else Comparison(parents[0], self._pieces, there, by_digest=compares)
        self._timing = Timing(self._parents, limit=concurrent_piece_count, late_after=late_after, jitter=jitter)
        self._waits = Waits(self._parents, self._choice, self._timing, retry)
        self._retry = retry

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
        return self._pieces.are_all_there and not self._trust.is_hopeless

    @property
    def content_length(self) -> int | None:
        """Bytes of the whole task; None while nobody knows."""
        return self._pieces.content_length

    @property
    def is_end_doubtful(self) -> bool:
        """Whether the task ends where a parent lacks a piece, and another parent may have it that rests or is slow."""
        end = self._choice.end
        return end is not None and self.certain_length is None and self._choice.may_turn_up(end)

    @property
    def certain_length(self) -> int | None:
        """
        Bytes of the whole task as its last piece or a parent says; None while it is known at the most that nobody has
        more: then what there is may be but a part of it.
        """
        return self._layout.content_length

    @property
    def prefix(self) -> int:
        """How many pieces from the first one on are verified without a gap."""
        return self._pieces.prefix

    @property
    def prefix_length(self) -> int:
        """Bytes that are verified from the first one on without a gap."""
        return self._pieces.prefix_length

    @property
    def drops(self) -> int:
        """How often verified pieces have been forgotten: what was made of their bytes is void then."""
        return self._pieces.drops

    @property
    def requests_under_way(self) -> int:
        """How many requests have no answer yet, those that are withdrawn and those that are slow too."""
        return sum(parent.under_way for parent in self._parents.values())

    def is_being_fetched(self, number: int) -> bool:
        """Whether there is a request for a piece that has no answer yet."""
        return number in self._choice.under_way

    def is_under_way(self, request: Request) -> bool:
        """Whether a request is one of this plan's, and has no answer yet."""
        return request in self._choice.under_way.get(request.number, ())

    @property
    def is_waiting_for_others(self) -> bool:
        """Whether somebody else is fetching a piece."""
        return bool(self._choice.busy)

    def standing(self, parent: str) -> Standing:
        """What is thought of a parent."""
        return self._parents[parent].standing

    @property
    def comparison(self) -> Comparison | None:
        """The pieces that are compared; None where all parents are believed."""
        return self._comparison

    @property
    def there(self) -> dict[int, VerifiedPiece]:
        """The pieces that are in the file, those that are not compared yet too."""
        return {**(self._comparison.there if self._comparison is not None else {}), **self.verified}

    @property
    def parents(self) -> list[str]:
        """The parents' addresses."""
        return list(self._parents)

    @property
    def suspects(self) -> list[Parent]:
        """The parents, with what is thought of them."""
        return list(self._parents.values())

    @property
    def got(self) -> str | None:
        """The SHA-256 of the whole, where all is there and it is wrong."""
        return self._trust.got

    def resume(self, there: Mapping[int, VerifiedPiece]) -> None:
        """
        Go on where the end was disputed, because no parent that says that the task is shorter is right.

        :param there: the pieces that are in the file by now.
        """
        self._is_end_disputed = False
        changed = [n for n, piece in there.items() if n not in self.verified or not piece.is_like(self.verified[n])]
        missing = [number for number in self.verified if number not in there]
        self._pieces.drop([number for number in (*changed, *missing) if number in self.verified])
        self._pieces.forget([number for number in changed if number not in self._pieces.layout.verified])

    def may_be_right_alone(self) -> list[str]:
        """When the download has failed: the parents by whose word alone it may succeed, the most promising first."""
        return self._trust.may_be_right_alone()

    # -- what is to be done --------------------------------------------------------------------------------------------

    def next_request(self) -> Request | None:
        """The next request, which counts as under way from now on; None while there is nothing to ask."""
        at_once = self.requests_under_way - self._timing.slow_count
        if at_once >= self._limit or len(self._choice.busy) >= _MOST_BUSY or self.is_complete:
            return None
        request = self._pieces.ask()
        if request is not None:
            self._timing.begin(request)
            if self._comparison is not None:
                self._comparison.begin(request)
        return request

    def is_comparison(self, request: Request) -> bool:
        """
        Whether only the digest of a piece is asked for, because the piece is there. The piece is not to be claimed, and
        :meth:`judge` refuses it when the parent has named its digest.
        """
        return self._comparison is not None and self._comparison.is_comparison(request)

    def next_withdrawn(self) -> Request | None:
        """
        A request that is to be cancelled, each once; None while there is none. It is under way until its answer is
        recorded, whichever that is: nothing comes of it.
        """
        return self._pieces.next_withdrawn()

    def take_dropped(self) -> list[int]:
        """The numbers of the pieces that have been forgotten since this was called last."""
        return self._pieces.take_dropped()

    def stuck(self) -> str | None:
        """Why it is in vain to wait for what other processes fetch; None where it is not, or nothing is waited for."""
        if self.requests_under_way or not self._choice.busy or self._timing.progressed_at is None:
            return None
        return self._waits.stuck(self._timing.now - self._timing.progressed_at)

    def take_waits(self) -> list[str]:
        """What is waited for, and for how long at most, as lines for a user; each wait is told once."""
        return self._waits.take()

    def failure(self) -> TaskError | None:
        """Why the task cannot be had, as soon as that is certain: a piece of it can be had from nobody."""
        mismatch, last_error = self._trust.mismatch, self._trust.last_error
        if mismatch is not None and self._trust.is_hopeless:
            return mismatch
        if self._is_end_disputed and not self.is_complete:
            return EndDisputed(self.task_id, f"expected an end of the task, got {self.prefix_length} bytes without one")
        lost = self._choice.lost()
        if lost is None:
            return None
        names = ", ".join(self._parents)
        if last_error is None and (overdue := self._waits.overdue) is not None:
            last_error = PieceTimeout(
                overdue,
                piece_id(self.task_id, lost),
                f"expected it to be announced within {self._retry:g} s, got nothing",
            )
        if 0 not in self.verified and (
            last_error is None or all(0 in parent.lacks for parent in self._parents.values())
        ):
            return TaskNotFound(self.task_id, f"expected its first piece at {names}, got not found")
        unknown = PieceNotFound(
            names, piece_id(self.task_id, lost), "expected one of them to have it, got none that has"
        )
        return NoParentLeft(self.task_id, last_error or unknown)

    # -- what time changes ---------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """
        It is so late: parents that have rested are asked again, requests may be slow by now, and what did not come in
        the time for retries will not be waited for any more.

        :param now: seconds since any moment in the past, at least as many as were told last.
        """
        timing = self._timing
        timing.now = now
        if timing.progressed_at is None:
            timing.progressed_at = now
        if not self.is_complete:
            self._waits.recover()
        if timing.look():
            under_way = self._choice.under_way.items()
            owed = {number for number, asked in under_way if all(map(timing.is_slow, asked))}
            self._choice.owed = owed if len(self._parents) > 1 else set()
            self._waits.look_at_silent(owed)
            if not (under_way or self._choice.busy or self.is_complete):
                self._waits.look_at_idle(now - timing.progressed_at)

    def record_progress(self, request: Request, received: int, length: int) -> None:
        """
        Some of a piece has come.

        :param received: bytes of it by now.
        :param length: bytes of the whole piece.
        """
        self._timing.progress(request, received, length)

    # -- what has come -------------------------------------------------------------------------------------------------

    def judge(self, request: Request, metadata: PieceMetadata) -> None:
        """
        See whether the piece that a parent announces can be the one that was asked for, by all that is known now.

        :raises PieceRefused: it cannot.
        """
        if self._pieces.is_withdrawn(request):
            raise PieceRefused("the request has been given up")
        self._trust.judge(request, metadata)
        if self._comparison is not None and self._comparison.is_comparison(request):
            self._comparison.hear(request, metadata)
            raise PieceRefused("only the digest was asked for")

    def record_verified(self, request: Request, metadata: PieceMetadata, waited: float = 0.0) -> None:
        """
        The piece has come, and has its digest. What is known by now may still make it a lie.

        :param waited: seconds that it waited for this side's own limit.
        """
        if self._pieces.is_withdrawn(request):
            self._settle(request)
            return
        try:
            self.judge(request, metadata)
        except PieceRefused as refusal:
            name = piece_id(self.task_id, request.number)
            self.record_failure(request, UnexpectedPiece(request.parent, name, str(refusal)))
            return
        seconds = self._timing.age(request) - waited
        parent = self._settle(request)
        self._trust.believe(parent)
        self._timing.came(parent, seconds)
        self._waits.came(parent)
        self._pieces.add(request.number, VerifiedPiece.of(request.parent, metadata))
        self._place()
        self._look_at_end()

    def record_present(self, metadata: PieceMetadata) -> None:
        """
        A piece is there already. The piece length is known by then, see :meth:`learn_layout`.

        :raises PieceRefused: it cannot be a piece of the task that is being downloaded.
        """
        for reason, _ in self._layout.contradictions(metadata.number, metadata):
            raise PieceRefused(reason)
        if metadata.number in self.verified:
            return
        self._timing.progressed_at = self._timing.now
        piece = VerifiedPiece.of(STORAGE, metadata)
        if self._comparison is None:
            self._pieces.add(metadata.number, piece)
        else:
            self._comparison.there[metadata.number] = piece
            self._pieces.take_from_others()

    def record_failure(self, request: Request, error: PieceError) -> None:
        """The parent did not give the piece: what follows depends on why."""
        withdrawn = self._pieces.is_withdrawn(request)
        accusers = self._trust.accusers(request)
        described = None if self._comparison is None else self._comparison.end(request)
        seconds = self._timing.age(request)
        parent = self._settle(request)
        if self._comparison is not None and described is not None and not withdrawn:
            self._trust.believe(parent)
            self._comparison.compare(described)
            self._place()
            return
        if withdrawn or (accusers is not None and not accusers):
            return  # given up, or refused on the word of liars alone: that says nothing about the parent
        if not isinstance(error, (ParentUnreachable, PieceTimeout)):
            parent.heard_at = self._timing.now
        if isinstance(error, PieceNotFound):
            self._choice.lack(parent, request.number)
            self._waits.lacked(parent)
            self._trust.believe(parent)
            self._trust.last_error = self._trust.last_error or error
        elif isinstance(error, InvalidPiece):
            self._trust.last_error = error
            self._trust.expose(parent, accusers, f"piece {request.number}: {error.reason}")
        elif isinstance(error, PieceLate) and self._timing.narrow(parent, seconds):
            self._trust.last_error = error
        elif isinstance(error, PieceTimeout):
            self._trust.last_error = error
            self._trust.give_up(parent)
        else:
            self._trust.last_error = error
            parent.failures[request.number] += 1
            self._trust.doubt(parent, request.round)
        if parent.standing is Standing.OUT or parent.has_failed_at(request.number):
            self._waits.failed(parent, error)
        self._choice.find_orphans({request.number})

    def record_cancelled(self, request: Request) -> None:
        """
        The request has been cancelled: the piece can be asked for again, unless another parent has given it.
        """
        number = request.number
        if number in self.verified or len(self._choice.under_way[number]) > 1:
            self._timing.overtaken(request)
        self._settle(request)

    def record_busy(self, request: Request, owner: tuple[int, int] | None = None) -> None:
        """
        Another process is fetching the piece: it is neither asked for nor missed until :meth:`release_busy`.

        :param owner: which process, and a number that changes while it runs.
        """
        self._waits.look_at_busy(request, owner)
        self._settle(request).asked -= 1
        self._pieces.leave_to_others(request.number)

    def release_busy(self) -> None:
        """What others were fetching may be there by now, or may not come from them: it can be asked for again."""
        self._pieces.take_from_others()

    def record_lost(self, number: int) -> None:
        """A verified piece could not be kept, as another download has taken it over: it can be asked for again."""
        if number in self.verified:
            self._pieces.lose([number])

    def record_mismatch(self, got: str) -> None:
        """
        The task is complete, and does not have the SHA-256 that its ID is: from now on that is its :meth:`failure`.

        :param got: the SHA-256 that it has.
        """
        if self.is_end_doubtful:
            self._choice.is_end_refuted = True  # it is the end because a parent lacks it, and another one may have it
            return
        self._trust.record_mismatch(got)

    # -- what is told --------------------------------------------------------------------------------------------------

    def announcing_began(self, parent: str) -> None:
        """
        A parent is asked what it has. From now on it is asked only for what it has announced, see :meth:`announce`.
        """
        announcing = self._parents[parent]
        announcing.has_announcer = announcing.is_announcing = True
        announcing.is_open = False

    def next_inquiry(self) -> str | None:
        """
        A parent that is to be asked again what it has, after :meth:`announcing_ended`, each time once; None while there
        is none. It counts as asked: its pieces come by :meth:`announce`, those that it has announced before too.
        """
        return self._waits.next_inquiry()

    def announce(self, parent: str, number: int, offset: int, length: int) -> None:
        """
        A parent says that it has a piece. That says something about the layout, too.

        :param offset: where the piece starts, in bytes.
        :param length: bytes of it.
        """
        told_by = self._parents[parent]
        if number in told_by.announced:
            if told_by.announced[number] != (offset, length):
                self._trust.record_lie(
                    told_by, number, f"expected what it has announced, got {length} bytes at {offset}", None
                )
            return
        told_by.announced[number] = offset, length
        told_by.lacks.discard(number)
        told_by.looks = 0
        told_by.is_open = told_by.is_open and not told_by.is_announcing
        self._timing.progressed_at = self._timing.now
        if offset % number if number else offset:
            self._trust.record_lie(
                told_by, number, f"expected a piece at its place, got {length} bytes at {offset}", None
            )
            return
        # A first piece that is shorter than the piece length is the only one, and then its length is the piece length.
        piece_length = offset // number if number else told_by.told_piece_length or length
        content_length = offset + length if length < piece_length or not length else None
        self._trust.learn(told_by, number, content_length, piece_length)
        if length > piece_length:
            self._trust.record_lie(told_by, number, f"expected at most {piece_length} bytes, got {length}", None)
        else:
            self._choice.offer(told_by, number)
        self._place()

    def announcing_ended(self, parent: str, finished: bool) -> None:
        """
        A parent announces nothing more. Where parents are asked again, it is asked again what it has, unless it has
        announced all of the task, see :meth:`next_inquiry`.

        :param finished: whether it has what it has announced and nothing else. Otherwise that is not known, and it may
            be asked for anything.
        """
        told_by = self._parents[parent]
        told_by.is_announcing = False
        told_by.is_open = not finished
        if not finished:
            told_by.offer_anew(self._choice.returned)
        if len(told_by.announced) != self._layout.told_count:
            self._waits.lacked(told_by)
        self._choice.find_orphans()

    def learn_layout(self, parent: str, content_length: int | None, piece_length: int | None) -> None:
        """
        A parent says how a task is cut, or the storage does.

        :param parent: its address; :data:`~dragonfly_vortex.task.parent_state.STORAGE` for what is there already.
        :param content_length: bytes of the whole; None for what it does not say.
        :param piece_length: bytes of every piece but the last; None for what it does not say.
        """
        if content_length is not None and piece_length is not None:
            piece_length = min(piece_length, content_length)  # of a task of one piece that is the piece's own length
        self._trust.learn(self._everybody[parent], 0, content_length, piece_length)
        self._place()

    def _settle(self, request: Request) -> Parent:
        """A request is under way no more. Its parent."""
        self._trust.forget(request)
        if self._comparison is not None:
            self._comparison.end(request)
        self._timing.end(request)
        return self._pieces.settle(request)

    def _look_at_end(self) -> None:
        """So much has come that the task may be one without an end: look again when there is twice as much."""
        if self.prefix_length >= self._end_disputed_at and not self._is_end_disputed:
            self._end_disputed_at = 2 * self.prefix_length
            self._is_end_disputed = self._comparison is not None or bool(self._trust.may_be_right_alone())

    def _place(self) -> None:
        """Something has become known of the task: pieces that are there may turn out to lie at other places."""
        if self._comparison is not None:
            self._comparison.place()
