"""Requests are parsed, and replies filled in."""

from __future__ import annotations

from dragonfly_api import dfdaemon_pb2
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.rpc.messages import fill, parse


class MessageTests(SynchronousTestCase):
    """Messages of Dragonfly's API."""

    def test_parse(self) -> None:
        """A request is parsed; what is none, or too long, is refused with what was expected."""
        data = dfdaemon_pb2.StatTaskRequest(task_id="task").SerializeToString()
        self.assertEqual(parse(dfdaemon_pb2.StatTaskRequest, data).task_id, "task")
        for wrong, most in ((b"\xff\xff", 10), (data, len(data) - 1)):
            error = self.assertRaises(RemoteProtocolError, parse, dfdaemon_pb2.StatTaskRequest, wrong, most)
            self.assertIn("expected a StatTaskRequest", str(error))

    def test_fill(self) -> None:
        """A reply takes the facts that it has fields for."""
        reply = fill(dfdaemon_pb2.StatLocalTaskResponse, task_id="task", content_length=5, digest="none")
        self.assertEqual((reply.task_id, reply.content_length), ("task", 5))
