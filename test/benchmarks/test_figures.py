"""What is calculated from samples, by numbers that can be checked in the head."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.figures import Spread, summarize
from benchmarks.settings import turns
from test.benchmarks.reports import make_report, make_sample, make_settings


class FiguresTests(SynchronousTestCase):
    """The figures of the made-up run: a thousand megabytes more than start-up, in 1, 2 and 4 s over TCP."""

    def setUp(self) -> None:
        self.figures = make_report().figures
        self.tcp, self.grpc = self.figures.cells[:2]

    def test_cells(self) -> None:
        """There is a cell for each transport, piece length and concurrency, the transports side by side."""
        self.assertEqual(
            [(cell.piece_length // 2**20, cell.concurrency, cell.transport) for cell in self.figures.cells],
            [
                (piece_length, concurrency, transport)
                for piece_length in (4, 64)
                for concurrency in (1, 8)
                for transport in ("tcp", "grpc")
            ],
        )

    def test_seconds(self) -> None:
        """Start-up is taken off."""
        self.assertEqual(self.tcp.seconds, Spread(minimum=1.0, median=2.0, maximum=4.0))
        self.assertEqual(self.grpc.seconds, Spread(minimum=2.0, median=8.0, maximum=16.0))

    def test_noisy_start_ups(self) -> None:
        """It is the least start-up that is taken off: a slow one makes nothing look faster."""
        settings = make_settings()
        samples = [make_sample(*turn) for turn in turns(settings)]
        noisy = [
            dataclasses.replace(each, seconds=9.0, child_processor=9.0)
            if each.case.is_start_up and each.round > 0
            else each
            for each in samples
        ]
        cells, noisy_cells = summarize(settings, 2, samples).cells, summarize(settings, 2, noisy).cells
        self.assertEqual(noisy_cells, cells)

    def test_rate(self) -> None:
        """The longest time is the lowest rate; the bytes of start-up do not count."""
        self.assertEqual(self.tcp.rate, Spread(minimum=250e6, median=500e6, maximum=1000e6))

    def test_processor(self) -> None:
        """Of processor time start-up is taken off too, and the rest is for a gigabyte."""
        self.assertEqual(self.tcp.parent_processor, Spread(minimum=0.25, median=0.5, maximum=1.0))
        self.assertEqual(self.tcp.child_processor, Spread(minimum=0.5, median=1.0, maximum=2.0))

    def test_memory(self) -> None:
        """Memory is all that there was."""
        self.assertEqual(self.tcp.parent_peak, Spread(minimum=51e6, median=52e6, maximum=54e6))
        self.assertEqual(self.tcp.child_peak, Spread(minimum=61e6, median=62e6, maximum=64e6))

    def test_start_ups(self) -> None:
        """Start-up stands for itself."""
        self.assertEqual([each.transport for each in self.figures.start_ups], ["tcp", "grpc"])
        self.assertEqual(self.figures.start_ups[0].seconds, Spread(minimum=0.5, median=0.5, maximum=0.5))
        self.assertEqual(self.figures.start_ups[0].child_processor.median, 0.25)

    def test_ratios(self) -> None:
        """gRPC takes twice as long in the best round, and four times as long in the median round."""
        self.assertEqual(len(self.figures.ratios), 4)
        for ratio in self.figures.ratios:
            self.assertEqual((ratio.transport, ratio.first), ("grpc", "tcp"))
            self.assertEqual((ratio.of_minima, ratio.of_medians), (2.0, 4.0))

    def test_noise(self) -> None:
        """The rounds lie up to one and three quarters of a median apart; something else had an eighth of the cores."""
        self.assertEqual(self.figures.scatter, Spread(minimum=1.5, median=1.625, maximum=1.75))
        self.assertEqual(self.figures.others, Spread(minimum=0.125, median=0.125, maximum=0.125))

    def test_too_short(self) -> None:
        """Where the file takes no longer than start-up there is no rate, no ratio and no scatter."""
        settings = make_settings()
        samples = [dataclasses.replace(make_sample(*turn), seconds=0.5) for turn in turns(settings)]
        figures = summarize(settings, 2, samples)
        self.assertEqual({cell.rate for cell in figures.cells}, {None})
        self.assertEqual({ratio.of_minima for ratio in figures.ratios}, {None})
        self.assertIsNone(figures.scatter)

    def test_one_transport(self) -> None:
        """Alone, a transport is compared with nothing."""
        settings = dataclasses.replace(make_settings(), transports=("grpc",))
        figures = summarize(settings, 2, [make_sample(*turn) for turn in turns(settings)])
        self.assertEqual(figures.ratios, ())
        self.assertEqual({cell.transport for cell in figures.cells}, {"grpc"})
