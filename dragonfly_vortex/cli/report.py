"""What ``dfvortex download`` shows: a bar, lines and a result for people, or lines of JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from dragonfly_vortex.cli.terminal import ProgressBar, counted, verified_against
from dragonfly_vortex.cli.values import STDOUT
from dragonfly_vortex.events import (
    DownloadedTask,
    DownloadEvent,
    ParentAdded,
    ParentDropped,
    PieceKept,
    PiecesDropped,
    Waiting,
)
from dragonfly_vortex.transport_table import SOURCES, TRANSPORTS

if TYPE_CHECKING:
    from dragonfly_vortex.storage.exporter import Way

__all__ = ["JSONL", "VERSION", "Report", "Share", "print_json"]

JSONL = "jsonl"
"""The value of ``--progress`` for lines of JSON."""

VERSION = 1
"""Of the lines of JSON: the field ``version`` of each. It rises when a field goes or changes, not when one is added."""


class Share(Struct, frozen=True, kw_only=True):
    """
    The pieces and bytes that a parent has given over one transport.

    :param parent: its address.
    :param transport: the name of the transport.
    :param content_length: bytes.
    :param piece_count: how many pieces these are.
    """

    parent: str
    transport: str
    content_length: int
    piece_count: int

    def __str__(self) -> str:
        labels = {each.name: each.label for each in (*TRANSPORTS, *SOURCES)}
        amount = f"{counted(self.content_length, 'byte')} in {counted(self.piece_count, 'piece')}"
        return f"from {self.parent} over {labels.get(self.transport, self.transport)}: {amount}"


class Report(AbstractContextManager["Report"]):
    """
    Shows a download while it goes on.

    :param arguments: the command's.
    """

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments
        self._is_json = arguments.progress == JSONL
        self._bar = ProgressBar(
            "downloading",
            is_hidden=arguments.no_progress or arguments.progress != "bar",
            is_quiet=arguments.quiet or self._is_json,
        )
        self._kept: dict[int, tuple[str, str, int]] = {}  # parent, transport and length of each piece
        self._asked: set[str] = set()  # the parents that are asked
        self._bar.show(0, None, 0)
        self._way: Way | None = None

    @property
    def shares(self) -> list[Share]:
        """The share of each parent over each transport in what is kept, the largest first."""
        shares: dict[tuple[str, str], tuple[int, int]] = {}
        for parent, transport, length in self._kept.values():
            total, count = shares.get((parent, transport), (0, 0))
            shares[parent, transport] = total + length, count + 1
        found = [
            Share(parent=parent, transport=transport, content_length=total, piece_count=count)
            for (parent, transport), (total, count) in shares.items()
        ]
        return sorted(found, key=lambda share: (-share.content_length, share.parent, share.transport))

    def take(self, event: DownloadEvent) -> None:
        """Show an event. A reader of JSON that does not read holds the download up."""
        if isinstance(event, PieceKept):
            self._kept.pop(event.number, None)
            if event.parent:
                self._kept[event.number] = event.parent, event.transport, event.length
            self._bar.show(event.kept_bytes, event.content_length, event.kept_pieces)
        elif isinstance(event, PiecesDropped):
            for number in event.numbers:
                self._kept.pop(number, None)
            if event.reason:
                self._bar.say(event.reason)
        elif isinstance(event, Waiting):
            self._bar.say(event.text)
        elif isinstance(event, ParentAdded):
            self._asked.add(event.parent)
        elif isinstance(event, ParentDropped):
            self._drop(event)
        if self._is_json:
            print_json(self._arguments, **msgspec.to_builtins(event))

    def _drop(self, event: ParentDropped) -> None:
        """Name a parent that failed for good beside others. The result names one that has lied, an error the last."""
        self._asked.discard(event.parent)
        if self._asked and event.has_failed and not event.has_lied and not event.rests:
            self._bar.say(f"parent {event.parent} is asked no more: {event.reason}")

    def say(self, line: str) -> None:
        """Show a line that belongs to no event."""
        self._bar.say(line)
        self._add("message", text=line)

    def export(self, way: Way) -> None:
        """Show that the output has been written from the storage."""
        self._way = way
        self._add("exported", output=str(self._arguments.output), way=way.name.lower())

    def finish(self, done: DownloadedTask, carried: Mapping[str, int], *, has_origin: bool) -> None:
        """
        Show the result.

        :param carried: the number of pieces by the labels of transports, where there was a choice.
        :param has_origin: whether the command names an origin, from which the task's ID was made.
        """
        self._add("summary", shares=[msgspec.to_builtins(share) for share in self.shares])
        if self._is_json or self._arguments.quiet:
            return
        stream = sys.stderr if self._arguments.output == STDOUT else sys.stdout
        for share in self.shares:
            print(share, file=stream)
        details = [f"{counted(count, 'piece')} over {transport}" for transport, count in carried.items()]
        if done.from_source:
            reasons = sorted(done.from_source.items())
            told = ", ".join(f"{count} {reason}" for reason, count in reasons) if len(reasons) > 1 else reasons[0][0]
            details.append(f"{counted(sum(done.from_source.values()), 'request')} to the source ({told})")
        if done.found_piece_count and done.content_length:  # an empty task needs no piece from anywhere
            details.append(f"{counted(done.found_piece_count, 'piece')} there before")
        if done.fetched_twice:
            details.append(f"{counted(done.fetched_twice, 'byte')} fetched twice")
        if self._way is not None and self._arguments.output != STDOUT:  # a pipe takes a copy only
            details.append(f"output {self._way.value}")
        if has_origin and self._arguments.output:
            details.append(f"task {done.task_id}")
        verified = verified_against(done.digest, "its parent's")
        if not done.piece_count and not done.digest:
            verified = "nothing to verify"
        elif done.from_source and not done.digest:
            verified = "pieces of the source not verified (no digest is known)"
        amount = f"{counted(done.content_length, 'byte')} in {counted(done.piece_count, 'piece')}"
        name = self._arguments.output or done.task_id
        print(f"{name}: {amount}, {verified}, in {done.seconds:.1f} s", *details, sep=", ", file=stream)

    def _add(self, event: str, **fields: Any) -> None:
        """Write a line of JSON that is no event of the download itself, where there are such lines."""
        if self._is_json:
            print_json(self._arguments, event=event, **fields)

    def tick(self) -> None:
        """Show the elapsed time."""
        self._bar.tick()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, traceback)


def print_json(arguments: Namespace, **fields: Any) -> None:
    """
    Write a line of JSON to standard output, or where that has the content to standard error. If its reader has ended,
    the download goes on without lines.
    """
    stream = sys.stderr if arguments.output == STDOUT else sys.stdout
    try:
        print(json.dumps({"version": VERSION, **fields}), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
