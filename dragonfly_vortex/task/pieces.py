"""
The pieces of a task that are verified or requested, what is forgotten of both, and the comparison with the pieces of
one parent. No I/O, clock or reactor.

A piece that another parent has sent is compared: the parent is asked for it, and names its digest before its content
comes. Where the digests are equal the piece stays, otherwise it is dropped, and fetched from this parent.

The reputation of parents, and what follows from it for their pieces, is in
:mod:`~dragonfly_vortex.task.reputation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence

from dragonfly_vortex.errors import PieceRefused
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.task.layout import Layout, VerifiedPiece, Wanted
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.picker import Picker
from dragonfly_vortex.task.piece_numbers import PieceNumbers
from dragonfly_vortex.task.source_choice import SourceChoice
from dragonfly_vortex.task.swarm import Swarm
from dragonfly_vortex.task.timing import Request, Timing
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Comparison", "Described", "Pieces"]

_MOST_TWICE = 0.02
"""The part of a task that may be fetched twice, so that its last pieces need not be waited for."""


class Pieces:
    """
    The pieces of a task that is being downloaded.

    :param parents: the parents that can be asked, by address.
    :param sources: all that give pieces and announcements, by name: the parents and the storage.
    :param timing: how far the requests are.
    :param random: gives a random number from 0 to 1, for a choice among equals.
    :param is_in_order: whether the bytes are read in order while they come.
    :param back_to_source: when the source is asked, where one of the parents is the source.
    :param from_source: counts the pieces that are asked of it, by the reasons.
    :param wanted: what is wanted first, or alone; None for all alike.
    """

    def __init__(
        self,
        parents: Mapping[str, Parent],
        sources: Mapping[str, Parent],
        timing: Timing,
        random: Callable[[], float],
        *,
        is_in_order: bool = False,
        back_to_source: BackToSource = BackToSource.LAST_RESORT,
        from_source: Counter[str] | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        self.layout = Layout(sources)
        """What is known of the task."""
        self.swarm = Swarm(parents, self.layout, timing, random, is_in_order=is_in_order)
        """Chooses where parents announce different pieces."""
        source = next((parent for parent in parents.values() if parent.is_source), None)
        self.source_choice: SourceChoice | None = None
        """Chooses what is asked of the source; None where there is no source."""
        if source is not None:
            reasons = Counter() if from_source is None else from_source
            self.source_choice = SourceChoice(source, parents, self.layout, timing, back_to_source, reasons)
        self.numbers = PieceNumbers(parents, self.layout, self.swarm, self.source_choice, wanted)
        """Which pieces are free, and where the task ends."""
        self.picker = Picker(parents, self.layout, self.numbers, self.swarm, self.source_choice)
        """Chooses the next piece and its parent."""
        self.fetched_twice = 0
        """Bytes that arrived twice, because another parent gave their piece first."""
        self.drops = 0
        """How often verified pieces have been forgotten."""
        self.removed: set[tuple[int, VerifiedPiece]] = set()
        """All pieces that were in the file and are not to be offered any more, with their numbers."""
        self.withdrawn: set[Request] = set()
        """The requests under way that have been given up."""
        self.dropped: list[int] = []
        """The numbers that :meth:`take_dropped` returns next."""
        self._parents = parents
        self._timing = timing
        self._to_withdraw: list[Request] = []  # those of them that are still to be cancelled

    # -- what is there -------------------------------------------------------------------------------------------------

    @property
    def are_all_there(self) -> bool:
        """Whether every piece up to the end is verified."""
        layout, numbers = self.layout, self.numbers
        prefix = layout.prefix
        is_fetched = prefix in numbers.under_way and prefix not in numbers.owed
        if is_fetched and layout.short is None and layout.told_count is None:
            return False  # the first one that is missing is not the end yet
        end = numbers.end
        return end is not None and prefix >= end

    @property
    def content_length(self) -> int | None:
        """Bytes of the whole task; None while that is unknown."""
        known = self.layout.content_length
        if known is not None:
            return known
        end, piece_length, verified = self.numbers.end, self.layout.piece_length, self.layout.verified
        if end is None or piece_length is None or end - 1 not in verified:
            return None
        return (end - 1) * piece_length + verified[end - 1].length

    def add(self, number: int, piece: VerifiedPiece) -> None:
        """Add a verified piece."""
        self.layout.add(number, piece)
        if self.layout.short == number:
            # Only liars have sent pieces after the last one: from others they would have contradicted it.
            self.drop([later for later in self.layout.verified if later > number])
        self.numbers.forget(number)
        self.numbers.busy.discard(number)
        for request in self.numbers.under_way.get(number, ()):  # another copy of it
            self._withdraw(request)

    def drop(self, numbers: list[int]) -> None:
        """Forget verified pieces: they are not to be offered any more, and to be fetched again."""
        self.forget({number: self.layout.verified[number] for number in numbers})
        self.lose(numbers)

    def lose(self, numbers: list[int]) -> None:
        """Forget those of these pieces that are verified, and have not been offered: they are to be fetched again."""
        numbers = [number for number in numbers if number in self.layout.verified]
        self.layout.drop(numbers)
        for number in numbers:
            self.numbers.put_back(number)
        self.drops += bool(numbers)

    def forget(self, pieces: Mapping[int, VerifiedPiece]) -> None:
        """Record that pieces which are in the file are not to be offered any more."""
        self.removed.update(pieces.items())
        self.dropped += pieces

    def replace(self, there: Mapping[int, VerifiedPiece]) -> None:
        """
        Forget the verified pieces that others have replaced in the file meanwhile.

        :param there: the pieces that are in the file by now.
        """
        verified = self.layout.verified
        new = {number: piece for number, piece in there.items() if number not in verified}
        other = [n for n, piece in verified.items() if n not in there or not piece.is_like(there[n])]
        self.removed.update((number, there[number]) for number in other if number in there)
        self.drop(other)
        # A forged piece has the digest of the right one: the parent that sent what is there by now counts.
        others = [n for n, piece in verified.items() if piece.parent != there[n].parent]
        self.layout.drop(others)
        for number in others:
            self.layout.add(number, there[number])
        self.forget(new)

    def take_dropped(self) -> list[int]:
        """The numbers of the pieces that have been forgotten since this was called last."""
        dropped, self.dropped = self.dropped, []
        return dropped

    def start_anew(self) -> None:
        """Forget all pieces and the piece length, and withdraw all requests: no piece's place is known any more."""
        for parent in self._parents.values():
            self.withdraw(parent)
        self.drop(list(self.layout.verified))
        self.numbers.start_anew()
        self.layout.set_piece_length(None)

    # -- what is asked for ---------------------------------------------------------------------------------------------

    def ask(self, compared: Container[int] = ()) -> Request | None:
        """
        The next request, which is under way from now on; None while there is nothing to ask.

        :param compared: numbers of which only the digest is asked for.
        """
        chosen = self.picker.next() or self.picker.better(may_fetch_twice=self.may_fetch_twice())
        if chosen is None:
            return None
        parent, number = chosen
        is_moved = self._move(number)
        _, announced_length = parent.announced.get(number, (0, parent.told_piece_length))
        request = Request(
            parent=parent.address,
            number=number,
            round=parent.round,
            is_spare=number in self.numbers.under_way and not is_moved,
            is_comparison=number in compared,
            announced_length=announced_length,
        )
        parent.asked += 1
        parent.under_way += 1
        self.numbers.take(request)
        return request

    def _move(self, number: int) -> bool:
        """In a swarm, cancel the requests for a piece of which nothing has arrived; whether no other is under way."""
        requests = self.numbers.under_way.get(number, ())
        if not self.swarm.is_on or any(map(self._timing.has_begun, requests)):
            return False
        for request in requests:
            self._withdraw(request)
            self.swarm.moved(request)
        return True

    def wanted_twice(self, owed: set[int]) -> set[int]:
        """
        Of the pieces that are under way in slow requests alone, those that are to be asked of other parents as well.
        Where too much was fetched twice, a piece that still arrives is waited for in a swarm while others come, too.
        """
        under_way = self.numbers.under_way
        if not self.swarm.is_on or len(owed) == len(under_way) or self.may_fetch_twice():
            return owed
        return {number for number in owed if not any(map(self._timing.has_begun, under_way[number]))}

    def may_fetch_twice(self) -> bool:
        """Whether the limit of bytes that arrive twice allows another copy of a piece, beside those under way."""
        content_length, piece_length = self.content_length, self.layout.piece_length or 0
        copies = sum(len(requests) - 1 for requests in self.numbers.under_way.values())
        return content_length is not None and (
            self.fetched_twice + (1 + copies) * piece_length <= _MOST_TWICE * content_length
        )

    def settle(self, request: Request, *, is_given: bool = False) -> Parent:
        """
        Remove a request that has ended, and return its parent.

        :param is_given: whether the piece is added next, so that nothing is to ask for it again.
        """
        if request in self.withdrawn:
            self.withdrawn.discard(request)
            # It may have had its answer before it could be cancelled.
            self._to_withdraw = [other for other in self._to_withdraw if other is not request]
        self.numbers.settle(request, is_given=is_given)
        parent = self._parents[request.parent]
        parent.under_way -= 1
        return parent

    def withdraw(self, parent: Parent) -> None:
        """Have the requests of a parent cancelled."""
        for requests in self.numbers.under_way.values():
            for request in requests:
                if request.parent == parent.address:
                    self._withdraw(request)

    def _withdraw(self, request: Request) -> None:
        """Have a request cancelled."""
        if request not in self.withdrawn:
            self.withdrawn.add(request)
            self._to_withdraw.append(request)

    def next_withdrawn(self) -> Request | None:
        """A request that is to be cancelled, each once; None while there is none."""
        return self._to_withdraw.pop() if self._to_withdraw else None

    # -- what others fetch ---------------------------------------------------------------------------------------------

    def leave_to_others(self, number: int) -> None:
        """
        Record that another process is fetching a piece: it is neither requested nor missed until
        :meth:`take_from_others`.
        """
        if number not in self.numbers.under_way:
            self.numbers.forget(number)
            self.numbers.busy.add(number)

    def take_from_others(self) -> None:
        """Make the pieces that other processes are fetching free again."""
        busy = sorted(self.numbers.busy)
        self.numbers.busy.clear()
        for number in busy:
            self.numbers.put_back(number)


