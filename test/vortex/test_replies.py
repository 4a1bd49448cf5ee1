"""Tests of what a parent replies with."""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageFailure
from dragonfly_vortex.vortex.replies import error_reply
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceKind, PieceRequest

TASK_ID = "5e1f" * 16


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
