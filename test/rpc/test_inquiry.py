"""
What a parent is asked about a task, over real sockets: its length, which pieces there are, and when that is all. A
parent whose list ends early is asked again after longer and longer pauses.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import grpc
from dragonfly_api import common_pb2, dfdaemon_pb2
from google.protobuf.message import Message
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.peer_exchange import PEERS_KEY, PORT_KEY, PeerExchange
from dragonfly_vortex.rpc import inquiry
from dragonfly_vortex.rpc.channel import Channel, GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.inquiry import Announced, Inquiry, Patience
from dragonfly_vortex.testing.pieces import TASK_ID
from dragonfly_vortex.wire import PieceKind
from test.rpc.announcing_parent import AnnouncingParent, Stream, fails, piece, says, says_and_waits
from test.rpc.told import Told


class PatienceTests(SynchronousTestCase):
    """A parent that has not been asked before."""

    def setUp(self) -> None:
        self.patience = Patience()

    def fruitless(self, seconds: float = 0.1) -> float | None:
        """A list has told nothing new."""
        return self.patience.pause(is_new=False, seconds=seconds)

    def test_news(self) -> None:
        """A list that has told something new is soon asked for again, however often, however fast it was."""
        self.assertEqual([self.patience.pause(is_new=True, seconds=each) for each in (0.0, 0.1, 60.0)], [0.5] * 3)

    def test_taken_at_its_word(self) -> None:
        """A parent that answers three times at once and has nothing new is not asked again."""
        self.assertEqual([self.fruitless() for _ in range(3)], [0.5, 1.0, None])

    def test_news_begin_anew(self) -> None:
        """A parent that has something new after all is asked as patiently as before."""
        for _ in range(3):
            self.assertEqual(self.patience.pause(is_new=True, seconds=0.1), 0.5)
            self.assertEqual([self.fruitless(), self.fruitless()], [1.0, 2.0])

    def test_takes_its_time(self) -> None:
        """A parent that keeps its list open, though it ends without news, has more to come; it is asked less often."""
        self.assertEqual([self.fruitless(2.0) for _ in range(6)], [0.5, 1.0, 2.0, 4.0, 4.0, 4.0])

    def test_at_once_now_and_then(self) -> None:
        """Only answers at once that follow one another count."""
        for _ in range(3):
            self.assertIsNotNone(self.fruitless(1.9))
            self.assertIsNotNone(self.fruitless(1.9))
            self.assertIsNotNone(self.fruitless(2.1))


_STAT = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=250, piece_length=100)
_PIECES = [piece(0), piece(1), dfdaemon_pb2.SyncPiecesResponse(number=2, offset=200, length=50)]
_CLOCK = IReactorTime(reactor)


class _InquiryTests(TestCase):
    """A child that records what it receives, and asks again soon."""

    timeout = 120

    def setUp(self) -> None:
        self.patch(inquiry, "_PAUSES", (0.01,))
        self.patch(inquiry, "_AT_ONCE", 1000.0)  # seconds: these parents answer at once, however busy the machine is

    def parent(self, *streams: Stream, stat: Message | grpc.StatusCode = _STAT) -> AnnouncingParent:
        """A parent that listens."""
        return self.serve(AnnouncingParent(reactor, [stat], streams))

    def serve(self, parent: AnnouncingParent) -> AnnouncingParent:
        """Have a parent listen, up to the end of the test."""
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    def ask(self, port: int, kind: PieceKind = PieceKind.STANDARD, exchange: PeerExchange | None = None) -> None:
        """Ask what listens on a port, and forget what was announced before."""
        told = self.told = Told()

        def on_piece(piece: Announced) -> None:
            told.on_piece(piece.number, piece.offset, piece.length)

        address = ParentAddress(scheme="grpc", host="127.0.0.1", port=port)
        settings = GRPCSettings(reactor=cast(IRPCReactor, reactor))
        asking = Inquiry(address, settings, kind, TASK_ID, told.on_layout, on_piece, told.on_end, exchange)
        self.stop = asking.stop
        self.addCleanup(self.stop)
        asking.ask()
        self.assertEqual((told.layouts, told.pieces, told.ends), ([], [], []))


class ExchangeTests(_InquiryTests):
    """What is said of the child's own door, and learnt of other peers."""

    async def test_question_and_answer(self) -> None:
        """A parent hears the port of the child's door, and the child the peers that the parent names."""
        heard: list[ParentAddress] = []
        asked: list[object] = []

        def stream(context: grpc.ServicerContext) -> Iterator[Message]:
            asked.extend(value for key, value in context.invocation_metadata() if key == PORT_KEY)
            context.send_initial_metadata(((PEERS_KEY, "127.0.0.1:4001,127.0.0.1:4002"),))
            yield from _PIECES

        self.ask(self.parent(stream).port, exchange=PeerExchange(port=4007, on_peers=heard.extend))
        await self.told.until_end()
        self.assertEqual(asked, ["4007"])
        self.assertEqual([str(each) for each in heard], ["grpc://127.0.0.1:4001", "grpc://127.0.0.1:4002"])

    async def test_no_answer(self) -> None:
        """A parent that has never heard of it, or fails, is asked as any other."""
        for stream, pieces in ((says(*_PIECES), len(_PIECES)), (fails(grpc.StatusCode.UNIMPLEMENTED), 0)):
            self.ask(self.parent(stream).port, exchange=PeerExchange(on_peers=self.fail))
            await self.told.until_end()
            self.assertEqual(len(self.told.pieces), pieces)


