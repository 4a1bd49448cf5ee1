"""
Shows work on a terminal: formats values in one line without control characters, and draws a progress bar for work that
takes longer than a second.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from dragonfly_vortex.errors import OutputError
from dragonfly_vortex.system_calls import reason_of

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["ProgressBar", "counted", "drop_output", "end_output", "flush_output", "one_line", "verified_against"]


def flush_output(text: str = "") -> None:
    """
    Write what has been printed, and a text behind it.

    :raises OutputError: it cannot be written; not for a reader that has ended, which is a :class:`BrokenPipeError`.
    """
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: {reason_of(error)}") from error


def end_output() -> None:
    """Write what has been printed, if that is possible; else forget it, as Python would try once more, and complain."""
    try:
        flush_output()
    except (BrokenPipeError, OutputError):
        drop_output()


def drop_output() -> None:
    """Forget what has been printed and not been written."""
    if sys.stdout is not None:  # as it is where it was closed from the beginning
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def counted(number: int, noun: str) -> str:
    """
    A number of things, in words: ``1 piece``, ``2 pieces``.

    :param noun: what one of them is called.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def verified_against(digest: str, by: str = "its") -> str:
    """
    Name the digest that a content was verified against, for a message.

    :param digest: the digest of the whole; empty where none is known.
    :param by: whose digest each piece was verified against.
    """
    if digest:
        return f"verified against {digest}"
    return f"each piece verified against {by} digest, the whole not verified"


def one_line(text: str) -> str:
    """
    A text as one line. What cannot be printed is escaped as in Python: a line's end, a colour, half a character.

    :param text: an error's, say; names of files and what parents have said may be part of it.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


_DELAY = 1.0  # seconds before there is anything to see
_COLUMNS = 80  # of a terminal that does not say how many it has: a serial line, a container's


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """
    Bytes done, rate, time left, and pieces.

    :param what: a word for the work.
    :param is_hidden: whether there is no bar.
    :param is_quiet: whether there are neither a bar nor lines.
    """

    def __init__(self, what: str, *, is_hidden: bool = False, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._bar = _shown(what) if os.isatty(2) and not is_hidden and not is_quiet else None

    def show(self, done: int, total: int | None, pieces: int) -> None:
        """
        Report how far the work is.

        :param done: bytes.
        :param total: bytes of the whole, None while that is not known.
        :param pieces: pieces that are done.
        """
        if self._bar is None:
            return
        self._bar.total = total
        self._bar.set_postfix_str(counted(pieces, "piece"), refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """Write a line to standard error, above the bar where there is one."""
        text = f"dfvortex: {one_line(line)}"
        if self._is_quiet:
            return
        if self._bar is None or self._bar.last_print_t == self._bar.start_t:  # the bar has not been shown yet
            print(text, file=sys.stderr)
        else:
            self._bar.write(text, file=sys.stderr)

    def tick(self) -> None:
        """Show the elapsed time. Work that goes on in long steps calls it about once a second."""
        if self._bar is not None:
            self._bar.update(0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _shown(what: str) -> tqdm[NoReturn]:
    """A bar on the terminal of standard error."""
    from tqdm import tqdm  # it takes as long to load as all else of a command that has no terminal

    bar: tqdm[NoReturn] = tqdm(
        desc=what,
        unit="B",
        unit_scale=True,
        unit_divisor=1000,
        delay=_DELAY,
        miniters=0,  # or a call without anything new would show nothing, not even the time
        smoothing=0,  # or such a call would count as a moment in which nothing was to be done
        file=sys.stderr,
        leave=False,
        ncols=_COLUMNS,
        dynamic_ncols=os.get_terminal_size(2).columns > 0,
    )
    # By the system's clock, tqdm would show nothing new for as long as that was set back.
    setattr(bar, "_time", time.monotonic)  # noqa: B010  # tqdm has no parameter for it
    bar.start_t = bar.last_print_t = time.monotonic()
    return bar
