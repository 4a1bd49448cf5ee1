"""
The packets that the reference's crate ``vortex-protocol`` 0.1.5 encodes, and what it refuses, as values of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragonfly_vortex.wire import (
    Close,
    ErrorReply,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Reserved,
    Vortex,
)

FILE = Path(__file__).resolve().parent.parent / "vectors" / "vortex-0.1.5.json"

_KINDS = {
    "piece": PieceKind.STANDARD,
    "persistent_piece": PieceKind.PERSISTENT,
    "persistent_cache_piece": PieceKind.PERSISTENT_CACHE,
    "cache_piece": PieceKind.CACHE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """
    A packet that the reference encodes.

    :param name: its name, with the packet ID.
    :param packet: the fields, as ours.
    :param data: the bytes.
    """

    name: str
    packet: Vortex
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful:
    """
    Bytes that the reference was given as one whole packet.

    :param name: what is special about them.
    :param accepted: whether the reference accepted them.
    :param data: the bytes.
    """

    name: str
    accepted: bool
    data: bytes


def valid_vectors() -> list[Valid]:
    """All packets that the reference encodes."""
    return [
        Valid(name=f"{row['name']} {row['packet_id']}", packet=_packet(row), data=bytes.fromhex(row["bytes"]))
        for row in _load()["valid"]
    ]


def doubtful_vectors() -> list[Doubtful]:
    """All packets that the reference was asked about."""
    return [
        Doubtful(name=row["name"], accepted=row["reference"] == "accepted", data=bytes.fromhex(row["bytes"]))
        for row in _load()["invalid"]
    ]


def _load() -> Mapping[str, list[dict[str, Any]]]:
    loaded: Mapping[str, list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


def _packet(row: Mapping[str, Any]) -> Vortex:
    packet_id, message = row["packet_id"], row["message"]
    if message == "close":
        return Close(packet_id=packet_id)
    if message == "reserved":
        return Reserved(packet_id=packet_id, reserved_tag=row["tag"])
    if message == "error":
        return ErrorReply(packet_id=packet_id, code=row["code"], text=row["text"])
    if message.startswith("download_"):
        kind = _KINDS[message.removeprefix("download_")]
        return PieceRequest(packet_id=packet_id, kind=kind, task_id=row["task_id"], number=row["piece_number"])
    metadata = PieceMetadata(
        number=row["piece_number"],
        offset=row["offset"],
        length=row["length"],
        digest=row["digest"],
        parent_id=row["parent_id"],
        traffic_type=row["traffic_type"],
        cost=row["cost_seconds"],
        created_at=row["created_at"],
    )
    return PieceContent(packet_id=packet_id, kind=_KINDS[message.removesuffix("_content")], metadata=metadata)
