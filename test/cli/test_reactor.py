"""Work that a command does in the reactor: its end, its time, and signals. ``test_download`` has the rest."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

#: Runs a Deferred that the arguments name, with a timeout, and prints what becomes of it.
PROGRAM = """
import os, signal, sys
from twisted.internet.defer import Deferred, fail, succeed
from dragonfly_vortex.cli.reactor import load_reactor, run_reactor
from dragonfly_vortex.errors import VortexError
reactor = load_reactor(needs_tls=False)
def stop():
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)
    return Deferred()
works = {
    "done": lambda: succeed("done"),
    "failed": lambda: fail(VortexError("failed")),
    "endless": Deferred,
    "stopped": stop,
}
try:
    # Written by format(): Python 3.10's str() of a member of an IntEnum is its name.
    print(f"{run_reactor(reactor, works[sys.argv[1]], float(sys.argv[2]) or None)}")
except VortexError as error:
    print(type(error).__name__, error)
"""


class RunTests(SynchronousTestCase):
    """Each run has a process of its own: a reactor cannot run twice."""

    def run_work(self, name: str, timeout: float) -> str:
        """What a program with that work prints."""
        command = [sys.executable, "-c", PROGRAM, name, str(timeout)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def test_ends(self) -> None:
        """The result, the error, the time that has passed, or the status of a signal."""
        for name, timeout, expected in (
            ("done", 0.0, "done"),
            ("done", 100.0, "done"),
            ("failed", 0.0, "VortexError failed"),
            ("endless", 0.2, "TimedOut expected to be done within 0.2 s, was not"),
            ("stopped", 100.0, "143"),
        ):
            self.assertEqual(self.run_work(name, timeout), expected)
