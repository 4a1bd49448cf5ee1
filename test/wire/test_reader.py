"""
A stream cut into packets.
"""

from __future__ import annotations

import tracemalloc
import weakref
from traceback import walk_tb

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire import (
    Close,
    ContentFinished,
    ContentReceived,
    ErrorReply,
    Event,
    PacketReader,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Reserved,
    Vortex,
)
from dragonfly_vortex.wire.reader import ReceiveBuffer
from test.wire.streams import byte_by_byte, drain, every_cut, read

MEBIBYTE = 1024 * 1024
REQUEST = PieceRequest(packet_id=1, kind=PieceKind.CACHE, task_id="t" * 64, number=7)
METADATA = PieceMetadata(number=7, offset=28, length=4, digest="crc32:7")
CONTENT = PieceContent(packet_id=2, kind=PieceKind.PERSISTENT, metadata=METADATA)
ERROR = ErrorReply(packet_id=3, code=2, text="not found")
CLOSE = Close(packet_id=4, value=b"bye")
UNKNOWN = Reserved(packet_id=5, reserved_tag=8, value=b"?")


def buffer_of(*chunks: bytes) -> ReceiveBuffer:
    """A buffer that has received the chunks."""
    buffer = ReceiveBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


def specified(packet: PieceContent, content: bytes) -> bytes:
    """A piece with its content inside of the packet, as the specification has it."""
    return replace(packet, content=content).to_bytes()


def deployed(packet: PieceContent, content: bytes) -> bytes:
    """A piece with its content behind the packet, as deployed peers send it."""
    return packet.to_bytes() + content


def header(tag: int, length: int) -> bytes:
    """A packet's header."""
    return bytes((9, tag)) + length.to_bytes(4, "big")


