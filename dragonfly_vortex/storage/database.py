"""
The catalog's file: opened, prepared, asked and changed, whatever is in its tables.

Many processes may have it open. It is in WAL mode, so that nobody who reads waits for one who writes, and every change
is one transaction that is on the disk when its block is left (``synchronous=FULL``).

Everything here blocks, and belongs to one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage.directories import create_file, locked, make_directory
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.tables import TABLES, VERSION, Row

__all__ = ["Database"]

_BUSY_TIMEOUT = 30.0
"""Seconds that a change waits for another process's."""


class Database:
    """
    A database of SQLite with a catalog's tables.

    :param path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """
        Open it; the file and its directory are made where they are not there.

        :raises StorageFailure: it cannot be opened, is no catalog, or is one that a newer version of this package made.
        """
        with storage_failures(f"cannot open {self.path}"):
            make_directory(self.path.parent)
            # The busy timeout does not cover the change to WAL mode, so the first two processes take turns.
            with locked(self.path.parent):
                self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        """Open the file, and make one where there is none. Under the lock."""
        # SQLite would make it for this process's user. Its other files it makes for the owner of this one. A file that
        # is there is not opened here: to close it would give up this process's locks of it.
        with suppress(FileExistsError):
            os.close(create_file(self.path))
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

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
                for table in TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """
        Close it, if it is open.

        :raises StorageFailure: what was left to do cannot be done; it is closed all the same.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
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
        connection = self.connection
        with storage_failures(f"cannot read {self.path}"):
            return connection.execute(query, parameters).fetchall()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """
        One transaction, that nothing comes between: what is done inside the block is on the disk behind it, or, when
        the block is left by an error, nothing of it is.

        :raises StorageFailure: it cannot be written.
        """
        connection = self.connection
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
