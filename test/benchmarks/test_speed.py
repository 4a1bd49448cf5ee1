"""The lines that are behind: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import turn
from benchmarks.speed import BENCHMARK, LINES, draw
from test.benchmarks.reports import quick_samples, report_of


class SpeedTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Files, commands, requests, pieces and connections are measured; without an earlier version only this one."""
        self.patch(turn, "_SPARE", 0)
        samples = quick_samples(self, BENCHMARK.measure)
        ours = {"stat", "list", "import", "request", "piece", "download", "commits", "two addresses"}
        self.assertEqual(
            {(each["what"], each["version"]) for each in samples},
            {(what, "this") for what in ours} | {("tls-loop", "file"), ("tls-loop", "start-up"), ("reactor", "")},
        )
        self.assertTrue(all(min(each["seconds"], each["processor"], each["parent"]) >= 0 for each in samples))
        self.assertLessEqual(ours - {"request"}, {line.ours for line in LINES} | {"request"})

    def test_draw(self) -> None:
        """The least start-up is taken off a file; an earlier version is compared with this one."""
        costs = (
            *(("tls", "file", [3.0]), ("tls", "start-up", [1.2, 1.0]), ("tcp", "file", [2.0])),
            *(("tcp", "start-up", [1.0]), ("stat", "this", [0.2]), ("stat", "earlier", [0.5])),
        )
        samples = [
            {"round": at, "what": what, "version": version, "load": 1.0, "length": 5 * 10**8}
            | dict.fromkeys(("seconds", "processor", "parent"), value)
            for what, version, values in costs
            for at, value in enumerate(values)
        ]
        text = draw(report_of(samples))
        self.assertIn("; 2 rounds, a file of 500 MB, a load of 1.0 to 1.0; start-up is taken off\n", text)
        self.assertIn("plain | at least 0.75 | **0.50** | 0.50 (0.50-0.50) | 2 s, 1 s |\n", text)
        self.assertIn("earlier version | at most 0.5 | 0.40 | 0.40 (0.40-0.40) | 200 ms, 500 ms |\n", text)
        self.assertIn("the reference from itself, plain writes | at least 1 | not measured | ? | |\n", text)
        self.assertIn("child |\n|---|---|---|---|\n| ours, TCP | 500, 500 | 2.00 | 2.00 |\n", text)
        self.assertTrue(text.endswith("\n| ours, TCP under TLS | 250, 250 | 4.00 | 4.00 |"))
