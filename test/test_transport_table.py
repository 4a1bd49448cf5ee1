"""The table of transports is what everything reads: a third row is known wherever a transport can be named."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from msgspec import structs
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex import transport_table
from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    HostConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.config.peer import check_ports, worker_share
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.rlimits import peer_descriptors
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.downloaders.factory import DownloaderFactory, negotiate
from dragonfly_vortex.errors import ConfigError, ParentUnreachable, PortGivenTwice, WrongTransport
from dragonfly_vortex.metrics.task_metrics import TransferMetrics
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.transport_table import (
    HTTP,
    TRANSPORTS,
    Transport,
    load_code,
    schemes,
    transport_of_address,
    transport_of_scheme,
    transports_named,
)
from dragonfly_vortex.wire import PieceKind
from test.config.files import ConfigFileTestCase
from test.memory_transport import MEMORY
from test.memory_transport.door import OPEN_DOORS
from test.memory_transport.downloader import MemoryDownloader
from test.metrics.page import values_of

TCP, GRPC = TRANSPORTS


class TableTests(SynchronousTestCase):
    """What is asked of the table."""

    def test_words(self) -> None:
        """A name means one transport, ``auto`` all, ``all`` those that have a door, and another word none."""
        self.patch(transport_table, "TRANSPORTS", (TCP, structs.replace(GRPC, door="")))
        self.assertEqual([each.name for each in transports_named("auto")], ["tcp", "grpc"])
        self.assertEqual([each.name for each in transports_named("all")], ["tcp"])
        self.assertEqual(transports_named("tcp"), (TCP,))
        self.assertEqual(transports_named("quic"), ())

    def test_schemes(self) -> None:
        """Each scheme belongs to one transport; a bare address belongs to the first."""
        self.assertEqual(schemes(), ("tcp", "tls", "grpc", "grpcs"))
        rows = (("tcp", TCP), ("tls", TCP), ("grpc", GRPC), ("grpcs", GRPC), ("http", HTTP), ("https", HTTP))
        for scheme, transport in rows:
            self.assertIs(transport_of_scheme(scheme), transport)
            self.assertIs(transport_of_address(f"{scheme}://host:1"), transport)
        self.assertIs(transport_of_address("host:1"), TCP)
        self.assertIn("got 'quic'", str(self.assertRaises(ValueError, transport_of_address, "quic://host:1")))

    def test_code(self) -> None:
        """What the rows name is there."""
        self.assertIs(load_code("dragonfly_vortex.transport_table:Transport"), Transport)
        for row in TRANSPORTS:
            for place in (row.downloader, row.announcers, row.door):
                self.assertTrue(not place or callable(load_code(place)), place)


class ThirdRowTests(ConfigFileTestCase):
    """Another row changes all that names transports."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(transport_table, "TRANSPORTS", (TCP, GRPC, MEMORY))

    def test_address(self) -> None:
        """Its schemes are read in the address of a parent, and say whether that is under TLS."""
        for scheme, is_secure in (("memory", False), ("memories", True)):
            parent = ParentAddress.from_text(f"{scheme}://host:7")
            self.assertEqual((str(parent), parent.transport), (f"{scheme}://host:7", MEMORY))
            self.assertEqual(parent.is_secure, is_secure)
        error = self.assertRaises(ValueError, ParentAddress.from_text, "quic://host:1")
        self.assertIn("grpcs://, memory://, memories://", str(error))

    def test_configuration(self) -> None:
        """Its name is taken by both keys, and is among those that a message names."""
        loaded = self.load("download: {protocol: memory}\nstorage: {server: {protocol: memory}}\n").config
        self.assertEqual((loaded.download.protocol, loaded.storage.server.protocol), ("memory", "memory"))
        error = self.assertRaises(ConfigError, self.load, "download: {protocol: udp}\n")
        self.assertIn("tcp, grpc, memory, auto", str(error))
        error = self.assertRaises(ConfigError, self.load, "storage: {server: {protocol: auto}}\n")
        self.assertIn("tcp, grpc, memory, all", str(error))

    def test_metrics(self) -> None:
        """Its pieces have a metric from the beginning, as those of the other transports and of sources have."""
        values = values_of(TransferMetrics().families())
        named = {key for key in values if "duration_seconds_count{transport" in key}
        series = "dfvortex_download_piece_duration_seconds_count{{transport={}}}"
        self.assertEqual(named, {series.format(name) for name in ("tcp", "grpc", "memory", "http")})

    def test_command_line(self) -> None:
        """``--protocol`` takes its name, ``--parent`` its address, and the help tells of both."""
        arguments = ["download", "0" * 64, "--output", "o", "--parent", "memory://host:7", "--protocol", "memory"]
        parsed = make_parser().parse_args(arguments)
        self.assertEqual((parsed.protocol, str(parsed.parents[0])), ("memory", "memory://host:7"))
        (commands,) = make_parser()._subparsers._group_actions  # type: ignore[union-attr]  # argparse has no other way
        told = " ".join(commands.choices["download"].format_help().split())  # type: ignore[index]
        self.assertIn("tcp|grpc|memory|auto", told)
        self.assertIn("memory, or memories for TLS: what it serves in this process", told)

    def test_port(self) -> None:
        """A row that names a port is compared with the other ports while its door is open, and only then."""
        row = structs.replace(MEMORY, ip_key="metrics.server.ip", port_key="metrics.server.port")
        self.patch(transport_table, "TRANSPORTS", (TCP, GRPC, row))
        text = "metrics: {{enable: false, server: {{port: 4005}}}}\nstorage: {{server: {{protocol: {}}}}}\n"
        check_ports(self.load(text.format("tcp")).config)
        error = self.assertRaises(PortGivenTwice, check_ports, self.load(text.format("all")).config)
        self.assertTrue(str(error).startswith("storage.server.tcp.port and metrics.server.port: "), error)

    def test_descriptors(self) -> None:
        """What its door opens counts where that is open."""
        self.patch(transport_table, "TRANSPORTS", (TCP, GRPC, structs.replace(MEMORY, descriptors=5)))
        alone, three = (
            peer_descriptors(self.load(f"storage: {{server: {{protocol: {each}}}}}").config) for each in ("tcp", "all")
        )
        self.assertEqual(three - alone, GRPC.descriptors + 5)

    def test_workers(self) -> None:
        """Workers open the door of the transport that has workers, whichever that is."""
        self.patch(
            transport_table,
            "TRANSPORTS",
            (structs.replace(TCP, has_workers=False), structs.replace(MEMORY, has_workers=True)),
        )
        share = worker_share(self.load("storage: {server: {protocol: all, workers: 2}}").config, 1)
        self.assertEqual(share.storage.server.protocol, "memory")


