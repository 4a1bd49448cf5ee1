"""
Asks parents which pieces they have, and records their announcements. :class:`Announcements` has no I/O, clock or
reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.task.layout import Contradiction
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.pieces import Comparison, Pieces
from dragonfly_vortex.task.reputation import Reputation
from dragonfly_vortex.task.timing import Timing
from dragonfly_vortex.task.waits import Waits
from dragonfly_vortex.wire import PieceKind

__all__ = ["Announcements", "Inquiries"]


class Announcements:
    """
    The pieces that parents announce.

    :param parents: the parents that can be asked, by address.
    :param sources: these and the storage, by name.
    :param pieces: what is asked of them.
    :param reputation: that of the parents.
    :param timing: the time of the download.
    :param waits: what is waited for.
    :param comparison: the pieces that are compared; None where all parents are believed.
    """

    def __init__(
        self,
        parents: Mapping[str, Parent],
        sources: Mapping[str, Parent],
        pieces: Pieces,
        reputation: Reputation,
        timing: Timing,
        waits: Waits,
        comparison: Comparison | None,
    ) -> None:
        self.parents = parents
        """The parents that can be asked."""
        self._sources = sources
        self._pieces = pieces
        self._reputation = reputation
        self._timing = timing
        self._waits = waits
        self._comparison = comparison

    def begin(self, parent: str) -> None:
        """Record that a parent is asked what it has. From now on it gives announced pieces only, see :meth:`add`."""
        self._sources[parent].begin_announcing()

    def learn(self, parent: str, content_length: int | None, piece_length: int | None) -> None:
        """
        Record the lengths that a parent or the storage names.

        :param parent: its address; :data:`~dragonfly_vortex.task.parent_state.STORAGE` for what is there already.
        :param content_length: bytes of the whole; None for what it does not say.
        :param piece_length: bytes of every piece but the last; None for what it does not say.
        """
        if content_length is not None and piece_length is not None:
            piece_length = min(piece_length, content_length)  # of a task of one piece that is the piece's own length
        self._reputation.learn(self._sources[parent], 0, content_length, piece_length)
        self._place()

    def add(self, parent: str, number: int, offset: int, length: int) -> None:
        """
        Record a piece that a parent announces. That says something about the layout, too.

        :param offset: where the piece starts, in bytes.
        :param length: bytes of it.
        """
        if self._is_news(self._sources[parent], number, offset, length):
            self._timing.progressed_at = self._timing.now
            self._place()

    def end(self, parent: str, finished: bool) -> None:
        """
        Record the end of a parent's announcements. Where parents are asked again, it is asked what it has, unless it
        has announced all of the task, see :meth:`~dragonfly_vortex.task.waits.Waits.next_inquiry`.

        :param finished: whether it has what it has announced and nothing else. Otherwise that is not known, and it may
            be asked for anything.
        """
        told_by, layout, numbers = self._sources[parent], self._pieces.layout, self._pieces.numbers
        told_by.end_announcing(is_open=not finished)
        numbers.offer_anew(told_by)
        if len(told_by.announced) != layout.told_count:
            self._waits.lacked(told_by)
        elif 2 * len(layout.verified) < len(told_by.announced):
            told_by.was_whole = True
        numbers.find_orphans()

    def _is_news(self, parent: Parent, number: int, offset: int, length: int) -> bool:
        """Record a piece that a parent has, and what it says about the layout; whether the parent said so before."""
        got = f"got {length} bytes at {offset}"
        if number in parent.announced:
            if parent.announced[number] != (offset, length):
                self._reputation.record_lie(parent, number, Contradiction(f"expected what it has announced, {got}"))
            return False
        parent.announce(number, offset, length)
        if offset % number if number else offset:
            self._reputation.record_lie(parent, number, Contradiction(f"expected a piece at its place, {got}"))
            return True
        # A first piece that is shorter than the piece length is the only one, and then its length is the piece length.
        piece_length = offset // number if number else parent.told_piece_length or length
        content_length = offset + length if length < piece_length or not length else None
        self._reputation.learn(parent, number, content_length, piece_length)
        if length > piece_length:
            reason = f"expected at most {piece_length} bytes, got {length}"
            self._reputation.record_lie(parent, number, Contradiction(reason))
        else:
            self._pieces.numbers.offer(parent, number)
        return True

    def _place(self) -> None:
        """Compare the places of the pieces in the file with what has become known of the task."""
        if self._comparison is not None:
            self._comparison.place()


class Inquiries:
    """
    The inquiries of one download, about one task.

    :param clock: the reactor's.
    :param announcers: the parents that can be asked what they have, by address. One may be added at any time.
    :param announcements: records what they say.
    :param on_told: called once for all that is recorded in one turn of the reactor.
    """

    def __init__(
        self,
        clock: IReactorTime,
        announcers: Mapping[str, IPieceAnnouncer],
        announcements: Announcements,
        kind: PieceKind,
        task_id: str,
        on_told: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._announcers = announcers
        self._announcements = announcements
        self._kind = kind
        self._task_id = task_id
        self._on_told = on_told
        self._stops: dict[str, Callable[[], None]] = {}
        self._telling: IDelayedCall | None = None

    def follow(self, announcements: Announcements) -> None:
        """Ask the parents of a plan, and no others, from now on."""
        self.stop()
        self._announcements = announcements
        for parent in announcements.parents.values():
            if not parent.is_removed:
                self.begin(parent.address)

    def begin(self, parent: str) -> None:
        """Ask a parent what it has, if it can be asked that and is not being asked."""
        if parent in self._announcers and parent not in self._stops:
            self._announcements.begin(parent)
            self.repeat(parent)

    def repeat(self, parent: str) -> None:
        """Ask a parent once more what it has."""
        self._stops[parent] = self._announcers[parent].start(
            self._kind,
            self._task_id,
            partial(self._record, self._announcements.learn, parent),
            partial(self._record, self._announcements.add, parent),
            partial(self._record, self._announcements.end, parent),
        )

    def end(self, parent: str) -> None:
        """Ask a parent no more, if it is being asked."""
        stop = self._stops.pop(parent, None)
        if stop is not None:
            stop()

    def stop(self) -> None:
        """Ask no parent any more."""
        for parent in list(self._stops):
            self.end(parent)
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _record(self, record: Callable[..., None], parent: str, *told: int | None) -> None:
        """Record what a parent has said. The next step of the plan comes after all that arrives in this turn."""
        record(parent, *told)
        if self._telling is None:
            self._telling = self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        """Report that something has been recorded."""
        self._telling = None
        self._on_told()
