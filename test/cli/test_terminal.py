"""How things are put in words, and a progress bar."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.terminal import ProgressBar, counted, one_line
from test.processes import PROGRAMS, Daemon, import_file, start, wait_until_open, write_config


class LineTests(SynchronousTestCase):
    """Texts for a terminal."""

    def test_counted(self) -> None:
        """One thing is one, none and several are many."""
        self.assertEqual([counted(number, "piece") for number in (0, 1, 2)], ["0 pieces", "1 piece", "2 pieces"])

    def test_what_can_be_printed_stays(self) -> None:
        """Text in any language is left alone."""
        self.assertEqual(one_line("/tmp/übergröße 文件: 'x'"), "/tmp/übergröße 文件: 'x'")

    def test_what_cannot_be_printed_is_escaped(self) -> None:
        """Ends of lines, what a terminal would obey, and bytes that are no text are shown as escapes."""
        self.assertEqual(one_line("a\nb\r\tc\x1b[31m\x7f\udcff\u2028\x85"), r"a\nb\r\tc\x1b[31m\x7f\udcff\u2028\x85")


#: What gives a program a clock of its own, which goes on when it waits, however busy the machine is.
CLOCK = """
import time
now = 1000.0
time.monotonic = lambda: now
def wait(seconds):
    global now
    now += seconds
"""

#: A program that tells of work: a step of bytes at each turn, and some ticks behind it.
PROGRAM = f"""
import sys
{CLOCK}
from dragonfly_vortex.cli.terminal import ProgressBar
turns, ticks, seconds, total = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
with ProgressBar("working") as bar:
    for turn in range(turns):
        bar.show(turn * 1_000_000, total or None, turn)
        for _ in range(ticks):
            wait(seconds)
            bar.tick()
