"""How the upload service begins and ends, and our own client at it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from pathlib import Path
from typing import Any, cast

import grpc
from dragonfly_api import dfdaemon_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.config.model import HostConfig
from dragonfly_vortex.errors import PieceNotFound
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.client import GRPCClient
from dragonfly_vortex.rpc.server import UploadService
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind
from test.processes import Daemon, write_config
from test.rpc.by_hand import piece_request
from test.rpc.serving import LENGTH, TASK_ID, ServiceTestCase, content_of


def upload_threads() -> int:
    """How many threads upload services have."""
    return sum(thread.name.startswith("upload") for thread in threading.enumerate())


class BeforeTests(SynchronousTestCase):
    """A service that has not been started."""

    def test_nothing_before(self) -> None:
        """Making a service starts no thread, and stopping it is done at once."""
        threads = set(threading.enumerate())
        service = UploadService(
            cast(PieceStore, None),
            IReactorFromThreads(reactor),
            ip="127.0.0.1",
            port=0,
            host=HostConfig(),
            vortex_port=lambda: None,
        )
        self.assertEqual((set(threading.enumerate()) - threads, service.address), (set(), None))
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
        self.assertEqual(upload_threads(), 1)  # that of the first one
        await second.stopService()
        self.assertIsNone(second.address)

    async def test_again(self) -> None:
        """A service that was stopped can be started again."""
        await self.service.stopService()
        await self.add(0, pieces=1)
        address: Any = await self.service.startService()
        channel = grpc.insecure_channel(f"127.0.0.1:{address.port}")
        self.addCleanup(deferToThread, channel.close)  # it may wait for what the reactor answers
        call: Any = channel.unary_unary("/dfdaemon.v2.DfdaemonUpload/DownloadPiece")
        self.assertGreater(len(await self.child(lambda: call(piece_request(TASK_ID, 0)))), LENGTH)

    async def test_stopped_while_starting(self) -> None:
        """A stop at any moment of a start waits for its end, and leaves nothing behind."""
        await self.service.stopService()
        for turns in range(12):
            started = self.service.startService()
            for _ in range(turns):
                await deferLater(cast(IReactorTime, reactor), 0.0)
            await self.service.stop(1)
            address: Any = await started
            self.assertIsNone(self.service.address)
            self.assertEqual(upload_threads(), 0)
            with socket.socket() as child:
                self.assertNotEqual(child.connect_ex(("127.0.0.1", address.port)), 0)

    async def test_in_the_order_of_the_calls(self) -> None:
        """Starts and stops that are called at once are done one after the other, and the last one counts."""
        ends: list[Deferred[Any]] = [self.service.stopService(), self.service.startService(), self.service.stop(1)]
        started = self.service.startService()
        address: Any = await started
        self.assertTrue(all(end.called for end in ends))
        self.assertEqual(self.service.address, address)
        with socket.socket() as child:
            self.assertEqual(child.connect_ex(("127.0.0.1", address.port)), 0)


class SignalTests(TestCase):
    """A daemon that is asked to end while it starts."""

    timeout = 120

    async def test_at_any_moment(self) -> None:
        """It ends with exit status 0, whatever the gRPC door was doing."""
        directory = Path(self.mktemp())
        moments = [random.uniform(0, 1) for _ in range(6)]

        def end(place: Path, moment: float) -> int:
            write_config(place)
            daemon = Daemon(place)
            try:
                daemon.wait_until_serving()
                with contextlib.suppress(RuntimeError):  # the moment comes before or after the door has opened
                    daemon.wait_for("serving gRPC", timeout=moment)
                return daemon.stop()
            finally:
                daemon.kill_if_running()

        ends = [deferToThread(end, directory / str(index), moment) for index, moment in enumerate(moments)]
        self.assertEqual(await gatherResults(ends), [0] * len(moments), moments)


class OurChildTests(ServiceTestCase):
    """Our own client fetches from our own service."""

    async def test_pieces(self) -> None:
        """Every kind of piece comes, many at once, and what is not there is not found."""
        client = GRPCClient(f"127.0.0.1:{self.port}", GRPCSettings(reactor=cast(IRPCReactor, reactor)))
        self.addCleanup(client.stop)
        for kind in PieceKind:
            await self.add(0, 1, 2, kind=kind)
            requests = [DownloadPieceRequest(kind=kind, task_id=TASK_ID, number=number) for number in range(3)]
            got = await gatherResults([client.download_piece(request, 120) for request in requests])
            for number, response in enumerate(got):
                self.assertTrue(response.content == content_of(number))
                self.assertEqual(response.metadata.offset, number * LENGTH)
            missing = DownloadPieceRequest(kind=kind, task_id=TASK_ID, number=3)
            with self.assertRaises(PieceNotFound):
                await client.download_piece(missing, 120)

    async def test_cancel(self) -> None:
        """A child that cancels leaves nothing behind: the service can stop at once."""
        await self.add(0)
        client = GRPCClient(f"127.0.0.1:{self.port}", GRPCSettings(reactor=cast(IRPCReactor, reactor)))
        self.addCleanup(client.stop)
        request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=TASK_ID, number=0)
        downloads = [client.download_piece(request, 120) for _ in range(20)]
        for download in downloads:
            download.addErrback(lambda failure: None)
            download.cancel()
        await client.download_piece(request, 120)
        await self.service.stop(1000)  # seconds: longer than this test may take


class StopTests(ServiceTestCase):
    """How it ends."""

    async def test_open_streams(self) -> None:
        """Streams end well when the service stops; it waits neither for them nor for watchers of its health."""
        await self.add(0)
        health: Any = health_pb2_grpc.HealthStub(self.channel)

        def follow() -> list[Any]:
            pieces = self.stub.SyncPieces(
                dfdaemon_pb2.SyncPiecesRequest(task_id=TASK_ID, interested_piece_numbers=[0, 1])
            )
            hosts = self.stub.SyncHost(dfdaemon_pb2.SyncHostRequest())
            watch = health.Watch(health_pb2.HealthCheckRequest())
            for stream in (pieces, hosts, watch):
                next(stream)
            return [pieces, hosts, watch]

        pieces, hosts, watch = await self.child(follow)
        await self.service.stop(1000)  # seconds: longer than this test may take
        self.assertEqual(await self.child(lambda: (pieces.code(), hosts.code())), (StatusCode.OK, StatusCode.OK))
        statuses = await self.child(lambda: next(watch).status)
        self.assertEqual(statuses, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def test_refuses(self) -> None:
        """Nothing listens when it has stopped, and its threads have ended."""
        await self.add(0)
        call = self.legacy_call()
        await self.child(lambda: call(piece_request(TASK_ID, 0)))
        await self.service.stop(1)
        with socket.socket() as child:
            self.assertNotEqual(child.connect_ex(("127.0.0.1", self.port)), 0)
        self.assertEqual(upload_threads(), 0)
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
        await self.service.stop(0.3)
        self.assertIn((await refused)[0], (StatusCode.UNAVAILABLE, StatusCode.CANCELLED))
