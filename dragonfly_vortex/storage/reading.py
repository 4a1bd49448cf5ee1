"""
Opens a catalog for reading only: on a read-only file system, of another user, in a backup or an image, on a full disk.
Nothing is written beside it. Everything here blocks.

SQLite itself can do less: to read a database in WAL mode it makes a log and an index beside it, unless some process has
it open (https://www.sqlite.org/wal.html#read_only_databases). So there are three ways:

- There is no log: all of it is in the file, which is read as one that does not change (``immutable``). SQLite takes no
  locks then and does not notice a writer. One that begins makes a log, and one that has ended has changed the file or
  its time: a reader compares :func:`state_of` before and after each answer.
- There is a log and its index: they are used, with SQLite's locks, and what is committed is seen.
- There is a log without an index that can be used, which a killed process and a copy can leave: file and log are copied
  to a temporary directory, and from there into memory.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage.tables import VERSION, prepare

__all__ = [
    "ATTEMPTS",
    "BUSY_TIMEOUT",
    "FileState",
    "Place",
    "Reading",
    "connect_to_read",
    "open_for_reading",
    "place_of",
    "state_of",
    "version_of",
]

BUSY_TIMEOUT = 30.0
"""Seconds that SQLite waits for another process, which changes the database or recovers it."""

ATTEMPTS = 5
"""Readings of a file that are thrown away because the file has changed meanwhile."""

_Contents = tuple[int, int, int]
"""A file's number, its length in bytes, and when it was written, in nanoseconds."""


class Place(Struct, frozen=True):
    """
    The directory and the file that a path leads to: device and inode number of each.

    :param directory: the file's directory; None where there is none.
    :param file: the file; None where there is none.
    """

    directory: tuple[int, int] | None
    file: tuple[int, int] | None


class FileState(Struct, frozen=True):
    """
    A catalog's files at a moment.

    :param place: what its path leads to.
    :param file: what is in the file; None where there is none.
    :param log: what is in its write-ahead log; None where there is none, or nothing is in it.
    """

    place: Place
    file: _Contents | None
    log: _Contents | None


class Reading(Struct, frozen=True):
    """
    A catalog that is open for reading.

    :param connection: to be asked. Where there is no catalog it has none of its rows.
    :param state: what was opened.
    :param is_snapshot: whether the answers are those of that moment, whatever is written later.
    """

    connection: sqlite3.Connection
    state: FileState
    is_snapshot: bool


def place_of(path: Path) -> Place:
    """
    Find the directory and the file that a catalog's path leads to now. This runs before each question, so it makes two
    system calls only.

    :raises OSError: it cannot be looked at.
    """
    name = os.fspath(path)
    return Place(_identity(_status(os.path.dirname(name))), _identity(_status(name)))


def state_of(path: Path) -> FileState:
    """
    Find the file that a catalog's path leads to now, and its contents.

    :raises OSError: it cannot be looked at.
    """
    log = _status(os.fspath(_beside(path, "-wal")))
    return FileState(
        place_of(path),
        _contents(_status(os.fspath(path))),
        _contents(log) if log is not None and log.st_size else None,
    )


def open_for_reading(path: Path) -> Reading:
    """
    Open a catalog, and write nothing.

    :param path: its file; where it is not there, or has been begun and is empty, the catalog has no rows.
    :raises StorageFailure: it is no catalog, or a newer version's, or it is written to all the time.
    :raises OSError: it cannot be read.
    :raises sqlite3.Error: it cannot be read.
    """
    for _ in range(ATTEMPTS):
        state = state_of(path)
        if state.file is None:
            return Reading(_empty(), state, is_snapshot=True)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if state.log is None:
            return _checked(path, Reading(connect_to_read(path, "immutable=1"), state, is_snapshot=True))
        if _beside(path, "-shm").exists():  # else SQLite would make one
            with suppress(sqlite3.OperationalError):  # a process that has ended has left one that has to be written to
                return _checked(path, Reading(connect_to_read(path), state, is_snapshot=False))
        try:
            connection = _copy(path)
        except FileNotFoundError:  # the last process that had it open has ended, and removed the log
            continue
        if state_of(path) == state:
            return _checked(path, Reading(connection, state, is_snapshot=True))
        connection.close()
    raise StorageFailure(f"cannot open {path}: expected it to stay as it is while it is copied, it is being written to")


def connect_to_read(path: Path, how: str = "mode=ro") -> sqlite3.Connection:
    """
    A connection that writes nothing to the database. It may be used in any thread, by one at a time.

    :param how: parameters of SQLite's, as in a URI.
    :raises sqlite3.Error: there is none to be had; otherwise the first question may show that.
    """
    uri = f"file:{quote(os.fsencode(path))}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def version_of(path: Path, connection: sqlite3.Connection) -> int:
    """
    The version of a catalog's tables; 0 for a database that is empty.

    :raises StorageFailure: it is a newer one than :data:`~dragonfly_vortex.storage.tables.VERSION`.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StorageFailure(
            f"cannot open {path}: expected a catalog of version {VERSION} or older, got version {version},"
            " made by a newer dragonfly_vortex"
        )
    return int(version)


def _checked(path: Path, reading: Reading) -> Reading:
    """The same, or a copy of an older version's with the present tables, unless it is no catalog."""
    connection = reading.connection
    try:
        version = version_of(path, connection)
        if version == VERSION:
            return reading
        if version:
            return _migrated(reading, version)
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise StorageFailure(f"cannot open {path}: expected a catalog, got another database")
    except BaseException:
        connection.close()
        raise
    # A process has begun to make it, and goes on or was killed.
    connection.close()
    return replace(reading, connection=_empty(), is_snapshot=True)


def _migrated(reading: Reading, version: int) -> Reading:
    """A copy, in memory, with the present tables. The file itself is migrated when it is first opened for writing."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        reading.connection.backup(memory)
        prepare(memory, version)
    except BaseException:
        memory.close()
        raise
    reading.connection.close()
    return replace(reading, connection=memory, is_snapshot=True)


def _empty() -> sqlite3.Connection:
    """A catalog without rows, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection, 0)
    return connection


def _copy(path: Path) -> sqlite3.Connection:
    """A copy of file and log, in memory. No connection of this process has the file open: it would lose its locks."""
    import shutil  # which take long to load
    import tempfile

    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with tempfile.TemporaryDirectory(prefix="dfvortex-") as directory:
            copy = Path(directory, path.name)
            shutil.copyfile(path, copy)
            shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
            connection = sqlite3.connect(copy)
            try:
                connection.backup(memory)
            finally:
                connection.close()
    except BaseException:
        memory.close()
        raise
    return memory


def _beside(path: Path, suffix: str) -> Path:
    """A file of SQLite's beside a database: its write-ahead log (``-wal``), or the index of that (``-shm``)."""
    return path.with_name(f"{path.name}{suffix}")


def _status(path: str) -> os.stat_result | None:
    """What there is; None where there is nothing."""
    try:
        return os.stat(path or os.curdir)
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result | None) -> tuple[int, int] | None:
    """What distinguishes a file or a directory from others."""
    return None if status is None else (status.st_dev, status.st_ino)


def _contents(status: os.stat_result | None) -> _Contents | None:
    """What shows that a file has been written to."""
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)
