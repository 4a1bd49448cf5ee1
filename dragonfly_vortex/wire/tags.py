"""
The numbers of the protocol: tags, kinds of piece, error codes and sizes.

A kind of piece is data: a row of :class:`PieceKind`. What differs between kinds stands in that row and nowhere else.
"""

from __future__ import annotations

import enum
import struct

__all__ = [
    "CLOSE_TAG",
    "ERROR_TAG",
    "HEADER",
    "HEADER_LENGTH",
    "KIND_OF_CONTENT",
    "KIND_OF_REQUEST",
    "MAX_VALUE_LENGTH",
    "REQUEST_LENGTH",
    "TASK_ID_LENGTH",
    "ErrorCode",
    "PieceKind",
    "TrafficType",
]

HEADER = struct.Struct("!BBI")
"""A packet's header: packet ID, tag, bytes of the value."""

HEADER_LENGTH = HEADER.size
"""Bytes of a packet's header."""

TASK_ID_LENGTH = 64
"""Bytes of a task ID in a request. A task whose ID is of another length cannot be asked for over Vortex."""

REQUEST_LENGTH = TASK_ID_LENGTH + 4
"""Bytes of a request's value: task ID and piece number."""

MAX_VALUE_LENGTH = 64 * 1024
"""
Bytes that an error's, a close's or a reserved packet's value, or a piece's metadata, may have at most: our limit,
not the reference's.
"""

CLOSE_TAG = 0xFE
ERROR_TAG = 0xFF


class PieceKind(enum.Enum):
    """
    The four kinds of piece: each with the tag of its request, the tag of its content, the folder where it is stored,
    and whether its task is kept for a time that begins with its creation, however often it is used.

    The folders are the reference's (``dragonfly-client-storage``, ``content.rs``), but for the last, which is ours:
    the reference keeps cache pieces in no file.
    """

    STANDARD = ("standard", 0x00, 0x01, "tasks", False)
    PERSISTENT = ("persistent", 0x02, 0x03, "persistent-tasks", True)
    PERSISTENT_CACHE = ("persistent-cache", 0x04, 0x05, "persistent-cache-tasks", True)
    CACHE = ("cache", 0x06, 0x07, "cache-tasks", False)

    __hash__ = object.__hash__  # a kind is looked up for every piece, and the enum's own hash is a function in Python

    def __init__(self, label: str, request_tag: int, content_tag: int, directory: str, is_persistent: bool) -> None:
        self.label = label
        self.request_tag = request_tag
        self.content_tag = content_tag
        self.directory = directory
        self.is_persistent = is_persistent

    @classmethod
    def from_label(cls, label: str) -> PieceKind:
        """
        The kind of that name.

        :param label: ``standard``, ``persistent``, ``persistent-cache`` or ``cache``.
        :raises ValueError: there is no kind of that name.
        """
        for kind in cls:
            if kind.label == label:
                return kind
        raise ValueError(f"unknown kind {label!r}: expected one of {', '.join(kind.label for kind in cls)}")


KIND_OF_REQUEST = {kind.request_tag: kind for kind in PieceKind}
KIND_OF_CONTENT = {kind.content_tag: kind for kind in PieceKind}


class ErrorCode(enum.IntEnum):
    """The codes that an error packet can carry; 4 to 255 are reserved."""

    UNKNOWN = 0
    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    INTERNAL = 3


class TrafficType(enum.IntEnum):
    """The origin of a piece at the peer that sends it, as the child sees it (``common.v2.TrafficType``)."""

    BACK_TO_SOURCE = 0
    REMOTE_PEER = 1
    LOCAL_PEER = 2
