"""
Compares the pieces in a file with those of one parent. No I/O, clock or reactor.

A piece that another parent has sent is compared: the parent is asked for it, and names its digest before its content
comes. Where the digests are equal the piece stays, otherwise it is dropped, and fetched from this parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dragonfly_vortex.errors import PieceRefused
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.pieces import Pieces
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Comparison", "Described"]


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
        self.replaced: dict[int, VerifiedPiece] = {}
        """The pieces that are fetched from the parent instead, by number."""
        self._pieces = pieces
        self._placed_for: int | None = None
        self._by_digest = by_digest
        self._adopt([0])
        self.place()

    # -- one piece -----------------------------------------------------------------------------------------------------

    def compare(self, metadata: PieceMetadata) -> None:
        """The parent has described a piece: one in the file that differs is to be fetched anew."""
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
        for number in numbers:
            self.replaced[number] = self.there.pop(number)
        self._pieces.forget(numbers)
