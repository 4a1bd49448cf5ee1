"""Our daemon as a process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.peers import Peer
from benchmarks.processes import DidNotWork, family


class PeersTests(SynchronousTestCase):
    """A parent that serves, and one that cannot."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.storage = self.directory / "storage"

    def test_workers(self) -> None:
        """It listens on 127.0.0.1 when all its workers serve, and is gone after the block."""
        with Peer(self.storage, self.directory / "peer", workers=2) as peer:
            self.assertEqual(peer.address, f"tcp://127.0.0.1:{peer.port}")
            socket.create_connection(("127.0.0.1", peer.port)).close()
            self.assertEqual(len(family(peer.pid)), 3)
        self.assertRaises(ProcessLookupError, os.kill, peer.pid, 0)

    def test_fails(self) -> None:
        """One that does not come to serve is told with its log."""
        self.storage.write_text("not a directory")
        error = self.assertRaises(DidNotWork, Peer(self.storage, self.directory / "peer").__enter__)
        self.assertIn("expected 'serving Vortex on", str(error))
        self.assertIn("dfvortex: ", str(error))
