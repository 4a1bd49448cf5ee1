"""The methods of the API, asked with dragonfly-api's own stubs and by hand, against a running service."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any
from zlib import crc32

import grpc
from dragonfly_api import common_pb2, dfdaemon_pb2, dfdaemon_pb2_grpc
from grpc import StatusCode
from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from dragonfly_vortex.errors import PieceDamaged, StorageError
from dragonfly_vortex.host_stats import NetworkMeter
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.task_metrics import PREFIX, TASK_TYPES, TaskMetrics
from dragonfly_vortex.peer_exchange import PEERS_KEY, PORT_KEY, Askers, askers_file
from dragonfly_vortex.rpc import servicer, streams
from dragonfly_vortex.rpc.host import HOST_INTERVAL
from dragonfly_vortex.rpc.limits import MAX_NUMBERS, MAX_REQUEST
from dragonfly_vortex.rpc.methods import METHODS, SYNC_HOST, path
from dragonfly_vortex.rpc.server import UploadService
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.wire import PieceKind
from test.metrics.page import values_of
from test.rpc.by_hand import LEGACY_PATHS, piece_request, read_reply
from test.rpc.serving import LENGTH, TASK_ID, ServiceTestCase, content_of

_WRITER = """
import sys
from pathlib import Path
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.wire import PieceKind, PieceMetadata

catalog = Catalog(Path(sys.argv[1]))
catalog.open()
print(flush=True)
for line in sys.stdin:
    number = int(line)
    task = catalog.get_task(PieceKind.STANDARD, sys.argv[2])
    catalog.commit_pieces(task, [PieceMetadata(
        number=number, offset=number * 100_000, length=100_000, digest="crc32:1")])
"""

_CHILDREN = """
import asyncio, sys
import grpc
from dragonfly_api import dfdaemon_pb2

async def main():
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options) for _ in range(10)]
    syncs = [channel.unary_stream("/dfdaemon.v2.DfdaemonUpload/SyncPieces") for channel in channels]
    request = dfdaemon_pb2.SyncPiecesRequest(task_id=sys.argv[2], interested_piece_numbers=range(3))
    streams = [sync(request.SerializeToString()) for sync in syncs]
    for stream in streams:
        await stream.read()
    print(flush=True)
    sys.stdin.readline()
    streams += [sync(request.SerializeToString()) for sync in syncs for _ in range(99)]
    for stream in streams[10:]:
        await stream.read()
    print(flush=True)
    for stream in streams:
        await stream.read()
    print(flush=True)
    for channel in channels:
        await channel.close()

