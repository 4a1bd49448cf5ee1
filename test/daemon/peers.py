"""Peers of a program, for tests: one with a task, and others without."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import TestCase

from dragonfly_vortex import VortexPeer
from dragonfly_vortex.config import (
    Config,
    HostConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind

__all__ = ["COUNT", "PIECE", "REACTOR", "PeerTestCase", "address_of"]

REACTOR = cast(IPeerReactor, reactor)
PIECE = 65536
COUNT = 20


class PeerTestCase(TestCase):
    """Peers in a directory of their own."""

    timeout = 120

    def setUp(self) -> None:
        # Not trial's own: the path of a socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.content = os.urandom(COUNT * PIECE - 100)
        self.task_id = hashlib.sha256(self.content).hexdigest()
        self.path = self.directory / "file"
        self.path.write_bytes(self.content)

    def peer(self, name: str, **keywords: Any) -> VortexPeer:
        """A peer that is started."""
        peer = VortexPeer(REACTOR, storage=self.directory / name, **keywords)
        peer.startService()
        self.addCleanup(peer.stopService)
        return peer

    async def parent(self, listen: str = "tcp:0:interface=127.0.0.1", **keywords: Any) -> VortexPeer:
        """A peer that has the task."""
        import_file(self.path, self.directory / "parent", PieceKind.STANDARD, PIECE)
        parent = self.peer("parent", listen=[listen], **keywords)
        await parent.ready()
        return parent

    async def announcing_parent(self) -> str:
        """A peer that has the task and announces its pieces; its address."""
        import_file(self.path, self.directory / "parent", PieceKind.STANDARD, PIECE)
        config = Config(
            host=HostConfig(ip="127.0.0.1"),
            storage=StorageConfig(
                dir=self.directory / "parent",
                server=StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=0)),
            ),
            upload=UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0)),
            metrics=MetricsConfig(enable=False),
        )
        parent = VortexPeer(REACTOR, config)
        parent.startService()
        self.addCleanup(parent.stopService)
        await parent.ready()
        return f"grpc://127.0.0.1:{cast(IPv4Address, parent.grpc_address).port}"


def address_of(peer: VortexPeer) -> str:
    """The address of a peer on this machine."""
    return f"127.0.0.1:{cast(IPv4Address, peer.address).port}"