class PacketReaderTests(SynchronousTestCase):
    """What is in a stream comes out as events, however the stream is cut."""

    def assert_refused(self, data: bytes, message: str, max_piece_length: int | None = None) -> None:
        """Assert that the stream is refused with the message as soon as its last byte has arrived, and not before."""
        reader = PacketReader(max_piece_length)
        self.assertEqual([type(event) for event in read(reader, byte_by_byte(data[:-1]))], [])
        reader.receive_data(data[-1:])
        self.assertEqual(str(self.assertRaises(RemoteProtocolError, reader.next_event)), message)

    def test_nothing_received(self) -> None:
        """A reader that has received nothing has nothing to say."""
        reader = PacketReader()
        self.assertIsNone(reader.next_event())
        self.assertEqual((reader.buffered, reader.content_left, reader.packet_id), (0, 0, 0))

    def test_packets(self) -> None:
        """Packets of every form, one behind the other, are read however they are cut."""
        packets: list[Vortex] = [REQUEST, ERROR, CLOSE, UNKNOWN, REQUEST]
        for chunks in every_cut(b"".join(packet.to_bytes() for packet in packets)):
            self.assertEqual(read(PacketReader(), chunks), packets)

    def test_content_taken(self) -> None:
        """Content that is taken past the reader is not waited for; what is received comes before it."""
        reader = PacketReader()
        self.assertEqual(read(reader, [deployed(CONTENT, b"a")]), [CONTENT, ContentReceived(b"a")])
        reader.content_taken(2)
        self.assertEqual(read(reader, [b"d" + CLOSE.to_bytes()]), [ContentReceived(b"d"), ContentFinished(), CLOSE])
        self.assertRaises(LocalProtocolError, reader.content_taken, 1)
        reader.receive_data(b"?")
        self.assertRaises(LocalProtocolError, reader.content_taken, 0)

    def test_content(self) -> None:
        """A piece in either form is its packet, its content and the content's end, and the next packet is read."""
        events: list[Event] = [CONTENT, ContentReceived(b"abcd"), ContentFinished(), CLOSE]
        for form in (deployed, specified):
            for chunks in every_cut(form(CONTENT, b"abcd") + CLOSE.to_bytes()):
                self.assertEqual(read(PacketReader(), chunks), events)

    def test_forms_mixed(self) -> None:
        """Each piece may come in its own form."""
        events: list[Event] = [CONTENT, ContentReceived(b"abcd"), ContentFinished()]
        for chunks in every_cut(deployed(CONTENT, b"abcd") + specified(CONTENT, b"abcd") + deployed(CONTENT, b"abcd")):
            self.assertEqual(read(PacketReader(), chunks), events * 3)

    def test_content_that_looks_like_packets(self) -> None:
        """A content is content, whatever it looks like."""
        data = CLOSE.to_bytes() * 3
        packet = replace(CONTENT, metadata=replace(METADATA, length=len(data)))
        for form in (deployed, specified):
            events = read(PacketReader(), [form(packet, data)])
            self.assertEqual(events, [packet, ContentReceived(data), ContentFinished()])

    def test_content_of_no_bytes(self) -> None:
        """A piece of no bytes, in which both forms are one, ends at once."""
        packet = replace(CONTENT, metadata=replace(METADATA, length=0))
        for chunks in every_cut(packet.to_bytes()):
            self.assertEqual(read(PacketReader(), chunks), [packet, ContentFinished()])

    def test_content_as_it_comes(self) -> None:
        """Content is given out with the chunk that brought it, and not kept until it is complete."""
        reader = PacketReader()
        reader.receive_data(CONTENT.to_bytes() + b"a")
        self.assertEqual([*drain(reader)], [CONTENT, ContentReceived(b"a")])
        self.assertEqual((reader.content_left, reader.buffered), (3, 0))
        reader.receive_data(b"bc")
        self.assertEqual([*drain(reader)], [ContentReceived(b"bc")])
        self.assertEqual((reader.content_left, reader.buffered), (1, 0))
        reader.receive_data(b"d\x00")
        self.assertEqual([*drain(reader)], [ContentReceived(b"d"), ContentFinished()])
        self.assertEqual((reader.content_left, reader.buffered), (0, 1))

    def test_packet_id(self) -> None:
        """The packet ID is that of the last header, that of a refused packet too."""
        reader = PacketReader()
        self.assertEqual(reader.packet_id, 0)
        read(reader, [REQUEST.to_bytes(), ERROR.to_bytes()[:6]])
        self.assertEqual(reader.packet_id, 3)
        reader = PacketReader()
        reader.receive_data(REQUEST.to_bytes() + header(0, 69))
        self.assertEqual(reader.next_event(), REQUEST)
        self.assertEqual(reader.packet_id, 1)
        self.assertRaises(RemoteProtocolError, reader.next_event)
        self.assertEqual(reader.packet_id, 9)

    def test_content_length_neither_form(self) -> None:
        """A content packet with some of its content inside, or too much, is refused as soon as its metadata end."""
        metadata_end = len(CONTENT.to_bytes())
        for inside in (1, 3, 5, 2**32 - 1 - metadata_end + 6):
            data = bytearray(CONTENT.to_bytes())
            data[2:6] = (metadata_end - 6 + inside).to_bytes(4, "big")
            self.assert_refused(
                bytes(data), f"expected no content in the packet or all 4 bytes of the piece, got {inside}"
            )

    def test_piece_length(self) -> None:
        """A piece that is longer than we would take is refused as soon as its metadata end; one byte less is not."""
        self.assert_refused(CONTENT.to_bytes(), "expected a piece of at most 3 bytes, got 4", max_piece_length=3)
        self.assertEqual(read(PacketReader(max_piece_length=4), [CONTENT.to_bytes()]), [CONTENT])


