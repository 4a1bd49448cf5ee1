"""Start-up: a tiny run, and the table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import start_up
from benchmarks.start_up import BENCHMARK, Sample, draw
from test.benchmarks.reports import report_of
from test.benchmarks.tiny import quick_samples


class StartUpTests(SynchronousTestCase):
    """The benchmark."""

    def test_measure(self) -> None:
        """Each program has run, the downloads over each transport and the commands on a storage too."""
        self.patch(start_up, "_IMPORTS", ("import dragonfly_vortex.wire",))
        self.patch(start_up, "_HELPS", ("dfvortex --help",))
        samples = quick_samples(self, BENCHMARK.measure)
        self.assertEqual(len({each.program for each in samples}), 8)
        self.assertEqual(len(samples), 8)
        self.assertTrue(all(each.seconds > 0 and each.processor > 0 for each in samples))

    def test_draw(self) -> None:
        """Least and median of each program, but for imports that say nothing more."""
        seconds = {"`dfvortex --help`": (0.05, 0.03, 0.1), "`python -c pass`": (0.02, 0.01, 0.04)}
        seconds["`import dragonfly_vortex.downloaders.factory`"] = (0.1, 0.2, 0.3)
        samples = [
            Sample(program=program, seconds=each, processor=each / 2)
            for program, all_of_them in seconds.items()
            for each in all_of_them
        ]
        self.assertEqual(
            draw(report_of(samples)).splitlines()[4:],
            ["| `python -c pass` | 10, 20 |", "| `dfvortex --help` | 30, 50 |"],
        )
