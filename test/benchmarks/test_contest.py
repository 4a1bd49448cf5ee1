"""The contest: what is measured, what is calculated from samples that can be checked in the head, and the tables."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.benchmark import Options, Report, Run
from benchmarks.charts import Bar
from benchmarks.contest import cases_of, cells, draw, panels
from benchmarks.contestants import CONTESTANTS
from benchmarks.tables import Spread
from benchmarks.turn import START_UP_LENGTH
from test.benchmarks.reports import contest_report, contest_samples, report_of


def change(contestant: str, start_up: bool = False, **values: Sequence[Any]) -> Report:
    """The report with other figures for one contestant, by name, one for each round."""
    return report_of(
        [
            {**each, **{name: of_rounds[each["round"]] for name, of_rounds in values.items()}}
            if (each["contestant"], each["content_length"] == START_UP_LENGTH) == (contestant, start_up)
            else each
            for each in contest_samples()
        ]
    )


def too_short() -> Report:
    """A report of files that take no longer than start-up."""
    return report_of([{**each, "seconds": 0.5} for each in contest_samples()])


class CasesTests(SynchronousTestCase):
    """What is measured in a round."""

    def cases(self, options: Options, *names: str) -> list[tuple[str, int, int, int]]:
        """The cases of a run."""
        cases = cases_of(Run(directory=Path("no directory"), options=options, tell=len), names)
        return [(each.contestant, each.content_length, each.piece_length >> 20, each.concurrency) for each in cases]

    def test_whole(self) -> None:
        """All fetch a gigabyte in one shape, our TCP and gRPC in three others too, and start-up is measured twice."""
        cases = self.cases(Options(), "tcp", "curl")
        file = 10**9
        self.assertEqual(cases[:2], [("tcp", file, 4, 8), ("curl", file, 4, 8)])
        self.assertEqual(cases[2:5], [("tcp", file, 4, 1), ("tcp", file, 64, 1), ("tcp", file, 64, 8)])
        self.assertEqual(cases[5:], [("tcp", START_UP_LENGTH, 4, 8), ("curl", START_UP_LENGTH, 4, 8)] * 2)

    def test_less(self) -> None:
        """A quick run and one of some contestants have one shape; a size that is asked for is the file's."""
        self.assertEqual(
            self.cases(Options(quick=True), "tcp"), [("tcp", 256 * 10**6, 4, 8), ("tcp", START_UP_LENGTH, 4, 8)]
        )
        self.assertEqual(self.cases(Options(only=["tcp"], size=10**7), "tcp")[0], ("tcp", 10**7, 4, 8))
        self.assertEqual(len(self.cases(Options(only=["tcp"]), "tcp")), 3)


class CellTests(SynchronousTestCase):
    """The made-up run: a thousand megabytes more than start-up, in 1, 2 and 4 s over TCP."""

    def test_order(self) -> None:
        """Contestants in the order of the report, each with its shapes."""
        self.assertEqual(
            [(cell.contestant, cell.shape[1]) for cell in cells(contest_report())],
            [("tcp", 8), ("tcp", 1), ("grpc", 8), ("grpc", 1), ("plain-from-ours", 8), ("plain-from-nginx", 8)],
        )

    def test_figures(self) -> None:
        """Start-up is subtracted from times, nothing from memory; the longest time is the lowest rate."""
        tcp, _, grpc = cells(contest_report())[:3]
        self.assertEqual(tcp.seconds, Spread(1.0, 2.0, 4.0))
        self.assertEqual(grpc.seconds, Spread(2.0, 8.0, 16.0))
        self.assertEqual(tcp.rate, Spread(250e6, 500e6, 1000e6))
        self.assertEqual(tcp.processor, (Spread(0.25, 0.5, 1.0), Spread(0.5, 1.0, 2.0)))
        self.assertEqual(tcp.peak, (Spread(51e6, 52e6, 54e6), Spread(61e6, 62e6, 64e6)))

    def test_noisy_start_up(self) -> None:
        """The least start-up is subtracted: a slow one makes nothing look faster."""
        noisy = change("tcp", start_up=True, seconds=(0.5, 9.0, 9.0), child_processor=(9.0, 0.25, 9.0))
        self.assertEqual(cells(noisy), cells(contest_report()))

    def test_too_short(self) -> None:
        """Where the file takes no longer than start-up there is no rate."""
        self.assertEqual({cell.rate for cell in cells(too_short())}, {None})


