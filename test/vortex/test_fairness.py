"""Tests of what connections get of a parent that all of them keep busy, on real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from msgspec.structs import replace
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import LoopingCall

from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.wire import PieceContent, PieceKind
from test.vortex.child import Child
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase
from test.vortex.shelf import Shelf

_KIB, _MIB = 1024, 1024 * 1024

_SMALL, _LARGE = 0, 1  # the pieces' numbers
_SMALL_LENGTH, _LARGE_LENGTH = 64 * _KIB, 128 * _MIB
_CHILDREN = 8

_FEWEST_PIECES = 20
"""Small pieces that arrive meanwhile: the parent goes round at least 64 times, with a step for each connection."""


class Reading(FileDescriptor):
    """
    A child that asks for the same piece again and again, and reads all that its socket holds whenever there is some.

    :param child: its socket stays its own.
    :param number: the piece.
    :param length: bytes of the piece; those of the reply's header are not counted.
    :param fetched: called whenever the piece is there.
    :ivar received: bytes of all pieces.
    """

    def __init__(self, child: Child, number: int, length: int, fetched: Callable[[], None]) -> None:
        super().__init__(IReactorFDSet(REACTOR))
        self.received = 0
        self._child = child
        self._number = number
        self._length = length
        self._fetched = fetched
        self._wanted = length
        self._buffer = bytearray(_MIB)

    def fileno(self) -> int:
        """The socket's."""
        return self._child.socket.fileno()

    def start(self) -> None:
        """Ask for the first time."""
        self._child.socket.setblocking(False)
        self._child.ask(self._number)
        self.startReading()

    def doRead(self) -> None:
        """Take all that is there."""
        while (taken := self._take()) > 0:
            self.received += taken
        if self.received >= self._wanted:
            self.received = self._wanted
            self._wanted += self._length
            self._child.ask(self._number)
            self._fetched()

    def _take(self) -> int:
        try:
            return self._child.socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return 0


class Steps:
    """
    How much each of some connections sends in a turn of the reactor, as the parent counts it. What a child receives in
    a turn would not show that: the kernel passes on the bytes of many turns at once when it likes.

    :param tallies: one for each connection.
    :ivar largest: the most bytes that a connection has sent in a turn.
    """

    def __init__(self, tallies: list[Tally]) -> None:
        self.largest = 0
        self._tallies = tallies
        self._before = [tally.bytes_sent for tally in tallies]

    def see_turn(self) -> None:
        """A turn has ended."""
        now = [tally.bytes_sent for tally in self._tallies]
        self.largest = max(self.largest, *(sent - before for sent, before in zip(now, self._before, strict=True)))
        self._before = now


