"""A whole peer with a local door in a cluster with one scheduler, which plays recorded conversations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads

from dragonfly_vortex.config.model import SchedulerConfig
from dragonfly_vortex.testing.fake_scheduler import FakeScheduler
from dragonfly_vortex.wire import PieceKind
from test.cluster.recordings import RECORDINGS
from test.rpc.local_peer import LocalPeerTestCase, peer_reactor, until

__all__ = ["ClusterTestCase"]


class ClusterTestCase(LocalPeerTestCase):
    """A peer that knows no parent but those that the scheduler offers."""

    kind = PieceKind.STANDARD

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.scheduler = FakeScheduler(IReactorFromThreads(peer_reactor), RECORDINGS)
        await self.scheduler.start()
        await super().setUp()

    async def start(self) -> None:
        self.addCleanup(self.scheduler.stop)  # behind the peer, which says that it leaves
        self.scheduler.parents = [("127.0.0.1", getattr(self.parent.grpc_address, "port", 0))]
        self.config = replace(
            self.config,
            download=replace(self.config.download, parents=()),
            scheduler=SchedulerConfig(addrs=(f"127.0.0.1:{self.scheduler.port}",)),
        )
        await super().start()
        await until(lambda: self.scheduler.hosts)

    def calls(self, name: str) -> list[Any]:
        """What the scheduler was asked by a method."""
        return [message for method, message in self.scheduler.calls if method == name]
