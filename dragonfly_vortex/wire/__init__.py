"""
The Vortex protocol without I/O: it turns received bytes into events, and values into bytes to send. It needs only the
standard library: no reactor, socket or clock.

Whole packets are values: :meth:`Vortex.from_bytes` and :meth:`Vortex.to_bytes`. A stream is cut into events by
:class:`PacketReader`; :class:`Connection` enforces which side may send which packet when.
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
