"""Tests of catalogs that are only read: real databases, of processes that live, have ended and were killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage.database import Database
from dragonfly_vortex.storage.reading import FileState, open_for_reading, state_of
from dragonfly_vortex.storage.tables import VERSION

ADD = "INSERT INTO task (kind, task_id, piece_length, created_at) VALUES ('standard', ?, 1, 1)"

_KILLED = """
import os, pathlib, sys
from dragonfly_vortex.storage.database import Database
database = Database(pathlib.Path(sys.argv[1]))
database.open()
with database.change() as connection:
    connection.execute("INSERT INTO task (kind, task_id, piece_length, created_at) VALUES ('standard', 'a-task', 1, 1)")
os._exit(0)
"""


class ReadingTests(SynchronousTestCase):
    """A catalog that others write."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "catalog.sqlite3"

    def open(self) -> Database:
        """The catalog, open for writing until the test ends."""
        database = Database(self.path)
        database.open()
        self.addCleanup(database.close)
        return database

    def add(self, database: Database, task_id: str) -> None:
        """Commit a row."""
        with database.change() as connection:
            connection.execute(ADD, (task_id,))

    def kill(self) -> None:
        """Have another process commit a row, and end as if it was killed."""
        subprocess.run([sys.executable, "-c", _KILLED, str(self.path)], check=True)

    def files(self) -> dict[str, tuple[int, int, int]]:
        """What is there, and when it was written."""
        if not self.path.parent.exists():
            return {}
        there = [(path.name, path.stat()) for path in self.path.parent.iterdir()]
        return {name: (status.st_ino, status.st_size, status.st_mtime_ns) for name, status in there}

    def read(self, *, is_snapshot: bool) -> list[str]:
        """The tasks that are read; nothing is written for that, and nothing stays open."""
        before = self.files()
        opened = open_for_reading(self.path)
        try:
            self.assertEqual(opened.is_snapshot, is_snapshot)
            self.assertEqual(opened.state, state_of(self.path))
            return [task_id for (task_id,) in opened.connection.execute("SELECT task_id FROM task")]
        finally:
            opened.connection.close()
            self.assertEqual(self.files(), before)

    def test_nothing_there(self) -> None:
        """Where there is no directory, no file, or one that is empty, there are no rows."""
        self.assertEqual(self.read(is_snapshot=True), [])
        self.path.parent.mkdir()
        self.assertEqual(self.read(is_snapshot=True), [])
        self.path.touch()
        self.assertEqual(self.read(is_snapshot=True), [])

    def test_closed(self) -> None:
        """A catalog that no process has open is read as it is; each later change shows in its state."""
        database = self.open()
        self.add(database, "a-task")
        database.close()
        self.assertEqual(self.read(is_snapshot=True), ["a-task"])
        states: list[FileState] = [state_of(self.path)]
        database = self.open()
        self.add(database, "b-task")
        states.append(state_of(self.path))
        database.close()
        states.append(state_of(self.path))
        self.assertEqual(len(set(states)), 3)

    def test_open(self) -> None:
        """Of a catalog that another has open all is read that is committed, from its log, too."""
        database = self.open()
        self.add(database, "a-task")
        self.assertEqual(self.read(is_snapshot=False), ["a-task"])
        self.add(database, "b-task")
        self.assertEqual(self.read(is_snapshot=False), ["a-task", "b-task"])

    def test_killed(self) -> None:
        """What a killed process has committed is read from the log that it left, with and without its index."""
        self.patch(tempfile, "tempdir", self.mktemp())  # the copy of a snapshot goes there
        Path(tempfile.gettempdir()).mkdir(parents=True)
        self.kill()
        opened = open_for_reading(self.path)
        self.assertEqual(opened.connection.execute("SELECT task_id FROM task").fetchall(), [("a-task",)])
        opened.connection.close()
        self.path.with_name("catalog.sqlite3-shm").unlink(missing_ok=True)
        self.assertEqual(self.read(is_snapshot=True), ["a-task"])
        self.assertEqual(list(Path(tempfile.gettempdir()).iterdir()), [])

    def test_written_while_copied(self) -> None:
        """A copy of what is written to meanwhile is made again, and not for ever."""
        self.kill()
        self.path.with_name("catalog.sqlite3-shm").unlink()
        copy, left = shutil.copyfile, [1]

        def copy_and_write(source: Path, target: Path) -> None:
            copy(source, target)
            if left:
                left.pop()
                os.utime(self.path)

        self.patch(shutil, "copyfile", copy_and_write)
        opened = open_for_reading(self.path)
        self.assertEqual(opened.connection.execute("SELECT task_id FROM task").fetchall(), [("a-task",)])
        opened.connection.close()
        left.extend(range(100))
        with self.assertRaisesRegex(StorageFailure, "expected it to stay as it is while it is copied"):
            open_for_reading(self.path)

    def test_log_gone_while_copied(self) -> None:
        """The last process that has it open may end meanwhile, and take the log away: all is in the file then."""
        self.kill()
        self.path.with_name("catalog.sqlite3-shm").unlink()
        copy = shutil.copyfile

        def copy_late(source: Path, target: Path) -> None:
            if source.name.endswith("-wal"):
                sqlite3.connect(self.path).execute("SELECT * FROM task").connection.close()
            copy(source, target)

        self.patch(shutil, "copyfile", copy_late)
        opened = open_for_reading(self.path)
        self.assertEqual(opened.connection.execute("SELECT task_id FROM task").fetchall(), [("a-task",)])
        opened.connection.close()

    def test_no_catalog(self) -> None:
        """Another's database, a newer version's and no database are refused, as they are for a writer."""
        self.path.parent.mkdir()
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE another (a)")
        with self.assertRaisesRegex(StorageFailure, "expected a catalog, got another database"):
            open_for_reading(self.path)
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.close()
        with self.assertRaisesRegex(StorageFailure, f"expected a catalog of version {VERSION} or older"):
            open_for_reading(self.path)
        self.path.write_bytes(b"no database" * 100)
        with self.assertRaisesRegex(sqlite3.DatabaseError, "not a database"):
            open_for_reading(self.path)

    def test_place(self) -> None:
        """Another directory, and another file in it, are another place, though the file's contents are the same."""
        self.open().close()
        before = state_of(self.path)
        shutil.copytree(self.path.parent, f"{self.path.parent}.copy")
        self.path.parent.rename(f"{self.path.parent}.old")
        os.rename(f"{self.path.parent}.copy", self.path.parent)
        after = state_of(self.path)
        self.assertNotEqual(after.place.directory, before.place.directory)
        self.assertNotEqual(after.place.file, before.place.file)
