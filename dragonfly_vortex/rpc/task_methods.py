"""
A table of the methods of ``dfdaemon.v2.DfdaemonDownload`` and ``dfdaemon.v2.DfdaemonUpload`` that concern whole tasks,
read from the API's own description: a row for each method, with the kind of task and what is done with it.
"""

from __future__ import annotations

import re
from typing import Any

from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from msgspec import Struct

from dragonfly_vortex.rpc.methods import SERVICE
from dragonfly_vortex.wire import PieceKind

__all__ = ["LOCAL_SERVICE", "TaskMethod", "listed_reply", "started_reply", "task_methods"]

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
