"""A report as a chart. What it shows is calculated here; matplotlib, of the extra ``bench``, only draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import words
from benchmarks.contestant import GROUPS
from benchmarks.figures import Cell, Spread
from benchmarks.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "Panel", "draw", "panels"]

_COLOURS = {
    "file": ("#2a6f97", "#89c2d9"),
    "pieces": ("#606c38", "#a3b18a"),
    "nothing": ("#bc6c25", "#e9c46a"),
    "memory": ("#555555", "#aaaaaa"),
}
"""Of each group: dark for the parent or for all, light for the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    A bar, of one part or of two, one behind the other.

    :param title: whose it is.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    A field of the chart.

    :param unit: of the lengths.
    :param bars: one for each contestant, in the same order in each panel.
    """

    unit: str
    bars: tuple[Bar, ...]


def panels(report: Report) -> list[Panel]:
    """The chart's fields: one for each thing that is measured, of those who fetch the file in the same shape."""
    cells = {cell.contestant: cell for cell in report.figures.cells if cell.shape == report.settings.shape}
    order = list(GROUPS)
    rows = [
        (entry.title, entry.group, cells[entry.name])
        for entry in sorted(report.entries, key=lambda entry: order.index(entry.group))
    ]
    measures: Sequence[tuple[str, Callable[[str, str, Cell], Bar]]] = (
        ("MB/s", _rate_bar),
        ("processor s/GB, parent + child", _processor_bar),
        ("peak MB, parent + child", _memory_bar),
    )
    return [Panel(unit=unit, bars=tuple(bar(*row) for row in rows)) for unit, bar in measures]


def draw(report: Report, path: Path) -> None:
    """
    Draw the chart.

    :param path: where to, an SVG.
    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = panels(report)
    groups = dict.fromkeys(bar.group for bar in shown[0].bars)
    # Figures stay text, and a chart that is drawn again from the same report is the same, byte by byte.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 8}):
        figure = Figure(figsize=(12, 1.2 + 0.3 * len(shown[0].bars)), layout="constrained")
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for panel, ax in zip(shown, axes, strict=True):
            _draw_panel(panel, ax)
        axes[0].invert_yaxis()
        axes[0].set_yticks(range(len(shown[0].bars)), [bar.title for bar in shown[0].bars])
        figure.legend(
            handles=[Patch(color=_COLOURS[group][0], label=GROUPS[group]) for group in groups],
            loc="outside upper center",
            ncols=len(groups),
            frameon=False,
        )
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(panel: Panel, ax: Axes) -> None:
    """Draw one field."""
    ax.set_xlabel(panel.unit)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.25)
    for place, bar in enumerate(panel.bars):
        end = 0.0
        for part, colour in zip(bar.parts, _COLOURS[bar.group], strict=False):
            ax.barh(place, part, 0.7, end, color=colour)
            end += part
        if bar.reach is not None:
            ax.hlines(place, *bar.reach, color="black", linewidth=0.8)
            end = max(end, bar.reach[1])
        ax.annotate(f" {bar.label}", (end, place), va="center", fontsize=7)


def _rate_bar(title: str, group: str, cell: Cell) -> Bar:
    """Throughput."""
    if cell.rate is None:
        return Bar(title=title, group=group, parts=(0.0,), reach=None, label=words.with_range(None, words.rate))
    return Bar(
        title=title,
        group=group,
        parts=(cell.rate.median / 10**6,),
        reach=(cell.rate.minimum / 10**6, cell.rate.maximum / 10**6),
        label=words.with_range(cell.rate, words.rate),
    )


def _processor_bar(title: str, group: str, cell: Cell) -> Bar:
    """Processor time, of both processes."""
    return _stacked(title, group, cell.parent_processor, cell.child_processor, 1, words.seconds)


def _memory_bar(title: str, group: str, cell: Cell) -> Bar:
    """Peak memory, of both processes."""
    return _stacked(title, group, cell.parent_peak, cell.child_peak, 10**6, words.megabytes)


def _stacked(title: str, group: str, parent: Spread, child: Spread, unit: int, show: Callable[[float], str]) -> Bar:
    """The child's median behind the parent's."""
    return Bar(
        title=title,
        group=group,
        parts=(parent.median / unit, child.median / unit),
        reach=None,
        label=f"{show(parent.median)} + {show(child.median)}",
    )
