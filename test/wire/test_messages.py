"""
Whole packets as values.
"""

from __future__ import annotations

import tracemalloc

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire import (
    Close,
    ErrorReply,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Reserved,
    TrafficType,
    Vortex,
)
from dragonfly_vortex.wire.messages import check_value_length, printable
from dragonfly_vortex.wire.metadata import decode_metadata_length

TASK_ID = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
MEBIBYTE = 1024 * 1024


def content_packet(length: int, content: bytes = b"") -> PieceContent:
    """A content packet of a piece of so many bytes."""
    metadata = PieceMetadata(number=3, offset=12, length=length, digest="crc32:1")
    return PieceContent(packet_id=1, kind=PieceKind.STANDARD, metadata=metadata, content=content)


class VortexTests(SynchronousTestCase):
    """What all packets have in common."""

    def test_is_no_packet_itself(self) -> None:
        """The common class has no tag and no value, and cannot be sent."""
        packet = Vortex(packet_id=1)
        for use in (packet.to_bytes, packet._value, lambda: packet.tag):
            error = self.assertRaises(LocalProtocolError, use)
            self.assertEqual(str(error), "a packet is one of the forms of Vortex, not Vortex itself")

    def test_frozen(self) -> None:
        """A packet does not change."""
        self.assertRaises(AttributeError, setattr, Close(packet_id=1), "packet_id", 2)

    def test_packet_id_out_of_range(self) -> None:
        """A packet ID has one byte."""
        for packet_id in (-1, 256):
            error = self.assertRaises(LocalProtocolError, Close(packet_id=packet_id).to_bytes)
            self.assertIn("expected a packet ID from 0 to 255", str(error))

    def test_no_header(self) -> None:
        """Fewer bytes than a header has are no packet."""
        error = self.assertRaises(RemoteProtocolError, Vortex.from_bytes, b"\x01\xfe\x00\x00\x00")
        self.assertEqual(str(error), "expected at least 6 bytes for a header, got 5")

    def test_length_and_value(self) -> None:
        """A value that is shorter or longer than the header says is refused."""
        for value in (b"ab", b"abcd"):
            error = self.assertRaises(RemoteProtocolError, Vortex.from_bytes, b"\x01\xfe\x00\x00\x00\x03" + value)
            self.assertEqual(str(error), f"expected a value of 3 bytes, as the header says, got {len(value)}")

    def test_limit_before_the_value(self) -> None:
        """A value above the limit is refused from the header: nothing of it is copied first."""
        data = b"\x01\xfe\x00\x80\x00\x00" + bytes(8 * MEBIBYTE)
        tracemalloc.start()
        try:
            self.assertRaises(RemoteProtocolError, Vortex.from_bytes, data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertTrue(peak < MEBIBYTE, peak)

    def test_from_a_view(self) -> None:
        """Packets that are read from a view of a buffer are values of their own."""
        for packet in (
            PieceRequest(packet_id=1, kind=PieceKind.CACHE, task_id=TASK_ID, number=1),
            content_packet(3, b"abc"),
            ErrorReply(packet_id=1, code=2, text="nö"),
            Close(packet_id=1, value=b"v"),
            Reserved(packet_id=1, reserved_tag=9, value=b"v"),
        ):
            decoded = Vortex.from_bytes(memoryview(packet.to_bytes()))  # type: ignore[arg-type]  # what a buffer may hand out
            self.assertEqual(decoded, packet)
            self.assertEqual(hash(decoded), hash(packet))


class PieceRequestTests(SynchronousTestCase):
    """A request has a task ID of 64 bytes and a number of 4."""

    def test_bytes(self) -> None:
        """The value is the task ID and the number, the tag the kind's."""
        for kind, tag in zip(PieceKind, (0, 2, 4, 6), strict=True):
            packet = PieceRequest(packet_id=5, kind=kind, task_id=TASK_ID, number=0x01020304)
            expected = bytes((5, tag, 0, 0, 0, 68)) + TASK_ID.encode() + b"\x01\x02\x03\x04"
            self.assertEqual(packet.to_bytes(), expected)
            self.assertEqual(Vortex.from_bytes(expected), packet)

    def test_task_id_of_another_length(self) -> None:
        """A task ID that has not 64 bytes cannot be asked for; it is bytes that count, not characters."""
        for task_id in ("", TASK_ID[1:], TASK_ID + "0", "é" * 64):
            packet = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id=task_id, number=0)
            error = self.assertRaises(LocalProtocolError, packet.to_bytes)
            self.assertEqual(str(error), f"expected a task ID of 64 bytes, got {len(task_id.encode())}: {task_id!r}")

    def test_task_id_that_is_no_text(self) -> None:
        """A task ID that UTF-8 has no bytes for is this side's error, and not another exception."""
        packet = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id="\ud800" * 64, number=0)
        self.assertRaises(LocalProtocolError, packet.to_bytes)

    def test_number_out_of_range(self) -> None:
        """A number that does not fit 4 bytes is refused."""
        for number in (-1, 2**32):
            packet = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id=TASK_ID, number=number)
            error = self.assertRaises(LocalProtocolError, packet.to_bytes)
            self.assertEqual(str(error), f"expected a piece number from 0 to 4294967295, got {number}")

    def test_length_from_the_header(self) -> None:
        """A request's value has 68 bytes, and the header alone tells a wrong one."""
        for kind in PieceKind:
            check_value_length(kind.request_tag, 68)
            for length in (0, 67, 69, 2**32 - 1):
                error = self.assertRaises(RemoteProtocolError, check_value_length, kind.request_tag, length)
                self.assertEqual(str(error), f"expected a value of 68 bytes for tag {kind.request_tag}, got {length}")


