"""The lines that are behind: a tiny run, and the table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import contest
from benchmarks.speed import BENCHMARK
from benchmarks.speed_table import COMMANDS, LINES, PIECE, REQUEST, Sample, draw
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


class SpeedTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Files, commands, requests, pieces and connections are measured; without an earlier version only this one."""
        self.patch(contest, "_SPARE", 0)
        samples = quick_samples(self, BENCHMARK.measure)
        seen = {(each.what, each.version) for each in samples}
        ours = {*COMMANDS, REQUEST, PIECE, "download", "commits", "two addresses"}
        files = {("tls-loop", "file"), ("tls-loop", "start-up")}
        self.assertEqual(seen, {(what, "this") for what in ours} | files | {("reactor", "")})
        self.assertTrue(all(min(each.seconds, each.processor, each.parent) >= 0 for each in samples))
        needed = {each for line in LINES for each in (line.ours, line.other) if each is not None and each[1] == "this"}
        self.assertLessEqual(needed, seen)


class DrawTests(SynchronousTestCase):
    """The table."""

    def rows(self, *costs: tuple[str, str, str, list[float]]) -> dict[str, str]:
        """The lines that are drawn of what was seen in each round, by their titles."""
        samples = [
            replace(_NOTHING, round=at, what=what, version=version, **_only(by, value))
            for what, version, by, values in costs
            for at, value in enumerate(values)
        ]
        lines = [line for line in draw(report_of(samples)).splitlines() if line.startswith("| ")]
        return {title: rest for title, _, rest in (line[2:].partition(" | ") for line in lines)}

    def test_cost(self) -> None:
        """A cost is a part of the other's, by the best of both and by the median of the rounds."""
        rows = self.rows(
            (REQUEST, "this", "parent", [40e-6, 50e-6, 60e-6]), (REQUEST, "earlier", "parent", [80e-6, 100e-6, 90e-6])
        )
        title = "a parent's processor time for a request of 4 KiB, on 8 connections : the earlier version"
        self.assertEqual(rows[title], "at most 0.55 | 0.50 | 0.50 (0.50-0.67) | 40 µs, 80 µs |")

    def test_rate(self) -> None:
        """A rate is the other's time by ours, without the least start-up; one that is missed is bold."""
        rows = self.rows(
            ("tls", "file", "seconds", [3.0]),
            ("tls", "start-up", "seconds", [1.2, 1.0]),
            ("tcp", "file", "seconds", [2.0]),
            ("tcp", "start-up", "seconds", [1.0]),
        )
        self.assertEqual(
            rows["whole command under TLS : plain"], "at least 0.75 | **0.50** | 0.50 (0.50-0.50) | 2 s, 1 s |"
        )

    def test_time(self) -> None:
        """A time that is compared with no other is shown as it is."""
        rows = self.rows(("two addresses", "this", "seconds", [0.0005]))
        title = "seconds to connect where the first of two addresses refuses"
        self.assertEqual(rows[title], "at most 0.02 | 0.0005 | 0.0005 (0.0005-0.0005) | 500 µs |")

    def test_not_measured(self) -> None:
        """A line says so where a side was not measured."""
        rows = self.rows(("tls", "file", "seconds", [3.0]))
        self.assertEqual(rows["whole command under TLS : plain"], "at least 0.75 | not measured | ? | |")


_NOTHING = Sample(seconds=0.0, processor=0.0, parent=0.0, length=500_000_000, round=0, what="", version="", load=1.0)


def _only(name: str, value: float) -> dict[str, Any]:
    """One field of a sample."""
    return {name: value}
