"""A child's connection gets each piece right or not at all, however its bytes are cut, and says which and why."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTCP, IReactorTime, ITCPTransport
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.errors import (
    DigestMismatch,
    LocalProtocolError,
    ParentFailed,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceNotFound,
    PieceTruncated,
    RemoteProtocolError,
    SinkFailed,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import IPieceSink
from dragonfly_vortex.model import DownloadPieceResponse, FilePlace
from dragonfly_vortex.testing.memory_endpoint import MemoryConnection, MemoryEndpoint
from dragonfly_vortex.testing.pieces import SamplePiece, reply_bytes, sample_piece
from dragonfly_vortex.testing.scripted_parent import End, Pause, Reset, ScriptedParent, Send, Step
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.sinks import FileSink, MemorySink
from dragonfly_vortex.transport.socket_options import plain_socket
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.vortex.client_protocol import ClientSettings, VortexClientFactory, VortexClientProtocol
from dragonfly_vortex.wire import Close, ErrorCode, ErrorReply, PieceKind, PieceRequest, Reserved
from test.vortex.sinks import CountingSink, FullSink

PARENT = "parent.example:4005"
PIECE = sample_piece(40, number=3)


class VortexClientProtocolTests(SynchronousTestCase):
    """One connection, played by the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ended: list[VortexClientProtocol] = []

    def connect(self, settings: ClientSettings | None = None) -> tuple[VortexClientProtocol, MemoryConnection]:
        """A new connection, and its other side."""
        factory = VortexClientFactory(PARENT, settings or ClientSettings(clock=self.clock), self.ended.append)
        endpoint = MemoryEndpoint(self.clock)
        protocol = self.successResultOf(endpoint.connect(factory))
        assert isinstance(protocol, VortexClientProtocol)
        return protocol, endpoint.connections[0]

    def ask(
        self, piece: SamplePiece = PIECE, sink: MemorySink | None = None, settings: ClientSettings | None = None
    ) -> tuple[VortexClientProtocol, MemoryConnection, Deferred[DownloadPieceResponse]]:
        """A new connection on which a piece has been asked for."""
        protocol, connection = self.connect(settings)
        return protocol, connection, protocol.download_piece(piece.request(sink))

    def assert_arrives(self, deferred: Deferred[DownloadPieceResponse], piece: SamplePiece = PIECE) -> None:
        """The piece has arrived."""
        response = self.successResultOf(deferred)
        self.assertEqual((response.content, response.metadata), (piece.content, piece.metadata))

    # -- what is said and heard

    def test_request(self) -> None:
        """A request names kind, task and number; each has another packet ID."""
        protocol, connection = self.connect()
        for number in range(300):
            piece = sample_piece(1, number=number, kind=PieceKind.CACHE)
            result = protocol.download_piece(piece.request())
            (request,) = connection.packets()
            self.assertEqual(
                request,
                PieceRequest(packet_id=number % 256, kind=PieceKind.CACHE, task_id=piece.task_id, number=number),
            )
            connection.receive(reply_bytes(piece))
            self.assert_arrives(result, piece)

    def test_fragments(self) -> None:
        """A reply of either form may come whole, byte by byte, or in any two parts."""
        for length in (0, 1, 40):
            piece = sample_piece(length, number=3)
            for inside in (False, True):
                data = reply_bytes(piece, packet_id=77, inside=inside)
                for chunks in cuts(data):
                    protocol, connection, result = self.ask(piece)
                    for chunk in chunks[:-1]:
                        connection.receive(chunk)
                        self.assertNoResult(result)
                        self.assertFalse(protocol.usable)
                    connection.receive(chunks[-1])
                    self.assert_arrives(result, piece)
                    self.assertTrue(protocol.usable)

    def test_packet_id(self) -> None:
        """Whether the reply has the request's packet ID is told, because that of a dfdaemon is random."""
        for packet_id in (0, 77):
            piece = sample_piece(40, number=3)
            _, connection, result = self.ask(piece)
            connection.receive(reply_bytes(piece, packet_id=packet_id))
            self.assertEqual(self.successResultOf(result).repeats_id, packet_id == 0)

    def test_to_a_file(self) -> None:
        """A sink is given each chunk as it comes."""
        descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        protocol, connection = self.connect()
        result = protocol.download_piece(PIECE.request(FileSink(descriptor, 5)))
        data = reply_bytes(PIECE)
        connection.receive(data[:-10])
        self.assertEqual(os.pread(descriptor, 100, 5), PIECE.content[:-10])
        connection.receive(data[-10:])
        self.assertEqual(os.pread(descriptor, 100, 5), PIECE.content)
        self.assertIsNone(self.successResultOf(result).content)

    def test_next_piece_at_once(self) -> None:
        """A callback of a piece may request the next one at once."""
        protocol, connection, first = self.ask()
        second = first.addCallback(lambda _: protocol.download_piece(PIECE.request()))
        connection.receive(reply_bytes(PIECE))
        self.assertEqual(len(connection.packets()), 2)
        connection.receive(reply_bytes(PIECE))
        self.assert_arrives(second)

    def test_never_ahead(self) -> None:
        """A second piece cannot be asked for before the first is complete."""
        protocol, connection, result = self.ask()
        self.assertRaises(LocalProtocolError, protocol.download_piece, PIECE.request())
        connection.receive(reply_bytes(PIECE))
        self.assert_arrives(result)

    def test_unaskable(self) -> None:
        """A request that cannot be sent raises, and the connection is as good as before."""
        protocol, connection = self.connect()
        self.assertRaises(LocalProtocolError, protocol.download_piece, replace(PIECE.request(), task_id="short"))
        self.assertEqual((protocol.usable, connection.packets()), (True, []))

    def test_socket_is_configured(self) -> None:
        """The transport is configured when it has connected."""
        configured: list[ITCPTransport] = []
        settings = ClientSettings(clock=self.clock, configure_socket=configured.append)
        protocol, _ = self.connect(settings)
        self.assertEqual(configured, [protocol.transport])

    # -- what the parent cannot do

    def test_not_found(self) -> None:
        """After "not found" the connection is as good as before."""
        protocol, connection, result = self.ask()
        connection.receive(ErrorReply(packet_id=0, code=ErrorCode.NOT_FOUND, text="gone").to_bytes())
        error = self.failureResultOf(result, PieceNotFound).value
        self.assertEqual((error.parent, error.piece_id), (PARENT, PIECE.piece_id))
        self.assertIn("gone", error.reason)
        self.assertTrue(protocol.usable)

    def test_other_errors(self) -> None:
        """After any other error, a reserved one too, the connection is given up."""
        for code in (0, 1, 3, 4, 255):
            protocol, connection, result = self.ask()
            connection.receive(ErrorReply(packet_id=0, code=code, text="so it is").to_bytes())
            error = self.failureResultOf(result, ParentFailed).value
            self.assertEqual((error.code, error.parent), (code, PARENT))
            self.assertIn("so it is", error.reason)
            self.assertEqual((protocol.usable, connection.disconnecting, protocol.closed_here), (False, True, True))

    def test_more_than_an_error(self) -> None:
        """What comes behind an error that ends the conversation is not looked at."""
        for code in (1, 3):
            _, connection, result = self.ask()
            connection.receive(ErrorReply(packet_id=0, code=code, text="").to_bytes() + b"HTTP/1.1 400 Bad Request")
            self.failureResultOf(result, ParentFailed)
            self.assertEqual((connection.disconnecting, connection.aborted), (True, False))

    # -- what the parent must not do

    def assert_refused(
        self, data: bytes, error: type[UnexpectedPiece | ParentSpokeWrongly | DigestMismatch], *words: str
    ) -> None:
        """A reply is refused with those words, in one piece and byte by byte, and the connection aborted."""
        for chunks in ([data], [data[at : at + 1] for at in range(len(data))]):
            sink = CountingSink()
            protocol, connection, result = self.ask(sink=sink)
            for chunk in chunks:
                connection.receive(chunk)
            raised = self.failureResultOf(result, error).value
            self.assertEqual((raised.parent, raised.piece_id), (PARENT, PIECE.piece_id))
            for word in words:
                self.assertIn(word, raised.reason)
            self.assertEqual(isinstance(raised.__cause__, RemoteProtocolError), error is ParentSpokeWrongly)
            self.assertEqual((connection.aborted, protocol.usable, protocol.closed_here), (True, False, True))
            self.clock.advance(0)
            self.assertEqual(self.ended.pop(), protocol)
            self.assertLessEqual(sink.failures, 1)

    def test_wrong_number(self) -> None:
        """Another piece's number is refused before its content comes."""
        other = replace(PIECE, metadata=replace(PIECE.metadata, number=4), content=b"")
        self.assert_refused(reply_bytes(other), UnexpectedPiece, "number 3", "got 4")

    def test_wrong_kind(self) -> None:
        """Another kind of piece is refused."""
        self.assert_refused(reply_bytes(replace(PIECE, kind=PieceKind.CACHE)), ParentSpokeWrongly, "standard", "cache")

    def test_wrong_content(self) -> None:
        """Content that does not fit its digest is refused."""
        self.assert_refused(reply_bytes(PIECE)[:-1] + b"x", DigestMismatch, PIECE.metadata.digest)

    def test_no_digest(self) -> None:
        """A piece without a digest is refused, and taken where that is allowed."""
        bare = replace(PIECE, metadata=replace(PIECE.metadata, digest=""))
        self.assert_refused(reply_bytes(bare), DigestMismatch, "none")
        _, connection, result = self.ask(settings=ClientSettings(clock=self.clock, allow_empty_digest=True))
        connection.receive(reply_bytes(bare))
        self.assert_arrives(result, bare)
        protocol, connection = self.connect()
        result = protocol.download_piece(replace(PIECE.request(), is_whole_verified=True))
        connection.receive(reply_bytes(bare))
        self.assert_arrives(result, bare)

    def test_too_long(self) -> None:
        """A piece that is longer than a piece may be is refused from its metadata."""
        endless = replace(PIECE, metadata=replace(PIECE.metadata, length=2**30 + 1), content=b"")
        self.assert_refused(reply_bytes(endless), ParentSpokeWrongly, str(2**30), str(2**30 + 1))

    def test_nonsense(self) -> None:
        """Packets that are no reply, or no packets at all, are refused."""
        request = PieceRequest(packet_id=0, kind=PieceKind.STANDARD, task_id=PIECE.task_id, number=3)
        for data in (
            Reserved(packet_id=0, reserved_tag=99).to_bytes(),
            request.to_bytes(),
            b"\0\xff\xff\xff\xff\xff",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ):
            self.assert_refused(data, ParentSpokeWrongly)

    def test_sink_that_is_full(self) -> None:
        """A sink's failure is not the parent's, and ends the transfer anyway."""
        sink = FullSink()
        _, connection, result = self.ask(sink=sink)
        connection.receive(reply_bytes(PIECE))
        self.assertIn(PIECE.piece_id, str(self.failureResultOf(result, SinkFailed).value))
        self.assertEqual((connection.aborted, sink.failures), (True, 1))

    def test_more_than_was_asked_for(self) -> None:
        """What comes behind a piece does not make the piece worse, but the connection is not used again."""
        unasked = reply_bytes(PIECE)
        for data in (unasked, unasked[:3], ErrorReply(packet_id=0, code=2, text="").to_bytes(), b"\0\x09" * 50):
            for together in (True, False):
                protocol, connection, result = self.ask()
                with capturedLogs() as events:
                    connection.receive(reply_bytes(PIECE) + (data if together else b""))
                    self.assert_arrives(result)
                    if not together:
                        connection.receive(data)
                self.assertEqual(
                    ["unexpected packet" in formatEvent(each) for each in events], [True] * (len(data) > 3)
                )
                self.assertFalse(protocol.usable)
                self.assertEqual(connection.aborted, len(data) > 3)

    def test_unasked(self) -> None:
        """A parent that speaks first is hung up on."""
        protocol, connection = self.connect()
        connection.receive(reply_bytes(PIECE))
        self.assertEqual((connection.aborted, protocol.usable), (True, False))

    # -- how connections end

    def test_closed_before_a_reply(self) -> None:
        """A connection that ends before its reply says so, and whether any byte of the reply arrived."""
        for data in (b"", reply_bytes(PIECE)[:1]):
            protocol, connection, result = self.ask()
            connection.receive(data) if data else None
            connection.end()
            error = self.failureResultOf(result, ParentUnreachable).value
            self.assertNotIsInstance(error, PieceTruncated)
            hint = "" if data else "; is it a tls:// address?"
            self.assertEqual(error.reason, f"closed before a reply{hint}")
            self.assertIsInstance(error.__cause__, ConnectionDone)
            self.assertEqual((protocol.answered, protocol.usable, protocol.closed_here), (bool(data), False, False))

    def test_truncated(self) -> None:
        """If a connection ends inside the content, the error says how much arrived, and the sink fails."""
        for content in (b"", PIECE.content[:-1]):
            sink = CountingSink()
            _, connection, result = self.ask(sink=sink)
            connection.receive(reply_bytes(replace(PIECE, content=content)))
            connection.end()
            error = self.failureResultOf(result, PieceTruncated).value
            self.assertIn(f"closed after {len(content)} of 40 bytes", error.reason)
            self.assertEqual(sink.failures, 1)

    def test_reset(self) -> None:
        """A lost connection differs from a closed one, and the cause is kept."""
        _, connection, result = self.ask()
        connection.receive(reply_bytes(PIECE)[:-5])
        connection.reset()
        error = self.failureResultOf(result, PieceTruncated).value
        self.assertIn("lost after 35 of 40 bytes", error.reason)
        self.assertIsInstance(error.__cause__, ConnectionLost)

    def test_end_after_a_piece(self) -> None:
        """A connection that ends behind a piece is no error."""
        protocol, connection, result = self.ask()
        connection.receive(reply_bytes(PIECE))
        connection.end()
        self.assert_arrives(result)
        self.assertEqual((self.ended, protocol.usable, protocol.closed_here), ([protocol], False, False))

    def test_goodbye_from_the_parent(self) -> None:
        """A parent that says goodbye is hung up on; a piece that it was asked for has had no answer."""
        goodbye = Close(packet_id=0).to_bytes()
        protocol, connection = self.connect()
        connection.receive(goodbye)
        self.assertEqual((connection.disconnecting, protocol.usable, protocol.closed_here), (True, False, False))
        protocol, connection, result = self.ask()
        connection.receive(goodbye)
        self.failureResultOf(result, ParentUnreachable)
        self.assertEqual((connection.disconnecting, protocol.answered), (True, False))
        self.clock.advance(0)
        self.assertTrue(connection.ended)

    def test_close(self) -> None:
        """An idle connection is closed without a packet: a dfdaemon would log an error for it."""
        protocol, connection = self.connect()
        protocol.close()
        protocol.close()
        self.assertEqual(connection.packets(), [])
        self.assertEqual((connection.disconnecting, protocol.usable, protocol.closed_here), (True, False, True))
        self.clock.advance(0)
        self.assertEqual(self.ended, [protocol])
        protocol.close()

    def test_close_during_a_piece(self) -> None:
        """A connection that is closed during a piece ends without a goodbye, and the piece fails."""
        protocol, connection, result = self.ask()
        protocol.close()
        self.assertEqual(len(connection.packets()), 1)
        self.clock.advance(0)
        self.failureResultOf(result, ParentUnreachable)

    def test_cancel(self) -> None:
        """A cancelled piece aborts its connection at once, tells its sink, says how far it came, and fires once."""
        data = reply_bytes(PIECE)
        for received, progress, failures in (
            (b"", "no reply", 0),
            (data[:9], "no reply", 0),
            (data[:-7], "33 of 40 bytes", 1),
        ):
            sink = CountingSink()
            protocol, connection, result = self.ask(sink=sink)
            connection.receive(received) if received else None
            result.cancel()
            self.assertEqual(str(self.failureResultOf(result, CancelledError).value), progress)
            self.assertEqual((connection.aborted, protocol.usable, sink.failures), (True, False, failures))
            protocol.dataReceived(data[-7:])
            self.clock.advance(0)
            self.assertTrue(connection.ended)
            self.assertEqual(sink.failures, failures)

    def test_cancelled_by_its_sink(self) -> None:
        """A sink that gives the piece up while it is given bytes ends it, and nothing else is blamed."""

        class Fickle(CountingSink):
            """A sink that loses interest."""

            def write(self, data: bytes | memoryview) -> None:
                result.cancel()

        sink = Fickle()
        _, connection, result = self.ask(sink=sink)
        connection.receive(reply_bytes(PIECE))
        self.failureResultOf(result, CancelledError)
        self.assertEqual((connection.aborted, sink.failures), (True, 1))

    # -- how fast

    def limited(self, rate: int) -> ClientSettings:
        """Settings with a limit of so many bytes per second."""
        return ClientSettings(clock=self.clock, receive_limiter=TokenBucket(rate, self.clock))

    def test_limited(self) -> None:
        """A connection that has received more than its share is not read until its rest is over."""
        piece = sample_piece(1000, number=3)
        _, connection, result = self.ask(piece, settings=self.limited(1000))
        data = reply_bytes(piece)
        connection.receive(data[:-500])
        self.assertEqual(connection.producerState, "paused")
        self.clock.advance(0.4)
        self.assertEqual(connection.producerState, "paused")
        self.clock.advance(0.4)
        self.assertEqual(connection.producerState, "producing")
        connection.receive(data[-500:])
        self.assert_arrives(result, piece)
        self.clock.advance(1)
        self.assertEqual((connection.producerState, self.clock.getDelayedCalls()), ("producing", []))

    def test_ends_while_it_rests(self) -> None:
        """A connection that ends while it is not read, in whichever way, leaves no timer and is not touched again."""
        for end in ("lost", "cancelled", "closed"):
            protocol, connection, result = self.ask(settings=self.limited(10))
            result.addErrback(lambda failure: failure.trap(CancelledError, ParentUnreachable))
            connection.receive(reply_bytes(PIECE)[:-5])
            self.assertEqual(connection.producerState, "paused")
            if end == "lost":
                connection.end()
            elif end == "cancelled":
                result.cancel()
            else:
                protocol.close()
            # Only the end itself may be to come: a connection that is ending must not be read again.
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)
            protocol.dataReceived(b"late")
            self.clock.advance(0)
            self.assertEqual((connection.ended, self.clock.getDelayedCalls()), (True, []))
            self.assertEqual(connection.producerState, "paused")


