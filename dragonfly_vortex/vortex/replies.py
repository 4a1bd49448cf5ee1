"""The packet with which a parent replies to a request that it cannot fulfil."""

from __future__ import annotations

from twisted.python.failure import Failure

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceRequest

__all__ = ["error_reply"]


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