asyncio.run(main())
"""


class DownloadTests(ServiceTestCase):
    """Pieces by the four methods."""

    async def test_by_hand(self) -> None:
        """A child of before January 2026, which has nothing but bytes, gets each kind under its own name."""
        for kind in LEGACY_PATHS:
            await self.add(0, 1, kind=kind)
            call = self.legacy_call(kind)
            got = read_reply(await self.child(lambda call=call: call(piece_request(TASK_ID, 1, "child"))))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            content = content_of(1)
            self.assertTrue(got.content == content)
            self.assertEqual((got.number, got.offset, got.length), (1, LENGTH, LENGTH))
            self.assertEqual(got.digest, f"crc32:{crc32(content)}")
            facts = (1).to_bytes(4, "big") + LENGTH.to_bytes(8, "big") * 2 + got.digest.encode()
            self.assertEqual(got.metadata_digest, f"crc32:{crc32(facts)}")

    async def test_by_the_stub(self) -> None:
        """The method that the API still has answers its stub."""
        await self.add(2, kind=PieceKind.CACHE)
        request = dfdaemon_pb2.DownloadCachePieceRequest(task_id=TASK_ID, piece_number=2)
        reply = await self.child(lambda: self.stub.DownloadCachePiece(request))
        self.assertTrue(reply.piece.content == content_of(2))

    async def test_refusals(self) -> None:
        """A piece that is not there is not found, in a task that is and in one that is not; bytes are invalid."""
        await self.add(0)
        call = self.legacy_call()
        for task_id, number in ((TASK_ID, 1), ("cd" * 32, 0), ("../../etc", 0)):
            code, text = await self.child(lambda t=task_id, n=number: self.refusal(lambda: call(piece_request(t, n))))  # type: ignore[misc]  # as above
            self.assertEqual((code, text), (StatusCode.NOT_FOUND, f"piece {task_id}-{number} not found"))
        code, _ = await self.child(lambda: self.refusal(lambda: call(b"\xff\xff")))
        self.assertIs(code, StatusCode.INVALID_ARGUMENT)

    async def test_damage(self) -> None:
        """A piece whose file is too short fails without a path, is marked, and is not found from then on."""
        await self.add(0, 1)
        (file,) = [path for path in (self.directory / "content").rglob(TASK_ID)]
        os.truncate(file, LENGTH + 5)
        call = self.legacy_call()
        refused = [await self.child(lambda: self.refusal(lambda: call(piece_request(TASK_ID, 1)))) for _ in range(2)]
        self.assertEqual([code for code, _ in refused], [StatusCode.INTERNAL, StatusCode.NOT_FOUND])
        self.assertNotIn("content", refused[0][1])
        self.assertEqual(len(self.flushLoggedErrors(PieceDamaged)), 1)
        (_, damaged) = await self.store.get_pieces(PieceKind.STANDARD, TASK_ID)
        self.assertIn("got 5", damaged.damage)

    async def test_storage_failure(self) -> None:
        """A storage that fails is an internal error; why stays in our log."""
        await self.add(0)
        await self.store.stop()
        call = self.legacy_call()
        code, text = await self.child(lambda: self.refusal(lambda: call(piece_request(TASK_ID, 0))))
        self.assertEqual((code, text), (StatusCode.INTERNAL, f"piece {TASK_ID}-0 could not be read from the storage"))
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)

    async def test_many(self) -> None:
        """Many more pieces than may be open at once all come, and leave no descriptor and no memory taken."""
        await self.add(0)
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

        def fetch() -> int:
            call = self.legacy_call()
            futures = [call.future(piece_request(TASK_ID, 0)) for _ in range(250)]
            for future in futures[200:]:
                future.cancel()
            return sum(len(future.result()) for future in futures[:200])

        self.assertGreater(await self.child(fetch), 200 * LENGTH)
        while before and len(os.listdir("/proc/self/fd")) >= before + 10:  # the last calls end a moment later
            await deferLater(IReactorTime(reactor), 0.01)

    async def test_unimplemented(self) -> None:
        """What a parent has nothing to do with is not implemented."""
        code, _ = await self.child(
            lambda: self.refusal(lambda: self.stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=TASK_ID)))
        )
        self.assertIs(code, StatusCode.UNIMPLEMENTED)


class CountTests(ServiceTestCase):
    """What is counted of what was asked."""

    def make_service(self, **settings: Any) -> UploadService:
        self.tally, self.metrics = Tally(), TaskMetrics(IReactorTime(reactor).seconds)
        self.limiter = UploadLimiter(1 << 40, IReactorTime(reactor))
        return super().make_service(tally=self.tally, metrics=self.metrics, limiter=self.limiter)

    async def test_pieces(self) -> None:
        """A piece's content is counted, and not what there is not; nothing is under way in the end."""
        await self.add(0, 1)
        call = self.legacy_call()
        for number in (0, 1):
            await self.child(lambda n=number: call(piece_request(TASK_ID, n)))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        for request in (piece_request(TASK_ID, 2), b"\xff\xff"):
            await self.child(lambda r=request: self.refusal(lambda: call(r)))  # type: ignore[misc]  # as above
        await self.until_idle()
        self.assertEqual(self.tally.bytes_sent, 2 * LENGTH)

    async def test_under_way(self) -> None:
        """A piece that waits for the limit is under way, until its child does not wait any more."""
        await self.add(0)
        self.limiter.spend(60 << 40)
        future = self.legacy_call().future(piece_request(TASK_ID, 0))
        while not self.tally.pieces_under_way:
            await deferLater(IReactorTime(reactor), 0.01)
        future.cancel()
        await self.until_idle()
        self.assertEqual(self.tally.bytes_sent, 0)

    async def until_idle(self) -> None:
        """Wait until no piece is under way."""
        while self.tally.pieces_under_way:
            await deferLater(IReactorTime(reactor), 0.01)

    async def test_stats(self) -> None:
        """Questions about a task are counted by its kind, and those without an answer."""
        await self.add(0, kind=PieceKind.CACHE)
        for kind in (PieceKind.CACHE, PieceKind.STANDARD, PieceKind.CACHE):
            row = METHODS[kind]
            request = row.stat_request(task_id=TASK_ID)
            ask = partial(getattr(self.stub, row.stat), request)
            await self.child(lambda a=ask, k=kind: a() if k is PieceKind.CACHE else self.refusal(a))  # type: ignore[misc]  # as above
        values = values_of(self.metrics.families())
        for name, counted in (("stat_task", (2, 0)), ("stat_local_task", (1, 1))):
            number = TASK_TYPES[PieceKind.CACHE if name == "stat_task" else PieceKind.STANDARD]
            totals = [values[f"{PREFIX}{name}_{which}total{{type={number}}}"] for which in ("", "failure_")]
            self.assertEqual(tuple(totals), counted, name)


