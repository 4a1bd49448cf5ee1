"""What a download shows, event by event; ``test_download`` has it as a process."""

from __future__ import annotations

import io
import json
import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, get_args

from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.report import Report
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
)
from dragonfly_vortex.storage.exporter import Way

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "command-line.md"

DONE = DownloadedTask(
    task_id="a" * 64,
    content_length=250,
    piece_length=100,
    piece_count=3,
    seconds=1.25,
    left_to_hash=0,
    shares=(ParentShare(parent="p:1", piece_count=3, content_length=250),),
    fetched_twice=100,
    found_piece_count=1,
    digest="crc32:1",
    from_source={"no_parent": 1, "slow": 2},
)


def kept(number: int, length: int = 100, parent: str = "p:1", transport: str = "tcp") -> PieceKept:
    """A piece that has arrived."""
    return PieceKept(
        number=number,
        offset=number * 100,
        length=length,
        digest="crc32:7",
        parent=parent,
        transport=transport,
        seconds=0.5,
        kept_bytes=100,
        kept_pieces=1,
        content_length=None,
    )


EVENTS: tuple[DownloadEvent, ...] = (
    LayoutFound(content_length=250, piece_length=None),
    kept(0),
    PiecesDropped(numbers=(0,), reason="wrong", kept_bytes=0, kept_pieces=0),
    DigestMismatched(number=None, parent="p:1", reason="expected another digest"),
    Waiting(reason=WaitReason.SILENT_PARENT, text="parent p:1 has sent nothing", parent="p:1", seconds=7.0),
    ParentAdded(parent="p:1"),
    ParentDropped(parent="p:1", reason="refused \udcff", has_lied=True),
    DownloadFinished(task=DONE),
    DownloadFailed(error="NoParentLeft", reason="no parent left"),
)

#: The type of each field of a line; a field that may be unknown has None, too.
TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, type(None)),
    **dict.fromkeys(("version", "offset", "length", "kept_bytes", "kept_pieces", "piece_count"), (int,)),
    **dict.fromkeys(("left_to_hash", "fetched_twice", "found_piece_count"), (int,)),
    **dict.fromkeys(("content_length", "piece_length"), (int, type(None))),
    **dict.fromkeys(("event", "digest", "parent", "transport", "reason", "text", "error", "output", "way"), (str,)),
    **dict.fromkeys(("task_id",), (str,)),
    **dict.fromkeys(("seconds", "throttled"), (float,)),
    **dict.fromkeys(("numbers", "shares"), (list,)),
    **dict.fromkeys(("lies", "from_source", "task"), (dict,)),
    **dict.fromkeys(("has_lied", "has_failed", "rests"), (bool,)),
}