class PieceContentTests(SynchronousTestCase):
    """A content packet has its metadata, and its content inside or behind it."""

    def test_deployed_form(self) -> None:
        """Without content the length counts the metadata and their length."""
        data = content_packet(5).to_bytes()
        self.assertEqual(data[:10], bytes((1, 1, 0, 0, 0, 56, 0, 0, 0, 52)))
        self.assertEqual(Vortex.from_bytes(data), content_packet(5))

    def test_specification_form(self) -> None:
        """With content the length counts that too."""
        data = content_packet(5, b"01234").to_bytes()
        self.assertEqual(data[:10], bytes((1, 1, 0, 0, 0, 61, 0, 0, 0, 52)))
        self.assertEqual(data[-5:], b"01234")
        self.assertEqual(Vortex.from_bytes(data), content_packet(5, b"01234"))

    def test_content_of_another_length(self) -> None:
        """Content that is inside and not as long as the metadata say is refused by both sides."""
        whole = content_packet(5, b"01234").to_bytes()
        for content in (b"0123", b"012345"):
            error = self.assertRaises(LocalProtocolError, content_packet(5, content).to_bytes)
            self.assertEqual(str(error), f"expected 5 bytes of content, got {len(content)}")
            value = whole[6:-5] + content
            data = b"\x01\x01" + len(value).to_bytes(4, "big") + value
            error = self.assertRaises(RemoteProtocolError, Vortex.from_bytes, data)
            self.assertEqual(str(error), f"expected no content in the packet or 5 bytes, got {len(content)}")

    def test_length_from_the_header(self) -> None:
        """A content packet has at least its metadata; how many bytes at the most, the metadata's length decides."""
        for kind in PieceKind:
            for length in (49, 2**32 - 1):
                check_value_length(kind.content_tag, length)
            error = self.assertRaises(RemoteProtocolError, check_value_length, kind.content_tag, 48)
            self.assertEqual(
                str(error), f"expected a value of 49 to 4294967295 bytes for tag {kind.content_tag}, got 48"
            )

    def test_metadata_length(self) -> None:
        """Metadata have 45 bytes at least, 64 KiB at the most, and no more than the value has room for."""
        for length, value_length, most in (
            (44, 100, 96),
            (97, 100, 96),
            (65537, 2**32 - 1, 65536),
            (2**32 - 1, 2**32 - 1, 65536),
        ):
            data = length.to_bytes(4, "big")
            error = self.assertRaises(RemoteProtocolError, decode_metadata_length, data, value_length)
            self.assertEqual(str(error), f"expected metadata of 45 to {most} bytes, got {length}")
        for length, value_length in ((45, 49), (96, 100), (65536, 2**32 - 1)):
            self.assertEqual(decode_metadata_length(length.to_bytes(4, "big"), value_length), length)

    def test_reply(self) -> None:
        """To a child a piece comes from a remote peer, wherever the parent has it from."""
        request = PieceRequest(packet_id=9, kind=PieceKind.PERSISTENT, task_id=TASK_ID, number=3)
        metadata = PieceMetadata(number=3, offset=12, length=4, digest="crc32:7")
        expected = PieceContent(packet_id=9, kind=PieceKind.PERSISTENT, metadata=metadata)
        for traffic_type in TrafficType:
            self.assertEqual(PieceContent.of(request, replace(metadata, traffic_type=traffic_type)), expected)


