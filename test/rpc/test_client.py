"""What the gRPC client does beyond the contract of downloaders, with real parents that answer any bytes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import grpc
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from benchmarks.processes import free_port
from dragonfly_vortex.errors import (
    DigestMismatch,
    LocalProtocolError,
    ParentFailed,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceLate,
    PieceTimeout,
    PoolClosed,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.client import GRPCClient
from dragonfly_vortex.rpc.codec import encode_piece, metadata_digest
from dragonfly_vortex.rpc.limits import Budget
from dragonfly_vortex.testing.pieces import TASK_ID, sample_piece
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.wire import PieceKind
from test.rpc.by_hand import LEGACY_PATHS, piece_reply, read_fields
from test.rpc.clocks import ClockReactor

_Error = TypeVar("_Error", bound=BaseException)

_REACTOR = cast(IRPCReactor, reactor)


class _Handlers(grpc.GenericRpcHandler):
    """Answers as the test says."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self._answer = answer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method not in LEGACY_PATHS.values():
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(int(cast(int, read_fields(request).get(3, 0))))
        )


class ClientTests(TestCase):
    """A client and a parent on real sockets."""

    timeout = 120

    def parent(self, answer: Callable[[int], bytes]) -> str:
        """
        The address of a parent.

        :param answer: the reply to a request for a number; called in a thread.
        """
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Handlers(answer),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(deferToThread, lambda: server.stop(None).wait() and None)
        return f"127.0.0.1:{port}"

    def client(self, address: str, **settings: Any) -> GRPCClient:
        """A client that is stopped in the end."""
        client = GRPCClient(address, GRPCSettings(reactor=_REACTOR, **settings))
        self.addCleanup(client.stop)
        return client

    async def failure(self, downloading: Deferred[DownloadPieceResponse], error: type[_Error]) -> _Error:
        """What a download fails with."""
        try:
            await downloading
        except error as failed:
            return failed
        raise self.failureException(f"expected {error.__name__}, got the piece")

    async def refused(self, reply: bytes, error: type[_Error]) -> str:
        """Why a reply is refused; the piece that is asked for is 1."""
        client = self.client(self.parent(lambda number: reply))
        return str(await self.failure(client.download_piece(sample_piece(1, number=1).request(), 120), error))

    async def test_metadata_digest(self) -> None:
        """Metadata that do not fit their digest are refused; without a digest of theirs, or with the right one, not."""
        piece = sample_piece(1000, number=1)
        await self.refused(piece_reply(piece, metadata_digest="crc32:1"), DigestMismatch)
        error = await self.refused(piece_reply(piece, metadata_digest="\x1b[2J\n" * 1000), DigestMismatch)
        self.assertTrue(str(error).isprintable(), error)
        for digest in (None, metadata_digest(piece.metadata)):
            client = self.client(self.parent(lambda number, digest=digest: piece_reply(piece, metadata_digest=digest)))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            response = await client.download_piece(piece.request(), 120)
            self.assertEqual(response.content, piece.content)

    async def test_length(self) -> None:
        """Content of another length than the metadata say is refused, even if it fits its digest."""
        piece = sample_piece(1000, number=1)
        for length in (999, 1001, 0):
            reply = piece_reply(replace(piece, metadata=replace(piece.metadata, length=length)))
            self.assertIn(f"expected {length} bytes", await self.refused(reply, UnexpectedPiece))

    async def test_no_reply(self) -> None:
        """Bytes that are no reply are the parent's fault."""
        self.assertIn("a reply with a piece", await self.refused(b"", ParentSpokeWrongly))
        await self.refused(b"\xff\xff", ParentSpokeWrongly)

    async def test_too_long(self) -> None:
        """A reply that is longer than announced, or than Dragonfly's pieces, is refused before it is in memory."""
        for length, announced in ((2_000_000, 1_000_000), (2_000_000, 5), (70_000_000, None)):
            reply = piece_reply(sample_piece(length))
            client = self.client(self.parent(lambda number, reply=reply: reply))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            request = replace(sample_piece(1).request(), announced_length=announced)
            error = await self.failure(client.download_piece(request, 120), UnexpectedPiece)
            self.assertIn("larger than max", str(error))

    async def test_announced_length(self) -> None:
        """Pieces whose length is announced are counted for it, and longer ones than Dragonfly's come as well."""
        piece = sample_piece(70_000_000)
        client = self.client(self.parent(lambda number: piece_reply(piece)), budget=Budget(1 << 40))
        request = replace(piece.request(), announced_length=len(piece.content))
        self.assertEqual((await client.download_piece(request, 120)).content, piece.content)

    async def test_unknown_method(self) -> None:
        """A parent that has not got the method, as the newest have not, has failed."""
        server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(deferToThread, lambda: server.stop(None).wait() and None)
        client = self.client(f"127.0.0.1:{port}")
        error = await self.failure(client.download_piece(sample_piece(1).request(), 120), ParentFailed)
        self.assertIn("UNIMPLEMENTED", str(error))

    async def test_any_task(self) -> None:
        """A task's ID may have any length here; one that is no text cannot be asked for."""
        client = self.client(self.parent(lambda number: piece_reply(sample_piece(1))))
        request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id="a" * 128, number=0)
        await client.download_piece(request, 120)
        for wrong in (replace(request, task_id="\udc80"), replace(request, number=1 << 32)):
            await self.failure(client.download_piece(wrong, 120), LocalProtocolError)

    async def test_wrong_address(self) -> None:
        """An address that is none cannot be reached."""
        await self.failure(self.client("nowhere").download_piece(sample_piece(1).request(), 120), ParentUnreachable)

    async def test_mute_parent(self) -> None:
        """A port that accepts and says nothing is unreachable after the time to connect, not after the piece's."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            client = self.client(f"127.0.0.1:{mute.getsockname()[1]}", connect_timeout=0.5)
            # The piece has more seconds than this test may take.
            await self.failure(client.download_piece(sample_piece(1).request(), 1000), ParentUnreachable)

    async def test_comes_back(self) -> None:
        """A parent that was away is reached again soon after its return."""
        port = free_port()
        client = self.client(f"127.0.0.1:{port}")
        await self.failure(client.download_piece(sample_piece(1).request(), 120), ParentUnreachable)
        server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Handlers(lambda number: piece_reply(sample_piece(1))),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        self.addCleanup(deferToThread, lambda: server.stop(None).wait() and None)
        while True:
            try:
                await client.download_piece(sample_piece(1).request(), 120)
                break
            except ParentUnreachable:
                await deferToThread(time.sleep, 0.02)

    async def test_memory(self) -> None:
        """Pieces of an unknown task count as the longest there are; once one has arrived, as long as it was."""
        asked: list[int] = []
        gate = threading.Event()
        self.addCleanup(gate.set)

        def answer(number: int) -> bytes:
            asked.append(number)
            gate.wait(120)
            piece = sample_piece(1000, number=number)
            return b"".join(encode_piece(piece.metadata, piece.content))

        async def until_asked(count: int) -> None:
            while len(asked) < count:
                await deferLater(_REACTOR, 0.01)

        budget = Budget(2 * 64 * 1024 * 1024)
        client = self.client(self.parent(answer), budget=budget)
        requests = [sample_piece(1000, number=number).request() for number in range(6)]
        coming = [client.download_piece(request, 120) for request in requests]
        await until_asked(2)
        self.assertEqual((len(asked), budget.taken), (2, budget.total))
        gate.set()
        await gatherResults(coming)
        gate.clear()
        coming = [client.download_piece(request, 120) for request in requests]
        await until_asked(12)
        gate.set()
        await gatherResults(coming)
        self.assertEqual(budget.taken, 0)

    async def test_waiting_for_memory(self) -> None:
        """A piece that finds no room in its time has timed out, and one that is cancelled gives its place up."""
        budget = Budget(10)
        place = budget.enter(10, lambda: None)
        client = self.client(self.parent(lambda number: piece_reply(sample_piece(1))), budget=budget)
        await self.failure(client.download_piece(sample_piece(1).request(), 0.05), PieceTimeout)
        waiting = client.download_piece(sample_piece(1).request(), 120)
        place.leave()
        await waiting
        self.assertEqual(budget.taken, 0)

    async def test_time_counts_from_the_last_piece(self) -> None:
        """A piece that comes shows that the parent is there: the others have their time anew, and are late after it."""
        answered, never = threading.Event(), threading.Event()
        self.addCleanup(never.set)

        def answer(number: int) -> bytes:
            (answered if number == 1 else never).wait(120)
            return piece_reply(sample_piece(1, number=number))

        clock = ClockReactor()
        client = GRPCClient(self.parent(answer), GRPCSettings(reactor=cast(IRPCReactor, clock)))
        self.addCleanup(client.stop)
        late = client.download_piece(sample_piece(1, number=2).request(), 100.0)
        comes = client.download_piece(sample_piece(1, number=1).request(), 500.0)
        clock.pump([1] * 70)
        answered.set()
        while not comes.called:
            await deferLater(_REACTOR, 0.01)
            clock.advance(0)
        clock.pump([1] * 90)
        self.assertFalse(late.called)
        clock.pump([1] * 11)
        await self.failure(late, PieceLate)

    async def test_limit(self) -> None:
        """Content is spent from the limiter, and the next piece waits for the debt."""
        limiter = TokenBucket(1_000_000, IReactorTime(reactor))
        piece = sample_piece(300_000)
        client = self.client(self.parent(lambda number: piece_reply(piece)), receive_limiter=limiter)
        begun = time.monotonic()
        await client.download_piece(piece.request(), 120)
        self.assertGreater(time.monotonic() - begun, 0.2)

    async def test_long_pieces_take_turns(self) -> None:
        """A long piece is verified and written in several turns of the reactor."""
        piece = sample_piece(9 * 1024 * 1024)
        turns: list[int] = []

        class _Sink:
            """Notes in which turn it is written."""

            def begin(self, metadata: object) -> None:
                _REACTOR.callLater(0, turns.append, 0)

            def write(self, data: bytes | memoryview) -> None:
                turns.append(len(data))

            def finish(self) -> None:
                """Nothing to do."""

            def fail(self) -> None:
                """Nothing to do."""

        client = self.client(self.parent(lambda number: piece_reply(piece)))
        await client.download_piece(piece.request(cast(Any, _Sink())), 120)
        self.assertEqual(turns[0], 4 * 1024 * 1024)
        self.assertIn(0, turns[1:3])
        self.assertEqual(sum(turns), len(piece.content))

    async def test_threads(self) -> None:
        """However many pieces are under way, one channel has one thread, and the reactor's pool none."""
        gate = threading.Event()
        self.addCleanup(gate.set)

        def answer(number: int) -> bytes:
            gate.wait(120)
            return piece_reply(sample_piece(1))

        def threads() -> int:
            path = "/proc/self/task"
            return len(os.listdir(path)) if os.path.isdir(path) else threading.active_count()

        client = self.client(self.parent(answer), budget=Budget(1 << 40))
        await_one = client.download_piece(sample_piece(1).request(), 120)
        before = threads()
        others = [client.download_piece(sample_piece(1).request(), 120) for _ in range(50)]
        self.assertEqual([thread.name for thread in threading.enumerate()].count("grpc-child"), 1)
        self.assertLess(threads() - before, 25)  # the parent's own are among them, and a few of grpcio's
        gate.set()
        await gatherResults([await_one, *others])

    async def test_stop(self) -> None:
        """A client that has been stopped refuses; stopping does not wait for what is under way."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        long = sample_piece(20_000_000)

        def answer(number: int) -> bytes:
            if number:
                gate.wait()
            return piece_reply(long)

        client = self.client(self.parent(answer))
        await client.download_piece(long.request(), 120)
        failing = [self.failure(client.download_piece(numbered(number), 1000), PoolClosed) for number in range(4)]
        waiting = [Deferred.fromCoroutine(each) for each in failing]
        await client.stop()
        await gatherResults(waiting)
        await self.failure(client.download_piece(long.request(), 120), PoolClosed)


def numbered(number: int) -> DownloadPieceRequest:
    """A request for a piece."""
    return DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=TASK_ID, number=number)
