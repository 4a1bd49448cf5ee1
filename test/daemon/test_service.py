"""A peer as a service, in this process: what it opens, what it serves, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor, tcp
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from benchmarks.processes import free_port
from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import (
    Config,
    GCConfig,
    GCPolicyConfig,
    HealthConfig,
    HealthServerConfig,
    MetricsConfig,
    MetricsServerConfig,
    StatusConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    TLSConfig,
    UploadConfig,
    UploadServerConfig,
    default_config,
)
from dragonfly_vortex.config.model import SchedulerConfig
from dragonfly_vortex.daemon import grpc_door
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.errors import CertificateUnusable, DigestMismatch, StorageFailure
from dragonfly_vortex.model import StoredPiece
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.piece_discovery import PieceDiscovery
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.vortex.server import VortexPort, VortexServerFactory
from dragonfly_vortex.wire import PieceContent, PieceKind
from test.metrics.page import answered, fetched, values_in
from test.mounts import run_with_mounts
from test.processes import Child
from test.transport.cold import make_cold

peer_reactor = cast(IPeerReactor, reactor)


def storage_threads() -> int:
    """How many threads of storages there are in this process."""
    return sum("storage" in thread.name for thread in threading.enumerate())


class _Watched(VortexService):
    """A peer whose failures the test waits for."""

    def __init__(self, config: Config, reactor: IPeerReactor) -> None:
        super().__init__(config, reactor)
        self.failed: Deferred[list[Failure]] = Deferred()

    def door_failed(self, failure: Failure) -> None:
        self.failed.callback([failure])


_READ_ONLY = """
import hashlib
from twisted.internet.task import react
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from dragonfly_vortex.config import load_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.daemon.service import VortexService

def show(event):
    if event["log_level"] >= LogLevel.warn:
        print(formatEvent(event))

async def main(reactor):
    directory, task_id = Path(sys.argv[1]), sys.argv[2]
    (directory / "tap.yaml").write_text(
        "storage: {dir: storage, server: {ip: 127.0.0.1, protocol: tcp, tcp: {port: 0}}}\\nmetrics: {enable: false}"
    )
    read_only(directory / "storage")
    globalLogPublisher.addObserver(show)
    config = load_config(directory / "tap.yaml").config
    peer = VortexService(config, reactor)
    peer.startService()
    downloader = DownloaderFactory("tcp", config, reactor=reactor).build()
    content = b""
    for number in range(2):
        data, _, _ = await downloader.download_piece(f"127.0.0.1:{peer.address.port}", number, "", task_id)
        content += data
    is_right = hashlib.sha256(content).hexdigest() == task_id
    print(len(content), "bytes, and they are", "right" if is_right else "wrong")
    await downloader.stop()
    await peer.stopService()

