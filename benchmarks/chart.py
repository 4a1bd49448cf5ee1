"""The contest's report as a chart. What it shows is calculated here; matplotlib, of the extra ``bench``, draws it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.benchmark import Report
from benchmarks.contestants import GROUPS
from benchmarks.figures import Cell, Sample, cells
from benchmarks.text import Spread, spread_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "draw_chart", "panels"]

_COLOURS = {
    "file": ("#2a6f97", "#89c2d9"),
    "pieces": ("#606c38", "#a3b18a"),
    "hash": ("#6d597a", "#b8a9c9"),
    "nothing": ("#bc6c25", "#e9c46a"),
    "memory": ("#555555", "#aaaaaa"),
}
"""Of each group: dark for the parent or for all, light for the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    A bar, of one part or of two behind each other.

    :param title: of the contestant.
    :param group: what is done with the bytes.
    :param parts: the lengths, in the panel's unit: the whole, or the parent's and the child's.
    :param reach: from the least to the most of what was seen; None for no such line.
    :param label: the figure behind it.
    """

    title: str
    group: str
    parts: tuple[float, ...]
    reach: tuple[float, float] | None
    label: str


def panels(report: Report[Sample]) -> dict[str, list[Bar]]:
    """The bars of each panel, by its unit: contestants that fetch the file in the same shape, in the same order."""
    shape = next((each.piece_length, each.concurrency) for each in report.samples if each.is_start_up)
    found = {each.contestant: each for each in cells(report.samples) if (each.piece_length, each.concurrency) == shape}
    order = list(GROUPS)
    rows = [
        (entry.title, entry.group, found[entry.name])
        for entry in sorted(report.entries, key=lambda entry: order.index(entry.group))
    ]
    return {
        "MB/s": [_rate_bar(*row) for row in rows],
        "processor s/GB, parent + child": [
            _stacked(title, group, cell.parent_processor, cell.child_processor, 1, ".2f") for title, group, cell in rows
        ],
        "peak MB, parent + child": [
            _stacked(title, group, cell.parent_peak, cell.child_peak, 10**6, ",.0f") for title, group, cell in rows
        ],
    }


def _rate_bar(title: str, group: str, cell: Cell) -> Bar:
    rate, label = cell.rate, spread_text(cell.rate, ",.0f", 10**6)
    if rate is None:
        return Bar(title=title, group=group, parts=(0.0,), reach=None, label=label)
    reach = (rate.minimum / 10**6, rate.maximum / 10**6)
    return Bar(title=title, group=group, parts=(rate.median / 10**6,), reach=reach, label=label)


def _stacked(title: str, group: str, parent: Spread, child: Spread, unit: int, show: str) -> Bar:
    """The child's median behind the parent's."""
    parts = (parent.median / unit, child.median / unit)
    label = " + ".join(format(each, show) for each in parts)
    return Bar(title=title, group=group, parts=parts, reach=None, label=label)


def draw_chart(report: Report[Sample], path: Path) -> None:
    """
    Draw the chart.

    :param path: an SVG file.
    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = panels(report)
    bars = next(iter(shown.values()))
    groups = dict.fromkeys(bar.group for bar in bars)
    # Figures stay text, and a chart that is drawn again from the same report is the same, byte by byte.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 8}):
        figure = Figure(figsize=(12, 1.2 + 0.3 * len(bars)), layout="constrained")
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for unit, ax in zip(shown, axes, strict=True):
            _draw_panel(unit, shown[unit], ax)
        axes[0].invert_yaxis()
        axes[0].set_yticks(range(len(bars)), [bar.title for bar in bars])
        figure.legend(
            handles=[Patch(color=_COLOURS[group][0], label=GROUPS[group]) for group in groups],
            loc="outside upper center",
            ncols=len(groups),
            frameon=False,
        )
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(unit: str, bars: list[Bar], ax: Axes) -> None:
    ax.set_xlabel(unit)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.25)
    for place, bar in enumerate(bars):
        end = 0.0
        for part, colour in zip(bar.parts, _COLOURS[bar.group], strict=False):
            ax.barh(place, part, 0.7, end, color=colour)
            end += part
        if bar.reach is not None:
            ax.hlines(place, *bar.reach, color="black", linewidth=0.8)
            end = max(end, bar.reach[1])
        ax.annotate(f" {bar.label}", (end, place), va="center", fontsize=7)
