"""Parents of ours as processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import TestCase

from benchmarks.peers import TRANSPORTS, Parent
from benchmarks.servers import DidNotWork


class PeersTests(TestCase):
    """A parent for each transport."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.storage = self.directory / "storage"

    def test_serves(self) -> None:
        """It listens on 127.0.0.1, and is gone after the block."""
        for transport in TRANSPORTS.values():
            with Parent(self.storage, self.directory, transport) as parent:
                scheme, _, address = parent.address.partition("://")
                self.assertEqual(scheme, transport.name)
                socket.create_connection(("127.0.0.1", int(address.removeprefix("127.0.0.1:")))).close()
            self.assertRaises(ProcessLookupError, os.kill, parent.pid, 0)

    def test_fails(self) -> None:
        """One that does not come to serve is told with its log."""
        self.storage.write_text("not a directory")
        error = self.assertRaises(DidNotWork, Parent(self.storage, self.directory, TRANSPORTS["tcp"]).__enter__)
        self.assertIn("expected 'serving Vortex on", str(error))
        self.assertIn("dfvortex: ", str(error))
