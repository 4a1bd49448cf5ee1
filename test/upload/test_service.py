"""How the upload service begins and ends, and our own client at it."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, cast

import grpc
from dragonfly_api import dfdaemon_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.model import HostConfig
from dragonfly_vortex.errors import PieceNotFound
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.rpc.client import GRPCClient, GRPCSettings, IRPCReactor
from dragonfly_vortex.storage.store import PieceStore
from dragonfly_vortex.upload.service import UploadService
from dragonfly_vortex.wire import PieceKind
from test.rpc.by_hand import piece_request
from test.upload.serving import LENGTH, TASK_ID, ServiceTestCase, content_of


class BeforeTests(SynchronousTestCase):
    """A service that has not been started."""

    def test_nothing_before(self) -> None:
        """Making a service starts no thread, and stopping it is done at once."""
        threads = threading.active_count()
        service = UploadService(
            cast(PieceStore, None),
            IReactorFromThreads(reactor),
            ip="127.0.0.1",
            port=0,
            host=HostConfig(),
            vortex_port=lambda: None,
        )
        self.assertEqual((threading.active_count(), service.address), (threads, None))
        self.successResultOf(service.stopService())


class StartTests(ServiceTestCase):
    """How it begins."""

    async def test_address(self) -> None:
        """It knows where it listens, and is a running service."""
        address: Any = self.service.address
        self.assertEqual((address.host, address.port), ("127.0.0.1", self.port))
        self.assertTrue(self.service.running)

    async def test_port_taken(self) -> None:
        """A port that another one has cannot be had, even if that is a service like this."""
        second = UploadService(
            self.store,
            IReactorFromThreads(reactor),
            ip="127.0.0.1",
            port=self.port,
            host=HostConfig(),
            vortex_port=lambda: None,
        )
        try:
            await second.startService()
        except CannotListenError as error:
            self.assertEqual(error.port, self.port)
        else:
            self.fail("two services listen on one port")
        await second.stopService()
        self.assertIsNone(second.address)

    async def test_again(self) -> None:
        """A service that was stopped can be started again."""
        await self.service.stopService()
        await self.add(0, pieces=1)
        address: Any = await self.service.startService()
        channel = grpc.insecure_channel(f"127.0.0.1:{address.port}")
        self.addCleanup(channel.close)
        call: Any = channel.unary_unary("/dfdaemon.v2.DfdaemonUpload/DownloadPiece")
        self.assertGreater(len(await self.child(lambda: call(piece_request(TASK_ID, 0)))), LENGTH)


class OurChildTests(ServiceTestCase):
    """Our own client fetches from our own service."""

    async def test_pieces(self) -> None:
        """Every kind of piece comes, many at once, and what is not there is not found."""
        client = GRPCClient(f"127.0.0.1:{self.port}", GRPCSettings(reactor=cast(IRPCReactor, reactor)))
        self.addCleanup(client.stop)
        for kind in PieceKind:
            await self.add(0, 1, 2, kind=kind)
            requests = [DownloadPieceRequest(kind=kind, task_id=TASK_ID, number=number) for number in range(3)]
            got = await gatherResults([client.download_piece(request, 10) for request in requests])
            for number, response in enumerate(got):
                self.assertTrue(response.content == content_of(number))
                self.assertEqual(response.metadata.offset, number * LENGTH)
            missing = DownloadPieceRequest(kind=kind, task_id=TASK_ID, number=3)
            with self.assertRaises(PieceNotFound):
                await client.download_piece(missing, 10)

    async def test_cancel(self) -> None:
        """A child that cancels leaves nothing behind: the service can stop at once."""
        await self.add(0)
        client = GRPCClient(f"127.0.0.1:{self.port}", GRPCSettings(reactor=cast(IRPCReactor, reactor)))
        self.addCleanup(client.stop)
        request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=TASK_ID, number=0)
        downloads = [client.download_piece(request, 10) for _ in range(20)]
        for download in downloads:
            download.addErrback(lambda failure: None)
            download.cancel()
        await client.download_piece(request, 10)
        begun = time.monotonic()
        await self.service.stop(5)
        self.assertLess(time.monotonic() - begun, 2)


class StopTests(ServiceTestCase):
    """How it ends."""

    async def test_open_streams(self) -> None:
        """Streams end well when the service stops; it waits neither for them nor for those who watch its health."""
        await self.add(0)
        health: Any = health_pb2_grpc.HealthStub(self.channel)

        def follow() -> list[Any]:
            pieces = self.stub.SyncPieces(dfdaemon_pb2.SyncPiecesRequest(task_id=TASK_ID))
            hosts = self.stub.SyncHost(dfdaemon_pb2.SyncHostRequest())
            watch = health.Watch(health_pb2.HealthCheckRequest())
            for stream in (pieces, hosts, watch):
                next(stream)
            return [pieces, hosts, watch]

        pieces, hosts, watch = await self.child(follow)
        begun = time.monotonic()
        await self.service.stop(5)
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual(await self.child(lambda: (pieces.code(), hosts.code())), (StatusCode.OK, StatusCode.OK))
        statuses = await self.child(lambda: next(watch).status)
        self.assertEqual(statuses, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def test_refuses(self) -> None:
        """Nothing listens when it has stopped, and its thread has ended."""
        threads = [thread for thread in threading.enumerate() if thread.name == "upload"]
        await self.service.stop(1)
        with socket.socket() as child:
            self.assertNotEqual(child.connect_ex(("127.0.0.1", self.port)), 0)
        for thread in threads:  # the last thing that it does is to say so
            thread.join(5)
        self.assertEqual([thread.is_alive() for thread in threads], [False])
        self.assertFalse(self.service.running)

    async def test_pieces_under_way(self) -> None:
        """A piece that is waiting for the storage when the service stops is still served."""
        await self.add(0)
        opened: Deferred[None] = Deferred()
        real = self.store.open_piece

        def slowly(*arguments: Any) -> Any:
            opened.callback(None)
            later: Deferred[None] = Deferred()
            cast(Any, reactor).callLater(0.3, later.callback, None)
            return later.addCallback(lambda _: real(*arguments))

        self.patch(self.store, "open_piece", slowly)
        call = self.legacy_call()
        reply = self.child(lambda: call(piece_request(TASK_ID, 0)))
        await opened
        await self.service.stop(5)
        self.assertGreater(len(await reply), LENGTH)

    async def test_time_out(self) -> None:
        """A piece that does not end in time is aborted."""
        await self.add(0)
        opened: Deferred[None] = Deferred()

        def never(*arguments: Any) -> Any:
            opened.callback(None)
            return Deferred()

        self.patch(self.store, "open_piece", never)
        call = self.legacy_call()
        refused = self.child(lambda: self.refusal(lambda: call(piece_request(TASK_ID, 0))))
        await opened
        begun = time.monotonic()
        await self.service.stop(0.3)
        self.assertLess(time.monotonic() - begun, 2)
        self.assertIn((await refused)[0], (StatusCode.UNAVAILABLE, StatusCode.CANCELLED))
