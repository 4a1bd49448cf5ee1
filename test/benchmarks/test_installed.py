"""Where programs are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted
from benchmarks.installed import find, version_of


class InstalledTests(SynchronousTestCase):
    """The programs of this environment, and others."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.patch(os, "environ", {"PATH": str(self.directory)})

    def test_ours(self) -> None:
        """The interpreter and its programs are those that run this, whatever the path has."""
        self.assertEqual(find("python"), Path(sys.executable))
        self.assertEqual(find("dfvortex"), Path(sys.executable).parent / "dfvortex")

    def test_others(self) -> None:
        """Others are looked for in the path."""
        self.assertIsNone(find("a-program"))
        program = self.directory / "a-program"
        program.write_text("#!/bin/sh\necho A program, version 1.2.34 of 2001 1>&2\n", encoding="utf-8")
        program.chmod(0o755)
        self.assertEqual(find("a-program"), program)
        self.assertEqual(version_of("a-program"), "1.2.34")

    def test_version(self) -> None:
        """A program's version is what it says first that looks like one; the reference's that of its crate."""
        self.assertEqual(version_of("twistd"), twisted.__version__)
        self.assertRegex(version_of("vortex-reference"), r"\A1\.\d+\.\d+\Z")
