"""Programs that serve."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from benchmarks.servers import DidNotWork, Server, free_port

SAYS = "import sys, time\nprint('serving as 17', flush=True)\n"
ENDS = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (open('ended', 'w').close(), sys.exit()))\n"


class ServerTests(TestCase):
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
        """It runs inside the block, in its directory, until it is told to end, and what it said is there."""
        with self.server(f"{ENDS}{SAYS}time.sleep(60)") as server:
            self.assertEqual(server.said[1], "17")
            os.kill(server.pid, 0)
            self.assertFalse((self.directory / "ended").exists())
        self.assert_ended(server.pid)
        self.assertTrue((self.directory / "ended").exists())
        self.assertIn("serving as 17", (self.directory / "parent.log").read_text(encoding="utf-8"))

    def test_says_nothing(self) -> None:
        """One that ends before it serves is told with what it wrote."""
        server = self.server("print('no')")
        error = self.assertRaises(DidNotWork, server.__enter__)
        self.assertIn("'serving as (\\\\d+)' in what the parent says, got:\nno\n", str(error))
        self.assert_ended(server.pid)

    def test_not_started(self) -> None:
        """Before it is started there is neither a process nor a word of it."""
        server = self.server("")
        self.assertRaises(DidNotWork, lambda: server.pid)
        self.assertRaises(DidNotWork, lambda: server.said)

    def test_free_port(self) -> None:
        """A port is free, and none that a connection could be given meanwhile."""
        port = free_port()
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        self.assertNotIn(port, range(int(first), int(last) + 1))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
