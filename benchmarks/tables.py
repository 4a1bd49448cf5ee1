"""Figures as text, tables in Markdown, and lines that compare two programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Costs", "Line", "Spread", "best_and_median", "length", "ratios", "spread", "spread_text", "table"]


class Spread(NamedTuple):
    """The least, the median and the most of what all rounds showed."""

    minimum: float
    median: float
    maximum: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(min(values), statistics.median(values), max(values))


def spread_text(values: Spread | None, show: str, unit: float = 1.0) -> str:
    """
    A median with the least and the most behind it; ``?`` where there is nothing to show.

    :param show: the format of each value.
    :param unit: what each value is divided by.
    """
    if values is None:
        return "?"
    least, median, most = (format(each / unit, show) for each in values)
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
    lines = [f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


Costs = Callable[[str, str], dict[int, float]]
"""What something cost in each round, by its name and the kind of cost: seconds of some sort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    A ratio of two costs, and what is asked of it.

    :param title: what is compared.
    :param ours: what costs.
    :param other: what it is compared with; empty where the cost itself is asked for.
    :param by: the kind of cost.
    :param at_most: how many times as much ours may cost; None where rates are compared.
    :param at_least: how many times as fast ours must be; None where costs are compared.
    """

    title: str
    ours: str
    other: str = ""
    by: str = "seconds"
    at_most: float | None = None
    at_least: float | None = None

    def row(self, costs: Costs) -> list[str]:
        """The cells of the line: the ratio of the best rounds, and the spread of the rounds' ratios."""
        asked = f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"
        ours = costs(self.ours, self.by)
        other = costs(self.other, self.by) if self.other else dict.fromkeys(ours, 1.0)
        best = self._ratio(min(ours.values()), min(other.values())) if ours and other else None
        if best is None:
            return [self.title, asked, "not measured", "?", ""]
        rounds = [self._ratio(ours[each], other[each]) for each in sorted(ours.keys() & other.keys())]
        least, median, most = (_short(each) for each in spread([each for each in rounds if each is not None]))
        is_reached = best <= self.at_most if self.at_most is not None else best >= (self.at_least or 0.0)
        shown = [min(ours.values()), *([min(other.values())] if self.other else [])]
        return [
            self.title,
            asked,
            _short(best) if is_reached else f"**{_short(best)}**",
            f"{median} ({least}-{most})",
            ", ".join(map(_time, shown)),
        ]

    def _ratio(self, ours: float, other: float) -> float | None:
        """The ratio of two costs; None where a side cannot be told from start-up."""
        over, under = (ours, other) if self.at_most is not None else (other, ours)
        return None if over < 0 or under <= 0 else over / under


def ratios(lines: Sequence[Line], costs: Costs) -> str:
    """The table of these lines; a ratio that misses what is asked is bold."""
    head = ["", "asked", "best by best", "median of the rounds", "ours, the other: best"]
    return table(head, [line.row(costs) for line in lines])


def _short(value: float) -> str:
    """A ratio, or a short time in seconds."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _time(seconds: float) -> str:
    """A time in a unit of its size."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"
