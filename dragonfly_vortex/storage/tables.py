"""
The tables of a catalog, and the conversion of tasks and pieces to rows and back. Queries and changes are in
:mod:`~dragonfly_vortex.storage.catalog`, the file is in :mod:`~dragonfly_vortex.storage.database`.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from dragonfly_vortex.digest import digest_of_id
from dragonfly_vortex.errors import NotStored, StorageError
from dragonfly_vortex.model import Origin, StoredPiece, StoredTask
from dragonfly_vortex.storage.content import is_task_id
from dragonfly_vortex.storage.disk import boot_id
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = [
    "ADD_TASK",
    "IN_DOUBT",
    "PIECE_COLUMNS",
    "SOUND",
    "TASK_COLUMNS",
    "UNSYNCED",
    "VERSION",
    "Row",
    "piece_of",
    "piece_row",
    "prepare",
    "signed",
    "signed_or_null",
    "task_key",
    "task_of",
    "task_row",
    "unsynced_mark",
]

VERSION = 3
"""The version of the tables below, kept in the file (``user_version``)."""

_COUNT = "BEGIN UPDATE taken_back SET count = count + 1; END"

UNSYNCED = "its bytes may not have been on the disk when the machine stopped"
"""The beginning of the mark of a piece that was offered before its bytes were on the disk: :func:`unsynced_mark`."""

_COUNT_CHANGED = (
    "CREATE TRIGGER piece_changed AFTER UPDATE ON piece WHEN NEW.damage <> '' OR NEW.digest <> OLD.digest"
    f" OR substr(OLD.damage, 1, {len(UNSYNCED)}) <> '{UNSYNCED}' {_COUNT}"
)

_TAKEN_BACK = (
    "CREATE TABLE taken_back (count INTEGER NOT NULL)",
    "INSERT INTO taken_back VALUES (0)",
    *(
        f"CREATE TRIGGER {name} AFTER {event} {_COUNT}"
        for name, event in (
            ("piece_deleted", "DELETE ON piece"),
            ("task_deleted", "DELETE ON task"),
            ("task_added", "INSERT ON task"),  # another kind of its ID may be offered from now on
        )
    ),
    _COUNT_CHANGED,
)
"""
What counts the changes by which a piece that was offered may be offered no more. Triggers count, so that every process
does, whichever version it has. A piece that is added takes nothing back, nor does one whose bytes came to the disk.
"""

_TABLES = (
    """
    CREATE TABLE task (
        kind TEXT NOT NULL,
        task_id TEXT NOT NULL,
        content_length INTEGER,
        piece_length INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        digest TEXT,
        origin TEXT,
        source_version TEXT NOT NULL DEFAULT '',
        used_at INTEGER NOT NULL DEFAULT 0,
        ttl INTEGER,
        is_pinned INTEGER NOT NULL DEFAULT 0,
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
    *_TAKEN_BACK,
)
"""What makes them, one statement each."""

_MIGRATIONS = (
    # In version 1 each ID was the SHA-256 of the content. That is what a missing digest means, and so a process of that
    # version, which has the file open still, goes on to write rows that are right.
    (
        "ALTER TABLE task ADD COLUMN digest TEXT",
        "ALTER TABLE task ADD COLUMN origin TEXT",
        "ALTER TABLE task ADD COLUMN source_version TEXT NOT NULL DEFAULT ''",
        *_TAKEN_BACK,
    ),
    # In version 2 nothing expired, and a task may be the only copy. So each one is kept until a user removes it. A
    # process of version 2, which has the file open still, writes rows with these defaults: they are used when they are
    # created.
    (
        "ALTER TABLE task ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE task ADD COLUMN ttl INTEGER",
        "ALTER TABLE task ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0",
        "UPDATE task SET used_at = CAST(strftime('%s', 'now') AS INTEGER)",
        "UPDATE task SET ttl = 0, is_pinned = 1",
        "DROP TRIGGER piece_changed",
        _COUNT_CHANGED,
    ),
)
"""What makes of each version, from 1, the next one."""

TASK_COLUMNS = (
    "kind, task_id, content_length, piece_length, created_at, digest, origin, source_version, used_at, ttl, is_pinned"
)
"""A task's row, as :func:`task_row` gives it and :func:`task_of` takes it."""

ADD_TASK = f"INSERT INTO task ({TASK_COLUMNS}) VALUES ({', '.join('?' for _ in TASK_COLUMNS.split(', '))})"
"""The statement that adds a row of :func:`task_row`."""

PIECE_COLUMNS = "number, offset, length, digest, parent_id, traffic_type, cost, created_at, damage"
"""A piece's row without its task's key, as :func:`piece_row` gives it and :func:`piece_of` takes it."""

