"""
The layout of a task as far as it is known (pieces, piece length, end), the parents that vouch for it, and which of its
pieces are wanted. No I/O, clock or reactor.

Two things are unknown at first, and only parents can tell them: the piece length and the end. The piece length is the
length of piece 0, or what a parent says beforehand; the end is a piece shorter than that, or what a parent says. Each
fact is kept with the parent that stated it, and can be forgotten when that parent turns out to have lied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from dragonfly_vortex.errors import PieceRefused, StorageError
from dragonfly_vortex.geometry import MAX_PIECE_COUNT, MAX_PIECE_LENGTH, check_lengths, piece_count
from dragonfly_vortex.model import ByteRange
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["EMPTY_PIECE", "Contradiction", "Layout", "VerifiedPiece", "Wanted"]

EMPTY_PIECE = PieceMetadata(number=0, offset=0, length=0, digest="crc32:0")
"""
The one piece of a task without bytes. Parents of this package have it; a ``dfdaemon`` has no piece of such a task
(1.5.10), and says that its length is 0.
"""


class Contradiction(PieceRefused):
    """
    Raised when a parent's statement contradicts what is known.

    :param reason: what was expected and what came.
    :param accusers: the parents that vouch for what was expected; None where it is false whatever others say.
    """

    def __init__(self, reason: str, accusers: set[str] | None = None) -> None:
        super().__init__(reason)
        self.accusers = accusers


class VerifiedPiece(Struct, frozen=True, kw_only=True):
    """
    A piece that has the digest its parent named.

    :param parent: the parent that sent it.
    :param length: bytes of it.
    :param offset: where it starts, in bytes.
    :param digest: the digest, as the parent named it.
    """

    parent: str
    length: int
    offset: int = 0
    digest: str = ""

    @classmethod
    def of(cls, parent: str, metadata: PieceMetadata) -> VerifiedPiece:
        """
        A piece with these metadata.

        :param parent: the parent that sent it.
        """
        return cls(parent=parent, length=metadata.length, offset=metadata.offset, digest=metadata.digest)

    def is_as(self, metadata: PieceMetadata) -> bool:
        """Whether another parent describes the piece in the same way."""
        return self.is_like(VerifiedPiece.of(self.parent, metadata))

    def is_like(self, other: VerifiedPiece) -> bool:
        """Whether another piece lies at the same place and has the same digest. Without a digest that is not known."""
        same = (self.offset, self.length, self.digest) == (other.offset, other.length, other.digest)
        return same and bool(self.digest)

    def differs(self, other: VerifiedPiece) -> bool:
        """
        Whether another piece certainly lies at another place or has another content. Digests of two algorithms do not
        tell, nor does a piece without one.
        """
        if (self.offset, self.length) != (other.offset, other.length):
            return True
        algorithms = self.digest.partition(":")[0], other.digest.partition(":")[0]
        return algorithms[0] == algorithms[1] and self.digest != other.digest


class Layout:
    """
    A task's pieces and lengths.

    :param parents: the parents and the storage, by name.
    """

    def __init__(self, parents: Mapping[str, Parent]) -> None:
        self.told_length: int | None = None
        """
        Bytes of the whole task, as honest parents say; None where none does. More than there can be in pieces of that
        length does not count.
        """
        self.told_count: int | None = None
        """How many pieces that makes."""
        self.verified: dict[int, VerifiedPiece] = {}
        self.prefix = 0
        """How many pieces from the first one on are verified without a gap."""
        self.short: int | None = None
        """The verified piece that is shorter than the others, which makes it the last."""
        self.piece_length: int | None = None
        """Bytes of each piece but the last; None while that is unknown. :meth:`set_piece_length` changes it."""
        self._parents = parents

    # -- what is known -------------------------------------------------------------------------------------------------

    def set_piece_length(self, length: int | None) -> None:
        """Set the piece length. None where it is not known any more."""
        self.piece_length = length
        self.hear_told()

    def hear_told(self) -> None:
        """
        Take over what parents say of the length of the whole. To be called when one has said something, or is believed
        no more or again: the result is asked for many times for each piece.
        """
        most = (self.piece_length or MAX_PIECE_LENGTH) * MAX_PIECE_COUNT
        told = (parent.told_content_length for parent in self._honest())
        self.told_length = next((each for each in told if each is not None and each <= most), None)
        is_known = self.told_length is not None and self.piece_length is not None
        self.told_count = _count(self.told_length or 0, self.piece_length or 0) if is_known else None

    @property
    def content_length(self) -> int | None:
        """Bytes of the whole task, if that is known by its last piece or by what parents say."""
        if self.short is not None and self.piece_length is not None:
            return self.short * self.piece_length + self.verified[self.short].length
        return self.told_length

    @property
    def prefix_length(self) -> int:
        """Bytes that are verified from the first one on without a gap."""
        if not self.prefix or self.piece_length is None:
            return 0
        return (self.prefix - 1) * self.piece_length + self.verified[self.prefix - 1].length

    def is_something_behind(self, number: int) -> bool:
        """Whether an honest parent has sent a later piece."""
        return any(parent.last > number and parent.is_honest for parent in self._parents.values())

    # -- vouchers ------------------------------------------------------------------------------------------------------

    def senders(self, after: int = -1) -> set[str]:
        """The honest parents that sent verified pieces after a number."""
        return {name for name, parent in self._parents.items() if parent.last > after and parent.is_honest}

    def vouchers(self) -> set[str]:
        """The honest parents by whose word or pieces the piece length is known."""
        first = self.verified.get(0)
        by_word = {parent.address for parent in self._honest() if parent.told_piece_length == self.piece_length}
        by_first = {first.parent} if first is not None and first.length == self.piece_length else set()
        return self.senders(0) | by_word | (by_first & self.senders())

    def _honest(self) -> Iterator[Parent]:
        """The parents that are not known to have lied."""
        return (parent for parent in self._parents.values() if parent.is_honest)

    def _tellers(self) -> set[str]:
        """The honest parents that say what is believed of the length of the whole task."""
        told = self.told_length
        return {parent.address for parent in self._honest() if parent.told_content_length == told is not None}

    # -- what contradicts it -------------------------------------------------------------------------------------------

    def is_whole_piece(self, number: int, metadata: PieceMetadata) -> bool:
        """
        Whether metadata are those of a whole piece with the requested number, and certainly contradict nothing: so it
        is for nearly all pieces. For others :meth:`contradictions` tells.
        """
        length = self.piece_length
        return (
            length is not None
            and metadata.number == number
            and metadata.length == length
            and metadata.offset == number * length
            and (self.short is None or number <= self.short)
            and (self.told_length is None or (number + 1) * length <= self.told_length)
        )

    def contradictions(self, number: int, metadata: PieceMetadata) -> Iterator[Contradiction]:
        """Find the facts that the metadata of the piece with the requested number contradict."""
        if metadata.number != number:
            yield Contradiction(f"expected number {number}, got {metadata.number}")
        if number == 0 and metadata.offset != 0:
            yield Contradiction(f"expected offset 0, got {metadata.offset}")
        if self.piece_length is None:
            return
        offset = number * self.piece_length
        if metadata.offset != offset:
            reason = f"expected offset {offset}, {number} x {self.piece_length}, got {metadata.offset}"
            yield Contradiction(reason, self.vouchers())
        if metadata.length > self.piece_length:
            yield Contradiction(f"expected at most {self.piece_length} bytes, got {metadata.length}", self.vouchers())
        if self.short is not None and number > self.short:
            reason = f"expected nothing after piece {self.short}, the last, got piece {number}"
            yield Contradiction(reason, {self.verified[self.short].parent})
        if metadata.length < self.piece_length and (later := self.senders(number)):
            reason = f"expected {self.piece_length} bytes, as others come after it, got {metadata.length}"
            yield Contradiction(reason, later)
        told = self.told_length
        if told is not None:
            length = max(0, min(self.piece_length, told - offset))
            if number >= _count(told, self.piece_length):
                yield Contradiction(f"expected nothing behind {told} bytes, got piece {number}", self._tellers())
            elif metadata.length != length:
                yield Contradiction(f"expected {length} bytes, of {told}, got {metadata.length}", self._tellers())

    def contradictions_of_telling(
        self, content_length: int | None, piece_length: int | None
    ) -> Iterator[Contradiction]:
        """Find the facts that a parent's statement about the task contradicts."""
        try:
            check_lengths(content_length, piece_length or MAX_PIECE_LENGTH)
        except StorageError as error:
            yield Contradiction(str(error))
            return
        if piece_length is not None and self.piece_length is not None and piece_length != self.piece_length:
            yield Contradiction(f"expected pieces of {self.piece_length} bytes, got {piece_length}", self.vouchers())
            return
        known = self.told_length
        if content_length is None or known == content_length:
            return
        if known is not None:
            yield Contradiction(f"expected {known} bytes in all, got {content_length}", self._tellers())
            return
        length = piece_length if self.piece_length is None else self.piece_length
        if length is None:
            return
        end = _count(content_length, length)
        if self.short is not None and (self.short != end - 1 or self.content_length != content_length):
            reason = f"expected {self.content_length} bytes, as piece {self.short} is the last, got {content_length}"
            yield Contradiction(reason, {self.verified[self.short].parent})
        elif later := self.senders(end - 1):
            yield Contradiction(f"expected more than {end} pieces, got {content_length} bytes in all", later)
        elif (last := self.verified.get(end - 1)) is not None and self._parents[last.parent].is_honest:
            ends_at = (end - 1) * length + last.length
            if ends_at != content_length:
                reason = f"expected at least {ends_at} bytes in all, got {content_length}"
                yield Contradiction(reason, {last.parent})

    # -- what changes it -----------------------------------------------------------------------------------------------

    def add(self, number: int, piece: VerifiedPiece) -> None:
        """Add a verified piece. The first one makes the piece length known, a shorter one the end."""
        if self.piece_length is None:
            self.set_piece_length(piece.length)
        if self.piece_length is None or piece.length < self.piece_length or not piece.length:
            self.short = number
        self.verified[number] = piece
        sender = self._parents[piece.parent]
        if number > sender.last:
            sender.last = number
        while self.prefix in self.verified:
            self.prefix += 1

    def drop(self, numbers: list[int]) -> None:
        """Forget verified pieces."""
        senders = set()
        for number in numbers:
            piece = self.verified.pop(number)
            senders.add(piece.parent)
            self.prefix = min(self.prefix, number)
            if number == self.short:
                self.short = None
        for name in senders:
            of_sender = (number for number, piece in self.verified.items() if piece.parent == name)
            self._parents[name].last = max(of_sender, default=-1)


