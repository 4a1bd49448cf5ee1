"""
The catalog of a storage: a row for each task and piece, in an SQLite file beside the content.

Every change is one transaction that is on the disk when its method returns. The bytes that a row describes have been
written to the disk before, so a row is never ahead of its bytes, over a power cut either. The exception is the row of a
piece with the mark :func:`~dragonfly_vortex.storage.tables.unsynced_mark`, which counts until the kernel ends.

The questions are in :mod:`~dragonfly_vortex.storage.queries`, how the file is opened and changed is in
:mod:`~dragonfly_vortex.storage.database`, what a row is in :mod:`~dragonfly_vortex.storage.tables`. Everything here
blocks, and belongs to one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from msgspec.structs import replace

from dragonfly_vortex.errors import NotStored, StorageError
from dragonfly_vortex.geometry import fits
from dragonfly_vortex.model import StoredTask, piece_id
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.queries import CatalogQueries
from dragonfly_vortex.storage.tables import (
    ADD_TASK,
    IN_DOUBT,
    PIECE_COLUMNS,
    UNSYNCED,
    piece_row,
    signed,
    signed_or_null,
    task_key,
    task_row,
    unsynced_mark,
)
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Catalog"]


class Catalog(CatalogQueries):
    """
    The rows of a storage. As a context manager it is open inside the block.

    :param directory: the storage's directory.
    :param access: what it is opened for.
    """

    def __init__(self, directory: Path, access: Access = Access.WRITE) -> None:
        super().__init__(directory, access)

    def __enter__(self) -> Catalog:
        self.open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def put_task(self, task: StoredTask, pieces: Iterable[PieceMetadata]) -> None:
        """
        Write a task and its pieces, in place of all rows and marks that it had.

        :param pieces: taken one by one, so that there may be more than memory would hold.
        :raises StorageError: the ID is there in another kind.
        :raises StorageFailure: they cannot be written; the rows are as they were.
        """
        key = task_key(task.kind, task.task_id)
        with self._database.change() as connection:
            self.check_kind(task.kind, task.task_id)
            connection.execute("DELETE FROM task WHERE kind = ? AND task_id = ?", key)
            connection.execute(ADD_TASK, task_row(task))
            _insert_pieces(connection, key, pieces)

    def commit_pieces(self, task: StoredTask, pieces: Sequence[PieceMetadata], *, is_synced: bool = True) -> None:
        """
        Write the rows of pieces, and that of their task with the content length that it is
        given. The task's digest, origin and source version are written where there were none, and for how long it is
        kept where that is given. A piece's row that is there stays as it is, unless it is damaged, which heals it.

        :param is_synced: whether the bytes of the pieces are on the disk. Otherwise the rows say so, and nothing is
            waited for.
        :raises StorageError: the task is there with another piece length or in another kind, or a piece is not where it
            should be.
        :raises StorageFailure: they cannot be written.
        """
        key = task_key(task.kind, task.task_id)
        with self._database.change(is_durable=is_synced) as connection:
            try:
                there = self.get_task(task.kind, task.task_id)
            except NotStored:
                self.check_kind(task.kind, task.task_id)
                connection.execute(ADD_TASK, task_row(task))
            else:
                if there.piece_length != task.piece_length:
                    raise StorageError(
                        f"task {task.task_id}: expected pieces of {there.piece_length} bytes, got {task.piece_length}"
                    )
                if there.content_length != task.content_length:
                    _set_content_length(connection, key, task.content_length)
                known = replace(
                    there,
                    digest=there.digest or task.digest,
                    origin=there.origin or task.origin,
                    source_version=task.source_version or there.source_version,
                    used_at=max(there.used_at, task.used_at),
                    ttl=there.ttl if task.ttl is None else task.ttl,
                    is_pinned=there.is_pinned or task.is_pinned,
                )
                if known != there:
                    _update_task(connection, known)
            for piece in pieces:
                if not fits(piece, task.content_length, task.piece_length):
                    length = "an unknown length" if task.content_length is None else f"{task.content_length} bytes"
                    raise StorageError(
                        f"piece {piece_id(task.task_id, piece.number)}: expected its place in {length} in pieces of"
                        f" {task.piece_length}, got {piece.length} bytes at {piece.offset}"
                    )
            connection.executemany(
                "DELETE FROM piece WHERE kind = ? AND task_id = ? AND number = ? AND damage NOT IN ('', ?)",
                [(*key, signed(piece.number), unsynced_mark()) for piece in pieces],
            )
            _insert_pieces(connection, key, pieces, is_synced=is_synced)

    def mark_synced(
        self, kind: PieceKind, task_id: str, digests: Mapping[int, str], *, is_durable: bool = True
    ) -> None:
        """
        Write down that the bytes of pieces are on the disk, where their rows say that they may not be.

        :param digests: the digest of each, by number: a row that has another is another's by now, and stays.
        :param is_durable: whether to wait until the rows are on the disk, too, with all that was written before.
        :raises StorageFailure: it cannot be written.
        """
        key = task_key(kind, task_id)
        with self._database.change(is_durable=is_durable) as connection:
            connection.executemany(
                "UPDATE piece SET damage = '' WHERE kind = ? AND task_id = ? AND number = ? AND digest = ?"
                " AND substr(damage, 1, ?) = ?",
                [(*key, signed(number), digest, len(UNSYNCED), UNSYNCED) for number, digest in digests.items()],
            )

    def update_task(
        self, kind: PieceKind, task_id: str, *, ttl: int | None = None, is_pinned: bool | None = None
    ) -> None:
        """
        Change for how long a task is kept.

        :param ttl: see :class:`~dragonfly_vortex.model.StoredTask`; None leaves it as it is.
        :param is_pinned: see there, too; None leaves it as it is.
        :raises NotStored: there is no such task.
        :raises StorageFailure: it cannot be written.
        """
        with self._database.change() as connection:
            there = self.get_task(kind, task_id)
            known = replace(
                there,
                ttl=there.ttl if ttl is None else ttl,
                is_pinned=there.is_pinned if is_pinned is None else is_pinned,
            )
            if known != there:
                _update_task(connection, known)

    def record_uses(self, tasks: Iterable[tuple[PieceKind, str]], used_at: int) -> None:
        """
        Write down that tasks have been used, in one transaction. One that is not there any more is left out.

        :param tasks: the kind and the ID of each.
        :param used_at: when, in Unix seconds.
        :raises StorageFailure: it cannot be written.
        """
        with self._database.change() as connection:
            connection.executemany(
                "UPDATE task SET used_at = ?1 WHERE kind = ?2 AND task_id = ?3 AND used_at < ?1",
                [(used_at, kind.label, task_id) for kind, task_id in tasks],
            )

    def drop_pieces(self, kind: PieceKind, task_id: str, digests: Mapping[int, str]) -> None:
        """
        Delete rows of pieces, and the task's with the last of them. What is left has no length that is known.

        :param digests: the digest of each, by number: a row that has another is another's by now, and stays.
        :raises StorageFailure: they cannot be deleted.
        """
        key = task_key(kind, task_id)
        with self._database.change() as connection:
            connection.executemany(
                "DELETE FROM piece WHERE kind = ? AND task_id = ? AND number = ? AND digest = ?",
                [(*key, signed(number), digest) for number, digest in digests.items()],
            )
            _set_content_length(connection, key, None)
            connection.execute(
                "DELETE FROM task WHERE kind = ?1 AND task_id = ?2"
                " AND NOT EXISTS (SELECT 1 FROM piece WHERE kind = ?1 AND task_id = ?2)",
                key,
            )

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> None:
        """
        Write down that a piece is not as its row says; :meth:`put_task` and :meth:`commit_pieces` take the mark away.

        :param reason: what was expected and what was found.
        :raises NotStored: there is no such piece.
        :raises StorageFailure: it cannot be written.
        """
        with self._database.change() as connection:
            changed = connection.execute(
                "UPDATE piece SET damage = ? WHERE kind = ? AND task_id = ? AND number = ?",
                (reason or "damaged", *task_key(kind, task_id), signed(number)),
            )
            if not changed.rowcount:
                raise NotStored(f"piece {piece_id(task_id, number)} not found")

    def doubt_task(self, kind: PieceKind, task_id: str) -> None:
        """
        Stop offering a task's pieces: some are wrong, and it is not known which.

        :raises StorageFailure: it cannot be written.
        """
        self._mark(kind, task_id, "", IN_DOUBT)

    def settle_task(self, kind: PieceKind, task_id: str) -> None:
        """
        Offer a task's pieces again, because the whole is right.

        :raises StorageFailure: it cannot be written.
        """
        self._mark(kind, task_id, IN_DOUBT, "")

    def _mark(self, kind: PieceKind, task_id: str, before: str, damage: str) -> None:
        """Give all pieces of a task that have one mark another one."""
        with self._database.change() as connection:
            connection.execute(
                "UPDATE piece SET damage = ? WHERE kind = ? AND task_id = ? AND damage IN (?, ?)",
                (damage, *task_key(kind, task_id), before, before or unsynced_mark()),
            )

    def remove_task(self, kind: PieceKind, task_id: str) -> bool:
        """
        Delete a task's rows; False if it has none.

        :raises StorageFailure: they cannot be deleted.
        """
        with self._database.change() as connection:
            deleted = connection.execute("DELETE FROM task WHERE kind = ? AND task_id = ?", task_key(kind, task_id))
            return deleted.rowcount > 0


def _insert_pieces(
    connection: sqlite3.Connection, key: tuple[str, str], pieces: Iterable[PieceMetadata], *, is_synced: bool = True
) -> None:
    """Write pieces' rows, but for those that are there."""
    connection.executemany(
        f"INSERT INTO piece (kind, task_id, {PIECE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        ((*key, *piece_row(piece, is_synced=is_synced)) for piece in pieces),
    )


def _update_task(connection: sqlite3.Connection, task: StoredTask) -> None:
    """Write what can change of a task that is there, but for its length."""
    names = "digest = ?, origin = ?, source_version = ?, used_at = ?, ttl = ?, is_pinned = ?"
    connection.execute(
        f"UPDATE task SET {names} WHERE kind = ? AND task_id = ?",
        (*task_row(task)[5:], *task_key(task.kind, task.task_id)),
    )


def _set_content_length(connection: sqlite3.Connection, key: tuple[str, str], content_length: int | None) -> None:
    """Write a task's length in bytes, or that it is unknown; nothing where it has no row."""
    connection.execute(
        "UPDATE task SET content_length = ? WHERE kind = ? AND task_id = ?", (signed_or_null(content_length), *key)
    )
