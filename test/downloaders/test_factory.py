"""The factory builds the downloader that a configuration describes, and announcers for parents with a gRPC address."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    DownloadTCPConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    TLSConfig,
)
from dragonfly_vortex.downloaders.auto import AutoDownloader
from dragonfly_vortex.downloaders.factory import DownloaderFactory, Negotiation, negotiate
from dragonfly_vortex.downloaders.pooled import GRPCDownloader, TCPDownloader
from dragonfly_vortex.errors import (
    CertificateUnusable,
    ParentUnreachable,
    PieceTimeout,
    UnknownProtocol,
    WrongTransport,
)
from dragonfly_vortex.interfaces import IDownloader, IPieceAnnouncer
from dragonfly_vortex.testing.contract_parent import Fault, Offer, VortexContractParent
from dragonfly_vortex.testing.pieces import TASK_ID, SamplePiece, sample_piece
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.transport.tls import server_tls_from
from test.certificates import Authority


class DownloaderFactoryTests(SynchronousTestCase):
    """Which downloader."""

    def test_tcp(self) -> None:
        """``tcp`` is a :class:`TCPDownloader`, and nothing has been connected or scheduled for it."""
        memory = MemoryReactorClock()
        downloader = DownloaderFactory("tcp", Config(), reactor=memory).build()
        verifyObject(IDownloader, downloader)
        self.assertIsInstance(downloader, TCPDownloader)
        self.assertEqual((memory.tcpClients, memory.getDelayedCalls()), ([], []))

    def test_auto(self) -> None:
        """``auto`` is an :class:`AutoDownloader`, and nothing has been connected or scheduled for it."""
        memory = MemoryReactorClock()
        downloader = DownloaderFactory("auto", Config(), reactor=memory).build()
        self.assertIsInstance(downloader, AutoDownloader)
        self.assertEqual((memory.tcpClients, memory.getDelayedCalls()), ([], []))

    def test_unknown(self) -> None:
        """Another protocol is refused, and those that there are are named."""
        for protocol in ("quic", "", "TCP"):
            factory = DownloaderFactory(protocol, Config(), reactor=MemoryReactorClock())
            error = self.assertRaises(UnknownProtocol, factory.build)
            self.assertEqual(str(error), f"unknown download protocol {protocol!r}: expected one of tcp, grpc, auto")

    def test_unusable_certificate(self) -> None:
        """A TLS file that cannot be used is reported when a downloader is built, whatever its protocol."""
        config = Config(tls=TLSConfig(ca_cert=Path("/nonexistent/ca.crt")))
        for protocol in ("tcp", "grpc", "auto"):
            factory = DownloaderFactory(protocol, config, reactor=MemoryReactorClock())
            self.assertEqual(self.assertRaises(CertificateUnusable, factory.build).file, "/nonexistent/ca.crt")


class ConfiguredTests(TestCase):
    """What the settings do, with a parent on a real socket."""

    def build(self, config: Config) -> IDownloader:
        """A downloader of that configuration."""
        downloader = DownloaderFactory("tcp", config, reactor=IReactorTCP(reactor)).build()
        self.addCleanup(downloader.stop)
        return downloader

    def parent(self, pieces: Iterable[SamplePiece], fault: Fault = Fault.NONE) -> VortexContractParent:
        """A parent that offers pieces."""
        offers = [Offer(piece=piece, fault=fault) for piece in pieces]
        parent = VortexContractParent(IReactorTCP(reactor), offers)
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    async def test_piece_timeout(self) -> None:
        """``piece_timeout`` is how long a piece may take."""
        downloader = self.build(Config(download=DownloadConfig(piece_timeout=0.1)))
        parent = self.parent([sample_piece(10)], Fault.SILENT)
        error = await self.assertFailure(downloader.download_piece(parent.address, 0, "", TASK_ID), PieceTimeout)
        self.assertRegex(str(error), r"within 0\.(1|0[89]\d*) s")  # what is left of it when the client is asked

    async def test_empty_digest(self) -> None:
        """``allow_empty_digest`` takes a piece without a digest."""
        downloader = self.build(Config(download=DownloadConfig(allow_empty_digest=True)))
        piece = sample_piece(10)
        got = await downloader.download_piece(self.parent([piece], Fault.NO_DIGEST).address, 0, "", TASK_ID)
        self.assertEqual((got.content, got.digest), (piece.content, ""))

    async def test_connections_per_address(self) -> None:
        """``connections_per_address`` is how many connections there are to one parent."""
        downloader = self.build(Config(download=DownloadConfig(tcp=DownloadTCPConfig(connections_per_address=3))))
        pieces = [sample_piece(10_000, number=number) for number in range(9)]
        parent = self.parent(pieces)
        await gatherResults([downloader.download_piece(parent.address, piece.number, "", TASK_ID) for piece in pieces])
        self.assertEqual((parent.connections, len(parent.requests)), (3, 9))

    async def test_capacity(self) -> None:
        """``capacity`` is how many parents there are connections to."""
        downloader = self.build(Config(download=DownloadConfig(tcp=DownloadTCPConfig(capacity=1))))
        first, second = self.parent([sample_piece(10)]), self.parent([sample_piece(10)])
        await downloader.download_piece(first.address, 0, "", TASK_ID)
        self.assertEqual(first.open_connections, 1)
        await downloader.download_piece(second.address, 0, "", TASK_ID)
        await first.until_deserted()
        self.assertEqual((first.connections, second.open_connections), (1, 1))

    async def test_idle_timeout(self) -> None:
        """``idle_timeout`` is how long an unused connection is kept."""
        downloader = self.build(Config(download=DownloadConfig(tcp=DownloadTCPConfig(idle_timeout=0.1))))
        parent = self.parent([sample_piece(10)])
        await downloader.download_piece(parent.address, 0, "", TASK_ID)
        await parent.until_deserted()
        self.assertEqual(parent.connections, 1)

    async def test_idle_timeout_of_a_connection(self) -> None:
        """``idle_timeout`` holds for each connection, also while another one to the same parent is busy."""
        downloader = self.build(Config(download=DownloadConfig(tcp=DownloadTCPConfig(idle_timeout=0.1))))
        offers = [Offer(piece=sample_piece(10)), Offer(piece=sample_piece(10, number=1), fault=Fault.SILENT)]
        parent = VortexContractParent(IReactorTCP(reactor), offers)
        parent.start()
        self.addCleanup(parent.stop)
        busy = downloader.download_piece(parent.address, 1, "", TASK_ID)
        await downloader.download_piece(parent.address, 0, "", TASK_ID)
        await parent.until(lambda: (parent.connections, parent.open_connections) == (2, 1))
        self.assertFalse(busy.called)
        busy.cancel()
        await self.assertFailure(busy, CancelledError)

    async def test_bandwidth_limit(self) -> None:
        """``bandwidth_limit`` holds for all connections in sum."""
        downloader = self.build(Config(download=DownloadConfig(bandwidth_limit=1_000_000)))
        pieces = [sample_piece(100_000, number=number) for number in range(4)]
        parent = self.parent(pieces)
        clock = IReactorTime(reactor)
        began = clock.seconds()
        await gatherResults([downloader.download_piece(parent.address, piece.number, "", TASK_ID) for piece in pieces])
        self.assertGreater(clock.seconds() - began, 0.3)  # for 400 kB

    async def test_splices(self) -> None:
        """Pieces go into files through one pipe, which is made with the first and closed when the downloader stops."""
        await deferLater(IReactorTime(reactor), 0)  # the reactor has a pipe of its own when it runs
        before = pipes()
        downloader = self.build(Config())
        parent = self.parent([sample_piece(3_000_000)])
        self.assertEqual(pipes(), before)
        with Path(self.mktemp()).open("w+b") as file:
            for offset in (0, 5):
                sink = FileSink(file.fileno(), offset)
                await downloader.download_piece(parent.address, 0, "", TASK_ID, sink)
                self.assertEqual(len(pipes() - before), 1)
                self.assertTrue(os.pread(file.fileno(), 3_000_000, offset) == sample_piece(3_000_000).content)
        await downloader.stop()
        self.assertEqual(pipes(), before)

    async def test_socket_options(self) -> None:
        """The server's socket options hold for the connections of a child, too, also under TLS."""
        tcp = StorageTCPConfig(nodelay=False)
        tcp = replace(tcp, keepalive=replace(tcp.keepalive, idle=7.0, interval=2.0, probes=4))
        storage = StorageConfig(server=StorageServerConfig(tcp=tcp))
        parent = self.parent([sample_piece(10)])
        await self.assert_options(self.build(Config(storage=storage)), parent)
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        under_tls = VortexContractParent(
            IReactorTCP(reactor),
            [Offer(piece=sample_piece(10))],
            tls=server_tls_from(authority.issue().identity()),
        )
        under_tls.start()
        self.addCleanup(under_tls.stop)
        await self.assert_options(self.build(Config(storage=storage, tls=TLSConfig(ca_cert=authority.file))), under_tls)

    async def assert_options(self, downloader: IDownloader, parent: VortexContractParent) -> None:
        """Assert that a connection to the parent has the options of the test."""
        await downloader.download_piece(parent.address, 0, "", TASK_ID)
        (connection,) = self.sockets_to(parent)
        self.assertEqual(
            [
                connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            ],
            [0, 1, 7, 2, 4],
        )

    def sockets_to(self, parent: VortexContractParent) -> list[socket.socket]:
        """The child's ends of the connections to a parent, which the reactor reads."""
        port = int(parent.address.rpartition(":")[2])
        handles = [getattr(reader, "socket", None) for reader in reactor.getReaders()]
        connected = [each for each in handles if isinstance(each, socket.socket) and not is_listening(each)]
        return [each for each in connected if each.getpeername()[1:2] == (port,)]


