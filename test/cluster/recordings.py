"""The conversations that were recorded with a real scheduler, and requests that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragonfly_api import scheduler_pb2
from google.protobuf import json_format

from dragonfly_vortex.cluster.requests import TaskAnnouncement
from dragonfly_vortex.model import Origin
from dragonfly_vortex.testing.fake_scheduler import read_recordings
from dragonfly_vortex.wire import PieceKind

__all__ = ["LENGTH", "PIECE_LENGTH", "RECORDINGS", "TASK_ID", "request_of", "said"]

RECORDINGS = read_recordings(Path(__file__).resolve().parent.parent / "vectors" / "scheduler-2.5.1.json")

TASK_ID = "ab" * 32
LENGTH, PIECE_LENGTH = 10 * 1024 * 1024, 4 * 1024 * 1024


def request_of(kind: PieceKind = PieceKind.STANDARD, **more: Any) -> TaskAnnouncement:
    """The task that the recordings are about."""
    lengths = {"content_length": LENGTH, "piece_length": PIECE_LENGTH}
    return TaskAnnouncement(
        **{"kind": kind, "task_id": TASK_ID, "origin": Origin(url="https://origin.example/file"), **lengths, **more}
    )


def said(name: str, ids: dict[str, str]) -> tuple[list[Any], list[bytes], list[str]]:
    """
    A recording as messages.

    :param ids: what the peer is called in this test.
    :returns: what the peer said, what the scheduler said, and what the call ended with.
    """
    recording = RECORDINGS[name]
    request: Any = getattr(scheduler_pb2, f"{recording.method}Request")
    response: Any = getattr(scheduler_pb2, f"{recording.method}Response")
    peer, scheduler, end = [], [], []
    for kind, value in recording.steps:
        if kind == "peer":
            message = json_format.ParseDict(value, request())
            for field, text in ids.items():
                setattr(message, field, text)
            peer.append(message)
        elif kind == "scheduler":
            scheduler.append(json_format.ParseDict(value, response()).SerializeToString())
        else:
            end = value
    return peer, scheduler, end
