"""A report as a chart. What it shows is calculated here; matplotlib, of the extra ``bench``, only draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import words
from benchmarks.figures import Cell, Spread
from benchmarks.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "Panel", "draw", "panels"]

_COLOURS = (("#2a6f97", "#89c2d9"), ("#bc6c25", "#e9c46a"), ("#606c38", "#a3b18a"))
"""Of each transport: dark for the parent or for all, light for the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    A bar, of one part or of two on top of each other.

    :param transport: whose it is.
    :param parts: the heights, in the panel's unit: the whole, or the parent's and the child's.
    :param reach: from the least to the most of what was seen; None for no such line.
    :param label: the figure above it.
    """

    transport: str
    parts: tuple[float, ...]
    reach: tuple[float, float] | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    A field of the chart.

    :param title: what is above it.
    :param unit: of the heights.
    :param groups: the bars, by how many pieces were under way at once.
    """

    title: str
    unit: str
    groups: tuple[tuple[int, tuple[Bar, ...]], ...]


def panels(report: Report) -> list[list[Panel]]:
    """The chart's fields: a row for each thing that is measured, a column for each piece length."""
    measures: Sequence[tuple[str, Callable[[Cell], Bar]]] = (
        ("MB/s", _rate_bar),
        ("processor s/GB, parent + child", _processor_bar),
        ("peak MB, parent + child", _memory_bar),
    )
    return [
        [
            Panel(
                title=f"pieces of {words.length(piece_length)}",
                unit=unit,
                groups=tuple(
                    (
                        concurrency,
                        tuple(
                            bar(cell)
                            for cell in report.figures.cells
                            if (cell.piece_length, cell.concurrency) == (piece_length, concurrency)
                        ),
                    )
                    for concurrency in report.settings.concurrencies
                ),
            )
            for piece_length in report.settings.piece_lengths
        ]
        for unit, bar in measures
    ]


def draw(report: Report, path: Path) -> None:
    """
    Draw the chart.

    :param path: where to, an SVG.
    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = panels(report)
    # Figures stay text, and a chart that is drawn again from the same report is the same, byte by byte.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 8}):
        figure = Figure(figsize=(4.8 * len(rows[0]), 2.6 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), len(rows[0]), sharey="row", squeeze=False)
        for row, its_axes in zip(rows, axes, strict=True):
            its_axes[0].set_ylabel(row[0].unit)
            for panel, ax in zip(row, its_axes, strict=True):
                _draw_panel(panel, ax)
        figure.legend(
            handles=[
                Patch(color=_colours(number)[0], label=words.title(transport))
                for number, transport in enumerate(report.settings.transports)
            ],
            loc="outside upper right",
            ncols=len(report.settings.transports),
            frameon=False,
        )
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(panel: Panel, ax: Axes) -> None:
    """Draw one field."""
    ax.set_title(panel.title)
    ax.set_xlabel("pieces at once")
    ax.set_xticks(range(len(panel.groups)), [str(concurrency) for concurrency, _ in panel.groups])
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(y=0.15)
    for group, (_, bars) in enumerate(panel.groups):
        width = 0.8 / len(bars)
        for number, bar in enumerate(bars):
            _draw_bar(bar, _colours(number), group + (number - (len(bars) - 1) / 2) * width, width, ax)


def _draw_bar(bar: Bar, colours: Sequence[str], place: float, width: float, ax: Axes) -> None:
    """Draw a bar, one part on top of the other, and its figure above it."""
    top = 0.0
    for part, colour in zip(bar.parts, colours, strict=False):
        ax.bar(place, part, width, top, color=colour)
        top += part
    if bar.reach is not None:
        ax.vlines(place, *bar.reach, color="black", linewidth=0.8)
        top = max(top, bar.reach[1])
    ax.annotate(bar.label, (place, top), ha="center", va="bottom", fontsize=6.5)


def _colours(number: int) -> Sequence[str]:
    """The colours of a transport, by its place among them."""
    return _COLOURS[number % len(_COLOURS)]


def _rate_bar(cell: Cell) -> Bar:
    """Throughput."""
    if cell.rate is None:
        return Bar(transport=cell.transport, parts=(0.0,), reach=None, label=words.with_range(None, words.rate))
    return Bar(
        transport=cell.transport,
        parts=(cell.rate.median / 10**6,),
        reach=(cell.rate.minimum / 10**6, cell.rate.maximum / 10**6),
        label=words.rate(cell.rate.median),
    )


def _processor_bar(cell: Cell) -> Bar:
    """Processor time, of both processes."""
    return _stacked(cell.transport, cell.parent_processor, cell.child_processor, 1, words.seconds)


def _memory_bar(cell: Cell) -> Bar:
    """Peak memory, of both processes."""
    return _stacked(cell.transport, cell.parent_peak, cell.child_peak, 10**6, words.megabytes)


def _stacked(transport: str, parent: Spread, child: Spread, unit: int, show: Callable[[float], str]) -> Bar:
    """The child's median on top of the parent's."""
    return Bar(
        transport=transport,
        parts=(parent.median / unit, child.median / unit),
        reach=None,
        label=f"{show(parent.median)} + {show(child.median)}",
    )
