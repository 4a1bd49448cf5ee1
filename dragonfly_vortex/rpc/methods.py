"""
Tables of the methods of Dragonfly's API: those that concern pieces, a row for each kind of piece, and those of
``dfdaemon.v2.DfdaemonDownload`` and ``dfdaemon.v2.DfdaemonUpload`` that concern whole tasks, read from the API's own
description, a row for each with the kind of task and what is done with it.

Of the four methods of ``dfdaemon.v2.DfdaemonUpload`` that carry a piece's content the API has kept
``DownloadCachePiece``; the other three left it in January 2026, and dfdaemon up to 1.2.1 serves them. All four have the
same fields with the same numbers, so that the messages of the one that is left serve them all.
"""

from __future__ import annotations

import re
from typing import Any

from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from msgspec import Struct

from dragonfly_vortex.wire import PieceKind

__all__ = [
    "LOCAL_SERVICE",
    "METHODS",
    "SERVICE",
    "SYNC_HOST",
    "PieceMethods",
    "PieceReply",
    "PieceRequest",
    "TaskMethod",
    "listed_reply",
    "path",
    "started_reply",
    "task_methods",
]

SERVICE = "dfdaemon.v2.DfdaemonUpload"
"""The service of the methods that concern pieces."""

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
    :param sync: announces pieces; a stream.
    :param sync_request: what it is asked with.
    :param interested: the field of that which has the numbers of the wanted pieces.
    :param sync_reply: what it says about a piece.
    :param stat: describes a task; unary.
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
    :param stat: the method that describes a task.
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


LOCAL_SERVICE = "dfdaemon.v2.DfdaemonDownload"
"""The service of the local door."""

_KINDS = {
    "": PieceKind.STANDARD,
    "Cache": PieceKind.CACHE,
    "Persistent": PieceKind.PERSISTENT,
    "PersistentCache": PieceKind.PERSISTENT_CACHE,
}
"""What the names of methods and messages call the kinds."""

_VERBS = ("Download", "Stat", "StatLocal", "ListLocal", "Delete", "DeleteLocal", "Update", "Upload")


class TaskMethod(Struct, frozen=True, kw_only=True):
    """
    A method.

    :param name: its own.
    :param verb: what is done, such as ``StatLocal``.
    :param kind: the kind of the task.
    :param request: what it is asked with.
    :param reply: what it answers with.
    :param is_stream: whether there are any number of replies.
    """

    name: str
    verb: str
    kind: PieceKind
    request: type[Message]
    reply: type[Message]
    is_stream: bool


def task_methods(service: str) -> list[TaskMethod]:
    """
    The methods of a service that concern whole tasks.

    :param service: :data:`LOCAL_SERVICE` or :data:`~dragonfly_vortex.rpc.methods.SERVICE`.
    """
    pattern = re.compile(f"({'|'.join(_VERBS)})({'|'.join(_KINDS)})Tasks?")
    rows = []
    for method in _service(service).methods:
        match = pattern.fullmatch(method.name)
        if match is not None:
            rows.append(
                TaskMethod(
                    name=method.name,
                    verb=match[1],
                    kind=_KINDS[match[2]],
                    request=GetMessageClass(method.input_type),
                    reply=GetMessageClass(method.output_type),
                    is_stream=method.server_streaming,
                )
            )
    return rows


def started_reply(method: TaskMethod) -> tuple[str, type[Message]]:
    """The field of a download's reply for its beginning, and the message there."""
    (name,) = (each.name for each in method.reply.DESCRIPTOR.fields if each.name.endswith("_started_response"))
    return name, _message_in(method, name)


def listed_reply(method: TaskMethod) -> type[Message]:
    """The message for each task in a list."""
    return _message_in(method, "tasks")


def _message_in(method: TaskMethod, name: str) -> type[Message]:
    """The message that a field of a reply has."""
    description: Any = method.reply.DESCRIPTOR.fields_by_name[name].message_type
    return GetMessageClass(description)


def _service(name: str) -> Any:
    """The description of a service."""
    package, _, own = name.rpartition(".")
    if package != dfdaemon_pb2.DESCRIPTOR.package or name not in (LOCAL_SERVICE, SERVICE):
        raise ValueError(f"expected {LOCAL_SERVICE} or {SERVICE}, got {name}")
    return dfdaemon_pb2.DESCRIPTOR.services_by_name[own]
