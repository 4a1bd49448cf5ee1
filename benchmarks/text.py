"""Figures as text, and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Spread", "best_and_median", "length", "row", "spread", "spread_text", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The least, the median and the most of what all rounds showed."""

    minimum: float
    median: float
    maximum: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(minimum=min(values), median=statistics.median(values), maximum=max(values))


def spread_text(values: Spread | None, show: str, unit: float = 1.0) -> str:
    """
    A median with the least and the most behind it; ``?`` where there is nothing to show.

    :param show: the format of each value.
    :param unit: what each value is divided by.
    """
    if values is None:
        return "?"
    median, least, most = (format(each / unit, show) for each in (values.median, values.minimum, values.maximum))
    return f"{median} ({least}-{most})"


def best_and_median(values: Sequence[float], show: str, best: Callable[[Sequence[float]], float] = min) -> str:
    """
    The best value and the median.

    :param show: the format of each.
    :param best: ``min`` for what costs, ``max`` for rates.
    """
    return f"{best(values):{show}}, {statistics.median(values):{show}}"


def length(size: int) -> str:
    """
    A length, in the largest unit in which it is a whole number.

    :param size: in bytes.
    """
    for unit, name in ((2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB"), (2**10, "KiB"), (10**3, "kB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join([row(head), "|---" * len(head) + "|", *map(row, rows)])


def row(cells: Sequence[str]) -> str:
    """One line of a table; a cell may be empty."""
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"
