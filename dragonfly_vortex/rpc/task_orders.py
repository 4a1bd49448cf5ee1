"""Reads the requests for whole tasks: what is to be downloaded or imported, and what the caller wants of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dragonfly_api import common_pb2
from grpc import StatusCode
from msgspec import Struct

from dragonfly_vortex.digest import parse_digest
from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.identity import digest_in_url, task_id_of
from dragonfly_vortex.model import ByteRange, Credentials, Origin, TaskRequest
from dragonfly_vortex.rpc.methods import TaskMethod
from dragonfly_vortex.rpc.peer_tasks import BlockSubject, ImportRequest, OutputRequest
from dragonfly_vortex.rpc.status import Status
from dragonfly_vortex.storage.content import is_task_id
from dragonfly_vortex.wire import PieceKind
from dragonfly_vortex.wire.messages import printable

__all__ = ["CallRefused", "DownloadOrder", "block_subject", "download_order", "import_order", "source_question"]

_PRIORITY = 6
"""The last of the priorities, and that of a request which has none, as of ``dfget``."""

_RANGE = re.compile(r"\s*bytes\s*=\s*(?:([0-9]{1,19})\s*-\s*([0-9]{1,19})?|-\s*([0-9]{1,19}))\s*(?:,.*)?")


class CallRefused(Exception):
    """
    A call cannot be served.

    :param code: what it ends with.
    :param text: the words that go with it.
    """

    def __init__(self, code: StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = Status(code, text)


class DownloadOrder(Struct, frozen=True, kw_only=True):
    """
    The order of a caller to download a task.

    :param request: the task.
    :param digest: what the caller says that the content must have; empty for nothing.
    :param output: the file that is to be made, without its range; None for none.
    :param needs_content: whether the caller wants the bytes of the pieces.
    :param is_prefetch: whether the rest is to be downloaded, too, where a range is wanted.
    """

    request: TaskRequest
    digest: str = ""
    output: OutputRequest | None = None
    needs_content: bool = False
    is_prefetch: bool = False

    @property
    def has_range(self) -> bool:
        """Whether only a range is wanted."""
        return self.request.range is not None

    def span(self, content_length: int) -> tuple[int, int]:
        """
        The bytes that are wanted: the first, and the one behind the last.

        :raises CallRefused: the content has none of them.
        """
        if self.request.range is None:
            return 0, content_length
        first, end = self.request.range.within(content_length)
        if first >= end:
            text = f"expected a range within {content_length} bytes, got one from byte {first} on"
            raise CallRefused(StatusCode.FAILED_PRECONDITION, text)
        return first, end


def download_order(method: TaskMethod, message: Any, *, is_foreign: bool) -> DownloadOrder:
    """
    Read a request for a download.

    :param message: the request.
    :param is_foreign: whether it came over the network.
    :raises CallRefused: it is not complete, or not for such a caller.
    """
    if "download" in method.request.DESCRIPTOR.fields_by_name:
        if not message.HasField("download"):
            raise CallRefused(StatusCode.INVALID_ARGUMENT, "missing download")
        message = message.download
    origin = _origin(method.kind, message, is_foreign=is_foreign)
    digest = _digest(message.digest)
    headers = dict(getattr(message, "request_header", {}))
    wanted = _range(message, headers)
    output = _output(message)
    if output is not None and is_foreign:
        raise CallRefused(StatusCode.PERMISSION_DENIED, "expected no output path over the network, got one")
    request = TaskRequest(
        kind=method.kind,
        task_id=_task_id(method.kind, origin, message),
        origin=origin if origin.url else None,
        # That of the ID is the better one: it holds for all callers.
        digest=(origin.by_blob_digest and digest_in_url(origin.url)) or digest,
        headers=headers,
        credentials=_credentials(message),
        may_ask_source=not getattr(message, "disable_back_to_source", False),
        must_ask_source=getattr(message, "need_back_to_source", False),
        must_ask_scheduler=getattr(message, "scheduling_policy", common_pb2.AUTO) == common_pb2.ALWAYS,
        priority=_priority(message),
        is_pinned=getattr(message, "persistent", False),
        is_foreign=is_foreign,
        range=wanted,
    )
    return DownloadOrder(
        request=request,
        digest=digest,
        output=output,
        needs_content=message.need_piece_content,
        is_prefetch=getattr(message, "prefetch", False),
    )


def block_subject(message: Any) -> BlockSubject:
    """
    Read the properties of a request by which an operator can block it.

    :param message: a request for a download or an import.
    """
    if "download" in message.DESCRIPTOR.fields_by_name:
        message = message.download
    fields = message.DESCRIPTOR.fields_by_name
    said = {name for name in ("application", "tag") if name in fields and message.HasField(name)}
    said |= {name for name in ("url", "priority") if name in fields}
    return BlockSubject(**{name: getattr(message, name) for name in said})


def import_order(method: TaskMethod, message: Any) -> ImportRequest:
    """
    Read a request for an import.

    :raises CallRefused: it is not complete.
    """
    return ImportRequest(
        kind=method.kind,
        path=_absolute(message.path),
        origin=_origin(method.kind, message, is_foreign=False),
        ttl=message.ttl.ToTimedelta().total_seconds() if message.HasField("ttl") else None,
        replica_count=message.persistent_replica_count,
        credentials=_credentials(message),
    )


def source_question(message: Any, *, is_foreign: bool) -> TaskRequest:
    """
    Read a request for what a source lists.

    :param is_foreign: whether it came over the network.
    """
    return TaskRequest(
        kind=PieceKind.STANDARD,
        task_id=message.task_id,
        origin=_origin(PieceKind.STANDARD, message, is_foreign=is_foreign),
        headers=dict(message.request_header),
        credentials=_credentials(message),
        is_foreign=is_foreign,
    )


def _credentials(message: Any) -> Credentials:
    """What the source of a task is shown."""
    hub, storage = _hub(message), _object_storage(message)
    if storage is not None:
        return Credentials(
            access_key_id=storage.access_key_id,
            access_key_secret=storage.access_key_secret,
            session_token=storage.session_token,
        )
    return Credentials(token="" if hub is None else hub.token)


def _object_storage(message: Any) -> Any:
    """What a request says about an object storage; None where it is about none."""
    has_field = "object_storage" in message.DESCRIPTOR.fields_by_name
    return message.object_storage if has_field and message.HasField("object_storage") else None


def _origin(kind: PieceKind, message: Any, *, is_foreign: bool) -> Origin:
    """
    What a task is made from. A stranger does not choose the hub, nor the object storage of a standard task: the task's
    ID leaves them out, and others get what is fetched under that ID.
    """
    fields = message.DESCRIPTOR.fields_by_name
    hub, storage = _hub(message), _object_storage(message)
    region, endpoint = (storage.region, storage.endpoint) if storage is not None else ("", "")
    if kind is PieceKind.PERSISTENT:
        if storage is None:
            raise CallRefused(StatusCode.INVALID_ARGUMENT, "missing object storage")
        for name, value in (("region", region), ("endpoint", endpoint)):
            if not value:
                raise CallRefused(StatusCode.INVALID_ARGUMENT, f"missing object storage {name}")

    def optional(name: str) -> Any:
        return getattr(message, name) if name in fields and message.HasField(name) else None

    if hub is not None:
        endpoint = hub.base_url
    return Origin(
        url=getattr(message, "url", ""),
        tag=optional("tag") or "",
        application=optional("application") or "",
        filtered_query_params=tuple(getattr(message, "filtered_query_params", ())),
        revision=hub.revision if hub is not None else "",
        piece_length=optional("piece_length"),
        content_for_calculating_task_id=optional("content_for_calculating_task_id"),
        by_blob_digest=getattr(message, "enable_task_id_based_blob_digest", False),
        region=region,
        endpoint="" if is_foreign and kind is not PieceKind.PERSISTENT else endpoint,
    )


def _task_id(kind: PieceKind, origin: Origin, message: Any) -> str:
    """The ID of a task that is to be downloaded."""
    if "task_id" in message.DESCRIPTOR.fields_by_name:
        if not is_task_id(message.task_id):
            raise CallRefused(
                StatusCode.INVALID_ARGUMENT, f"expected the ID of a task, got {printable(message.task_id)!r}"
            )
        return str(message.task_id)
    try:
        # The reference has no rule for cache tasks: their requests have all that a standard task's ID is made from.
        return task_id_of(origin, PieceKind.STANDARD if kind is PieceKind.CACHE else kind)
    except InvalidOrigin as error:
        raise CallRefused(StatusCode.INVALID_ARGUMENT, str(error)) from error


def _hub(message: Any) -> Any:
    """What a request says about a hub of models; None where it is about none."""
    for name in ("hugging_face", "model_scope", "open_csg"):
        if name in message.DESCRIPTOR.fields_by_name and message.HasField(name):
            return getattr(message, name)
    return None


def _priority(message: Any) -> int:
    """The priority of a request; another one than those that there are is the usual one."""
    priority = int(getattr(message, "priority", _PRIORITY))
    return priority if 0 <= priority <= _PRIORITY else _PRIORITY


def _digest(text: str) -> str:
    """The digest that the content is to have."""
    if text:
        try:
            parse_digest(text)
        except ValueError as error:
            raise CallRefused(StatusCode.INVALID_ARGUMENT, f"invalid digest({text}): {error}") from error
    return text


def _range(message: Any, headers: dict[str, str]) -> ByteRange | None:
    """
    The range that is wanted: of the request, or else of its header ``Range``, of which only the first
    range counts, as in the reference. The header is taken out.
    """
    text = ""
    for name in [name for name in headers if name.lower() == "range"]:
        text = headers.pop(name)
    if "range" in message.DESCRIPTOR.fields_by_name and message.HasField("range"):
        return ByteRange(start=message.range.start, length=message.range.length)
    if not text:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
        raise CallRefused(StatusCode.FAILED_PRECONDITION, f"expected a range such as bytes=0-99, got {text!r}")
    if match[1] is None:
        return ByteRange(length=int(match[3]))
    first, last = int(match[1]), match[2]
    return ByteRange(start=first, length=None if last is None else int(last) - first + 1)


def _output(message: Any) -> OutputRequest | None:
    """The file that is to be made."""
    if not message.HasField("output_path") or not message.output_path:
        return None
    return OutputRequest(
        path=_absolute(message.output_path),
        overwrite=message.overwrite,
        must_link=getattr(message, "force_hard_link", False),
    )


def _absolute(text: str) -> Path:
    """A path of the caller's."""
    path = Path(text)
    if not path.is_absolute():
        raise CallRefused(StatusCode.INVALID_ARGUMENT, f"expected an absolute path, got {text!r}")
    return path
