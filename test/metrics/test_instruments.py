"""Counters, gauges and histograms with labels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.metrics.instruments import (
    BoundedNames,
    Counter,
    Family,
    Gauge,
    Histogram,
    Labels,
    exponential_bounds,
    family,
    written,
)
from test.metrics.page import values_in


class CounterTests(SynchronousTestCase):
    """Counters and gauges."""

    def test_known(self) -> None:
        """Known labels are there before anything is counted; others come when they are counted."""
        counter = Counter("asked_total", "How often.", ["type"], known=[("0",)])
        self.assertEqual(counter.family().samples, {(("type", "0"),): 0})
        counter.add("1", amount=3)
        counter.add("0")
        self.assertEqual(counter.family().samples, {(("type", "0"),): 1, (("type", "1"),): 3})
        self.assertEqual(counter.family().kind, "counter")

    def test_gauge(self) -> None:
        """A gauge shrinks, and takes values."""
        gauge = Gauge("open", "How many.")
        gauge.add(amount=5)
        gauge.add(amount=-2)
        self.assertEqual((gauge.family().kind, gauge.family().samples), ("gauge", {(): 3}))
        gauge.set(amount=9)
        self.assertEqual(gauge.family().samples, {(): 9})

    def test_threads(self) -> None:
        """No count is lost where several threads count."""
        counter = Counter("asked_total", "How often.")

        def count() -> None:
            for _ in range(20_000):
                counter.add()

        with ThreadPoolExecutor(4) as threads:
            for _ in range(4):
                threads.submit(count)
        self.assertEqual(counter.family().samples, {(): 80_000})

    def test_label_missing(self) -> None:
        """A family does not show a value with another number of labels."""
        counter = Counter("asked_total", "How often.", ["type"], known=[])
        counter.add("0", "1")
        self.assertRaises(ValueError, counter.family)


class HistogramTests(SynchronousTestCase):
    """Histograms."""

    def test_buckets(self) -> None:
        """Prometheus's own parser reads cumulative buckets, whose bounds belong to them, the sum and the count."""
        histogram = Histogram("took_milliseconds", "How long.", ["type"], known=[], bounds=exponential_bounds(1, 2, 24))
        for amount in (0, 1, 1.5, 2, 8_388_608, 8_388_609):
            histogram.observe("0", amount=amount)
        text = written([histogram.family()]).decode()
        values = values_in(text)
        buckets = {"1": 2, "2": 4, "4": 4, "8388608": 5, "+Inf": 6}
        for bound, count in buckets.items():
            self.assertEqual(values[f"took_milliseconds_bucket{{le={bound},type=0}}"], count, bound)
        self.assertEqual(values["took_milliseconds_count{type=0}"], 6)
        self.assertEqual(values["took_milliseconds_sum{type=0}"], 16_777_221.5)
        (family,) = text_string_to_metric_families(text)
        self.assertEqual((family.type, len(family.samples)), ("histogram", 27))
        self.assertIn('_bucket{type="0",le="8388608"} 5\n', text)

    def test_known(self) -> None:
        """Known labels are there before anything is observed."""
        histogram = Histogram("took_seconds", "How long.", bounds=(0.005, 1))
        ((labels, empty),) = histogram.family().distributions.items()
        self.assertEqual((labels, empty.counts, empty.total), ((), [0, 0, 0], 0))


class BoundedNamesTests(SynchronousTestCase):
    """Labels that strangers choose."""

    def test_bounded(self) -> None:
        """The first names stay themselves; further ones have one name together; none is long."""
        names = BoundedNames(2)
        self.assertEqual(names.admit("a", "b"), ("a", "b"))
        self.assertEqual(names.admit("x" * 1000), ("x" * 100,))
        self.assertEqual(names.admit("c", "d"), ("other", "other"))
        self.assertEqual(names.admit("a", "b"), ("a", "b"))


class TextTests(SynchronousTestCase):
    """Metrics as a page."""

    def test_line_by_line(self) -> None:
        """A metric is a line of help, one of its type, and one for each value; a whole number stays one."""
        page = written(
            [
                family("traffic", "counter", "How much.", 2**60 + 1),
                Family(name="asked_total", kind="counter", help="How often.", samples={(("type", "1"),): 0.5}),
            ]
        )
        self.assertEqual(
            page.decode().splitlines(),
            [
                *("# HELP traffic How much.", "# TYPE traffic counter", "traffic 1152921504606846977"),
                *("# HELP asked_total How often.", "# TYPE asked_total counter", 'asked_total{type="1"} 0.5'),
            ],
        )

    def test_any_text(self) -> None:
        """Whatever a label or a help says comes out as it went in."""
        label, said = 'C:\\new "quoted"\nlïne', "a \\new\nline"
        samples: dict[Labels, float] = {(("one", label), ("two", "")): 1e-9, (("one", ""), ("two", "")): 2}
        (read,) = text_string_to_metric_families(
            written([Family(name="gauge", kind="gauge", help=said, samples=samples)]).decode()
        )
        self.assertEqual((read.name, read.type, read.documentation), ("gauge", "gauge", said))
        self.assertEqual([(tuple(each.labels.items()), each.value) for each in read.samples], list(samples.items()))

    def test_nothing(self) -> None:
        """No metrics are an empty page."""
        self.assertEqual(written([]), b"")
