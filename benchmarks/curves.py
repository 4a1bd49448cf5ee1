"""Lines in a chart: something against a number of peers. matplotlib, of the extra ``bench``, draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Curve", "draw_curves"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """
    A line.

    :param title: in the legend.
    :param points: a number of peers, and the value.
    :param reaches: for each point the least and the most of what was seen; empty for no such lines.
    :param is_dashed: whether it is calculated, and not measured.
    """

    title: str
    points: Sequence[tuple[int, float]]
    reaches: Sequence[tuple[float, float]] = ()
    is_dashed: bool = False


def draw_curves(curves: Sequence[Curve], path: Path, across: str, upwards: str) -> None:
    """
    Draw a chart. The numbers of peers are on a logarithmic axis.

    :param path: an SVG file.
    :param across: what the numbers are.
    :param upwards: what the values are.
    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    # Figures stay text, and a chart that is drawn again from the same report is the same, byte by byte.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 8}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            counts, values = zip(*curve.points, strict=True)
            style = "--" if curve.is_dashed else "-"
            (line,) = axes.plot(counts, values, style, marker="o", markersize=3, linewidth=1, label=curve.title)
            if curve.reaches:
                axes.vlines(counts, *zip(*curve.reaches, strict=True), color=line.get_color(), linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({count for curve in curves for count, _ in curve.points}))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel(across)
        axes.set_ylabel(upwards)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
