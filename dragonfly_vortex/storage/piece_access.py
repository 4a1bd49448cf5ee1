"""
What a store does with tasks and pieces: rows and files together. Everything here blocks, and belongs to the storage's
thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageError, StorageFailure
from dragonfly_vortex.model import FileRange, OpenPiece, StoredPiece, piece_id
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["PAGE_LENGTH", "OpenedPiece", "find_piece", "open_piece", "page_of"]

PAGE_LENGTH = 32
"""Rows that a page can have. So many are read from the catalog at once, where one is wanted."""


def page_of(number: int) -> range:
    """
    The numbers of the pieces in a page.

    :param number: one of them.
    """
    first = number - number % PAGE_LENGTH
    return range(first, first + PAGE_LENGTH)


class OpenedPiece(NamedTuple):
    """
    What was read for a question.

    :param rows: of the whole page, by number.
    :param piece: what was asked for.
    """

    rows: Mapping[int, StoredPiece]
    piece: OpenPiece


def open_piece(
    catalog: Catalog, content: Content, kind: PieceKind, task_id: str, number: int, start: int, length: int | None
) -> OpenedPiece:
    """
    Read a piece's row, with its neighbours, and open the file.

    :param start: the first byte of the piece that is wanted.
    :param length: bytes; None for all from there on.
    :raises NotStored: the piece is not there, or is damaged.
    :raises PieceDamaged: the task has no file.
    :raises StorageError: the range is not in the piece.
    :raises StorageFailure: it cannot be read.
    """
    name = piece_id(task_id, number)
    rows = {row.metadata.number: row for row in catalog.find_pieces(kind, task_id, page_of(number))}
    metadata, offset, length = find_piece(rows, task_id, number, start, length)
    with storage_failures(f"cannot open piece {name}"):
        try:
            descriptor = content.open(kind, task_id)
        except FileNotFoundError as error:
            with suppress(StorageFailure):  # a storage that can only be read
                catalog.mark_damaged(kind, task_id, number, "expected a file, got none")
            raise PieceDamaged(f"piece {name}: expected a file, got none") from error
    return OpenedPiece(rows, OpenPiece(metadata=metadata, range=FileRange(descriptor, offset, length)))


def find_piece(
    rows: Mapping[int, StoredPiece], task_id: str, number: int, start: int, length: int | None
) -> tuple[PieceMetadata, int, int]:
    """
    A piece among rows: its row, and which bytes of the file are asked for, from where and how many.

    :raises NotStored: it is not there, or is damaged.
    :raises StorageError: the range is not in the piece.
    """
    name = piece_id(task_id, number)
    row = rows.get(number)
    if row is None or row.damage:
        raise NotStored(f"piece {name} not found")
    metadata = row.metadata
    if length is None:
        length = metadata.length - start
    if not 0 <= start <= start + length <= metadata.length:
        raise StorageError(f"piece {name}: expected a range in {metadata.length} bytes, got {length} from {start}")
    return metadata, metadata.offset + start, length
