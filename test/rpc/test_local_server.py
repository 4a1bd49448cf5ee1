"""How the local door begins and ends, and its health."""

from __future__ import annotations

import stat
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from twisted.internet.error import CannotListenError

from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.rpc.methods import LOCAL_SERVICE
from test.rpc.local_peer import LocalPeerTestCase, peer_reactor


class LocalServiceTests(LocalPeerTestCase):
    """A local door of a whole peer."""

    async def test_socket(self) -> None:
        """The socket has the mode that is configured, and is gone when the peer has ended."""
        path = self.directory / "peer.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        await self.peer.stopService()
        self.assertEqual(sorted(entry.name for entry in self.directory.iterdir()), ["file", "parent", "storage"])
        self.assertIsNone(self.peer.local_address)

    async def test_mode(self) -> None:
        """Another mode gives others access."""
        await self.peer.stopService()
        download = self.config.download
        server = replace(download.server, socket_mode=0o660)
        self.config = replace(self.config, download=replace(download, server=server))
        await self.start()
        self.assertEqual(stat.S_IMODE(self.directory.joinpath("peer.sock").stat().st_mode), 0o660)

    async def test_second_peer(self) -> None:
        """A peer does not start where another one listens, and leaves nothing behind."""
        storage = replace(self.config.storage, dir=self.directory / "second")
        second = VortexService(replace(self.config, storage=storage), peer_reactor)
        error = self.assertRaises(CannotListenError, second.startService)
        self.assertIn("another process listens there", str(error))
        self.assertIn("peer.sock", str(error))
        await self.export()  # the first one serves on

    async def test_health(self) -> None:
        """The server and its service serve; another service is unknown."""
        path = "/grpc.health.v1.Health/Check"
        request, reply = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        check: Any = self.channel.unary_unary(path, request.SerializeToString, reply.FromString)
        for name in ("", LOCAL_SERVICE):
            answer = await self.in_thread(partial(check, request(service=name), timeout=30))
            self.assertEqual(answer.status, reply.SERVING)
        unknown = self.in_thread(lambda: check(request(service="dfdaemon.v2.DfdaemonUpload"), timeout=30))
        code, _ = await self.refusal(unknown)
        self.assertEqual(code, grpc.StatusCode.NOT_FOUND)
