"""Sample pieces are what they say they are."""

from __future__ import annotations

import zlib

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.testing.pieces import TASK_ID, reply_bytes, sample_piece
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import ContentFinished, ContentReceived, PacketReader, PieceContent, PieceKind, Vortex


class SamplePieceTests(SynchronousTestCase):
    """Pieces."""

    def test_true(self) -> None:
        """Length, offset and digest are those of the content, which is always the same."""
        piece = sample_piece(100, number=3, kind=PieceKind.CACHE)
        self.assertEqual((len(piece.content), piece.metadata.length), (100, 100))
        self.assertEqual((piece.metadata.offset, piece.number, piece.kind), (300, 3, PieceKind.CACHE))
        self.assertEqual(piece.metadata.digest, f"crc32:{zlib.crc32(piece.content)}")
        self.assertEqual(piece, sample_piece(100, number=3, kind=PieceKind.CACHE))
        self.assertEqual((len(TASK_ID), piece.piece_id), (64, f"{TASK_ID}-3"))

    def test_different(self) -> None:
        """Pieces of other numbers and kinds have another content."""
        contents = {sample_piece(100, number=number, kind=kind).content for number in range(5) for kind in PieceKind}
        self.assertEqual(len(contents), 5 * len(PieceKind))

    def test_algorithm(self) -> None:
        """The digest is by the algorithm that was asked for."""
        self.assertTrue(sample_piece(1, algorithm="sha512").metadata.digest.startswith("sha512:"))

    def test_request(self) -> None:
        """A request asks for the piece, with a sink where one is given."""
        piece, sink = sample_piece(1, number=2, kind=PieceKind.PERSISTENT), MemorySink()
        request = piece.request(sink)
        self.assertEqual((request.kind, request.task_id, request.number), (piece.kind, TASK_ID, 2))
        self.assertIs(request.sink, sink)

    def test_replies(self) -> None:
        """Replies of both forms are read as the piece; only the long one is a whole packet."""
        piece = sample_piece(10)
        for inside in (True, False):
            reader = PacketReader()
            reader.receive_data(reply_bytes(piece, packet_id=7, inside=inside))
            self.assertEqual(
                list(iter(reader.next_event, None)),
                [
                    PieceContent(packet_id=7, kind=piece.kind, metadata=piece.metadata),
                    ContentReceived(piece.content),
                    ContentFinished(),
                ],
            )
        packet = Vortex.from_bytes(reply_bytes(piece, inside=True))
        assert isinstance(packet, PieceContent)
        self.assertEqual(packet.content, piece.content)
