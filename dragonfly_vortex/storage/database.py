"""
The SQLite file of the catalog: opens and prepares it, and runs queries and changes, of any table.

Many processes may have it open. It is in WAL mode, so that readers do not wait for writers, and every change is one
transaction that is on the disk when its block is left (``synchronous=FULL``). Opening it for reading only is in
:mod:`~dragonfly_vortex.storage.reading`.

The file, or the whole directory, may be replaced while it is open: deleted, restored from a backup, mounted over. Then
a change would be made in a file that no other process finds, and is refused.

Everything here blocks, and belongs to one thread.
"""

from __future__ import annotations

import enum
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage.directories import create_file, locked, make_directory
from dragonfly_vortex.storage.failures import is_full, is_unwritable, storage_failures
from dragonfly_vortex.storage.reading import (
    ATTEMPTS,
    BUSY_TIMEOUT,
    FileState,
    Place,
    Reading,
    open_for_reading,
    place_of,
    state_of,
    version_of,
)
from dragonfly_vortex.storage.tables import VERSION, Row, prepare
from dragonfly_vortex.system_calls import reason_of

__all__ = ["Access", "Database"]

_INDEX_LENGTH = 32 * 1024
"""Bytes of the index of SQLite's log, which is made when the first process opens the database."""


class Access(enum.Enum):
    """The purposes for which a catalog is opened."""

    WRITE = "write"
    """To change it. It is made where it is not there."""

    READ = "read"
    """To ask it. Nothing is written, and where there is none there are no rows."""

    SERVE = "serve"
    """To change it where it can be written, and to ask it where it can only be read. It is opened anew where its path
    leads to another one later, or to none."""


