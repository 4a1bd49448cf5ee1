"""A bar for work that takes longer than a second, on a terminal and nowhere else."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType

from tqdm import tqdm

__all__ = ["ProgressBar"]

_DELAY = 1.0  # seconds before there is anything to see


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """
    Bytes done, rate, time left, and pieces.

    :param what: a word for the work.
    """

    def __init__(self, what: str) -> None:
        self._bar = tqdm(
            desc=what,
            unit="B",
            unit_scale=True,
            unit_divisor=1000,
            delay=_DELAY,
            disable=not sys.stderr.isatty(),
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
        )

    def show(self, done: int, total: int | None, pieces: int) -> None:
        """
        Tell how far the work is.

        :param done: bytes.
        :param total: bytes of the whole, None while that is not known.
        :param pieces: pieces that are done.
        """
        if self._bar.disable:
            return
        self._bar.total = total
        self._bar.set_postfix_str(f"{pieces} pieces", refresh=False)
        self._bar.update(done - self._bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
