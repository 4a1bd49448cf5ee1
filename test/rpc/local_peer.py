"""A whole peer with a local door, and a parent for it, in this process; and calls to that door over a real socket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    DownloadServerConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.rpc.methods import LOCAL_SERVICE, task_methods
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind

__all__ = ["LENGTH", "PIECES", "PIECE_LENGTH", "LocalPeerTestCase", "until"]

_T = TypeVar("_T")

peer_reactor = cast(IPeerReactor, reactor)

LENGTH, PIECE_LENGTH, PIECES = 100_000, 4096, 25
"""Of the one task that the parent has: bytes, bytes of a piece, and pieces."""


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true; the test's timeout bounds this."""
    while not condition():
        await deferLater(peer_reactor, 0.01)


class LocalPeerTestCase(TestCase):
    """A parent that serves one task, and a peer with a local door and an empty storage."""

    timeout = 120

    kind = PieceKind.PERSISTENT_CACHE
    """Of the task."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        directory = tempfile.TemporaryDirectory(prefix="dfl")  # a socket's path must be short
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.content = os.urandom(LENGTH)
        self.directory.joinpath("file").write_bytes(self.content)
        self.sent = Tally()
        server = StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=0))
        upload = UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0))
        metrics = MetricsConfig(enable=False)
        storage = StorageConfig(dir=self.directory / "parent", server=server)
        parent = Config(storage=storage, upload=upload, metrics=metrics)
        self.task_id = import_file(
            self.directory / "file", parent.storage.dir, self.kind, piece_length=PIECE_LENGTH
        ).task_id
        self.parent = VortexService(parent, peer_reactor, tally=self.sent)
        self.parent.startService()
        self.addCleanup(self.parent.stopService)
        await until(lambda: self.parent.grpc_address)
        port = getattr(self.parent.grpc_address, "port", 0)
        self.config = replace(
            parent,
            storage=replace(parent.storage, dir=self.directory / "storage"),
            download=DownloadConfig(
                parents=(ParentAddress.from_text(f"grpc://127.0.0.1:{port}"),),
                server=DownloadServerConfig(socket_path=self.directory / "peer.sock"),
            ),
        )
        await self.start()

    async def start(self) -> None:
        """Start the peer."""
        self.peer = VortexService(self.config, peer_reactor)
        self.peer.startService()
        self.addCleanup(self.peer.stopService)
        await until(lambda: self.peer.local_address)
        channel = grpc.insecure_channel(f"unix:{self.directory}/peer.sock", [("grpc.max_receive_message_length", -1)])
        self.addCleanup(deferToThread, channel.close)  # it may wait for what the reactor answers
        self.channel: Any = channel

    def in_thread(self, function: Callable[[], _T]) -> Deferred[_T]:
        """Call what blocks."""
        return deferToThread(function)

    def call(self, name: str, message: Message) -> Deferred[Any]:
        """Call a method of the local door. Fires with the reply, or with all replies of a stream."""
        (method,) = (each for each in task_methods(LOCAL_SERVICE) if each.name == name)
        path = f"/{LOCAL_SERVICE}/{name}"
        if not method.is_stream:
            call = self.channel.unary_unary(path, type(message).SerializeToString, method.reply.FromString)
            return self.in_thread(lambda: call(message, timeout=120))
        stream = self.channel.unary_stream(path, type(message).SerializeToString, method.reply.FromString)
        return self.in_thread(lambda: list(stream(message, timeout=120)))

    def export(self, **wishes: Any) -> Deferred[Any]:
        """Have the task downloaded."""
        request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(**{"task_id": self.task_id, **wishes})
        return self.call("DownloadPersistentCacheTask", request)

    async def refusal(self, call: Deferred[Any]) -> tuple[grpc.StatusCode, str]:
        """What a call ends with."""
        error: Any = await self.assertFailure(call, grpc.RpcError)
        return error.code(), error.details()
