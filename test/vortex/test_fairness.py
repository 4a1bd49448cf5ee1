"""Tests of what connections get of a parent that all of them keep busy, without a limit, on real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet

from dragonfly_vortex.transport.ratelimit import TokenBucket
from test.vortex.child import Child
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase
from test.vortex.shelf import Shelf

_KIB, _MIB = 1024, 1024 * 1024

_SMALL, _LARGE = 0, 1  # the pieces' numbers
_SMALL_LENGTH, _LARGE_LENGTH = 64 * _KIB, 256 * _MIB
_CHILDREN = 8

_HEADER = _KIB
"""More bytes than the header of a reply has."""

_FEWEST_PIECES = 40
"""Small pieces that arrive meanwhile: the parent goes round at least 128 times, with a step for each connection."""


class Reading(FileDescriptor):
    """
    A child that asks for the same piece again and again, and whose socket is emptied in every turn of the reactor.

    The reactor also runs the parent. So what arrives in a turn is what the parent sent in one turn, or in two where it
    came after this reader in one and before it in the next, however busy the machine is.

    :param child: its socket stays its own.
    :param number: the piece.
    :param length: bytes of the piece; those of the reply's header are not counted.
    :param fetched: called whenever the piece is there.
    :ivar received: bytes of all pieces.
    :ivar largest_turn: the most bytes that arrived in a turn.
    """

    def __init__(self, child: Child, number: int, length: int, fetched: Callable[[], None]) -> None:
        super().__init__(IReactorFDSet(REACTOR))
        self.received = 0
        self.largest_turn = 0
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
        turn = 0
        while (taken := self._take()) > 0:
            turn += taken
        self.largest_turn = max(self.largest_turn, turn)
        self.received += turn
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
        address = self.serve(self.factory(self.filled_shelf()))
        first: Deferred[None] = Deferred()

        def fetched() -> None:
            if not first.called:
                first.callback(None)

        small = Reading(await self.child(address), _SMALL, _SMALL_LENGTH, lambda: None)
        large = [Reading(await self.child(address), _LARGE, _LARGE_LENGTH, fetched) for _ in range(_CHILDREN)]
        for reading in (small, *large):
            reading.start()
        await first
        for reading in (small, *large):
            reading.stopReading()
        step = TokenBucket(UNLIMITED, REACTOR).step
        self.assertLess(max(reading.largest_turn for reading in large), 2 * step + _HEADER)
        self.assertGreater(min(reading.received for reading in large), _LARGE_LENGTH // 2)
        self.assertGreater(small.received, _FEWEST_PIECES * _SMALL_LENGTH)
