"""The command itself."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.__main__ import PART, main
from benchmarks.page import END
from benchmarks.report import read_report, write_report
from benchmarks.settings import turns
from benchmarks.table import table
from test.benchmarks.reports import make_report

ROOT = Path(__file__).resolve().parent.parent.parent


class Docs:
    """A directory with a page that has the markers."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir()
        self.page = self.directory / "performance.md"
        self.page.write_text(f"{PART.begin}\n\n{END}\n", encoding="utf-8")
        self.data = self.directory / "performance.json"
        self.chart = self.directory / "performance.svg"

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command on it; its status, and what it wrote to standard error."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = main([*arguments, "--docs", str(self.directory)])
        return status, said.getvalue()


class RedrawTests(SynchronousTestCase):
    """Table and chart from a report that is there."""

    def test_without_a_report(self) -> None:
        """Without a report there is one line and status 1, and the page stays as it is."""
        docs = Docs(self.mktemp())
        status, said = docs.run("--redraw")
        self.assertEqual(status, 1)
        self.assertRegex(said, r"\Abenchmarks: .*No such file.*performance\.json'\n\Z")
        self.assertEqual(docs.page.read_text(encoding="utf-8"), f"{PART.begin}\n\n{END}\n")

    def test_page(self) -> None:
        """The figures are those of the samples again, the page has their table, and the chart is there if it can be."""
        docs = Docs(self.mktemp())
        write_report(docs.data, make_report())
        written = docs.data.read_bytes()
        docs.data.write_bytes(written.replace(b"the whole command over TCP", b"what it was called once"))
        status, said = docs.run("--redraw")
        self.assertEqual(docs.data.read_bytes(), written)
        self.assertEqual(PART.read(docs.page.read_text(encoding="utf-8")), table(make_report()))
        if importlib.util.find_spec("matplotlib") is None:
            self.assertEqual(status, 1)
            self.assertIn("the chart is not drawn", said)
        else:
            self.assertEqual((status, said), (0, ""))
            self.assertIn(b"<svg", docs.chart.read_bytes())


def processes_in(directory: Path, program: str = "") -> list[int]:
    """The IDs of the processes that were started with a path below a directory, all or those of a program."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command = (process / "cmdline").read_bytes()
            if bytes(directory) in command and program.encode() in command:
                found.append(int(process.name))
    return found


class MeasureTests(TestCase):
    """A whole run, as short as can be, and one that is ended."""

    def test_terminated(self) -> None:
        """A run that is ended in the middle leaves no process, no directory and no report."""
        docs = Docs(self.mktemp())
        scratch = docs.directory / "scratch"
        scratch.mkdir()
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks", "--only", "plain-from-ours", "--size", "8MB"),
                *("--scratch", scratch, "--docs", docs.directory),
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        ) as run:
            if run.stderr is None:
                self.fail("expected a pipe")
            run.stderr.readline()
            while not processes_in(scratch, "twistd"):
                self.assertIsNone(run.poll())
            self.assertNotEqual(list(scratch.iterdir()), [])
            run.terminate()
            run.communicate()
        self.assertEqual(run.returncode, 143)
        self.assertEqual(list(scratch.iterdir()), [])
        self.assertEqual(processes_in(scratch), [])
        self.assertFalse(docs.data.exists())

    def test_measure(self) -> None:
        """Measured, written and drawn; each line that it tells is one turn."""
        docs = Docs(self.mktemp())
        _, said = docs.run(
            *("--only", "plain-from-ours", "--size", "8MB", "--rounds", "1", "--seed", "3"),
            *("--scratch", str(docs.directory)),
        )
        report = read_report(docs.data)
        self.assertEqual([(each.round, each.case) for each in report.samples], list(turns(report.settings)))
        self.assertEqual(len(report.samples), 1 + 2)
        self.assertEqual([entry.name for entry in report.entries], ["plain-from-ours"])
        self.assertEqual(PART.read(docs.page.read_text(encoding="utf-8")), table(report))
        self.assertIn("python -m benchmarks --only plain-from-ours --size 8MB --rounds 1", report.command)
        self.assertEqual(said.count(" bytes in pieces of "), len(report.samples))
        self.assertEqual(sorted(path.suffix for path in docs.directory.iterdir() if path.is_dir()), [])
        self.assertEqual(processes_in(docs.directory), [])
