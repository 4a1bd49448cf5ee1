"""
What a storage knows of its tasks and pieces: SQLite, in a file beside the content.

Many processes may have it open. It is in WAL mode, so that nobody who reads waits for one who writes, and every change
is one transaction that is on the disk when its method returns (``synchronous=FULL``). The bytes that a row tells of
have been written to the disk before, so a row is never ahead of its bytes, over a power cut either.

Everything here blocks, and belongs to one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from dragonfly_vortex.errors import NotStored, StorageError, StorageFailure
from dragonfly_vortex.interfaces import StoredPiece, StoredTask, piece_id
from dragonfly_vortex.storage.content import is_task_id
from dragonfly_vortex.storage.directories import locked, make_directory
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.pieces import fits
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["VERSION", "Catalog"]

VERSION = 1
"""The version of the tables below, kept in the file (``user_version``)."""

_BUSY_TIMEOUT = 30.0
"""Seconds that a change waits for another process's."""

_TABLES = (
    """
    CREATE TABLE task (
        kind TEXT NOT NULL,
        task_id TEXT NOT NULL,
        content_length INTEGER,
        piece_length INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (kind, task_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE piece (
        kind TEXT NOT NULL,
        task_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        length INTEGER NOT NULL,
        digest TEXT NOT NULL,
        parent_id TEXT NOT NULL,
        traffic_type INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        damage TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (kind, task_id, number),
        FOREIGN KEY (kind, task_id) REFERENCES task ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
)

_Row = tuple[Any, ...]  # what SQLite gives; what it is is known by the column

_TASK = "kind, task_id, content_length, piece_length, created_at"
_PIECE = "number, offset, length, digest, parent_id, traffic_type, cost, created_at, damage"


class Catalog:
    """
    The rows of a storage. As a context manager it is open inside the block.

    :param directory: the storage's directory.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "catalog.sqlite3"
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """
        Open the database; it and the directory are made where they are not there.

        :raises StorageFailure: it cannot be opened, is no catalog, or is one that a newer version of this package made.
        """
        with storage_failures(f"cannot open {self.path}"):
            make_directory(self.path.parent)
            connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None)
            try:
                # The busy timeout does not cover the change to WAL mode, so the first two processes take turns.
                with locked(self.path.parent):
                    self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set a new connection's modes, and make the tables in a new file."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StorageFailure(
                f"cannot open {self.path}: expected a catalog of version {VERSION} or older, got version {version},"
                " made by a newer dragonfly_vortex"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if version < VERSION:
            with _transaction(connection):
                for table in _TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """
        Close the database, if it is open.

        :raises StorageFailure: what was left to do cannot be done; it is closed all the same.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with storage_failures(f"cannot close {self.path}"):
                connection.close()

    def __enter__(self) -> Catalog:
        self.open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- questions ---------------------------------------------------------------------------------------------------

    def list_tasks(self) -> list[StoredTask]:
        """
        All tasks, the oldest first.

        :raises StorageFailure: the database cannot be read.
        """
        return [_task(row) for row in self._select(f"SELECT {_TASK} FROM task ORDER BY created_at, task_id, kind")]

    def find_tasks(self, task_id: str) -> list[StoredTask]:
        """
        The tasks of that ID: none, or one of each kind at the most.

        :raises StorageFailure: the database cannot be read.
        """
        if not is_task_id(task_id):
            return []
        return [
            _task(row) for row in self._select(f"SELECT {_TASK} FROM task WHERE task_id = ? ORDER BY kind", task_id)
        ]

    def get_task(self, kind: PieceKind, task_id: str) -> StoredTask:
        """
        A task's row.

        :raises NotStored: there is no such task.
        :raises StorageFailure: the database cannot be read.
        """
        rows = self._select(f"SELECT {_TASK} FROM task WHERE kind = ? AND task_id = ?", *_key(kind, task_id))
        if not rows:
            raise NotStored(f"task {task_id} not found")
        return _task(rows[0])

    def get_pieces(self, kind: PieceKind, task_id: str) -> list[StoredPiece]:
        """
        All rows of a task's pieces, damaged ones too, by number.

        :raises NotStored: there is no such task.
        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {_PIECE} FROM piece WHERE kind = ? AND task_id = ? ORDER BY number"
        pieces = [_piece(kind, task_id, row) for row in self._select(query, *_key(kind, task_id))]
        if not pieces:
            self.get_task(kind, task_id)
        return pieces

    def get_piece(self, kind: PieceKind, task_id: str, number: int) -> StoredPiece:
        """
        A piece's row, damaged or not.

        :raises NotStored: there is no such piece.
        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {_PIECE} FROM piece WHERE kind = ? AND task_id = ? AND number = ?"
        rows = self._select(query, kind.label, task_id, _signed(number)) if is_task_id(task_id) else []
        if not rows:
            raise NotStored(f"piece {piece_id(task_id, number)} not found")
        return _piece(kind, task_id, rows[0])

    def find_pieces(self, kind: PieceKind, task_id: str, numbers: range) -> list[StoredPiece]:
        """
        The rows of those pieces that are there, damaged or not.

        :param numbers: one after the other.
        :raises StorageFailure: the database cannot be read.
        """
        if not is_task_id(task_id):
            return []
        query = f"SELECT {_PIECE} FROM piece WHERE kind = ? AND task_id = ? AND number BETWEEN ? AND ?"
        span = (_signed(numbers[0]), _signed(numbers[-1]))
        return [_piece(kind, task_id, row) for row in self._select(query, kind.label, task_id, *span)]

    # -- changes -----------------------------------------------------------------------------------------------------

    def put_task(self, task: StoredTask, pieces: Iterable[PieceMetadata]) -> None:
        """
        Write a task and its pieces, in place of all rows and marks that it had.

        :param pieces: taken one by one, so that there may be more than memory would hold.
        :raises StorageFailure: they cannot be written; the rows are as they were.
        """
        with self._change() as connection:
            connection.execute("DELETE FROM task WHERE kind = ? AND task_id = ?", _key(task.kind, task.task_id))
            _insert_task(connection, task)
            _insert_pieces(connection, task.kind, task.task_id, pieces)

    def add_task(self, task: StoredTask) -> None:
        """
        Write a task that has no pieces yet. One that is there with the same lengths stays as it is; a length that was
        not known there is known then.

        :raises StorageError: it is there with other lengths.
        :raises StorageFailure: it cannot be written.
        """
        with self._change() as connection:
            try:
                there = self.get_task(task.kind, task.task_id)
            except NotStored:
                _insert_task(connection, task)
                return
            _check_same_lengths(there, task)
            if there.content_length is None and task.content_length is not None:
                _set_content_length(connection, task.kind, task.task_id, task.content_length)

    def add_piece(self, kind: PieceKind, task_id: str, metadata: PieceMetadata) -> None:
        """
        Write the row of a piece whose bytes are on the disk. One that is there stays as it is.

        :raises NotStored: there is no such task.
        :raises StorageFailure: it cannot be written.
        """
        with self._change() as connection:
            self.get_task(kind, task_id)
            _insert_pieces(connection, kind, task_id, [metadata])

    def add_written(self, task: StoredTask, pieces: Sequence[PieceMetadata]) -> None:
        """
        Write the rows of pieces of a task that is being downloaded, whose bytes are on the disk. The task's own row is
        written with the first; a row that is there stays as it is, unless it is damaged, which heals it.

        :raises StorageError: the task is there with other lengths, or a piece is not where it should be.
        :raises StorageFailure: they cannot be written.
        """
        with self._change() as connection:
            try:
                there = self.get_task(task.kind, task.task_id)
            except NotStored:
                _insert_task(connection, task)
                there = task
            _check_same_lengths(there, task)
            for piece in pieces:
                if not fits(piece, there.content_length, there.piece_length):
                    raise StorageError(
                        f"piece {piece_id(task.task_id, piece.number)}: expected its place in"
                        f" {_bytes(there.content_length)} in pieces of {there.piece_length}, got {piece.length} bytes"
                        f" at {piece.offset}"
                    )
            connection.executemany(
                "DELETE FROM piece WHERE kind = ? AND task_id = ? AND number = ? AND damage <> ''",
                [(*_key(task.kind, task.task_id), _signed(piece.number)) for piece in pieces],
            )
            _insert_pieces(connection, task.kind, task.task_id, pieces)

    def set_content_length(self, kind: PieceKind, task_id: str, content_length: int | None) -> None:
        """
        Write down how long a task is, or that nobody knows.

        :param content_length: bytes.
        :raises NotStored: there is no such task.
        :raises StorageFailure: it cannot be written.
        """
        with self._change() as connection:
            if not _set_content_length(connection, kind, task_id, content_length):
                raise NotStored(f"task {task_id} not found")

    def drop_pieces(self, kind: PieceKind, task_id: str, digests: Mapping[int, str]) -> None:
        """
        Delete rows of pieces, and the task's with the last of them. What is left has no length that is known.

        :param digests: the digest of each, by number: a row that has another is another's by now, and stays.
        :raises StorageFailure: they cannot be deleted.
        """
        key = _key(kind, task_id)
        with self._change() as connection:
            connection.executemany(
                "DELETE FROM piece WHERE kind = ? AND task_id = ? AND number = ? AND digest = ?",
                [(*key, _signed(number), digest) for number, digest in digests.items()],
            )
            _set_content_length(connection, kind, task_id, None)
            connection.execute(
                "DELETE FROM task WHERE kind = ?1 AND task_id = ?2"
                " AND NOT EXISTS (SELECT 1 FROM piece WHERE kind = ?1 AND task_id = ?2)",
                key,
            )

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> None:
        """
        Write down that a piece is not as its row says; :meth:`put_task` and :meth:`add_written` take the mark away.

        :param reason: what was expected and what was found.
        :raises NotStored: there is no such piece.
        :raises StorageFailure: it cannot be written.
        """
        with self._change() as connection:
            changed = connection.execute(
                "UPDATE piece SET damage = ? WHERE kind = ? AND task_id = ? AND number = ?",
                (reason or "damaged", *_key(kind, task_id), _signed(number)),
            )
            if not changed.rowcount:
                raise NotStored(f"piece {piece_id(task_id, number)} not found")

    def remove_task(self, kind: PieceKind, task_id: str) -> bool:
        """
        Delete a task's rows; False if it has none.

        :raises StorageFailure: they cannot be deleted.
        """
        with self._change() as connection:
            deleted = connection.execute("DELETE FROM task WHERE kind = ? AND task_id = ?", _key(kind, task_id))
            return deleted.rowcount > 0

    # -- the connection ----------------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        """The connection."""
        if self._connection is None:
            raise StorageFailure(f"expected {self.path} to be open, it is closed")
        return self._connection

    def _select(self, query: str, *parameters: str | int) -> list[_Row]:
        """The rows that a query gives at this moment."""
        connection = self._opened()
        with storage_failures(f"cannot read {self.path}"):
            return connection.execute(query, parameters).fetchall()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction, that nothing comes between."""
        connection = self._opened()
        with storage_failures(f"cannot write {self.path}"), _transaction(connection):
            yield connection
        # Who watches for changes (storage/watch.py) hears of this one. It is made, whether that can be said or not.
        with suppress(OSError):
            os.utime(self.path)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has rolled back after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# -- rows and values -------------------------------------------------------------------------------------------------


