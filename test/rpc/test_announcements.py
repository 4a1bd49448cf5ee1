"""A stream is told in its order, in the reactor's thread, no faster than that takes it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import cast

import grpc
from google.protobuf.message import Message
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dragonfly_vortex.rpc.announcements import MOST_WAITING, Announced, Reader, status_of_call
from dragonfly_vortex.rpc.client import IRPCReactor
from dragonfly_vortex.rpc.status import Status
from test.rpc.announcing_parent import piece
from test.rpc.conditions import Conditions

_CLOCK = IReactorTime(reactor)


class _Failed(grpc.RpcError):
    """A failure that is no call's: it has no status."""


class _Stream:
    """
    A stream of these messages, which counts how many of them have been read.

    :ivar full: set when so many have been read as may be read ahead, and the one that waits for its place.
    """

    def __init__(self, messages: Iterable[Message], fails: bool = False) -> None:
        self.read = 0
        self.cancelled = False
        self.full = threading.Event()
        self._messages = messages
        self._fails = fails

    def __iter__(self) -> Iterator[Message]:
        for message in self._messages:
            self.read += 1
            if self.read > MOST_WAITING:
                self.full.set()
            yield message
        if self._fails:
            raise _Failed("gone")

    def cancel(self) -> bool:
        """Only the reader ends it."""
        self.cancelled = True
        return True


class ReaderTests(TestCase):
    """Streams in memory, read in threads."""

    timeout = 120

    def setUp(self) -> None:
        self.pieces: list[Announced] = []
        self.ends: list[Status] = []
        self.threads: set[int] = set()
        self.conditions = Conditions()

    def start(self, stream: _Stream) -> Reader:
        """Begin to read."""
        reader = Reader(stream, cast(IRPCReactor, reactor), self.on_piece, self.on_end)
        self.addCleanup(reader.stop)
        reader.start()
        return reader

    def on_piece(self, piece: Announced) -> None:
        """Write down."""
        self.pieces.append(piece)
        self.threads.add(threading.get_ident())
        self.conditions.look()

    def on_end(self, status: Status) -> None:
        """Write down."""
        self.ends.append(status)
        self.conditions.look()

    def until_end(self) -> Deferred[None]:
        """Fires when the end has been told."""
        return self.conditions.until(lambda: bool(self.ends))

    @property
    def numbers(self) -> list[int]:
        """The numbers of the pieces that have been told."""
        return [piece.number for piece in self.pieces]

    async def test_told(self) -> None:
        """What a message says is told in the reactor's thread, and that the stream has ended, last."""
        self.start(_Stream([piece(0), piece(1, 10, ip="192.0.2.1", tcp_port=4005)]))
        self.assertEqual((self.pieces, self.ends), ([], []))
        await self.until_end()
        expected = [
            Announced(number=0, offset=0, length=100, ip="", tcp_port=0),
            Announced(number=1, offset=10, length=10, ip="192.0.2.1", tcp_port=4005),
        ]
        self.assertEqual((self.pieces, self.threads), (expected, {threading.get_ident()}))
        self.assertEqual([status.code for status in self.ends], [grpc.StatusCode.OK])

    async def test_fails(self) -> None:
        """A stream that fails has told its pieces before."""
        self.start(_Stream([piece(0)], fails=True))
        await self.until_end()
        self.assertEqual((self.numbers, self.ends), ([0], [Status(grpc.StatusCode.UNKNOWN, "gone")]))

    async def test_many(self) -> None:
        """25,000 pieces come in order, and others have their turn in between."""
        count = 25_000
        told: list[int] = []

        def have_a_turn() -> None:
            told.append(len(self.pieces))
            if not self.ends:
                _CLOCK.callLater(0, have_a_turn)

        have_a_turn()
        self.start(_Stream(piece(number) for number in range(count)))
        await self.until_end()
        self.assertEqual(self.numbers, list(range(count)))
        told.append(count)
        self.assertLessEqual(max(later - earlier for earlier, later in itertools.pairwise(told)), 400)
        await deferLater(_CLOCK, 0)

    async def test_unread(self) -> None:
        """While the reactor takes nothing a stream is read some way ahead and no further; then it goes on."""
        stream = _Stream(piece(number) for number in range(10 * MOST_WAITING))
        reader = self.start(stream)
        self.assertTrue(stream.full.wait(10))  # here, in the reactor's thread
        threading.Event().wait(0.05)  # in which the thread could go on
        self.assertEqual((self.pieces, stream.read), ([], MOST_WAITING + 1))
        await self.conditions.until(lambda: len(self.pieces) > MOST_WAITING)
        reader.stop()
        told = len(self.pieces)
        await self.join()
        self.assertEqual(self.numbers, list(range(told)))
        self.assertLess(stream.read, told + 2 * MOST_WAITING)

    async def test_stop(self) -> None:
        """Stopping ends the stream and its thread, also one that waits for room; nothing is told any more."""
        stream = _Stream(piece(number) for number in range(10 * MOST_WAITING))
        reader = self.start(stream)
        self.assertTrue(stream.full.wait(10))
        reader.stop()
        await self.join()
        self.assertTrue(stream.cancelled)
        self.assertEqual((self.pieces, self.ends), ([], []))

    async def join(self) -> None:
        """Wait for the threads to end, and for what they have left to the reactor."""
        for thread in threading.enumerate():
            if thread.name == "piece-discovery":
                thread.join(120)
                self.assertFalse(thread.is_alive())
        await deferLater(_CLOCK, 0)


class StatusTests(TestCase):
    """What a call has ended with."""

    def test_no_call(self) -> None:
        """What is no call's failure has no status of its own."""
        for error in (_Failed("gone"), ValueError("gone")):
            self.assertEqual(status_of_call(error), Status(grpc.StatusCode.UNKNOWN, "gone"))
