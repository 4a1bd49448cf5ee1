"""Programs that begin at the same moment."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.processes import DidNotWork
from benchmarks.together import run_together

_READY = "import sys; print('ready', flush=True); sys.stdin.readline(); "


def program(work: str, ready: str = _READY) -> list[str | Path]:
    """A program that does some work at a signal to begin."""
    return [sys.executable, "-c", ready + work]


class TogetherTests(SynchronousTestCase):
    """Small programs."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.cues = 0

    def cue(self) -> None:
        """Count the cues."""
        self.cues += 1

    def test_ends(self) -> None:
        """A program's status and output are reported, and it gets the signal to begin when all are ready."""
        commands = {"good": program("print('fine')"), "bad": program("print('no'); sys.exit(3)")}
        done = run_together(commands, self.directory, 60.0, on_cue=self.cue)
        self.assertEqual(
            {name: (each.status, each.output) for name, each in done.items()},
            {"good": (0, "ready\nfine\n"), "bad": (3, "ready\nno\n")},
        )
        self.assertEqual(self.cues, 1)

    def test_done(self) -> None:
        """A program that says that its work is done serves until all have done theirs."""
        serving = program("print('done', flush=True); sys.stdin.read(); print('served')")
        done = run_together({"serving": serving, "other": program("")}, self.directory, 60.0)
        self.assertEqual((done["serving"].status, done["serving"].output), (0, "ready\ndone\nserved\n"))

    def test_kills(self) -> None:
        """A program can be killed after a time; one that has done its work by then is not."""
        killed: list[str] = []
        done = run_together(
            {"endless": program("sys.stdin.read()"), "quick": program("")},
            self.directory,
            60.0,
            {"endless": 0.1, "quick": 30.0},
            on_kill=killed.append,
        )
        self.assertEqual((done["endless"].status, done["quick"].status), (-9, 0))
        self.assertGreaterEqual(done["endless"].seconds, 0.1)
        self.assertEqual(killed, ["endless"])

    def test_timeout(self) -> None:
        """After the longest time all are killed whose work is not done."""
        done = run_together({"endless": program("sys.stdin.read()")}, self.directory, 0.1)
        self.assertEqual(done["endless"].status, -9)

    def test_not_ready(self) -> None:
        """A program that ends before it is ready is an error, with what it wrote."""
        error = self.assertRaises(
            DidNotWork, run_together, {"hasty": program("print('oh')", "")}, self.directory, 60.0, on_cue=self.cue
        )
        self.assertIn("oh", str(error))
        self.assertEqual(self.cues, 0)