def _key(kind: PieceKind, task_id: str) -> tuple[str, str]:
    """A task's key. An ID that no task can have is asked of nobody."""
    if not is_task_id(task_id):
        raise NotStored(f"task {task_id!r} not found")
    return kind.label, task_id


def _signed(value: int) -> int:
    """An unsigned number of 64 bits as SQLite can keep it, which has signed ones only: the upper half is negative."""
    if not 0 <= value < 1 << 64:
        raise StorageError(f"expected a number of 64 bits without sign, got {value}")
    return value - (1 << 64) if value >= 1 << 63 else value


def _signed_or_null(value: int | None) -> int | None:
    """What is not known, as SQLite has it."""
    return None if value is None else _signed(value)


def _unsigned(value: int) -> int:
    """What :func:`_signed` was given."""
    return value % (1 << 64)


def _insert_task(connection: sqlite3.Connection, task: StoredTask) -> None:
    """Write a task's row."""
    connection.execute(
        f"INSERT INTO task ({_TASK}) VALUES (?, ?, ?, ?, ?)",
        (
            *_key(task.kind, task.task_id),
            _signed_or_null(task.content_length),
            _signed(task.piece_length),
            task.created_at,
        ),
    )


def _set_content_length(
    connection: sqlite3.Connection, kind: PieceKind, task_id: str, content_length: int | None
) -> bool:
    """Write the length in a task's row; False if there is none."""
    changed = connection.execute(
        "UPDATE task SET content_length = ? WHERE kind = ? AND task_id = ?",
        (_signed_or_null(content_length), *_key(kind, task_id)),
    )
    return changed.rowcount > 0