class LimitTests(ServiceTestCase):
    """A service with a limit of its content."""

    def make_service(self, **settings: Any) -> UploadService:
        self.limiter = UploadLimiter(500_000, IReactorTime(reactor))
        return super().make_service(limiter=self.limiter)

    async def test_order(self) -> None:
        """Of pieces that wait for the limit, a first copy of each is sent before the second of any."""
        await self.add(0, 1)
        limiter = self.limiter
        limiter.spend(60 * 500_000)
        call, sent = self.legacy_call(), list[int]()
        futures = []
        for waiting, number in enumerate((0, 0, 1), 1):
            futures.append(call.future(piece_request(TASK_ID, number)))
            futures[-1].add_done_callback(lambda _, number=number: sent.append(number))
            while len(limiter._order) < waiting:
                await deferLater(IReactorTime(reactor), 0.01)
        limiter.give_back(60 * 500_000)
        for future in futures:
            await self.child(future.result)
        self.assertEqual(sent, [0, 1, 0])

    async def test_limit(self) -> None:
        """Pieces wait for the debt of those before."""
        await self.add(0)
        call = self.legacy_call()

        def fetch() -> float:
            begun = time.monotonic()
            for _ in range(3):
                call(piece_request(TASK_ID, 0))
            return time.monotonic() - begun

        self.assertGreater(await self.child(fetch), 0.3)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class StrangerTests(ServiceTestCase):
    """What strangers can make a service keep, with little memory and few calls."""

    def make_service(self, **settings: Any) -> UploadService:
        self.patch(servicer, "_QUESTIONS_IN_MEMORY", 3800)
        self.tally = Tally()
        return super().make_service(tally=self.tally, memory=4 * LENGTH, max_calls=8)

    def another_channel(self) -> grpc.Channel:
        """A connection of its own."""
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(deferToThread, channel.close)  # it may wait for what the reactor answers
        return channel

    def ask_and_do_not_read(self, calls: int) -> None:
        """Ask for a piece so many times on a connection of its own, with an HTTP/2 window that lets nothing through."""
        child = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(child.close)
        settings = b"\0\4" + bytes(4)  # SETTINGS_INITIAL_WINDOW_SIZE is 0
        child.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings))
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": LEGACY_PATHS[PieceKind.STANDARD],
            ":authority": "parent",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        block = b"".join(
            b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in line) for line in headers.items()
        )
        request = piece_request(TASK_ID, 0)
        message = b"\0" + len(request).to_bytes(4, "big") + request
        for stream in range(1, 2 * calls, 2):
            child.sendall(frame(1, 4, stream, block) + frame(0, 1, stream, message))

    async def test_two_that_do_not_read(self) -> None:
        """Two children that do not read what they asked for do not keep a third one waiting."""
        await self.add(0)
        for most in (2, 3):
            self.ask_and_do_not_read(3)
            while self.tally.bytes_sent < most * LENGTH:
                await deferLater(IReactorTime(reactor), 0.01)
        call = self.legacy_call()
        self.assertGreater(len(await self.child(lambda: call(piece_request(TASK_ID, 0), timeout=120))), LENGTH)
        self.assertEqual(self.tally.bytes_sent, 4 * LENGTH)
        self.assertGreaterEqual(self.tally.pieces_under_way, 6)

    async def test_long_questions(self) -> None:
        """A question that is too long is refused, each by its own limit."""
        await self.add(0)
        stat, sync = self.stub.StatLocalTask, self.stub.SyncPieces
        questions: list[tuple[Any, Any, StatusCode]] = [
            (stat, dfdaemon_pb2.StatLocalTaskRequest(task_id="x" * 20_000), StatusCode.INVALID_ARGUMENT),
            (sync, self.question(*[0] * (MAX_NUMBERS + 1)), StatusCode.INVALID_ARGUMENT),
            (sync, self.question(*range(10**6, 10**6 + MAX_REQUEST // 3)), StatusCode.RESOURCE_EXHAUSTED),
        ]
        for call, question, expected in questions:
            code, _ = await self.child(lambda c=call, q=question: self.refusal(lambda: list(c(q))))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            self.assertIs(code, expected)

    async def test_many_questions(self) -> None:
        """What is kept of questions has a bound, which one connection cannot use up; a stream's end makes room."""
        await self.add(0)
        question = self.question(*range(100))  # some 1,800 bytes are kept of it
        other: Any = dfdaemon_pb2_grpc.DfdaemonUploadStub(self.another_channel())

        def ask() -> None:
            first = self.stub.SyncPieces(question)
            next(first)
            if self.refusal(lambda: list(self.stub.SyncPieces(question)))[0] is not StatusCode.RESOURCE_EXHAUSTED:
                raise self.failureException("expected that there is no room")
            next(other.SyncPieces(question))
            first.cancel()
            while True:  # the service hears of the end a moment later
                with contextlib.suppress(grpc.RpcError):
                    next(self.stub.SyncPieces(question))
                    return

        await self.child(ask)

    async def test_many_calls(self) -> None:
        """Calls beyond the limit are refused, and served again when others have ended."""
        await self.add(0)

        def ask() -> tuple[StatusCode, str]:
            streams = [self.stub.SyncHost(dfdaemon_pb2.SyncHostRequest()) for _ in range(8)]
            for stream in streams:
                next(stream)
            refused = self.refusal(lambda: next(self.stub.SyncHost(dfdaemon_pb2.SyncHostRequest())))
            for stream in streams:
                stream.cancel()
            while True:
                with contextlib.suppress(grpc.RpcError):
                    next(self.stub.SyncHost(dfdaemon_pb2.SyncHostRequest()))
                    return refused

        self.assertIs((await self.child(ask))[0], StatusCode.RESOURCE_EXHAUSTED)

    def question(self, *numbers: int) -> Any:
        """What asks for pieces."""
        return dfdaemon_pb2.SyncPiecesRequest(task_id=TASK_ID, interested_piece_numbers=numbers)


class StatTests(ServiceTestCase):
    """What is known of a task."""

    async def test_lengths(self) -> None:
        """Each kind's method tells the lengths, where its message has them."""
        for kind, row in METHODS.items():
            await self.add(0, kind=kind)
            reply = await self.child(
                lambda row=row: getattr(self.stub, row.stat)(row.stat_request(task_id=TASK_ID))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            )
            fields = reply.DESCRIPTOR.fields_by_name
            expected = {"content_length": 3 * LENGTH, "piece_length": LENGTH, "piece_count": 3, "id": TASK_ID}
            for name, value in ({"task_id": TASK_ID} | expected).items():
                if name in fields:
                    self.assertEqual(getattr(reply, name), value, f"{row.stat}: {name}")
            self.assertEqual(reply.created_at.seconds, 1_700_000_000)

    async def test_unknown(self) -> None:
        """A task that is not there is not found, whatever its name."""
        for kind, row in METHODS.items():
            await self.add(0, kind=kind)
            for task_id in ("cd" * 32, "x", ""):
                request = row.stat_request(task_id=task_id)
                refused = await self.child(
                    lambda row=row, request=request: self.refusal(lambda: getattr(self.stub, row.stat)(request))  # type: ignore[misc]  # as above
                )
                self.assertIs(refused[0], StatusCode.NOT_FOUND)

    async def test_begun(self) -> None:
        """A task that is being downloaded is known before its first piece, without a length."""
        stat = partial(self.stub.StatLocalTask, dfdaemon_pb2.StatLocalTaskRequest(task_id=TASK_ID), timeout=120)
        self.assertIs((await self.child(lambda: self.refusal(stat)))[0], StatusCode.NOT_FOUND)
        self.patch(self.service._rpcs, "_is_coming", lambda kind, task_id: succeed(task_id == TASK_ID))
        reply = await self.child(stat)
        self.assertEqual((reply.task_id, reply.content_length, reply.piece_length), (TASK_ID, 0, 0))


class SyncTests(ServiceTestCase):
    """The streams of pieces."""

    def all_of(self, call: Any, request: object) -> list[Any]:
        """All that a stream tells; in a child's thread."""
        return list(call(request))

    def sync(self, *wanted: int, timeout: float | None = None, task_id: str = TASK_ID) -> Any:
        """Open a stream; in a child's thread."""
        request = dfdaemon_pb2.SyncPiecesRequest(task_id=task_id, interested_piece_numbers=wanted)
        return self.stub.SyncPieces(request, timeout=timeout)

    async def test_finished_task(self) -> None:
        """All pieces of a finished task are announced, each kind by its own method, and then the stream ends."""
        for kind, row in METHODS.items():
            await self.add(0, 1, 2, kind=kind)
            call = getattr(self.stub, row.sync)
            told = await self.child(
                partial(self.all_of, call, row.sync_request(**{"task_id": TASK_ID, row.interested: range(3)}))
            )
            facts = [(piece.number, piece.offset, piece.length) for piece in told]
            self.assertEqual(facts, [(0, 0, LENGTH), (1, LENGTH, LENGTH), (2, 2 * LENGTH, LENGTH)])
            if kind is not PieceKind.CACHE:  # whose message has no fields for it
                self.assertEqual({(piece.ip, piece.tcp_port) for piece in told}, {("192.0.2.7", 4005)})
                self.assertFalse(told[0].HasField("quic_port"))

    async def test_at_once(self) -> None:
        """A task that has been asked for is soon answered the same without a look at the storage."""
        await self.add(0, 1, 2)
        looks: list[Any] = []
        real = self.store.get_pieces

        def look(*arguments: Any) -> Any:
            looks.append(arguments)
            return real(*arguments)

        self.patch(self.store, "get_pieces", look)
        before = -1
        while len(looks) > before:  # the change of the storage may be seen only now
            before = len(looks)
            told = await self.child(lambda: list(self.sync(2, 7, 0, 0)))
            self.assertEqual([piece.number for piece in told], [2, 0, 0])
        self.assertEqual({(piece.ip, piece.tcp_port) for piece in told}, {("192.0.2.7", 4005)})

    async def test_open_behind_the_answer(self) -> None:
        """A real child's stream stays open for a moment behind many pieces, so that it hears other parents, too."""
        await self.add(*range(12), pieces=12)
        method, tonic = path(METHODS[PieceKind.STANDARD].sync), (("user-agent", "tonic/0.14.6"),)
        rpcs: Any = self.service._rpcs
        await self.child(lambda: list(self.sync(0)))  # the task is kept from now on
        for wanted, metadata, is_open in ((range(12), tonic, True), (range(12), (), False), (range(2), tonic, False)):
            request = dfdaemon_pb2.SyncPiecesRequest(task_id=TASK_ID, interested_piece_numbers=wanted)
            answer = rpcs.answer_at_once(method, metadata, request.SerializeToString())
            self.assertEqual((len(answer.messages), answer.linger > 0), (len(wanted), is_open))

    async def test_host_at_once(self) -> None:
        """A real child hears about the host at once; its handler goes on after the second of an interval."""
        method, tonic = path(SYNC_HOST), (("user-agent", "tonic/0.14.6"),)
        rpcs: Any = self.service._rpcs
        question = dfdaemon_pb2.SyncHostRequest(host_id="child").SerializeToString()
        answer = rpcs.answer_at_once(method, tonic, question)
        self.assertEqual((answer.linger, answer.goes_on), (HOST_INTERVAL, True))
        (message,) = answer.messages
        self.assertEqual(common_pb2.Host.FromString(message).port, rpcs.host.message.port)
        self.assertIsNone(rpcs.answer_at_once(method, (), question))
        self.assertIsNone(rpcs.answer_at_once(method, tonic, b"no message"))

    async def test_no_door(self) -> None:
        """Without a Vortex door no port is announced."""
        await self.add(0, pieces=1)
        self.vortex_port = None
        (told,) = await self.child(lambda: list(self.sync(0)))
        self.assertFalse(told.HasField("tcp_port"))

    async def test_wanted(self) -> None:
        """
        Only the wanted pieces are announced; one that a finished task does not have does not keep the stream open.
        """
        await self.add(0, 1, 2)
        self.assertEqual([piece.number for piece in await self.child(lambda: list(self.sync(2, 7)))], [2])

    async def test_as_asked(self) -> None:
        """
        Pieces are announced in the order in which they are requested, twice if requested twice; for no number, none is.
        """
        await self.add(0, 1, 2)
        for wanted in ([2, 0], [1, 1, 0, 1], [], [2**32 - 1, 2]):
            told = await self.child(lambda wanted=wanted: [piece.number for piece in self.sync(*wanted, timeout=120)])  # type: ignore[misc]  # as above
            self.assertEqual(told, [number for number in wanted if number < 3])

    async def test_as_asked_of_what_comes(self) -> None:
        """
        Later pieces are announced as often as they were requested, and then the stream of an unfinished task ends.
        """
        await self.add(0)

        def follow() -> list[int]:
            stream = self.sync(1, 0, 1)
            told = [next(stream).number]
            self.in_reactor(self.add_piece, 1)
            return told + [piece.number for piece in stream]

        self.assertEqual(await self.child(follow), [0, 1, 1])

    async def test_no_number_of_an_unfinished_task(self) -> None:
        """A stream without a number ends at once, and fails where there is no such task."""
        await self.add(0)
        self.assertEqual(await self.child(lambda: list(self.sync())), [])
        code, _ = await self.child(lambda: self.refusal(lambda: list(self.sync(task_id="cd" * 32))))
        self.assertIs(code, StatusCode.INTERNAL)

    async def test_all_wanted_are_there(self) -> None:
        """The stream of an unfinished task ends when all that was wanted has been announced."""
        await self.add(0, 2)
        self.assertEqual([piece.number for piece in await self.child(lambda: list(self.sync(0, 2)))], [0, 2])

    async def test_unknown(self) -> None:
        """An unknown task is an internal error with those words, as with the reference."""
        code, text = await self.child(lambda: self.refusal(lambda: list(self.sync(0, task_id="cd" * 32))))
        self.assertEqual((code, text), (StatusCode.INTERNAL, f"task {'cd' * 32} not found"))

    async def test_as_they_come(self) -> None:
        """Headers come at once, then what is there, then each piece before the next is added; then the stream ends."""
        await self.add(0)

        def follow() -> list[int]:
            stream = self.sync(0, 1, 2)
            stream.initial_metadata()
            told = [next(stream).number]
            for number in (2, 1):
                self.in_reactor(self.add_piece, number)
                told.append(next(stream).number)
            return told + [piece.number for piece in stream]

        self.assertEqual(await self.child(follow), [0, 2, 1])

    async def test_headers_at_once(self) -> None:
        """Headers come before the first piece is there."""
        await self.add()

        def look() -> None:
            stream = self.sync(0, 1, 2)
            stream.initial_metadata()
            stream.cancel()

        await self.child(look)

    async def test_another_process(self) -> None:
        """A piece that another process writes while the stream is open is announced, too."""
        await self.add(0)

        def follow() -> list[int]:
            with subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(self.directory), TASK_ID],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as writer:
                if writer.stdin is None or writer.stdout is None:
                    raise self.failureException("expected pipes")
                writer.stdout.readline()
                stream = self.sync(0, 1)
                told = [next(stream).number]
                writer.stdin.write(b"1\n")
                writer.stdin.flush()
                return told + [piece.number for piece in stream]

        self.assertEqual(await self.child(follow), [0, 1])

    async def test_deadline(self) -> None:
        """A stream ends well before its caller's deadline, with what is there."""
        await self.add(0)
        self.patch(streams, "_BEFORE_DEADLINE", 115.0)

        def follow() -> tuple[list[int], StatusCode]:
            stream = self.sync(0, 1, timeout=120)
            return [piece.number for piece in stream], stream.code()

        self.assertEqual(await self.child(follow), ([0], StatusCode.OK))

    async def test_deadline_of_a_real_child(self) -> None:
        """A real child's timeout is for the headers: its stream is open for as long as pieces are to come."""
        await self.add(0)
        self.patch(streams, "_BEFORE_DEADLINE", 120.0)  # a stream of another child would end at once

        def follow() -> tuple[list[int], StatusCode]:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.primary_user_agent", "tonic/0.14.6")]
            with grpc.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
                request = dfdaemon_pb2.SyncPiecesRequest(task_id=TASK_ID, interested_piece_numbers=[0, 1])
                stub: Any = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
                stream = stub.SyncPieces(request, timeout=120)
                told = [next(stream).number]
                self.in_reactor(self.add_piece, 1)
                return told + [piece.number for piece in stream], stream.code()

        self.assertEqual(await self.child(follow), ([0, 1], StatusCode.OK))

    async def test_removed(self) -> None:
        """A task that goes away under a stream ends it with the error of an unknown one."""
        await self.add(0)

        def follow() -> tuple[StatusCode, str]:
            stream = self.sync(0, 1, 2)
            next(stream)
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import sys; from pathlib import Path; from dragonfly_vortex.storage.catalog import Catalog;"
                    "from dragonfly_vortex.wire import PieceKind;"
                    "c = Catalog(Path(sys.argv[1])); c.open(); c.remove_task(PieceKind.STANDARD, sys.argv[2])",
                    str(self.directory),
                    TASK_ID,
                ],
                check=True,
            )
            return self.refusal(lambda: list(stream))

        self.assertEqual((await self.child(follow))[0], StatusCode.INTERNAL)

    async def test_a_thousand_streams(self) -> None:
        """A thousand open streams need no thread of their own and do not stop a unary call; all hear of a piece."""
        await self.add(0)
        call = self.legacy_call()

        def threads() -> int:
            path = "/proc/self/task"
            return len(os.listdir(path)) if os.path.isdir(path) else threading.active_count()

        def follow() -> int:
            # The children are in another process: their threads do not count, and their event loop ends with it.
            with subprocess.Popen(
                [sys.executable, "-c", _CHILDREN, str(self.port), TASK_ID],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as children:
                if children.stdin is None or children.stdout is None:
                    raise self.failureException("expected pipes")
                children.stdout.readline()
                call(piece_request(TASK_ID, 0))
                few = threads()
                children.stdin.write(b"more\n")
                children.stdin.flush()
                children.stdout.readline()
                grown = threads() - few
                for _ in range(20):
                    call(piece_request(TASK_ID, 0), timeout=120)
                self.in_reactor(self.add_piece, 1)
                children.stdout.readline()
                return grown

        # grpcio adds a few threads by itself on a busy machine.
        self.assertLess(await self.child(follow), 50)


class ExchangeTests(ServiceTestCase):
    """Peers that are made known to each other."""

    def make_service(self, **settings: Any) -> UploadService:
        """The service, which remembers who asks."""
        self.askers = Askers(self.directory, IReactorTime(reactor).seconds)
        return super().make_service(askers=self.askers, **settings)

    def ask(self, *ports: str, task_id: str = TASK_ID) -> list[str]:
        """Ask for no piece, and say these ports; the peers that are named. In a child's thread."""
        metadata = [(PORT_KEY, port) for port in ports]
        request = dfdaemon_pb2.SyncPiecesRequest(task_id=task_id)
        stream = self.stub.SyncPieces(request, metadata=metadata)
        named = [value for key, value in stream.initial_metadata() if key == PEERS_KEY]
        list(stream)
        return named

    async def test_named(self) -> None:
        """To a child that takes part the others are named; one that says no port is not named, or nothing is."""
        await self.add(0)
        for ports, named in (
            (["4001"], []),
            ([], []),
            (["0"], ["127.0.0.1:4001"]),
            (["4002"], ["127.0.0.1:4001"]),
            (["4001"], ["127.0.0.1:4002"]),
            (["0"], ["127.0.0.1:4001,127.0.0.1:4002"]),
        ):
            self.assertEqual(await self.child(partial(self.ask, *ports)), named)

    async def test_file(self) -> None:
        """The addresses of those that ask are in the file of the task, until the service has stopped."""
        await self.add(0)
        path = askers_file(self.directory, PieceKind.STANDARD, TASK_ID)
        await self.child(partial(self.ask, "4001"))
        while not path.exists():
            await deferLater(IReactorTime(reactor), 0.01)
        self.assertEqual(path.read_text(), "grpc://127.0.0.1:4001\n")
        await self.service.stop(0.1)
        self.assertFalse(path.exists())

    async def test_unknown_task(self) -> None:
        """Who asks for a task that is not there is not remembered."""
        code, _ = await self.child(lambda: self.refusal(lambda: self.ask("4001")))
        self.assertIs(code, StatusCode.INTERNAL)
        await self.add(0)
        self.assertEqual(await self.child(partial(self.ask, "0")), [])

    async def test_begun(self) -> None:
        """Who asks for a task that has only begun to come is remembered."""
        self.patch(self.service._rpcs, "_is_coming", lambda kind, task_id: succeed(True))
        await self.child(lambda: self.refusal(lambda: self.ask("4001")))
        await self.add(0)
        self.assertEqual(await self.child(partial(self.ask, "0")), ["127.0.0.1:4001"])

    async def test_unwritable(self) -> None:
        """A storage in which no file can be made is logged, and peers are named anyway."""
        await self.add(0)
        (self.directory / "askers").write_text("in the way")
        await self.child(partial(self.ask, "4001"))
        self.assertEqual(await self.child(partial(self.ask, "0")), ["127.0.0.1:4001"])
        await self.service.stop(0.1)
        self.assertEqual([type(error.value) for error in self.flushLoggedErrors()], [NotADirectoryError])


class HostTests(ServiceTestCase):
    """What is said about the host."""

    async def test_host(self) -> None:
        """The host is sent again and again, with its network."""
        self.patch(streams, "HOST_INTERVAL", 0.1)
        await self.service.stop(0)
        self.service = self.make_service(make_network=lambda: NetworkMeter("127.0.0.1", 1000, 2000))
        address: Any = await self.service.startService()
        channel = grpc.insecure_channel(f"127.0.0.1:{address.port}")
        self.addCleanup(deferToThread, channel.close)  # it may wait for what the reactor answers

        def follow() -> list[Any]:
            stream: Any = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
            endless = stream.SyncHost(dfdaemon_pb2.SyncHostRequest(host_id="x"))
            hosts = [next(endless) for _ in range(3)]
            endless.cancel()
            return hosts

        hosts = await self.child(follow)
        for host in hosts:
            self.assertEqual((host.id, host.ip, host.hostname), ("192.0.2.7-peer", "192.0.2.7", "peer"))
            self.assertEqual(host.port, address.port)
            self.assertEqual((host.network.max_rx_bandwidth, host.network.max_tx_bandwidth), (8000, 16000))

    async def test_invalid(self) -> None:
        """Bytes that are no request are invalid."""
        stream: Any = self.channel.unary_stream("/dfdaemon.v2.DfdaemonUpload/SyncHost")
        code, _ = await self.child(lambda: self.refusal(lambda: list(stream(b"\xff\xff"))))
        self.assertIs(code, StatusCode.INVALID_ARGUMENT)
