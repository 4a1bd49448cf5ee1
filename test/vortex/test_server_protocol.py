"""Tests of a parent's answers: over real sockets where the socket is the point, on a clock where time is."""

from __future__ import annotations

import os
import socket
import ssl
import time
from pathlib import Path
from typing import cast

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import LocalProtocolError, PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import IPieceStore
from dragonfly_vortex.model import OpenPiece
from dragonfly_vortex.transport.socket_options import SocketOptions
from dragonfly_vortex.vortex import server_protocol
from dragonfly_vortex.vortex.server import VortexServerFactory
from dragonfly_vortex.vortex.server_protocol import VortexServerProtocol
from dragonfly_vortex.wire import (
    ErrorReply,
    PieceContent,
    PieceKind,
    Reserved,
    TrafficType,
    Vortex,
)
from test.vortex.child import Child, request_bytes
from test.vortex.serving import REACTOR, ServingInMemory, ServingTestCase, connection_of, open_descriptors
from test.vortex.shelf import TASK_ID, HotShelf, Shelf

KIB = 1024
MIB = 1024 * KIB


class ReplyTests(ServingTestCase):
    """What a child gets for what it asks."""

    async def test_deployed_form(self) -> None:
        """A reply is the deployed form byte for byte: the request's packet ID, the metadata, then the content."""
        store = self.shelf(10, 5)
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.send, request_bytes(1, packet_id=177))
        metadata = replace(store.metadata(1), traffic_type=TrafficType.REMOTE_PEER)
        header = PieceContent(packet_id=177, kind=PieceKind.STANDARD, metadata=metadata).to_bytes()
        expected = header + store.content(1)
        self.assertEqual(await deferToThread(child.receive, len(expected)), expected)

    async def test_sizes(self) -> None:
        """Pieces of any size come byte for byte, one after the other on the same connection."""
        store = self.shelf(0, 1, 4 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 4 * MIB, 64 * MIB)
        child = await self.child(self.serve(self.factory(store)))
        for number in range(8):
            await deferToThread(child.ask, number)
            reply = await deferToThread(child.reply)
            self.assertEqual(reply.number, number)
            self.assertTrue(reply.content == store.content(number), f"piece {number}")
        self.assertNotIn(str(store.path), open_descriptors().values())

    async def test_sizes_through_small_buffers(self) -> None:
        """Pieces come byte for byte through small buffers to a child that sleeps."""
        store = self.shelf(300 * KIB, 3 * MIB, 0, 70 * KIB)
        address = self.serve(self.factory(store), SocketOptions(buffer_size=32 * KIB))
        child = await self.child(address, receive_buffer=4 * KIB)
        await deferToThread(child.ask, 0, 1, 2, 3)
        await self.pause(0.2)
        replies = await deferToThread(child.replies, 1)
        await self.pause(0.2)
        replies += await deferToThread(child.replies, 3)
        self.assertEqual([reply.number for reply in replies], [0, 1, 2, 3])
        for reply in replies:
            self.assertTrue(reply.content == store.content(reply.number), f"piece {reply.number}")

    async def test_kinds(self) -> None:
        """Each kind is answered with its own content."""
        for kind in PieceKind:
            store = Shelf(Path(self.mktemp()), [70 * KIB], kind)
            child = await self.child(self.serve(self.factory(store)))
            await deferToThread(child.ask, 0, kind=kind)
            reply = await deferToThread(child.reply)
            self.assertEqual(getattr(reply.packet, "kind", None), kind)
            self.assertTrue(reply.content == store.content(0))

    async def test_requests_ahead(self) -> None:
        """Thousands of requests sent ahead are answered in their order, small pieces, large ones and unknown ones."""
        store = self.shelf(0, 1, 500, 4 * KIB, 64 * KIB, 65 * KIB, 200 * KIB)
        child = await self.child(self.serve(self.factory(store)))
        numbers = [(at * at + at // 7) % 8 if at % 50 == 0 else at % 4 for at in range(3000)]
        sending = deferToThread(child.ask, *numbers)
        replies = await deferToThread(child.replies, len(numbers))
        await sending
        self.assertEqual([reply.packet.packet_id for reply in replies], numbers)
        self.assertEqual([reply.code == 2 for reply in replies], [number == 7 for number in numbers])
        contents = [store.content(number) for number in range(7)]
        self.assertTrue(all(reply.content == contents[reply.number] for reply in replies if reply.code != 2))

    async def test_cork(self) -> None:
        """Corked replies arrive whole and are not held back at their end."""
        store = self.shelf(10, 70 * KIB, 300 * KIB)
        child = await self.child(self.serve(self.factory(store, cork=True)))
        for number in (0, 1, 2, 2):
            await deferToThread(child.ask, number)
            reply = await deferToThread(child.reply)
            self.assertTrue(reply.content == store.content(number))

    async def test_without_sendfile(self) -> None:
        """A platform that has no sendfile copies."""
        sendfile = os.sendfile
        del os.sendfile
        self.addCleanup(setattr, os, "sendfile", sendfile)
        await self._mixed(tls=False)

    async def test_tls(self) -> None:
        """Under TLS the same bytes come, encrypted, and the connection ends in order."""
        await self._mixed(tls=True)

    async def _mixed(self, tls: bool) -> None:
        """Fetch pieces of all sizes, one by one and then ahead."""
        store = self.shelf(0, 1, 64 * KIB, 64 * KIB + 1, 3 * MIB + 7)
        factory = self.factory(store)
        child = await self.child(self.serve_tls(factory) if tls else self.serve(factory), tls=tls)
        numbers = [0, 1, 2, 3, 4]
        for number in numbers:
            await deferToThread(child.ask, number)
            reply = await deferToThread(child.reply)
            self.assertTrue(reply.content == store.content(number))
        await deferToThread(child.ask, *numbers, 9, *numbers)
        replies = await deferToThread(child.replies, 11)
        self.assertEqual([reply.packet.packet_id for reply in replies], [*numbers, 9, *numbers])
        self.assertTrue(all(reply.content == store.content(reply.number) for reply in replies if reply.number >= 0))
        await deferToThread(child.say_close)
        self.assertEqual(await deferToThread(child.end), b"")

    async def test_tls_slow_child(self) -> None:
        """Under TLS a piece for a child that reads nothing stays on the disk, not in memory."""
        store = self.shelf(32 * MIB)
        factory = self.factory(store)
        child = await self.child(self.serve_tls(factory), receive_buffer=64 * KIB, tls=True)
        await deferToThread(child.ask, 0)
        connection = connection_of(factory)
        await self.until(lambda: connection._connection.content_left)
        await self.pause(0.5)
        self.assertGreater(connection._connection.content_left, 24 * MIB)
        reply = await deferToThread(child.reply)
        self.assertTrue(reply.content == store.content(0))

    async def test_tls_child_vanishes(self) -> None:
        """Under TLS too, a child that vanishes inside a piece leaves no descriptor open and nothing in the log."""
        store = self.shelf(32 * MIB)
        factory = self.factory(store)
        address = self.serve_tls(factory)
        for vanish in (Child.close, Child.reset):
            child = await self.child(address, receive_buffer=4 * KIB, tls=True)
            await deferToThread(child.ask, 0)
            await deferToThread(child.receive, 100)
            vanish(child)
            await self.until(lambda: not factory.connections)
            self.assertNotIn(str(store.path), open_descriptors().values())


class HotReplyTests(ReplyTests):
    """The same from a store that has its pieces at hand, and what is special with it."""

    def shelf(self, *lengths: int) -> Shelf:
        """A store that has its pieces at hand."""
        store = HotShelf(Path(self.mktemp()).absolute(), lengths)
        self.addCleanup(store.close)
        return store

    def hot_shelf(self, *lengths: int) -> HotShelf:
        """The same."""
        return cast(HotShelf, self.shelf(*lengths))

    async def test_sizes(self) -> None:
        """All pieces are sent from the store's own descriptor or a copy of it; none is looked up twice, or opened."""
        store = self.hot_shelf(0, 1, 4 * KIB, 64 * KIB, 64 * KIB + 1, 4 * MIB)
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.ask, *range(6))
        for reply in await deferToThread(child.replies, 6):
            self.assertTrue(reply.content == store.content(reply.number), f"piece {reply.number}")
        self.assertEqual((store.handed_out, len(store.opened)), (6, 0))
        self.assertNotIn(str(store.path), open_descriptors().values())

    async def test_limit(self) -> None:
        """Where the limit does not allow a reply at once, it comes later."""
        store = self.hot_shelf(4 * KIB)
        child = await self.child(self.serve(self.factory(store, rate=400 * KIB)))
        await deferToThread(child.ask, *[0] * 20)
        replies = await deferToThread(child.replies, 20)
        self.assertTrue(all(reply.content == store.content(0) for reply in replies))
        self.assertEqual((store.handed_out, len(store.opened)), (20, 0))

    async def test_short_file(self) -> None:
        """A file that is too short for a small piece ends the connection, and the piece is marked."""
        store = self.hot_shelf(4 * KIB, 4 * KIB)
        os.truncate(store.path, 5 * KIB)
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.ask, 0)
        await deferToThread(child.reply)
        await deferToThread(child.ask, 1)
        with self.assertRaises(OSError):
            await deferToThread(child.reply)
        self.assertEqual(store.damaged, [(PieceKind.STANDARD, TASK_ID, 1)])

    async def test_row_that_cannot_be_sent(self) -> None:
        """A row that is out of its range is logged, ends the connection, and leaves nothing spent or open."""
        store = self.hot_shelf(4 * KIB)
        store.replace(replace(store.metadata(0), created_at=1 << 60))
        factory = self.factory(store)
        child = await self.child(self.serve(factory))
        await deferToThread(child.ask, 0)
        with self.assertRaises(OSError):
            await deferToThread(child.reply)
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)
        self.assertNotIn(str(store.path), open_descriptors().values())

    async def test_no_copy_of_the_descriptor(self) -> None:
        """A large piece at hand is opened where its descriptor cannot be copied."""
        store = self.hot_shelf(1 * MIB)
        store.close()
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.ask, 0)
        self.assertTrue((await deferToThread(child.reply)).content == store.content(0))
        self.assertEqual((store.handed_out, len(store.opened)), (1, 1))

    async def test_large_under_way(self) -> None:
        """A large piece at hand is under way, and its connection not idle, until the last byte has gone."""
        store = self.hot_shelf(16 * MIB)
        factory = self.factory(store)
        child = await self.child(self.serve(factory), receive_buffer=64 * KIB)
        await deferToThread(child.ask, 0)
        tally = factory.settings.tally
        await self.until(lambda: tally.bytes_sent)
        self.assertEqual((tally.pieces_under_way, tally.idle_connections), (1, 0))
        self.assertTrue((await deferToThread(child.reply)).content == store.content(0))
        await self.until(lambda: (tally.pieces_under_way, tally.idle_connections) == (0, 1))

    async def test_counted(self) -> None:
        """Pieces that are sent at once are counted, checked when they are asked for again, and leave the child idle."""
        store = self.hot_shelf(4 * KIB)
        factory = self.factory(store, idle_timeout=0.3)
        child = await self.child(self.serve(factory))
        await deferToThread(child.ask, 0, 0, 0)
        await deferToThread(child.replies, 3)
        tally = factory.settings.tally
        self.assertEqual((tally.bytes_sent, tally.pieces_under_way), (3 * 4 * KIB, 0))
        self.assertEqual((tally.connections, tally.idle_connections), (1, 1))
        (counted,) = tally.children.all()
        self.assertEqual((counted.task_id, counted.sent), (TASK_ID, 3 * 4 * KIB))
        self.assertEqual(await deferToThread(child.end), b"")

    async def test_longest_idle(self) -> None:
        """A connection that was used last is not the one that is closed to make room."""
        store = self.hot_shelf(4 * KIB)
        address = self.serve(self.factory(store, max_connections=2))
        first, second = [await self.child(address) for _ in range(2)]
        for child in (first, second, first):
            await deferToThread(child.ask, 0)
            await deferToThread(child.reply)
        await self.child(address)
        self.assertEqual(await deferToThread(second.end), b"")
        await deferToThread(first.ask, 0)
        self.assertEqual((await deferToThread(first.reply)).content, store.content(0))


