"""Tests of the pieces in a file against what one parent gives."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.comparison import Comparison
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import pieces_of


def described(number: int, digest: str = "crc32:1", *, length: int = 10, offset: int | None = None) -> PieceMetadata:
    """A piece of ten bytes as its parent describes it."""
    at = number * 10 if offset is None else offset
    return PieceMetadata(number=number, offset=at, length=length, digest=digest)


class ComparisonTests(SynchronousTestCase):
    """Pieces of two parents, and one of them alone."""

    def begin(self, *there: tuple[str, PieceMetadata], by_digest: bool = True) -> None:
        """Compare these pieces with what parent a gives."""
        a = Parent(address="a")
        self.pieces = pieces_of({"a": a}, "b")
        pieces = {metadata.number: VerifiedPiece.of(parent, metadata) for parent, metadata in there}
        self.comparison = Comparison("a", self.pieces, pieces, by_digest=by_digest)

    def ask(self) -> Request:
        """The next request, which there is."""
        request = self.pieces.ask(compared=self.comparison.there)
        if request is None:
            raise self.failureException("expected a request, got none")
        return request

    def test_equal(self) -> None:
        """A piece of another parent that is described in the same way stays, and is not counted as this parent's."""
        self.begin(("b", described(0)))
        request = self.ask()
        self.assertTrue(request.is_comparison)
        self.pieces.settle(request)
        self.comparison.compare(described(0))
        self.assertEqual((self.pieces.layout.verified[0].parent, self.comparison.confirmed), ("b", {0}))
        self.assertEqual((self.comparison.there, self.pieces.take_dropped()), ({}, []))

    def test_different(self) -> None:
        """One with another digest or length, or without a digest, is dropped, and fetched next."""
        for there, told in (
            (described(0), described(0, "crc32:2")),
            (described(0), described(0, length=9)),
            (described(0, ""), described(0, "")),
        ):
            self.begin(("b", there))
            self.pieces.settle(self.ask())
            self.comparison.compare(told)
            self.assertEqual((self.pieces.take_dropped(), set(self.comparison.replaced)), ([0], {0}))
            request = self.ask()
            self.assertEqual(request.number, 0)
            self.assertFalse(request.is_comparison)

    def test_own(self) -> None:
        """What the parent itself has sent before is kept as soon as the piece length is known."""
        self.begin(("a", described(1)), ("b", described(0)))
        self.pieces.settle(self.ask())
        self.comparison.compare(described(0))
        self.comparison.place()
        self.assertEqual((set(self.pieces.layout.verified), self.comparison.confirmed), ({0, 1}, {0}))

    def test_all_own(self) -> None:
        """If that includes the first piece, nothing has to come first."""
        self.begin(("a", described(0)), ("b", described(1)), ("a", described(2)))
        self.assertEqual(set(self.pieces.layout.verified), {0, 2})

    def test_own_contradiction(self) -> None:
        """It is not kept where the parent now says that there is no such piece."""
        self.begin(("a", described(0, length=4)), ("a", described(1)))
        self.assertEqual((set(self.pieces.layout.verified), set(self.comparison.there)), ({0}, set()))

    def test_other_layout(self) -> None:
        """Pieces that lie elsewhere by the parent's piece length are dropped."""
        self.begin(("b", described(0)), ("b", described(1)), ("b", described(2, length=4)))
        self.pieces.layout.piece_length = 7
        self.comparison.place()
        self.assertEqual(sorted(self.pieces.take_dropped()), [0, 1, 2])
        self.assertEqual(self.comparison.there, {})

    def test_not_by_digest(self) -> None:
        """If digests are not believed, a piece of another parent is dropped as soon as this one is found to have it."""
        self.begin(("a", described(0)), ("b", described(1)), ("b", described(2)), by_digest=False)
        self.pieces.settle(self.ask())
        self.comparison.compare(described(1))
        self.assertEqual((self.pieces.take_dropped(), set(self.pieces.layout.verified)), ([1], {0}))
        self.assertEqual(set(self.comparison.there), {2})
