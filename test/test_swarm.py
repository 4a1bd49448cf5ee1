"""Peers that fetch the same task at the same time: each gives the others what it has."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.trial.unittest import TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cli.parents import Parents
from dragonfly_vortex.config import (
    Config,
    DiscoveryConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.downloaders.factory import negotiate
from dragonfly_vortex.events import DownloadedTask
from dragonfly_vortex.peer_exchange import PeerExchange, askers_file
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.wire import PieceKind

_REACTOR = cast(IPeerReactor, reactor)

_LIMIT = 400_000
"""Bytes per second that each peer sends: so few that the network is short, and not the processor."""

_PIECE_LENGTH, _PIECES = 50_000, 32

_TICK = 0.05


class SwarmTests(TestCase):
    """Real peers in one process, each with a storage, both doors and an upload limit."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.content = os.urandom(_PIECES * _PIECE_LENGTH)
        self.task_id = hashlib.sha256(self.content).hexdigest()
        self.configs: dict[str, Config] = {}

    async def start(self, name: str) -> str:
        """A peer, which names peers to each other; its address."""
        server = StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=0))
        config = Config(
            storage=StorageConfig(dir=self.directory / name, server=server),
            upload=UploadConfig(bandwidth_limit=_LIMIT, server=UploadServerConfig(ip="127.0.0.1", port=0)),
            metrics=MetricsConfig(enable=False),
            discovery=DiscoveryConfig(peer_exchange=True),
        )
        service = VortexService(config, _REACTOR)
        service.startService()
        self.addCleanup(service.stopService)
        while (address := service.address_of("grpc")) is None:
            await deferLater(_REACTOR, _TICK)
        parent = f"grpc://127.0.0.1:{cast(IPv4Address, address).port}"
        self.configs[parent] = config
        return parent

    async def start_with_task(self, name: str) -> str:
        """A peer that has the task; its address."""
        file = self.directory / f"{name}.file"
        file.write_bytes(self.content)
        await deferToThread(import_file, file, self.directory / name, PieceKind.STANDARD, _PIECE_LENGTH)
        return await self.start(name)

    async def download(self, peer: str, *parents: str, exchange: bool = False) -> DownloadedTask:
        """
        Have a peer fetch the task into its storage. As a daemon does, it offers pieces before they are on the disk: how
        busy that is does not matter here.

        :param exchange: whether it takes part in the exchange of peers.
        """
        config = self.configs[peer]
        in_thread = partial(deferToThreadPool, _REACTOR, _REACTOR.getThreadPool())
        named = [ParentAddress.from_text(each) for each in parents]
        askers = askers_file(config.storage.dir, PieceKind.STANDARD, self.task_id) if exchange else None
        known = Parents(_REACTOR, in_thread, named, None, config.discovery, self.fail, askers)
        own = PeerExchange(port=ParentAddress.from_text(peer).port, on_peers=known.meet) if exchange else None
        negotiation = negotiate("auto", config, known.read(), reactor=_REACTOR, exchange=own)
        store = PieceStore(config.storage.dir, _REACTOR)
        try:
            await store.start()
            await known.find(negotiation)
            download = TaskDownload(
                _REACTOR,
                in_thread,
                negotiation.downloader,
                kind=PieceKind.STANDARD,
                task_id=self.task_id,
                parents=parents,
                target=store.write_task(PieceKind.STANDARD, self.task_id, offers_early=True),
                announcers=negotiation.announcers,
            )
            known.follow(download)
            return await download.start()
        finally:
            await known.stop()
            await negotiation.downloader.stop()
            await store.stop()

    async def test_four_that_know_one(self) -> None:
        """Four that start together and know the first peer alone find each other, and get most from each other."""
        first = await self.start_with_task("first")
        peers = [await self.start(f"peer-{number}") for number in range(4)]
        done = await gatherResults(
            [Deferred.fromCoroutine(self.download(peer, first, exchange=True)) for peer in peers]
        )
        got = Counter[str]()
        for each in done:
            got.update({share.parent: share.content_length for share in each.shares})
        self.assertEqual(sum(got.values()), 4 * len(self.content))
        self.assertEqual(set(got), {first, *peers})
        self.assertLess(got[first], sum(got.values()) / 2)

    async def test_four(self) -> None:
        """
        Four that start together get most from each other, and no peer sends more than the task twice: with the limits,
        they need less than twice the time of one. The simulator's tests take the time.
        """
        first = await self.start_with_task("first")
        peers = [await self.start(f"peer-{number}") for number in range(4)]
        done = await gatherResults(
            [
                Deferred.fromCoroutine(self.download(peer, first, *(other for other in peers if other != peer)))
                for peer in peers
            ]
        )
        got = Counter[str]()
        for each in done:
            got.update({share.parent: share.content_length for share in each.shares})
        self.assertEqual(sum(got.values()), 4 * len(self.content))
        self.assertLess(max(got.values()), 2 * len(self.content))
