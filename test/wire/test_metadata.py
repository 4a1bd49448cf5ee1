"""
A piece's metadata and their bytes.
"""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire.metadata import (
    EARLIEST_CREATED_AT,
    LATEST_CREATED_AT,
    MIN_METADATA_LENGTH,
    PieceMetadata,
    decode_metadata,
    decode_text,
    encode_metadata,
    encode_text,
)

METADATA = PieceMetadata(
    number=0x01020304,
    offset=0x1112131415161718,
    length=0x2122232425262728,
    digest="crc32:7",
    parent_id="pär",
    traffic_type=0x31,
    cost=0x4142434445464748,
    created_at=-2,
    extra=b"more",
)

# The same, field by field.
FIELDS = (
    "01020304"  # number
    "1112131415161718"  # offset
    "2122232425262728"  # length
    "00000007"  # bytes of the digest
    "63726333323a37"  # digest
    "00000004"  # bytes of the parent ID
    "70c3a472"  # parent ID
    "31"  # traffic type
    "4142434445464748"  # cost
    "fffffffffffffffe"  # created_at
    "6d6f7265"  # extra
)

LEAST = PieceMetadata(number=0, offset=0, length=0, digest="")


class EncodeTests(SynchronousTestCase):
    """:func:`encode_metadata` writes what can be written, and refuses the rest as this side's error."""

    def test_fields(self) -> None:
        """Every field is in its place, big-endian, and the lengths of texts count bytes."""
        self.assertEqual(encode_metadata(METADATA).hex(), FIELDS)

    def test_defaults(self) -> None:
        """Metadata with the piece's fields alone are those of a piece from a remote peer."""
        self.assertEqual(encode_metadata(LEAST), bytes(28) + b"\x01" + bytes(16))
        self.assertEqual(len(encode_metadata(LEAST)), MIN_METADATA_LENGTH)

    def test_out_of_range(self) -> None:
        """A number that does not fit its field is refused, and the message shows it."""
        for wrong in (
            replace(LEAST, number=-1),
            replace(LEAST, number=2**32),
            replace(LEAST, offset=2**64),
            replace(LEAST, length=2**64),
            replace(LEAST, traffic_type=256),
            replace(LEAST, cost=2**64),
        ):
            error = self.assertRaises(LocalProtocolError, encode_metadata, wrong)
            self.assertIn(repr(wrong), str(error))

    def test_created_at_out_of_range(self) -> None:
        """A time that the reference could not hold is refused, its first and last second are not."""
        for created_at in (EARLIEST_CREATED_AT, LATEST_CREATED_AT):
            encode_metadata(replace(LEAST, created_at=created_at))
        for created_at in (EARLIEST_CREATED_AT - 1, LATEST_CREATED_AT + 1):
            error = self.assertRaises(LocalProtocolError, encode_metadata, replace(LEAST, created_at=created_at))
            self.assertIn(f"got {created_at}", str(error))

    def test_length(self) -> None:
        """Metadata of 64 KiB are written, one byte more is refused."""
        most = replace(LEAST, parent_id="p" * (65536 - MIN_METADATA_LENGTH))
        self.assertEqual(len(encode_metadata(most)), 65536)
        error = self.assertRaises(LocalProtocolError, encode_metadata, replace(most, extra=b"x"))
        self.assertEqual(str(error), "expected at most 65536 bytes of metadata, got 65537")

    def test_no_utf8(self) -> None:
        """A text that UTF-8 has no bytes for is this side's error, and not another exception."""
        for wrong in (replace(LEAST, digest="\ud800"), replace(LEAST, parent_id="\udcff")):
            self.assertRaises(LocalProtocolError, encode_metadata, wrong)