class HalfCloseTests(ServingTestCase):
    """A child that has asked may close its side."""

    async def test_half_close(self) -> None:
        """A child that closes its write side at once still gets the whole piece, and then the end."""
        for length in (10, 8 * MIB):
            store = self.shelf(length)
            child = await self.child(self.serve(self.factory(store)))
            await deferToThread(child.ask, 0)
            child.half_close()
            reply = await deferToThread(child.reply)
            self.assertTrue(reply.content == store.content(0))
            self.assertEqual(await deferToThread(child.end), b"")

    async def test_half_close_after_many(self) -> None:
        """A child that asks for many pieces and closes its write side gets them all."""
        store = self.shelf(10, 70 * KIB, 2 * MIB)
        child = await self.child(self.serve(self.factory(store)))
        numbers = [0, 1, 2] * 100
        sending = deferToThread(child.ask, *numbers)
        sending.addCallback(lambda _: child.half_close())
        replies = await deferToThread(child.replies, len(numbers))
        await sending
        self.assertEqual([reply.number for reply in replies], numbers)
        contents = [store.content(number) for number in range(3)]
        self.assertTrue(all(reply.content == contents[reply.number] for reply in replies))
        self.assertEqual(await deferToThread(child.end), b"")

    async def test_half_close_idle(self) -> None:
        """A child that closes its write side and has asked for nothing gets the end at once."""
        child = await self.child(self.serve(self.factory(self.shelf(1))))
        child.half_close()
        self.assertEqual(await deferToThread(child.end), b"")