class LimitTests(SynchronousTestCase):
    """Limits are checked from the header, before anything is kept."""

    def assert_refused_from_the_header(self, tag: int, length: int) -> None:
        """Assert that a header is refused when its last byte comes, and that nothing was allocated for its value."""
        reader = PacketReader()
        reader.receive_data(header(tag, length)[:5])
        self.assertIsNone(reader.next_event())
        reader.receive_data(header(tag, length)[5:])
        tracemalloc.start()
        try:
            error = self.assertRaises(RemoteProtocolError, reader.next_event)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertIn(f"for tag {tag}, got {length}", str(error))
        self.assertTrue(peak < 65536, peak)

    def test_request(self) -> None:
        """A request's value has 68 bytes."""
        for kind in PieceKind:
            for length in (0, 67, 69, 2**32 - 1):
                self.assert_refused_from_the_header(kind.request_tag, length)

    def test_error_close_and_reserved(self) -> None:
        """An error's, a close's and a reserved packet's value have at most 64 KiB, and an error's has its code."""
        for tag in (8, 253, 254, 255):
            self.assert_refused_from_the_header(tag, 65537)
            self.assert_refused_from_the_header(tag, 2**32 - 1)
        self.assert_refused_from_the_header(255, 0)

    def test_largest(self) -> None:
        """Values of 64 KiB are read."""
        packets: list[Vortex] = [
            Close(packet_id=1, value=bytes(65536)),
            Reserved(packet_id=1, reserved_tag=9, value=bytes(65536)),
            ErrorReply(packet_id=1, code=0, text="x" * 65535),
            replace(CONTENT, metadata=replace(METADATA, parent_id="p" * (65536 - 45 - 7))),
        ]
        for packet in packets:
            self.assertEqual(read(PacketReader(), [packet.to_bytes()]), [packet])
        self.assertEqual(len(packets[-1].to_bytes()), 6 + 4 + 65536)

    def test_metadata(self) -> None:
        """A content packet may say any length, because its content may be inside; its metadata have at most 64 KiB."""
        for kind in PieceKind:
            self.assert_refused_from_the_header(kind.content_tag, 48)
            for metadata_length in (44, 65537, 2**32 - 1):
                reader = PacketReader()
                data = header(kind.content_tag, 2**32 - 1) + metadata_length.to_bytes(4, "big")
                self.assertEqual(read(reader, [data[:-1]]), [])
                reader.receive_data(data[-1:])
                error = self.assertRaises(RemoteProtocolError, reader.next_event)
                self.assertEqual(str(error), f"expected metadata of 45 to 65536 bytes, got {metadata_length}")

    def test_slow_drip(self) -> None:
        """A peer that sends one byte at a time and never an end makes the reader keep a value's limit, and no more."""
        reader = PacketReader()
        most = 0
        for byte in byte_by_byte(header(254, 65536) + bytes(65535)):
            reader.receive_data(byte)
            self.assertIsNone(reader.next_event())
            most = max(most, reader.buffered)
        self.assertTrue(most <= 65536 + 6, most)
        reader.receive_data(b"\x00")
        self.assertEqual(reader.next_event(), Close(packet_id=9, value=bytes(65536)))
        self.assertEqual(reader.buffered, 0)

    def test_slow_drip_of_packets(self) -> None:
        """Packets that drip, each read in time, leave nothing behind."""
        reader = PacketReader()
        for byte in byte_by_byte(CLOSE.to_bytes() * 1000):
            reader.receive_data(byte)
            while reader.next_event() is not None:
                pass
            self.assertTrue(reader.buffered < 9)
        self.assertEqual(reader.buffered, 0)


