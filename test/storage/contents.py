"""What the tests of the storage share: contents, files, and a look at everything that a storage has."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from dragonfly_vortex.digest import new_hash, parse_digest
from dragonfly_vortex.files import write_all
from dragonfly_vortex.model import StoredPiece, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.tables import ADD_TASK, task_row
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["content_of", "files_in", "piece_bytes", "put_in_two_kinds", "put_pieces", "write_at", "wrong_pieces"]


def content_of(length: int, seed: int = 0) -> bytes:
    """A content without repetitions, the same for the same length and seed."""
    return random.Random(f"{seed} {length}").randbytes(length)


def put_in_two_kinds(directory: Path, task: StoredTask) -> StoredTask:
    """Write the row of a task once more, as a newer one of the kind cache, which the catalog itself refuses."""
    newer = replace(task, kind=PieceKind.CACHE, created_at=task.created_at + 1)
    with closing(sqlite3.connect(directory / "catalog.sqlite3")) as connection:
        connection.execute(ADD_TASK, task_row(newer))
        connection.commit()
    return newer


def files_in(directory: Path) -> list[str]:
    """All files of a storage's content, hidden ones too."""
    root = directory / "content"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def piece_bytes(directory: Path, piece: StoredPiece) -> bytes:
    """The bytes that a row tells of."""
    descriptor = Content(directory).open(piece.kind, piece.task_id)
    try:
        return os.pread(descriptor, piece.metadata.length, piece.metadata.offset)
    finally:
        os.close(descriptor)


def write_at(directory: Path, task: StoredTask, offset: int, data: bytes) -> None:
    """Write bytes into a task's file."""
    descriptor = Content(directory).open_for_writing(task.kind, task.task_id)
    try:
        write_all(descriptor, data, offset)
    finally:
        os.close(descriptor)


def put_pieces(directory: Path, task: StoredTask, contents: Mapping[int, bytes]) -> None:
    """Put pieces into a storage, and the task itself where it is not there."""
    files = Content(directory)
    with Catalog(directory) as catalog:
        with files.lock():
            if not files.path(task.kind, task.task_id).exists():
                files.create(task.kind, task.task_id)
        pieces = []
        for number, data in contents.items():
            hasher = new_hash("crc32")
            hasher.update(data)
            offset = number * task.piece_length
            write_at(directory, task, offset, data)
            pieces.append(PieceMetadata(number=number, offset=offset, length=len(data), digest=hasher.text()))
        catalog.commit_pieces(task, pieces)


def wrong_pieces(directory: Path) -> list[StoredPiece]:
    """The pieces of a storage whose bytes are not what their rows say."""
    wrong = []
    with Catalog(directory) as catalog:
        for task in catalog.list_tasks():
            for piece in catalog.get_pieces(task.kind, task.task_id):
                hasher = new_hash(parse_digest(piece.metadata.digest)[0])
                hasher.update(piece_bytes(directory, piece))
                if hasher.text() != piece.metadata.digest:
                    wrong.append(piece)
    return wrong
