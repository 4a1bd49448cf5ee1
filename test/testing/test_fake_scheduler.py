"""The fake scheduler says what a real one has said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
from dragonfly_api import common_pb2, scheduler_pb2, scheduler_pb2_grpc
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.testing.fake_scheduler import FakeScheduler
from test.cluster.recordings import RECORDINGS

SCHEDULER = os.environ.get("DFVORTEX_SCHEDULER", "")
"""The program of a real scheduler."""


class FakeSchedulerTests(TestCase):
    """Conversations with grpcio's synchronous client, in a thread."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.scheduler = FakeScheduler(IReactorFromThreads(reactor), RECORDINGS)
        port = await self.scheduler.start()
        self.addCleanup(self.scheduler.stop)
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.addCleanup(channel.close)
        self.stub: Any = scheduler_pb2_grpc.SchedulerStub(channel)

    def announce(self, **more: Any) -> None:
        """Announce a host."""
        values = {"id": "h", "hostname": "h", "ip": "127.0.0.1", "port": 4000, "download_port": 4000, **more}
        host = common_pb2.Host(**values, cpu=common_pb2.CPU(logical_count=1))
        self.stub.AnnounceHost(scheduler_pb2.AnnounceHostRequest(host=host), timeout=120)

    async def test_played(self) -> None:
        """A recording is played to who says the peer's part."""

        def converse() -> list[Any]:
            self.announce()
            ids: Any = {"host_id": "h", "task_id": "t", "peer_id": "p"}
            messages = [
                scheduler_pb2.AnnouncePeerRequest(**ids, register_peer_request={"download": {"url": "http://h/f"}}),
                scheduler_pb2.AnnouncePeerRequest(**ids, download_peer_started_request={}),
                scheduler_pb2.AnnouncePeerRequest(**ids, download_peer_finished_request={}),
            ]
            return list(self.stub.AnnouncePeer(iter(messages), timeout=120))

        (answer,) = await deferToThread(converse)
        self.assertTrue(answer.HasField("metadata_only_response"))
        self.assertEqual(self.scheduler.peers, {"p": "t"})

    async def test_hosts(self) -> None:
        """A port that no scheduler accepts is refused, and so is a farewell of a stranger."""

        def status(call: Any, *arguments: Any, **more: Any) -> grpc.StatusCode:
            with self.assertRaises(grpc.RpcError) as raised:
                call(*arguments, **more)
            code: grpc.StatusCode = raised.exception.code()
            return code

        code = await deferToThread(status, self.announce, port=65_535)
        self.assertIs(code, grpc.StatusCode.INVALID_ARGUMENT)
        request = scheduler_pb2.DeleteHostRequest(host_id="nobody")
        code = await deferToThread(status, self.stub.DeleteHost, request, timeout=120)
        self.assertIs(code, grpc.StatusCode.NOT_FOUND)

    async def test_agrees_with_a_real_scheduler(self) -> None:
        """Every recording is what a real scheduler says today."""
        if not Path(SCHEDULER).is_file():
            self.skipTest("expected the program of Dragonfly's scheduler 2.5.1 in DFVORTEX_SCHEDULER")
        from test.cluster.conversations import main

        self.assertEqual(await deferToThread(main, ["--scheduler", SCHEDULER]), 0)
