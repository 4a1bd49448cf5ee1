"""What is asked of a scheduler follows from what the storage has."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cluster.requests import TaskAnnouncement
from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.wire import PieceKind


class TaskRequestTests(SynchronousTestCase):
    """A task."""

    def test_pieces(self) -> None:
        """The number of pieces is that of Dragonfly: none for an empty task, unknown where a length is."""
        for content, piece, count in ((0, 4, 0), (1, 4, 1), (8, 4, 2), (9, 4, 3), (None, 4, None), (9, None, None)):
            request = TaskAnnouncement(kind=PieceKind.STANDARD, task_id="a", content_length=content, piece_length=piece)
            self.assertEqual(request.piece_count, count)

    def test_stored(self) -> None:
        """A stored task is announced as what it is."""
        task = StoredTask(
            kind=PieceKind.PERSISTENT,
            task_id="a",
            content_length=5,
            piece_length=4,
            created_at=0,
            digest="sha256:0",
            origin=Origin(url="http://h/f"),
        )
        request = TaskAnnouncement.of_stored(task)
        self.assertEqual((request.kind, request.task_id, request.piece_count), (PieceKind.PERSISTENT, "a", 2))
        self.assertEqual((request.digest, request.origin), (task.digest, task.origin))

    def test_loads_no_grpc(self) -> None:
        """A daemon without schedulers, which imports this and asks whether there are any, loads no grpcio."""
        code = (
            "import sys; import dragonfly_vortex.cluster, dragonfly_vortex.cluster.requests;"
            "sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)
