"""
The Vortex protocol without I/O: bytes in, events out. It needs the standard library alone, no reactor, no socket and
no clock.

Whole packets are values: :meth:`Vortex.from_bytes` and :meth:`Vortex.to_bytes`. A stream is cut into events by
:class:`PacketReader`; who may say what is held by :class:`Connection`.
"""

from __future__ import annotations

from dragonfly_vortex.wire.connection import Connection, Role, State
from dragonfly_vortex.wire.messages import Close, ErrorReply, PieceContent, PieceRequest, Reserved, Vortex
from dragonfly_vortex.wire.metadata import PieceMetadata
from dragonfly_vortex.wire.reader import ContentFinished, ContentReceived, Event, PacketReader
from dragonfly_vortex.wire.tags import ErrorCode, PieceKind, TrafficType

__all__ = [
    "Close",
    "Connection",
    "ContentFinished",
    "ContentReceived",
    "ErrorCode",
    "ErrorReply",
    "Event",
    "PacketReader",
    "PieceContent",
    "PieceKind",
    "PieceMetadata",
    "PieceRequest",
    "Reserved",
    "Role",
    "State",
    "TrafficType",
    "Vortex",
]
