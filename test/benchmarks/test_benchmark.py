"""The frame of a benchmark: what it writes, what it draws, in which order it takes its turns."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.benchmark import END, Benchmark, Options, Report, Run, Sample, drawn_part, read_report, redraw, run
from benchmarks.benchmark import write_report as write
from benchmarks.processes import DidNotWork
from test.benchmarks.reports import contest_report

ONE: Sample = {"what": "one", "seconds": 1.0}


def draw(report: Report) -> str:
    """A line for each sample."""
    return "\n".join([report.origin, *(f"{each['what']}: {each['seconds']:.1f} s" for each in report.samples)])


class FrameTests(SynchronousTestCase):
    """A benchmark that runs."""

    def setUp(self) -> None:
        self.docs = Path(self.mktemp()).absolute()
        self.docs.mkdir()
        self.scratch = self.docs / "scratch"
        self.scratch.mkdir()

    def benchmark(self, *samples: Sample | DidNotWork) -> Benchmark:
        """A benchmark that yields these samples, or fails."""

        def measure(given: Run) -> Iterator[Sample]:
            self.assertEqual(list(given.directory.iterdir()), [])
            self.assertEqual(given.directory.parent, self.scratch)
            for sample in samples:
                if isinstance(sample, DidNotWork):
                    raise sample
                yield sample

        made = Benchmark(
            name="walks", question="?", measure=measure, draw=draw, page="walks.md", file="measurements/walks.json"
        )
        (self.docs / "walks.md").write_text(f"before\n{made.begin}\n\n{END}\nafter\n", encoding="utf-8")
        return made

    def run_it(self, benchmark: Benchmark) -> None:
        """Run it, with a directory of its own for what is temporary."""
        run(benchmark, "python -m benchmarks walks", Options(scratch=self.scratch), self.docs, len)

    def test_run(self) -> None:
        """Samples are written, and the page has command, machine and table; nothing temporary is left."""
        benchmark = self.benchmark(ONE, {"what": "two", "seconds": 2.25})
        self.run_it(benchmark)
        redraw(benchmark, self.docs)
        page = (self.docs / "walks.md").read_text(encoding="utf-8")
        self.assertRegex(page, r"`python -m benchmarks walks`.*, 20\d\d-\d\d-\d\d, Linux .* cores ")
        self.assertTrue(page.endswith(f"\none: 1.0 s\ntwo: 2.2 s\n{END}\nafter\n"), page)
        redraw(benchmark, self.docs)
        self.assertEqual((self.docs / "walks.md").read_text(encoding="utf-8"), page)
        self.assertEqual(list(self.scratch.iterdir()), [])

    def test_failure(self) -> None:
        """When something did not work, nothing is written."""
        self.assertRaises(DidNotWork, self.run_it, self.benchmark(ONE, DidNotWork("no")))
        self.assertFalse((self.docs / "measurements").exists())

    def test_markers(self) -> None:
        """A page must have the part once, with its end, and no other part inside; else it stays as it is."""
        benchmark = self.benchmark(ONE)
        self.run_it(benchmark)
        begin, path = benchmark.begin, self.docs / "walks.md"
        other = "<!-- drawn from other.json by other: begin -->"
        twice, unfinished = f"{begin}\n{begin}\n\n{END}\n", f"{begin}\n{other}\nb\n{END}\n"
        for page in ("", f"{begin}\na\n", f"a\n{END}\n", f"{END}\n{begin}\n", twice, unfinished):
            path.write_text(page, encoding="utf-8")
            self.assertRaises(ValueError, redraw, benchmark, self.docs)
            self.assertEqual(path.read_text(encoding="utf-8"), page)
        self.assertEqual(drawn_part(benchmark, f"{other}\nold\n{END}\n{begin}\nnew\n{END}\n"), "new")


class ReportTests(SynchronousTestCase):
    """The file of a run."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.report = contest_report()

    def test_round_trip(self) -> None:
        """A report that is read is the one that was written."""
        write(self.path, self.report)
        self.assertEqual(read_report(self.path), self.report)

    def test_lines(self) -> None:
        """Each sample has a line of its own, without needless decimals."""
        first, *rest = self.report.samples
        samples = [{**first, "seconds": 1 / 3}, *rest]
        write(self.path, dataclasses.replace(self.report, samples=samples))
        lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if '"round":' in line]
        self.assertEqual(len(lines), len(samples))
        self.assertIn('"seconds": 0.333333,', lines[0])

    def test_incomplete(self) -> None:
        """A file that lacks something, or has a field that is unknown, is no report."""
        write(self.path, self.report)
        data = json.loads(self.path.read_text(encoding="utf-8"))
        for broken in ({**data, "more": 1}, {name: value for name, value in data.items() if name != "machine"}):
            self.path.write_text(json.dumps(broken), encoding="utf-8")
            self.assertRaises(TypeError, read_report, self.path)

    def test_origin(self) -> None:
        """The origin has the command, the commit, the date and the machine; outside a checkout there is no commit."""
        self.assertEqual(
            self.report.origin,
            "`python -m benchmarks walks` at `abc1234`, 2026-01-02, Linux 6.1, 2 cores (a processor), CPython 3.12.1",
        )
        self.assertIn("walks`, 2026", dataclasses.replace(self.report, commit="").origin)


class RunTests(SynchronousTestCase):
    """What a benchmark is given."""

    def run_with(self, **options: int | bool) -> Run:
        """A run with these options."""
        self.told: list[str] = []
        return Run(directory=Path("no directory"), options=Options(**options), tell=self.told.append)  # type: ignore[arg-type]

    def test_turns(self) -> None:
        """Each round has every case once, in an order of its own, which is the same in every run."""
        cases = list(range(20))
        turns = list(self.run_with().turns(cases, 3, 1))
        self.assertEqual([number for number, _ in turns], [0] * 20 + [1] * 20 + [2] * 20)
        orders = [[case for number, case in turns if number == each] for each in range(3)]
        for order in orders:
            self.assertEqual(Counter(order), Counter(cases))
        self.assertEqual(len({tuple(order) for order in [*orders, cases]}), 4)
        self.assertEqual(list(self.run_with().turns(cases, 3, 1)), turns)
        self.assertEqual(self.told[0], f"round 1 of 3, turn 1 of 20: {orders[0][0]}")

    def test_rounds(self) -> None:
        """A quick run has fewer rounds; a number that is asked for is the number."""
        for options, count in (({}, 3), ({"quick": True}, 1), ({"quick": True, "rounds": 2}, 2)):
            self.assertEqual(len(list(self.run_with(**options).turns(["a"], 3, 1))), count)

    def test_programs(self) -> None:
        """A program that is installed is noted with its version, one that is not with what is missing."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "a-program").write_text("#!/bin/sh\necho version 1.2.3\n", encoding="utf-8")
        (directory / "a-program").chmod(0o755)
        self.patch(os, "environ", {"PATH": str(directory)})
        given = self.run_with()
        self.assertTrue(given.has("a-program", "one"))
        self.assertFalse(given.has("another", "two") or given.has("another", "three"))
        self.assertEqual((given.versions, given.absences), ({"a-program": "1.2.3"}, {"another": ["two", "three"]}))
        self.assertIn("without two: another is not installed", self.told)
