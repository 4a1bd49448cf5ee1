"""What a child learns from its parent's gRPC API, over real sockets: layouts, pieces, doors, and when that is all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import cast

import grpc
from dragonfly_api import common_pb2, dfdaemon_pb2
from google.protobuf.message import Message
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.parents import ParentAddress
from dragonfly_vortex.rpc import discovery
from dragonfly_vortex.rpc.client import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.discovery import MOST_WAITING, PieceDiscovery, Reader, tcp_address_of
from dragonfly_vortex.testing.pieces import TASK_ID
from dragonfly_vortex.wire import PieceKind
from test.rpc.announcing_parent import AnnouncingParent, Stream, piece
from test.rpc.conditions import Conditions

_STAT = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=250, piece_length=100)
_PIECES = [piece(0), piece(1), dfdaemon_pb2.SyncPiecesResponse(number=2, offset=200, length=50)]
_CLOCK = IReactorTime(reactor)
_REACTOR = cast(IRPCReactor, reactor)


def says(*messages: Message) -> Stream:
    """A stream of these messages, which ends then."""
    return lambda context: messages


def says_and_waits(*messages: Message) -> Stream:
    """A stream of these messages, which stays open then."""

    def stream(context: grpc.ServicerContext) -> Iterator[Message]:
        yield from messages
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    return stream


def fails(code: grpc.StatusCode, text: str = "told to say so", *messages: Message) -> Stream:
    """A stream of these messages, which ends with a status then."""

    def stream(context: grpc.ServicerContext) -> Iterator[Message]:
        yield from messages
        context.abort(code, text)

    return stream


class AddressTests(SynchronousTestCase):
    """Where a parent offers Vortex."""

    def test_given(self) -> None:
        """The address that it gives is taken, of either family."""
        parent = ParentAddress.from_text("grpc://parent.example:4000")
        self.assertEqual(tcp_address_of(parent, "192.0.2.9", 4005), "192.0.2.9:4005")
        self.assertEqual(tcp_address_of(parent, "2001:db8::9", 4005), "[2001:db8::9]:4005")

    def test_local(self) -> None:
        """An address that is good for nobody else, or none, means the host of the gRPC address."""
        for text, host in (
            ("grpc://parent.example:4000", "parent.example"),
            ("grpc://[2001:db8::1]:1", "[2001:db8::1]"),
        ):
            for ip in ("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "", "no address"):
                self.assertEqual(tcp_address_of(ParentAddress.from_text(text), ip, 4005), f"{host}:4005", ip)

    def test_secure(self) -> None:
        """Under TLS it is the host that the certificate is for."""
        parent = ParentAddress.from_text("grpcs://parent.example:4000")
        self.assertEqual(tcp_address_of(parent, "192.0.2.9", 4005), "tls://parent.example:4005")

    def test_no_port(self) -> None:
        """Without a port there is no address."""
        parent = ParentAddress.from_text("grpc://parent.example:4000")
        for port in (0, -1, 65_536):
            self.assertIsNone(tcp_address_of(parent, "192.0.2.9", port))


class _DiscoveryTests(TestCase):
    """A child that writes down what it is told."""

    timeout = 30

    def setUp(self) -> None:
        self.layouts: list[tuple[int | None, int | None]] = []
        self.pieces: list[tuple[int, int, int]] = []
        self.ends: list[bool] = []
        self.doors: list[str] = []
        self.conditions = Conditions()

    def parent(self, *streams: Stream, stat: Message | grpc.StatusCode = _STAT) -> AnnouncingParent:
        """A parent that listens."""
        return self.serve(AnnouncingParent(reactor, [stat], streams))

    def serve(self, parent: AnnouncingParent) -> AnnouncingParent:
        """Have a parent listen, up to the end of the test."""
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    def ask(self, port: int, kind: PieceKind = PieceKind.STANDARD) -> None:
        """Ask what listens on a port, and forget what was told before."""
        address = ParentAddress(scheme="grpc", host="127.0.0.1", port=port)
        announcer = PieceDiscovery(address, GRPCSettings(reactor=_REACTOR), self.doors.append)
        verifyObject(IPieceAnnouncer, announcer)
        for told in (self.layouts, self.pieces, self.ends):
            told.clear()
        self.stop = announcer.start(kind, TASK_ID, self.on_layout, self.on_piece, self.on_end)
        self.assertEqual((self.layouts, self.pieces, self.ends), ([], [], []))
        self.addCleanup(self.stop)

    def on_layout(self, content_length: int | None, piece_length: int | None) -> None:
        """Write down."""
        self.layouts.append((content_length, piece_length))

    def on_piece(self, number: int, offset: int, length: int) -> None:
        """Write down."""
        self.pieces.append((number, offset, length))
        self.conditions.look()

    def on_end(self, is_final: bool) -> None:
        """Write down."""
        self.ends.append(is_final)
        self.conditions.look()

    def until_end(self) -> Deferred[None]:
        """Fires when the end has been told."""
        return self.conditions.until(lambda: bool(self.ends))

    def until_pieces(self, count: int) -> Deferred[None]:
        """Fires when so many pieces have been told."""
        return self.conditions.until(lambda: len(self.pieces) >= count)


class LayoutTests(_DiscoveryTests):
    """How long a task is, of each kind."""

    async def test_standard(self) -> None:
        """Content length and piece length come first, then the pieces; the pieces are asked for by their numbers."""
        parent = self.parent(says(*_PIECES))
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual(self.layouts, [(250, 100)])
        self.assertEqual(self.pieces, [(0, 0, 100), (1, 100, 100), (2, 200, 50)])
        self.assertEqual((self.ends, parent.asked, self.doors), ([True], [[0, 1, 2]], []))

    async def test_other_kinds(self) -> None:
        """Of other kinds what their messages have is told; the number of pieces may come by itself."""
        stats = {
            PieceKind.PERSISTENT: (common_pb2.PersistentTask(content_length=250, piece_count=3), (250, None)),
            PieceKind.PERSISTENT_CACHE: (
                common_pb2.PersistentCacheTask(content_length=250, piece_length=100, piece_count=3),
                (250, 100),
            ),
            PieceKind.CACHE: (common_pb2.CacheTask(content_length=250, piece_count=3), (250, None)),
        }
        for kind, (stat, layout) in stats.items():
            as_cache = [
                dfdaemon_pb2.SyncCachePiecesResponse(number=each.number, offset=each.offset, length=each.length)
                for each in (dfdaemon_pb2.SyncPiecesResponse.FromString(one.SerializeToString()) for one in _PIECES)
            ]
            stream = says(*(as_cache if kind is PieceKind.CACHE else _PIECES))
            parent = self.serve(AnnouncingParent(reactor, [stat], [stream], kind=kind))
            self.ask(parent.port, kind)
            await self.until_end()
            self.assertEqual((self.layouts, len(self.pieces), self.ends), ([layout], 3, [True]))
            self.assertEqual(parent.asked, [[0, 1, 2]])

    async def test_empty_task(self) -> None:
        """A task of no bytes has one piece of none, and its list is complete with that."""
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=0, piece_length=4_194_304)
        self.ask(self.parent(says(piece(0, 0)), stat=stat).port)
        await self.until_end()
        self.assertEqual((self.layouts, self.pieces, self.ends), ([(0, 4_194_304)], [(0, 0, 0)], [True]))

    async def test_empty_task_without_presence(self) -> None:
        """Where the message cannot say that a length is known, an empty task's is known by its piece."""
        stat = common_pb2.PersistentTask(content_length=0, piece_count=1)
        parent = AnnouncingParent(reactor, [stat], [says(piece(0, 0))], kind=PieceKind.PERSISTENT)
        self.ask(self.serve(parent).port, PieceKind.PERSISTENT)
        await self.until_end()
        self.assertEqual((self.layouts, self.pieces, self.ends), ([(0, None)], [(0, 0, 0)], [True]))

    async def test_not_known_yet(self) -> None:
        """A parent that does not know the length itself is asked for all pieces, and for the length with each list."""
        unknown = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID)
        parent = AnnouncingParent(reactor, [unknown, _STAT], [says(_PIECES[0]), says(*_PIECES)])
        self.ask(self.serve(parent).port)
        await self.until_end()
        self.assertEqual((self.layouts, self.ends), ([(250, 100)], [True]))
        self.assertEqual(parent.asked, [[], [1, 2]])

    async def test_absurd_length(self) -> None:
        """A parent cannot make its child count to more than a child can hold."""
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=2**63, piece_length=1)
        parent = self.parent(says_and_waits(*_PIECES), stat=stat)
        self.ask(parent.port)
        await self.until_pieces(3)
        self.assertEqual((self.layouts, parent.asked), ([(2**63, 1)], [[]]))

    async def test_no_stat(self) -> None:
        """A parent that cannot say how long a task is may still tell its pieces."""
        for code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL):
            self.ask(self.parent(says_and_waits(*_PIECES), stat=code).port)
            await self.until_pieces(3)
            self.assertEqual((self.layouts, self.ends), ([], []))


