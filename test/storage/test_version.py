"""Tests of the catalog's version: real databases, other connections and another process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.reading import state_of
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind, PieceMetadata

_COMMITTER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO task (kind, task_id, piece_length, created_at) VALUES ('standard', 'another', 1, 1)")
connection.commit()
os._exit(0)  # as if it was killed behind the commit
"""


def opened(path: Path) -> list[str]:
    """The files that this process has open whose names begin like this one, each as often as it is open."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sorted(name for name in names if name.startswith(str(path)))


class CatalogVersionTests(SynchronousTestCase):
    """When the number changes, and when it does not."""

    def setUp(self) -> None:
        self.catalog = Catalog(Path(self.mktemp()))
        self.catalog.open()
        self.addCleanup(self.catalog.close)
        self.version = CatalogVersion(self.catalog.path)
        self.version.open()
        self.addCleanup(self.version.close)

    def add(self, task_id: str) -> None:
        """Commit a row."""
        task = StoredTask(
            kind=PieceKind.STANDARD, task_id=task_id, content_length=1, piece_length=1, created_at=1_700_000
        )
        self.catalog.put_task(task, ())

    def test_changes(self) -> None:
        """It is the same while nothing is committed, and another one after each commit; reading changes nothing."""
        seen = []
        for number in range(5):
            self.add(f"task-{number}")
            seen.append(self.version.current())
            self.assertIsNotNone(seen[-1])
            self.catalog.list_tasks()
            self.assertEqual(self.version.current(), seen[-1])
        self.assertEqual(len(set(seen)), 5)

    def test_taken_back(self) -> None:
        """Its second number changes with commits after which a piece may be offered no more, and with no others."""
        self.add("a-task")
        task = self.catalog.get_task(PieceKind.STANDARD, "a-task")
        piece = PieceMetadata(number=0, offset=0, length=1, digest="crc32:1")
        seen = []
        for change, is_taken_back in (
            (lambda: self.catalog.commit_pieces(task, [piece], is_synced=False), False),
            (lambda: self.catalog.mark_synced(PieceKind.STANDARD, "a-task", {0: "crc32:1"}), False),
            (lambda: self.catalog.mark_damaged(PieceKind.STANDARD, "a-task", 0, "a test"), True),
            (lambda: self.catalog.commit_pieces(task, [piece]), True),  # in place of the damaged one
            (lambda: self.catalog.remove_task(PieceKind.STANDARD, "a-task"), True),
            (lambda: self.add("a-task"), True),
        ):
            before = self.version.taken_back()
            change()
            seen.append(self.version.taken_back() != before)
            self.assertEqual(seen[-1], is_taken_back, len(seen))

    def test_taken_back_without_a_count(self) -> None:
        """Where none is kept, as in a catalog of an earlier version, each commit may have taken back a piece."""
        with contextlib.closing(sqlite3.connect(self.catalog.path)) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute("DROP TABLE taken_back")
        before = self.version.taken_back()
        self.assertIsNotNone(before)
        self.add("a-task")
        self.assertNotEqual(self.version.taken_back(), before)
        self.version.close()
        self.assertIsNone(self.version.taken_back())

    def test_read_only(self) -> None:
        """A reader sees the commits of others, too, while these have the catalog open."""
        version = CatalogVersion(self.catalog.path, read_only=True)
        version.open()
        self.addCleanup(version.close)
        before = version.current()
        self.assertEqual(version.current(), before)
        self.add("a-task")
        self.assertNotEqual(version.current(), before)

    def test_snapshot(self) -> None:
        """What was read of a catalog that no other process has open is true until something is committed."""
        self.version.close()
        self.catalog.close()
        version = CatalogVersion(self.catalog.path, state_of(self.catalog.path))
        version.open()
        self.assertEqual((version.current(), version.current()), (0, 0))
        self.catalog.open()
        self.add("a-task")
        self.assertIsNone(version.current())
        self.catalog.close()
        self.assertIsNone(version.current())

    def test_not_before_the_commit(self) -> None:
        """What is written and not committed, or rolled back, changes nothing."""
        before = self.version.current()
        other = sqlite3.connect(self.catalog.path, isolation_level=None)
        self.addCleanup(other.close)
        for end, same in (("ROLLBACK", True), ("COMMIT", False)):
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO task (kind, task_id, piece_length, created_at) VALUES ('cache', 'abc', 1, 1)")
            self.assertEqual(self.version.current(), before)
            other.execute(end)
            self.assertEqual(self.version.current() == before, same)

    def test_killed_behind_the_commit(self) -> None:
        """A commit of another process is seen, though that has ended at once and the file's times tell nothing."""
        before = self.version.current()
        times = self.catalog.path.stat()
        subprocess.run([sys.executable, "-c", _COMMITTER, str(self.catalog.path)], check=True)
        os.utime(self.catalog.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assertNotEqual(self.version.current(), before)

    def test_holds_nothing_back(self) -> None:
        """A reader does not keep a checkpoint from writing everything back."""
        self.add("a-task")
        self.version.current()
        other = sqlite3.connect(self.catalog.path, isolation_level=None)
        self.addCleanup(other.close)
        ((busy, left, _),) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.assertEqual((busy, left), (0, 0))

    def test_closed(self) -> None:
        """The version is unknown before it is open, when it is closed, and where the file is no database."""
        self.assertIsNone(CatalogVersion(self.catalog.path).current())
        self.version.close()
        self.assertIsNone(self.version.current())
        self.version.close()

    def test_cannot_be_opened(self) -> None:
        """What is no database, or is not there, cannot be opened, and nothing of it stays open."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(b"no database" * 1000)
        for wrong in (path, path.parent / "not-there" / "catalog"):
            version = CatalogVersion(wrong)
            with self.assertRaisesRegex(StorageFailure, "cannot open"):
                version.open()
            self.assertIsNone(version.current())
        self.assertEqual(opened(path), [])

    def test_opens_nothing(self) -> None:
        """A question opens no file, not even the first one or the first one after a commit: the opening has."""
        path = self.catalog.path.absolute()
        version = CatalogVersion(path)
        before = opened(path)
        version.open()
        self.addCleanup(version.close)
        then = opened(path)
        # The index of the log is open once in a process, for all connections.
        self.assertEqual(then, sorted([*before, str(path), f"{path}-wal"]))
        for number in range(2):
            self.assertIsNotNone(version.current())
            self.assertEqual(opened(path), then)
            self.add(f"task-{number}")

    def test_waits_for_nobody(self) -> None:
        """It waits for no lock once it is open."""
        connection = self.version._connection
        if connection is None:
            raise AssertionError("expected it to be open")
        self.assertEqual(connection.execute("PRAGMA busy_timeout").fetchone(), (0,))
