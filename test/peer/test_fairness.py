"""Tests of what connections get of a parent that all of them keep busy: real sockets, and children that never wait."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from test.peer.child import Child
from test.peer.serving import ServingTestCase
from test.peer.shelf import Shelf

_KIB, _MIB = 1024, 1024 * 1024

_SMALL, _LARGE = 0, 1  # the pieces' numbers
_LARGE_LENGTH = 256 * _MIB
_CHILDREN = 8

_MOST_UNEQUAL = 2.0
"""How often the least share may go into the largest one. They are equal but for a step or two on a quiet machine."""

_FEWEST_PIECES = 40
"""
Small pieces that come meanwhile. The parent goes round 128 times, with a step of 2 MiB for each of the eight; a child
that has a piece asks for the next one in time for the next round, or for the one after that.
"""


class Race:
    """
    Children that fetch the large piece side by side, until the first of them has it.

    :ivar shares: bytes that each had then; nothing before.
    """

    def __init__(self, children: list[Child]) -> None:
        self.shares: list[int] = []
        self._children = children
        self._received = [0] * len(children)

    def run(self, index: int) -> None:
        """Fetch the piece with one of the children, faster than any parent sends: its bytes go nowhere. This blocks."""
        child = self._children[index]
        child.ask(_LARGE)
        buffer = bytearray(_MIB)
        while self._received[index] < _LARGE_LENGTH:
            taken = child.socket.recv_into(buffer, 0, socket.MSG_TRUNC)
            if not taken:
                raise EOFError("expected a piece, got the connection's end")
            self._received[index] += taken
        if not self.shares:
            self.shares = list(self._received)

    def fetch_meanwhile(self, child: Child) -> int:
        """Fetch the small piece, again and again, until the race is over; how often. This blocks."""
        count = 0
        while not self.shares:
            child.ask(_SMALL)
            child.reply()
            count += 1
        return count


class FairnessTests(ServingTestCase):
    """Large pieces and small ones at once, without a limit."""

    def filled_shelf(self) -> Shelf:
        """A small piece and a large one, which is in memory and takes no room on the disk."""
        shelf = self.shelf(64 * _KIB, 1)
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
        Children that are equally fast get about the same, and one that asks for small pieces gets on meanwhile.

        Fails if a sender goes on for as long as the socket takes something.
        """
        address = self.serve(self.factory(self.filled_shelf()))
        race = Race([await self.child(address) for _ in range(_CHILDREN)])
        small = await self.child(address)
        running = [deferToThread(race.run, index) for index in range(_CHILDREN)]
        pieces = await deferToThread(race.fetch_meanwhile, small)
        await gatherResults(running)
        self.assertLess(max(race.shares), _MOST_UNEQUAL * min(race.shares), race.shares)
        self.assertGreater(pieces, _FEWEST_PIECES)
