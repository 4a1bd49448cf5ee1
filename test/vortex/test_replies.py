"""Tests of the packets of a reply."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageFailure
from dragonfly_vortex.vortex.replies import content_reply, error_reply
from dragonfly_vortex.wire import (
    ErrorCode,
    ErrorReply,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    TrafficType,
)

TASK_ID = "5e1f" * 16


class ContentReplyTests(SynchronousTestCase):
    """The packet before a piece's content."""

    def test_origin(self) -> None:
        """To a child a piece comes from a remote peer, wherever the parent has it from."""
        request = PieceRequest(packet_id=9, kind=PieceKind.PERSISTENT, task_id=TASK_ID, number=3)
        metadata = PieceMetadata(number=3, offset=12, length=4, digest="crc32:7")
        expected = PieceContent(packet_id=9, kind=PieceKind.PERSISTENT, metadata=metadata)
        for traffic_type in TrafficType:
            row = replace(metadata, traffic_type=traffic_type)
            self.assertEqual(content_reply(request, row), expected)


class ErrorReplyTests(SynchronousTestCase):
    """An error's code and text, and nothing of our insides."""

    request = PieceRequest(packet_id=200, kind=PieceKind.CACHE, task_id=TASK_ID, number=3)

    def test_not_found(self) -> None:
        """A piece that is not there is not found, by its name."""
        reply = error_reply(self.request, Failure(NotStored("/secret/path has no row")))
        self.assertEqual(
            reply, ErrorReply(packet_id=200, code=ErrorCode.NOT_FOUND, text=f"piece {TASK_ID}-3 not found")
        )

    def test_internal(self) -> None:
        """Whatever else went wrong is internal, and its text stays here."""
        for error in (
            StorageFailure("/secret/path: Input/output error"),
            PieceDamaged("/secret/path is gone"),
            OSError(5, "Input/output error", "/secret/path"),
            RuntimeError("secret"),
        ):
            reply = error_reply(self.request, Failure(error))
            text = f"piece {TASK_ID}-3 could not be read from the storage"
            self.assertEqual(reply, ErrorReply(packet_id=200, code=ErrorCode.INTERNAL, text=text))
