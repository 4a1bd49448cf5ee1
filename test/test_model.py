"""Tests of the values that pass between the parts."""

from __future__ import annotations

import dataclasses

from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex import model
from dragonfly_vortex.wire import PieceKind, PieceMetadata

METADATA = PieceMetadata(number=0, offset=0, length=0, digest="crc32:0")


class ValueTests(SynchronousTestCase):
    """Rows, claims and answers."""

    def test_a_piece_is_called_by_task_and_number(self) -> None:
        """The name of a piece is the one that the reference gives it."""
        self.assertEqual(model.piece_id("ab" * 32, 7), "ab" * 32 + "-7")

    def test_values_are_frozen(self) -> None:
        """A value cannot be changed by the part that gets it."""
        piece = model.StoredPiece(kind=PieceKind.STANDARD, task_id="a" * 64, metadata=METADATA)
        response = model.DownloadPieceResponse(metadata=METADATA, content=b"")
        for value, field in ((piece, "damage"), (response, "content"), (METADATA, "offset")):
            with self.assertRaises(AttributeError):
                setattr(value, field, 1)

    def test_defaults(self) -> None:
        """No default of a value is the description of a field, as msgspec takes one of dataclasses for."""
        values = [each for each in vars(model).values() if isinstance(each, type) and issubclass(each, Struct)]
        defaults = [default for each in values for default in getattr(each, "__struct_defaults__", ())]
        self.assertEqual([default for default in defaults if isinstance(default, dataclasses.Field)], [])

    def test_a_claim_is_the_same_whatever_its_owner(self) -> None:
        """The owner's number changes while the owner runs, and so it is no part of what is compared."""
        self.assertEqual(model.Claim(is_ours=False, owner=(1, 1)), model.Claim(is_ours=False, owner=(1, 2)))

    def test_a_downloaded_piece_is_content_offset_and_digest(self) -> None:
        """What a downloader gives is taken apart as the design document has it."""
        content, offset, digest = model.DownloadedPiece(b"abc", 4096, "crc32:891568578")
        self.assertEqual((content, offset, digest), (b"abc", 4096, "crc32:891568578"))