class Database:
    """
    A database of SQLite with a catalog's tables.

    :param path: its file.
    :param access: what it is opened for.
    """

    def __init__(self, path: Path, access: Access = Access.WRITE) -> None:
        self.path = path
        self.read_only = ""
        """Why nothing can be changed; empty where it can, or where it is open for reading alone."""
        self.generation = 0
        """Another number each time that it is opened or closed: what was read before may be another file's."""
        self._access = access
        self._connection: sqlite3.Connection | None = None
        self._state: FileState | None = None
        self._is_snapshot = False

    def open(self) -> None:
        """
        Open it. To be written to, its file and its directory are made where they are not there.

        :raises StorageFailure: it cannot be opened, is no catalog, is one that a newer version of this package made, or
            its directory is a dfdaemon's.
        """
        with storage_failures(f"cannot open {self.path}"):
            self._check_owner()
            if self._access is Access.READ:
                self._open_for_reading()
                return
            try:
                self._open_for_writing()
            except (OSError, sqlite3.OperationalError) as error:
                if self._access is not Access.SERVE or not is_unwritable(error) or state_of(self.path).file is None:
                    raise
                self._open_for_reading()
                self.read_only = reason_of(error)

    def _check_owner(self) -> None:
        """Refuse the directory of a ``dfdaemon``, whose start would delete this package's content."""
        theirs = self.path.parent / "metadata" / "CURRENT"  # of RocksDB (dragonfly-client-storage, rocksdb.rs)
        if theirs.exists() and (self._access is not Access.READ or not self.path.exists()):
            raise StorageFailure(
                f"cannot open {self.path.parent}: expected a storage of dragonfly_vortex, got that of a dfdaemon, which"
                " keeps its tasks elsewhere and deletes all content when it starts, unless storage.keep is set there;"
                " choose another storage.dir"
            )

    def _open_for_reading(self) -> None:
        self._opened(open_for_reading(self.path))

    def _open_for_writing(self) -> None:
        make_directory(self.path.parent)
        # The busy timeout does not cover the change to WAL mode, so the first two processes take turns.
        with locked(self.path.parent):
            reading = self._connect()
        self._opened(reading)

    def _opened(self, reading: Reading) -> None:
        self._connection, self._state = reading.connection, reading.state
        self._is_snapshot = reading.is_snapshot
        self.read_only = ""
        self.generation += 1

    def _connect(self) -> Reading:
        """Open the file, and make one where there is none. Under the lock."""
        # SQLite would make it for this process's user. Its other files it makes for the owner of this one. A file that
        # is there is not opened here: to close it would give up this process's locks of it.
        with suppress(FileExistsError):
            os.close(create_file(self.path))
        # SQLite opens what it must not write to anyway, and says so at the first change.
        for place in (self.path, self.path.parent):
            if not os.access(place, os.W_OK):
                number = errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES
                raise OSError(number, os.strerror(number))
        state = state_of(self.path)  # before, so that a file that comes into its place in between is seen
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            # Where there is no room for its index SQLite speaks of an error of the disk.
            if is_full(error) and _room_at(self.path.parent) < _INDEX_LENGTH:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        return Reading(connection, state, is_snapshot=False)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set a new connection's modes, and make or migrate the tables."""
        version = version_of(self.path, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if version < VERSION:
            with _transaction(connection):
                prepare(connection, version)

    def is_current(self) -> bool:
        """
        Return whether the path still leads to the open file; where a snapshot is open, also whether the file has not
        changed.

        :raises StorageFailure: it cannot be looked at.
        """
        with storage_failures(f"cannot read {self.path}"):
            if self._state is None or self._is_snapshot:
                return state_of(self.path) == self._state
            return place_of(self.path) == self._state.place

    def refresh(self) -> None:
        """
        Open the file at the path again, unless the open one is current. No file is made where there is none any more.
        With :attr:`Access.SERVE` the caller does this before each question.

        :raises StorageFailure: what is there now cannot be opened. It is closed then, until it can.
        """
        if self._access is Access.WRITE or self.is_current():
            return
        self.close()
        with storage_failures(f"cannot open {self.path}"):
            is_there = state_of(self.path).file is not None
            if not is_there:
                self._open_for_reading()
                self.read_only = "the storage was deleted"
        if is_there:
            self.open()

    @property
    def place(self) -> Place | None:
        """Directory and file that are open; None where it is closed."""
        return None if self._state is None else self._state.place

    @property
    def snapshot(self) -> FileState | None:
        """The snapshot that is open; None where others' changes are seen."""
        return self._state if self._is_snapshot else None

    def close(self) -> None:
        """
        Close it, if it is open.

        :raises StorageFailure: what was left to do cannot be done; it is closed anyway.
        """
        connection, self._connection = self._connection, None
        self._state = None
        if connection is not None:
            self.generation += 1
            with storage_failures(f"cannot close {self.path}"):
                connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """
        The open connection.

        :raises StorageFailure: it is closed.
        """
        if self._connection is None:
            raise StorageFailure(f"expected {self.path} to be open, it is closed")
        return self._connection

    def select(self, query: str, *parameters: str | int) -> list[Row]:
        """
        The rows that a query gives at this moment.

        :raises StorageFailure: it cannot be read.
        """
        for _ in range(ATTEMPTS):
            if self._connection is not None and (self._is_snapshot or self._access is Access.READ):
                self.refresh()
            connection = self.connection
            try:
                with storage_failures(f"cannot read {self.path}"):
                    rows = connection.execute(query, parameters).fetchall()
            except StorageFailure:
                if not self._is_snapshot or self.is_current():
                    raise
            else:
                if not self._is_snapshot or self.is_current():
                    return rows
        raise StorageFailure(f"cannot read {self.path}: it is being written to")

    @contextmanager
    def change(self, *, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        """
        Run one transaction: after the block all its changes are on the disk, or none of them if an error left the
        block.

        :param is_durable: whether that is waited for. Otherwise they are there for all processes, and are lost in a
            power cut unless a later change was waited for.
        :raises StorageFailure: it cannot be written.
        """
        connection = self.connection
        if self._access is Access.READ or self.read_only:
            raise StorageFailure(f"cannot write {self.path}: {self.read_only or 'it is open for reading'}")
        with storage_failures(f"cannot write {self.path}"), _transaction(connection, is_durable=is_durable):
            yield connection
            if not self.is_current():
                raise StorageFailure(
                    f"cannot write {self.path}: expected the file that was opened, got another or none:"
                    " the storage has been replaced"
                )
        # A watch of the catalog (storage/reactor/watch.py) hears of this change. The change is made in any case.
        with suppress(OSError):
            os.utime(self.path)


@contextmanager
def _transaction(connection: sqlite3.Connection, *, is_durable: bool = True) -> Iterator[None]:
    """Commit what is done inside the block, or nothing of it."""
    if not is_durable:
        connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode it waits for the disk at checkpoints alone
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has rolled back after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        if not is_durable:
            connection.execute("PRAGMA synchronous = FULL")


def _room_at(directory: Path) -> int:
    """Bytes that are free on a directory's disk."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize
