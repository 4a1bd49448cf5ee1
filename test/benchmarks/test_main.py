"""The command."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.benchmark import END, drawn_part, write_report
from benchmarks.contest import draw
from test.benchmarks.reports import contest_report

ROOT = Path(__file__).resolve().parent.parent.parent
CONTEST = BENCHMARKS["contest"]


class MainTestCase(SynchronousTestCase):
    """Has a directory with a page that has the contest's markers."""

    def setUp(self) -> None:
        self.docs = Path(self.mktemp()).absolute()
        self.docs.mkdir()
        self.page = self.docs / "performance.md"
        self.page.write_text(f"{CONTEST.begin}\n\n{END}\n", encoding="utf-8")

    def run_command(self, *arguments: str) -> tuple[int, str]:
        """Run the command; its status, and what it wrote to standard error."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                return main([*arguments, "--docs", str(self.docs)]), said.getvalue()
            except SystemExit as error:
                return int(error.code or 0), said.getvalue()


class OptionsTests(MainTestCase):
    """What can be said."""

    def test_refused(self) -> None:
        """A length without a meaning, one that is lost in start-up, a count of none and unknown names are errors."""
        for arguments, because in (
            (("--size", "much"), "argument --size: invalid"),
            *((("--size", length), "expected more than 1000000 bytes") for length in ("0", "1MB")),
            *((("--rounds", count), "expected a whole number from 1 to 9999") for count in ("0", "1.5", "10000")),
            (("--only", "quic"), "invalid choice: 'quic'"),
            (
                ("quic",),
                "expected one of contest, speed, swarm, swarm_simulated, growth, fairness, workers, memory, got 'quic'",
            ),
        ):
            status, said = self.run_command(*arguments)
            self.assertEqual(status, 2)
            self.assertIn(because, said)

    def test_compiled(self) -> None:
        """An earlier version is compiled before it is measured, as this one is."""
        package = self.docs / "earlier" / "dragonfly_vortex"
        package.mkdir(parents=True)
        (package / "module.py").touch()
        self.run_command("speed", "--redraw", "--against", str(package.parent))
        self.assertEqual(len(list(package.glob("__pycache__/*.pyc"))), 1)

    def test_help(self) -> None:
        """The help names every benchmark, with its question."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertRaises(SystemExit, main, ["--help"])
        for benchmark in BENCHMARKS.values():
            self.assertIn(f"{benchmark.name:16}{benchmark.question}", said.getvalue())

    def test_not_loaded(self) -> None:
        """The command loads neither matplotlib nor gRPC nor Twisted: they are for what it starts."""
        program = "import sys, benchmarks.__main__\nprint(*{name.partition('.')[0] for name in sys.modules})"
        ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(set(ran.stdout.split()) & {"matplotlib", "numpy", "grpc", "twisted"}, set())


class RedrawTests(MainTestCase):
    """Table and chart from a report that is there."""

    def test_without_a_report(self) -> None:
        """Without a report there is one line and status 1, and the page stays as it is."""
        status, said = self.run_command("--redraw")
        self.assertEqual(status, 1)
        self.assertRegex(said, r"\Acontest: .*No such file.*performance\.json'\n\Z")
        self.assertEqual(self.page.read_text(encoding="utf-8"), f"{CONTEST.begin}\n\n{END}\n")

    def test_page(self) -> None:
        """The page has the report's table, and the chart is there if matplotlib is."""
        write_report(self.docs / CONTEST.file, contest_report())
        status, said = self.run_command("contest", "--redraw")
        self.assertEqual(drawn_part(CONTEST, self.page.read_text(encoding="utf-8")), draw(contest_report()))
        if importlib.util.find_spec("matplotlib") is None:
            self.assertEqual(status, 1)
            self.assertIn("the chart is not drawn", said)
        else:
            self.assertEqual((status, said), (0, ""))
            self.assertIn(b"<svg", (self.docs / "performance.svg").read_bytes())


class TerminatedTests(MainTestCase):
    """A run that is ended."""

    def processes(self, directory: Path) -> list[int]:
        """The IDs of the processes whose command names a path below a directory."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if bytes(directory) in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found

    def test_terminated(self) -> None:
        """A contest that is ended in a turn leaves no process, no directory and no report."""
        scratch = self.docs / "scratch"
        scratch.mkdir()
        command = [sys.executable, "-m", "benchmarks", "--only", "plain-from-ours", "--size", "8MB"]
        with subprocess.Popen(
            [*command, "--scratch", scratch, "--docs", self.docs], cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as run:
            if run.stderr is None:
                self.fail("expected a pipe")
            told = ""
            while not told.startswith("round 1 of 7, turn 1 of 3: "):
                told = run.stderr.readline()
                self.assertNotEqual(told, "")
            self.assertNotEqual(list(scratch.iterdir()), [])
            run.terminate()
            run.communicate()
        self.assertEqual(run.returncode, 143)
        self.assertEqual(list(scratch.iterdir()), [])
        self.assertEqual(self.processes(scratch), [])
        self.assertFalse((self.docs / CONTEST.file).exists())
