"""Two network namespaces with a way between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.network import Network, Way, why_none

_NAMESPACES = Path("/run/netns")

_ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    server.accept()[0].close()
"""

_CONNECT = """
import socket, sys, time
began = time.monotonic()
socket.create_connection((sys.argv[1], int(sys.argv[2])), 10).close()
print(time.monotonic() - began)
"""


class NetworkTests(SynchronousTestCase):
    """A parent's host and a child's."""

    def setUp(self) -> None:
        missing = why_none()
        if missing:
            raise SkipTest(missing)

    def test_round_trip(self) -> None:
        """A connection takes a round trip, and nothing is left behind the block."""
        before = {*_NAMESPACES.iterdir()}
        with Network(Way(round_trip=0.1, loss=0.0, rate=None)) as network:
            self.assertEqual(len({*_NAMESPACES.iterdir()} - before), 2)
            with subprocess.Popen(
                network.at_parent([sys.executable, "-c", _ECHO, network.address]), stdout=subprocess.PIPE, text=True
            ) as server:
                port = server.stdout.readline().strip() if server.stdout is not None else ""
                seconds = subprocess.check_output(
                    network.at_child([sys.executable, "-c", _CONNECT, network.address, port]), text=True
                )
        self.assertGreaterEqual(float(seconds), 0.1)
        self.assertEqual({*_NAMESPACES.iterdir()} - before, set())

    def test_error_inside(self) -> None:
        """Nothing is left behind a block that fails."""
        before = {*_NAMESPACES.iterdir()}
        with self.assertRaises(ValueError), Network(Way(round_trip=0.0, loss=0.1, rate=10**6)):
            raise ValueError
        self.assertEqual({*_NAMESPACES.iterdir()} - before, set())