def _check_same_lengths(there: StoredTask, task: StoredTask) -> None:
    """Refuse a task that is there and is another one. What is not known contradicts nothing."""
    is_same_content = there.content_length == task.content_length or None in (there.content_length, task.content_length)
    if there.piece_length != task.piece_length or not is_same_content:
        raise StorageError(
            f"task {task.task_id}: expected {_bytes(there.content_length)} in pieces of {there.piece_length},"
            f" got {_bytes(task.content_length)} in pieces of {task.piece_length}"
        )


def _bytes(content_length: int | None) -> str:
    """A length in a message."""
    return "an unknown length" if content_length is None else f"{content_length} bytes"


def _insert_pieces(
    connection: sqlite3.Connection, kind: PieceKind, task_id: str, pieces: Iterable[PieceMetadata]
) -> None:
    """Write pieces' rows, but for those that are there."""
    key = _key(kind, task_id)
    connection.executemany(
        f"INSERT INTO piece (kind, task_id, {_PIECE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '') ON CONFLICT DO NOTHING",
        (
            (
                *key,
                _signed(piece.number),
                _signed(piece.offset),
                _signed(piece.length),
                piece.digest,
                piece.parent_id,
                piece.traffic_type,
                _signed(piece.cost),
                piece.created_at,
            )
            for piece in pieces
        ),
    )


def _task(row: _Row) -> StoredTask:
    """The value of a task's row."""
    kind, task_id, content_length, piece_length, created_at = row
    return StoredTask(
        kind=PieceKind.from_label(str(kind)),
        task_id=str(task_id),
        content_length=None if content_length is None else _unsigned(content_length),
        piece_length=_unsigned(piece_length),
        created_at=int(created_at),
    )


def _piece(kind: PieceKind, task_id: str, row: _Row) -> StoredPiece:
    """The value of a piece's row."""
    number, offset, length, digest, parent_id, traffic_type, cost, created_at, damage = row
    metadata = PieceMetadata(
        number=int(number),
        offset=_unsigned(offset),
        length=_unsigned(length),
        digest=str(digest),
        parent_id=str(parent_id),
        traffic_type=int(traffic_type),
        cost=_unsigned(cost),
        created_at=int(created_at),
    )
    return StoredPiece(kind=kind, task_id=task_id, metadata=metadata, damage=str(damage))