class LayoutTests(_InquiryTests):
    """How long a task is, of each kind."""

    async def test_standard(self) -> None:
        """Content length and piece length come first, then the pieces; the pieces are asked for by their numbers."""
        parent = self.parent(says(*_PIECES))
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual(self.told.layouts, [(250, 100)])
        self.assertEqual(self.told.pieces, [(0, 0, 100), (1, 100, 100), (2, 200, 50)])
        self.assertEqual((self.told.ends, parent.asked), ([True], [[0, 1, 2]]))

    async def test_other_kinds(self) -> None:
        """For other kinds the fields of their messages are reported; the number of pieces may come by itself."""
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
            await self.told.until_end()
            self.assertEqual((self.told.layouts, len(self.told.pieces), self.told.ends), ([layout], 3, [True]))
            self.assertEqual(parent.asked, [[0, 1, 2]])

    async def test_empty_task(self) -> None:
        """A task of no bytes has one piece of none, and its list is complete with that."""
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=0, piece_length=4_194_304)
        self.ask(self.parent(says(piece(0, 0)), stat=stat).port)
        await self.told.until_end()
        self.assertEqual((self.told.layouts, self.told.pieces, self.told.ends), ([(0, 4_194_304)], [(0, 0, 0)], [True]))

    async def test_empty_task_without_presence(self) -> None:
        """Where the message cannot say that a length is known, an empty task's is known by its piece."""
        stat = common_pb2.PersistentTask(content_length=0, piece_count=1)
        parent = AnnouncingParent(reactor, [stat], [says(piece(0, 0))], kind=PieceKind.PERSISTENT)
        self.ask(self.serve(parent).port, PieceKind.PERSISTENT)
        await self.told.until_end()
        self.assertEqual((self.told.layouts, self.told.pieces, self.told.ends), ([(0, None)], [(0, 0, 0)], [True]))

    async def test_empty_task_without_piece(self) -> None:
        """Where such a message says that the task is complete, a length of 0 is known without a piece, too."""
        stat = common_pb2.PersistentCacheTask(content_length=0, piece_length=4_194_304, state="Succeeded")
        parent = AnnouncingParent(reactor, [stat], [says()], kind=PieceKind.PERSISTENT_CACHE)
        self.ask(self.serve(parent).port, PieceKind.PERSISTENT_CACHE)
        await self.told.until_end()
        self.assertEqual((self.told.layouts, self.told.pieces), ([(0, 4_194_304)], []))

    async def test_not_known_yet(self) -> None:
        """A parent that does not know the length is asked for the first numbers, and for the length with each list."""
        unknown = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID)
        parent = AnnouncingParent(reactor, [unknown, _STAT], [says(_PIECES[0]), says(*_PIECES)])
        self.ask(self.serve(parent).port)
        await self.told.until_end()
        self.assertEqual((self.told.layouts, self.told.ends), ([(250, 100)], [True]))
        self.assertEqual(parent.asked, [list(range(4096)), [1, 2]])

    async def test_absurd_length(self) -> None:
        """A parent cannot make its child count to more than a child can hold."""
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=2**63, piece_length=1)
        parent = self.parent(says_and_waits(*_PIECES), stat=stat)
        self.ask(parent.port)
        await self.told.until_pieces(3)
        self.assertEqual((self.told.layouts, parent.asked), ([(2**63, 1)], [list(range(4096))]))

    async def test_long_task(self) -> None:
        """A task of more pieces than one question may name is asked for in parts."""
        self.patch(inquiry, "MAX_NUMBERS", 2)
        parent = self.parent(says(*_PIECES[:2]), says(_PIECES[2]))
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, parent.asked), ([True], [[0, 1], [2]]))

    async def test_stopped_before_it_is_heard(self) -> None:
        """A length that has arrived when the asking is stopped is not reported."""
        call = Channel.call
        replies: list[bytes] = []

        def stopped_by_the_reply(channel: Channel, *arguments: Any) -> Deferred[bytes]:
            def stop(reply: bytes) -> bytes:
                self.stop()
                replies.append(reply)
                return reply

            return call(channel, *arguments).addCallback(stop)

        self.patch(Channel, "call", stopped_by_the_reply)
        self.ask(self.parent(says_and_waits(*_PIECES)).port)
        while not replies:
            await deferLater(_CLOCK, 0.01)
        self.assertEqual((self.told.layouts, self.told.ends), ([], []))

    async def test_no_stat(self) -> None:
        """A parent that cannot say how long a task is may still tell its pieces."""
        for code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL):
            self.ask(self.parent(says_and_waits(*_PIECES), stat=code).port)
            await self.told.until_pieces(3)
            self.assertEqual((self.told.layouts, self.told.ends), ([], []))