class EndTests(_DiscoveryTests):
    """When there is nothing more to be told, and when a parent is asked again."""

    async def test_unknown_task(self) -> None:
        """A task that the parent does not have: it will tell nothing, and has nothing."""
        parent = self.parent(says(), stat=grpc.StatusCode.NOT_FOUND)
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual((self.ends, self.pieces, parent.asked), ([True], [], []))

    async def test_unknown_task_by_reference(self) -> None:
        """The reference says the same of a task in its list of pieces with another status."""
        text = f"task {TASK_ID} not found"
        self.ask(self.parent(fails(grpc.StatusCode.INTERNAL, text), stat=grpc.StatusCode.UNIMPLEMENTED).port)
        await self.until_end()
        self.assertEqual(self.ends, [True])

    async def test_unreachable(self) -> None:
        """A parent that does not listen cannot be asked: it may have anything."""
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            self.ask(bound_only.getsockname()[1])
            await self.until_end()
        self.assertEqual((self.ends, self.layouts, self.pieces), ([False], [], []))

    async def test_fails(self) -> None:
        """A stream that ends with a failure is the end, and what was told before stays told."""
        for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE):
            parent = self.parent(fails(code, "disk", _PIECES[0]))
            self.ask(parent.port)
            await self.until_end()
            self.assertEqual((self.ends, self.pieces), ([False], [(0, 0, 100)]), code)

    async def test_stopped_parent(self) -> None:
        """A parent that is stopped while its stream is open ends it, and is not asked again."""
        parent = self.parent(says_and_waits(_PIECES[0]))
        self.ask(parent.port)
        await self.until_pieces(1)
        await parent.stop()
        await self.until_end()
        self.assertEqual((self.ends, len(parent.asked)), ([False], 1))

    async def test_complete(self) -> None:
        """When all pieces have been told the stream is not needed any more, though the parent keeps it open."""
        parent = self.parent(says_and_waits(*_PIECES))
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual(self.ends, [True])
        await parent.until_ended()

    async def test_asked_again(self) -> None:
        """A list that ends early is asked for again after a while, for the pieces that have not been told."""
        parent = self.parent(says(_PIECES[1]), says(_PIECES[0]), says(_PIECES[2]))
        began = _CLOCK.seconds()
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual((self.ends, parent.asked), ([True], [[0, 1, 2], [0, 2], [2]]))
        self.assertEqual([number for number, _, _ in self.pieces], [1, 0, 2])
        self.assertEqual(self.layouts, [(250, 100)])
        self.assertTrue(0.9 < _CLOCK.seconds() - began < 5.0)

    async def test_cut_by_a_deadline(self) -> None:
        """A stream that somebody on the way has given a deadline is asked for again."""
        parent = self.parent(fails(grpc.StatusCode.DEADLINE_EXCEEDED, "late", *_PIECES[:2]), says(_PIECES[2]))
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual((self.ends, parent.asked), ([True], [[0, 1, 2], [2]]))

    async def test_no_more(self) -> None:
        """A parent that answers at once and has nothing new, time and again, is taken at its word."""
        parent = self.parent(says(*_PIECES[:2]))
        began = _CLOCK.seconds()
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual((self.ends, len(parent.asked)), ([True], 4))
        self.assertLess(_CLOCK.seconds() - began, 5.0)

    async def test_news_begin_anew(self) -> None:
        """A parent that has something new after all is asked as patiently as before."""
        nothing = says()
        parent = self.parent(says(_PIECES[0]), nothing, nothing, says(_PIECES[1]), nothing, nothing, says(_PIECES[2]))
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual((self.ends, len(self.pieces), len(parent.asked)), ([True], 3, 7))

    async def test_too_many(self) -> None:
        """A parent cannot announce more pieces than a child can hold."""
        self.patch(discovery, "MAX_PIECES", 10)
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID)
        self.ask(self.parent(says_and_waits(*(piece(number) for number in range(20))), stat=stat).port)
        await self.until_end()
        self.assertEqual((self.ends, len(self.pieces)), ([False], 10))

    async def test_stop(self) -> None:
        """Stopping ends the stream and its thread, twice if need be; nothing is told any more."""
        parent = self.parent(says_and_waits(_PIECES[0]))
        self.ask(parent.port)
        await self.until_pieces(1)
        self.stop()
        self.stop()
        await parent.until_ended()
        self.assertEqual(self.ends, [])
        for thread in threading.enumerate():
            if thread.name == "piece-discovery":
                thread.join(5)
                self.assertFalse(thread.is_alive())

    async def test_stop_before_an_answer(self) -> None:
        """Stopping before anything has come tells nothing."""
        parent = self.parent(says(*_PIECES))
        self.ask(parent.port)
        self.stop()
        await deferLater(_CLOCK, 0.2)
        self.assertEqual((self.layouts, self.pieces, self.ends), ([], [], []))

    async def test_stop_between(self) -> None:
        """Stopping while it waits to ask again leaves no call behind."""
        parent = self.parent(says(_PIECES[0]))
        self.ask(parent.port)
        await parent.until_ended()
        await deferLater(_CLOCK, 0.2)
        self.stop()
        self.assertEqual((self.ends, len(parent.asked)), ([], 1))


