"""What processes use, read from real ones."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.processes import (
    DidNotWork,
    Ran,
    Server,
    family,
    free_port,
    held_back,
    peak_memory,
    processor_of_all,
    processor_seconds,
    run_in_turn,
    run_to_end,
    wait_for_end,
)

SAYS = "import sys, time\nprint('serving as 17', flush=True)\n"
ENDS = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (open('ended', 'w').close(), sys.exit()))\n"

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"


def run(program: str, timeout: float = 30.0) -> Ran:
    """Run a Python program."""
    return run_to_end([sys.executable, "-I", "-S", "-c", program], Path.cwd(), timeout)


class HeldBackTests(SynchronousTestCase):
    """A signal that comes while a process is started."""

    def test_after_the_block(self) -> None:
        """It interrupts nothing in the block, and is handled after it."""

        def interrupt(number: int, frame: FrameType | None) -> NoReturn:
            raise InterruptedError(number)

        self.addCleanup(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, interrupt))
        came_through = False
        with self.assertRaises(InterruptedError), held_back(signal.SIGUSR1):
            signal.raise_signal(signal.SIGUSR1)
            came_through = True
        self.assertTrue(came_through)
        self.assertRaises(InterruptedError, signal.raise_signal, signal.SIGUSR1)


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
        much, little = (
            run_to_end([sys.executable, "-I", "-S", "-c", program], Path.cwd(), 30.0).peak
            for program in ("import time; held = bytearray(200_000_000); del held; time.sleep(0.2)", "pass")
        )
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


class FamilyTests(SynchronousTestCase):
    """A process and those that it has started."""

    def test_family(self) -> None:
        """Children and their children are found, and no other process."""
        program = (
            "import os, sys\n"
            "for _ in range(2):\n"
            "  if os.fork(): break\n"
            "else: print('ready', flush=True)\n"
            "sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            if process.stdout is None:
                self.fail("expected a pipe")
            process.stdout.readline()
            found = family(process.pid)
            self.assertEqual((found[0], len(found)), (process.pid, 3))
            self.assertNotIn(os.getpid(), found)
            process.communicate(b"")


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

    def test_processor_seconds(self) -> None:
        """It is the time that the process itself reads, its threads included."""
        before, told_before = processor_seconds(os.getpid()), time.process_time()
        while time.process_time() - told_before < 0.1:
            pass
        told = time.process_time()
        self.assertGreaterEqual(processor_seconds(os.getpid()) - before, 0.1)
        self.assertLess(abs(processor_seconds(os.getpid()) - told), 0.02)

    def test_peak_memory(self) -> None:
        """It is what getrusage(2) tells the process itself."""
        # More than this process has inherited: ru_maxrss begins with the peak of the process that started it.
        inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.assertTrue(bytearray(b"\1") * (inherited + 10_000_000))
        told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.assertLess(abs(peak_memory(os.getpid()) - told), 2_000_000)

    def test_processor_of_all(self) -> None:
        """What this process uses is part of what all use; what is idle, proc_uptime(5), is not."""
        before, told_before = processor_of_all(), time.process_time()
        while time.process_time() - told_before < 0.3:
            pass
        self.assertGreater(processor_of_all() - before, 0.2)
        up, idle = (float(each) for each in Path("/proc/uptime").read_text(encoding="ascii").split())
        self.assertLess(processor_of_all(), up * (os.cpu_count() or 1) - idle / 2)


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
        with self.server(f"{ENDS}{SAYS}time.sleep(60)") as server:
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
        self.assertIn("'serving as (\\\\d+)' in the server's output, got:\nno\n", str(error))
        self.assert_ended(server.pid)

    def test_not_started(self) -> None:
        """Before it is started it has neither a process ID nor output."""
        server = self.server("")
        self.assertRaises(DidNotWork, lambda: server.pid)
        self.assertRaises(DidNotWork, lambda: server.said)

    def test_free_port(self) -> None:
        """A port is free, and the kernel gives it to no client."""
        port = free_port()
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        self.assertNotIn(port, range(int(first), int(last) + 1))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