class MemoryTests(SynchronousTestCase):
    """A piece's content is counted and handed on, and never kept or copied."""

    def test_flat(self) -> None:
        """64 MiB of content, in either form, pass through in the memory of a chunk."""
        length = 64 * MEBIBYTE
        packet = replace(CONTENT, metadata=replace(METADATA, length=length))
        inside = bytearray(packet.to_bytes())
        inside[2:6] = (len(inside) - 6 + length).to_bytes(4, "big")
        chunk = bytes(MEBIBYTE)
        for start in (packet.to_bytes(), bytes(inside)):
            reader = PacketReader()
            self.assertEqual(read(reader, [start]), [packet])
            tracemalloc.start()
            try:
                for _ in range(63):
                    reader.receive_data(chunk)
                    for event in drain(reader):
                        self.assertIs(event.data if isinstance(event, ContentReceived) else event, chunk)
                    self.assertEqual(reader.buffered, 0)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            self.assertTrue(peak < 65536, peak)
            reader.receive_data(chunk)
            self.assertEqual([*drain(reader)], [ContentReceived(chunk), ContentFinished()])

    def test_chunk_of_content(self) -> None:
        """A chunk that is all content is the very object that was received."""
        reader = PacketReader()
        read(reader, [CONTENT.to_bytes()])
        chunk = bytes((1, 2, 3))
        reader.receive_data(chunk)
        event = reader.next_event()
        self.assertIs(event.data if isinstance(event, ContentReceived) else event, chunk)

    def test_chunk_with_more_than_content(self) -> None:
        """Content between a packet and the next is a view of the chunk that was received."""
        reader = PacketReader()
        chunk = CONTENT.to_bytes() + b"abcd" + CLOSE.to_bytes()
        reader.receive_data(chunk)
        self.assertEqual(reader.next_event(), CONTENT)
        event = reader.next_event()
        if not isinstance(event, ContentReceived):
            self.fail(f"expected content, got {event}")
        self.assertIs(memoryview(event.data).obj, chunk)
        self.assertEqual(event.data, b"abcd")
        self.assertEqual([*drain(reader)], [ContentFinished(), CLOSE])


class FailureTests(SynchronousTestCase):
    """A stream that is no Vortex has failed for ever."""

    def failed(self) -> tuple[PacketReader, RemoteProtocolError]:
        """A reader that has failed, and its error."""
        reader = PacketReader()
        reader.receive_data(header(0, 69) + CLOSE.to_bytes())
        return reader, self.assertRaises(RemoteProtocolError, reader.next_event)

    def test_stays(self) -> None:
        """The same error is raised again and again, whatever is received."""
        reader, error = self.failed()
        for data in (b"", REQUEST.to_bytes(), b"\xff" * 100):
            reader.receive_data(data)
            self.assertIs(self.assertRaises(RemoteProtocolError, reader.next_event), error)

    def test_keeps_nothing(self) -> None:
        """What came with the error and what comes after it is dropped."""
        reader, _ = self.failed()
        self.assertEqual(reader.buffered, 0)
        reader.receive_data(bytes(65536))
        self.assertEqual(reader.buffered, 0)

    def test_does_not_grow(self) -> None:
        """An error that is raised often is as small as at first: its traceback does not gather every call."""
        reader, _ = self.failed()
        depths = []
        for _ in range(10):
            error = self.assertRaises(RemoteProtocolError, reader.next_event)
            depths.append(len([*walk_tb(error.__traceback__)]))
        self.assertEqual(depths, depths[:1] * 10)

    def test_by_someone_else(self) -> None:
        """A caller that understands more of the stream than the reader can end it with its own error."""
        reader = PacketReader()
        reader.receive_data(CLOSE.to_bytes())
        error = RemoteProtocolError("expected something else")
        reader.end(error)
        self.assertIs(self.assertRaises(RemoteProtocolError, reader.next_event), error)
        self.assertEqual(reader.buffered, 0)

    def test_end(self) -> None:
        """A reader that is to read no more gives nothing and keeps nothing, wherever in the stream it is."""
        nothing = replace(CONTENT, metadata=replace(METADATA, length=0))
        for start in (b"", b"\x00", CONTENT.to_bytes(), nothing.to_bytes()):
            reader = PacketReader()
            reader.receive_data(start)
            reader.next_event()
            reader.end()
            self.assertEqual(read(reader, [CLOSE.to_bytes()]), [])
            self.assertEqual(reader.buffered, 0)

    def test_is_let_go(self) -> None:
        """A reader without references is freed at once, without the garbage collector."""
        reader = PacketReader()
        read(reader, [CLOSE.to_bytes(), b"\x00"])
        reference = weakref.ref(reader)
        del reader
        self.assertIsNone(reference())