"""


def run_on_terminal(
    *command: str | Path, directory: Path, columns: int = 100, meanwhile: Callable[[int], object] = lambda pid: None
) -> tuple[int, str]:
    """
    Run a program whose standard error is a terminal.

    :param columns: how wide the terminal is; 0 for one that does not say.
    :param meanwhile: called with its process ID when it has been started.
    :returns: its exit status, and what the terminal was sent.
    """
    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with start(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=its_end) as process:
        os.close(its_end)
        meanwhile(process.pid)
        shown = bytearray()
        try:
            while data := os.read(terminal, 65536):
                shown += data
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux answers when the other end is closed
                raise
        os.close(terminal)
    return process.returncode, shown.decode()


class ProgressTests(SynchronousTestCase):
    """What is shown, and where."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def work(self, turns: int, ticks: int, seconds: float, total: int, columns: int = 100) -> str:
        """What a terminal shows of work in that many turns of that many ticks of that many seconds each."""
        arguments = (str(each) for each in (turns, ticks, seconds, total))
        status, shown = run_on_terminal(
            sys.executable, "-c", PROGRAM, *arguments, directory=self.directory, columns=columns
        )
        self.assertEqual(status, 0, shown)
        return shown

    def test_short_work(self) -> None:
        """Work of less than a second shows nothing at all."""
        self.assertEqual(self.work(4, 1, 0.1, 4_000_000), "")

    def test_long_work(self) -> None:
        """Longer work shows bytes, rate, pieces, and the time left; and when it is over nothing is left of it."""
        shown = self.work(4, 1, 0.4, 10_000_000)
        self.assertRegex(shown, r"working:  ?\d0%\|.*\| \d\.\d0M/10\.0M \[00:0\d<00:0\d, +\d\.\d+MB/s, [23] pieces\]")
        self.assertTrue(shown.endswith("\r" + " " * 99 + "\r") or shown.rstrip(" ").endswith("\r"), repr(shown[-120:]))
        self.assertNotIn("\n", shown)

    def test_width_unknown(self) -> None:
        """A terminal that does not say how wide it is gets a bar of eighty columns."""
        shown = self.work(4, 1, 0.4, 10_000_000, columns=0)
        self.assertRegex(shown, r"working:  ?\d0%\|.*, [23] pieces\]")
        self.assertLessEqual(max(len(line) for line in shown.split("\r")), 80)

    def test_rate(self) -> None:
        """The rate is that of the whole work, at most a megabyte in 1.2 seconds, and not that since the last tick."""
        rates = [text.split(",")[1].strip() for text in self.work(3, 3, 0.4, 9_000_000).split("[")[1:]]
        self.assertGreaterEqual(len(rates), 5)
        for rate in rates:
            self.assertRegex(rate, r"^([3-8]\d\d(\.\d+)?kB/s|\?B/s|0\.00B/s)$")

    def test_length_unknown(self) -> None:
        """If the length is unknown the bar has all but the time left."""
        shown = self.work(4, 1, 0.4, 0)
        self.assertRegex(shown, r"working: \d\.\d0MB \[00:0\d, +\d\.\d+MB/s, [23] pieces\]")
        self.assertNotIn("<", shown)

    def test_long_steps(self) -> None:
        """Work that has nothing new to tell for long shows anyway that it goes on."""
        self.assertIn("0.00B [00:01, ?B/s, 0 pieces]", self.work(1, 1, 1.2, 0))
        self.assertRegex(self.work(2, 4, 0.6, 0), r"1\.00MB \[00:03, .*, 1 piece\].*1\.00MB \[00:04, .*, 1 piece\]")

    def test_pipe(self) -> None:
        """Where standard error is no terminal nothing is shown, however long it takes."""
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM, "3", "1", "0.4", "3000000"],
            cwd=self.directory,
            capture_output=True,
            check=True,
        )
        self.assertEqual((ran.stdout, ran.stderr), (b"", b""))

    def test_clock_set_back(self) -> None:
        """The bar goes on while the system's clock is set back, here all the time."""
        backwards = "import time; time.time = lambda: 1e9 - time.monotonic()\n"
        command = (sys.executable, "-c", backwards + PROGRAM, "3", "1", "0.6", "3000000")
        status, shown = run_on_terminal(*command, directory=self.directory)
        self.assertEqual(status, 0, shown)
        self.assertIn("2 pieces", shown)

    def test_say(self) -> None:
        """What is said stands on a line of its own, whether there is a bar or not; nothing in it is obeyed."""
        program = CLOCK + (
            "from dragonfly_vortex.cli.terminal import ProgressBar\n"
            "with ProgressBar('working') as bar:\n"
            "    bar.say('early')\n"
            "    for turn in range(4):\n"
            "        bar.show(turn * 1_000_000, 4_000_000, turn)\n"
            "        wait(0.4)\n"
            "    bar.say('the port\\x1b[2J does not answer')\n"
        )
        said = r"dfvortex: the port\\x1b\[2J does not answer"
        _, shown = run_on_terminal(sys.executable, "-c", program, directory=self.directory)
        self.assertRegex(shown, rf"\Adfvortex: early\r\n\r?working: [^\n]*\r *\r{said}\r\n")
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertRegex(ran.stderr, rf"\Adfvortex: early\n{said}\n\Z")
        self.assertEqual(ran.stdout, "")

    def test_here(self) -> None:
        """A bar whose standard error is a pipe accepts progress."""
        read, write = os.pipe()
        kept = os.dup(2)
        try:
            os.dup2(write, 2)
            with ProgressBar("working") as bar:
                bar.show(1, 2, 3)
                bar.tick()
        finally:
            os.dup2(kept, 2)
            for descriptor in (kept, write):
                os.close(descriptor)
        with os.fdopen(read, "rb") as said:
            self.assertEqual(said.read(), b"")


class CommandTests(SynchronousTestCase):
    """The bar of the commands themselves."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory, upload="bandwidth_limit: 1MB")
        self.file = self.directory / "file"

    def test_download(self) -> None:
        """A download of more than a second shows a bar on a terminal, before its first piece is there, too."""
        self.file.write_bytes(os.urandom(2_500_000))
        task_id = import_file(self.file, directory=self.directory, piece_length=1_500_000)
        with Daemon(self.directory) as daemon:
            command = (PROGRAMS / "dfvortex", "download", task_id, "--parent", daemon.parent, "--output", "out")
            status, shown = run_on_terminal(*command, directory=self.directory)
        self.assertEqual(status, 0, shown)
        self.assertRegex(shown, r"downloading: 0\.00B \[00:\d\d, \?B/s, 0 pieces\]")
        self.assertRegex(shown, r"1\.50MB? ?.*, 1 piece\]")
        self.assertNotIn("\n", shown)

    def test_import(self) -> None:
        """An import of more than a second shows a bar on a terminal, with the time left."""
        with self.file.open("wb") as file:
            file.truncate(500_000_000)

        def hold_up(pid: int) -> None:
            wait_until_open(pid, self.file)
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(1.2)
            os.kill(pid, signal.SIGCONT)

        command = (PROGRAMS / "dfvortex", "import", "--link", "file")
        status, shown = run_on_terminal(*command, directory=self.directory, meanwhile=hold_up)
        self.assertEqual(status, 0, shown)
        self.assertRegex(shown, r"importing: +\d+%\|.*\| \d[\d.]+M/500M \[00:0\d<00:\d\d, .*B/s, \d+ pieces?\]")
