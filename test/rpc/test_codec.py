"""Requests and replies; those with pieces against protobuf itself, bytes written by hand, and whatever else comes."""

from __future__ import annotations

from dragonfly_api import common_pb2, dfdaemon_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.rpc.codec import (
    MAX_OVERHEAD,
    decode_piece,
    encode_arrived,
    encode_piece,
    fill,
    metadata_digest,
    parse,
)
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.wire import PieceMetadata, TrafficType
from test.rpc.by_hand import HandMadePiece, bytes_field, number_field, piece_reply, read_reply, varint


class MessageTests(SynchronousTestCase):
    """Messages of Dragonfly's API."""

    def test_parse(self) -> None:
        """A request is parsed; what is none, or too long, is refused with what was expected."""
        data = dfdaemon_pb2.StatTaskRequest(task_id="task").SerializeToString()
        self.assertEqual(parse(dfdaemon_pb2.StatTaskRequest, data).task_id, "task")
        for wrong, most in ((b"\xff\xff", 10), (data, len(data) - 1)):
            error = self.assertRaises(RemoteProtocolError, parse, dfdaemon_pb2.StatTaskRequest, wrong, most)
            self.assertIn("expected a StatTaskRequest", str(error))

    def test_fill(self) -> None:
        """A reply takes the facts that it has fields for."""
        reply = fill(dfdaemon_pb2.StatLocalTaskResponse, task_id="task", content_length=5, digest="none")
        self.assertEqual((reply.task_id, reply.content_length), ("task", 5))


class MetadataDigestTests(SynchronousTestCase):
    """The digest of a piece's metadata."""

    def test_as_the_reference(self) -> None:
        """It is the number that the reference's own test expects."""
        metadata = PieceMetadata(number=1, offset=0, length=1024, digest="crc32:1929153120")
        self.assertEqual(metadata_digest(metadata), "crc32:3299754941")

    def test_of_everything(self) -> None:
        """Each of the four facts changes it, and nothing else does."""
        metadata = sample_piece(1000, number=3).metadata
        digests = {
            metadata_digest(each)
            for each in (
                metadata,
                replace(metadata, number=4),
                replace(metadata, offset=1),
                replace(metadata, length=999),
                replace(metadata, digest="crc32:1"),
            )
        }
        self.assertEqual(len(digests), 5)
        self.assertEqual(metadata_digest(replace(metadata, parent_id="x", cost=9)), metadata_digest(metadata))


class EncodeTests(SynchronousTestCase):
    """What we send."""

    def test_by_hand(self) -> None:
        """A child that reads fields by their numbers finds piece, content and both digests."""
        for length in (0, 1, 127, 128, 5_000_000):
            piece = sample_piece(length, number=2)
            metadata = piece.metadata
            expected = HandMadePiece(
                number=2,
                offset=metadata.offset,
                length=length,
                digest=metadata.digest,
                content=piece.content,
                metadata_digest=metadata_digest(metadata),
            )
            self.assertTrue(read_reply(b"".join(encode_piece(metadata, piece.content))) == expected, length)

    def test_by_protobuf(self) -> None:
        """The API's own message reads it, with the facts that gRPC has beside those."""
        piece = sample_piece(300, number=1)
        metadata = replace(piece.metadata, cost=5, traffic_type=TrafficType.BACK_TO_SOURCE)
        data = b"".join(encode_piece(metadata, piece.content))
        reply = dfdaemon_pb2.DownloadCachePieceResponse.FromString(data)
        self.assertEqual(reply.piece.content, piece.content)
        self.assertEqual(reply.piece.parent_id, piece.metadata.parent_id)
        self.assertEqual(reply.piece.traffic_type, common_pb2.REMOTE_PEER)
        self.assertEqual((reply.piece.cost.seconds, reply.piece.created_at.seconds), (5, 1_700_000_000))

    def test_longest_cost(self) -> None:
        """A cost that protobuf cannot hold becomes the longest that it can."""
        metadata = replace(sample_piece(1).metadata, cost=(1 << 64) - 1)
        reply = dfdaemon_pb2.DownloadCachePieceResponse.FromString(b"".join(encode_piece(metadata, b"x")))
        self.assertEqual(reply.piece.cost.seconds, (1 << 63) - 1)


