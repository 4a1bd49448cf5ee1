"""
Runs the tutorial's commands, in one shell, as they stand there but for their ports, which may be in use here.

Its installation is the README's, which :mod:`test.test_readme` runs; here this environment stands for it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.processes import PROGRAMS
from test.readme import README, command_that_runs, commands

TUTORIAL = README.parent / "docs" / "tutorial.md"

#: The installation, which is the first line.
INSTALL = "python3 -m venv .venv && .venv/bin/pip install ."

#: What a reader waits for after a command that has these words.
WAITS = {
    "twistd": "for n in 1 2 3; do until grep -qs 'serving gRPC' peer-$n.log; do sleep 0.1; done; done\n",
    "wait\n": (
        "python3 -c 'from urllib.request import urlopen as get; print(get(\"http://127.0.0.1:4121/\").read().decode())'\n"
    ),
    "kill $(cat peer-2.pid)": "while [ -e peer-2.pid ] || [ -e peer-3.pid ]; do sleep 0.1; done\n",
}

_TIME = 240.0  # seconds that all may take before the test fails


def are_free(ports: range) -> bool:
    """Whether a server could listen on each of these ports of 127.0.0.1."""
    for port in ports:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def with_free_ports(script: str) -> str:
    """The script with other ports for 410N, 411N and 412N, below those that the kernel gives to clients."""
    tens = random.sample(range(1100, 3200), 50)
    free = (ten for ten in tens if are_free(range(ten * 10 + 1, ten * 10 + 4)))
    others = {ten: str(next(free)) for ten in ("410", "411", "412")}
    return re.sub(r"\b(41[012])(?=\d\b|\$n)", lambda match: others[match[1]], script)


class TutorialTests(SynchronousTestCase):
    """The tutorial's commands."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.joinpath(".venv").mkdir(parents=True)
        self.directory.joinpath(".venv", "bin").symlink_to(PROGRAMS)
        self.addCleanup(self.kill_peers)

    def kill_peers(self) -> None:
        """Kill what a failure has left running."""
        for path in self.directory.glob("swarm/peer-*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def test_commands(self) -> None:
        """
        The task spreads to all peers; a download gets pieces from all three, and from two where one was stopped; the
        status page is there, and the commands leave nothing behind.
        """
        blocks = commands(TUTORIAL.read_text(encoding="utf-8"))
        self.assertTrue(blocks[0].startswith(f"{INSTALL}\n"), blocks[0])
        self.assertIn(f"{INSTALL} &&", command_that_runs("twistd", README.read_text(encoding="utf-8")))
        blocks[0] = blocks[0].replace(INSTALL, "")
        for words in WAITS:
            self.assertEqual(sum(words in block for block in blocks), 1, words)
        script = "".join(block + "".join(WAITS[words] for words in WAITS if words in block) for block in blocks)
        ran = subprocess.run(
            ["bash", "-e", "-c", with_free_ports(script)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIME,
        )
        self.assertEqual(ran.returncode, 0, ran.stdout)
        self.assertEqual([path.name for path in self.directory.iterdir()], [".venv"])

        self.assertEqual(len(re.findall(r": 50000000 bytes in 12 pieces, verified against sha256:", ran.stdout)), 4)
        spread, page, downloads = re.split(r"(<!doctype html>.*</html>)", ran.stdout, flags=re.DOTALL | re.IGNORECASE)
        self.assertRegex(spread, r"from grpc://127\.0\.0\.1:\d+1 ")
        for heading in ("Throughput", "Swarm", "Storage"):
            self.assertIn(heading, page)
        shares = re.findall(r"from 127\.0\.0\.1:\d+(\d) over TCP: \d+ bytes in \d+ pieces", downloads)
        self.assertEqual((sorted(shares[:3]), sorted(shares[3:])), (["1", "2", "3"], ["2", "3"]))
