"""What was found, kept beside this module, and its tables in ``docs/compatibility.md``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cluster.figures import FIGURES
from benchmarks.cluster.trials import TRIALS
from benchmarks.text import table

__all__ = ["KEPT", "read", "tables", "words_of", "write"]

KEPT = Path(__file__).with_name("found.json")
"""The file with all that was found."""

_BEGIN, _END = "<!-- cluster: begin -->\n", "<!-- cluster: end -->\n"


def read(kept: Path = KEPT) -> dict[str, Any]:
    """What was found before; empty where there is nothing."""
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    return {"versions": {}, "trials": {}, "figures": {}} | found


def write(docs: Path, found: Mapping[str, Any], kept: Path = KEPT) -> None:
    """Keep what was found, and draw the tables."""
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    page = docs / "compatibility.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Compatibility\n\n{_BEGIN}{_END}"
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}{tables(found)}\n{_END}{after}", encoding="utf-8")


def words_of(trial: Any) -> str:
    """What a trial tries."""
    words: str = trial.__doc__
    return words


def tables(found: Mapping[str, Any]) -> str:
    """The versions, what was tried, and what was measured, in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    results = (found["trials"].get(each.__name__, ["not tried"]) for each in TRIALS)
    tried = [[words_of(each), ": ".join(filter(None, result))] for each, result in zip(TRIALS, results, strict=True)]
    measured = []
    for figure in FIGURES:
        figures = found["figures"].get(figure.name)
        if figures is None:
            measured.append([figure.words, "not measured", "", "", f"{figure.most}", ""])
        elif "failed" in figures:
            measured.append([figure.words, figures["failed"], "", "", f"{figure.most}", ""])
        else:
            ours, real = (statistics.median(figures[side]) for side in ("ours", "real"))
            load = "-".join(f"{each:.0f}" for each in sorted(figures["load"]))
            measured.append(
                [
                    figure.words,
                    f"{ours:.2f} s",
                    f"{real:.2f} s",
                    f"{ours / real:.2f}",
                    f"{figure.most}",
                    f"{len(figures['ours'])}, {load}",
                ]
            )
    return "\n\n".join(
        [
            f"With {versions}.",
            table(["tried", "result"], tried),
            table(["measured, medians", "ours", "real", "ratio", "at most", "rounds, load"], measured),
        ]
    )
