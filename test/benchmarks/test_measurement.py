"""Measurements: what they write, and that every table in the documents is the one that its file gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.measurement import Measurement
from benchmarks.page import END
from benchmarks.servers import DidNotWork

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
NAMES = sorted(path.stem for path in (DOCS / "measurements").glob("*.json"))


def measurement_named(name: str) -> Measurement[object]:
    """The measurement of a module of benchmarks."""
    measurement = importlib.import_module(f"benchmarks.{name}").MEASUREMENT
    if not isinstance(measurement, Measurement):
        raise TypeError(f"expected a Measurement in benchmarks.{name}, got {measurement!r}")
    return measurement


class DocumentTests(SynchronousTestCase):
    """The files in ``docs/measurements``, and the tables that are drawn from them."""

    def test_tables(self) -> None:
        """Drawn again from its file, each table is the one that its page has."""
        self.assertNotEqual(NAMES, [])
        for name in NAMES:
            measurement = measurement_named(name)
            page = (DOCS / measurement.page).read_text(encoding="utf-8")
            self.assertEqual(measurement.part.read(page), measurement.table(DOCS), name)

    def test_names(self) -> None:
        """Each measurement has the name of its module, and each has been made."""
        modules = [
            path.stem for path in (ROOT / "benchmarks").glob("*.py") if "MEASUREMENT = Measurement(" in path.read_text()
        ]
        self.assertEqual([measurement_named(name).name for name in sorted(modules)], NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Something that was seen."""

    what: str
    seconds: float


def draw(samples: Sequence[Sample]) -> str:
    """A line for each sample."""
    return "\n".join(f"{sample.what}: {sample.seconds:.1f} s" for sample in samples)


class MeasurementTests(SynchronousTestCase):
    """A run of a measurement."""

    def setUp(self) -> None:
        self.docs = Path(self.mktemp())
        self.docs.mkdir()
        self.quick: list[bool] = []

    def measurement(self, *samples: Sample | DidNotWork) -> Measurement[Sample]:
        """A measurement that sees these, or fails."""

        def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
            self.quick.append(quick)
            self.assertEqual(list(directory.iterdir()), [])
            for sample in samples:
                if isinstance(sample, DidNotWork):
                    raise sample
                yield sample

        made = Measurement(name="walks", sample=Sample, measure=measure, draw=draw, page="walks.md")
        (self.docs / "walks.md").write_text(f"before\n{made.part.begin}\n\n{END}\nafter\n", encoding="utf-8")
        return made

    def test_run(self) -> None:
        """The samples are written, and the page has command, machine and table; redrawing changes nothing."""
        measurement = self.measurement(Sample(what="one", seconds=1.0), Sample(what="two", seconds=2.25))
        self.assertEqual(measurement.main(["--quick", "--docs", str(self.docs)]), 0)
        page = (self.docs / "walks.md").read_text(encoding="utf-8")
        self.assertIn(f"`python -m benchmarks.walks --quick --docs {self.docs}`, ", page)
        self.assertIn("\n\none: 1.0 s\ntwo: 2.2 s\n<!-- end -->\nafter\n", page)
        self.assertEqual(measurement.main(["--redraw", "--docs", str(self.docs)]), 0)
        self.assertEqual((self.docs / "walks.md").read_text(encoding="utf-8"), page)
        self.assertEqual(self.quick, [True])

    def test_failure(self) -> None:
        """Where something did not work nothing is written, and the exit status says it."""
        measurement = self.measurement(Sample(what="one", seconds=1.0), DidNotWork("it fell"))
        page = (self.docs / "walks.md").read_text(encoding="utf-8")
        self.assertEqual(measurement.main(["--docs", str(self.docs)]), 1)
        self.assertEqual((self.docs / "walks.md").read_text(encoding="utf-8"), page)
        self.assertFalse((self.docs / "measurements").exists())
