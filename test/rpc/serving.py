"""A storage with an upload service on a real socket, for tests of what it answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from dragonfly_api import dfdaemon_pb2_grpc
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config.model import HostConfig
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.rpc.server import UploadService
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind
from test.rpc.by_hand import LEGACY_PATHS
from test.storage.contents import put_pieces

__all__ = ["LENGTH", "TASK_ID", "ServiceTestCase", "content_of"]

_T = TypeVar("_T")

TASK_ID = "ab" * 32
"""The task that tests serve."""

LENGTH = 100_000
"""Bytes of its pieces."""


def content_of(number: int) -> bytes:
    """A piece's bytes."""
    return random.Random(number).randbytes(LENGTH)


def stored_task(pieces: int, kind: PieceKind = PieceKind.STANDARD) -> StoredTask:
    """The row of a task of so many pieces."""
    return StoredTask(
        kind=kind, task_id=TASK_ID, content_length=pieces * LENGTH, piece_length=LENGTH, created_at=1_700_000_000
    )


class ServiceTestCase(TestCase):
    """A service over an empty storage. What a child does is done in a thread, with grpcio's synchronous client."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.directory = Path(self.mktemp()).absolute()
        self.store = PieceStore(self.directory, IReactorFromThreads(reactor))
        await self.store.start()
        self.addCleanup(self.store.stop)
        self.vortex_port: int | None = 4005
        self.service = self.make_service()
        self.addCleanup(lambda: self.service.stop(0.1))
        address = cast(IPv4Address, await self.service.startService())
        self.port = address.port
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.port}",
            [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
        )
        self.addCleanup(deferToThread, self.channel.close)  # it may wait for what the reactor answers
        self.stub: Any = dfdaemon_pb2_grpc.DfdaemonUploadStub(self.channel)

    def make_service(self, **settings: Any) -> UploadService:
        """The service that is tested."""
        return UploadService(
            self.store,
            IReactorFromThreads(reactor),
            ip="127.0.0.1",
            port=0,
            host=HostConfig(ip="192.0.2.7", hostname="peer"),
            vortex_port=lambda: self.vortex_port,
            **settings,
        )

    def add_piece(self, number: int) -> Deferred[None]:
        """Add a piece of a task of three."""
        return deferToThread(put_pieces, self.directory, stored_task(3), {number: content_of(number)})

    def add(self, *numbers: int, pieces: int = 3, kind: PieceKind = PieceKind.STANDARD) -> Deferred[None]:
        """Add a task, and these of its pieces, in place of the one of another kind."""
        contents = {number: content_of(number) for number in numbers}

        def put() -> None:
            with Catalog(self.directory) as catalog:
                for other in set(PieceKind) - {kind}:
                    catalog.remove_task(other, TASK_ID)
            put_pieces(self.directory, stored_task(pieces, kind), contents)

        return deferToThread(put)

    def child(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have a child do something, in a thread."""
        return deferToThread(work)

    def in_reactor(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What a child in its thread has done in the reactor's."""
        return blockingCallFromThread(cast(Any, reactor), work, *arguments)

    def legacy_call(self, kind: PieceKind = PieceKind.STANDARD) -> Any:
        """The method that gives a piece, by its legacy name and with nothing but bytes."""
        return self.channel.unary_unary(LEGACY_PATHS[kind])

    def refusal(self, call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
        """What a call is refused with; in a child's thread."""
        try:
            call()
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call):
                return error.code(), error.details() or ""
            raise
        raise self.failureException("expected an error, got a reply")
