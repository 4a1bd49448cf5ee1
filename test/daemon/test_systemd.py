"""systemd's side of a daemon, played by a test: the socket for states, and sockets that listen already."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.daemon.systemd import Notifier, inherited_sockets
from test.processes import TWISTD, Daemon, dfvortex, import_file, write_config

HANDED_OVER = """
import os, socket, sys
for number, port in enumerate(sys.argv[1].split(","), 3):
    os.dup2(socket.create_server(("127.0.0.2", int(port))).detach(), number)
    os.set_inheritable(number, True)
names = ":".join(["unknown"] * (number - 2))
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(number - 2), LISTEN_FDNAMES=names)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""A program that listens at another address than that of the configuration, and becomes a daemon."""


_OTHERS = """
import os, socket
listening = socket.create_server(("127.0.0.1", 0))
connected = socket.create_connection(listening.getsockname())
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
datagrams = socket.socket(type=socket.SOCK_DGRAM)
given = [listening.detach(), connected.detach(), bound.detach(), datagrams.detach(), os.open(".", os.O_RDONLY)]
from dragonfly_vortex.daemon.systemd import inherited_sockets
for number, descriptor in enumerate([os.dup(each) for each in given], 30):
    os.dup2(descriptor, number)
import dragonfly_vortex.daemon.systemd as systemd
systemd._inherited_descriptors = lambda: range(30, 36)
before = len(os.listdir("/proc/self/fd"))
sockets = inherited_sockets()
print(len(sockets), len(os.listdir("/proc/self/fd")) == before + 1)
"""
"""A program that was given a socket that listens, and others."""


class NotifierTests(SynchronousTestCase):
    """A notifier, and the socket that it writes to."""

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="dfl")  # a short path, for a socket
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.clock = Clock()
        self.serves = False

    def notifier(self, **environment: str) -> Notifier:
        """A notifier with an environment."""
        return Notifier(self.clock, lambda: self.serves, environment)

    def told(self) -> str:
        """The next state that was written; empty where there is none."""
        try:
            return self.socket.recv(1000).decode()
        except BlockingIOError:
            return ""

    def test_states(self) -> None:
        """It says that the peer serves, once it does, that it goes on, and that it ends."""
        environment = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
        notifier = Notifier(self.clock, lambda: self.serves, environment)
        self.assertEqual(environment, {})
        notifier.startService()
        self.clock.pump([0.1] * 5)
        self.assertEqual(self.told(), "")
        self.serves = True
        self.clock.advance(0.1)
        self.assertEqual((self.told(), self.told()), ("READY=1", ""))
        for _ in range(2):
            self.clock.advance(2)
            self.assertEqual((self.told(), self.told()), ("WATCHDOG=1", ""))
        notifier.stopService()
        self.assertEqual(self.told(), "STOPPING=1")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_watchdog(self) -> None:
        """Without a watchdog, or with that of another process, nothing follows."""
        self.serves = True
        for other in ({}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}):
            notifier = self.notifier(NOTIFY_SOCKET=self.path, **other)
            notifier.startService()
            self.clock.advance(0.1)
            self.assertEqual(self.told(), "READY=1")
            self.assertEqual(self.clock.getDelayedCalls(), [])
            notifier.stopService()
            self.assertEqual(self.told(), "STOPPING=1")

    def test_abstract(self) -> None:
        """The socket may have an abstract address."""
        name = f"dfvortex-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind("\0" + name)
            notifier = self.notifier(NOTIFY_SOCKET="@" + name)
            notifier.startService()
            notifier.stopService()
            self.assertEqual(listening.recv(1000, socket.MSG_DONTWAIT), b"STOPPING=1")

    def test_nothing(self) -> None:
        """Without systemd nothing is done; a socket that is not there harms nothing."""
        for environment in ({}, {"NOTIFY_SOCKET": "/nonexistent/notify"}):
            notifier = self.notifier(**environment)
            notifier.startService()
            notifier.stopService()
            self.assertEqual(self.clock.getDelayedCalls(), [])


class InheritedTests(SynchronousTestCase):
    """This process was given no sockets; daemons are."""

    def test_none(self) -> None:
        """A process without systemd has no inherited sockets."""
        self.assertEqual(inherited_sockets(), {})

    def test_others(self) -> None:
        """What does not listen, or is no socket of TCP, is not taken, and no descriptor of it is left."""
        ran = subprocess.run([sys.executable, "-c", _OTHERS], capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout, "1 True\n", ran.stderr)

    def ports(self) -> list[int]:
        """Two ports that are free at 127.0.0.2, and where no process can listen at 127.0.0.1 until the test ends."""
        ports: list[int] = []
        while len(ports) < 2:
            held = socket.socket()
            self.addCleanup(held.close)
            held.bind(("127.0.0.1", 0))
            port: int = held.getsockname()[1]
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.2", port)):
                ports.append(port)
        return ports

    def serve(self, workers: Sequence[str] = ()) -> None:
        """Both doors serve where they were handed over, and only there; systemd hears of it."""
        directory = Path(self.mktemp()).absolute()
        port, grpc_port = self.ports()
        write_config(directory, port=port, grpc_port=grpc_port)
        if workers:
            path = directory / "tap.yaml"
            path.write_text(path.read_text().replace("protocol: all", "protocol: all, workers: 2"))
        (directory / "file").write_bytes(os.urandom(100_000))
        task_id = import_file(directory / "file", directory=directory)
        short = tempfile.mkdtemp(prefix="dfl")
        self.addCleanup(shutil.rmtree, short)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(f"{short}/notify")
            notified.settimeout(120)
            command = (sys.executable, "-c", HANDED_OVER, f"{port},{grpc_port}", *TWISTD)
            environment = {"NOTIFY_SOCKET": f"{short}/notify"}
            with Daemon(directory, command=command, environment=environment) as daemon:
                self.assertEqual(notified.recv(1000), b"READY=1")
                for parent in (f"127.0.0.2:{port}", f"grpc://127.0.0.2:{grpc_port}"):
                    arguments = ("download", task_id, "--parent", parent, "--output", "copy", "--overwrite")
                    ran = dfvortex(*arguments, directory=directory)
                    self.assertEqual(ran.returncode, 0, ran)
                for each in (port, grpc_port):
                    self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", each))
                self.assertEqual(daemon.stop(), 0)
            self.assertEqual(notified.recv(1000), b"STOPPING=1")

    def test_doors(self) -> None:
        """Both doors of one process."""
        self.serve()

    def test_workers(self) -> None:
        """The gRPC door of the main process, and workers."""
        self.serve(("workers",))
