"""Where a run was, and where programs are."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted
from benchmarks import machine
from benchmarks.machine import commit, find, this_machine, version_of


class MachineTests(SynchronousTestCase):
    """This machine, and its programs."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def test_this_machine(self) -> None:
        """Kernel, interpreter and packages are the ones that run; the machine's name is not told."""
        here = this_machine()
        self.assertEqual(here.kernel, f"Linux {platform.release()}")
        self.assertIn(platform.python_version(), here.python)
        self.assertEqual(here.packages["Twisted"], twisted.__version__)
        self.assertGreaterEqual(here.cores, 1)
        self.assertGreater(here.memory, 2**28)
        self.assertNotEqual(here.processor, "")

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
