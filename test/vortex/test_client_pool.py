"""The pool keeps one client for each parent, no more than it may, and none for longer than it is of use."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dragonfly_vortex.errors import LocalProtocolError, PieceNotFound, PieceTimeout, PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.testing.memory_endpoint import MemoryEndpoint
from dragonfly_vortex.testing.pieces import reply_bytes, sample_piece
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_pool import ClientPool
from dragonfly_vortex.vortex.client_protocol import ClientSettings
from dragonfly_vortex.wire import ErrorCode, ErrorReply

PIECE = sample_piece(40, number=3)
IDLE_TIMEOUT = 420.0


@implementer(IClient)
class Unstoppable:
    """A client that cannot be stopped."""

    def download_piece(self, request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        return Deferred()

    def stop(self) -> Deferred[None]:
        stopped: Deferred[None] = Deferred()
        stopped.errback(ValueError("a defect"))
        return stopped


class ClientPoolTests(SynchronousTestCase):
    """The pool over real clients, whose parents the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoints: dict[str, MemoryEndpoint] = {}
        self.made: list[str] = []
        self.pool = ClientPool(self.make_client, self.clock, capacity=2, idle_timeout=IDLE_TIMEOUT)

    def make_client(self, address: str) -> IClient:
        """A client of an address, which is written down."""
        self.made.append(address)
        self.endpoints.setdefault(address, MemoryEndpoint(self.clock))
        return TCPClient(address, self.endpoints.__getitem__, ClientSettings(clock=self.clock), idle_timeout=3600.0)

    def ask(self, address: str, timeout: float = 360.0) -> Deferred[DownloadPieceResponse]:
        """Ask a parent for a piece."""
        return self.pool.download_piece(address, PIECE.request(), timeout)

    def answer(self, address: str, connection: int = -1) -> None:
        """Have a parent send the piece."""
        self.endpoints[address].connections[connection].receive(reply_bytes(PIECE))

    def fetch(self, address: str) -> None:
        """Ask a parent for a piece, and have it sent."""
        asked = self.ask(address)
        self.answer(address)
        self.successResultOf(asked)

    def open_connections(self) -> list[str]:
        """The parents that there are connections to."""
        self.clock.advance(0)
        return [
            address
            for address, endpoint in self.endpoints.items()
            for connection in endpoint.connections
            if not connection.ended
        ]

    def tearDown(self) -> None:
        """However a test ends: once the pool has stopped no connection and no timer is left."""
        stopped = self.pool.stop()
        self.assertEqual(self.open_connections(), [])
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_client_for_an_address(self) -> None:
        """All pieces of a parent come from one client, and those that are under way are counted."""
        self.assertEqual((len(self.pool), self.pool.active_requests("a:1")), (0, 0))
        asked = [self.ask("a:1"), self.ask("a:1")]
        self.assertEqual((self.pool.active_requests("a:1"), self.pool.active_requests("b:1")), (2, 0))
        self.answer("a:1", 0)
        self.assertEqual(self.successResultOf(asked[0]).content, PIECE.content)
        self.assertEqual(self.pool.active_requests("a:1"), 1)
        self.answer("a:1", 1)
        self.successResultOf(asked[1])
        self.assertEqual((len(self.pool), self.pool.active_requests("a:1")), (1, 0))
        self.fetch("a:1")
        self.assertEqual(self.made, ["a:1"])

    def test_failures_are_counted(self) -> None:
        """A piece that fails, or is cancelled, is under way no longer."""
        asked = self.ask("a:1")
        missing = ErrorReply(packet_id=0, code=ErrorCode.NOT_FOUND, text="").to_bytes()
        self.endpoints["a:1"].connections[0].receive(missing)
        self.failureResultOf(asked, PieceNotFound)
        asked = self.ask("a:1")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual((len(self.pool), self.pool.active_requests("a:1")), (1, 0))
        self.assertEqual(self.open_connections(), [])

    def test_makes_room(self) -> None:
        """At capacity the client that has been idle for longest goes."""
        self.fetch("a:1")
        self.clock.advance(1)
        self.fetch("b:1")
        self.clock.advance(1)
        self.fetch("a:1")
        self.fetch("c:1")
        self.assertEqual((len(self.pool), self.open_connections()), (2, ["a:1", "c:1"]))
        self.assertTrue(self.endpoints["b:1"].connections[0].disconnecting)
        self.fetch("a:1")
        self.assertEqual(self.made, ["a:1", "b:1", "c:1"])

    def test_busy_clients_stay(self) -> None:
        """A client with a piece under way does not make room, however long ago it was asked."""
        asked = self.ask("a:1")
        self.fetch("b:1")
        self.fetch("c:1")
        self.answer("a:1")
        self.successResultOf(asked)
        self.assertEqual(self.open_connections(), ["a:1", "c:1"])

    def test_waits_for_a_place(self) -> None:
        """When all clients are busy others wait in order; those of one parent come in together."""
        first, second = self.ask("a:1"), self.ask("b:1")
        waiting = [self.ask("c:1"), self.ask("d:1"), self.ask("c:1")]
        joining = self.ask("a:1")
        self.assertEqual(self.made, ["a:1", "b:1"])
        self.answer("b:1")
        self.successResultOf(second)
        self.assertEqual((self.made[2:], self.pool.active_requests("c:1")), (["c:1"], 2))
        self.answer("c:1", 0)
        self.answer("c:1", 1)
        for each in (waiting[0], waiting[2]):
            self.successResultOf(each)
        self.assertEqual((self.made[3:], len(self.pool)), (["d:1"], 2))
        self.answer("d:1")
        self.successResultOf(waiting[1])
        for connection, each in enumerate((first, joining)):
            self.answer("a:1", connection)
            self.successResultOf(each)

    def test_failures_at_once(self) -> None:
        """Requests that fail as soon as they have a place make room for one another."""
        self.pool = ClientPool(self.make_client, self.clock, capacity=1, idle_timeout=IDLE_TIMEOUT)
        busy = self.ask("a:1")
        request = replace(PIECE.request(), task_id="short")
        waiting = [self.pool.download_piece(address, request, 1.0) for address in ("b:1", "c:1", "d:1")]
        self.answer("a:1")
        self.successResultOf(busy)
        for each in waiting:
            self.failureResultOf(each, LocalProtocolError)
        self.assertEqual(self.made, ["a:1", "b:1", "c:1", "d:1"])

    def test_cancelled_while_it_waits(self) -> None:
        """A request that waits for a place can be cancelled."""
        busy = [self.ask("a:1"), self.ask("b:1")]
        waiting = self.ask("c:1")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.answer("a:1")
        self.answer("b:1")
        for each in busy:
            self.successResultOf(each)
        self.assertEqual(self.made, ["a:1", "b:1"])

    def test_timeout_while_it_waits(self) -> None:
        """A piece has its time to get a place, and then its time to come."""
        busy = [self.ask("a:1"), self.ask("b:1")]
        late, later = self.ask("c:1", timeout=5.0), self.ask("d:1", timeout=10.0)
        self.clock.advance(5.0)
        error = self.failureResultOf(late, PieceTimeout).value
        self.assertEqual((error.parent, error.piece_id), ("c:1", PIECE.piece_id))
        self.assertIn("within 5 s, got no place", error.reason)
        self.answer("a:1")
        self.successResultOf(busy[0])
        self.clock.advance(9.9)
        self.assertNoResult(later)
        self.clock.advance(0.1)
        self.failureResultOf(later, PieceTimeout)
        self.answer("b:1")
        self.successResultOf(busy[1])

    def test_idle_clients_go(self) -> None:
        """A client that has been idle for long is stopped, others stay, and the cleanup ends when none is left."""
        self.fetch("a:1")
        self.clock.pump([IDLE_TIMEOUT / 4] * 3)
        self.fetch("b:1")
        self.clock.pump([IDLE_TIMEOUT / 4] * 2)
        self.assertEqual((len(self.pool), self.open_connections()), (1, ["b:1"]))
        self.clock.pump([IDLE_TIMEOUT / 4] * 4)
        self.assertEqual((len(self.pool), self.open_connections()), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.fetch("a:1")
        self.assertEqual(self.made, ["a:1", "b:1", "a:1"])

    def test_busy_clients_are_not_idle(self) -> None:
        """A piece that takes its time keeps its client."""
        asked = self.ask("a:1", timeout=10 * IDLE_TIMEOUT)
        self.clock.pump([IDLE_TIMEOUT / 2] * 6)
        self.answer("a:1")
        self.successResultOf(asked)
        self.clock.pump([IDLE_TIMEOUT / 2])
        self.assertEqual(len(self.pool), 1)

    def test_stop(self) -> None:
        """Stopping fails what is under way and what waits, fires when all connections have ended, and lasts."""
        self.fetch("a:1")
        asked = [self.ask("b:1"), self.ask("a:1"), self.ask("c:1")]
        stopped = [self.pool.stop(), self.pool.stop()]
        for each in asked:
            self.failureResultOf(each, PoolClosed)
        for stopping in stopped:
            self.assertNoResult(stopping)
        self.assertEqual(self.open_connections(), [])
        for stopping in stopped:
            self.successResultOf(stopping)
        self.failureResultOf(self.ask("a:1"), PoolClosed)
        self.assertEqual(self.made, ["a:1", "b:1"])

    def test_stop_waits_for_those_that_made_room(self) -> None:
        """A client that was stopped to make room, and whose connections have not ended yet, is waited for, too."""
        self.pool = ClientPool(self.make_client, self.clock, capacity=1, idle_timeout=IDLE_TIMEOUT)
        self.fetch("a:1")
        asked = self.ask("b:1")
        stopped = self.pool.stop()
        self.failureResultOf(asked, PoolClosed)
        self.endpoints["b:1"].connections[0].end()
        self.assertNoResult(stopped)
        self.assertEqual(self.open_connections(), [])
        self.successResultOf(stopped)

    def test_client_that_cannot_be_stopped(self) -> None:
        """A client that fails to stop is logged, and the others are stopped anyway."""
        pool = ClientPool(lambda address: Unstoppable(), self.clock, capacity=2, idle_timeout=IDLE_TIMEOUT)
        asked = pool.download_piece("a:1", PIECE.request(), 1.0)
        self.successResultOf(pool.stop())
        self.assertNoResult(asked)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