class DecodeTests(SynchronousTestCase):
    """What we receive."""

    def refused(self, data: bytes) -> str:
        """Why a reply is refused."""
        return str(self.assertRaises(RemoteProtocolError, decode_piece, data))

    def test_by_hand(self) -> None:
        """A reply that was written by hand is read, with and without a digest of its metadata."""
        piece = sample_piece(100_000, number=7)
        for digest in (None, "crc32:5"):
            got = decode_piece(piece_reply(piece, metadata_digest=digest))
            self.assertTrue(bytes(got.content) == piece.content)
            self.assertEqual(got.metadata_digest, digest or "")
            self.assertEqual(replace(got.metadata, traffic_type=1, created_at=1_700_000_000), piece.metadata)

    def test_by_protobuf(self) -> None:
        """A reply that protobuf has written is read, whatever order it puts the fields into."""
        piece = sample_piece(5000, number=1)
        metadata = piece.metadata
        message = common_pb2.Piece(
            number=metadata.number,
            offset=metadata.offset,
            length=metadata.length,
            digest=metadata.digest,
            content=piece.content,
            parent_id=metadata.parent_id,
            traffic_type=common_pb2.REMOTE_PEER,
        )
        message.created_at.seconds = metadata.created_at
        message.cost.seconds = 3
        reply = dfdaemon_pb2.DownloadCachePieceResponse(piece=message, digest="crc32:5").SerializeToString()
        got = decode_piece(reply)
        self.assertEqual((got.metadata, bytes(got.content)), (replace(metadata, cost=3), piece.content))

    def test_content_is_not_copied(self) -> None:
        """The content is a view of the reply."""
        piece = sample_piece(1000)
        reply = piece_reply(piece)
        self.assertIs(decode_piece(reply).content.obj, reply)

    def test_unknown_fields(self) -> None:
        """Fields that are not known yet, of every type, are skipped."""
        piece = sample_piece(10)
        later = number_field(99, 5) + varint(98 << 3 | 1) + bytes(8) + varint(97 << 3 | 5) + bytes(4)
        data = later + piece_reply(piece) + later + bytes_field(96, b"text")
        self.assertEqual(bytes(decode_piece(data).content), piece.content)

    def test_a_piece_in_parts(self) -> None:
        """Protobuf lets a message come in parts, which are put together."""
        data = bytes_field(1, number_field(1, 5)) + bytes_field(1, number_field(4, 3) + bytes_field(6, b"abc"))
        got = decode_piece(data)
        self.assertEqual((got.metadata.number, got.metadata.length, bytes(got.content)), (5, 3, b"abc"))

    def test_no_piece(self) -> None:
        """A reply without a piece is refused; so is one whose piece is no message."""
        self.assertIn("expected a reply with a piece", self.refused(b""))
        self.assertIn("expected a reply with a piece", self.refused(number_field(1, 5)))

    def test_cut(self) -> None:
        """A reply that ends too early is refused, wherever it ends."""
        reply = piece_reply(sample_piece(20, number=1), metadata_digest="crc32:1")
        digest = len(bytes_field(2, b"crc32:1"))
        for length in set(range(len(reply))) - {len(reply) - digest}:
            self.refused(reply[:length])

    def test_no_protobuf(self) -> None:
        """Groups, numbers without an end and texts that are none are refused."""
        self.assertIn("wire type 3", self.refused(varint(1 << 3 | 3)))
        self.assertIn("number without an end", self.refused(b"\xff" * 11))
        self.assertIn("expected a reply in protobuf", self.refused(bytes_field(1, bytes_field(5, b"\xff"))))

    def test_overhead(self) -> None:
        """Not more than 64 KiB are looked at beside the content, however they come."""
        content = bytes_field(6, b"x" * 1_000_000)
        self.assertEqual(len(decode_piece(bytes_field(1, content)).content), 1_000_000)
        for data in (
            bytes_field(1, bytes_field(5, b"x" * MAX_OVERHEAD)),
            bytes_field(1, b"") * MAX_OVERHEAD,
            bytes_field(1, bytes_field(6, b"") * MAX_OVERHEAD),
            bytes_field(9, b"x" * MAX_OVERHEAD),
        ):
            self.assertIn("beside the content", self.refused(data))

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is read as protobuf reads it, or refused; this finds a forgotten check of a field's end."""
        try:
            got = decode_piece(data)
        except RemoteProtocolError:
            return
        reply = dfdaemon_pb2.DownloadCachePieceResponse.FromString(data)
        self.assertEqual((got.metadata.number, bytes(got.content)), (reply.piece.number, reply.piece.content))


class ArrivedTests(SynchronousTestCase):
    """Replies with a piece of a download."""

    @given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
    def test_as_protobuf(self, content: bytes, number: int) -> None:
        """The reply is what protobuf makes of the same facts."""
        piece = common_pb2.Piece(number=number, offset=5, length=len(content), digest="crc32:5")
        for kind, field in (
            (dfdaemon_pb2.DownloadTaskResponse, "download_piece_finished_response"),
            (dfdaemon_pb2.DownloadPersistentCacheTaskResponse, "download_piece_finished_response"),
        ):
            reply = kind(host_id="host", task_id="task", peer_id="peer")
            read = kind.FromString(encode_arrived(reply, field, piece, content))
            whole = common_pb2.Piece(number=number, offset=5, length=len(content), digest="crc32:5", content=content)
            arrived = dfdaemon_pb2.DownloadPieceFinishedResponse(piece=whole)
            expected = kind(host_id="host", task_id="task", peer_id="peer", download_piece_finished_response=arrived)
            self.assertEqual(read, expected)
