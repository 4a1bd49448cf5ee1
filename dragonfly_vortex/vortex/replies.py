"""The packets with which a parent replies to a request."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.python.failure import Failure

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceContent, PieceMetadata, PieceRequest, TrafficType

__all__ = ["content_reply", "error_reply"]


def content_reply(request: PieceRequest, metadata: PieceMetadata) -> PieceContent:
    """
    The packet before a piece's content. To a child all pieces come from a remote peer.

    :param request: the reply carries its packet ID.
    :param metadata: the piece's row.
    """
    if metadata.traffic_type != TrafficType.REMOTE_PEER:
        metadata = replace(metadata, traffic_type=TrafficType.REMOTE_PEER)
    return PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=metadata)


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
