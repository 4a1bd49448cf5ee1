"""
Programs that begin at the same moment. Each loads what it needs, writes :data:`READY` and reads a line: then its work
begins. So the time that one machine needs to start many interpreters is not in what is measured.

A program's work is done when it ends, or when it writes :data:`DONE`. Such a program goes on until its standard input
ends, which is when all have done their work.
"""

from __future__ import annotations

import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import DidNotWork, held_back

__all__ = ["CUE", "DONE", "READY", "Finished", "run_together"]

READY, CUE, DONE = "ready\n", "go\n", "done\n"
"""What a program writes when it has loaded, what it is sent then, and what it may write when its work is done."""

_TO_LOAD = 120.0
"""Seconds that all programs together have to load."""

_TO_END = 15.0
"""Seconds that a program has to end when its standard input has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """
    A program that has done its work.

    :param status: its exit status; minus the signal's number for one that was ended by a signal.
    :param seconds: from the cue to the end of its work.
    :param output: what it wrote.
    """

    status: int
    seconds: float
    output: str


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """
    A program that runs.

    :param done_at: when its work was done; None before that.
    """

    name: str
    process: subprocess.Popen[bytes]
    output: bytearray = field(default_factory=bytearray)
    done_at: float | None = None

    @property
    def text(self) -> str:
        """What it has written."""
        return self.output.decode("utf-8", errors="replace")

    def write(self, text: str) -> None:
        """Write to its standard input."""
        if self.process.stdin is not None:
            self.process.stdin.write(text.encode())


def run_together(
    commands: Mapping[str, Sequence[str | Path]],
    directory: Path,
    timeout: float,
    kills: Mapping[str, float] | None = None,
    on_cue: Callable[[], object] = lambda: None,
    on_kill: Callable[[str], object] = lambda name: None,
) -> dict[str, Finished]:
    """
    Run programs until all have done their work.

    :param commands: the programs with their arguments, by a name.
    :param directory: where they run.
    :param timeout: seconds from the cue after which all are killed whose work is not done.
    :param kills: seconds from the cue after which a program is killed, by its name, if its work is not done by then.
    :param on_cue: called right before the cue.
    :param on_kill: called with the name of a program that has been killed by one of the kills.
    :raises DidNotWork: one ended before the cue, or did not load in time.
    """
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        running = [_start(name, command, directory, stack) for name, command in commands.items()]
        for each in running:
            selector.register(each.process.stdout or 0, selectors.EVENT_READ, each)
        deadline = time.monotonic() + _TO_LOAD
        while late := [each for each in running if READY not in each.text]:
            _read(selector, deadline - time.monotonic())
            ended = [each for each in late if each.done_at is not None]
            if ended or time.monotonic() >= deadline:
                raise DidNotWork(f"expected {READY!r} from {(ended or late)[0].name}, got:\n{(ended or late)[0].text}")
        on_cue()
        began = time.monotonic()
        for each in running:
            each.write(CUE)
        dues = sorted(
            [*((at, name, True) for name, at in (kills or {}).items()), *((timeout, name, False) for name in commands)]
        )
        while any(each.done_at is None for each in running):
            now = time.monotonic() - began
            while dues and dues[0][0] <= now:
                _, name, is_planned = dues.pop(0)
                for each in running:
                    if each.name == name and each.done_at is None:
                        each.process.kill()
                        if is_planned:
                            on_kill(name)
            _read(selector, dues[0][0] - now if dues else _TO_END)
        return {each.name: _finish(each, began) for each in running}


def _start(name: str, command: Sequence[str | Path], directory: Path, stack: ExitStack) -> _Running:
    """Start a program, which is killed when the stack ends."""
    with held_back(signal.SIGTERM):
        process = stack.enter_context(
            subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
            )
        )
        stack.callback(process.kill)
    return _Running(name=name, process=process)


def _read(selector: selectors.BaseSelector, timeout: float) -> None:
    """Read what programs have written, and see which have done their work."""
    for key, _ in selector.select(max(0.0, timeout)):
        each: _Running = key.data
        data = each.process.stdout.read(65536) if each.process.stdout is not None else b""
        each.output += data or b""
        if not data:
            selector.unregister(key.fileobj)
        if each.done_at is None and (not data or DONE in each.text):
            each.done_at = time.monotonic()


def _finish(running: _Running, began: float) -> Finished:
    """Have a program end whose work is done."""
    process = running.process
    rest, _ = process.communicate(timeout=_TO_END)
    return Finished(
        status=process.wait(), seconds=(running.done_at or began) - began, output=running.text + rest.decode()
    )
