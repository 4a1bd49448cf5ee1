"""Where a run was, and where programs are."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted
from benchmarks import machine
from benchmarks.machine import (
    commit,
    family,
    find,
    peak_memory,
    processor_of_all,
    processor_seconds,
    this_machine,
    version_of,
)


class MachineTests(SynchronousTestCase):
    """This machine, and its programs."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def test_this_machine(self) -> None:
        """Kernel, interpreter and packages are the ones that run; the machine's name is not told."""
        here = this_machine()
        self.assertEqual(here["kernel"], f"Linux {platform.release()}")
        self.assertIn(platform.python_version(), here["python"])
        self.assertEqual(here["packages"]["Twisted"], twisted.__version__)
        self.assertGreaterEqual(here["cores"], 1)
        self.assertGreater(here["memory"], 2**28)
        self.assertNotEqual(here["processor"], "")

    def test_commit(self) -> None:
        """A checkout has a commit, and says when files differ from it; elsewhere there is none."""
        os.environ["GIT_CEILING_DIRECTORIES"] = str(self.directory.parent)
        self.addCleanup(os.environ.pop, "GIT_CEILING_DIRECTORIES")
        self.patch(machine, "ROOT", self.directory)
        self.assertEqual(commit(), "")
        (self.directory / "file").touch()
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        for words in (("init", "-q"), ("add", "file"), (*identity, "commit", "-q", "-m", "one")):
            subprocess.run(["git", *words], cwd=self.directory, check=True)
        self.assertRegex(commit(), r"\A[0-9a-f]{7,}\Z")
        (self.directory / "file").write_text("changed", encoding="utf-8")
        self.assertRegex(commit(), r"\A[0-9a-f]{7,}-dirty\Z")

    def test_programs(self) -> None:
        """Our programs are those of this interpreter, whatever the path has; others are looked for there."""
        self.patch(os, "environ", {"PATH": str(self.directory)})
        self.assertEqual(find("python"), Path(sys.executable))
        self.assertEqual(find("dfvortex"), Path(sys.executable).parent / "dfvortex")
        self.assertIsNone(find("a-program"))
        program = self.directory / "a-program"
        program.write_text("#!/bin/sh\necho A program, version 1.2.34 of 2001 1>&2\n", encoding="utf-8")
        program.chmod(0o755)
        self.assertEqual((find("a-program"), version_of("a-program")), (program, "1.2.34"))
        self.assertRegex(version_of("vortex-reference"), r"\A1\.\d+\.\d+\Z")


class UsageTests(SynchronousTestCase):
    """What processes use."""

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