class ReceiveBufferTests(SynchronousTestCase):
    """Bytes come out in the order in which they went in, and content is not copied on the way."""

    def test_empty(self) -> None:
        """Of an empty buffer nothing can be taken, and of no bytes nothing is missing."""
        buffer = ReceiveBuffer()
        self.assertEqual(buffer.length, 0)
        self.assertIsNone(buffer.take(1))
        self.assertEqual(buffer.take(0), b"")
        self.assertEqual(buffer.take_at_most(1), b"")

    def test_take(self) -> None:
        """What is taken is gone; what is not all there stays."""
        buffer = buffer_of(b"abcdef")
        self.assertEqual(buffer.take(2), b"ab")
        self.assertIsNone(buffer.take(5))
        self.assertEqual(buffer.length, 4)
        self.assertEqual(buffer.take(4), b"cdef")
        self.assertEqual(buffer.length, 0)

    def test_take_over_chunks(self) -> None:
        """Bytes that are taken may have arrived in any number of chunks, with other bytes taken in between."""
        buffer = buffer_of(b"a", b"bc", b"", b"def")
        self.assertEqual(buffer.take(2), b"ab")
        buffer.append(b"gh")
        self.assertEqual(buffer.length, 6)
        self.assertEqual(buffer.take(6), b"cdefgh")
        buffer.append(b"i")
        self.assertEqual(buffer.take(1), b"i")

    def test_take_is_bytes(self) -> None:
        """What is taken whole is bytes of its own, whatever it came in."""
        for buffer in (buffer_of(b"abcdef"), buffer_of(b"abc", b"def")):
            self.assertIs(type(buffer.take(4)), bytes)

    def test_a_chunk_passes_through(self) -> None:
        """A chunk that is nothing but content is handed on as the very object that it came as."""
        chunk = bytes(range(256))
        self.assertIs(buffer_of(chunk).take_at_most(1000), chunk)
        self.assertIs(buffer_of(chunk).take_at_most(256), chunk)

    def test_content_is_a_view(self) -> None:
        """Content with something before or behind it in its chunk is a view of that chunk."""
        chunk = b"header, content, header"
        buffer = buffer_of(chunk)
        buffer.take(8)
        content = buffer.take_at_most(7)
        self.assertIsInstance(content, memoryview)
        self.assertIs(memoryview(content).obj, chunk)
        self.assertEqual(content, b"content")
        self.assertEqual(buffer.take(8), b", header")

    def test_a_view_stays_good(self) -> None:
        """Content that is still held when more is received does not change."""
        for buffer in (buffer_of(b"content, h"), buffer_of(b"cont", b"ent, h")):
            content = buffer.take_at_most(7)
            buffer.append(b"eader")
            buffer.append(b"!")
            self.assertEqual(content, b"content")
            self.assertEqual(buffer.take(buffer.length), b", header!")

    def test_take_at_most_of_less(self) -> None:
        """Content that has arrived in part is given as far as it has arrived."""
        for buffer in (buffer_of(b"abc"), buffer_of(b"a", b"bc")):
            self.assertEqual(buffer.take_at_most(10), b"abc")
            self.assertEqual(buffer.length, 0)

    def test_joined_content_is_copied_once(self) -> None:
        """Content in a chunk that had to be joined with a part of a header is copied one time, not two."""
        buffer = buffer_of(b"h", bytes(4 * MEBIBYTE))
        buffer.take(1)
        tracemalloc.start()
        try:
            content = buffer.take_at_most(4 * MEBIBYTE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(len(content), 4 * MEBIBYTE)
        self.assertTrue(peak < 5 * MEBIBYTE, peak)

    def test_what_was_read_is_let_go(self) -> None:
        """A buffer that never runs empty does not keep what has been read from it."""
        tracemalloc.start()
        try:
            buffer = buffer_of(b"ab")
            for _ in range(64):
                buffer.append(bytes(65536))
                buffer.take(65536)
            current, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(buffer.length, 2)
        self.assertTrue(current < 4 * 65536, current)