class EndTests(ServingTestCase):
    """How connections end, and what a child has then."""

    async def test_close(self) -> None:
        """After ``close`` the replies under way are finished, then the connection ends; its value is skipped."""
        store = self.shelf(4 * MIB)
        for value in (b"", bytes(64 * KIB)):
            child = await self.child(self.serve(self.factory(store)))
            await deferToThread(child.ask, 0, 0)
            await deferToThread(child.say_close, value)
            replies = await deferToThread(child.replies, 2)
            self.assertTrue(all(reply.content == store.content(0) for reply in replies))
            self.assertEqual(await deferToThread(child.end), b"")

    async def test_close_and_more(self) -> None:
        """What a child sends behind ``close`` does not cost it the end of its piece."""
        store = self.shelf(4 * MIB)
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.ask, 0)
        await deferToThread(child.say_close)
        await deferToThread(child.send, bytes(300 * KIB))
        await self.pause(0.3)
        reply = await deferToThread(child.reply)
        self.assertTrue(reply.content == store.content(0))
        self.assertEqual(await deferToThread(child.end), b"")

    async def test_close_too_long(self) -> None:
        """A ``close`` whose value is longer than 64 KiB is refused from its header."""
        child = await self.child(self.serve(self.factory(self.shelf(1))))
        await deferToThread(child.send, bytes([7, 254]) + (64 * KIB + 1).to_bytes(4, "big"))
        reply = await deferToThread(child.reply)
        self.assertEqual((reply.packet.packet_id, reply.code), (7, 1))
        self.assertEqual(await deferToThread(child.end), b"")

    async def test_malformed(self) -> None:
        """What is no request gets error 1 and the end, though more bytes of the child are unread."""
        packets: list[Vortex | bytes] = [
            bytes([9, 0]) + (67).to_bytes(4, "big"),
            bytes([9, 0]) + (0xFFFFFFFF).to_bytes(4, "big"),
            Reserved(packet_id=9, reserved_tag=100, value=b"abc"),
            ErrorReply(packet_id=9, code=2, text="a child has no errors to report"),
            PieceContent(packet_id=9, kind=PieceKind.STANDARD, metadata=self.shelf(1).metadata(0)),
            bytes([9, 0]) + (68).to_bytes(4, "big") + b"\xff" * 68,
        ]
        address = self.serve(self.factory(self.shelf(1)))
        for packet in packets:
            data = packet if isinstance(packet, bytes) else packet.to_bytes()
            child = await self.child(address)
            await deferToThread(child.send, data + bytes(500 * KIB))
            reply = await deferToThread(child.reply)
            self.assertEqual((reply.packet.packet_id, reply.code), (9, 1), packet)
            self.assertEqual(await deferToThread(child.end), b"")
            child.close()

    async def test_malformed_after_a_piece(self) -> None:
        """A piece that is on its way to a slow child is whole, though the child's next request was none."""
        self.patch(server_protocol, "_LINGER", 0.2)
        store = self.shelf(3 * MIB)
        child = await self.child(self.serve(self.factory(store)), receive_buffer=64 * KIB)
        await deferToThread(child.ask, 0)
        await deferToThread(child.send, b"\x00\x64\x00\x00\x00\x00" + bytes(100 * KIB))
        await self.pause(0.5)
        replies = await deferToThread(child.replies, 2)
        self.assertTrue(replies[0].content == store.content(0))
        self.assertEqual(replies[1].code, 1)

    async def test_unknown_piece(self) -> None:
        """A piece that is not there gets error 2 and the request's packet ID, and the connection goes on."""
        store = self.shelf(10)
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.ask, 200, 0)
        missing, there = await deferToThread(child.replies, 2)
        self.assertEqual((missing.packet.packet_id, missing.code), (200, 2))
        self.assertEqual(there.content, store.content(0))

    async def test_storage_failure(self) -> None:
        """A storage that fails gets error 3 with no path in the text, which is in our log; the connection goes on."""
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        store = self.shelf(10)
        child = await self.child(self.serve(self.factory(store)))
        for failure in (StorageFailure(f"{store.path}: Permission denied"), PieceDamaged(f"{store.path} is missing")):
            store.failure = failure
            await deferToThread(child.ask, 5)
            reply = await deferToThread(child.reply)
            self.assertEqual((reply.packet.packet_id, reply.code), (5, 3))
            self.assertNotIn("/", getattr(reply.packet, "text", "/"))
        store.failure = ValueError("a defect")
        await deferToThread(child.ask, 5)
        self.assertEqual(getattr((await deferToThread(child.reply)).packet, "code", 0), 3)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        said = [event for event in observer if event["log_level"] >= LogLevel.error]
        self.assertEqual([event["reason"].count("\n") for event in said[:2]], [0, 0])
        self.assertEqual([str(store.path) in event["reason"] for event in said[:2]], [True, True])
        self.assertEqual(["log_failure" in event for event in said], [False, False, True])
        store.failure = None
        await deferToThread(child.ask, 0)
        self.assertEqual((await deferToThread(child.reply)).content, store.content(0))

    async def test_short_file(self) -> None:
        """A file that is shorter than its row says aborts the connection, and the piece is marked, once."""
        for length in (10, 64 * KIB, 8 * MIB):
            store = self.shelf(length)
            os.truncate(store.path, length - 1)
            child = await self.child(self.serve(self.factory(store)))
            await deferToThread(child.ask, 0)
            with self.assertRaises(ConnectionResetError):
                await deferToThread(child.end)
            self.assertEqual(store.damaged, [(PieceKind.STANDARD, TASK_ID, 0)])
            self.assertNotIn(str(store.path), open_descriptors().values())

    async def test_short_file_under_way(self) -> None:
        """A file that is cut while it is sent aborts the connection."""
        store = self.shelf(64 * MIB)
        child = await self.child(self.serve(self.factory(store)), receive_buffer=64 * KIB)
        await deferToThread(child.ask, 0)
        await deferToThread(child.receive, 100 * KIB)
        os.truncate(store.path, 50 * MIB)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(child.end)
        self.assertEqual(len(store.damaged), 1)

    async def test_short_file_under_tls(self) -> None:
        """Under TLS a file that is too short ends the connection without an orderly end."""
        store = self.shelf(2 * MIB)
        os.truncate(store.path, 1 * MIB)
        factory = self.factory(store)
        child = await self.child(self.serve_tls(factory), tls=True)
        await deferToThread(child.ask, 0)
        with self.assertRaises((ssl.SSLError, OSError)):
            await deferToThread(child.end)
        self.assertEqual(len(store.damaged), 1)
        await self.until(lambda: not factory.connections)

    async def test_child_vanishes(self) -> None:
        """A child that ends or resets its connection inside a piece leaves no descriptor and nothing in the log."""
        store = self.shelf(64 * MIB)
        factory = self.factory(store)
        address = self.serve(factory)
        for vanish in (Child.close, Child.reset):
            child = await self.child(address, receive_buffer=4 * KIB)
            await deferToThread(child.ask, 0, 0)
            await deferToThread(child.receive, 100)
            vanish(child)
            await self.until(lambda: not factory.connections)
            self.assertNotIn(str(store.path), open_descriptors().values())
        self.assertEqual(store.damaged, [])

    async def test_row_that_cannot_be_told(self) -> None:
        """A row that does not fit the wire ends the connection, is logged, and leaves no descriptor open."""
        store = self.shelf(10)
        store.replace(replace(store.metadata(0), digest="x" * 70_000))
        child = await self.child(self.serve(self.factory(store)))
        await deferToThread(child.ask, 0)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(child.end)
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)
        self.assertNotIn(str(store.path), open_descriptors().values())

    async def test_stalled_child(self) -> None:
        """A child that takes nothing is given up after the idle time-out; one that takes something is not."""
        store = self.shelf(64 * MIB)
        factory = self.factory(store, idle_timeout=0.4)
        stalled, slow = [await self.child(self.serve(factory), receive_buffer=64 * KIB) for _ in range(2)]
        await deferToThread(stalled.ask, 0)
        await deferToThread(slow.ask, 0)
        await self.until(lambda: len(factory.connections) == 2)
        for _ in range(8):
            await self.pause(0.1)
            await deferToThread(slow.receive, 6 * MIB)
        self.assertEqual(len(factory.connections), 1)
        self.assertEqual(list(open_descriptors().values()).count(str(store.path)), 1)

    async def test_idle_timeout(self) -> None:
        """A connection stays open for the next request until the idle time-out, then it ends in order."""
        store = self.shelf(10)
        child = await self.child(self.serve(self.factory(store, idle_timeout=0.3)))
        for _ in range(3):
            await self.pause(0.15)
            await deferToThread(child.ask, 0)
            self.assertEqual((await deferToThread(child.reply)).content, store.content(0))
        self.assertEqual(await deferToThread(child.end), b"")


