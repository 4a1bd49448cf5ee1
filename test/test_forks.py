"""A program that is forked is like one that is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from test.forks import EXAMPLES, PROGRAMS, Fork, can_fork
from test.processes import Daemon, dfvortex, start, write_config

DFVORTEX = PROGRAMS / "dfvortex"


class ForkTests(SynchronousTestCase):
    """Forks in a directory of their own."""

    def setUp(self) -> None:
        if not can_fork([DFVORTEX], None):
            raise SkipTest("this system cannot tell how another process's child ends")
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)

    def test_like_the_program(self) -> None:
        """Output, errors and status are the same, in its directory and with its environment."""
        self.directory.joinpath("file").write_bytes(b"content")
        self.assertEqual(dfvortex("import", "file", directory=self.directory).returncode, 0)
        environment = {**os.environ, "COLUMNS": "40"}
        programs: dict[tuple[str | Path, ...], tuple[list[str], ...]] = {
            (DFVORTEX,): (["list"], ["stat", "0" * 64], ["nonsense"], ["--help"]),
            (sys.executable, EXAMPLES / "fetch_piece.py"): (["nonsense", "0" * 64], []),
        }
        for command in ([*program, *rest] for program, many in programs.items() for rest in many):
            self.assertTrue(can_fork(command, environment))
            said = []
            for kind in (Fork, subprocess.Popen):
                with kind(command, cwd=self.directory, env=environment, stdout=-1, stderr=-1, text=True) as process:
                    said.append((process.communicate(timeout=120), process.returncode))
            self.assertEqual(said[0], said[1])

    def test_killed(self) -> None:
        """It leads a session of its own where it is to, can be waited for, and tells which signal has ended it."""
        with Daemon(self.directory) as daemon:
            self.assertEqual(os.getsid(daemon.pid), daemon.pid)
            self.assertEqual(sorted(os.listdir(f"/proc/{daemon.pid}/fd"), key=int)[:3], ["0", "1", "2"])
            os.kill(daemon.pid, signal.SIGKILL)
            self.assertEqual(daemon.wait(), -signal.SIGKILL)

    def test_ignored_signals(self) -> None:
        """It ignores the signals that the process ignores which has it run."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        with Daemon(self.directory) as daemon:
            status = Path(f"/proc/{daemon.pid}/status").read_text(encoding="ascii")
        (ignored,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
        self.assertTrue(ignored & 1 << signal.SIGINT - 1)

    def test_what_cannot_be_forked(self) -> None:
        """A command of another path, or with another environment for Python, is started."""
        self.assertFalse(can_fork(["dfvortex"], None))
        self.assertFalse(can_fork([DFVORTEX], {**os.environ, "PYTHONHASHSEED": "7"}))
        with start(["true"]) as process:
            self.assertNotIsInstance(process, Fork)
