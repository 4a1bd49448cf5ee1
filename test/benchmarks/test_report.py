"""The JSON file of a run."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestants import CONTESTANTS
from benchmarks.report import Absence, absences, entries, read_report, versions, write_report
from test.benchmarks.reports import make_report, make_settings


class ReportTests(SynchronousTestCase):
    """What is written is read."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.report = make_report()

    def test_round_trip(self) -> None:
        """What is read is what was written, types and all."""
        write_report(self.path, self.report)
        self.assertEqual(read_report(self.path), self.report)

    def test_nothing_to_say(self) -> None:
        """What is None stays so."""
        samples = tuple(dataclasses.replace(each, seconds=0.5) for each in self.report.samples)
        report = dataclasses.replace(self.report, samples=samples)
        self.assertIsNone(report.figures.scatter)
        write_report(self.path, report)
        self.assertEqual(read_report(self.path), report)
        self.assertIsNone(json.loads(self.path.read_text(encoding="utf-8"))["figures"]["scatter"])

    def test_figures(self) -> None:
        """The figures are those of the samples, whatever others the file has."""
        write_report(self.path, self.report)
        data = json.loads(self.path.read_text(encoding="utf-8"))
        data["figures"] = {}
        self.path.write_text(json.dumps(data), encoding="utf-8")
        self.assertEqual(read_report(self.path).figures, self.report.figures)

    def test_is_json(self) -> None:
        """It is JSON in which everything has its name, also for whoever does not know these classes."""
        write_report(self.path, self.report)
        data = json.loads(self.path.read_text(encoding="utf-8"))
        self.assertEqual(data["figures"]["cells"][0]["seconds"], {"minimum": 1.0, "median": 2.0, "maximum": 4.0})
        self.assertEqual(data["machine"]["packages"]["Twisted"], "26.10.0")
        self.assertEqual(len(data["samples"]), len(self.report.samples))

    def test_a_line_for_each(self) -> None:
        """Each sample has a line of its own, without needless decimals."""
        samples = (dataclasses.replace(self.report.samples[0], seconds=1 / 3), *self.report.samples[1:])
        write_report(self.path, dataclasses.replace(self.report, samples=samples))
        lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if '"round":' in line]
        self.assertEqual(len(lines), len(samples))
        self.assertIn('"seconds": 0.333333,', lines[0])

    def test_something_missing(self) -> None:
        """A file that lacks something is no report."""
        write_report(self.path, self.report)
        data = json.loads(self.path.read_text(encoding="utf-8"))
        del data["machine"]["kernel"]
        self.path.write_text(json.dumps(data), encoding="utf-8")
        self.assertRaises(KeyError, read_report, self.path)


class EntriesTests(SynchronousTestCase):
    """Who takes part, and who does not."""

    def test_commands(self) -> None:
        """Commands have what is fetched in them as figures, and paths and ports by their names."""
        tcp = entries(make_settings())[0]
        self.assertEqual((tcp.name, tcp.title, tcp.group), ("tcp", CONTESTANTS["tcp"].title, "file"))
        self.assertIn(" --concurrency 8 --output $turn/output ", tcp.child[0])
        self.assertEqual(tcp.parent, "twistd -n --pidfile= dfvortex --config $turn/parent.yaml")
        self.assertIn("$port", tcp.files["parent.yaml"])

    def test_files_of_both(self) -> None:
        """The files are those of the parent and those of the child."""
        (tls,) = entries(dataclasses.replace(make_settings(), contestants=("tls",)))
        self.assertEqual(list(tls.files), ["parent.yaml", "child.yaml"])

    def test_absences(self) -> None:
        """Who needs a program that is not installed cannot take part; ours always can."""
        self.patch(os, "environ", {"PATH": self.mktemp()})
        absent = absences(("tcp", "curl", "iperf3"))
        self.assertEqual(set(absent), {"curl", "iperf3"})
        self.assertEqual(absent["iperf3"], Absence(title=CONTESTANTS["iperf3"].title, missing="iperf3"))

    def test_versions(self) -> None:
        """The interpreter and this package have theirs elsewhere."""
        self.assertEqual(versions(("tcp", "tcp-pieces")), {})
