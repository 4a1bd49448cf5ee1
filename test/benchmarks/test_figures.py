"""What is calculated from samples, by numbers that can be checked in the head."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.figures import Result, Spread, summarize
from benchmarks.settings import cases, turns
from benchmarks.targets import TARGETS
from test.benchmarks.reports import make_report, make_sample, make_settings


class FiguresTests(SynchronousTestCase):
    """The figures of the made-up run: a thousand megabytes more than start-up, in 1, 2 and 4 s over TCP."""

    def setUp(self) -> None:
        self.figures = make_report().figures
        self.tcp, self.grpc = self.figures.cells[:2]

    def test_cells(self) -> None:
        """There is a cell for each case."""
        self.assertEqual(
            [(cell.contestant, cell.shape) for cell in self.figures.cells],
            [(case.contestant, case.shape) for case in cases(make_settings())],
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
        self.assertEqual([each.contestant for each in self.figures.start_ups], list(make_settings().contestants))
        self.assertEqual(self.figures.start_ups[0].seconds, Spread(minimum=0.5, median=0.5, maximum=0.5))
        self.assertEqual(self.figures.start_ups[0].child_processor.median, 0.25)

    def test_results(self) -> None:
        """Of each target there is told what came of it: by the best rounds, and beside it by the medians."""
        results = {result.title: result for result in self.figures.results}
        self.assertEqual(list(results), [target.title for target in TARGETS])
        self.assertEqual(
            results["the whole command over TCP : over gRPC"],
            Result(
                title="the whole command over TCP : over gRPC",
                at_least=2.5,
                at_most=None,
                of_minima=2.0,
                of_medians=4.0,
                of_rounds=Spread(minimum=2.0, median=4.0, maximum=4.0),
                is_reached=False,
            ),
        )

    def test_rounds(self) -> None:
        """A round that is slow for both sides is worth as much as any; one that is slow for one is at the edge."""
        settings = make_settings()
        slow = {
            ("tcp", 0): 8.0,
            ("grpc", 0): 24.0,
            ("tcp", 1): 1.0,
            ("grpc", 1): 2.0,
            ("tcp", 2): 1.0,
            ("grpc", 2): 4.0,
        }
        samples = [
            dataclasses.replace(sample, seconds=0.5 + slow[sample.case.contestant, sample.round])
            if not sample.case.is_start_up and sample.case.contestant in ("tcp", "grpc")
            else sample
            for sample in (make_sample(*turn) for turn in turns(settings))
        ]
        result = summarize(settings, 2, samples).results[0]
        self.assertEqual((result.of_minima, result.of_medians), (2.0, 4.0))
        self.assertEqual(result.of_rounds, Spread(minimum=2.0, median=3.0, maximum=4.0))

    def test_processor_result(self) -> None:
        """A parent's processor time is compared the other way round: less is better."""
        (result,) = (result for result in self.figures.results if result.at_most is not None)
        self.assertEqual((result.at_most, result.of_minima, result.is_reached), (1.25, 1.0, True))
        settings = make_settings()
        samples = [make_sample(*turn) for turn in turns(settings)]
        dear = [
            dataclasses.replace(each, parent_processor=each.parent_processor * 1.3)
            if each.case.contestant == "plain-from-ours"
            else each
            for each in samples
        ]
        (result,) = (result for result in summarize(settings, 2, dear).results if result.at_most is not None)
        self.assertAlmostEqual(result.of_minima or 0, 1.3)
        self.assertIs(result.is_reached, False)

    def test_both_references(self) -> None:
        """The reference is compared by both of its children, each for itself."""
        names = ("ours-from-reference", "reference", "plain-reference")
        settings = dataclasses.replace(make_settings(), contestants=names, in_other_shapes=(), other_shapes=())
        fast = {"ours-from-reference": 1.0, "reference": 4.0, "plain-reference": 0.5}
        samples = [
            dataclasses.replace(make_sample(*turn), seconds=0.5 + (0 if case.is_start_up else fast[case.contestant]))
            for turn in turns(settings)
            for case in turn[1:]
        ]
        results = {result.title: result for result in summarize(settings, 2, samples).results}
        for how, ratio, is_reached in (("through its storage", 4.0, True), ("plain writes", 0.5, False)):
            result = results[f"ours from the reference : the reference from the reference, {how}"]
            self.assertEqual((result.of_minima, result.is_reached), (ratio, is_reached))

    def test_not_measured(self) -> None:
        """Where a side did not take part, nothing is said."""
        settings = dataclasses.replace(
            make_settings(), contestants=("tcp-pieces", "curl"), in_other_shapes=(), other_shapes=()
        )
        for result in summarize(settings, 2, [make_sample(*turn) for turn in turns(settings)]).results:
            self.assertEqual((result.of_minima, result.of_medians), (None, None))
            self.assertEqual((result.of_rounds, result.is_reached), (None, None))

    def test_noise(self) -> None:
        """The rounds lie 1.5 to 1.75 of a median apart; something else had an eighth of the cores."""
        self.assertEqual(self.figures.scatter, Spread(minimum=1.5, median=1.5, maximum=1.75))
        self.assertEqual(self.figures.others, Spread(minimum=0.125, median=0.125, maximum=0.125))

    def test_too_short(self) -> None:
        """Where the file takes no longer than start-up there is no rate, no ratio and no scatter."""
        settings = make_settings()
        samples = [dataclasses.replace(make_sample(*turn), seconds=0.5) for turn in turns(settings)]
        figures = summarize(settings, 2, samples)
        self.assertEqual({cell.rate for cell in figures.cells}, {None})
        self.assertEqual({result.of_minima for result in figures.results if result.at_least is not None}, {None})
        self.assertIsNone(figures.scatter)