class DoorTests(_DiscoveryTests):
    """Where the parent's Vortex door is."""

    async def test_told_first(self) -> None:
        """The door is known before the piece is told that it came with, and told once."""
        known: list[list[str]] = []
        on_piece = self.on_piece

        def note_doors(number: int, offset: int, length: int) -> None:
            known.append(list(self.doors))
            on_piece(number, offset, length)

        self.on_piece = note_doors  # type: ignore[method-assign]  # what is told, told to this as well
        doors = [piece(number, ip="127.0.0.1", tcp_port=4005) for number in range(2)]
        self.ask(self.parent(says_and_waits(*doors)).port)
        await self.until_pieces(2)
        self.assertEqual(known, [["127.0.0.1:4005"]] * 2)

    async def test_changes(self) -> None:
        """A door that is another one later is told then."""
        doors = [piece(0), piece(1, tcp_port=4005), piece(2, 10, tcp_port=4006)]
        self.ask(self.parent(says_and_waits(*doors)).port)
        await self.until_pieces(3)
        self.assertEqual(self.doors, ["127.0.0.1:4005", "127.0.0.1:4006"])


class FlowTests(_DiscoveryTests):
    """Many pieces."""

    async def test_many(self) -> None:
        """25,000 pieces come in order, and the reactor is free in between."""
        count = 25_000
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=count * 100, piece_length=100)
        parent = self.parent(says(*(piece(number) for number in range(count))), stat=stat)
        pauses: list[float] = []
        last = _CLOCK.seconds()

        def beat() -> None:
            nonlocal last
            now = _CLOCK.seconds()
            pauses.append(now - last)
            last = now
            if not self.ends:
                _CLOCK.callLater(0.001, beat)

        beat()
        self.ask(parent.port)
        await self.until_end()
        self.assertEqual([number for number, _, _ in self.pieces], list(range(count)))
        self.assertLess(max(pauses), 0.25)

    async def test_unread(self) -> None:
        """While the reactor takes nothing a stream is read some way ahead and no further; then it goes on."""
        stream = _Endless()
        taken: list[int] = []
        reader = Reader(stream, _REACTOR, lambda piece: taken.append(piece.number), lambda status: None)
        reader.start()
        busy = threading.Event()
        busy.wait(0.5)  # here, in the reactor's thread
        self.assertEqual((len(taken), stream.read), (0, MOST_WAITING + 1))
        await deferLater(_CLOCK, 0.5)
        self.assertGreater(len(taken), MOST_WAITING)
        self.assertEqual(taken, list(range(len(taken))))
        reader.stop()
        await deferLater(_CLOCK, 0.1)
        self.assertLess(stream.read, len(taken) + 2 * MOST_WAITING)


class _Endless:
    """A stream that never ends, and counts how much of it has been read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[Message]:
        while True:
            self.read += 1
            yield piece(self.read - 1)

    def cancel(self) -> bool:
        """Only the reader ends it."""
        return True
