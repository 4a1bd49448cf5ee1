"""
A table of the methods of ``dfdaemon.v2.DfdaemonUpload`` that concern pieces: a row for each kind of piece.

Of the four methods that carry a piece's content the API has kept ``DownloadCachePiece``; the other three left it in
January 2026, and dfdaemon up to 1.2.1 serves them. All four have the same fields with the same numbers, so that the
messages of the one that is left serve them all.
"""

from __future__ import annotations

from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from msgspec import Struct

from dragonfly_vortex.wire import PieceKind

__all__ = ["METHODS", "SERVICE", "SYNC_HOST", "PieceMethods", "PieceReply", "PieceRequest", "path"]

SERVICE = "dfdaemon.v2.DfdaemonUpload"
"""The service that all methods belong to."""

SYNC_HOST = "SyncHost"
"""The method that reports the host."""

PieceRequest = dfdaemon_pb2.DownloadCachePieceRequest
"""What a piece is asked for with, of whichever kind."""

PieceReply = dfdaemon_pb2.DownloadCachePieceResponse
"""What a piece comes in, of whichever kind."""


class PieceMethods(Struct, frozen=True, kw_only=True):
    """
    The methods for one kind of piece.

    :param download: carries a piece; unary.
    :param sync: tells which pieces there are; a stream.
    :param sync_request: what it is asked with.
    :param interested: the field of that which has the numbers of the wanted pieces.
    :param sync_reply: what it says about a piece.
    :param stat: tells about a task; unary.
    :param stat_request: what it is asked with.
    :param stat_reply: what it says.
    """

    download: str
    sync: str
    sync_request: type[Message]
    interested: str
    sync_reply: type[Message]
    stat: str
    stat_request: type[Message]
    stat_reply: type[Message]


def _methods(name: str, stat: str, stat_reply: str, *, interested: str = "interested_piece_numbers") -> PieceMethods:
    """
    The row of a kind.

    :param name: the kind's name in the names of methods and messages, empty for standard pieces.
    :param stat: the method that tells about a task.
    :param stat_reply: the message that it answers with, in one of the two modules.
    :param interested: as in :class:`PieceMethods`.
    """
    from dragonfly_api import common_pb2

    sync = f"Sync{name}Pieces"
    return PieceMethods(
        download=f"Download{name}Piece",
        sync=sync,
        sync_request=getattr(dfdaemon_pb2, f"{sync}Request"),
        interested=interested,
        sync_reply=getattr(dfdaemon_pb2, f"{sync}Response"),
        stat=stat,
        stat_request=getattr(dfdaemon_pb2, f"{stat}Request"),
        stat_reply=getattr(dfdaemon_pb2, stat_reply, None) or getattr(common_pb2, stat_reply),
    )


METHODS = {
    PieceKind.STANDARD: _methods("", "StatLocalTask", "StatLocalTaskResponse"),
    PieceKind.PERSISTENT: _methods("Persistent", "StatPersistentTask", "PersistentTask"),
    PieceKind.PERSISTENT_CACHE: _methods("PersistentCache", "StatPersistentCacheTask", "PersistentCacheTask"),
    PieceKind.CACHE: _methods("Cache", "StatCacheTask", "CacheTask", interested="interested_cache_piece_numbers"),
}
"""The methods of each kind."""


def path(method: str) -> str:
    """The path of a method on the wire."""
    return f"/{SERVICE}/{method}"
