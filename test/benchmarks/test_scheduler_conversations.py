"""Conversations with a real scheduler are compared by what is the same each time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.scheduler_conversations import SCENES, shape
from test.cluster.recordings import RECORDINGS


class ShapeTests(SynchronousTestCase):
    """What is compared."""

    def test_recorded(self) -> None:
        """Each scene is recorded, and begins as the scene says."""
        self.assertEqual(set(RECORDINGS), set(SCENES))
        for name, scene in SCENES.items():
            recording = RECORDINGS[name]
            self.assertEqual(recording.method, scene.method)
            words = [step[1] for step in shape(recording.steps) if step[0] == "peer"]
            expected = [next(iter(message)) for message in scene.messages]
            self.assertEqual(words, expected[: len(words)])

    def test_ids(self) -> None:
        """IDs are not compared, the words around them are."""
        for host in ("127.0.0.1-1a2b3c4d", "127.0.0.1-00000000"):
            self.assertEqual(
                shape([("end", ["NOT_FOUND", f"peer {host}-8ac9846b-ec61 not found"])]),
                [["end", "NOT_FOUND", "peer ID not found"]],
            )
