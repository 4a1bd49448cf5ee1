"""Tests of the events of a download."""

from __future__ import annotations

import json
import typing

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.events import (
    DigestMismatched,
    DownloadedTask,
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    LayoutFound,
    ParentAdded,
    ParentDropped,
    ParentShare,
    PieceKept,
    PiecesDropped,
    Waiting,
    WaitReason,
    as_json,
)

_EVENTS: dict[str, DownloadEvent] = {
    "layout_found": LayoutFound(content_length=10, piece_length=None),
    "piece_kept": PieceKept(
        number=1,
        offset=4,
        length=4,
        digest="crc32:0",
        parent="a:1",
        transport="tcp",
        seconds=0.5,
        throttled=0.25,
        kept_bytes=8,
        kept_pieces=2,
        content_length=10,
    ),
    "pieces_dropped": PiecesDropped(numbers=(1, 2), reason="why", kept_bytes=0, kept_pieces=0),
    "waiting": Waiting(reason=WaitReason.SILENT_PARENT, text="parent a:1 is silent", parent="a:1", seconds=7.0),
    "parent_added": ParentAdded(parent="a:1"),
    "parent_dropped": ParentDropped(parent="a:1", reason="removed"),
    "digest_mismatched": DigestMismatched(number=1, parent="a:1", reason="expected crc32:0, got crc32:1"),
    "finished": DownloadFinished(
        task=DownloadedTask(
            task_id="t",
            content_length=10,
            piece_length=4,
            piece_count=3,
            seconds=1.0,
            left_to_hash=0,
            shares=(ParentShare(parent="a:1", piece_count=3, content_length=10),),
        )
    ),
    "failed": DownloadFailed(error="NoParentLeft", reason="no parent"),
}


class EventTests(SynchronousTestCase):
    """The events as values and as JSON."""

    def test_all(self) -> None:
        """Each type of event is tried here."""
        self.assertEqual({type(event) for event in _EVENTS.values()}, set(typing.get_args(DownloadEvent)))

    def test_json(self) -> None:
        """An event is one line of JSON that names its type, and can be read back."""
        for name, event in _EVENTS.items():
            line = as_json(event)
            self.assertNotIn(b"\n", line)
            self.assertEqual(json.loads(line)["event"], name)
            self.assertEqual(msgspec.json.decode(line, type=DownloadEvent), event)

    def test_frozen(self) -> None:
        """An event does not change."""
        for event in _EVENTS.values():
            self.assertRaises(AttributeError, setattr, event, type(event).__struct_fields__[0], None)
