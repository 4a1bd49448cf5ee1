"""
What a store does with tasks and pieces: rows and files together. Everything here blocks, and belongs to the storage's
thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from dragonfly_vortex.digest import new_hash, parse_digest, verify
from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageError, StorageFailure
from dragonfly_vortex.geometry import check_lengths, piece_span
from dragonfly_vortex.model import FileRange, OpenPiece, StoredPiece, StoredTask, piece_id
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["PAGE_LENGTH", "OpenedPiece", "add_piece", "add_task", "find_piece", "open_piece", "page_of"]

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


def add_task(catalog: Catalog, content: Content, task: StoredTask) -> None:
    """
    Make a task's file, then its row; see :meth:`~dragonfly_vortex.storage.catalog.Catalog.add_task`.

    :raises StorageError: the task cannot be stored, or is there with other lengths.
    :raises StorageFailure: it cannot be written.
    """
    check_lengths(task.content_length, task.piece_length)
    with storage_failures(f"cannot add task {task.task_id}"), content.lock():
        try:
            catalog.get_task(task.kind, task.task_id)
        except NotStored:
            content.create(task.kind, task.task_id)
        catalog.add_task(task)


def add_piece(
    catalog: Catalog, content: Content, kind: PieceKind, task_id: str, metadata: PieceMetadata, data: bytes
) -> None:
    """
    Write a piece's bytes, then its row.

    :param metadata: without a digest it gets a CRC-32.
    :param data: the piece's bytes.
    :raises NotStored: there is no such task.
    :raises StorageError: metadata, bytes and task do not fit together, or the piece is there and is damaged or another
        one.
    :raises StorageFailure: it cannot be written.
    """
    name = piece_id(task_id, metadata.number)
    task = catalog.get_task(kind, task_id)
    offset, length = _span(metadata.number, task, len(data))
    if (metadata.offset, metadata.length) != (offset, length) or len(data) != metadata.length:
        raise StorageError(
            f"piece {name}: expected {length} bytes at {offset}, got {len(data)} bytes,"
            f" said to be {metadata.length} at {metadata.offset}"
        )
    metadata = replace(metadata, digest=_digest(name, metadata.digest, data))
    try:
        there = catalog.get_piece(kind, task_id, metadata.number)
    except NotStored:
        pass
    else:
        if there.damage or there.metadata.digest != metadata.digest:
            raise StorageError(
                f"piece {name}: expected it not to be there, or to be the same,"
                f" got {there.damage or there.metadata.digest}"
            )
        return
    with storage_failures(f"cannot write piece {name}"):
        content.write(kind, task_id, metadata.offset, data)
    catalog.add_piece(kind, task_id, metadata)


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


def _span(number: int, task: StoredTask, length: int) -> tuple[int, int]:
    """Where a piece lies. While a task's length is not known any piece may be a shorter one, the last."""
    if task.content_length is None:
        return number * task.piece_length, min(length, task.piece_length)
    return piece_span(number, task.content_length, task.piece_length)


def _digest(name: str, expected: str, content: bytes) -> str:
    """The digest that a piece's row will have: the one that it came with, if it is right."""
    try:
        hasher = new_hash(parse_digest(expected)[0] if expected else "crc32")
    except ValueError as error:
        raise StorageError(f"piece {name}: {error}") from error
    hasher.update(content)
    if expected and not verify(hasher, expected):
        raise StorageError(f"piece {name}: expected the digest {expected}, got {hasher.text()}")
    return hasher.text()
