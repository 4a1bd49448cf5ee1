"""What processes use, read from real ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import processes
from benchmarks.processes import (
    DidNotWork,
    Ran,
    Server,
    free_port,
    run_in_turn,
    run_to_end,
    run_together,
    started,
    wait_for_end,
)

SAYS = "import sys, time\nprint('serving as 17', flush=True)\n"
ENDS = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (open('ended', 'w').close(), sys.exit()))\n"

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"


def run(program: str, timeout: float = 30.0) -> Ran:
    """Run a Python program."""
    return run_to_end([sys.executable, "-I", "-S", "-c", program], Path.cwd(), timeout)


class StartedTests(SynchronousTestCase):
    """SIGTERM that comes while a process is started."""

    def test_delayed(self) -> None:
        """It is handled when the process can be ended, and ends it."""

        def interrupt(number: int, frame: FrameType | None) -> NoReturn:
            raise InterruptedError(number)

        def popen(*arguments: Any, **more: Any) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(*arguments, **more)
            pids.append(process.pid)
            signal.raise_signal(signal.SIGTERM)
            return process

        pids: list[int] = []
        self.addCleanup(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, interrupt))
        self.patch(processes, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": popen}))
        with self.assertRaises(InterruptedError), started(["sleep", "60"], Path.cwd()):
            self.fail("expected the signal before the block")
        self.assertRaises(ProcessLookupError, os.kill, pids[0], 0)


class RunToEndTests(SynchronousTestCase):
    """A program that is run to its end."""

    def test_status_and_output(self) -> None:
        """The exit status and both outputs are there, and the directory is the given one."""
        ran = run("import os, sys\nprint(os.getcwd())\nprint('wrong', file=sys.stderr)\nsys.exit(3)")
        self.assertEqual(ran.status, 3)
        self.assertEqual(sorted(ran.output.splitlines()), sorted([os.getcwd(), "wrong"]))

    def test_time_and_processor_time(self) -> None:
        """Waiting counts as time and not as processor time, work as both."""
        ran = run(f"{BUSY}time.sleep(0.5)")
        self.assertGreaterEqual(ran.seconds, 0.8)
        self.assertGreaterEqual(ran.processor, 0.29)
        self.assertLess(ran.processor, ran.seconds - 0.4)

    def test_peak(self) -> None:
        """The peak counts memory that has been given back, and nothing of the program that started it."""
        held = bytearray(150_000_000)  # more than the little program has

        def peak_of(program: str, least: int) -> int:
            """The peak of a program; run anew where a busy machine let this process look too late."""
            runs = (run_to_end([sys.executable, "-I", "-S", "-c", program], Path.cwd(), 30.0) for _ in range(10))
            return next((ran.peak for ran in runs if ran.peak > least), 0)

        much = peak_of("import time; held = bytearray(200_000_000); del held; time.sleep(0.2)", 200_000_000)
        little = peak_of("pass", 2_000_000)
        self.assertGreater(much, 200_000_000)
        self.assertGreater(little, 2_000_000)
        self.assertLess(little, 40_000_000)
        self.assertLess(little, len(held))

    def test_timeout(self) -> None:
        """A program that takes too long is killed, and nothing else is."""
        with subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE) as other:
            ran = run("import time\ntime.sleep(60)", timeout=0.2)
            self.assertEqual(ran.status, -9)
            self.assertIsNone(other.poll())
            other.communicate(b"\n")


class RunInTurnTests(SynchronousTestCase):
    """Programs one after the other."""

    def run_in_turn(self, *programs: str) -> Ran:
        """Run Python programs."""
        commands = [[sys.executable, "-I", "-S", "-c", program] for program in programs]
        return run_in_turn(commands, Path.cwd(), 30.0)

    def test_sums(self) -> None:
        """Times are those of all, the peak that of the largest, and all that was written is there."""
        ran = self.run_in_turn(
            f"held = bytearray(100_000_000); {BUSY}print('one')", f"{BUSY}print('other')", "print('last')"
        )
        self.assertEqual((ran.status, ran.output), (0, "one\nother\nlast\n"))
        self.assertGreaterEqual(ran.seconds, 0.6)
        self.assertGreaterEqual(ran.processor, 0.58)
        self.assertGreater(ran.peak, 100_000_000)

    def test_one_fails(self) -> None:
        """When one has failed the next is not started."""
        ran = self.run_in_turn("print('one')", "raise SystemExit(3)", "print('never')")
        self.assertEqual((ran.status, ran.output), (3, "one\n"))


class RunningTests(SynchronousTestCase):
    """A process that still runs."""

    def test_wait_for_end(self) -> None:
        """It returns whether the process has ended in time; the status can be read afterwards."""
        with subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE) as process:
            self.assertFalse(wait_for_end(process.pid, 0.05))
            process.communicate(b"\n")
            self.assertEqual(process.returncode, 0)
        with subprocess.Popen([sys.executable, "-I", "-c", "raise SystemExit(4)"]) as process:
            self.assertTrue(wait_for_end(process.pid, 30.0))
            self.assertEqual(process.wait(), 4)


_READY = "import sys; print('ready', flush=True); sys.stdin.readline(); "


def program(work: str, ready: str = _READY) -> list[str | Path]:
    """A program that does some work at a cue."""
    return [sys.executable, "-c", ready + work]


class RunTogetherTests(SynchronousTestCase):
    """Programs that begin at the same moment."""

    def setUp(self) -> None:
        self.cues = 0

    def cue(self) -> None:
        """Count the cues."""
        self.cues += 1

    def test_ends(self) -> None:
        """A program's status and output are reported, and it gets the cue when all are ready."""
        commands = {"good": program("print('fine')"), "bad": program("print('no'); sys.exit(3)")}
        done = run_together(commands, Path.cwd(), 60.0, on_cue=self.cue)
        self.assertEqual(
            {name: (each.status, each.output) for name, each in done.items()},
            {"good": (0, "ready\nfine\n"), "bad": (3, "ready\nno\n")},
        )
        self.assertEqual(self.cues, 1)

    def test_done(self) -> None:
        """A program that says that its work is done serves until all have done theirs."""
        serving = program("print('done', flush=True); sys.stdin.read(); print('served')")
        done = run_together({"serving": serving, "other": program("")}, Path.cwd(), 60.0)
        self.assertEqual((done["serving"].status, done["serving"].output), (0, "ready\ndone\nserved\n"))

    def test_kills(self) -> None:
        """A program can be killed after a time; one that has done its work by then is not."""
        killed: list[str] = []
        done = run_together(
            {"endless": program("sys.stdin.read()"), "quick": program("")},
            Path.cwd(),
            60.0,
            {"endless": 0.1, "quick": 30.0},
            on_kill=killed.append,
        )
        self.assertEqual((done["endless"].status, done["quick"].status), (-9, 0))
        self.assertGreaterEqual(done["endless"].seconds, 0.1)
        self.assertEqual(killed, ["endless"])

    def test_timeout(self) -> None:
        """After the longest time all are killed whose work is not done."""
        done = run_together({"endless": program("sys.stdin.read()")}, Path.cwd(), 0.1)
        self.assertEqual(done["endless"].status, -9)

    def test_not_ready(self) -> None:
        """A program that ends before it is ready is an error, with what it wrote."""
        hasty = {"hasty": program("print('oh')", "")}
        error = self.assertRaises(DidNotWork, run_together, hasty, Path.cwd(), 60.0, on_cue=self.cue)
        self.assertIn("oh", str(error))
        self.assertEqual(self.cues, 0)