class FairnessTests(ServingTestCase):
    """Large pieces and small ones at once."""

    def filled_shelf(self) -> Shelf:
        """A small piece and a large one, which is in memory and takes no room on the disk."""
        shelf = self.shelf(_SMALL_LENGTH, 1)
        shelf.replace(replace(shelf.metadata(_LARGE), offset=_MIB, length=_LARGE_LENGTH))
        os.truncate(shelf.path, _MIB + _LARGE_LENGTH)
        with shelf.path.open("rb", buffering=0) as file:
            buffer = bytearray(_MIB)
            while file.readinto(buffer):
                pass
        self.addCleanup(shelf.path.unlink)
        return shelf

    async def test_shares(self) -> None:
        """
        In a turn of the reactor each connection gets a step at most, and small pieces pass between the steps.

        Fails if a sender goes on for as long as the socket takes something.
        """
        shelf = self.filled_shelf()
        first: Deferred[None] = Deferred()

        def fetched() -> None:
            if not first.called:
                first.callback(None)

        small = Reading(await self.child(self.serve(self.factory(shelf))), _SMALL, _SMALL_LENGTH, lambda: None)
        factories = [self.factory(shelf) for _ in range(_CHILDREN)]
        large = [Reading(await self.child(self.serve(each)), _LARGE, _LARGE_LENGTH, fetched) for each in factories]
        tallies = [factory.settings.tally for factory in factories]
        steps = Steps(tallies)
        turns = LoopingCall(steps.see_turn)
        self.addCleanup(turns.stop)
        turns.start(0)  # seconds: in every turn
        for reading in (small, *large):
            reading.start()
        await first
        for reading in (small, *large):
            reading.stopReading()
        self.assertLessEqual(steps.largest, TokenBucket(UNLIMITED, REACTOR).step)
        self.assertGreater(min(tally.bytes_sent for tally in tallies), _LARGE_LENGTH // 2)
        self.assertGreater(small.received, _FEWEST_PIECES * _SMALL_LENGTH)


class Fetching(FileDescriptor):
    """
    A child's connection that asks for one piece.

    :param child: its socket stays its own.
    :param length: bytes of the reply.
    :param fetched: called when the reply is complete.
    :ivar received: bytes of the reply that have arrived.
    """

    def __init__(self, child: Child, length: int, fetched: Callable[[], None]) -> None:
        super().__init__(IReactorFDSet(REACTOR))
        self.received = 0
        self._child = child
        self._length = length
        self._fetched = fetched

    def fileno(self) -> int:
        """The socket's."""
        return self._child.socket.fileno()

    def start(self, number: int) -> None:
        """Ask for a piece."""
        self._child.socket.setblocking(False)
        self._child.ask(number)
        self.startReading()

    def doRead(self) -> None:
        """Take what is there."""
        self.received += len(self._child.socket.recv(_MIB))
        if self.received == self._length:
            self.stopReading()
            self._fetched()


class LimitedTests(ServingTestCase):
    """Large pieces under a limit."""

    async def test_one_after_the_other(self) -> None:
        """
        With a limit of 1 MB/s and 8 requests of 4 children each, the first piece is complete when little else has been
        sent, and so on: not all of them at the end.
        """
        length, requests = 20_000, 8 * 4
        shelf = self.shelf(*[length] * requests)
        factory = self.factory(shelf, rate=1_000_000)
        limiter = factory.settings.limiter
        limiter.spend(10**9)  # nothing may be sent before all have asked
        address = self.serve(factory)
        sent_at: list[float] = []  # at the end of each piece, how many pieces' worth of bytes had arrived in all
        all_fetched: Deferred[None] = Deferred()

        def fetched() -> None:
            sent_at.append(sum(each.received for each in fetchings) / length)
            if len(sent_at) == requests:
                all_fetched.callback(None)

        fetchings = [await self.fetching(address, shelf, number, fetched) for number in range(requests)]
        for number, fetching in enumerate(fetchings):
            fetching.start(number)
        await self.until(lambda: len(limiter._grants) == requests)
        limiter.give_back(10**9)
        await all_fetched
        late = [(n, at) for n, at in enumerate(sent_at, 1) if at > n + 4]
        self.assertEqual(late, [])

    async def test_small_piece_passes(self) -> None:
        """A small piece that is asked for while many large ones wait is there after a few steps."""
        shelf = self.shelf(2000, *[2_000_000] * 8)
        address = self.serve(self.factory(shelf, rate=1_000_000))
        fetched: Deferred[None] = Deferred()
        small = await self.fetching(address, shelf, 0, lambda: fetched.callback(None))
        large = [await self.fetching(address, shelf, number, lambda: None) for number in range(1, 9)]
        for number, each in enumerate(large, 1):
            each.start(number)
        await self.until(lambda: sum(each.received for each in large) > 100_000)
        before = sum(each.received for each in large)
        small.start(0)
        await fetched
        for each in large:
            each.stopReading()
        self.assertLess(sum(each.received for each in large) - before, 500_000)

    async def fetching(
        self, address: tuple[str, int], shelf: Shelf, number: int, fetched: Callable[[], None]
    ) -> Fetching:
        """A connection of a child that is about to ask for a piece."""
        metadata = shelf.metadata(number)
        reply = PieceContent(packet_id=0, kind=PieceKind.STANDARD, metadata=metadata)
        return Fetching(await self.child(address), len(reply.to_bytes()) + metadata.length, fetched)
