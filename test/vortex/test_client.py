"""The client of one parent: few connections for many requests, used again where the parent keeps them open."""

from __future__ import annotations

import errno
import gc
import weakref

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, NoRouteError
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import (
    LocalProtocolError,
    ParentUnreachable,
    PieceNotFound,
    PieceTimeout,
    PieceTruncated,
    PoolClosed,
)
from dragonfly_vortex.interfaces import IClient
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.testing.contract_parent import Offer, VortexContractParent
from dragonfly_vortex.testing.memory_endpoint import MemoryEndpoint
from dragonfly_vortex.testing.pieces import SamplePiece, reply_bytes, sample_piece
from dragonfly_vortex.transport.endpoints import client_endpoint
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_protocol import ClientSettings
from dragonfly_vortex.wire import Close, ErrorCode, ErrorReply, PieceRequest

PARENT = "parent.example:4005"
PIECE = sample_piece(40, number=3)
IDLE_TIMEOUT = 420.0


class TCPClientTests(SynchronousTestCase):
    """The client, with a parent that the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)
        self.client = self.make_client()

    def make_client(self, connections_per_address: int = 2) -> TCPClient:
        """A client with so many connections."""
        return TCPClient(
            PARENT,
            lambda address: self.endpoint,
            ClientSettings(clock=self.clock),
            connections_per_address=connections_per_address,
            idle_timeout=IDLE_TIMEOUT,
            connect_timeout=2.0,
        )

    def ask(self, piece: SamplePiece = PIECE, timeout: float = 360.0) -> Deferred[DownloadPieceResponse]:
        """Ask for a piece."""
        return self.client.download_piece(piece.request(), timeout)

    def answer(self, connection: int, piece: SamplePiece = PIECE) -> None:
        """Have the parent send a piece on one of the connections, counted from 0 as they were made."""
        self.endpoint.connections[connection].receive(reply_bytes(piece))

    def end(self, connection: int) -> None:
        """Have the parent close one of the connections."""
        self.endpoint.connections[connection].end()

    def fetch(self, connection: int, piece: SamplePiece = PIECE) -> None:
        """Ask for a piece, which must be asked for on that connection, and have it sent."""
        asked = self.ask(piece)
        self.assertEqual(self.asked_on(), [connection])
        self.answer(connection, piece)
        self.assertEqual(self.successResultOf(asked).content, piece.content)

    def asked_on(self) -> list[int]:
        """The connections that have been asked for a piece since the last call."""
        return [
            number
            for number, connection in enumerate(self.endpoint.connections)
            for packet in connection.packets()
            if isinstance(packet, PieceRequest)
        ]

    def tearDown(self) -> None:
        """However a test ends: once the client has stopped no connection and no timer is left."""
        stopped = self.client.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.client.connections, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(all(connection.ended for connection in self.endpoint.connections))

    def test_provides_the_interface(self) -> None:
        """It has a client's methods."""
        verifyObject(IClient, self.client)

    # -- a parent that keeps connections open

    def test_uses_a_connection_again(self) -> None:
        """One piece after the other goes over one connection, also after "not found"."""
        self.fetch(0)
        self.fetch(0)
        asked = self.ask()
        self.endpoint.connections[0].receive(ErrorReply(packet_id=0, code=ErrorCode.NOT_FOUND, text="").to_bytes())
        self.failureResultOf(asked, PieceNotFound)
        self.clock.advance(IDLE_TIMEOUT - 1)
        self.asked_on()
        self.fetch(0)
        self.assertEqual(self.client.connections, 1)

    def test_several_at_once(self) -> None:
        """As many pieces as there may be connections are under way; the others wait in order, and none is ahead."""
        pieces = [sample_piece(9, number=number) for number in range(5)]
        asked = [self.ask(piece) for piece in pieces]
        self.assertEqual(self.asked_on(), [0, 1])
        for connection, number in ((1, 1), (0, 0), (1, 2), (1, 4), (0, 3)):
            self.answer(connection, pieces[number])
            self.assertEqual(self.successResultOf(asked[number]).content, pieces[number].content)
        self.assertEqual(self.asked_on(), [0, 1, 1])
        self.assertEqual(len(self.endpoint.connections), 2)

    def test_made_meanwhile(self) -> None:
        """A request that is made when one that had waited has failed at once gets its turn behind those that wait."""
        endpoints = [self.endpoint]
        self.client = TCPClient(
            PARENT, lambda address: endpoints.pop(), ClientSettings(clock=self.clock), connections_per_address=1
        )
        failed: list[int] = []

        def ask(number: int) -> None:
            def has_failed(_: object) -> None:
                failed.append(number)
                if number == 1:
                    ask(3)

            self.ask().addErrback(has_failed)

        for number in range(3):
            ask(number)
        self.end(0)
        self.assertEqual(failed, [1, 2, 3, 0])

    def test_most_recent_first(self) -> None:
        """Of the idle connections the one that was used last is used next, so that the others can go."""
        both = [self.ask(), self.ask()]
        self.asked_on()
        self.answer(1)
        self.clock.advance(10)
        self.answer(0)
        for each in both:
            self.successResultOf(each)
        self.fetch(0)
        self.clock.advance(IDLE_TIMEOUT - 10)
        self.assertEqual(self.client.connections, 1)

    def test_idle(self) -> None:
        """A connection that has not been used for long is closed, without a packet."""
        self.fetch(0)
        self.clock.advance(IDLE_TIMEOUT - 1)
        self.fetch(0)
        self.clock.advance(IDLE_TIMEOUT - 1)
        connection = self.endpoint.connections[0]
        self.assertEqual((self.client.connections, connection.packets()), (1, []))
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual((self.client.connections, connection.ended), (0, True))
        self.assertEqual(connection.packets(), [])

    def test_parent_that_gives_up_idle_connections(self) -> None:
        """A parent that closes a connection after a while keeps them open anyway."""
        self.fetch(0)
        self.clock.advance(300)
        self.end(0)
        self.fetch(1)
        self.fetch(1)

    def test_ended_before_it_was_asked(self) -> None:
        """A kept connection that ends before the first byte of a reply: the piece is asked for on a fresh one."""
        self.fetch(0)
        self.clock.advance(300)
        asked = self.ask()
        self.end(0)
        self.assertEqual(self.asked_on(), [0, 1])
        self.answer(1)
        self.successResultOf(asked)
        self.fetch(1)

    def test_asked_once_more_only(self) -> None:
        """A fresh connection that ends unanswered is a failure, whether it was the first or the second to be asked."""
        first = self.ask()
        self.end(0)
        self.failureResultOf(first, ParentUnreachable)
        self.asked_on()
        self.fetch(1)
        self.clock.advance(300)
        second = self.ask()
        self.end(1)
        self.assertNoResult(second)
        self.end(2)
        self.failureResultOf(second, ParentUnreachable)
        self.assertEqual(len(self.endpoint.connections), 3)

    def test_once_more_is_on_a_fresh_one(self) -> None:
        """When a kept connection turns out to have ended, no other kept one is tried."""
        both = [self.ask(), self.ask()]
        self.answer(0)
        self.answer(1)
        for each in both:
            self.successResultOf(each)
        self.clock.advance(300)
        self.asked_on()
        asked = self.ask()
        self.end(1)
        self.assertEqual(self.asked_on(), [1, 2])
        self.answer(2)
        self.successResultOf(asked)

    def test_not_asked_again_after_an_answer(self) -> None:
        """A kept connection that ends after the first byte of a reply has failed the piece."""
        for received in (1, len(reply_bytes(PIECE)) - 1):
            self.endpoint.connections.clear()
            self.fetch(0)
            self.clock.advance(300)
            asked = self.ask()
            self.endpoint.connections[0].receive(reply_bytes(PIECE)[:received])
            self.end(0)
            self.failureResultOf(asked, ParentUnreachable)
            self.assertEqual(len(self.endpoint.connections), 1)

    def test_unasked_bytes(self) -> None:
        """A connection on which an unrequested packet arrived is not used again, and is closed."""
        asked = self.ask()
        self.endpoint.connections[0].receive(reply_bytes(PIECE) + b"\0")
        self.successResultOf(asked)
        self.clock.advance(0)
        self.assertEqual(self.client.connections, 0)
        self.asked_on()
        self.fetch(1)

    def test_unasked_bytes_while_idle(self) -> None:
        """The same holds for a connection that is idle already, though the bytes may be a part of a close."""
        self.fetch(0)
        goodbye = Close(packet_id=0).to_bytes()
        self.endpoint.connections[0].receive(goodbye[:3])
        self.fetch(1)
        self.endpoint.connections[0].receive(goodbye[3:])
        self.clock.advance(0)
        self.assertEqual(self.client.connections, 1)

    def test_forgets(self) -> None:
        """A piece that has been delivered is not held on to."""
        asked = self.ask()
        self.answer(0)
        self.successResultOf(asked)
        gone = weakref.ref(asked)
        del asked
        gc.collect()
        self.assertIsNone(gone())

    # -- a parent that closes after each piece

    def test_learns_that_the_parent_closes(self) -> None:
        """Once a connection has ended right behind its piece, the next piece is asked for on a new one at once."""
        self.fetch(0)
        self.end(0)
        for number in range(1, 5):
            self.fetch(number)  # its end has not been seen yet when the next is asked for
            self.clock.advance(0.01)
        self.assertEqual(len(self.endpoint.connections), 5)

    def test_learns_from_a_request_in_vain(self) -> None:
        """A request that was sent before the end was seen is lost once, and not again."""
        self.fetch(0)
        asked = self.ask()
        self.end(0)
        self.assertEqual(self.asked_on(), [0, 1])
        self.answer(1)
        self.successResultOf(asked)
        self.fetch(2)

    def test_learns_that_the_parent_keeps(self) -> None:
        """A connection that stays open shows that the parent has changed, and connections are used again."""
        self.fetch(0)
        self.end(0)
        self.fetch(1)
        self.clock.advance(5)
        self.fetch(1)
        self.fetch(1)

    def test_learns_from_an_idle_end(self) -> None:
        """A connection that its parent closes after a while shows the same."""
        self.fetch(0)
        self.end(0)
        self.fetch(1)
        self.clock.advance(5)
        self.end(1)
        self.fetch(2)
        self.fetch(2)

    def test_truncated_is_not_closing(self) -> None:
        """A connection that ends inside a piece tells nothing of what the parent does after one."""
        self.fetch(0)
        asked = self.ask()
        self.asked_on()
        self.endpoint.connections[0].receive(reply_bytes(PIECE)[:-1])
        self.end(0)
        self.failureResultOf(asked, PieceTruncated)
        self.fetch(1)
        self.fetch(1)

    def test_own_end_is_not_the_parents(self) -> None:
        """A connection that this side ends tells nothing of the parent."""
        self.fetch(0)
        asked = self.ask()
        self.asked_on()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.clock.advance(0)
        self.fetch(1)
        self.fetch(1)

    def test_no_more_connections_than_allowed(self) -> None:
        """Connections whose end is awaited give way to those that are needed."""
        self.fetch(0)
        self.end(0)
        for number in range(1, 9):
            self.fetch(number)
            self.clock.advance(0)
            self.assertLessEqual(self.client.connections, 2)

    # -- failures and ends

    def test_refused(self) -> None:
        """A parent that cannot be connected to is unreachable, in words that say why, and with the cause."""
        self.endpoint.at_once = False
        for cause, words in (
            (ConnectionRefusedError(), "connection refused"),
            (DNSLookupError(), "cannot be resolved"),
            (OSError("no route"), "no route"),
            (NoRouteError(errno.EHOSTUNREACH, "No route to host"), ": no route to host"),
            (ConnectError(errno.ECONNRESET, "Connection reset by peer"), ": connection reset by peer"),
            (ConnectError(string="odd"), "odd"),
        ):
            asked = self.ask()
            self.endpoint.refuse(cause)
            error = self.failureResultOf(asked, ParentUnreachable).value
            self.assertIn(words, str(error))
            self.assertEqual((error.parent, error.piece_id), (PARENT, PIECE.piece_id))
            self.assertIs(error.__cause__, cause)

    def test_connect_timeout(self) -> None:
        """Connecting takes two seconds at the most."""
        self.endpoint.at_once = False
        asked = self.ask()
        self.clock.advance(1.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertIn("within 2 s", str(self.failureResultOf(asked, ParentUnreachable).value))
        self.assertEqual(self.endpoint.attempts, [])

    def test_bad_address(self) -> None:
        """An address that is none is a parent that cannot be reached."""
        client = TCPClient(
            "nonsense",
            lambda address: client_endpoint(IReactorTCP(reactor), address, 2.0),
            ClientSettings(clock=self.clock),
        )
        asked = client.download_piece(PIECE.request(), 1.0)
        self.assertIn("HOST:PORT", str(self.failureResultOf(asked, ParentUnreachable).value))

    def test_unaskable(self) -> None:
        """What cannot be asked for fails before a connection is made."""
        request = replace(PIECE.request(), task_id="short")
        self.failureResultOf(self.client.download_piece(request, 1.0), LocalProtocolError)
        self.assertEqual(self.endpoint.connections, [])

    def test_timeouts(self) -> None:
        """A piece has its time, wherever it is when that is over: waiting, connecting, unanswered or incomplete."""
        self.client = self.make_client(connections_per_address=1)
        self.endpoint.at_once = False
        asked, waiting = self.ask(timeout=1.0), self.ask(timeout=0.5)
        self.clock.advance(0.5)
        self.assert_timed_out(waiting, "no free connection")
        self.clock.advance(0.5)
        self.assert_timed_out(asked, "no connection")
        self.endpoint.at_once = True
        asked = self.ask(timeout=5.0)
        self.clock.advance(5.0)
        self.assert_timed_out(asked, "within 5 s, got no reply")
        asked = self.ask(timeout=5.0)
        self.endpoint.connections[-1].receive(reply_bytes(PIECE)[:-1])
        self.clock.advance(5.0)
        self.assert_timed_out(asked, "39 of 40 bytes")
        self.clock.advance(0)
        self.assertEqual(self.client.connections, 0)

    def test_progress(self) -> None:
        """The time counts from the last byte: a piece that comes slowly comes."""
        asked = self.ask(timeout=5.0)
        for byte in reply_bytes(PIECE):
            self.clock.advance(4.0)
            self.endpoint.connections[0].receive(bytes([byte]))
        self.assertEqual(self.successResultOf(asked).content, PIECE.content)

    def test_progress_of_others(self) -> None:
        """A piece that waits for a connection has time while something comes on the others."""
        self.client = self.make_client(connections_per_address=1)
        asked, waiting = self.ask(timeout=5.0), self.ask(timeout=5.0)
        for byte in reply_bytes(PIECE):
            self.clock.advance(1.0)
            self.endpoint.connections[0].receive(bytes([byte]))
        self.successResultOf(asked)
        self.clock.advance(4.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assert_timed_out(waiting, "no reply")

    def test_own_limit(self) -> None:
        """The time in which the connection rests for this side's own limit does not count, and is known."""
        limiter = TokenBucket(10, self.clock)
        settings = ClientSettings(clock=self.clock, receive_limiter=limiter)
        self.client = TCPClient(PARENT, lambda address: self.endpoint, settings)
        asked = self.ask(timeout=5.0)
        data = reply_bytes(PIECE)
        self.endpoint.connections[0].receive(data[:100])
        self.clock.pump([0.5] * 18)
        self.assertNoResult(asked)
        self.clock.pump([0.5] * 3)
        self.endpoint.connections[0].receive(data[100:])
        self.assertGreater(self.successResultOf(asked).waited, 9.0)

    def assert_timed_out(self, asked: Deferred[DownloadPieceResponse], words: str) -> None:
        """A piece has timed out, and says how far it came."""
        error = self.failureResultOf(asked, PieceTimeout).value
        self.assertEqual((error.parent, error.piece_id), (PARENT, PIECE.piece_id))
        self.assertIn(words, error.reason)

    def test_timeout_is_for_both_attempts(self) -> None:
        """Asking once more does not start the time anew."""
        self.fetch(0)
        self.clock.advance(300)
        asked = self.ask(timeout=10.0)
        self.clock.advance(6)
        self.end(0)
        self.clock.advance(3)
        self.assertNoResult(asked)
        self.clock.advance(1)
        self.failureResultOf(asked, PieceTimeout)

    def test_cancel(self) -> None:
        """A cancelled request frees its place for the next, wherever it is."""
        self.client = self.make_client(connections_per_address=1)
        first, second, third = self.ask(), self.ask(), self.ask()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertTrue(self.endpoint.connections[0].aborted)
        self.assertEqual(self.asked_on(), [0, 1])
        self.answer(1)
        self.successResultOf(third)

    def test_cancel_while_connecting(self) -> None:
        """A request that is cancelled while it connects stops connecting."""
        self.endpoint.at_once = False
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.endpoint.attempts, [])

    def test_stop(self) -> None:
        """Stopping fails what is under way, says goodbye to idle connections, and waits for the end of all."""
        self.fetch(0)
        asked = [self.ask() for _ in range(3)]
        self.assertEqual(self.asked_on(), [0, 1])
        self.answer(0)
        self.successResultOf(asked[0])
        self.answer(0)
        self.successResultOf(asked[2])
        waiting = [self.client.stop(), self.client.stop()]
        self.failureResultOf(asked[1], PoolClosed)
        for each in waiting:
            self.assertNoResult(each)
        self.assertTrue(self.endpoint.connections[0].disconnecting)
        self.assertTrue(self.endpoint.connections[1].aborted)
        self.clock.advance(0)
        for each in waiting:
            self.successResultOf(each)
        self.failureResultOf(self.ask(), PoolClosed)
        self.assertEqual(len(self.endpoint.connections), 2)

    def test_stop_with_many_waiting(self) -> None:
        """Any number of requests may wait when a client is stopped."""
        self.client = self.make_client(connections_per_address=1)
        self.endpoint.at_once = False
        asked = [self.ask() for _ in range(1000)]
        self.successResultOf(self.client.stop())
        for each in asked:
            self.failureResultOf(each, PoolClosed)

    def test_stop_while_connecting_and_waiting(self) -> None:
        """Stopping gives up connecting, and waiting requests do not begin."""
        self.client = self.make_client(connections_per_address=1)
        self.endpoint.at_once = False
        asked = [self.ask(), self.ask()]
        self.successResultOf(self.client.stop())
        for each in asked:
            self.failureResultOf(each, PoolClosed)
        self.assertEqual((self.endpoint.attempts, self.endpoint.connections), ([], []))

    def test_many_failures(self) -> None:
        """A thousand requests that wait for one parent that refuses all fail, one after the other."""
        self.endpoint.at_once = False
        asked = [self.ask() for _ in range(1000)]
        while self.endpoint.attempts:
            self.endpoint.refuse(ConnectionRefusedError())
        for each in asked:
            self.failureResultOf(each, ParentUnreachable)


class RealParentTests(TestCase):
    """What sockets do."""

    def run_client(self, closes: bool, count: int) -> tuple[VortexContractParent, TCPClient]:
        """A parent with so many pieces, and a client of it."""
        offers = [Offer(piece=sample_piece(100_000, number=number)) for number in range(count)]
        parent = VortexContractParent(IReactorTCP(reactor), offers, closes=closes)
        parent.start()
        self.addCleanup(parent.stop)
        client = TCPClient(
            parent.address,
            lambda address: client_endpoint(IReactorTCP(reactor), address, 60.0),
            ClientSettings(clock=IReactorTime(reactor)),
        )
        self.addCleanup(client.stop)
        return parent, client

    async def test_keeping_parent(self) -> None:
        """Ten pieces over one connection, which ends with a goodbye."""
        parent, client = self.run_client(False, 10)
        for number in range(10):
            await client.download_piece(sample_piece(100_000, number=number).request(), 10.0)
        self.assertEqual((parent.connections, len(parent.requests)), (1, 10))
        await client.stop()
        await parent.until_deserted()
        self.assertEqual(parent.goodbyes, 0)  # a dfdaemon would log an error for a close packet

    async def test_closing_parent(self) -> None:
        """Ten pieces over ten connections, with at most one request that was lost."""
        parent, client = self.run_client(True, 10)
        for number in range(10):
            await client.download_piece(sample_piece(100_000, number=number).request(), 10.0)
        self.assertEqual((parent.connections, len(parent.requests)), (10, 10))
        await parent.until_deserted()
