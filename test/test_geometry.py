"""Tests of the arithmetic of pieces."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.geometry import (
    MAX_CONTENT_LENGTH,
    MAX_PIECE_LENGTH,
    check_lengths,
    fits,
    piece_count,
    piece_length_for,
    piece_span,
)
from dragonfly_vortex.wire import PieceMetadata

MIB = 1 << 20


class PieceLengthForTests(SynchronousTestCase):
    """Dragonfly's rule."""

    def test_rule(self) -> None:
        """A five-hundredth, up to a power of two, from 4 to 64 MiB."""
        for content_length, expected in (
            (0, 4 * MIB),
            (1, 4 * MIB),
            (500 * 4 * MIB, 4 * MIB),
            (500 * 4 * MIB + 499, 4 * MIB),
            (500 * 4 * MIB + 500, 8 * MIB),
            (500 * 5 * MIB, 8 * MIB),
            (500 * 8 * MIB, 8 * MIB),
            (500 * 32 * MIB, 32 * MIB),
            (500 * 33 * MIB, 64 * MIB),
            (500 * 65 * MIB, 64 * MIB),
            (MAX_CONTENT_LENGTH, 64 * MIB),
        ):
            self.assertEqual(piece_length_for(content_length), expected, content_length)


class PieceSpanTests(SynchronousTestCase):
    """Where pieces lie."""

    def test_spans(self) -> None:
        """The spans of all pieces follow one another, and only the last is shorter."""
        for content_length, spans in (
            (0, [(0, 0)]),
            (1, [(0, 1)]),
            (9, [(0, 9)]),
            (10, [(0, 10)]),
            (11, [(0, 10), (10, 1)]),
            (30, [(0, 10), (10, 10), (20, 10)]),
        ):
            count = piece_count(content_length, 10)
            self.assertEqual([piece_span(number, content_length, 10) for number in range(count)], spans)

    def test_outside(self) -> None:
        """There is no piece after the last, and none before the first."""
        for number in (-1, 3):
            with self.assertRaisesRegex(StorageError, f"number below 3, got {number}"):
                piece_span(number, 30, 10)


class FitsTests(SynchronousTestCase):
    """Whether a piece is where a piece of its number is."""

    def test_fits(self) -> None:
        """With a length only the last piece may be shorter, by as much as it is; without one any may be."""
        for number, offset, length, of_25, of_unknown in (
            (0, 0, 10, True, True),
            (0, 1, 10, False, False),
            (1, 10, 10, True, True),
            (1, 10, 9, False, True),
            (1, 10, 11, False, False),
            (2, 20, 5, True, True),
            (2, 20, 10, False, True),
            (3, 30, 10, False, True),
        ):
            metadata = PieceMetadata(number=number, offset=offset, length=length, digest="")
            self.assertEqual((fits(metadata, 25, 10), fits(metadata, None, 10)), (of_25, of_unknown), metadata)


class CheckLengthsTests(SynchronousTestCase):
    """What can be stored."""

    def test_accepted(self) -> None:
        """The limits themselves are inside them."""
        for content_length, piece_length in ((0, 1), (1 << 20, 1), (4 << 40, 4 << 20), (1 << 50, MAX_PIECE_LENGTH)):
            check_lengths(content_length, piece_length)
        check_lengths(None, MAX_PIECE_LENGTH)

    def test_refused(self) -> None:
        """The error for a value beyond a limit names the limit."""
        for content_length, piece_length, message in (
            (-1, 1, "got -1"),
            (MAX_CONTENT_LENGTH + 1, MAX_PIECE_LENGTH, f"at most {MAX_CONTENT_LENGTH} bytes"),
            (1, 0, "of 1 to 1073741824 bytes, got 0"),
            (1, MAX_PIECE_LENGTH + 1, "of 1 to 1073741824 bytes, got 1073741825"),
            (None, 0, "of 1 to 1073741824 bytes, got 0"),
            ((1 << 20) + 1, 1, "at most 1048576 pieces, got 1048577"),
        ):
            with self.assertRaisesRegex(StorageError, message):
                check_lengths(content_length, piece_length)
