"""
A peer under stress: 200 connections at once that ask for pieces of all sizes, read, half-close, or are cut at random.
Every byte that comes is verified; when it is over, the peer's memory and descriptors are what they were.

``DFVORTEX_STRESS_SECONDS`` in the environment sets for how long, 8 without it and as long as one likes;
``DFVORTEX_STRESS_SEED`` what is drawn, 0 without it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import cast
from zlib import crc32

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTCP, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dragonfly_vortex.wire import (
    ContentFinished,
    ContentReceived,
    ErrorReply,
    PacketReader,
    PieceContent,
    PieceKind,
    PieceRequest,
)
from test.processes import Child, Daemon, import_file, peak_memory, write_config

SECONDS = float(os.environ.get("DFVORTEX_STRESS_SECONDS", "8"))
SEED = int(os.environ.get("DFVORTEX_STRESS_SEED", "0"))

_CONNECTIONS = 200

_LENGTHS = {"empty": 0, "byte": 1, "small": 1000, "block": 65_536, "medium": 300_000, "large": 4 << 20}

_GROWTH = 12_000_000  # bytes of memory by which a peer may differ between two looks at it

_PASSING = 3  # descriptors that may be open for the moment of a look: a piece's file, a connection that is ending

_MOST_MEMORY = 100_000_000  # bytes of it that the peer may ever have

_CUTS = 0.3  # of the connections are cut in the middle of something


class _Asked:
    """What a child has asked for, and what came of it so far."""

    def __init__(self) -> None:
        self.digest = ""
        self.checksum = 0


@implementer(IHalfCloseableProtocol)
class _Stresser(Protocol):
    """
    A child that asks for some pieces, a few of them ahead, and then ends well or badly.

    :param draw: where its randomness comes from.
    :param task_ids: the tasks that it requests; one ID among them is unknown.
    :param done: called once, with what was wrong or with nothing, when the connection has ended.
    """

    transport: ITCPTransport

    def __init__(self, draw: random.Random, task_ids: list[str], done: Callable[[str], None]) -> None:
        self.draw = draw
        self.task_ids = task_ids
        self.done = done
        self.pieces = 0
        self.wrong = ""
        self._reader = PacketReader()
        self._requests = draw.randint(1, 6)
        self._expected: list[str] = []
        self._asked = _Asked()
        self._until_cut = draw.randint(0, 3 << 20) if draw.random() < _CUTS else None

    def connectionMade(self) -> None:
        for _ in range(self.draw.choice((1, 1, 2, 4))):
            self._ask()
        if self._until_cut is not None and self._until_cut < 1000:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._until_cut is not None:
            self._until_cut -= len(data)
            if self._until_cut < 0:
                self.transport.abortConnection()
                return
        self._reader.receive_data(data)
        while (event := self._reader.next_event()) is not None:
            if isinstance(event, PieceContent):
                self._asked.digest, self._asked.checksum = event.metadata.digest, 0
            elif isinstance(event, ContentReceived):
                self._asked.checksum = crc32(event.data, self._asked.checksum)
            elif isinstance(event, ContentFinished):
                if self._asked.digest != f"crc32:{self._asked.checksum}":
                    self.wrong = f"expected {self._asked.digest}, got crc32:{self._asked.checksum}"
                self._replied(self._expected.pop(0) != self.task_ids[-1])
            elif isinstance(event, ErrorReply):
                self._replied(self._expected.pop(0) == self.task_ids[-1])

    def readConnectionLost(self) -> None:
        if self._expected and self._until_cut is None:
            self.wrong = f"the parent ended with {len(self._expected)} requests unanswered"
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._expected and self._until_cut is None and not self.wrong:
            self.wrong = f"{reason.getErrorMessage()} with {len(self._expected)} requests unanswered"
        self.done(self.wrong)

    def _ask(self) -> None:
        """Ask for one more piece, if it is to ask for one; after the last it may half-close, as the reference does."""
        if not self._requests:
            return
        self._requests -= 1
        task_id = self.draw.choice(self.task_ids)
        self._expected.append(task_id)
        request = PieceRequest(packet_id=self.draw.randrange(256), kind=PieceKind.STANDARD, task_id=task_id, number=0)
        self.transport.write(request.to_bytes())
        if not self._requests and self.draw.random() < 0.5:
            self.transport.loseWriteConnection()

    def _replied(self, as_expected: bool) -> None:
        """A reply is complete."""
        self.pieces += 1
        if not as_expected:
            self.wrong = "expected a piece that is there and not found for one that is not, got the other"
        self._ask()
        if not self._expected:
            self.transport.loseConnection()


class StressTests(TestCase):
    """Many connections for a while."""

    timeout = SECONDS + 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory, protocol="tcp")
        self.clock = IReactorTime(reactor)
        self.draw = random.Random(SEED)
        self.task_ids = []
        for name, length in _LENGTHS.items():
            path = self.directory / name
            path.write_bytes(self.draw.randbytes(length))
            self.task_ids.append(import_file(path, directory=self.directory))
        self.task_ids.append("0" * 64)
        self.wrong: list[str] = []
        self.connections = self.pieces = self.cut = 0

    def stress(self, daemon: Daemon, seconds: float) -> Deferred[None]:
        """Keep so many connections going for so many seconds. Fires when the last one has ended."""
        over: Deferred[None] = Deferred()
        endpoint = TCP4ClientEndpoint(cast(IReactorTCP, reactor), *daemon.address)
        end = self.clock.seconds() + seconds
        going = 0

        def begin() -> None:
            nonlocal going
            going += 1
            child = _Stresser(self.draw, self.task_ids, lambda wrong: ended(child, wrong))
            endpoint.connect(Factory.forProtocol(lambda: child)).addErrback(
                lambda failure: ended(child, failure.getErrorMessage())
            )

        def ended(child: _Stresser, wrong: str) -> None:
            nonlocal going
            going -= 1
            self.connections += 1
            self.pieces += child.pieces
            if wrong:
                self.wrong.append(wrong)
            if self.clock.seconds() < end and len(self.wrong) < 10:
                begin()
            elif not going:
                over.callback(None)

        for _ in range(_CONNECTIONS):
            begin()
        return over

    async def look(self, daemon: Daemon) -> tuple[int, int]:
        """
        How many bytes of memory and how many descriptors the peer has, when it has noticed that all have gone.

        It has when it answers a child that came after them, since it hears of all in their order.
        """
        for _ in range(3):
            await deferToThread(self.ask, daemon)
        status = Path(f"/proc/{daemon.pid}/statm").read_text(encoding="ascii")
        memory = int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return memory, len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))

    def ask(self, daemon: Daemon) -> None:
        """Ask the peer for what is not there, and see the connection to its end."""
        with Child(daemon.address) as child:
            child.ask(self.task_ids[-1])
            self.assertIsInstance(child.next_event(), ErrorReply)

    async def test_stress(self) -> None:
        """Everything that comes is right, and memory and descriptors stay flat."""
        with Daemon(self.directory) as daemon:
            _, descriptors = await self.look(daemon)
            await self.stress(daemon, SECONDS / 4)
            warm, _ = await self.look(daemon)
            await self.stress(daemon, SECONDS * 3 / 4)
            memory, descriptors_after = await self.look(daemon)
            self.assertEqual(self.wrong, [])
            self.assertGreater(self.pieces, self.connections / 2)
            self.assertGreater(self.connections, _CONNECTIONS)
            self.assertLess(memory - warm, _GROWTH)
            self.assertLessEqual(
                descriptors_after, descriptors + len(_LENGTHS) + _PASSING
            )  # each task's file is kept open
            self.assertLess(peak_memory(daemon.pid), _MOST_MEMORY)
            self.assertEqual(await deferToThread(daemon.stop), 0)
            self.assertNotIn("Traceback", daemon.log)
