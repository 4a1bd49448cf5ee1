"""What a parent replies with where it does not send the piece, and what its log says of it."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from dragonfly_vortex.errors import NotStored, StorageError
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceRequest

__all__ = ["error_reply", "log_broken_reply"]


def error_reply(request: PieceRequest, failure: Failure) -> ErrorReply:
    """
    The reply to a request that could not be fulfilled: the kind of the failure, and a text without our insides. What
    names a path, a database or a line of ours stays in the log of this side.

    :param request: what was asked for; the reply carries its packet ID.
    :param failure: why not.
    """
    name = piece_id(request.task_id, request.number)
    if failure.check(NotStored):
        return ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text=f"piece {name} not found")
    return ErrorReply(
        packet_id=request.packet_id, code=ErrorCode.INTERNAL, text=f"piece {name} could not be read from the storage"
    )


def log_broken_reply(log: LimitedLog, request: PieceRequest, failure: Failure) -> None:
    """
    Log why a piece was not sent. A piece that is not there, and a child that is gone, are no event.

    :param log: gets one line where the storage failed: while a disk fails there is one for every request.
    :param request: what was asked for.
    :param failure: why it was not sent.
    """
    if failure.check(NotStored, ConnectionLost) is not None:
        return
    if failure.check(StorageError) is not None:
        name = piece_id(request.task_id, request.number)
        log.error("piece {piece}: {reason}", piece=name, reason=failure.getErrorMessage())
    else:
        log.failure("replying to {request} failed", failure, request=request)
