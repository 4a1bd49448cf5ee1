"""A process that ends in order by a signal, and a daemon that reads limits, certificates and its log file again."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.daemon.signals import ENDING_SIGNALS
from dragonfly_vortex.wire import PieceContent
from test.certificates import Authority
from test.processes import PROGRAMS, Child, Daemon, heed_signals, import_file, write_config

PROGRAM = """
import os, signal, sys, threading, time
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from dragonfly_vortex.daemon.signals import ExitBySignal

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
numbers = () if sys.argv[1] == "interrupt" else (signal.SIGINT,)
ExitBySignal(reactor, signal.SIGTERM, *numbers).startService()
reactor.addSystemEventTrigger("before", "shutdown", print, "shut down")
number = int(sys.argv[2])
if sys.argv[1] == "before":
    os.kill(os.getpid(), number)
elif sys.argv[1] == "starting":  # the reactor has set its own handlers, and has called nothing else yet
    reactor.addSystemEventTrigger("during", "startup", os.kill, os.getpid(), number)
elif sys.argv[1] == "threaded":  # the same, and a thread of a service could take the signal
    threading.Thread(target=threading.Event().wait, daemon=True).start()

    def kill_and_wait():
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            time.sleep(0.01)

    reactor.addSystemEventTrigger("during", "startup", kill_and_wait)
else:
    for each in sys.argv[2:]:
        reactor.callLater(0, os.kill, os.getpid(), int(each))
