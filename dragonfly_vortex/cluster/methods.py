"""
A table of the calls by which a peer announces a task to a scheduler: a row for each kind of task.

The messages of the kinds differ in the names of their fields, and in what a peer registers with. Cache tasks have no
row: the scheduler 2.5.1 has no calls for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.message import Message
from msgspec import Struct

from dragonfly_vortex.cluster.requests import TaskAnnouncement
from dragonfly_vortex.model import Origin
from dragonfly_vortex.wire import PieceKind

__all__ = ["METHODS", "AnnounceMethods", "path"]

_SERVICE = "scheduler.v2.Scheduler"

_PIECE_LENGTHS = range(4 * 1024 * 1024, 64 * 1024 * 1024 + 1)
"""The piece lengths that a scheduler accepts as asked for (``common.proto``)."""

_LEAST_TTL, _MOST_TTL = 300.0, 7 * 24 * 3600.0
"""The most seconds for which a scheduler can be asked to keep a task of a persistent kind (``scheduler.proto``)."""

_DIGEST = re.compile(
    "md5:[a-fA-F0-9]{32}|sha1:[a-fA-F0-9]{40}|sha256:[a-fA-F0-9]{64}|sha512:[a-fA-F0-9]{128}|blake3:[a-fA-F0-9]{64}"
    "|crc32:[a-fA-F0-9]+"
)
"""The digests that a scheduler accepts; another one ends the call."""


def path(method: str) -> str:
    """The path of a call on the wire."""
    return f"/{_SERVICE}/{method}"


def digest_for_scheduler(digest: str) -> str:
    """A digest as a scheduler accepts it; empty where it is none of those."""
    return digest if _DIGEST.fullmatch(digest) else ""


class AnnounceMethods(Struct, frozen=True, kw_only=True):
    """
    The calls for one kind of task.

    :param word: what distinguishes the names of this kind's fields, with an underscore behind it; empty for none.
    :param announce: the call that is a conversation about one task.
    :param request: the message of the peer in it.
    :param response: the message of the scheduler.
    :param register: fills the message that a peer begins with.
    :param stat: asks what the scheduler knows of a task.
    :param has_source: whether a peer can be sent to the source.
    :param delete: has a scheduler forget a task.
    :param delete_peer: has it forget one peer of a task.
    :param upload: the part of the names of the calls by which a peer says that it has all of a task that no other peer
        has; empty where it registers for that, too.
    :param upload_started: makes the message of the first of them, of the task, the three IDs, how many peers are to
        keep the task, and for how many seconds.
    :param upload_finished: the message of the second.
    """

    word: str
    announce: str
    request: type[Message]
    response: type[Message]
    register: Callable[[Any, TaskAnnouncement], None]
    stat: str
    stat_request: type[Message]
    stat_reply: type[Message]
    has_source: bool
    delete: str
    delete_request: type[Message]
    delete_peer: str
    delete_peer_request: type[Message]
    upload: str = ""
    upload_started: Callable[[TaskAnnouncement, Mapping[str, str], int, float], Message]
    upload_finished: type[Message]


def absolute_url(request: TaskAnnouncement) -> str:
    """The URL of a task. A scheduler refuses a task without one, so that an imported file is named by its ID."""
    return (request.origin.url if request.origin is not None else "") or f"urn:dragonfly:task:{request.task_id}"


def _register_download(register: Any, request: TaskAnnouncement) -> None:
    """Fill a ``RegisterPeerRequest``."""
    origin = request.origin if request.origin is not None else Origin()
    download = register.download
    download.url = absolute_url(request)
    download.type = common_pb2.STANDARD
    download.priority = request.priority
    download.filtered_query_params.extend(origin.filtered_query_params)
    download.request_header.update(dict(request.headers))
    download.enable_task_id_based_blob_digest = origin.by_blob_digest
    download.need_back_to_source = request.need_back_to_source
    _set(download, "tag", origin.tag)
    _set(download, "application", origin.application)
    _set(download, "digest", digest_for_scheduler(request.digest))
    _set(download, "content_for_calculating_task_id", origin.content_for_calculating_task_id)
    _set(download, "concurrent_piece_count", request.concurrent_piece_count)
    if origin.piece_length is not None and origin.piece_length in _PIECE_LENGTHS:
        download.piece_length = origin.piece_length
    if request.range is not None:
        download.range.start, download.range.length = request.range
    # 0 bytes are a length, too: the length of an empty task.
    for name, value in (
        ("actual_content_length", request.content_length),
        ("actual_piece_length", request.piece_length),
        ("actual_piece_count", request.piece_count),
    ):
        if value is not None:
            setattr(download, name, value)


def _register_object(register: Any, request: TaskAnnouncement) -> None:
    """Fill a ``RegisterPersistentPeerRequest``."""
    register.url = absolute_url(request)
    _fill_object_storage(register.object_storage, request)
    _register_replica(register, request)
    register.need_back_to_source = request.need_back_to_source


def _register_cached(register: Any, request: TaskAnnouncement) -> None:
    """Fill a ``RegisterPersistentCachePeerRequest``."""
    origin = request.origin if request.origin is not None else Origin()
    _set(register, "tag", origin.tag)
    _set(register, "application", origin.application)
    register.piece_length = request.piece_length or _PIECE_LENGTHS.start
    _register_replica(register, request)


def _register_replica(register: Any, request: TaskAnnouncement) -> None:
    """Fill what the two kinds that are kept have in common."""
    register.persistent = request.is_replica
    register.piece_count = request.piece_count or 0
    _set(register, "concurrent_piece_count", request.concurrent_piece_count)


def _fill_object_storage(storage: Any, request: TaskAnnouncement) -> None:
    """Say where an object is. The message itself is required, its fields are not."""
    storage.SetInParent()
    origin = request.origin if request.origin is not None else Origin()
    _set(storage, "region", origin.region)
    _set(storage, "endpoint", origin.endpoint)


def _set(message: Any, name: str, value: object) -> None:
    """Set an optional field where there is something to set: some of them must not be there empty."""
    if value:
        setattr(message, name, value)


def _methods(
    word: str, name: str, register: Callable[[Any, TaskAnnouncement], None], *, has_source: bool, is_uploaded: bool
) -> AnnounceMethods:
    """The row of a kind, whose name is part of the names of its calls and messages."""
    upload = f"Upload{name}Task"
    return AnnounceMethods(
        word=word,
        announce=f"Announce{name}Peer",
        request=_message(f"Announce{name}PeerRequest"),
        response=_message(f"Announce{name}PeerResponse"),
        register=register,
        stat=f"Stat{name}Task",
        stat_request=_message(f"Stat{name}TaskRequest"),
        stat_reply=getattr(common_pb2, f"{name}Task"),
        has_source=has_source,
        delete=f"Delete{name}Task",
        delete_request=_message(f"Delete{name}TaskRequest"),
        delete_peer=f"Delete{name}Peer",
        delete_peer_request=_message(f"Delete{name}PeerRequest"),
        upload=upload if is_uploaded else "",
        upload_started=partial(_upload_started, f"{upload}StartedRequest"),
        upload_finished=_message(f"{upload}FinishedRequest") if is_uploaded else Message,
    )


def _message(name: str) -> type[Message]:
    """A message of schedulers."""
    message: type[Message] = getattr(scheduler_pb2, name)
    return message


def _upload_started(name: str, request: TaskAnnouncement, ids: Mapping[str, str], replicas: int, ttl: float) -> Message:
    """The message by which a peer begins to announce a task that it alone has."""
    started: Any = _message(name)(**ids)
    started.persistent_replica_count = max(1, replicas)
    started.content_length = request.content_length or 0
    started.piece_count = request.piece_count or 0
    started.ttl.FromMilliseconds(round(1000 * min(max(ttl, _LEAST_TTL), _MOST_TTL)))
    origin = request.origin if request.origin is not None else Origin()
    fields = started.DESCRIPTOR.fields_by_name
    if "object_storage" in fields:
        started.url = absolute_url(request)
        _fill_object_storage(started.object_storage, request)
    else:
        _set(started, "tag", origin.tag)
        _set(started, "application", origin.application)
        started.piece_length = max(request.piece_length or 0, _PIECE_LENGTHS.start)
    filled: Message = started
    return filled


METHODS: dict[PieceKind, AnnounceMethods] = {
    PieceKind.STANDARD: _methods("", "", _register_download, has_source=True, is_uploaded=False),
    PieceKind.PERSISTENT: _methods("persistent_", "Persistent", _register_object, has_source=True, is_uploaded=True),
    PieceKind.PERSISTENT_CACHE: _methods(
        "persistent_cache_", "PersistentCache", _register_cached, has_source=False, is_uploaded=True
    ),
}
"""The calls of each kind that schedulers know."""