_PARENT = "memory://parent:1"

peer_reactor = cast(IPeerReactor, reactor)


class ThirdTransportTests(TestCase):
    """A peer with a door in memory, and children that fetch from it."""

    timeout = 120

    def setUp(self) -> None:
        self.patch(transport_table, "TRANSPORTS", (TCP, GRPC, MEMORY))
        self.content = bytes(range(256)) * 8000
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        (self.directory / "file").write_bytes(self.content)

    async def peer(self, protocol: str = "memory") -> tuple[VortexService, str]:
        """A peer that has the test's file in three pieces; and the task."""
        imported = await deferToThread(
            import_file,
            self.directory / "file",
            self.directory / "storage",
            PieceKind.STANDARD,
            piece_length=800_000,
        )
        service = VortexService(
            Config(
                host=HostConfig(hostname="parent"),
                storage=StorageConfig(
                    dir=self.directory / "storage",
                    server=StorageServerConfig(ip="127.0.0.1", protocol=protocol, tcp=StorageTCPConfig(port=0)),
                ),
                upload=UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0)),
                metrics=MetricsConfig(enable=False),
            ),
            peer_reactor,
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service, imported.task_id

    async def fetch(self, task_id: str, protocol: str, *parents: str) -> bytes:
        """What a whole download gives."""
        addresses = [ParentAddress.from_text(parent) for parent in parents]
        negotiation = negotiate(protocol, Config(), addresses, reactor=peer_reactor)
        self.addCleanup(negotiation.downloader.stop)
        in_thread = partial(deferToThreadPool, peer_reactor, peer_reactor.getThreadPool())
        output = self.directory / protocol
        await TaskDownload(
            peer_reactor,
            in_thread,
            negotiation.downloader,
            kind=PieceKind.STANDARD,
            task_id=task_id,
            parents=[str(address) for address in addresses],
            target=OutputTarget(output, in_thread),
            announcers=negotiation.announcers,
        ).start()
        return output.read_bytes()

    async def test_alone(self) -> None:
        """With ``protocol: memory`` on both sides a task comes over it, and no port is opened."""
        service, task_id = await self.peer()
        self.assertEqual([service.address, service.grpc_address], [None, None])
        self.assertEqual(str(cast(IAddress, service.address_of("memory"))), "UNIXAddress('parent:1')")
        self.assertTrue(await self.fetch(task_id, "memory", _PARENT) == self.content)
        self.assertEqual([tally.bytes_sent for tally in OPEN_DOORS["parent:1"].tallies], [len(self.content)])

    async def test_best(self) -> None:
        """With ``auto`` a parent that is known by such an address is asked there, beside a parent by TCP."""
        service, task_id = await self.peer("all")
        self.assertTrue(await self.fetch(task_id, "auto", _PARENT) == self.content)
        tcp = f"127.0.0.1:{service.address.port}"  # type: ignore[union-attr]  # an IPv4Address
        downloader = DownloaderFactory("auto", Config(), reactor=peer_reactor).build()
        self.addCleanup(downloader.stop)
        for parent in (_PARENT, tcp):
            piece = await downloader.download_piece(parent, 1, "", task_id)
            self.assertTrue(piece.content == self.content[800_000:1_600_000])

    async def test_life(self) -> None:
        """The door is reloaded and closed with the others; one that cannot be opened closes the others again."""
        service, _ = await self.peer("all")
        door = OPEN_DOORS["parent:1"]
        service.reload(replace(service.config, shutdown_timeout=1.0))
        self.assertEqual(door.reloaded, 1)
        other = VortexService(replace(service.config, storage=replace(service.config.storage)), peer_reactor)
        self.assertRaises(CannotListenError, other.startService)
        self.assertIsNone(other.address)
        await service.stopService()
        self.assertEqual(OPEN_DOORS, {})
        downloader = DownloaderFactory("memory", Config(), reactor=peer_reactor).build()
        self.assertIsInstance(downloader, MemoryDownloader)
        await self.assertFailure(downloader.download_piece(_PARENT, 0, "", "0" * 64), ParentUnreachable)

    def test_wrong_parent(self) -> None:
        """A parent that cannot be asked by the one transport that carries content is refused, either way."""
        for protocol, parent, expected in (
            ("memory", "grpc://h:1", "memory://HOST:PORT or memories://HOST:PORT for the protocol memory"),
            ("tcp", _PARENT, "tcp://HOST:PORT or tls://HOST:PORT or grpc://HOST:PORT or grpcs://HOST:PORT for"),
        ):
            parents = [ParentAddress.from_text(parent)]
            error = self.assertRaises(
                WrongTransport, negotiate, protocol, Config(download=DownloadConfig()), parents, reactor=peer_reactor
            )
            self.assertIn(expected, str(error))
