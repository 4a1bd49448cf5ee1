"""A parent that is named with the scheme of another port: one line says so, with one status, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dragonfly_vortex.cli.exit_status import ExitStatus, status_of
from dragonfly_vortex.config import (
    Config,
    MetricsConfig,
    MetricsServerConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.errors import OtherProtocol, ParentSpokeWrongly, ParentUnreachable, PieceError
from dragonfly_vortex.testing.pieces import TASK_ID
from test.certificates import Authority, Issued

PEER_REACTOR = cast(IPeerReactor, reactor)

_FINAL = (OtherProtocol, ParentSpokeWrongly)
"""After one of these a parent is not asked again."""


class WrongDoorTests(TestCase):
    """A peer with both doors."""

    timeout = 120
    metrics_port: int

    async def peer(self, certificate: Issued | None = None) -> tuple[int, int]:
        """The ports of a peer, with TLS if it has a certificate: of Vortex and of gRPC."""
        cert, key = (None, None) if certificate is None else (certificate.certificate, certificate.key)
        server = StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=0))
        config = Config(
            storage=StorageConfig(dir=Path(self.mktemp()).absolute(), server=server),
            upload=UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0, cert=cert, key=key)),
            metrics=MetricsConfig(server=MetricsServerConfig(ip="127.0.0.1", port=0)),
        )
        service = VortexService(config, PEER_REACTOR)
        service.startService()
        self.addCleanup(service.stopService)
        self.metrics_port = cast(IPv4Address, service.metrics_address).port
        while service.grpc_address is None:
            await deferLater(IReactorTime(reactor), 0.01)
        return cast(IPv4Address, service.address).port, cast(IPv4Address, service.grpc_address).port

    async def reason(self, protocol: str, parent: str, kinds: tuple[type[PieceError], ...] = _FINAL) -> str:
        """Why a piece cannot be had from there: for a reason that lasts, if no other kinds of error are named."""
        downloader = DownloaderFactory(protocol, Config(), reactor=PEER_REACTOR).build()
        try:
            with self.assertRaises(PieceError) as raised:
                await downloader.download_piece(parent, 0, "", TASK_ID)
        finally:
            await downloader.stop()
        self.assertEqual(raised.exception.parent, parent)
        self.assertIsInstance(raised.exception, kinds)
        self.assertIs(status_of(raised.exception), ExitStatus.UNREACHABLE)
        return str(raised.exception.reason)

    async def test_vortex_at_a_grpc_port(self) -> None:
        """``tcp://`` at a gRPC port."""
        _, port = await self.peer()
        reason = await self.reason("tcp", f"127.0.0.1:{port}")
        self.assertEqual(
            reason,
            "expected a Vortex reply, got what a gRPC port sends (HTTP/2): is it a grpc:// or grpcs:// address?",
        )

    async def test_grpc_at_a_vortex_port(self) -> None:
        """``grpc://`` at a Vortex port."""
        port, _ = await self.peer()
        reason = await self.reason("grpc", f"grpc://127.0.0.1:{port}")
        self.assertIn("is it a Vortex port (tcp://", reason)

    async def test_port_of_the_metrics(self) -> None:
        """Any scheme at the port of the metrics, at once."""
        await self.peer()
        for protocol, scheme, words in (
            ("tcp", "tcp", "what a web server sends"),
            ("tcp", "tls", "expected TLS, got something else"),
            ("grpc", "grpc", "it is a web server's port"),
            ("grpc", "grpcs", "expected TLS, got something else"),
        ):
            self.assertIn(words, await self.reason(protocol, f"{scheme}://127.0.0.1:{self.metrics_port}"))

    async def test_plain_at_ports_with_tls(self) -> None:
        """A scheme without TLS at doors that have it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        vortex, grpc = await self.peer(Authority(directory).issue())
        over_tcp = await self.reason("tcp", f"127.0.0.1:{vortex}", (OtherProtocol,))
        self.assertIn("expected TLS (tls://)", over_tcp)
        over_grpc = await self.reason("grpc", f"grpc://127.0.0.1:{grpc}", (ParentUnreachable,))
        self.assertIn("does the other side want TLS (grpcs://)", over_grpc)

    async def test_tls_at_plain_ports(self) -> None:
        """A scheme with TLS at doors without."""
        vortex, grpc = await self.peer()
        for protocol, parent in (("tcp", f"tls://127.0.0.1:{grpc}"), ("grpc", f"grpcs://127.0.0.1:{vortex}")):
            self.assertIn("expected TLS, got something else", await self.reason(protocol, parent))
