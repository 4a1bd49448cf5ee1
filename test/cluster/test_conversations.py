"""Conversations with a real scheduler are compared by what is the same each time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from test.cluster.conversations import shape
from test.cluster.recordings import RECORDINGS


class ShapeTests(SynchronousTestCase):
    """What is compared."""

    def test_recorded(self) -> None:
        """A recording has a shape: its messages in order, and the end."""
        self.assertEqual(
            [step[:2] for step in shape(RECORDINGS["child that fails"].steps)],
            [
                ["peer", "registerPeerRequest"],
                ["scheduler", "normalTaskResponse"],
                ["peer", "downloadPeerStartedRequest"],
                ["peer", "downloadPeerFailedRequest"],
                ["end", "OK"],
            ],
        )

    def test_ids(self) -> None:
        """IDs are not compared, the words around them are."""
        for host in ("127.0.0.1-1a2b3c4d", "127.0.0.1-00000000"):
            self.assertEqual(
                shape([("end", ["NOT_FOUND", f"peer {host}-8ac9846b-ec61 not found"])]),
                [["end", "NOT_FOUND", "peer ID not found"]],
            )