class ErrorReplyTests(SynchronousTestCase):
    """An error has a code of one byte, and a text."""

    def test_bytes(self) -> None:
        """The value is the code and the text in UTF-8."""
        packet = ErrorReply(packet_id=2, code=3, text="ö")
        self.assertEqual(packet.to_bytes(), b"\x02\xff\x00\x00\x00\x03\x03\xc3\xb6")
        self.assertEqual(Vortex.from_bytes(packet.to_bytes()), packet)

    def test_code_out_of_range(self) -> None:
        """A code that does not fit one byte is refused; reserved codes are not."""
        self.assertEqual(ErrorReply(packet_id=2, code=255, text="").to_bytes()[-1:], b"\xff")
        for code in (-1, 256):
            error = self.assertRaises(LocalProtocolError, ErrorReply(packet_id=2, code=code, text="").to_bytes)
            self.assertEqual(str(error), f"expected an error code from 0 to 255, got {code}")

    def test_text_that_is_no_text(self) -> None:
        """A text that UTF-8 has no bytes for is this side's error, and not another exception."""
        self.assertRaises(LocalProtocolError, ErrorReply(packet_id=2, code=0, text="\ud800").to_bytes)

    def test_text_not_utf8(self) -> None:
        """A text that is no UTF-8 is refused, and the message says where."""
        error = self.assertRaises(RemoteProtocolError, Vortex.from_bytes, b"\x02\xff\x00\x00\x00\x03\x03a\xff")
        self.assertEqual(str(error), "expected a text in UTF-8: invalid start byte at its byte 1")

    def test_length(self) -> None:
        """An error of 64 KiB is sent and read, of one byte more neither."""
        most = ErrorReply(packet_id=2, code=0, text="x" * 65535)
        self.assertEqual(Vortex.from_bytes(most.to_bytes()), most)
        error = self.assertRaises(LocalProtocolError, ErrorReply(packet_id=2, code=0, text="x" * 65536).to_bytes)
        self.assertEqual(str(error), "expected a value of 1 to 65536 bytes for tag 255, got 65537")
        self.assertRaises(RemoteProtocolError, check_value_length, 255, 65537)
        self.assertRaises(RemoteProtocolError, check_value_length, 255, 0)


class CloseTests(SynchronousTestCase):
    """A close is empty when we send it, and may have a value of up to 64 KiB."""

    def test_bytes(self) -> None:
        """A close is a header."""
        self.assertEqual(Close(packet_id=3).to_bytes(), b"\x03\xfe\x00\x00\x00\x00")

    def test_length(self) -> None:
        """A value of 64 KiB is kept, one byte more refused."""
        most = Close(packet_id=3, value=bytes(65536))
        self.assertEqual(Vortex.from_bytes(most.to_bytes()), most)
        self.assertRaises(LocalProtocolError, Close(packet_id=3, value=bytes(65537)).to_bytes)
        self.assertRaises(RemoteProtocolError, check_value_length, 254, 65537)


class ReservedTests(SynchronousTestCase):
    """A tag without a meaning can be read and written."""

    def test_bytes(self) -> None:
        """Every tag from 8 to 253 is reserved, and keeps its value."""
        for tag in range(8, 254):
            packet = Reserved(packet_id=4, reserved_tag=tag, value=b"v")
            self.assertEqual(packet.to_bytes(), bytes((4, tag, 0, 0, 0, 1)) + b"v")
            self.assertEqual(Vortex.from_bytes(packet.to_bytes()), packet)

    def test_tag_with_a_meaning(self) -> None:
        """A tag that means something, or that has no byte, is not reserved."""
        for tag in (*range(8), 254, 255, -1, 256):
            self.assertRaises(LocalProtocolError, Reserved(packet_id=4, reserved_tag=tag).to_bytes)

    def test_length(self) -> None:
        """A value of 64 KiB is kept, one byte more refused."""
        self.assertRaises(LocalProtocolError, Reserved(packet_id=3, reserved_tag=8, value=bytes(65537)).to_bytes)
        check_value_length(8, 65536)
        self.assertRaises(RemoteProtocolError, check_value_length, 8, 65537)


class PrintableTests(SynchronousTestCase):
    """A stranger's words, as a person may see them."""

    def test_a_strangers_words_are_one_harmless_line(self) -> None:
        """Control characters and line ends become spaces, and what grows long is cut."""
        self.assertEqual(printable("no\x1b[2J disk\r\nleft\n"), "no [2J disk  left")
        self.assertEqual(printable("x" * 200), "x" * 200)
        self.assertEqual(printable("x" * 201), "x" * 200 + "…")
