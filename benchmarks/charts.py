"""Charts as SVG files: bars in panels, and curves over a number of peers. matplotlib, of the extra ``bench``, draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contestants import GROUPS

__all__ = ["Bar", "Curve", "draw_bars", "draw_curves"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """
    A curve.

    :param title: in the legend.
    :param points: a number of peers, and the value.
    :param reaches: for each point the least and the most of what was seen; empty for no such lines.
    :param is_dashed: whether it is calculated, and not measured.
    """

    title: str
    points: Sequence[tuple[int, float]]
    reaches: Sequence[tuple[float, float]] = ()
    is_dashed: bool = False


@contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """
    A figure that is written at the end of the block.

    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # Figures stay text, and a chart that is drawn again from the same report is the same, byte by byte.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 8}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, format="svg", metadata={"Date": None})


def draw_bars(panels: Mapping[str, Sequence[Bar]], path: Path) -> None:
    """
    Draw a chart of panels with the same rows.

    :param panels: by their units.
    :raises ImportError: matplotlib is not installed.
    """
    from matplotlib.patches import Patch

    bars = next(iter(panels.values()))
    groups = dict.fromkeys(bar.group for bar in bars)
    with _figure(path, 12, 1.2 + 0.3 * len(bars)) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for (unit, shown), ax in zip(panels.items(), axes, strict=True):
            ax.set_xlabel(unit)
            ax.spines[["top", "right"]].set_visible(False)
            ax.margins(x=0.25)
            for place, bar in enumerate(shown):
                end = 0.0
                for part, colour in zip(bar.parts, _COLOURS[bar.group], strict=False):
                    ax.barh(place, part, 0.7, end, color=colour)
                    end += part
                if bar.reach is not None:
                    ax.hlines(place, *bar.reach, color="black", linewidth=0.8)
                    end = max(end, bar.reach[1])
                ax.annotate(f" {bar.label}", (end, place), va="center", fontsize=7)
        axes[0].invert_yaxis()
        axes[0].set_yticks(range(len(bars)), [bar.title for bar in bars])
        handles = [Patch(color=_COLOURS[group][0], label=GROUPS[group]) for group in groups]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(groups), frameon=False)


def draw_curves(curves: Sequence[Curve], path: Path, across: str, upwards: str) -> None:
    """
    Draw curves. The numbers of peers are on a logarithmic axis.

    :param across: what the numbers are.
    :param upwards: what the values are.
    :raises ImportError: matplotlib is not installed.
    """
    with _figure(path, 8, 4) as figure:
        axes = figure.subplots()
        for curve in curves:
            counts, values = zip(*curve.points, strict=True)
            style = "--" if curve.is_dashed else "-"
            (line,) = axes.plot(counts, values, style, marker="o", markersize=3, linewidth=1, label=curve.title)
            if curve.reaches:
                axes.vlines(counts, *zip(*curve.reaches, strict=True), color=line.get_color(), linewidth=0.8)
        axes.set_xscale("log", base=2)
        shown = sorted({count for curve in curves for count, _ in curve.points})
        axes.set_xticks(shown, [str(count) for count in shown])
        axes.set(xlabel=across, ylabel=upwards)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
