"""The text format, read by others."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.metrics.exposition import Family, Labels, family, written


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