class MemoryTests(ServingTestCase):
    """A child that asks and does not read does not fill our memory."""

    async def _buffered(self, factory: VortexServerFactory, data: bytes) -> tuple[Child, int, int]:
        """A child that has sent the requests for as long as it could; bytes it sent, bytes that wait in us."""
        child = await self.child(self.serve(factory, SocketOptions(buffer_size=64 * KIB)), receive_buffer=64 * KIB)
        sent = await deferToThread(child.send_until_refused, data)
        connection = connection_of(factory)
        transport = connection.transport
        waiting = len(transport.dataBuffer) + transport._tempDataLen + connection._connection.buffered  # type: ignore[attr-defined] # Twisted's own, for what is in its buffer
        return child, sent, waiting

    async def test_small_pieces(self) -> None:
        """Requests for small pieces that are not read stop being answered, and then being read."""
        store = self.shelf(10 * KIB)
        child, sent, waiting = await self._buffered(self.factory(store), request_bytes(0) * 1000)
        self.assertLess(waiting, 600 * KIB)
        replies = await deferToThread(child.replies, min(500, sent // len(request_bytes(0))))
        self.assertTrue(all(reply.content == store.content(0) for reply in replies))

    async def test_unknown_pieces(self) -> None:
        """The same holds for requests that are answered by errors."""
        _, sent, waiting = await self._buffered(self.factory(self.shelf(1)), request_bytes(99) * 1000)
        self.assertGreater(sent, 0)
        self.assertLess(waiting, 600 * KIB)

    async def test_requests_ahead(self) -> None:
        """Requests that are sent ahead of a piece under way stop being read."""
        _, sent, waiting = await self._buffered(self.factory(self.shelf(64 * MIB)), request_bytes(0) * 1000)
        self.assertGreater(sent, 0)
        self.assertLess(waiting, 200 * KIB)


class LimitTests(ServingTestCase):
    """The bandwidth that the server is allowed."""

    async def test_four_connections(self) -> None:
        """With a limit of 1 MB/s four connections get all that they ask for, and not faster, for pieces of any size."""
        for length, count in ((150_000, 1), (5000, 30)):
            store = self.shelf(length)
            factory = self.factory(store, rate=1_000_000)
            address = self.serve(factory)
            children = [await self.child(address) for _ in range(4)]
            begun = REACTOR.seconds()
            for child in children:
                child.send(request_bytes(0) * count)
            fetching = [deferToThread(child.replies, count) for child in children]
            for replies in [await each for each in fetching]:
                self.assertTrue(all(reply.content == store.content(0) for reply in replies))
            sent = factory.settings.tally.bytes_sent
            self.assertEqual(sent, 600_000)
            seconds = REACTOR.seconds() - begun
            self.assertLess(sent, 1_000_000 * (seconds + 0.1))  # a twentieth of a second is saved up

    async def test_tls_does_not_spin(self) -> None:
        """Under TLS a reply that rests because of the limit leaves the processor alone."""
        factory = self.factory(self.shelf(16 * MIB), rate=1_000_000)
        child = await self.child(self.serve_tls(factory), tls=True)
        begun = REACTOR.seconds()
        child.send(request_bytes(0))
        await self.until(lambda: factory.settings.tally.bytes_sent > 100_000)
        before = time.process_time()
        await self.pause(0.5)
        self.assertLess(time.process_time() - before, 0.1)
        seconds = REACTOR.seconds() - begun
        self.assertLess(factory.settings.tally.bytes_sent, 1_000_000 * (seconds + 0.1))


class SocketTransport(StringTransport):
    """A transport over a real socket."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self.handle, self.child = socket.socketpair()

    def getHandle(self) -> socket.socket:
        """The socket."""
        return self.handle


class CountTests(ServingTestCase):
    """What is counted of what was sent."""

    def counted(self, factory: VortexServerFactory) -> tuple[int, int]:
        """Pieces under way, and bytes sent."""
        return factory.settings.tally.pieces_under_way, factory.settings.tally.bytes_sent

    async def test_content(self) -> None:
        """The content of each piece is counted, however it is sent, and nothing else; also where there is no piece."""
        lengths = (0, 10, 70 * KIB, 5 * MIB)
        for serve, tls in ((self.serve, False), (self.serve_tls, True)):
            factory = self.factory(self.shelf(*lengths))
            child = await self.child(serve(factory), tls=tls)
            await deferToThread(child.ask, 0, 1, 2, 9, 3)
            await deferToThread(child.replies, 5)
            await self.until(lambda factory=factory: not factory.settings.tally.pieces_under_way)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            self.assertEqual(self.counted(factory), (0, sum(lengths)))

    async def test_broken_off(self) -> None:
        """A piece is under way until its child has gone, and counts as far as it came."""
        factory = self.factory(self.shelf(32 * MIB))
        address = self.serve(factory)
        children = [await self.child(address, receive_buffer=4 * KIB) for _ in range(2)]
        for child in children:
            await deferToThread(child.ask, 0)
        await self.until(lambda: factory.settings.tally.pieces_under_way == 2)
        await self.until(lambda: factory.settings.tally.bytes_sent > 0)
        children[0].close()
        await self.until(lambda: factory.settings.tally.pieces_under_way == 1)
        children[1].close()
        await self.until(lambda: factory.settings.tally.pieces_under_way == 0)
        self.assertLess(factory.settings.tally.bytes_sent, 64 * MIB)

    async def test_damaged(self) -> None:
        """A piece whose file is too short counts as far as it came."""
        store = self.shelf(10, 70 * KIB)
        factory = self.factory(store)
        os.truncate(store.path, 10)
        child = await self.child(self.serve(factory))
        await deferToThread(child.ask, 0, 1)
        await self.until(lambda: store.damaged)
        await self.until(lambda: not factory.connections)
        self.assertEqual(self.counted(factory), (0, 10))


class CountingOnAClockTests(ServingInMemory):
    """The same where the storage takes its time."""

    def test_gone_before_it_was_opened(self) -> None:
        """A piece whose child does not wait until it is opened is not under way any more."""
        self.store.waiting = []
        protocol, _ = self.connect()
        protocol.dataReceived(request_bytes(0))
        self.assertEqual(self.parent.settings.tally.pieces_under_way, 1)
        self.lose(protocol)
        self.assertEqual((self.parent.settings.tally.pieces_under_way, self.parent.settings.tally.bytes_sent), (0, 0))

    def test_waits_for_its_turn(self) -> None:
        """A connection that has completed its share of a turn has no piece under way while it waits for the next."""
        protocol, _ = self.connect()
        protocol.dataReceived(request_bytes(0) * 40)
        self.assertEqual(self.parent.settings.tally.pieces_under_way, 0)
        self.assertLess(self.parent.settings.tally.bytes_sent, 400)
        for _ in range(4):
            self.clock.advance(0)
        self.assertEqual((self.parent.settings.tally.pieces_under_way, self.parent.settings.tally.bytes_sent), (0, 400))
        self.lose(protocol)

    def test_two_parents(self) -> None:
        """Two parents in one process have nothing to do with each other."""
        first, self.parent = self.parent, self.parent_for()
        protocol, _ = self.connect()
        protocol.dataReceived(request_bytes(0))
        self.assertEqual((first.settings.tally.bytes_sent, self.parent.settings.tally.bytes_sent), (0, 10))
        self.lose(protocol)


class ClockTests(ServingInMemory):
    """What depends on time and on the order of events, without a socket."""

    def test_store(self) -> None:
        """The tests' store is one."""
        self.assertTrue(verifyObject(IPieceStore, self.store))

    def test_idle_timeout(self) -> None:
        """The time-out counts from the last reply; bytes that are no whole request do not put it off."""
        protocol, transport = self.connect()
        self.clock.advance(29.0)
        protocol.dataReceived(request_bytes(0))
        self.clock.advance(29.0)
        protocol.dataReceived(request_bytes(0)[:50])
        self.assertFalse(transport.disconnecting)
        self.clock.advance(1.5)
        self.assertTrue(transport.disconnecting)
        self.lose(protocol)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end_that_takes_too_long(self) -> None:
        """A connection whose last bytes are not read is aborted."""
        protocol, transport = self.connect()
        self.clock.pump([1.0, 29.0])
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.disconnected)
        self.clock.advance(30.0)
        self.assertTrue(transport.disconnected)
        self.lose(protocol)

    def test_request_byte_by_byte(self) -> None:
        """A request may come one byte at a time."""
        protocol, transport = self.connect()
        for byte in request_bytes(0):
            protocol.dataReceived(bytes([byte]))
        self.assertTrue(transport.value().endswith(self.store.content(0)))

    def test_together(self) -> None:
        """A reply that is alone leaves at once; those to requests that came together leave together."""
        transport = SocketTransport()
        self.addCleanup(transport.child.close)
        self.addCleanup(transport.handle.close)
        protocol = self.parent.buildProtocol(None)
        if protocol is None:
            self.fail("expected a connection")
        protocol.makeConnection(transport)
        protocol.dataReceived(request_bytes(0))
        reply = transport.child.recv(KIB)
        self.assertTrue(reply.endswith(self.store.content(0)))
        self.assertEqual(transport.value(), b"")
        protocol.dataReceived(request_bytes(0) * 3)
        self.assertEqual(transport.value(), reply * 3)
        self.lose(protocol)

    def test_turns(self) -> None:
        """Many small pieces that are asked for ahead leave a bounded number in each turn of the reactor."""
        protocol, transport = self.connect()
        other, other_transport = self.connect()
        protocol.dataReceived(request_bytes(0) * 40)
        other.dataReceived(request_bytes(0))
        self.assertTrue(other_transport.value().endswith(self.store.content(0)))
        self.assertEqual(transport.value().count(self.store.content(0)), 17)
        self.clock.advance(0)
        self.assertEqual(transport.value().count(self.store.content(0)), 40)
        for one in (protocol, other):
            self.lose(one)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_closed_between_turns(self) -> None:
        """A child that closes its side between two turns gets all that it has asked for, then the end."""
        protocol, transport = self.connect()
        protocol.dataReceived(request_bytes(0) * 40)
        protocol.readConnectionLost()
        self.assertFalse(transport.disconnecting)
        self.clock.pump([0.0] * 3)
        self.assertEqual(transport.value().count(self.store.content(0)), 40)
        self.assertTrue(transport.disconnecting)
        self.lose(protocol)

    def test_ends_between_turns(self) -> None:
        """A connection that is lost or told to finish between two turns answers nothing more, and leaves nothing."""
        for end in (self.lose, VortexServerProtocol.finish, VortexServerProtocol.abort):
            protocol, transport = self.connect()
            protocol.dataReceived(request_bytes(0) * 40)
            end(protocol)
            self.clock.pump([0.0] * 3)
            self.assertEqual(transport.value().count(self.store.content(0)), 17)
            if end != self.lose:
                self.assertTrue(transport.disconnecting or transport.disconnected)
                self.lose(protocol)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost_while_opening(self) -> None:
        """A descriptor that comes after the connection has been given up is closed."""
        self.store.waiting = []
        protocol, transport = self.connect()
        protocol.dataReceived(request_bytes(0))
        protocol.abort()
        piece = self.store.open(0)
        self.store.waiting[0].callback(piece)
        self.assertNotIn(str(piece.range.descriptor), open_descriptors())
        self.assertEqual(transport.value(), b"")
        self.lose(protocol)

    def test_lost_cancels_opening(self) -> None:
        """A connection that is lost while a piece is opened cancels that."""
        cancelled: list[Deferred[OpenPiece]] = []
        self.store.waiting = []
        protocol, _ = self.connect()
        protocol.dataReceived(request_bytes(0))
        self.store.waiting[0]._canceller = cancelled.append
        self.lose(protocol)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_our_own_limit_is_no_stall(self) -> None:
        """A reply that rests for longer than the idle time-out because of the limit is not given up."""
        self.parent = self.parent_for(rate=100)
        first, first_transport = self.connect()
        self.parent.settings.limiter.spend(100 * 60)
        first.dataReceived(request_bytes(0))
        self.clock.pump([1.0] * 58)
        self.assertFalse(first_transport.disconnected)
        self.assertFalse(first_transport.value().endswith(self.store.content(0)))
        self.clock.pump([0.05] * 100)
        self.assertTrue(first_transport.value().endswith(self.store.content(0)))
        self.lose(first)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost_at_rest(self) -> None:
        """A connection that is lost while its reply rests leaves nothing behind."""
        self.parent = self.parent_for(rate=1000)
        protocol, transport = self.connect()
        protocol.dataReceived(request_bytes(1))
        self.clock.advance(1.0)
        if transport.producer is None:
            self.fail("expected a reply under way")
        transport.producer.stopProducing()
        self.lose(protocol)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNotIn(str(self.store.opened[0]), open_descriptors())

    def test_short_lived_connections_are_limited(self) -> None:
        """A child that takes a new connection for every small piece does not get around the limit."""
        self.parent = self.parent_for(rate=1000, max_connections=10**6)
        served = 0
        for _ in range(100):
            connections = [self.connect() for _ in range(50)]
            for protocol, _ in connections:
                protocol.dataReceived(request_bytes(0))
            self.clock.pump([0.01] * 10)
            for protocol, transport in connections:
                served += transport.value().count(self.store.content(0))
                if transport.producer is not None:
                    transport.producer.stopProducing()
                self.lose(protocol)
        self.assertTrue(8_000 < served * 10 < 12_000, f"{served * 10} bytes")

    def test_idle_timeout_of_a_newcomer(self) -> None:
        """A connection that never asks for anything ends after the idle time-out."""
        protocol, transport = self.connect()
        self.clock.pump([1.0, 28.9])
        self.assertFalse(transport.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(transport.disconnecting)
        self.lose(protocol)