class RealConnectionTests(TestCase):
    """What only a socket shows: how it is read, and what is taken from it past the wire."""

    timeout = 120

    def setUp(self) -> None:
        self.answer: list[Step] = []
        self.parent = ScriptedParent(IReactorTCP(reactor), lambda request: self.answer)
        self.parent.start()
        self.addCleanup(self.parent.stop)
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        self.splicer = CountingSplicer()
        self.addCleanup(self.splicer.close)

    async def connect(
        self,
        settings: ClientSettings | None = None,
        ended: Callable[[VortexClientProtocol], None] = lambda protocol: None,
    ) -> VortexClientProtocol:
        """Connect to the parent; with a splicer, unless told otherwise."""
        host, port = self.parent.address.split(":")
        endpoint = TCP4ClientEndpoint(reactor, host, int(port))
        factory = VortexClientFactory(self.parent.address, settings or self.settings(), ended)
        protocol = await endpoint.connect(factory)
        assert isinstance(protocol, VortexClientProtocol)
        return protocol

    def settings(self, *, splicer: Splicer | None = None, limiter: TokenBucket | None = None) -> ClientSettings:
        """Settings with the test's splicer, or another one."""
        clock = IReactorTime(reactor)
        return ClientSettings(clock=clock, splicer=splicer or self.splicer, receive_limiter=limiter)

    def sink(self) -> FileSink:
        """A sink at the start of the test's file."""
        return FileSink(self.descriptor, 0)

    async def fetch(
        self, protocol: VortexClientProtocol, piece: SamplePiece, *steps: Step, sink: IPieceSink | None = None
    ) -> None:
        """Fetch a piece into the file, and compare what is there."""
        self.answer = list(steps)
        response = await protocol.download_piece(piece.request(sink or self.sink()))
        self.assertEqual(response.metadata, piece.metadata)
        self.assertEqual(os.pread(self.descriptor, len(piece.content), 0), piece.content)
        os.ftruncate(self.descriptor, 0)

    def low_water(self, protocol: VortexClientProtocol) -> int:
        """What the kernel waits for on a connection."""
        return handle(protocol.transport).getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    async def test_reads_in_large_parts(self) -> None:
        """A plain socket is read 256 KiB at a time, or as much as the limiter allows in one step."""
        for limiter, expected in ((None, 262_144), (TokenBucket(100_000, IReactorTime(reactor)), 1000)):
            protocol = await self.connect(self.settings(limiter=limiter))
            self.assertEqual(protocol.transport.bufferSize, expected)

    async def test_asks_at_once(self) -> None:
        """A request is with the kernel when the call returns; one that finds no room waits in the transport."""
        piece = sample_piece(100)
        for is_full in (False, True):
            with socket.create_server(("127.0.0.1", 0)) as listening:
                endpoint = TCP4ClientEndpoint(reactor, *listening.getsockname())
                protocol = await endpoint.connect(VortexClientFactory(PARENT, self.settings()))
                assert isinstance(protocol, VortexClientProtocol)
                parent, _ = listening.accept()
                with parent:
                    parent.settimeout(120)
                    sock = handle(protocol.transport)
                    filled = 0
                    with contextlib.suppress(BlockingIOError):
                        while is_full:
                            filled += sock.send(bytes(1_000_000))
                    result = protocol.download_piece(piece.request(self.sink()))
                    request = PieceRequest(packet_id=0, kind=piece.kind, task_id=piece.task_id, number=piece.number)
                    expected = bytes(filled) + request.to_bytes()
                    if is_full:
                        received = await deferToThread(receive, parent, len(expected))
                    else:
                        received = receive(parent, len(expected))
                    self.assertTrue(received == expected)
                    result.cancel()
                    with self.assertRaises(CancelledError):
                        await result

    async def test_takes(self) -> None:
        """Of a large piece most is taken past the wire into the file; one piece after the other is exact."""
        protocol = await self.connect()
        for number in range(3):
            for inside in (False, True):
                piece = sample_piece(3_000_000 + number, number=number)
                await self.fetch(protocol, piece, Send(reply_bytes(piece, inside=inside)))
                self.assertTrue(protocol.usable)
        self.assertGreater(self.splicer.moved, 3_000_000)

    async def test_other_sinks(self) -> None:
        """A sink without a file is given every byte."""
        piece = sample_piece(3_000_000)
        protocol = await self.connect()
        self.answer = [Send(reply_bytes(piece))]
        response = await protocol.download_piece(piece.request())
        self.assertEqual((response.content, self.splicer.moved), (piece.content, 0))

    async def test_in_any_parts(self) -> None:
        """Header and content may come in one part, in single bytes, or cut at any place, with pauses in between."""
        protocol = await self.connect()
        piece = sample_piece(40, number=3)
        data = reply_bytes(piece)
        await self.fetch(protocol, piece, Send(data))
        await self.fetch(protocol, piece, *(step for at in data for step in (Send(bytes([at])), Pause(0))))
        for cut in (1, 6, 10, len(data) - 40, len(data) - 39, len(data) - 1):
            await self.fetch(protocol, piece, Send(data[:cut]), Pause(0.01), Send(data[cut:]))
        self.assertTrue(protocol.usable)

    async def test_no_more_than_the_piece(self) -> None:
        """What comes behind a piece is not taken for its content, however it comes."""
        piece = sample_piece(400_000)
        data, goodbye = reply_bytes(piece), Close(packet_id=0).to_bytes()
        for steps in ([Send(data + goodbye)], [Send(data[:-10]), Pause(0.05), Send(data[-10:] + goodbye)]):
            protocol = await self.connect()
            await self.fetch(protocol, piece, *steps)
            await self.parent.until_deserted()
            self.assertEqual((protocol.usable, protocol.closed_here), (False, False))
        self.assertGreater(self.splicer.moved, 0)

    async def test_wrong_content(self) -> None:
        """Content that was taken is verified."""
        protocol = await self.connect()
        self.answer = [Send(reply_bytes(sample_piece(3_000_000))[:-1] + b"?")]
        await self.assertFailure(protocol.download_piece(sample_piece(3_000_000).request(self.sink())), DigestMismatch)
        await self.parent.until_deserted()

    async def test_closed(self) -> None:
        """If a connection is closed in the middle of a piece, the error says how much arrived."""
        data = reply_bytes(sample_piece(1_000_000))
        for pause in (0, 0.05):
            protocol = await self.connect()
            self.answer = [Send(data[:-1]), Pause(pause), End()]
            asked = protocol.download_piece(sample_piece(1_000_000).request(self.sink()))
            error = await self.assertFailure(asked, PieceTruncated)
            self.assertIn("closed after 999999 of 1000000 bytes", str(error))

    async def test_reset(self) -> None:
        """A reset in the middle of a piece is not taken for its end."""
        protocol = await self.connect()
        self.answer = [Send(reply_bytes(sample_piece(100_000))[:-1])]
        asked = protocol.download_piece(sample_piece(100_000).request(self.sink()))
        await self.until(partial(self.has_come, 80_000))  # a reset drops what has not arrived
        self.parent.play(Reset())
        error = await self.assertFailure(asked, PieceTruncated)
        self.assertIn("lost after 99999 of 100000 bytes", str(error))
        self.assertIsInstance(cause(error), ConnectionLost)

    async def test_reset_heard_past_the_transport(self) -> None:
        """A reset that the transport does not hear of, because it came when content was taken, is none the less one."""
        ended: list[VortexClientProtocol] = []
        reply = reply_bytes(sample_piece(2_000_000))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.parent.address = f"127.0.0.1:{listening.getsockname()[1]}"
            for received in (100_000, 1_000_000):
                splicer = LateSplicer()
                self.addCleanup(splicer.close)
                protocol = await self.connect(self.settings(splicer=splicer), ended.append)
                splicer.parent, _ = listening.accept()
                sink = CountingFileSink(self.descriptor, 0)
                asked = protocol.download_piece(sample_piece(2_000_000).request(sink))
                splicer.parent.sendall(reply[: received - 2_000_000])
                error = await self.assertFailure(asked, PieceTruncated)
                self.assertRegex(str(error), r"lost after \d+ of 2000000 bytes")
                self.assertIsInstance(cause(error), ConnectionLost)
                self.assertIsInstance(cause(cause(error)), ConnectionResetError)
                await self.until(lambda: ended)
                self.assertEqual((ended.pop(), sink.failures, protocol.usable), (protocol, 1, False))

    async def test_full_file(self) -> None:
        """A file without room fails the piece and not the parent, and a piece over another connection is exact."""
        full = os.open("/dev/full", os.O_RDWR)
        self.addCleanup(os.close, full)
        piece = sample_piece(3_000_000)
        protocol = await self.connect()
        self.answer = [Send(reply_bytes(piece))]
        await self.assertFailure(protocol.download_piece(piece.request(FileSink(full, 0))), SinkFailed)
        await self.parent.until_deserted()
        await self.fetch(await self.connect(), piece, Send(reply_bytes(piece)))

    async def test_cancelled(self) -> None:
        """A piece that is cancelled while it is taken ends at once, and nothing more is written."""
        protocol = await self.connect()
        data = reply_bytes(sample_piece(3_000_000))
        self.answer = [Send(data[:2_000_000])]
        asked = protocol.download_piece(sample_piece(3_000_000).request(self.sink()))
        await self.until(partial(self.has_come, 1_000_000))
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        length = os.fstat(self.descriptor).st_size
        self.parent.play(Send(data[2_000_000:]))
        await self.parent.until_deserted()
        self.assertEqual(os.fstat(self.descriptor).st_size, length)

    async def test_limited(self) -> None:
        """What is taken counts for the limit, and no more than its step is taken at once."""
        clock = IReactorTime(reactor)
        limiter = TokenBucket(10_000_000, clock)
        protocol = await self.connect(self.settings(limiter=limiter))
        piece = sample_piece(3_000_000)
        began = clock.seconds()
        await self.fetch(protocol, piece, Send(reply_bytes(piece)))
        self.assertGreater(clock.seconds() - began, 0.2)
        self.assertTrue(0 < self.splicer.largest <= limiter.step)

    async def test_nothing_is_taken_while_resting(self) -> None:
        """What has been read is paid for before more is taken."""
        clock = Clock()
        limiter = TokenBucket(1_000_000, clock)
        limiter.spend(100_000)
        protocol = await self.connect(ClientSettings(clock=clock, splicer=self.splicer, receive_limiter=limiter))
        piece = sample_piece(20_000)
        fetching = Deferred.fromCoroutine(self.fetch(protocol, piece, Send(reply_bytes(piece))))
        await self.until(partial(self.has_come, 0))
        self.assertEqual((os.fstat(self.descriptor).st_size < 10_000, self.splicer.largest), (True, 0))
        while not fetching.called:
            clock.advance(0.01)
            await deferLater(IReactorTime(reactor), 0)
        await fetching
        protocol.close()
        await self.parent.until_deserted()

    async def test_low_water(self) -> None:
        """In the middle of a piece a part of it is waited for, never more than is missing; before a piece, any byte."""
        protocol = await self.connect()
        self.assertEqual(self.low_water(protocol), 1)
        for length, first, part in ((8_000_000, 10, 262_144), (1_600_000, 1_595_000, 100_000), (10, 5, 1)):
            piece = sample_piece(length)
            header, content = reply_bytes(piece)[:-length], piece.content
            fetching = Deferred.fromCoroutine(self.fetch(protocol, piece, Send(header + content[:first])))
            await self.until(partial(self.has_come, max(0, first - part)))
            left = length - os.fstat(self.descriptor).st_size
            buffer = handle(protocol.transport).getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertEqual(self.low_water(protocol), min(part, left, buffer // 8))
            self.parent.play(Send(content[first:]))
            await fetching
            self.assertEqual(self.low_water(protocol), 1)

    async def test_small_receive_buffer(self) -> None:
        """A receive buffer that holds less than is waited for does not stop a piece."""

        def shrink(transport: ITCPTransport) -> None:
            handle(transport).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

        for splicer in (None, self.splicer):
            clock = IReactorTime(reactor)
            protocol = await self.connect(ClientSettings(clock=clock, splicer=splicer, configure_socket=shrink))
            piece = sample_piece(100_000)
            await self.fetch(protocol, piece, Send(reply_bytes(piece)))

    def has_come(self, length: int) -> bool:
        """Whether more bytes than that are in the file."""
        return os.fstat(self.descriptor).st_size > length

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the reactor go on until the condition is true."""
        for _ in range(1000):
            if condition():
                return
            await deferLater(IReactorTime(reactor), 0.005)
        self.fail(f"{condition} is not true after 5 seconds")


class CountingSplicer(Splicer):
    """A splicer that counts."""

    moved = 0
    largest = 0

    def move(self, socket: int, place: FilePlace, length: int) -> int:
        moved = super().move(socket, place, length)
        self.moved += moved
        self.largest = max(self.largest, length)
        return moved


class LateSplicer(Splicer):
    """
    A splicer that comes too late: the parent has reset the connection since it was read.

    :ivar parent: the parent's end.
    """

    parent: socket.socket

    def move(self, socket: int, place: FilePlace, length: int) -> int:
        reset(self.parent)
        return super().move(socket, place, length)


class CountingFileSink(FileSink):
    """A sink in a file that counts the calls of its ``fail``."""

    failures = 0

    def fail(self) -> None:
        self.failures += 1


def cause(error: object) -> object:
    """What an error came from."""
    return getattr(error, "__cause__", None)


def receive(sock: socket.socket, length: int) -> bytes:
    """Receive so many bytes, while they come."""
    parts = []
    while length and (part := sock.recv(min(length, 65536))):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def handle(transport: ITCPTransport) -> socket.socket:
    """A transport's socket."""
    sock = plain_socket(transport)
    assert sock is not None
    return sock


def reset(sock: socket.socket) -> None:
    """End a connection with a reset, if it has not ended."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The data whole, byte by byte, and in any two parts."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
