"""The map of a task's pieces."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.daemon.piece_map import CELLS, MOST_PIECES, PieceMap, cells_of


class PieceMapTests(SynchronousTestCase):
    """Maps of few pieces and of many."""

    def test_few(self) -> None:
        """Each of a few pieces is a cell, which says whether it is there and where it came from."""
        pieces = PieceMap()
        self.assertEqual(pieces.put(3, 2), 0)
        self.assertEqual(pieces.put(0, 1), 0)
        self.assertEqual(pieces.cells(5), ("90090", "0..1."))
        self.assertEqual([pieces.owner(number) for number in (0, 1, 3, 99)], [1, 0, 2, 0])

    def test_taken_back(self) -> None:
        """A piece that is not there any more leaves its cell empty."""
        pieces = PieceMap()
        pieces.put(1, 2)
        self.assertEqual(pieces.put(1, 0), 2)
        self.assertEqual(pieces.cells(2), ("00", ".."))

    def test_unknown_count(self) -> None:
        """While the number of pieces is not known the map ends with the last one that came."""
        pieces = PieceMap()
        self.assertEqual(pieces.cells(None), ("", ""))
        pieces.put(2, 1)
        self.assertEqual(pieces.cells(None), ("009", "..0"))

    def test_many(self) -> None:
        """Of 100,000 pieces each cell holds about a hundred; only one without a gap is full."""
        count = 100_000
        pieces = PieceMap()
        for number in range(count // 2):
            pieces.put(number, 3)
        fill, owner = pieces.cells(count)
        self.assertEqual((len(fill), len(owner)), (CELLS, CELLS))
        self.assertEqual(fill, CELLS // 2 * "9" + CELLS // 2 * "0")
        self.assertEqual(owner, CELLS // 2 * "2" + CELLS // 2 * ".")
        pieces.put(0, 0)
        self.assertEqual(pieces.cells(count)[0][0], "8")
        pieces.put(count - 1, 1)
        self.assertEqual(pieces.cells(count)[0][-1], "1")
        self.assertEqual(pieces.cells(count)[1][-1], "0")

    def test_each_piece_in_one_cell(self) -> None:
        """A piece fills the cell that it is said to lie in while it is under way."""
        for count in (CELLS, CELLS + 1, 1500, 2048, 99_999):
            for number in (0, 1, count // 3, count - 2, count - 1):
                pieces = PieceMap()
                pieces.put(number, 1)
                fill, _ = pieces.cells(count)
                self.assertEqual([at for at, level in enumerate(fill) if level != "0"], list(cells_of([number], count)))

    def test_too_many(self) -> None:
        """A task of millions of pieces has no map."""
        self.assertEqual(PieceMap().cells(MOST_PIECES + 1), ("", ""))

    def test_many_owners(self) -> None:
        """An owner is a digit of base 36; those behind the last digit share it."""
        pieces = PieceMap()
        for number, owner in enumerate((1, 10, 11, 36, 255)):
            pieces.put(number, owner)
        self.assertEqual(pieces.cells(5)[1], "09azz")
