"""
What is said to a stranger about a failure: its kind, and a text without our insides.

Whatever names a path, a database or a line of ours stays in the log of this side.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceRequest

__all__ = ["error_reply", "tls_expected"]


def error_reply(request: PieceRequest, failure: Failure) -> ErrorReply:
    """
    The reply to a request that could not be fulfilled.

    :param request: what was asked for; the reply carries its packet ID.
    :param failure: why not.
    """
    name = piece_id(request.task_id, request.number)
    if failure.check(NotStored):
        return ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text=f"piece {name} not found")
    return ErrorReply(
        packet_id=request.packet_id, code=ErrorCode.INTERNAL, text=f"piece {name} could not be read from the storage"
    )


def tls_expected(data: bytes) -> bytes:
    """
    What a child is told that speaks no TLS, where nothing else is spoken.

    :param data: its first bytes, of a request; the first is the request's packet ID.
    """
    text = "expected TLS (tls://) on this port, got a request without it"
    return ErrorReply(packet_id=data[0], code=ErrorCode.INVALID_ARGUMENT, text=text).to_bytes()