reactor.run()
"""


class ExitTests(SynchronousTestCase):
    """How such a process ends."""

    def setUp(self) -> None:
        heed_signals(self)

    def test_which(self) -> None:
        """These signals end a daemon in order; each would end a process at once."""
        names = ("SIGTERM", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGXCPU")
        self.assertLessEqual({*names}, {each.name for each in ENDING_SIGNALS})

    def run_and_end(self, when: str, *numbers: signal.Signals) -> str:
        """Run a process that sends itself signals; what it says. It exits with 0."""
        command = [sys.executable, "-c", PROGRAM, when, *(str(int(number)) for number in numbers)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(ran.stdout.count("shut down"), 1)
        return ran.stdout

    def test_while_it_runs(self) -> None:
        """A signal ends it in order; a second one changes nothing, and is logged."""
        said = self.run_and_end("after", signal.SIGINT, signal.SIGINT)
        self.assertRegex(said, r"(?s)asked to end by SIGINT: .*already ending")

    def test_before_it_runs(self) -> None:
        """So does one that comes before the reactor runs."""
        self.run_and_end("before", signal.SIGTERM)

    def test_while_the_reactor_starts(self) -> None:
        """So does one that comes when the reactor has set its own handlers, and ours are not set again yet."""
        self.assertIn("asked to end by SIGTERM", self.run_and_end("starting", signal.SIGTERM))

    def test_while_the_reactor_starts_beside_threads(self) -> None:
        """So does one that the kernel could give to another thread then."""
        self.assertIn("asked to end by SIGTERM", self.run_and_end("threaded", signal.SIGTERM))

    def test_interrupted_twice(self) -> None:
        """Another Control-C, also after SIGTERM, changes nothing and logs no traceback."""
        for first in (signal.SIGTERM, signal.SIGINT):
            said = self.run_and_end("interrupt", first, signal.SIGINT)
            self.assertNotIn("Traceback", said)
            self.assertIn("already ending", said)


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
        ran = subprocess.run([sys.executable, "-c", _FAILING, when], capture_output=True, text=True, timeout=120)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (1, "shut down\n", ""))

    def test_while_it_runs(self) -> None:
        """It stops the reactor, once."""
        self.run_and_fail("after")

    def test_before_it_runs(self) -> None:
        """A failure that comes before the reactor runs stops it as soon as it does."""
        self.run_and_fail("before")


RELOADED = "limits, levels and certificates have been read again"


class ReloadTests(SynchronousTestCase):
    """A daemon in a directory of its own, with a file of some megabytes in one piece."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.configure("10KB")
        self.content = os.urandom(3_000_000)
        self.directory.joinpath("file").write_bytes(self.content)
        self.task_id = import_file(self.directory / "file", directory=self.directory)

    def configure(self, bandwidth: str, more: str = "", workers: int = 1) -> None:
        """Write the configuration."""
        write_config(self.directory, upload=f"bandwidth_limit: {bandwidth}", more=more)
        path = self.directory / "tap.yaml"
        path.write_text(path.read_text().replace("protocol: all", f"protocol: all, workers: {workers}"))

    def check_limit(self, daemon: Daemon) -> None:
        """A piece that would take five minutes comes at once when the limit is lifted, on the same connection."""
        with Child(daemon.address, receive_buffer=65536) as child:
            child.ask(self.task_id)
            self.assertIsInstance(child.next_event(), PieceContent)
            self.configure("50GB", workers=2 if "workers" in daemon.log else 1)
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for(RELOADED)
            self.assertTrue(child.content() == self.content)
        self.assertEqual(daemon.stop(), 0)
        self.assertNotIn("Traceback", daemon.log)

    def test_limits(self) -> None:
        """Another bandwidth holds at once, also for the piece under way, which is not cut."""
        with Daemon(self.directory) as daemon:
            self.check_limit(daemon)

    def test_limits_of_workers(self) -> None:
        """So it is in workers, where SIGHUP is sent to all processes."""
        self.configure("300KB", workers=2)
        with Daemon(self.directory) as daemon:
            self.check_limit(daemon)

    def test_broken_configuration(self) -> None:
        """A configuration that cannot be used changes nothing, and is one line; so is a key that cannot change."""
        with Daemon(self.directory) as daemon:
            self.directory.joinpath("tap.yaml").write_text("upload: {bandwidth_limit: fast}\n")
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for(r"#error\] the configuration stays as it was: .*tap\.yaml:1: upload\.bandwidth_limit: .*\n")
            self.configure("50GB", more="host: {ip: 127.0.0.2}\n")
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for(r"#warn\] changed, and needs a restart: host\.ip\n")
            self.assertEqual(daemon.stop(), 0)
        self.assertNotIn("Traceback", daemon.log)

    def test_certificates(self) -> None:
        """Both doors show a new certificate in the old one's file; one that cannot be used changes nothing."""
        issued, other = (Authority(self.directory, name).issue(f"peer-{name}") for name in ("one", "two"))
        self.configure("50GB", more=f"tls: {{cert: {issued.certificate}, key: {issued.key}}}\n")
        old, new = issued.certificate.read_text(), other.certificate.read_text()
        with Daemon(self.directory) as daemon:
            doors = (daemon.address, ("127.0.0.1", daemon.grpc_port))

            def shown() -> list[bool]:
                """Whether each door shows the new certificate."""
                return [ssl.get_server_certificate(door, timeout=120) in new for door in doors]

            self.assertEqual(shown(), [False, False])
            issued.certificate.write_text("no certificate")
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for("#error] the configuration stays as it was: ".replace("]", r"\]"))
            self.assertEqual(shown(), [False, False])
            issued.certificate.write_text(new)
            issued.key.write_bytes(other.key.read_bytes())
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for(RELOADED)
            self.assertEqual(shown(), [True, True])
            self.assertEqual(daemon.stop(), 0)
        self.assertNotEqual(old, new)

    def test_log_file(self) -> None:
        """A log file that was moved is made again at SIGHUP; at SIGUSR1 it is rotated, and the peer goes on."""
        log = self.directory / "peer.log"
        command = (PROGRAMS / "twistd", "-n", "--pidfile=", f"--logfile={log}", "dfvortex")
        daemon = Daemon(self.directory, command=command)
        self.addCleanup(daemon.kill_if_running)
        self.until(log, "serving gRPC")
        log.rename(self.directory / "moved.log")
        os.kill(daemon.pid, signal.SIGHUP)
        self.until(log, RELOADED)
        os.kill(daemon.pid, signal.SIGUSR1)
        self.until(self.directory / "peer.log.1", RELOADED)
        self.assertEqual(daemon.stop(), 0)
        self.assertIn("Server Shut Down.", log.read_text())
        self.assertNotIn("asked to end by SIGUSR1", log.read_text())

    def test_log_file_that_cannot_be_opened(self) -> None:
        """A log file that cannot be opened is one line, and status 1."""
        command = (PROGRAMS / "twistd", "-n", "--pidfile=", "--logfile=missing/peer.log", "dfvortex")
        daemon = Daemon(self.directory, command=command)
        self.assertEqual(daemon.wait(), 1)
        self.assertEqual(
            daemon.log, "dfvortex: the log file missing/peer.log cannot be opened: No such file or directory\n"
        )

    def until(self, path: Path, text: str) -> None:
        """Wait until a file has a text."""
        deadline = time.monotonic() + 120
        while not path.exists() or text not in path.read_text():
            self.assertLess(time.monotonic(), deadline, f"{text} is not in {path}")
