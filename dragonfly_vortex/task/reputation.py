"""
The reputation of parents: which are believed, in doubt, out, or have lied, and what is forgotten for that. No I/O,
clock or reactor.

A parent has lied if what it gives or says contradicts what is known; if a piece does not have its digest; or if it has
sent all of a task that is wrong as a whole. What is known from liars alone is forgotten, and a parent that was called a
liar on their word alone is not one. Where that does not lead to a task that is right as a whole, the parents are tried
one by one, see :mod:`~dragonfly_vortex.task.trials`. The states, and what leads from one to the next, are in
:mod:`~dragonfly_vortex.task.parent_state`; what there is to contradict is in :mod:`~dragonfly_vortex.task.layout`.

What was there before counts as sent by :data:`~dragonfly_vortex.task.parent_state.STORAGE`, which is believed like a
parent, but is the first to be doubted when all parents contradict it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dragonfly_vortex.errors import (
    InvalidPiece,
    NoParentLeft,
    ParentRefused,
    ParentUnreachable,
    PieceError,
    PieceLate,
    PieceNotFound,
    PieceTimeout,
    TaskDigestMismatch,
    TaskError,
    TaskNotFound,
    UnexpectedPiece,
)
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.task.layout import Contradiction, VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE, Parent, Standing
from dragonfly_vortex.task.pieces import Pieces
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Reputation"]


_MUCH = 4
"""How many times as long as a parent says a task has to be before that parent is tried: others may have but a part."""

_DISPUTED_PIECES = 65_536
"""Pieces without a gap from which on a task without an end is disputed: pieces of a byte take time and memory, too."""

_DISPUTED_LENGTH = 65_536
"""Bytes of the pieces above, on the average. Where more bytes are taken before the dispute, more pieces are, too."""

_DISPUTED_SECONDS = 65_536
"""Seconds from which on a task without an end is disputed: a parent may give a byte now and then for ever."""


class Reputation:
    """
    The reputation of all that send pieces or announce them.

    :param task_id: the task, for messages.
    :param parents: the parents that can be asked, by address.
    :param sources: these and the storage.
    :param pieces: what they have sent, and what they are asked for.
    :param end_disputed_at: bytes without a gap from which on a task without an end is disputed.
    """

    def __init__(
        self,
        task_id: str,
        parents: Mapping[str, Parent],
        sources: Mapping[str, Parent],
        pieces: Pieces,
        end_disputed_at: int,
    ) -> None:
        self.last_error: PieceError | None = None
        """Why a parent did not give what it was asked for, or what it said that cannot be true."""
        self.mismatch: TaskDigestMismatch | None = None
        """The whole has been wrong."""
        self.got: str | None = None
        """The digest that it had."""
        self.disagreements: dict[str, str] = {}
        """Parents that name another digest for a piece than a parent before them, and what they differ in."""
        self.named: dict[int, VerifiedPiece] = {}
        """The pieces that are not verified, as the first parent that was asked for each describes it."""
        self.is_hopeless = False
        """Whether it is wrong, so that nothing more is to be asked for on the word of all together."""
        self.is_end_unknown = False
        """Whether the task ends where no parent has a piece, and there is no digest that would show whether it does."""
        self.look_from = 0
        """How many pieces without a gap there are at least when the end may have to be disputed for the length."""
        self.is_end_disputed = False
        """Whether a parent says that the task is much shorter than what there is of it, which has no end yet."""
        self._end_disputed_at = end_disputed_at
        self._pieces_disputed_at = max(_DISPUTED_PIECES, end_disputed_at // _DISPUTED_LENGTH)
        self._disputed_after: float = max(_DISPUTED_SECONDS, end_disputed_at // _DISPUTED_LENGTH)
        self._began_at: float | None = None
        self._task_id = task_id
        self._parents = parents
        self._sources = sources
        self._storage = sources[STORAGE]
        self._pieces = pieces
        self._layout = pieces.layout
        self._numbers = pieces.numbers

    # -- contradictions ------------------------------------------------------------------------------------------------

    def judge(self, request: Request, metadata: PieceMetadata) -> None:
        """
        Judge whether the piece that a parent announces can be the requested one.

        :raises Contradiction: it cannot.
        """
        announced = self._parents[request.parent].announced.get(request.number)
        if announced is not None and announced != (metadata.offset, metadata.length):
            offset, length = announced
            raise Contradiction(
                f"expected {length} bytes at {offset}, as it has announced, got {metadata.length} at {metadata.offset}"
            )
        if not self._layout.is_whole_piece(request.number, metadata):
            for contradiction in self._layout.contradictions(request.number, metadata):
                raise contradiction
        self._numbers.promised(request.number, metadata.length)
        self._compare(VerifiedPiece.of(request.parent, metadata), request.number)

    def _compare(self, piece: VerifiedPiece, number: int) -> None:
        """Record that two parents name different digests for one piece."""
        first = self.named.setdefault(number, piece)
        if first.parent != piece.parent and first.differs(piece):
            self.disagreements.setdefault(
                piece.parent, f"its piece {number} has the digest {piece.digest}, that of {first.parent} {first.digest}"
            )

    def learn(self, parent: Parent, number: int, content_length: int | None, piece_length: int | None) -> None:
        """Take over what a parent says of the layout, unless it cannot be true."""
        for contradiction in self._layout.contradictions_of_telling(content_length, piece_length):
            self.record_lie(parent, number, contradiction)
            return
        if piece_length is not None:
            parent.told_piece_length = piece_length
        if content_length is not None and content_length != parent.told_content_length:
            parent.told_content_length = content_length
            self._layout.hear_told()
        if parent.is_honest and self._layout.piece_length is None:
            self._layout.set_piece_length(piece_length)

    # -- what is thought of parents ------------------------------------------------------------------------------------

    def record_lie(self, parent: Parent, number: int, contradiction: Contradiction) -> None:
        """Record a lie of a parent."""
        if parent.is_honest:
            reason = str(contradiction)
            self.last_error = UnexpectedPiece(parent.address, piece_id(self._task_id, number), reason)
            self.expose(parent, reason, self.accusers(parent, contradiction))

    def accusers(self, parent: Parent, contradiction: Contradiction) -> set[str] | None:
        """
        The parents that vouch for what a parent contradicts and are not known to have lied; empty where only liars do.
        None where it is a lie whatever others say: a parent that contradicts itself lies, even if others say the same.
        """
        if contradiction.accusers is None or parent.address in contradiction.accusers:
            return None
        return {name for name in contradiction.accusers if self._sources[name].is_honest}

    def record_false_answer(
        self, parent: Parent, number: int, error: InvalidPiece, accusers: set[str] | None = None
    ) -> None:
        """Exclude a parent whose answer to a request was a lie, see :meth:`expose`."""
        self.last_error = error
        self.expose(parent, f"piece {number}: {error.reason}", accusers)

    def record_failure(self, parent: Parent, request: Request, error: PieceError, now: float, seconds: float) -> None:
        """
        Record that a parent did not give a piece, for a reason that is no lie.

        :param now: the time of the download, in seconds.
        :param seconds: since the request.
        """
        self.last_error = error
        parent.failure = error.reason
        if isinstance(error, ParentRefused):
            parent.refuse()
        elif isinstance(error, PieceLate) and parent.narrow(now, seconds):
            return
        elif isinstance(error, PieceTimeout) or (isinstance(error, ParentUnreachable) and error.retry_after):
            parent.give_up()
        else:
            parent.fail(request.number, request.round)
            return
        self._pieces.withdraw(parent)

    def expose(self, parent: Parent, lie: str, accusers: set[str] | None = None) -> None:
        """
        Exclude a parent that has lied, and forget what is known from it alone.

        :param lie: what was expected and what came.
        :param accusers: the parents that vouch for what it contradicts; None where it is a lie whatever others say.
        """
        parent.lie_about(lie, accusers)
        self._pieces.withdraw(parent)
        for other in self._parents.values():
            if other.lose_accuser(parent.address):
                self._numbers.offer_anew(other)
        self._layout.hear_told()
        short = self._layout.short
        if parent is self._storage:
            self._pieces.drop([number for number, piece in self._layout.verified.items() if piece.parent == STORAGE])
        elif short is not None and not self._sources[self._layout.verified[short].parent].is_honest:
            self._pieces.drop([short])
        self._check_vouchers()
        self._numbers.find_orphans()
        is_anybody_left = any(other.is_alive for other in self._parents.values())
        if not is_anybody_left and self._storage.is_honest and STORAGE in (parent.accusers or ()):
            self.expose(self._storage, "all parents contradict it")

    def _check_vouchers(self) -> None:
        """Forget the piece length and all places, if no parent vouches for them any more."""
        if self._layout.piece_length is None or self._layout.vouchers():
            return
        self._pieces.start_anew()
        for parent in self._parents.values():
            self.learn(parent, 0, parent.told_content_length, parent.told_piece_length)

    def loss(self, number: int, overdue: PieceError | None) -> TaskError:
        """
        The consequence for the task when no parent can give a piece.

        :param overdue: why the piece was not announced; None where no announcement was waited for.
        """
        names, last_error = ", ".join(self._parents), self.last_error or overdue
        is_lacked = all(0 in parent.lacks for parent in self._parents.values())
        if 0 not in self._layout.verified and (last_error is None or is_lacked):
            return TaskNotFound(self._task_id, f"expected its first piece at {names}, got not found")
        name = piece_id(self._task_id, number)
        unknown = PieceNotFound(names, name, "expected one of them to have it, got none that has")
        return NoParentLeft(self._task_id, last_error or unknown)

    def look_at_end(self, now: float, *, is_alone: bool) -> None:
        """
        Dispute the end of a task that has become so long, or has taken so long, that a liar may add pieces without end.
        The next look is at twice as much.

        :param is_alone: whether the parent is believed alone: then its task is disputed in any case.
        """
        self._began_at = now if self._began_at is None else self._began_at
        length, count, seconds = self._layout.prefix_length, self._layout.prefix, now - self._began_at
        is_long = length >= self._end_disputed_at or count >= self._pieces_disputed_at
        if (is_long or seconds >= self._disputed_after) and not self.is_end_disputed:
            self._end_disputed_at = max(self._end_disputed_at, 2 * length)
            self._pieces_disputed_at = max(self._pieces_disputed_at, 2 * count)
            self._disputed_after = max(self._disputed_after, 2 * seconds)
            self.is_end_disputed = is_alone or bool(self.may_be_right_alone())
        piece_length = self._layout.piece_length
        self.look_from = 0
        if piece_length:
            self.look_from = min(self._pieces_disputed_at, -(-self._end_disputed_at // piece_length))

    # -- when the whole is wrong ---------------------------------------------------------------------------------------

    @property
    def is_end_doubtful(self) -> bool:
        """Whether the task ends where a parent lacks a piece, and another parent may have it that rests or is slow."""
        end = self._numbers.end
        return end is not None and self._layout.content_length is None and self._numbers.may_turn_up(end)

    def record_unknown_end(self) -> None:
        """
        Record that the task has no digest, and ends where no parent has a piece: that is not known to be the end. From
        now on the download has failed, unless another parent may have the piece.
        """
        if self.is_end_doubtful:
            self._numbers.is_end_refuted = True
        else:
            self.is_end_unknown = True

    def record_mismatch(self, expected: str, got: str) -> None:
        """
        Record that all pieces are there, and together they do not have the task's digest: from now on the download has
        failed, unless another parent, perhaps a new one, may have the piece at the end. A parent that has sent all of
        the task, and says where it ends, has lied.

        :param expected: the task's digest.
        :param got: the digest that they have.
        """
        layout, end, length = self._layout, self._numbers.end, self._pieces.content_length
        if self.is_end_doubtful or end is None or length is None:  # parents may be added while the digest is computed
            self._numbers.is_end_refuted = True  # it is the end because a parent lacks it, and another may have it
            return
        senders = sorted({layout.verified[number].parent for number in range(end)})
        self.mismatch = TaskDigestMismatch(self._task_id, self._reason(expected, got, length, end, senders))
        self.got = got
        self.is_hopeless = True
        sender = self._parents.get(senders[0]) if len(senders) == 1 else None
        says_end = sender is not None and (self._is_its_short_piece(sender) or sender.told_content_length == length)
        if sender is not None and says_end and not self._announces_more(sender, end):
            sender.catch(f"it sent all of a task that has the digest {got}")
            layout.hear_told()

    def may_be_right_alone(self) -> list[str]:
        """
        After a failed download, return the parents with which alone it may succeed. Those that had the whole task from
        the beginning come first: what the others have fetched meanwhile may be a liar's. Of these those of which most
        is there come first, because least is to be asked of them.
        """
        counts = Counter(piece.parent for piece in self._layout.verified.values())
        if self.is_hopeless:
            able = [parent for parent in self._suspects() if self._may_be_right_about_pieces(parent)]
        elif (lost := self._numbers.lost()) is not None:
            able = [parent for parent in self._suspects() if self._may_be_right_about_loss(parent, lost)]
        else:
            able = [parent for parent in self._suspects() if self._may_be_right_about_end(parent)]
        return [
            parent.address
            for parent in sorted(able, key=lambda parent: (not parent.was_whole, -counts[parent.address]))
        ]

    def _suspects(self) -> Iterator[Parent]:
        """The parents that may be honest, and may be asked."""
        return (
            parent
            for parent in self._parents.values()
            if not (parent.is_caught or parent.is_removed or parent.standing is Standing.OUT)
        )

    def _may_be_right_about_pieces(self, parent: Parent) -> bool:
        """Whether a parent alone may give the right whole, where all together gave a wrong one."""
        end, verified = self._numbers.end or 0, self._layout.verified
        is_its_end = self._is_its_short_piece(parent) or end in parent.lacks or parent.denies(end)
        is_its_end = is_its_end and not self._announces_more(parent, end)
        return not is_its_end or any(verified[number].parent != parent.address for number in range(end))

    def _is_its_short_piece(self, parent: Parent) -> bool:
        """
        Whether there is a piece that is shorter than the others, by the word of the parent that sent them all: the
        first piece is the last only by a piece length that this parent itself has told, or shown by it.
        """
        short, piece_length = self._layout.short, self._layout.piece_length
        if short != 0:
            return short is not None
        return piece_length in (parent.told_piece_length, self._layout.verified[0].length)

    def _announces_more(self, parent: Parent, end: int) -> bool:
        """Whether a parent has announced pieces behind the end: then it has not given all of its task."""
        return any(number >= end for number in parent.announced)

    def _may_be_right_about_loss(self, parent: Parent, lost: int) -> bool:
        """Whether a parent alone may give the whole, where no parent can give a piece."""
        length, piece_length = parent.told_content_length, self._layout.piece_length
        says_more = length is not None and piece_length is not None and length > lost * piece_length
        says_end = lost > 0 and not says_more and (lost in parent.lacks or parent.denies(lost))
        return parent.standing is Standing.LIED or says_end

    def _may_be_right_about_end(self, parent: Parent) -> bool:
        """Whether a parent alone may give the whole, where there is much more than it says that there is."""
        ends = list(parent.lacks)
        if parent.denies(self._layout.prefix):
            ends.append(max(parent.announced, default=-1) + 1)
        is_shorter = bool(ends) and 0 < _MUCH * min(ends) <= self._layout.prefix
        return parent.standing is Standing.LIED or is_shorter

    def _reason(self, expected: str, got: str, length: int, end: int, senders: list[str]) -> str:
        """What was expected of the whole and what came."""
        names = ", ".join(sender or "the storage" for sender in senders)
        reason = f"expected {expected}, got {got}, of {length} bytes in {end} pieces from {names}"
        if self._layout.content_length is None:
            reason += f"; no parent has piece {end}, but the task may have it"
        return reason
