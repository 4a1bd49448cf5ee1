"""
The scheduler of a download: decides which piece is requested from which parent next, and what each answer changes. No
I/O, clock or reactor.

Here each answer is taken apart: what it says about the piece goes to :mod:`~dragonfly_vortex.task.pieces`, what it says
about its parent to :mod:`~dragonfly_vortex.task.reputation`. What is known of the task is in
:mod:`~dragonfly_vortex.task.layout`, and which parent can be asked for which piece in
:mod:`~dragonfly_vortex.task.picker`.

Until the piece length is known nothing but piece 0 is asked for; then new numbers are, one after the other, and those
whose requests failed. After the first "not found" nothing beyond it is asked for, but what has been announced.
Decisions by time are in :mod:`~dragonfly_vortex.task.timing`, waits and the lines about them in
:mod:`~dragonfly_vortex.task.waits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dragonfly_vortex.errors import (
    EndDisputed,
    EndUnknown,
    InvalidPiece,
    ParentRefused,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceRefused,
    PieceTimeout,
    TaskError,
    UnexpectedPiece,
)
from dragonfly_vortex.model import BackToSource, piece_id
from dragonfly_vortex.task.announcements import Announcements
from dragonfly_vortex.task.layout import Contradiction, VerifiedPiece, Wanted
from dragonfly_vortex.task.parent_state import STORAGE, Parent, Standing
from dragonfly_vortex.task.pieces import Comparison, Described, Pieces
from dragonfly_vortex.task.reputation import Reputation
from dragonfly_vortex.task.timing import Request, Timing
from dragonfly_vortex.task.waits import Waits
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Plan"]

END_DISPUTED_AT = 4 * 1024 * 1024 * 1024
"""
Bytes from which on a parent is not followed without end where another one says that the task is much shorter: hundreds
of pieces of the longest that Dragonfly makes need more, and no disk is full of them.
"""

_AT_ONCE_WITHOUT_END = 32
"""
Requests at once while it is not known how many pieces the task has; or as many as there are verified pieces. A user may
allow thousands, and the task may have five pieces.
"""

_MOST_BUSY = 256
"""Numbers that others may be fetching before no more is asked for: they may have claimed all that there are."""


class Plan:
    """
    The course of one download: :meth:`next_request` as long as it gives one, an answer to each by one of the
    ``record_`` methods, the requests that :meth:`~dragonfly_vortex.task.pieces.Pieces.next_withdrawn` gives are to be
    cancelled, and the pieces that :meth:`~dragonfly_vortex.task.pieces.Pieces.take_dropped` gives are not to be offered
    any more. It is over when :attr:`is_complete`, or with :meth:`failure`. The time is that of the last
    :meth:`advance`.

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
    :param jitter: gives a random number from 0 to 1: for the choice among equally rare pieces, and to shorten the
        pauses before a parent is asked again.
    :param is_in_order: whether the bytes are read in order while they come, so that the first piece comes first.
    :param source: which of the parents is the source; empty for none.
    :param back_to_source: when it is asked. A source that is never to be asked is none of the parents.
    :param from_source: counts the pieces that are asked of it, by the reasons of
        :mod:`~dragonfly_vortex.task.source_choice`.
    :param wanted: what is wanted first, or alone, which may change at any time; None for all alike.
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
        is_in_order: bool = False,
        source: str = "",
        back_to_source: BackToSource = BackToSource.LAST_RESORT,
        from_source: Counter[str] | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        if not parents:
            raise ValueError("expected at least one parent, got none")
        if concurrent_piece_count < 1:
            raise ValueError(f"expected to ask for at least one piece at once, got {concurrent_piece_count}")
        self.task_id = task_id
        self.parents = {address: Parent(address=address, is_source=address == source) for address in parents}
        """What is known of each parent, by address."""
        sources = {STORAGE: Parent(address=STORAGE, is_open=False), **self.parents}
        for piece in (there or {}).values():  # of those that are not asked, the pieces are known nevertheless
            sources.setdefault(piece.parent, Parent(address=piece.parent, standing=Standing.OUT))
        self.timing = Timing(self.parents, limit=concurrent_piece_count, late_after=late_after, jitter=jitter)
        """How far the requests are."""
        self.pieces = Pieces(
            self.parents,
            sources,
            self.timing,
            jitter,
            is_in_order=is_in_order,
            back_to_source=back_to_source,
            from_source=from_source,
            wanted=wanted,
        )
        """Which pieces are there, and which are asked for."""
        self.layout = self.pieces.layout
        """What is known of the task."""
        self.numbers = self.pieces.numbers
        """Which pieces are free, and where the task ends."""
        self.reputation = Reputation(task_id, self.parents, sources, self.pieces, end_disputed_at)
        """The reputation of parents."""
        self.waits = Waits(self.parents, self.numbers, self.timing, retry)
        """What is waited for."""
        self.comparison = None if there is None else Comparison(parents[0], self.pieces, there, by_digest=compares)
        """The pieces that are compared; None where all parents are believed."""
        self.announcements = Announcements(
            self.parents, sources, self.pieces, self.reputation, self.timing, self.waits, self.comparison
        )
        """What parents say that they have."""
        self.may_be_empty = False
        """Whether a parent is believed that says that the task has no bytes, because there is no digest to tell."""
        self._sources = sources
        self._limit = concurrent_piece_count

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Whether every piece up to the end is verified, and the whole is not known to be wrong."""
        return self.pieces.are_all_there and not self.reputation.is_hopeless and not self.reputation.is_end_unknown

    @property
    def is_known_empty(self) -> bool:
        """Whether a parent says that the task has no bytes, which is believed, and its one piece is not there yet."""
        is_empty = self.may_be_empty and self.layout.told_length == 0
        return is_empty and 0 not in self.layout.verified and not self.numbers.under_way

    @property
    def requests_under_way(self) -> int:
        """How many requests have no answer yet, those that are withdrawn and those that are slow too."""
        return self.timing.count

    @property
    def there(self) -> dict[int, VerifiedPiece]:
        """The pieces that are in the file, those that are not compared yet too."""
        return {**(self.comparison.there if self.comparison is not None else {}), **self.layout.verified}

    def has(self, number: int) -> bool:
        """Whether a piece is in the file."""
        is_compared = self.comparison is not None and number in self.comparison.there
        return number in self.layout.verified or is_compared

    # -- the parents ---------------------------------------------------------------------------------------------------

    def add_parent(self, address: str, *, is_awaited: bool = True) -> None:
        """Ask one more parent, or one again that was removed or did not answer. See :meth:`.Parent.name_again`."""
        if address in self.parents:
            self.parents[address].name_again(is_awaited=is_awaited)
        else:
            self.parents[address] = self._sources[address] = Parent(address=address, is_awaited=is_awaited)
        self.numbers.offer_anew(self.parents[address])
        self.numbers.find_orphans()

    def remove_parent(self, address: str) -> None:
        """Ask a parent for nothing more. Its requests that are under way go on, and its pieces stay."""
        if address in self.parents:
            self.parents[address].remove()
            self.numbers.find_orphans()

    # -- what is to be done --------------------------------------------------------------------------------------------

    def next_request(self) -> Request | None:
        """The next request, which counts as under way from now on; None while there is nothing to ask."""
        at_once = self.requests_under_way - self.timing.slow_count
        if at_once >= self._limit or len(self.numbers.busy) >= _MOST_BUSY or self.is_complete:
            return None
        has_many = at_once >= max(_AT_ONCE_WITHOUT_END, len(self.layout.verified))
        if has_many and self.numbers.end is None:
            return None
        request = self.pieces.ask(compared=() if self.comparison is None else self.comparison.there)
        if request is not None:
            self.timing.begin(request)
        return request

    def stuck(self) -> str | None:
        """Why it is useless to wait for what other processes fetch; None where it is not, or nothing is waited for."""
        if self.requests_under_way or not self.numbers.busy or self.timing.progressed_at is None:
            return None
        return self.waits.stuck(self.timing.now - self.timing.progressed_at)

    def failure(self) -> TaskError | None:
        """Why the task cannot be downloaded, as soon as that is certain: no parent can give a piece of it."""
        if self.reputation.mismatch is not None and self.reputation.is_hopeless:
            return self.reputation.mismatch
        if self.reputation.is_end_unknown:
            return EndUnknown(
                self.task_id,
                "expected a parent that says how long it is, as they do over gRPC, got"
                f" {self.layout.prefix_length} bytes behind which no parent has a piece, and no digest of the whole"
                " that would show that these are all",
            )
        if self.reputation.is_end_disputed and not self.is_complete:
            reason = f"expected an end of the task, got {self.layout.prefix_length} bytes without one"
            return EndDisputed(self.task_id, reason)
        lost = self.numbers.lost()
        if lost is None:
            return None
        return self.reputation.loss(lost, self.waits.overdue(piece_id(self.task_id, lost)))

    # -- what time changes ---------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """
        Advance the time: parents that have rested are asked again, requests may be slow by now, and what did not come
        in the time for retries will not be waited for any more.

        :param now: seconds since any moment in the past, never less than before.
        """
        timing = self.timing
        timing.now = now
        if now < timing.look_at:
            return
        if timing.progressed_at is None:
            timing.progressed_at = now
        if not self.is_complete:
            self.waits.recover()
        self.reputation.look_at_end(now, is_alone=self.comparison is not None)
        timing.look()
        if self.pieces.source_choice is not None:
            self.pieces.source_choice.advance(is_idle=not self.requests_under_way)
        under_way = self.numbers.under_way.items()
        owed = {number for number, asked in under_way if all(map(timing.is_slow, asked))}
        self.waits.look_at_silent(owed)
        self.numbers.owed = self.pieces.wanted_twice(owed) if len(self.parents) > 1 else set()
        if not (under_way or self.numbers.busy or self.is_complete or self.numbers.has_all_wanted):
            self.waits.look_at_idle(now - timing.progressed_at)

    # -- answers -------------------------------------------------------------------------------------------------------

    def judge(self, request: Request, metadata: PieceMetadata) -> None:
        """
        Check whether the piece that a parent announces can be the one that was asked for, by all that is known now.

        :raises PieceRefused: it cannot, or is not wanted. :meth:`record_refusal` is the answer to the request then.
        """
        if request in self.pieces.withdrawn:
            raise PieceRefused("the request has been given up")
        is_alone = len(self.parents) == 1 and not self.parents[request.parent].announced
        if is_alone and self.layout.is_whole_piece(request.number, metadata):
            self.numbers.last_promised = max(self.numbers.last_promised, request.number)
        else:
            self.reputation.judge(request, metadata)
        self.timing.hear(request)
        if request.is_comparison:
            raise Described(metadata)

    def record_verified(self, request: Request, metadata: PieceMetadata, waited: float = 0.0) -> None:
        """
        Record a piece that fits its digest. What is known by now may still make it a lie.

        :param waited: seconds that it waited for this side's own limit.
        """
        try:
            self.judge(request, metadata)
        except PieceRefused as refusal:
            self.record_refusal(request, refusal)
            return
        seconds = self.timing.end(request) - waited
        parent = self.pieces.settle(request, is_given=True)
        self.timing.came(parent, metadata.length, seconds)
        if self.waits.reasons or self.waits.told:
            self.waits.came(parent)
        self.pieces.add(request.number, VerifiedPiece.of(request.parent, metadata))
        self.reputation.named.pop(request.number, None)
        if self.comparison is not None:
            self.comparison.place()
        if self.layout.prefix >= self.reputation.look_from:
            self.reputation.look_at_end(self.timing.now, is_alone=self.comparison is not None)

    def record_present(self, metadata: PieceMetadata) -> None:
        """
        Record a piece that is in the file already. The piece length is known by then, see
        :meth:`.Announcements.learn`.

        :raises PieceRefused: it cannot be a piece of the task that is being downloaded.
        """
        for contradiction in self.layout.contradictions(metadata.number, metadata):
            raise contradiction
        if metadata.number in self.layout.verified:
            return
        self.timing.progressed_at = self.timing.now
        piece = VerifiedPiece.of(STORAGE, metadata)
        if self.comparison is None:
            self.pieces.add(metadata.number, piece)
        else:
            self.comparison.there[metadata.number] = piece
            self.pieces.take_from_others()

    def record_refusal(self, request: Request, refusal: PieceRefused) -> None:
        """Record that :meth:`judge` has refused the piece: unless it was not wanted, its parent has lied."""
        is_wanted = request not in self.pieces.withdrawn
        parent, _ = self._settle(request)
        if not is_wanted:
            return
        parent.heard_at = self.timing.now
        if isinstance(refusal, Described) and self.comparison is not None:
            parent.answer()
            self.comparison.compare(refusal.metadata)
            self.comparison.place()
        elif isinstance(refusal, Contradiction):
            accusers = self.reputation.accusers(parent, refusal)
            if accusers is None or accusers:  # or else it was refused on the word of liars alone
                error = UnexpectedPiece(request.parent, piece_id(self.task_id, request.number), str(refusal))
                self.reputation.record_false_answer(parent, request.number, error, accusers)

    def record_failure(self, request: Request, error: PieceError) -> None:
        """Record that the parent did not give the piece: what follows depends on why."""
        is_wanted = request not in self.pieces.withdrawn
        parent, seconds = self._settle(request)
        if not is_wanted:
            return
        if not isinstance(error, (ParentUnreachable, PieceTimeout)):
            parent.heard_at = self.timing.now
        if isinstance(error, InvalidPiece):
            self.reputation.record_false_answer(parent, request.number, error)
            return
        if isinstance(error, PieceNotFound):
            self.reputation.last_error = self.reputation.last_error or error
            parent.answer()
            self.numbers.lack(parent, request.number)
            self.waits.lacked(parent)
            if error.content_length is not None:
                self.reputation.learn(parent, request.number, error.content_length, None)
        else:
            self.reputation.record_failure(parent, request, error, self.timing.now, seconds)
        if isinstance(error, ParentRefused):
            self.numbers.find_orphans()
            return
        if not parent.is_alive or parent.has_failed_at(request.number):
            self.waits.failed(parent, error)
            self.numbers.find_orphans()
        self.numbers.find_orphans({request.number})

    def record_cancelled(self, request: Request, received: int = 0) -> None:
        """
        Record that the request has been cancelled: the piece can be asked for again, unless another parent gave it.

        :param received: bytes of the piece that have arrived.
        """
        number = request.number
        if number in self.layout.verified or len(self.numbers.under_way[number]) > 1:
            self.pieces.fetched_twice += received
            self.timing.overtaken(request)
        self._settle(request)

    def record_busy(self, request: Request, owner: tuple[int, int] | None = None) -> None:
        """
        Record that another process is fetching the piece: it is neither asked for nor missed until
        :meth:`~dragonfly_vortex.task.pieces.Pieces.take_from_others`.

        :param owner: which process, and a number that changes while it runs.
        """
        self.waits.look_at_busy(request, owner)
        parent, _ = self._settle(request)
        parent.asked -= 1
        if parent.is_source and self.pieces.source_choice is not None:
            self.pieces.source_choice.take_back(request.number)
        self.pieces.leave_to_others(request.number)

    def _settle(self, request: Request) -> tuple[Parent, float]:
        """Remove a request that has ended. Its parent, and the seconds that it has taken."""
        seconds = self.timing.end(request)
        return self.pieces.settle(request), seconds