class DrawTests(SynchronousTestCase):
    """The tables of the made-up run."""

    def setUp(self) -> None:
        self.lines = draw(contest_report()).splitlines()

    def test_circumstances(self) -> None:
        """It says by which command, when, on what, how quiet it was, and which contestants were missing."""
        text = "\n".join(self.lines)
        for said in (
            f"{contest_report().origin}, 8,000 MB of memory",
            "dragonfly-vortex 0.1.0, Twisted 26.10.0, nginx 1.2.3",
            "rounds: 3; a file of 1001 MB in 239 pieces of 4 MiB, 8 at once",
            "other programs had 12% of the cores' time in the median turn, 12% in the worst",
            "150% of their median apart in the median line, 175% in the worst",
            f"aria2c is not installed, so these were not measured: {CONTESTANTS['aria2'].title}; another",
        ):
            self.assertIn(said, text)

    def test_targets(self) -> None:
        """Each target has its line, and what is not reached stands out."""
        for line in (
            "| whole command, TCP : gRPC | at least 2.5 | **2.00** | 4.00 (2.00-4.00) | 1 s, 2 s |",
            "| processor time of a parent read by the plain client, ours : nginx | at most 1.2 | 1.00"
            " | 1.00 (1.00-1.00) | 250 ms, 250 ms |",
            "| whole command : nginx, aria2, hash | at least 1.5 | not measured | ? | |",
        ):
            self.assertIn(line, self.lines)
        dear = draw(change("plain-from-ours", parent_processor=(0.455, 0.78, 1.43)))
        self.assertIn("ours : nginx | at most 1.2 | **1.32** |", dear)

    def test_other_shapes(self) -> None:
        """A contestant that fetches in other shapes has a row for each other shape."""
        rows = [line.split(" | ")[:3] for line in self.lines if line.startswith(("| 4 MiB", "| 64 MiB"))]
        self.assertEqual(rows, [["| 64 MiB", "1", "ours, TCP"], ["| 64 MiB", "1", "ours, gRPC"]])
        shared = [each for each in contest_samples() if each["concurrency"] == 8]
        self.assertNotIn("Other pieces", draw(report_of(shared)))

    def test_every_row_fits_its_head(self) -> None:
        """Each table has one number of columns."""
        for above, line in itertools.pairwise(self.lines):
            if above.startswith("|") and line.startswith("|"):
                self.assertEqual(above.count("|"), line.count("|"))

    def test_unknown(self) -> None:
        """What cannot be said is left out."""
        self.assertNotIn("scatter", draw(too_short()))
        self.assertIn("| whole command, TCP : gRPC | at least 2.5 | not measured | ? | |", draw(too_short()))


class PanelsTests(SynchronousTestCase):
    """What the chart shows."""

    def test_order(self) -> None:
        """Each panel has a bar for each contestant, those of one group together."""
        report = contest_report()
        names = ("tcp", "grpc", "plain-from-ours", "plain-from-nginx")
        for bars in panels(dataclasses.replace(report, entries=report.entries[::-1])).values():
            self.assertEqual({bar.title for bar in bars}, {CONTESTANTS[name].title for name in names})
            self.assertEqual([bar.group for bar in bars], ["file", "file", "nothing", "nothing"])

    def test_bars(self) -> None:
        """A bar is a median: of throughput with its reach, of the costs the parent's with the child's behind it."""
        title = CONTESTANTS["tcp"].title
        first = {unit: bars[0] for unit, bars in panels(contest_report()).items()}
        rate = Bar(title=title, group="file", parts=(500.0,), reach=(250.0, 1000.0), label="500 (250-1,000)")
        processor = Bar(title=title, group="file", parts=(0.5, 1.0), reach=None, label="0.50 + 1.00")
        peak = Bar(title=title, group="file", parts=(52.0, 62.0), reach=None, label="52 + 62")
        self.assertEqual(list(first.values()), [rate, processor, peak])
        self.assertEqual(list(first), ["MB/s", "processor s/GB, parent + child", "peak MB, parent + child"])

    def test_nothing_to_show(self) -> None:
        """Where there is no rate, a question mark stands in place of a bar."""
        bar = panels(too_short())["MB/s"][0]
        self.assertEqual((bar.parts, bar.reach, bar.label), ((0.0,), None, "?"))
