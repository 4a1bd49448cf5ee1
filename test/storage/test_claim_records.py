"""Tests of what a killed process leaves that held a task: real locks, and a process that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.claim_records import WHOLE, claims_path, forget_killed_holder, killed_holders
from dragonfly_vortex.storage.locks import HAS_RANGES
from dragonfly_vortex.storage.piece_locks import Claims
from dragonfly_vortex.wire import PieceKind

KIND = PieceKind.STANDARD

_HOLDER = """
import pathlib, sys
from dragonfly_vortex.storage.piece_locks import WHOLE, Claims
claims = Claims(pathlib.Path(sys.argv[1]))
claims.open()
print(claims.claim(WHOLE), flush=True)
sys.stdin.read()
"""


@skipUnless(HAS_RANGES, "a task can be held by locks of ranges alone")
class KilledHoldersTests(SynchronousTestCase):
    """A storage with one task that is downloaded."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.path = claims_path(self.directory, KIND, "a-task")

    def test_none(self) -> None:
        """A storage without claims has none, nor one with a task that is downloaded, held and let go."""
        self.assertEqual(killed_holders(self.directory), [])
        first, second = Claims(self.path), Claims(self.path)
        first.open()
        second.open()
        self.addCleanup(second.close)
        for act in (lambda: first.claim(7), lambda: first.claim(WHOLE), first.close):
            act()
            self.assertEqual(killed_holders(self.directory), [])

    def test_killed(self) -> None:
        """A process that held a task and was killed is found until it is forgotten; a link in the place is not read."""
        command = [sys.executable, "-c", _HOLDER, str(self.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            stdout = process.stdout
            self.assertEqual(stdout and stdout.readline(), "True\n")
            self.assertEqual(killed_holders(self.directory), [])
            process.kill()
            process.wait()
        os.symlink(self.path, self.path.with_name("a-link"))
        for _ in range(2):
            self.assertEqual(killed_holders(self.directory), [(KIND, "a-task")])
        forget_killed_holder(self.directory, KIND, "a-task")
        forget_killed_holder(self.directory, KIND, "another")
        self.assertEqual(killed_holders(self.directory), [])