class Described(PieceRefused):
    """
    Raised when a parent has described a piece that is only compared: its content is not wanted.

    :param metadata: what it has said.
    """

    def __init__(self, metadata: PieceMetadata) -> None:
        super().__init__("only the digest was asked for")
        self.metadata = metadata


class Comparison:
    """
    The comparison of the pieces in the file with those of one parent.

    :param parent: the parent's address.
    :param pieces: the pieces that are as it gives them; none yet.
    :param there: the pieces in the file, by number.
    :param by_digest: whether pieces of others with equal digests stay; otherwise all that the parent has are fetched.
    """

    def __init__(
        self, parent: str, pieces: Pieces, there: Mapping[int, VerifiedPiece], *, by_digest: bool = True
    ) -> None:
        self.parent = parent
        self.there = dict(there)
        """The pieces in the file that are not known to be as the parent gives them, by number."""
        self.confirmed: set[int] = set()
        """Numbers of the pieces of others that the parent describes in the same way."""
        self._pieces = pieces
        self._placed_for: int | None = None
        self._by_digest = by_digest
        self._adopt([0])
        self.place()

    # -- one piece -----------------------------------------------------------------------------------------------------

    def compare(self, metadata: PieceMetadata) -> None:
        """Compare a piece in the file with the parent's description; one that differs is fetched again."""
        number = metadata.number
        piece = self.there.get(number)
        if piece is None:  # it was replaced meanwhile
            return
        if piece.is_as(metadata) and self._by_digest:
            del self.there[number]
            if piece.parent != self.parent:
                self.confirmed.add(number)
            self._pieces.add(number, piece)
        else:
            self._replace([number])

    # -- all pieces ----------------------------------------------------------------------------------------------------

    def place(self) -> None:
        """
        Once the piece length is known, drop what lies at other places, and keep what the parent itself has sent before.
        """
        length = self._pieces.layout.piece_length
        if length is None or length == self._placed_for:
            return
        self._placed_for = length
        self._replace([n for n, piece in self.there.items() if piece.offset != n * length or piece.length > length])
        self._adopt(sorted(self.there))

    def _adopt(self, numbers: Sequence[int]) -> None:
        """Keep those of these pieces that the parent itself has sent, unless it contradicts itself."""
        for number in numbers:
            piece = self.there.get(number)
            if piece is None or piece.parent != self.parent:
                continue
            metadata = PieceMetadata(number=number, offset=piece.offset, length=piece.length, digest=piece.digest)
            if next(self._pieces.layout.contradictions(number, metadata), None) is None:
                del self.there[number]
                self._pieces.add(number, piece)

    def _replace(self, numbers: Sequence[int]) -> None:
        """These pieces are to be fetched from the parent."""
        self._pieces.forget({number: self.there.pop(number) for number in numbers})
