"""The downloads of running peers in the exchange of peers: real peers over loopback."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import (
    Config,
    DiscoveryConfig,
    DownloadConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.peer import VortexPeer
from dragonfly_vortex.events import PieceKept
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind
from test.rpc.local_peer import until

peer_reactor = cast(IPeerReactor, reactor)

LENGTH, PIECE_LENGTH = 200_000, 4096


class ExchangeTests(TestCase):
    """One peer with a task, and two that know it alone."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        file = self.directory / "file"
        file.write_bytes(os.urandom(LENGTH))
        task = import_file(file, self.directory / "first", PieceKind.STANDARD, piece_length=PIECE_LENGTH)
        self.task_id = task.task_id
        self.first = await self.start("first", limit=LENGTH // 2)

    async def start(
        self, name: str, *parents: VortexPeer, limit: int | None = None, exchange: bool = True
    ) -> VortexPeer:
        """
        Start a peer.

        :param limit: bytes per second that it sends; None for any.
        """
        server = StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=0))
        upload = UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0))
        config = Config(
            storage=StorageConfig(dir=self.directory / name, server=server),
            upload=upload if limit is None else replace(upload, bandwidth_limit=limit),
            download=DownloadConfig(parents=tuple(ParentAddress.from_text(self.address(each)) for each in parents)),
            metrics=MetricsConfig(enable=False),
            discovery=DiscoveryConfig(peer_exchange=True),
        )
        peer = VortexPeer(peer_reactor, config)
        peer.startService()
        self.addCleanup(peer.stopService)
        await until(lambda: peer.address_of("grpc"))
        return peer

    def address(self, peer: VortexPeer) -> str:
        """The address of its gRPC door."""
        return f"grpc://127.0.0.1:{getattr(peer.address_of('grpc'), 'port', 0)}"

    async def test_third_finds_second(self) -> None:
        """Two that download from the same peer find each other by it, and give each other pieces."""
        second, third = [await self.start(name, self.first) for name in ("second", "third")]
        senders = await gatherResults([Deferred.fromCoroutine(self.senders(each)) for each in (second, third)])
        self.assertIn(self.address(third), senders[0])
        self.assertIn(self.address(second), senders[1])

    async def senders(self, peer: VortexPeer) -> set[str]:
        """Have a peer download the task. The parents that have sent it pieces."""
        return {event.parent async for event in peer.download(self.task_id) if isinstance(event, PieceKept)}