IN_DOUBT = "the task has another SHA-256 than its ID, and the download that was to find the wrong pieces was killed"
"""The mark of a piece that may be right: it is not offered before a download or ``verify`` has settled the task."""

SOUND = ("", IN_DOUBT)
"""The marks of a piece that has its digest, as far as is known."""

Row = tuple[Any, ...]
"""What SQLite gives; what it is is known by the column."""


def prepare(connection: sqlite3.Connection, version: int) -> None:
    """
    Make the tables in an empty database, or migrate those of an older version. The caller's transaction makes that
    all or nothing.

    :param version: the version that the database has; 0 for an empty one.
    """
    steps = [_TABLES] if not version else _MIGRATIONS[version - 1 :]
    for statement in (statement for step in steps for statement in step):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def unsynced_mark() -> str:
    """
    The mark of a piece whose bytes may be in the system's memory alone. While the kernel runs that took them
    they are as good as on the disk, and the piece is sound. After that the mark of another run is damage.
    """
    return f"{UNSYNCED} (boot {boot_id()})"


def task_key(kind: PieceKind, task_id: str) -> tuple[str, str]:
    """
    A task's key. An impossible ID is refused before any query.

    :raises NotStored: it is such an ID.
    """
    if not is_task_id(task_id):
        raise NotStored(f"task {task_id!r} not found")
    return kind.label, task_id


def signed(value: int) -> int:
    """
    An unsigned number of 64 bits as SQLite can keep it, which has signed ones only: the upper half is negative.

    :raises StorageError: it has more bits, or a sign.
    """
    if not 0 <= value < 1 << 64:
        raise StorageError(f"expected a number of 64 bits without sign, got {value}")
    return value - (1 << 64) if value >= 1 << 63 else value


def signed_or_null(value: int | None) -> int | None:
    """Return None for an unknown number; else the same as :func:`signed`."""
    return None if value is None else signed(value)


def _unsigned(value: int) -> int:
    """What :func:`signed` was given."""
    return value % (1 << 64)


def task_row(task: StoredTask) -> Row:
    """
    A task as a row of :data:`TASK_COLUMNS`.

    :raises NotStored: no task can have its ID.
    :raises StorageError: it has a number that cannot be kept.
    """
    return (
        *task_key(task.kind, task.task_id),
        signed_or_null(task.content_length),
        signed(task.piece_length),
        task.created_at,
        None if task.digest == digest_of_id(task.task_id) else task.digest,
        None if task.origin is None else _text_of(task.origin),
        task.source_version,
        task.used_at,
        task.ttl,
        int(task.is_pinned),
    )


def task_of(row: Row) -> StoredTask:
    """The task whose row it is."""
    (
        kind,
        task_id,
        content_length,
        piece_length,
        created_at,
        digest,
        origin,
        source_version,
        used_at,
        ttl,
        is_pinned,
    ) = row
    return StoredTask(
        kind=PieceKind.from_label(str(kind)),
        task_id=str(task_id),
        content_length=None if content_length is None else _unsigned(content_length),
        piece_length=_unsigned(piece_length),
        created_at=int(created_at),
        digest=digest_of_id(str(task_id)) if digest is None else str(digest),
        origin=None if origin is None else _origin_of(str(origin)),
        source_version=str(source_version),
        used_at=int(used_at),
        ttl=None if ttl is None else int(ttl),
        is_pinned=bool(is_pinned),
    )


def _text_of(origin: Origin) -> str:
    """An origin as it is kept: a JSON object with the fields that are set."""
    return msgspec.json.encode(origin).decode()


def _origin_of(text: str) -> Origin:
    """The origin that is kept in that text."""
    return msgspec.json.decode(text, type=Origin)


def piece_row(piece: PieceMetadata, *, is_synced: bool = True) -> Row:
    """
    A sound piece as a row of :data:`PIECE_COLUMNS`.

    :param is_synced: whether its bytes are on the disk.
    :raises StorageError: it has a number that cannot be kept.
    """
    return (
        signed(piece.number),
        signed(piece.offset),
        signed(piece.length),
        piece.digest,
        piece.parent_id,
        piece.traffic_type,
        signed(piece.cost),
        piece.created_at,
        "" if is_synced else unsynced_mark(),
    )


def piece_of(kind: PieceKind, task_id: str, row: Row) -> StoredPiece:
    """The piece of a task whose row it is."""
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
    return StoredPiece(
        kind=kind,
        task_id=task_id,
        metadata=metadata,
        damage="" if damage and damage == unsynced_mark() else str(damage),
    )