class ReportTests(SynchronousTestCase):
    """A report whose standard output and error are kept."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def report(self, *options: str) -> Report:
        """A report of a download with these options."""
        arguments: Namespace = make_parser().parse_args(["download", "a" * 64, "-O", "out", *options])
        return Report(arguments)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of JSON that have been written."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def test_shares(self) -> None:
        """Bytes are counted by parent and transport; a piece that was there has none, one that was dropped no more."""
        with self.report() as report:
            for event in (
                kept(0),
                kept(1, parent="grpc://p:2", transport="grpc"),
                kept(2, parent="", transport=""),
                kept(3),
                PiecesDropped(numbers=(0,), kept_bytes=0, kept_pieces=0),
                kept(0, 50, "p:1", "grpc"),
            ):
                report.take(event)
            report.finish(DONE, {"TCP": 1, "gRPC": 2}, has_origin=True)
        self.assertEqual(
            self.out.getvalue().splitlines(),
            [
                "from grpc://p:2 over gRPC: 100 bytes in 1 piece",
                "from p:1 over TCP: 100 bytes in 1 piece",
                "from p:1 over gRPC: 50 bytes in 1 piece",
                "out: 250 bytes in 3 pieces, verified against crc32:1, in 1.2 s, 1 piece over TCP, 2 pieces over gRPC, "
                "3 requests to the source (1 no_parent, 2 slow), 1 piece there before, 100 bytes fetched twice, "
                f"task {'a' * 64}",
            ],
        )
        self.assertEqual(self.err.getvalue(), "")

    def test_nothing_to_verify(self) -> None:
        """An empty task without a digest has nothing to verify; a task without an output is named once."""
        done = structs.replace(DONE, content_length=0, piece_count=0, digest="", found_piece_count=0, fetched_twice=0)
        arguments = make_parser().parse_args(["download", "a" * 64, "--store"])
        with Report(arguments) as report:
            report.finish(done, {}, has_origin=True)
        [line] = self.out.getvalue().splitlines()
        self.assertTrue(line.startswith(f"{'a' * 64}: 0 bytes in 0 pieces, nothing to verify, in 1.2 s"), line)
        self.assertEqual(line.count("a" * 64), 1)

    def test_verified(self) -> None:
        """Without a digest of the whole it is said what was verified; one reason to ask the source has no number."""
        done = structs.replace(DONE, digest="")
        for from_source, expected in (
            ({}, "each piece verified against its parent's digest, the whole not verified, in 1.2 s"),
            (
                {"slow": 2},
                "not verified (no digest is known), in 1.2 s, 2 requests to the source (slow), 1 piece there",
            ),
        ):
            with self.report() as report:
                report.finish(structs.replace(done, from_source=from_source), {}, has_origin=False)
            self.assertIn(expected, self.out.getvalue().splitlines()[-1])

    def test_waits(self) -> None:
        """For people, what a download waits for is a line on standard error; with ``--quiet`` it is not."""
        for options, expected in (
            ((), ["dfvortex: wrong", "dfvortex: parent p:1 has sent nothing", "dfvortex: told"]),
            (("--quiet",), []),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            with self.report(*options) as report:
                for event in EVENTS:
                    report.take(event)
                report.say("told")
            self.assertEqual((self.out.getvalue(), self.err.getvalue().splitlines()), ("", expected))

    def test_dropped(self) -> None:
        """A parent that failed for good beside others is named; one that rests, is removed, lied or was last is not."""
        with self.report() as report:
            for parent in "abcde":
                report.take(ParentAdded(parent=parent))
            report.take(ParentDropped(parent="a", reason="refused", has_failed=True))
            report.take(ParentDropped(parent="b", reason="late", has_failed=True, rests=True))
            report.take(ParentDropped(parent="c", reason="removed"))
            report.take(ParentDropped(parent="d", reason="wrong", has_failed=True, has_lied=True))
            report.take(ParentDropped(parent="e", reason="refused", has_failed=True))
        self.assertEqual(self.err.getvalue(), "dfvortex: parent a is asked no more: refused\n")

    def test_json(self) -> None:
        """Each event is a line with the schema's version, its name, and the fields and types of the documentation."""
        rows = dict(re.findall(r"(?m)^\| `(\w+)` \| .* \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8")))
        with self.report("--progress", "jsonl") as report:
            for event in EVENTS:
                report.take(event)
            report.say("told")
            report.export(Way.REFLINK)
            report.finish(DONE, {}, has_origin=False)
        self.assertEqual(self.err.getvalue(), "")
        lines = self.lines()
        self.assertEqual({type(event) for event in EVENTS}, set(get_args(DownloadEvent)))
        self.assertEqual({line["event"] for line in lines}, set(rows) - {"event", "error"})
        for line in lines:
            documented = set(re.findall(r"`(\w+)`", rows[str(line["event"])])) | {"version", "event"}
            self.assertEqual(line["version"], 1)
            for part in (line, *(line[name] for name in ("task",) if name in line)):
                self.assertLessEqual(part.keys(), documented)
                for name, value in part.items():
                    self.assertIn(type(value), TYPES[name], (name, line))
        for reason in WaitReason:
            self.assertIn(f"`{reason.value}`", rows["waiting"])
        for way in Way:
            self.assertIn(f"`{way.name.lower()}`", rows["exported"])

    def test_json_beside_content(self) -> None:
        """Where standard output has the content, standard error has the lines."""
        with self.report("--progress", "jsonl", "-O", "-") as report:
            report.take(EVENTS[0])
        self.assertEqual(self.out.getvalue(), "")
        self.assertEqual(json.loads(self.err.getvalue())["event"], "layout_found")
