"""Parents and children as processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import TestCase

from benchmarks.material import import_file, make_file
from benchmarks.peers import TRANSPORTS, DidNotWork, Parent, fetch


class PeersTests(TestCase):
    """Over each transport: a parent that serves, and a child that fetches."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.source = self.directory / "file"
        self.storage = self.directory / "storage"

    def assert_ended(self, pid: int) -> None:
        """Assert that there is no such process, not even its status."""
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_fetch(self) -> None:
        """The child writes the parent's file; the parent listens on 127.0.0.1 and is gone after the block."""
        make_file(self.source, 3_000_000)
        task = import_file(self.source, 2_000_000, self.storage)
        for transport in TRANSPORTS.values():
            output = self.directory / transport.name
            with Parent(self.storage, self.directory, transport) as parent:
                scheme, _, address = parent.address.partition("://")
                self.assertEqual(scheme, transport.name)
                socket.create_connection(("127.0.0.1", int(address.removeprefix("127.0.0.1:")))).close()
                ran = fetch(parent, transport, task.task_id, output, 2)
            self.assert_ended(parent.pid)
            self.assertEqual(output.read_bytes(), self.source.read_bytes())
            self.assertGreater(ran.processor, 0)

    def test_fetch_fails(self) -> None:
        """A child that fails is told with what it said, and the parent ends."""
        transport = TRANSPORTS["tcp"]
        with Parent(self.storage, self.directory, transport) as parent:
            error = self.assertRaises(
                DidNotWork, fetch, parent, transport, "0" * 64, self.directory / "output", concurrency=1
            )
        self.assertIn("download over TCP exited with 3, expected 0: dfvortex: ", str(error))
        self.assert_ended(parent.pid)

    def test_parent_fails(self) -> None:
        """A parent that does not come to serve is told with its log."""
        self.storage.write_text("not a directory")
        parent = Parent(self.storage, self.directory, TRANSPORTS["tcp"])
        error = self.assertRaises(DidNotWork, parent.__enter__)
        self.assertIn("expected 'serving Vortex on", str(error))
        self.assertIn("dfvortex: ", str(error))
        self.assert_ended(parent.pid)

    def test_parent_that_was_not_started(self) -> None:
        """It has no process."""
        self.assertRaises(DidNotWork, lambda: Parent(self.storage, self.directory, TRANSPORTS["tcp"]).pid)