class DecodeTests(SynchronousTestCase):
    """:func:`decode_metadata` reads what can be read, and refuses the rest as the other side's error."""

    def test_fields(self) -> None:
        """Every field is read from its place, and what is behind them is kept."""
        self.assertEqual(decode_metadata(bytes.fromhex(FIELDS)), METADATA)

    def test_from_a_view(self) -> None:
        """The values do not hold on to the bytes that they were read from."""
        decoded = decode_metadata(memoryview(bytes.fromhex(FIELDS)))  # type: ignore[arg-type]  # what a buffer may hand out
        self.assertEqual(decoded, METADATA)
        self.assertIsInstance(decoded.extra, bytes)

    def test_cut_short(self) -> None:
        """Metadata that end before their last field are refused, wherever they end."""
        whole = bytes.fromhex(FIELDS)
        for end in range(len(whole) - len(METADATA.extra)):
            self.assertRaises(RemoteProtocolError, decode_metadata, whole[:end])

    def test_what_is_missing(self) -> None:
        """The message says what was expected and how much came."""
        head = bytes.fromhex("0102030411121314151617182122232425262728")
        for data, message in (
            (bytes(44), "expected at least 45 bytes of metadata, got 44"),
            (head + b"\x00\x00\x00\x16" + bytes(21), "expected a digest of 22 bytes, got 21"),
            (
                head + b"\x00\x00\x00\x12" + bytes(21),
                "expected a parent ID's length at byte 42 of the metadata, got 45 bytes in all",
            ),
            (head + bytes(4) + b"\x00\x00\x00\x12" + bytes(17), "expected a parent ID of 18 bytes, got 17"),
            (head + bytes(4) + b"\x00\x00\x00\x01" + bytes(17), "expected 17 bytes behind the parent ID, got 16"),
            (head + b"\x00\x00\x00\x11" + bytes(21), "expected 17 bytes behind the parent ID, got 0"),
            (head + bytes(4) + b"\x00\x00\x00\x11" + bytes(17), "expected 17 bytes behind the parent ID, got 0"),
            (
                head + b"\x00\x00\x00\x01\xff" + bytes(21),
                "expected a digest in UTF-8: invalid start byte at its byte 0",
            ),
            (
                head + bytes(4) + b"\x00\x00\x00\x02p\xff" + bytes(17),
                "expected a parent ID in UTF-8: invalid start byte at its byte 1",
            ),
        ):
            self.assertEqual(str(self.assertRaises(RemoteProtocolError, decode_metadata, data)), message)

    def test_created_at_out_of_range(self) -> None:
        """A time that the reference could not hold is refused."""
        start = encode_metadata(LEAST)[:-8]
        for created_at in (EARLIEST_CREATED_AT, LATEST_CREATED_AT):
            data = start + created_at.to_bytes(8, "big", signed=True)
            self.assertEqual(decode_metadata(data).created_at, created_at)
        for created_at in (EARLIEST_CREATED_AT - 1, LATEST_CREATED_AT + 1):
            data = start + created_at.to_bytes(8, "big", signed=True)
            error = self.assertRaises(RemoteProtocolError, decode_metadata, data)
            self.assertIn(f"got {created_at}", str(error))


class TextTests(SynchronousTestCase):
    """A text is UTF-8 on the wire, or an error of the side that it comes from."""

    def test_there_and_back(self) -> None:
        """A text of any characters is the same again."""
        for text in ("", "a", "é漢\U0001f409\x00"):
            self.assertEqual(decode_text(encode_text(text, "text"), "text"), text)

    def test_from_a_view(self) -> None:
        """A view of a buffer is read as bytes are."""
        self.assertEqual(decode_text(memoryview(b"abc")[1:], "text"), "bc")  # type: ignore[arg-type]  # what a buffer hands out

    def test_no_bytes(self) -> None:
        """Half a surrogate pair, by which Python stands for what was no UTF-8, is this side's error."""
        error = self.assertRaises(LocalProtocolError, encode_text, "a\udcff", "name")
        self.assertEqual(str(error), "expected a name that UTF-8 can hold: surrogates not allowed at its character 1")
        self.assertIsInstance(error.__cause__, UnicodeEncodeError)

    def test_no_text(self) -> None:
        """Bytes that are no UTF-8 are the other side's error."""
        error = self.assertRaises(RemoteProtocolError, decode_text, b"a\xff", "name")
        self.assertEqual(str(error), "expected a name in UTF-8: invalid start byte at its byte 1")
        self.assertIsInstance(error.__cause__, UnicodeDecodeError)