class EndTests(_InquiryTests):
    """When there is nothing more to be announced, and when a parent is asked again."""

    async def test_unknown_task(self) -> None:
        """A task that the parent does not have: it will tell nothing, and has nothing."""
        parent = self.parent(says(), stat=grpc.StatusCode.NOT_FOUND)
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, self.told.pieces, parent.asked), ([True], [], []))

    async def test_unknown_task_by_reference(self) -> None:
        """The reference says the same of a task in its list of pieces with another status."""
        text = f"task {TASK_ID} not found"
        self.ask(self.parent(fails(grpc.StatusCode.INTERNAL, text), stat=grpc.StatusCode.UNIMPLEMENTED).port)
        await self.told.until_end()
        self.assertEqual(self.told.ends, [True])

    async def test_unreachable(self) -> None:
        """A parent that does not listen cannot be asked: it may have anything."""
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            self.ask(bound_only.getsockname()[1])
            await self.told.until_end()
        self.assertEqual((self.told.ends, self.told.layouts, self.told.pieces), ([False], [], []))

    async def test_fails(self) -> None:
        """A stream that ends with a failure is the end, and what was announced before stays."""
        for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE):
            parent = self.parent(fails(code, "disk", _PIECES[0]))
            self.ask(parent.port)
            await self.told.until_end()
            self.assertEqual((self.told.ends, self.told.pieces), ([False], [(0, 0, 100)]), code)

    async def test_stopped_parent(self) -> None:
        """A parent that is stopped while its stream is open ends it, and is not asked again."""
        parent = self.parent(says_and_waits(_PIECES[0]))
        self.ask(parent.port)
        await self.told.until_pieces(1)
        await parent.stop()
        await self.told.until_end()
        self.assertEqual((self.told.ends, len(parent.asked)), ([False], 1))

    async def test_complete(self) -> None:
        """When all pieces have been announced the stream is not needed any more, though the parent keeps it open."""
        parent = self.parent(says_and_waits(*_PIECES))
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual(self.told.ends, [True])
        await parent.until_ended()

    async def test_asked_again(self) -> None:
        """A list that ends early is asked for again after a while, for the pieces that have not been announced."""
        self.patch(inquiry, "_PAUSES", (0.1,))
        parent = self.parent(says(_PIECES[1]), says(_PIECES[0]), says(_PIECES[2]))
        began = _CLOCK.seconds()
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, parent.asked), ([True], [[0, 1, 2], [0, 2], [2]]))
        self.assertEqual([number for number, _, _ in self.told.pieces], [1, 0, 2])
        self.assertEqual(self.told.layouts, [(250, 100)])
        self.assertGreater(_CLOCK.seconds() - began, 0.2)

    async def test_cut_by_a_deadline(self) -> None:
        """A stream that ends by a deadline set on the way is repeated."""
        parent = self.parent(fails(grpc.StatusCode.DEADLINE_EXCEEDED, "late", *_PIECES[:2]), says(_PIECES[2]))
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, parent.asked), ([True], [[0, 1, 2], [2]]))

    async def test_no_more(self) -> None:
        """A parent that answers at once and has nothing new, time and again, is taken at its word."""
        parent = self.parent(says(*_PIECES[:2]))
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, len(parent.asked)), ([True], 4))

    async def test_more(self) -> None:
        """A parent that has something new after all is asked as patiently as before."""
        nothing = says()
        parent = self.parent(says(_PIECES[0]), nothing, nothing, says(_PIECES[1]), nothing, nothing, says(_PIECES[2]))
        self.ask(parent.port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, len(self.told.pieces), len(parent.asked)), ([True], 3, 7))

    async def test_too_many(self) -> None:
        """A parent cannot announce more pieces than a child can hold."""
        self.patch(inquiry, "MAX_PIECES", 10)
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID)
        self.ask(self.parent(says_and_waits(*(piece(number) for number in range(20))), stat=stat).port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, len(self.told.pieces)), ([False], 10))

    async def test_again_and_again(self) -> None:
        """A parent that tells the same pieces without end is not heard any more."""
        self.patch(inquiry, "_MOST_REPEATED", 10)

        def stream(context: grpc.ServicerContext) -> Iterator[Message]:
            yield _PIECES[0]
            while context.is_active():
                yield _PIECES[1]

        self.ask(self.parent(stream).port)
        await self.told.until_end()
        self.assertEqual((self.told.ends, len(self.told.pieces)), ([False], 14))

    async def test_status_in_the_log(self) -> None:
        """What a parent says at the end is one line in the log."""
        with capturedLogs() as events:
            self.ask(self.parent(fails(grpc.StatusCode.INTERNAL, "disk\n2026-01-01 all is well")).port)
            await self.told.until_end()
        (line,) = [line for event in events if "ended after" in (line := formatEvent(event))]
        self.assertTrue(line.isprintable(), line)

    async def test_stop(self) -> None:
        """Stopping ends the stream, twice if need be; nothing is reported any more."""
        parent = self.parent(says_and_waits(_PIECES[0]))
        self.ask(parent.port)
        await self.told.until_pieces(1)
        self.stop()
        self.stop()
        await parent.until_ended()
        self.assertEqual(self.told.ends, [])

    async def test_stop_before_an_answer(self) -> None:
        """Stopping before anything has arrived reports nothing."""
        parent = self.parent(says(*_PIECES))
        self.ask(parent.port)
        self.stop()
        await deferLater(_CLOCK, 0.05)
        self.assertEqual((self.told.layouts, self.told.pieces, self.told.ends), ([], [], []))

    async def test_stop_between(self) -> None:
        """Stopping while it waits to ask again leaves no call behind."""
        self.patch(inquiry, "_PAUSES", (1000.0,))
        parent = self.parent(says(_PIECES[0]))
        self.ask(parent.port)
        while not self.waits():
            await deferLater(_CLOCK, 0.005)
        self.stop()
        self.assertFalse(self.waits())
        self.assertEqual((self.told.ends, len(parent.asked)), ([], 1))

    def waits(self) -> bool:
        """Whether it is going to ask again."""
        return any(call.getTime() > _CLOCK.seconds() + 900 for call in _CLOCK.getDelayedCalls())