def _count(content_length: int, piece_length: int) -> int:
    """How many pieces a content has; nothing is one piece of no bytes."""
    return max(1, -(-content_length // piece_length)) if piece_length else 1


class Wanted:
    """The part of a task that is wanted first, or alone. At the beginning all is wanted, and nothing first."""

    def __init__(self) -> None:
        self.ranges: Sequence[ByteRange] = ()
        """What is wanted first."""
        self.is_all = True
        """Whether the rest is wanted, too."""
        self._cut: tuple[Sequence[ByteRange], int, int] = (), 0, 0  # what the numbers below were calculated from
        self._numbers: list[int] = []

    def numbers(self, content_length: int | None, piece_length: int | None) -> list[int] | None:
        """
        The numbers of the pieces that are wanted first, or alone, in order.

        :param content_length: bytes of the task; None while that is unknown.
        :param piece_length: bytes of each piece but the last; None while that is unknown.
        :returns: None where that is not known yet, or nothing is wanted before the rest. Of a content that has
            nothing of the ranges, the first piece. The same list as long as nothing has changed.
        """
        if not self.ranges or content_length is None or not piece_length:
            return None
        cut = (tuple(self.ranges), content_length, piece_length)
        if cut == self._cut:
            return self._numbers
        numbers: set[int] = set()
        for wanted in self.ranges:
            first, end = wanted.within(content_length)
            if first < end:
                numbers.update(range(first // piece_length, piece_count(end, piece_length)))
        # With a piece a caller hears how long the content is, and that it has no more.
        self._cut, self._numbers = cut, sorted(numbers) or [0]
        return self._numbers
