"""From what is written of a contestant to its programs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestant import Parent
from benchmarks.installed import PROGRAMS
from benchmarks.servers import DidNotWork
from benchmarks.starting import command_of, parent_of, values_in

_SERVE = """\
import socket
listening = socket.create_server(('127.0.0.1', $port))
print('serving $task', flush=True)
listening.accept()
"""


class StartingTests(SynchronousTestCase):
    """A parent of this test's own."""

    def test_parent(self) -> None:
        """It has its file with the values in place, serves at its port inside the block, and is gone behind it."""
        turn = Path(self.mktemp()).absolute()
        turn.mkdir()
        values = values_in(turn, turn / "task")
        parent = Parent(command="python $turn/serve.py", says="serving .*/task\n", files={"serve.py": _SERVE})
        with parent_of(parent, values, turn) as server:
            socket.create_connection(("127.0.0.1", int(str(values["port"])))).close()
        self.assertRaises(ProcessLookupError, os.kill, server.pid, 0)

    def test_command(self) -> None:
        """A command's program is the one that is installed; what is not there is told."""
        self.assertEqual(command_of("dfvortex $task", {"task": "a b"}), [PROGRAMS / "dfvortex", "a b"])
        self.patch(os, "environ", {"PATH": self.mktemp()})
        error = self.assertRaises(DidNotWork, command_of, "iperf3 --server", {})
        self.assertEqual(str(error), "expected iperf3 to be installed, it is not")