react(main)
"""


class ServiceTests(TestCase):
    """A service over a storage of its own, on a free port."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.content = os.urandom(1_000_000)
        self.directory.joinpath("file").write_bytes(self.content)

    def config(
        self,
        *,
        port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        protocol: str = "all",
        upload: int = 50_000_000_000,
        idle_timeout: float = 300.0,
    ) -> Config:
        """A configuration that listens on 127.0.0.1."""
        tcp = StorageTCPConfig(port=port, idle_timeout=idle_timeout)
        return Config(
            upload=UploadConfig(bandwidth_limit=upload, server=UploadServerConfig(ip="127.0.0.1", port=grpc_port)),
            storage=StorageConfig(
                dir=self.directory / "storage",
                server=StorageServerConfig(ip="127.0.0.1", protocol=protocol, tcp=tcp),
            ),
            metrics=MetricsConfig(server=MetricsServerConfig(ip="127.0.0.1", port=metrics_port)),
        )

    def service(self, config: Config | None = None, warnings: tuple[str, ...] = ()) -> VortexService:
        """A service that is stopped in the end."""
        made = VortexService(config or self.config(), peer_reactor, warnings)
        self.addCleanup(made.stopService)
        return made

    def import_file(self) -> str:
        """Import the test's file in two pieces, and give its task ID."""
        return import_file(
            self.directory / "file", self.directory / "storage", PieceKind.STANDARD, piece_length=600_000
        ).task_id

    def address(self, peer: VortexService) -> tuple[str, int]:
        """Where a service listens."""
        address = cast(IPv4Address, peer.address)
        return address.host, address.port

    async def fetch(self, peer: VortexService, task_id: str) -> bytes:
        """Fetch the task's two pieces with the package's own downloader."""
        downloader = DownloaderFactory("tcp", default_config(), reactor=peer_reactor).build()
        host, port = self.address(peer)
        pieces = [await downloader.download_piece(f"{host}:{port}", number, "", task_id) for number in (0, 1)]
        await downloader.stop()
        return b"".join(cast(bytes, piece.content) for piece in pieces)

    def test_opens_nothing_before_it_starts(self) -> None:
        """A service that was only made has touched no file, has no thread and listens nowhere."""
        peer = self.service()
        self.assertIsNone(peer.address)
        self.assertFalse((self.directory / "storage").exists())
        self.assertEqual(storage_threads(), 0)

    async def test_serves_what_is_imported_later(self) -> None:
        """What is imported while it runs is served at once, on a connection that was there before, too."""
        peer = self.service()
        peer.startService()
        with Child(self.address(peer)) as child:
            task_id = await deferToThread(self.import_file)
            child.ask(task_id)
            self.assertIsInstance(await deferToThread(child.next_event), PieceContent)
            self.assertTrue(await deferToThread(child.content) == self.content[:600_000])
        self.assertTrue(await self.fetch(peer, task_id) == self.content)

    async def test_read_only(self) -> None:
        """A storage that can only be read is served, and one line says so, with the cause."""
        task_id = self.import_file()
        said = await deferToThread(run_with_mounts, _READ_ONLY, self.directory, task_id)
        line = f"the storage {self.directory}/storage can only be read, and is served: Read-only file system"
        self.assertEqual(said, [line, "1000000 bytes, and they are right"])

    async def test_leaves_nothing(self) -> None:
        """When it has stopped, it listens no more, and its thread has ended."""
        peer = self.service()
        peer.startService()
        await deferToThread(self.import_file)
        address = self.address(peer)
        self.assertEqual(storage_threads(), 1)
        await peer.stopService()
        self.assertIsNone(peer.address)
        self.assertEqual(storage_threads(), 0)
        with self.assertRaises(ConnectionRefusedError), socket.create_connection(address):
            pass

    async def test_cold_file(self) -> None:
        """What is not in memory is read in threads, which end with the service."""
        peer = self.service()
        peer.startService()
        task_id = await deferToThread(self.import_file)
        (content,) = [path for path in peer.config.storage.dir.rglob(task_id) if path.is_file()]
        make_cold(content)
        self.assertTrue(await self.fetch(peer, task_id) == self.content)
        self.assertTrue(any("read-ahead" in thread.name for thread in threading.enumerate()))
        await peer.stopService()
        self.assertFalse(any("read-ahead" in thread.name for thread in threading.enumerate()))

    async def test_asked_for_again(self) -> None:
        """A rotten piece that a child asks for again is found, over each door, and not served by the next peer."""
        for protocol in ("tcp", "grpc"):
            peer = self.service(self.config(protocol=protocol))
            task_id = await deferToThread(self.import_file)
            (content,) = [path for path in peer.config.storage.dir.rglob(task_id) if path.stat().st_size == 1_000_000]
            with content.open("r+b") as file:
                file.seek(700_000)
                file.write(b"rotten")
            peer.startService()
            address = cast(IPv4Address, peer.address if protocol == "tcp" else await self.until_grpc(peer))
            downloader = DownloaderFactory(protocol, default_config(), reactor=peer_reactor).build()
            for number in (0, 1, 1):
                with contextlib.suppress(DigestMismatch):
                    await downloader.download_piece(f"{address.host}:{address.port}", number, "", task_id)
            await downloader.stop()
            await peer.stopService()  # which waits for the check
            with Catalog(peer.config.storage.dir) as catalog:
                marks = [piece.damage for piece in catalog.get_pieces(PieceKind.STANDARD, task_id)]
            self.assertEqual([bool(mark) for mark in marks], [False, True], protocol)

    async def test_starts_again(self) -> None:
        """A service that was stopped can be started again, and has kept its tasks."""
        peer = self.service()
        peer.startService()
        task_id = await deferToThread(self.import_file)
        await peer.stopService()
        peer.startService()
        self.assertTrue(await self.fetch(peer, task_id) == self.content)

    async def test_stops_without_having_started(self) -> None:
        """Stopping a service that does not run, twice even, does nothing."""
        peer = self.service()
        await peer.stopService()
        await peer.stopService()

    async def test_stops_while_the_disk_hangs(self) -> None:
        """A peer whose disk does not answer ends soon after ``shutdown_timeout`` anyway."""
        hanging, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def hang(catalog: Catalog, kind: PieceKind, task_id: str, numbers: range) -> list[StoredPiece]:
            hanging.set()
            go_on.wait()
            return []

        self.patch(Catalog, "find_pieces", hang)
        peer = self.service(dataclasses.replace(self.config(protocol="tcp"), shutdown_timeout=0.1))
        peer.startService()
        with Child(self.address(peer)) as child:
            child.ask("0" * 64)
            await deferToThread(hanging.wait)
            await peer.stopService()
        self.assertIsNone(peer.address)

    def test_port_in_use(self) -> None:
        """A port in use is reported at once, and leaves no thread."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            peer = self.service(self.config(port=other.getsockname()[1]))
            self.assertRaises(CannotListenError, peer.startService)
        self.assertIsNone(peer.address)
        self.assertFalse(peer.running)
        self.assertEqual(storage_threads(), 0)

    def test_grpc_port_in_use(self) -> None:
        """A gRPC port in use is reported at once, too; the Vortex door is not opened either."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            peer = self.service(self.config(grpc_port=port))
            error = self.assertRaises(CannotListenError, peer.startService)
        self.assertEqual(error.port, port)
        self.assertIsNone(peer.address)
        self.assertFalse(peer.running)
        self.assertEqual(storage_threads(), 0)

    async def test_doors(self) -> None:
        """``storage.server.protocol`` says which doors there are, and stopping closes them all."""
        for protocol, has_vortex, has_grpc in (("tcp", True, False), ("grpc", False, True), ("all", True, True)):
            peer = self.service(self.config(protocol=protocol))
            peer.startService()
            self.assertEqual(peer.address is not None, has_vortex, protocol)
            addresses = [peer.address] if has_vortex else []
            if has_grpc:
                addresses.append(await self.until_grpc(peer))
            await deferLater(peer_reactor, 0.2)
            self.assertEqual(peer.grpc_address is not None, has_grpc, protocol)
            await peer.stopService()
            self.assertEqual((peer.address, peer.grpc_address), (None, None))
            for address in addresses:
                there = cast(IPv4Address, address)
                self.assertNotEqual(await deferToThread(socket.socket().connect_ex, (there.host, there.port)), 0)

    async def test_tells_of_the_other_door(self) -> None:
        """What the gRPC door says about pieces names the port of the Vortex door; without that, none."""
        task_id = await deferToThread(self.import_file)
        for protocol in ("all", "grpc"):
            peer = self.service(self.config(protocol=protocol))
            peer.startService()
            doors = await self.doors_of(await self.until_grpc(peer), task_id)
            vortex = cast(IPv4Address, peer.address)
            self.assertEqual(doors, [f"127.0.0.1:{vortex.port}"] if protocol == "all" else [])
            await peer.stopService()

    async def test_stops_before_the_grpc_door_is_open(self) -> None:
        """A peer that is stopped as soon as it was started leaves nothing, and nothing is said to have failed."""
        peer = self.service()
        peer.startService()
        await peer.stopService()
        self.assertIsNone(peer.grpc_address)
        self.assertEqual(storage_threads(), 0)

    async def test_door_that_fails_later(self) -> None:
        """A gRPC door that cannot be opened after all is reported to the peer's program; the Vortex door stays open."""
        self.patch(grpc_door, "_try_to_listen", lambda ip, port: None)
        with socket.create_server(("127.0.0.1", 0)) as other:
            peer = _Watched(self.config(grpc_port=other.getsockname()[1]), peer_reactor)
            self.addCleanup(peer.stopService)
            peer.startService()
            (failure,) = await peer.failed
        self.assertTrue(failure.check(CannotListenError))
        self.assertIsNotNone(peer.address)

    async def test_storage_that_fails_later(self) -> None:
        """A storage that cannot be opened after the peer has started is reported in the same way, and in one line."""
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        peer = _Watched(self.config(protocol="tcp"), peer_reactor)
        self.addCleanup(peer.stopService)
        self.patch(PieceStore, "start", lambda store: fail(StorageFailure("a disk failed")))
        peer.startService()
        (failure,) = await peer.failed
        self.assertTrue(failure.check(StorageFailure))
        self.assertIn("the storage could not be opened: a disk failed", [formatEvent(event) for event in observer])

    async def until_grpc(self, peer: VortexService) -> IAddress:
        """Where a peer's gRPC door is, when it is open."""
        while peer.grpc_address is None:
            await deferLater(peer_reactor, 0.01)
        return peer.grpc_address

    async def doors_of(self, address: IAddress, task_id: str) -> list[str]:
        """The TCP addresses that a gRPC door tells with a task's pieces."""
        doors: list[str] = []
        ended: Deferred[bool] = Deferred()
        there = cast(IPv4Address, address)
        parent = ParentAddress(scheme="grpc", host=there.host, port=there.port)
        discovery = PieceDiscovery(parent, GRPCSettings(reactor=cast(IRPCReactor, reactor)), doors.append)
        pieces: list[int] = []
        discovery.start(
            PieceKind.STANDARD,
            task_id,
            lambda content_length, piece_length: None,
            lambda number, offset, length: pieces.append(number),
            ended.callback,
        )
        self.assertTrue(await ended)
        self.assertEqual(pieces, [0, 1])
        return doors

    def test_metrics_port_in_use(self) -> None:
        """A port for metrics in use is reported at once, too, and no door is opened."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            peer = self.service(self.config(metrics_port=port))
            error = self.assertRaises(CannotListenError, peer.startService)
        self.assertEqual(error.port, port)
        self.assertEqual((peer.address, peer.metrics_address), (None, None))
        self.assertFalse(peer.running)
        self.assertEqual(storage_threads(), 0)

    def test_no_page_without_a_door(self) -> None:
        """Where the Vortex door cannot be opened, the port for metrics is closed again."""
        metrics_port = free_port()
        with socket.create_server(("127.0.0.1", 0)) as other:
            peer = self.service(self.config(port=other.getsockname()[1], metrics_port=metrics_port))
            self.assertRaises(CannotListenError, peer.startService)
        self.assertIsNone(peer.metrics_address)
        self.assertEqual([each for each in peer_reactor.getReaders() if isinstance(each, tcp.Port)], [])

    async def values(self, peer: VortexService) -> dict[str, float]:
        """What the peer's page says."""
        return values_in(await deferToThread(fetched, cast(IPv4Address, peer.metrics_address).port))

    async def test_garbage(self) -> None:
        """Tasks whose time is over are removed while the peer runs, and no thread is left at its end."""
        import_file(self.directory / "file", self.directory / "storage", PieceKind.STANDARD, ttl=1)
        with Catalog(self.directory / "storage") as catalog, catalog._database.change() as connection:
            connection.execute("UPDATE task SET created_at = 1")
        gc = GCConfig(interval=0.01, policy=GCPolicyConfig(disk_threshold=1 << 50))
        for enable, count in ((False, 1), (True, 0)):
            peer = self.service(dataclasses.replace(self.config(), gc=dataclasses.replace(gc, enable=enable)))
            peer.startService()
            self.assertEqual(peer._collection is not None and peer._collection._looping.running, enable)
            with Catalog(self.directory / "storage", Access.READ) as catalog:
                while len(catalog.list_tasks()) > count:
                    await deferLater(IReactorTime(reactor), 0.01)
            await peer.stopService()
        while storage_threads():
            await deferLater(IReactorTime(reactor), 0.01)

    async def test_metrics(self) -> None:
        """What both doors have sent is on one page, which is there until everything else has stopped."""
        task_id = await deferToThread(self.import_file)
        peer = self.service()
        peer.startService()
        self.assertEqual((await self.values(peer))["dragonfly_client_upload_traffic"], 0)
        await self.fetch(peer, task_id)
        self.assertEqual((await self.values(peer))["dragonfly_client_upload_traffic"], 1_000_000)
        there = cast(IPv4Address, await self.until_grpc(peer))
        downloader = DownloaderFactory("grpc", default_config(), reactor=peer_reactor).build()
        await downloader.download_piece(f"{there.host}:{there.port}", 0, "", task_id)
        await downloader.stop()
        await self.doors_of(there, task_id)
        values = await self.values(peer)
        self.assertEqual(values["dragonfly_client_upload_traffic"], 1_600_000)
        self.assertEqual(values["dragonfly_client_stat_local_task_total{type=0}"], 1)
        place = cast(IPv4Address, peer.metrics_address)
        await peer.stopService()
        self.assertIsNone(peer.metrics_address)
        self.assertNotEqual(await deferToThread(socket.socket().connect_ex, (place.host, place.port)), 0)

    async def first_event(self, peer: VortexService) -> dict[str, Any]:
        """The first event of the peer's status page."""
        place = cast(IPv4Address, peer.metrics_address)

        def read() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/events", timeout=120) as stream:
                line = next(line for line in stream if line.startswith(b"data: "))
            return cast("dict[str, Any]", json.loads(line[6:]))

        return await deferToThread(read)

    async def test_status_page(self) -> None:
        """The status page names the doors, and the children of both, with what they have had."""
        task_id = await deferToThread(self.import_file)
        peer = self.service()
        peer.startService()
        there = cast(IPv4Address, await self.until_grpc(peer))
        await self.fetch(peer, task_id)
        downloader = DownloaderFactory("grpc", default_config(), reactor=peer_reactor).build()
        await downloader.download_piece(f"{there.host}:{there.port}", 0, "", task_id)
        await downloader.stop()
        event = await self.first_event(peer)
        port = self.address(peer)[1]
        self.assertEqual(event["peer"]["doors"], [f"TCP on 127.0.0.1:{port}", f"gRPC on 127.0.0.1:{there.port}"])
        self.assertEqual(
            [(child["name"], child["transport"], child["sent"], child["task"]) for child in event["children"]],
            [("127.0.0.1", "TCP", 1_000_000, task_id), ("127.0.0.1", "gRPC", 600_000, task_id)],
        )

    async def test_no_status_page(self) -> None:
        """Without the status page there are the metrics alone."""
        config = self.config()
        metrics = dataclasses.replace(config.metrics, status=StatusConfig(enable=False))
        peer = self.service(dataclasses.replace(config, metrics=metrics))
        peer.startService()
        port = cast(IPv4Address, peer.metrics_address).port
        answers = [(await deferToThread(answered, port, path))[0] for path in ("/", "/events", "/metrics")]
        self.assertEqual(answers, [404, 404, 200])

    async def test_two_peers(self) -> None:
        """Two peers in one process count for themselves."""
        task_id = await deferToThread(self.import_file)
        peers = [self.service(), self.service()]
        for peer in peers:
            peer.startService()
        await self.fetch(peers[0], task_id)
        traffic = [(await self.values(peer))["dragonfly_client_upload_traffic"] for peer in peers]
        self.assertEqual(traffic, [1_000_000, 0])

    def probed(self, **settings: Any) -> Config:
        """A configuration with pages for probes."""
        health = HealthConfig(server=HealthServerConfig(ip="127.0.0.1", port=0))
        return dataclasses.replace(self.config(**settings), health=health)

    async def readiness(self, peer: VortexService) -> tuple[int, str]:
        """What a probe is answered."""
        return await deferToThread(answered, cast(IPv4Address, peer.health_address).port, "/readiness")

    async def test_ready(self) -> None:
        """A peer is ready when its storage and its doors are open, and until it is stopped."""
        peer = self.service(self.probed())
        self.assertEqual(peer.missing(), ["the peer is not running"])
        peer.startService()
        self.assertEqual(peer.missing(), ["the gRPC door is not open", "the storage is not open"])
        while (await self.readiness(peer))[0] != 200:
            self.assertNotIn("TCP", "".join(peer.missing()))
        self.assertIsNotNone(peer.grpc_address)
        self.assertEqual(peer.missing(), [])
        stopped = peer.stopService()
        self.assertEqual(peer.missing(), ["the peer is not running"])
        await stopped
        self.assertIsNone(peer.health_address)

    async def test_default_health_port_in_use(self) -> None:
        """A peer does without the pages for probes where their port is taken, if it may: it was not named, then."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            server = HealthServerConfig(ip="127.0.0.1", port=other.getsockname()[1])
            peer = self.service(dataclasses.replace(self.config(), health=HealthConfig(server=server)))
            self.assertRaises(CannotListenError, peer.startService)
            peer.can_do_without_health = True
            log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
            peer.startService()
        self.assertIsNone(peer.health_address)
        (line,) = (formatEvent(event) for event in log if event["log_level"] is LogLevel.warn)
        expected = f"no pages for probes: port {server.port} cannot be listened on (Address already in use);"
        self.assertEqual(line, f"{expected} health.server.port names another")
        wrong = HealthServerConfig(ip="203.0.113.7", port=0)  # an address of no machine
        peer = self.service(dataclasses.replace(self.config(), health=HealthConfig(server=wrong)))
        peer.can_do_without_health = True
        self.assertRaises(CannotListenError, peer.startService)

    async def test_not_ready_while_it_drains(self) -> None:
        """A peer that finishes a piece before it ends is healthy, and not ready."""
        peer = self.service(self.probed(upload=1_000_000))
        peer.startService()
        task_id = await deferToThread(self.import_file)
        port = cast(IPv4Address, peer.health_address).port
        with Child(self.address(peer)) as child:
            child.ask(task_id)
            await deferToThread(child.next_event)
            stopped = peer.stopService()
            self.assertEqual(await deferToThread(answered, port, "/readiness"), (503, "the peer is not running\n"))
            self.assertEqual(await deferToThread(answered, port, "/healthy"), (200, "ok\n"))
            self.assertTrue(await deferToThread(child.content) == self.content[:600_000])
        await stopped

    async def test_never_ready(self) -> None:
        """A peer that goes on without one of its doors does not become ready."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.patch(grpc_door, "_try_to_listen", lambda ip, port: None)
            peer = _Watched(self.probed(grpc_port=other.getsockname()[1]), peer_reactor)
            self.addCleanup(peer.stopService)
            peer.startService()
            await peer.failed
            while (answer := await self.readiness(peer)) != (503, "the gRPC door is not open\n"):
                self.assertEqual(answer[0], 503)  # the storage may still be opening

    async def test_scheduler_without_its_door(self) -> None:
        """A peer that cannot join its cluster, for want of a gRPC door, is not ready."""
        config = dataclasses.replace(self.probed(protocol="tcp"), scheduler=SchedulerConfig(addrs=("127.0.0.1:9",)))
        peer = self.service(config)
        peer.startService()
        while (answer := await self.readiness(peer)) != (503, "no scheduler serves and knows this host\n"):
            self.assertEqual(answer[0], 503)

    def test_health_port_in_use(self) -> None:
        """A port for probes that cannot be had is an error, and leaves nothing open."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            server = HealthServerConfig(ip="127.0.0.1", port=other.getsockname()[1])
            peer = self.service(dataclasses.replace(self.config(), health=HealthConfig(server=server)))
            self.assertRaises(CannotListenError, peer.startService)
        self.assertIsNone(peer.metrics_address)
        self.assertIsNone(peer.address)

    def test_storage_that_cannot_be_opened(self) -> None:
        """A storage that cannot be opened is reported at once, and nothing listens."""
        self.directory.joinpath("storage").write_text("a file, not a directory")
        peer = self.service()
        self.assertRaises(StorageFailure, peer.startService)
        self.assertIsNone(peer.address)
        self.assertFalse(peer.running)

    def test_warnings(self) -> None:
        """What the configuration warned of is in the log when it starts, and not before."""
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        peer = self.service(warnings=("tap.yaml: {not} a format",))
        self.assertEqual(len(observer), 0)
        peer.startService()
        said = [event["text"] for event in observer if event["log_level"] is LogLevel.warn]
        self.assertEqual(said, ["tap.yaml: {not} a format"])

    async def test_ends_idle_connections_at_once(self) -> None:
        """A connection that waits for nothing is closed when the service stops, without waiting for anything."""
        peer = self.service(dataclasses.replace(self.config(), shutdown_timeout=1000.0))  # longer than a test may take
        peer.startService()
        with Child(self.address(peer)) as child:
            child.ask("0" * 64)
            await deferToThread(child.next_event)
            await peer.stopService()
            self.assertIsNone(await deferToThread(child.next_event))

    async def test_finishes_the_piece_under_way(self) -> None:
        """
        A piece under way when the service stops is sent to its end, and no connection is accepted meanwhile; the
        metrics tell of it.
        """
        peer = self.service(self.config(upload=1_000_000))
        peer.startService()
        task_id = await deferToThread(self.import_file)
        address, page = self.address(peer), cast(IPv4Address, peer.metrics_address)
        with Child(address) as child:
            child.ask(task_id)
            self.assertIsInstance(await deferToThread(child.next_event), PieceContent)
            stopped = peer.stopService()
            values = values_in(await deferToThread(fetched, page.port))
            self.assertEqual(values["dragonfly_client_concurrent_upload_piece_total"], 1)
            await deferLater(peer_reactor, 0.0)  # Twisted closes a port in the reactor's next turn
            refused = await deferToThread(socket.socket().connect_ex, address)
            self.assertNotEqual(refused, 0)
            self.assertFalse(stopped.called)
            self.assertTrue(await deferToThread(child.content) == self.content[:600_000])
            self.assertIsNone(await deferToThread(child.next_event))
            await stopped

    async def test_does_not_wait_for_ever(self) -> None:
        """A piece that does not come to its end in time is aborted, and its child sees that it is not all."""
        peer = self.service(dataclasses.replace(self.config(upload=100_000), shutdown_timeout=0.5))
        peer.startService()
        task_id = await deferToThread(self.import_file)
        with Child(self.address(peer)) as child:
            child.ask(task_id)
            self.assertIsInstance(await deferToThread(child.next_event), PieceContent)
            await peer.stopService()
            with self.assertRaises((ConnectionResetError, EOFError)):
                await deferToThread(child.content)

    async def test_a_door_fails_to_stop(self) -> None:
        """
        Where one door fails to stop, the storage stays open for the piece that the other door sends; then the failure
        is reported.
        """
        peer = self.service(self.config(upload=1_000_000))
        peer.startService()
        await self.until_grpc(peer)
        task_id = await deferToThread(self.import_file)
        grpc = peer._doors["grpc"]
        stop = grpc.stop

        def fail_to_stop(timeout: float) -> Deferred[None]:
            return stop(timeout).addCallback(lambda _: fail(OSError("the gRPC door is stuck")))

        grpc.stop = fail_to_stop  # type: ignore[method-assign]  # a door that cannot be stopped
        with Child(self.address(peer)) as child:
            child.ask(task_id)
            self.assertIsInstance(await deferToThread(child.next_event), PieceContent)
            stopped = peer.stopService()
            self.assertTrue(await deferToThread(child.content) == self.content[:600_000])
            self.assertEqual(storage_threads(), 1)
            self.assertIsNone(await deferToThread(child.next_event))
            with self.assertRaisesRegex(OSError, "the gRPC door is stuck"):
                await stopped
        self.assertEqual(storage_threads(), 0)
        self.assertIsNone(peer.metrics_address)

    def with_workers(self, tls: TLSConfig | None = None) -> Config:
        """A configuration of a peer with two workers and both doors."""
        config = self.config()
        server = dataclasses.replace(config.storage.server, workers=2)
        storage = dataclasses.replace(config.storage, server=server)
        return dataclasses.replace(config, storage=storage, tls=tls or TLSConfig())

    async def test_workers(self) -> None:
        """With workers it serves as without, and the gRPC door tells of their port."""
        task_id = await deferToThread(self.import_file)
        peer = self.service(self.with_workers())
        peer.startService()
        self.assertTrue(await self.fetch(peer, task_id) == self.content)
        _, port = self.address(peer)
        self.assertEqual(await self.doors_of(await self.until_grpc(peer), task_id), [f"127.0.0.1:{port}"])
        await peer.stopService()
        self.assertIsNone(peer.address)

    def test_workers_without_a_certificate(self) -> None:
        """A peer whose certificate cannot be used does not start, and has no workers."""
        missing = TLSConfig(cert=self.directory / "missing.crt", key=self.directory / "missing.key")
        peer = self.service(self.with_workers(missing))
        self.assertRaises(CertificateUnusable, peer.startService)
        self.assertIsNone(peer.address)
        self.assertFalse(peer.running)

    def test_settings(self) -> None:
        """What the configuration says of connections and of bandwidth is what the server's factory has."""
        config = self.config(upload=7_000_000, idle_timeout=11.0)
        tcp = dataclasses.replace(config.storage.server.tcp, max_connections=3, cork=True)
        server = dataclasses.replace(config.storage.server, tcp=tcp)
        config = dataclasses.replace(config, storage=dataclasses.replace(config.storage, server=server))
        peer = self.service(config)
        peer.startService()
        (port,) = (reader for reader in peer_reactor.getReaders() if isinstance(reader, VortexPort))
        factory = cast(VortexServerFactory, port.factory)
        self.assertEqual(
            (factory.settings.limiter.rate, factory.settings.cork),
            (7_000_000, True),
        )
        self.assertEqual(
            (factory.connections.max_connections, factory.connections.idle_timeout),
            (3, 11.0),
        )
