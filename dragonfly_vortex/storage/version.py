"""
Finds out whether any process has committed to the catalog since the last look. It is cheap enough for every piece, and
does not block the reactor.

SQLite answers it itself, by ``PRAGMA data_version``: a connection's number changes when any other connection, in this
process or in another, has committed. It compares what a commit writes into the memory that all connections share, last
of all, when the commit is on the disk (the WAL index; https://www.sqlite.org/walformat.html). So the number changes at
the very moment at which others can read what was committed, not before and not after, also if the committing process
has ended. It takes three system calls, which set and release a lock without waiting; only after a commit does it read
one page of the file, the first, again. The very first question opens the write-ahead log and its index, too: it is
asked where the catalog is opened, and not by the reactor.

A commit that adds pieces, as a download makes with each of its own, is no reason to forget what was read before. So
where the number has changed, a second one is asked for: how many commits have taken back a piece that was offered,
which triggers count in a table of the catalog (:mod:`~dragonfly_vortex.storage.tables`). That reads two pages of the
file, which the commit before has left in the system's memory.

The time of the catalog's file would be cheaper by a microsecond and would not do. It is touched behind each commit
(:mod:`~dragonfly_vortex.storage.reactor.watch`): in between, or for ever where the process is killed there, others can
read that a piece is damaged and write to its range, and here the old row would still be believed. To touch it before
the commit, too, does not help, since the old row can be read and remembered between that and the commit. And a mark
that says that a commit is under way would be wiped out by a checkpoint, which writes to the same file at any time.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.reading import BUSY_TIMEOUT, FileState, connect_to_read, state_of

__all__ = ["CatalogVersion"]


class CatalogVersion:
    """
    The version of the committed catalog.

    :param path: the catalog's file.
    :param snapshot: what was opened, where it is the contents of a moment: then the file's state is the version.
    :param read_only: whether nothing is to be written.
    """

    def __init__(self, path: Path, snapshot: FileState | None = None, *, read_only: bool = False) -> None:
        self._path = path
        self._snapshot = snapshot
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """
        Open the catalog, which is there and has been prepared. This blocks.

        :raises StorageFailure: it cannot be opened, or is no database.
        """
        if self._snapshot is not None:
            return
        with storage_failures(f"cannot open {self._path}"):
            # Opened and closed in the storage's thread, and asked in the reactor's.
            connection = (
                connect_to_read(self._path)
                if self._read_only
                else sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            )
            try:
                _ask(connection)
                connection.execute("PRAGMA busy_timeout = 0")  # from now on it waits for no lock
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def close(self) -> None:
        """Close the catalog, if it is open. This blocks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def current(self) -> int | None:
        """
        A number that changes with each commit by another connection. It can be compared between :meth:`open` and
        :meth:`close`, and must not be asked for while that one closes.

        :returns: None if it is unknown: the catalog is not open, or cannot be read at this moment.
        """
        try:
            if self._snapshot is not None:
                return 0 if state_of(self._path) == self._snapshot else None
            return None if self._connection is None else _ask(self._connection)
        except (OSError, sqlite3.Error):
            return None

    def taken_back(self) -> int | None:
        """
        A number that changes with each commit that takes back a piece that was offered. :meth:`current` is asked first.
        It reads a page of the file, which the commit before has left in memory.

        :returns: None if it is unknown. Of a catalog that does not count it, :meth:`current`.
        """
        if self._connection is None:
            return self.current()
        try:
            ((count,),) = self._connection.execute("SELECT count FROM taken_back").fetchall()
        except sqlite3.OperationalError:
            return self.current()
        except (ValueError, sqlite3.Error):
            return None
        return int(count)


def _ask(connection: sqlite3.Connection) -> int:
    """What SQLite says."""
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version
