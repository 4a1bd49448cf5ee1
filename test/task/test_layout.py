"""Tests of a task's layout, and of the parents that vouch for it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.layout import Layout, VerifiedPiece
from dragonfly_vortex.task.parent_state import Parent, Standing
from dragonfly_vortex.wire import PieceMetadata


class LayoutTests(SynchronousTestCase):
    """Pieces of ten bytes from two parents."""

    def setUp(self) -> None:
        self.parents = {name: Parent(address=name) for name in ("a", "b")}
        self.layout = Layout(self.parents)

    def add(self, number: int, parent: str = "a", length: int = 10) -> None:
        """A piece is verified."""
        self.layout.add(number, VerifiedPiece(parent=parent, length=length))

    def tell(self, parent: str, content_length: int | None, piece_length: int | None) -> None:
        """A parent has told something, and it is believed."""
        self.parents[parent].told_content_length = content_length
        self.parents[parent].told_piece_length = piece_length
        self.layout.piece_length = piece_length

    def against(self, number: int, offset: int, length: int) -> list[tuple[str, set[str] | None]]:
        """What a piece contradicts."""
        metadata = PieceMetadata(number=number, offset=offset, length=length, digest="")
        return [(str(each), each.accusers) for each in self.layout.contradictions(number, metadata)]

    def against_telling(self, content_length: int | None, piece_length: int | None) -> list[set[str] | None]:
        """The parents that vouch for what an announcement contradicts."""
        return [each.accusers for each in self.layout.contradictions_of_telling(content_length, piece_length)]

    def test_pieces(self) -> None:
        """The first piece says the piece length, a shorter one the end."""
        self.add(0)
        self.assertEqual((self.layout.piece_length, self.layout.content_length), (10, None))
        self.add(2, length=3)
        self.assertEqual((self.layout.short, self.layout.content_length, self.layout.verified_length), (2, 23, 13))
        self.layout.drop([2])
        self.assertEqual((self.layout.short, self.layout.content_length, self.layout.verified_length), (None, None, 10))
        self.assertEqual(self.parents["a"].last, 0)

    def test_told(self) -> None:
        """A parent says it beforehand, and is believed until it has lied."""
        self.tell("a", 25, 10)
        self.assertEqual((self.layout.told_length, self.layout.told_count), (25, 3))
        self.parents["a"].standing = Standing.LIED
        self.assertIsNone(self.layout.told_count)

    def test_told_nothing(self) -> None:
        """A content of no bytes is one piece."""
        self.tell("a", 0, 0)
        self.assertEqual(self.layout.told_count, 1)

    def test_vouchers(self) -> None:
        """The parent that announced the length vouches for it, and so do a full first piece and any later one."""
        self.tell("a", None, 10)
        self.assertEqual(self.layout.vouchers(), {"a"})
        self.add(0, "b", length=4)
        self.assertEqual(self.layout.vouchers(), {"a"})
        self.layout.drop([0])
        self.add(0, "b")
        self.assertEqual(self.layout.vouchers(), {"a", "b"})
        self.layout.drop([0])
        self.parents["a"].told_piece_length = None
        self.assertEqual(self.layout.vouchers(), set())
        self.add(1, "a")
        self.assertEqual(self.layout.vouchers(), {"a"})
        self.parents["a"].standing = Standing.LIED
        self.assertEqual(self.layout.vouchers(), set())

    def test_contradictions(self) -> None:
        """A piece is where the told length has it, and as long."""
        self.tell("a", 25, 10)
        for number, offset, length, reasons in (
            (1, 10, 10, []),
            (2, 20, 5, []),
            (2, 20, 10, ["expected 5 bytes, of 25, got 10"]),
            (1, 10, 9, ["expected 10 bytes, of 25, got 9"]),
            (3, 30, 10, ["expected nothing behind 25 bytes, got piece 3"]),
            (1, 11, 10, ["expected offset 10, 1 x 10, got 11"]),
        ):
            self.assertEqual(self.against(number, offset, length), [(reason, {"a"}) for reason in reasons])

    def test_tellings(self) -> None:
        """An announcement is compared with those of others, and with the pieces that are there."""
        self.tell("a", 25, 10)
        self.assertEqual(self.against_telling(25, 10), [])
        self.assertEqual(self.against_telling(None, 10), [])
        self.assertEqual(self.against_telling(25, 5), [{"a"}])
        self.assertEqual(self.against_telling(26, 10), [{"a"}])
        self.tell("a", None, 10)
        self.add(1, "b")
        self.assertEqual(self.against_telling(25, 10), [])
        self.assertEqual(self.against_telling(20, 10), [])
        self.assertEqual(self.against_telling(15, 10), [{"b"}])
        self.assertEqual(self.against_telling(5, 10), [{"b"}])
        self.add(2, "a", length=4)
        self.assertEqual(self.against_telling(24, 10), [])
        self.assertEqual(self.against_telling(25, 10), [{"a"}])
        self.assertEqual(self.against_telling(34, 10), [{"a"}])