def pipes() -> set[str]:
    """The pipes that this process has open."""
    links = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            links.add(os.readlink(f"/proc/self/fd/{name}"))
    return {link for link in links if link.startswith("pipe:")}


def is_listening(each: socket.socket) -> bool:
    """Whether a socket accepts connections."""
    return each.family != socket.AF_INET or bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


_GRPC, _GRPCS, _TCP, _TLS = "grpc://192.0.2.1:4000", "grpcs://192.0.2.2:4000", "192.0.2.3:4005", "tls://192.0.2.4:4005"


class NegotiateTests(SynchronousTestCase):
    """What is made for which protocol and which parents."""

    def negotiate(self, protocol: str, parents: Sequence[str]) -> Negotiation:
        """Negotiate on a reactor that does nothing."""
        addresses = [ParentAddress.from_text(parent) for parent in parents]
        return negotiate(protocol, Config(), addresses, reactor=MemoryReactorClock())

    def test_auto(self) -> None:
        """Parents of all sorts have one downloader; those with a gRPC address have announcers."""
        made = self.negotiate("auto", (_GRPC, _TCP, _GRPCS, _TLS))
        self.assertIsInstance(made.downloader, AutoDownloader)
        self.assertEqual(list(made.announcers), [_GRPC, _GRPCS])
        for announcer in made.announcers.values():
            verifyObject(IPieceAnnouncer, announcer)
        self.assertIs(made.carried, cast(AutoDownloader, made.downloader).carried)

    def test_tcp(self) -> None:
        """With TCP alone gRPC tells of the pieces, and carries none: a parent that offers no TCP port gives none."""
        made = self.negotiate("tcp", (_GRPC, _TCP))
        self.assertEqual(list(made.announcers), [_GRPC])
        failing = made.downloader.download_piece(_GRPC, 0, "", "0" * 64)
        self.assertIn("offers no TCP port", str(self.failureResultOf(failing, ParentUnreachable).value))

    def test_grpc(self) -> None:
        """With gRPC alone it is the gRPC downloader."""
        made = self.negotiate("grpc", (_GRPC, _GRPCS))
        self.assertIsInstance(made.downloader, GRPCDownloader)
        self.assertEqual(list(made.announcers), [_GRPC, _GRPCS])

    def test_grpc_with_a_tcp_parent(self) -> None:
        """With gRPC alone a parent that has no gRPC address is refused, and named."""
        for parent in (_TCP, _TLS):
            error = self.assertRaises(WrongTransport, self.negotiate, "grpc", (_GRPC, parent))
            self.assertIn(f"got {parent}", str(error))

    def test_unknown(self) -> None:
        """A protocol that there is not is refused."""
        self.assertRaises(UnknownProtocol, self.negotiate, "quic", (_TCP,))

    def test_loads_grpc_for_grpc_parents_alone(self) -> None:
        """For parents of TCP nothing of gRPC is loaded, with ``auto`` neither."""
        program = (
            "import sys\n"
            "from twisted.internet.testing import MemoryReactorClock\n"
            "from dragonfly_vortex.config import default_config\n"
            "from dragonfly_vortex.downloaders.factory import negotiate\n"
            "from dragonfly_vortex.address import ParentAddress\n"
            "parents = [ParentAddress.from_text(text) for text in sys.argv[1:]]\n"
            "negotiate('auto', default_config(), parents, reactor=MemoryReactorClock())\n"
            "print('grpc' in sys.modules)\n"
        )
        for parents, loaded in (([_TCP, _TLS], "False"), ([_TCP, _GRPC], "True")):
            ran = subprocess.run([sys.executable, "-c", program, *parents], capture_output=True, text=True, check=True)
            self.assertEqual(ran.stdout.strip(), loaded)


class StopTests(TestCase):
    """What has been negotiated ends with the downloader."""

    timeout = 120

    async def test_stop(self) -> None:
        """Nothing is left after the downloader has been stopped, whether it was used or not."""
        for protocol in ("auto", "tcp", "grpc"):
            parents = [ParentAddress.from_text(_GRPC)]
            made = negotiate(protocol, Config(), parents, reactor=IReactorTCP(reactor))
            await made.downloader.stop()
