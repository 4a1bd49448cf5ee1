"""
Who is believed: which parents are in doubt, out, or have lied, and what is forgotten for that. No I/O here, no clock
and no reactor.

A parent has lied if what it gives or says contradicts what is known; if a piece does not have its digest; or if it has
sent all of a task that is wrong as a whole. What is known from liars alone is forgotten, and who was called a liar on
their word alone is not one. The states, and what leads from one to the next, are in
:mod:`~dragonfly_vortex.task.parents`; what there is to contradict is in :mod:`~dragonfly_vortex.task.layout`.

What was there before counts as sent by :data:`~dragonfly_vortex.task.parents.STORAGE`, which is believed like a parent,
but is the first to be doubted: when the whole is wrong, or when all parents contradict it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dragonfly_vortex.errors import PieceError, PieceRefused, TaskDigestMismatch, UnexpectedPiece
from dragonfly_vortex.interfaces import piece_id
from dragonfly_vortex.task.choice import Request
from dragonfly_vortex.task.layout import Contradiction
from dragonfly_vortex.task.parents import STORAGE, Parent, Standing
from dragonfly_vortex.task.pieces import Pieces
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Trust"]


class Trust:
    """
    What is thought of those who send pieces and tell of them.

    :param task_id: the task, for messages.
    :param parents: those who can be asked, by address.
    :param everybody: those and the storage.
    :param pieces: what they have sent, and what they are asked for.
    """

    def __init__(
        self, task_id: str, parents: Mapping[str, Parent], everybody: Mapping[str, Parent], pieces: Pieces
    ) -> None:
        self.last_error: PieceError | None = None
        """Why a parent did not give what it was asked for, or what it said that cannot be true."""
        self.mismatch: TaskDigestMismatch | None = None
        """The whole has been wrong."""
        self.is_hopeless = False
        """Whether it is wrong still, and nobody else is to be asked for any of it."""
        self._task_id = task_id
        self._parents = parents
        self._everybody = everybody
        self._storage = everybody[STORAGE]
        self._pieces = pieces
        self._layout = pieces.layout
        self._choice = pieces.choice
        self._contradicted: dict[Request, set[str] | None] = {}

    # -- what is known against what comes ------------------------------------------------------------------------------

    def judge(self, request: Request, metadata: PieceMetadata) -> None:
        """
        See whether the piece that a parent announces can be the one that was asked for.

        :raises PieceRefused: it cannot; :meth:`accusers` tells who vouches for what it contradicts.
        """
        for reason, accusers in self._contradictions(request, metadata):
            # Who contradicts itself lies, whoever else says the same.
            self._contradicted[request] = None if accusers is None or request.parent in accusers else accusers
            raise PieceRefused(reason)

    def _contradictions(self, request: Request, metadata: PieceMetadata) -> Iterator[Contradiction]:
        """What a piece's metadata contradict."""
        announced = self._parents[request.parent].announced.get(request.number)
        if announced not in (None, (metadata.offset, metadata.length)):
            reason = f"expected {announced[1]} bytes at {announced[0]}, as it has announced" if announced else ""
            yield f"{reason}, got {metadata.length} at {metadata.offset}", None
        yield from self._layout.contradictions(request.number, metadata)

    def accusers(self, request: Request) -> set[str] | None:
        """
        Who vouches for what a refused piece contradicts and is not known to have lied since; None where nobody needs
        to, or where no piece was refused.
        """
        return self._contradicted.get(request)

    def forget(self, request: Request) -> None:
        """A request is under way no more."""
        self._contradicted.pop(request, None)

    def learn(self, parent: Parent, number: int, content_length: int | None, piece_length: int | None) -> None:
        """Take what a parent says of the layout for true, unless it cannot be."""
        for reason, accusers in self._layout.contradictions_of_telling(content_length, piece_length):
            self.record_lie(parent, number, reason, accusers)
            return
        if piece_length is not None:
            parent.told_piece_length = piece_length
        if content_length is not None:
            parent.told_content_length = content_length
        if parent.is_honest and self._layout.believes_tellings and self._layout.piece_length is None:
            self._layout.piece_length = piece_length

    # -- what is thought of parents ------------------------------------------------------------------------------------

    def believe(self, parent: Parent) -> None:
        """The parent has answered as it should."""
        if parent.standing is Standing.DOUBTED:
            parent.standing = Standing.GOOD

    def doubt(self, parent: Parent, failed_round: int) -> None:
        """A request of a parent has failed."""
        if failed_round == parent.round:
            parent.round += 1
            if parent.standing is Standing.GOOD:
                parent.standing = Standing.DOUBTED
            elif parent.standing is Standing.DOUBTED:
                parent.standing = Standing.OUT
                self._choice.find_orphans()

    def give_up(self, parent: Parent) -> None:
        """A parent does not answer: it is asked for nothing more, and nothing is waited for."""
        parent.standing = Standing.OUT
        self._pieces.withdraw(parent)
        self._choice.find_orphans()

    def record_lie(self, parent: Parent, number: int, reason: str, accusers: set[str] | None) -> None:
        """A parent has said what cannot be true."""
        if parent.is_honest:
            self.last_error = UnexpectedPiece(parent.address, piece_id(self._task_id, number), reason)
            self.expose(parent, None if accusers is None or parent.address in accusers else accusers)

    def expose(self, parent: Parent, accusers: set[str] | None) -> None:
        """
        A parent has lied: it is not asked again, and what is known from it alone is forgotten.

        :param accusers: who vouches for what it contradicts; None where it is a lie whatever others say.
        """
        parent.accusers = accusers if parent.is_alive and not parent.acquitted else None
        parent.standing = Standing.LIED
        parent.lacks.clear()
        self._pieces.withdraw(parent)
        self._acquit(parent.address)
        short = self._layout.short
        if parent is self._storage:
            self._pieces.drop([number for number, piece in self._layout.verified.items() if piece.parent == STORAGE])
        elif short is not None and not self._everybody[self._layout.verified[short].parent].is_honest:
            self._pieces.drop([short])
        self._check_vouchers()
        self._choice.find_orphans()
        is_anybody_left = any(other.is_alive for other in self._parents.values())
        if not is_anybody_left and self._storage.is_honest and STORAGE in (parent.accusers or ()):
            self.expose(self._storage, None)

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

    def _check_vouchers(self) -> None:
        """If nobody vouches for the piece length any more, no piece's place is known."""
        if self._layout.piece_length is None or self._layout.vouchers():
            return
        self._pieces.start_anew()
        for parent in self._parents.values():
            self.learn(parent, 0, parent.told_content_length, parent.told_piece_length)

    # -- when the whole is wrong ---------------------------------------------------------------------------------------

    def record_mismatch(self, got: str) -> None:
        """
        All pieces are there, and together they do not have the SHA-256 that the task's ID is. What was there before is
        fetched anew, and what parents have only said is not believed any more. If somebody is known to have lied, what
        came from there is to be fetched again from others; and who has sent it all has lied.

        :param got: the SHA-256 that they have.
        """
        layout, pieces = self._layout, self._pieces
        end, length = self._choice.end or 0, pieces.content_length
        senders = sorted({layout.verified[number].parent for number in range(end)})
        self.mismatch = TaskDigestMismatch(self._task_id, self._reason(got, length, end, senders))
        if STORAGE in senders and self._storage.is_honest and layout.content_length is not None:
            self.expose(self._storage, None)
            return
        if layout.believes_tellings:
            layout.believes_tellings = False
            self._check_vouchers()
            if not (pieces.are_all_there and pieces.content_length == length):
                return
        others = (parent for name, parent in self._parents.items() if name not in senders)
        if (
            layout.content_length is None
            and all(self._everybody[sender].is_honest for sender in senders)
            and not any(parent.is_alive or parent.accusers for parent in others)
        ):
            self.is_hopeless = True  # and what there is may be right, as far as it goes
            return
        if len(senders) == 1 and senders[0] != STORAGE:
            self.expose(self._parents[senders[0]], None)
        pieces.drop(
            [number for number, piece in layout.verified.items() if not self._everybody[piece.parent].is_honest]
        )
        self.is_hopeless = pieces.are_all_there and pieces.content_length == length

    def _reason(self, got: str, length: int | None, end: int, senders: list[str]) -> str:
        """What was expected of the whole and what came."""
        names = ", ".join(sender or "the storage" for sender in senders)
        reason = f"expected SHA-256 {self._task_id}, got {got}, of {length} bytes in {end} pieces from {names}"
        if self._layout.content_length is None:
            reason += f"; nobody has a piece {end}, but the task may have one"
        return reason
