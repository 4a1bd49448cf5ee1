"""Our daemon as a process."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.peers import Peer
from benchmarks.processes import DidNotWork


class PeersTests(SynchronousTestCase):
    """A parent that cannot serve; tiny runs of the benchmarks have those that can."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.storage = self.directory / "storage"

    def test_fails(self) -> None:
        """For one that ends before it serves, the error has its log."""
        self.storage.write_text("not a directory")
        error = self.assertRaises(DidNotWork, Peer(self.storage, self.directory / "peer").__enter__)
        self.assertIn("expected 'serving Vortex on", str(error))
        self.assertIn("dfvortex: ", str(error))
