"""A process that ends by a signal, in order."""

from __future__ import annotations

import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = """
import os, signal, sys
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from dragonfly_vortex.daemon.signals import ExitBySignal

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
ExitBySignal(reactor, signal.SIGTERM, signal.SIGINT).startService()
reactor.addSystemEventTrigger("before", "shutdown", print, "shut down")
number = int(sys.argv[2])
if sys.argv[1] == "before":
    os.kill(os.getpid(), number)
else:
    reactor.callLater(0, os.kill, os.getpid(), number)
    reactor.callLater(0, os.kill, os.getpid(), number)
reactor.run()
"""


class ExitTests(SynchronousTestCase):
    """How such a process ends."""

    def run_and_end(self, when: str, number: signal.Signals) -> str:
        """Run a process that sends itself a signal; what it says. It exits with 0."""
        command = [sys.executable, "-c", PROGRAM, when, str(int(number))]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(ran.stdout.count("shut down"), 1)
        return ran.stdout

    def test_while_it_runs(self) -> None:
        """A signal ends it in order; a second one changes nothing, and is told."""
        said = self.run_and_end("after", signal.SIGINT)
        self.assertRegex(said, r"(?s)asked to end by SIGINT: .*already ending")

    def test_before_it_runs(self) -> None:
        """So does one that comes before the reactor runs."""
        self.run_and_end("before", signal.SIGTERM)


_FAILING = """
import sys
from twisted.internet import reactor
from dragonfly_vortex.daemon.signals import end_with_failure

def fail_twice():
    end_with_failure(reactor)
    end_with_failure(reactor)

reactor.addSystemEventTrigger("before", "shutdown", print, "shut down")
if sys.argv[1] == "before":
    fail_twice()
else:
    reactor.callLater(0, fail_twice)
reactor.run()
"""


class FailureTests(SynchronousTestCase):
    """A process that ends because it has failed."""

    def run_and_fail(self, when: str) -> None:
        """Run a process that fails; it ends in order, with status 1."""
        ran = subprocess.run([sys.executable, "-c", _FAILING, when], capture_output=True, text=True, timeout=30)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (1, "shut down\n", ""))

    def test_while_it_runs(self) -> None:
        """It stops the reactor, once."""
        self.run_and_fail("after")

    def test_before_it_runs(self) -> None:
        """A failure that comes before the reactor runs stops it as soon as it does."""
        self.run_and_fail("before")
