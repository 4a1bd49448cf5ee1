"""The tables of memory, start-up and sockets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import memory, sockets, start_up


class TableTests(SynchronousTestCase):
    """What the tables make of samples."""

    def test_memory(self) -> None:
        """Of all rounds: the median when idle, the most of what it grows by."""
        samples = [
            memory.Sample(
                connections=8,
                piece_length=4 << 20,
                content_length=64 << 20,
                parent_idle=10_000_000 + idle,
                parent_peak=10_500_000 + idle,
                child_idle=20_000_000,
                child_peak=20_000_000 + idle,
            )
            for idle in (0, 3_000_000, 1_000_000)
        ]
        self.assertEqual(memory.draw(samples).splitlines()[2:], ["| 8 | 4 MiB | 64 MiB | 11.0 | 0.5 | 20.0 | 3.0 |"])

    def test_start_up(self) -> None:
        """Least and median of each program, and its least by that of a Python that does nothing."""
        seconds = {"`python -c pass`": (0.02, 0.01, 0.04), "`dfvortex --help`": (0.05, 0.03, 0.1)}
        samples = [
            start_up.Sample(program=program, seconds=each, processor=each / 2)
            for program, all_of_them in seconds.items()
            for each in all_of_them
        ]
        self.assertEqual(
            start_up.draw(samples).splitlines()[2:],
            [
                "| `python -c pass` | 10, 20 | 1.0 | 5, 10 | 1.0 |",
                "| `dfvortex --help` | 30, 50 | 3.0 | 15, 25 | 3.0 |",
            ],
        )

    def test_sockets(self) -> None:
        """A column for each way that was measured, with the most and the median; what is not there is a dash."""
        samples = [
            sockets.Sample(
                system="cubic",
                place=place,
                made_of="relay",
                options=options,
                connections=connections,
                piece_length=length,
                rate=rate,
                parent_processor=1e8 / rate,
            )
            for place, options, connections, length, rate in (
                ("loopback", "iperf3", 8, 0, 2e9),
                ("loopback", "defaults", 2, 4 << 20, 1e8),
                ("loopback", "defaults", 2, 4 << 20, 4e8),
                ("50 ms", "defaults", 2, 4 << 20, 1.234e7),
                ("the way without a limit", "iperf3", 8, 0, 9e7),
            )
        ]
        table = sockets.draw(samples).splitlines()
        self.assertEqual(
            table[:4],
            [
                "| set at both sides | connections | pieces of | loopback, MB/s | 50 ms, MB/s | parent, s/GB |",
                "|---|---|---|---|---|---|",
                "| defaults | 2 | 4096 KiB | 400, 250 | 12.3, 12.3 | 0.25 |",
                "| iperf3 | 8 | - | 2000, 2000 | - | - |",
            ],
        )
        self.assertIn("90 MB/s", table[-1])
        self.assertIn("is cubic", table[-3])