class ServerTests(SynchronousTestCase):
    """A program that runs inside a block."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def server(self, program: str) -> Server:
        """A Python program that is to say that it serves."""
        return Server([sys.executable, "-I", "-S", "-c", program], self.directory, r"serving as (\d+)")

    def assert_ended(self, pid: int) -> None:
        """Assert that there is no such process, not even its status."""
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_serves(self) -> None:
        """It runs inside the block, in its directory, until SIGTERM, and what it wrote is kept."""
        # A signal between a program's last statement and the call that sleeps is handled only when the call has ended.
        with self.server(f"{ENDS}{SAYS}while True: time.sleep(0.05)") as server:
            self.assertEqual(server.said[1], "17")
            os.kill(server.pid, 0)
            self.assertFalse((self.directory / "ended").exists())
        self.assert_ended(server.pid)
        self.assertTrue((self.directory / "ended").exists())
        self.assertIn("serving as 17", (self.directory / "parent.log").read_text(encoding="utf-8"))

    def test_says_nothing(self) -> None:
        """For one that ends before it serves, the error has what it wrote."""
        server = self.server("print('no')")
        error = self.assertRaises(DidNotWork, server.__enter__)
        self.assertIn("'serving as (\\\\d+)' in the output, got:\nno\n", str(error))

    def test_listens(self) -> None:
        """It serves when its ports are open; one that does not open them in time is an error with what it wrote."""
        port = free_port()
        listens = f"import http.server; http.server.HTTPServer(('127.0.0.1', {port}), None).serve_forever()"
        with Server([sys.executable, "-c", listens], self.directory, places=[port]):
            socket.create_connection(("127.0.0.1", port)).close()
        self.patch(processes, "_TO_START", 0.2)
        silent = Server(["sh", "-c", "echo no; exec sleep 60"], self.directory, places=[free_port()])
        self.assertIn("no", str(self.assertRaises(DidNotWork, silent.__enter__)))
        self.assert_ended(silent.pid)

    def test_free_port(self) -> None:
        """A port is free, and the kernel gives it to no client."""
        port = free_port()
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        self.assertNotIn(port, range(int(first), int(last) + 1))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
