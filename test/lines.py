"""Counts the lines of the package that something runs: the measure of its cost that no load of the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import dragonfly_vortex

__all__ = ["LineCount"]

_PACKAGE = str(Path(dragonfly_vortex.__file__).parent)


class LineCount:
    """
    The lines of the package that the thread runs inside the block, each pass of a loop too. What was tracing before,
    such as a measurement of coverage, traces again after it.

    :param part: the part of the package whose lines count, such as ``task``; empty for all.
    """

    def __init__(self, part: str = "") -> None:
        self.count = 0
        self._folder = f"{_PACKAGE}/{part}"
        self._before: Any = None

    def __enter__(self) -> LineCount:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return self._run if frame.f_code.co_filename.startswith(self._folder) else None

    def _run(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        self.count += event == "line"
        return self._run
