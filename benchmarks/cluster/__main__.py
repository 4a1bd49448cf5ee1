"""
``python -m benchmarks.cluster --bin DIR``: start the real programs, try what works, and measure. What is found is kept
in ``found.json``, a row of which is replaced when that row is run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.cluster.figures import FIGURES
from benchmarks.cluster.programs import Cluster
from benchmarks.cluster.trials import TRIALS, Trial
from benchmarks.machine import version_of
from benchmarks.tables import table

__all__ = ["KEPT", "main", "read", "tables", "write"]

KEPT = Path(__file__).with_name("found.json")
"""The file with all that was found."""

_BEGIN, _END = "<!-- cluster: begin -->\n", "<!-- cluster: end -->\n"

_SCHEDULER = "d7y.io/dragonfly/v2 v2.5.1"
"""The scheduler that is expected: it does not say its version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :returns: the exit status: 1 when something did not work.
    """
    parsed = _parser().parse_args(arguments)
    names = [*(each.__name__ for each in TRIALS), *FIGURES]
    if unknown := [name for name in parsed.names if name not in names]:
        _tell(f"expected some of {', '.join(names)}, got {', '.join(unknown)}")
        return 2
    found = read(parsed.kept)
    wanted = parsed.names or names
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster", dir=parsed.scratch)))
        cluster = stack.enter_context(Cluster(parsed.bin.absolute(), place))
        found["versions"] = cluster.versions() | {"scheduler": _SCHEDULER, "redis": version_of("redis-server")}
        worked = [_try(trial, cluster, found["trials"]) for trial in TRIALS if trial.__name__ in wanted]
        worked += [_measure(name, cluster, parsed.rounds, found["figures"]) for name in FIGURES if name in wanted]
    write(parsed.docs, found, parsed.kept)
    print(tables(found))
    return 0 if all(worked) else 1


def _try(trial: Trial, cluster: Cluster, found: dict[str, Any]) -> bool:
    """Whether something works."""
    began = time.monotonic()
    try:
        result = ["works", trial(cluster) or ""]
    except Exception as error:
        result = ["does not work", _words(error)]
    found[trial.__name__] = result
    _tell(f"{trial.__doc__}: {': '.join(filter(None, result))} ({time.monotonic() - began:.0f} s)")
    return result[0] == "works"


def _measure(name: str, cluster: Cluster, rounds: int, found: dict[str, Any]) -> bool:
    """Whether a figure is what it is to be."""
    figure = FIGURES[name]
    try:
        found[name] = figure.measure(cluster, rounds)
    except Exception as error:
        found[name] = {"failed": _words(error)}
        _tell(f"{figure.words}: {found[name]['failed']}")
        return False
    ratio = float(statistics.median(found[name]["ours"]) / statistics.median(found[name]["real"]))
    _tell(f"{figure.words}: {ratio:.2f}")
    return ratio <= figure.most


def _words(error: Exception) -> str:
    """An error as a cell of a table."""
    return " ".join(str(error).split())[:200].replace("|", "/")


def read(kept: Path = KEPT) -> dict[str, Any]:
    """What was found before; empty where there is nothing."""
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    return {"versions": {}, "trials": {}, "figures": {}} | found


def write(docs: Path, found: Mapping[str, Any], kept: Path = KEPT) -> None:
    """Keep what was found, and draw the tables in ``compatibility.md``."""
    parts = []
    for part, rows in found.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        parts.append(f" {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n }")
    kept.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    page = docs / "compatibility.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Compatibility\n\n{_BEGIN}{_END}"
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}{tables(found)}\n{_END}{after}", encoding="utf-8")


def tables(found: Mapping[str, Any]) -> str:
    """The versions, what was tried, and what was measured, in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    tried = [
        [str(each.__doc__), ": ".join(filter(None, found["trials"].get(each.__name__, ["not tried"])))]
        for each in TRIALS
    ]
    measured = []
    for name, figure in FIGURES.items():
        seen = found["figures"].get(name, {"failed": "not measured"})
        if "failed" in seen:
            measured.append([figure.words, seen["failed"], "", "", f"{figure.most}", ""])
            continue
        ours, real = (statistics.median(seen[side]) for side in ("ours", "real"))
        load = "-".join(f"{each:.0f}" for each in sorted(seen["load"]))
        cells = [f"{ours:.2f} s", f"{real:.2f} s", f"{ours / real:.2f}", f"{figure.most}"]
        measured.append([figure.words, *cells, f"{len(seen['ours'])}, {load}"])
    head = ["measured, medians", "ours", "real", "ratio", "at most", "rounds, load"]
    return "\n\n".join([f"With {versions}.", table(["tried", "result"], tried), table(head, measured)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description="Try what works between real Dragonfly programs and ours, and measure.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="some of the trials and figures; all without a name")
    programs = "a folder with dfdaemon, dfget, dfcache, dfctl, scheduler"
    parser.add_argument("--bin", metavar="DIR", type=Path, required=True, help=programs)
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="how often each figure is measured; 5")
    parser.add_argument("--docs", metavar="DIR", type=Path, default=Path("docs"), help="the documents; ./docs")
    parser.add_argument("--kept", metavar="FILE", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--scratch", metavar="DIR", type=Path, help="where the temporary directory is made")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    from benchmarks.__main__ import end_by_sigterm

    end_by_sigterm()
    sys.exit(main())
