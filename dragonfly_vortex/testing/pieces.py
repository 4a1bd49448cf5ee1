"""
Pieces for tests: their content is arbitrary and always the same, their metadata fit it unless the test changes them.
"""

from __future__ import annotations

import random

from msgspec import Struct

from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.interfaces import DownloadPieceRequest, IPieceSink
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.wire import PieceContent, PieceKind, PieceMetadata

__all__ = ["TASK_ID", "SamplePiece", "reply_bytes", "sample_piece"]

TASK_ID = "c0ffee" * 10 + "beef"
"""The task of all sample pieces."""


class SamplePiece(Struct, frozen=True, kw_only=True):
    """
    A piece, and what an honest parent says about it.

    :param content: its bytes.
    """

    kind: PieceKind
    task_id: str
    metadata: PieceMetadata
    content: bytes

    @property
    def number(self) -> int:
        """Its number in its task."""
        return self.metadata.number

    @property
    def piece_id(self) -> str:
        """Its name in messages."""
        return piece_id(self.task_id, self.number)

    def request(self, sink: IPieceSink | None = None) -> DownloadPieceRequest:
        """
        The request of a client for this piece.

        :param sink: where its bytes go; None means memory.
        """
        return DownloadPieceRequest(kind=self.kind, task_id=self.task_id, number=self.number, sink=sink)


def sample_piece(
    length: int, *, number: int = 0, kind: PieceKind = PieceKind.STANDARD, algorithm: str = "crc32"
) -> SamplePiece:
    """
    A piece of that length.

    :param length: bytes of its content.
    :param number: its number; it starts at ``number`` times its length.
    :param algorithm: of its digest.
    """
    content = random.Random(f"{length}-{number}-{kind.label}").randbytes(length)
    hasher = new_hash(algorithm)
    hasher.update(content)
    metadata = PieceMetadata(
        number=number,
        offset=number * length,
        length=length,
        digest=hasher.text(),
        parent_id="127.0.0.1-sample-parent",
        created_at=1_700_000_000,
    )
    return SamplePiece(kind=kind, task_id=TASK_ID, metadata=metadata, content=content)


def reply_bytes(piece: SamplePiece, *, packet_id: int = 0, inside: bool = False) -> bytes:
    """
    A parent's whole reply with a piece.

    :param inside: count the content in the packet's length, as the text of the specification has it. Deployed peers
        leave it outside.
    """
    packet = PieceContent(packet_id=packet_id, kind=piece.kind, metadata=piece.metadata)
    if not inside:
        return packet.to_bytes() + piece.content
    return PieceContent(packet_id=packet_id, kind=piece.kind, metadata=piece.metadata, content=piece.content).to_bytes()
