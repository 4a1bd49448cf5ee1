"""Tests of the catalog's file: real databases, other connections and other processes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage import database as database_module
from dragonfly_vortex.storage.database import Access, Database
from dragonfly_vortex.storage.directories import locked
from dragonfly_vortex.storage.tables import VERSION

ADD = "INSERT INTO task (kind, task_id, piece_length, created_at) VALUES ('standard', ?, 1, 1)"
_ADD_TO_1 = "INSERT INTO task (kind, task_id, content_length, piece_length, created_at) VALUES ('standard', ?, 1, 1, 1)"
COUNT = "SELECT count(*) FROM task"

_OPENER = """
import sys, pathlib
from dragonfly_vortex.storage.database import Database
sys.stdin.read()
print("ready", flush=True)
for _ in range(10):
    database = Database(pathlib.Path(sys.argv[1]))
    database.open()
    database.select("SELECT * FROM task")
    database.close()
"""


_KILLED_MIGRATION = """
import os, pathlib, signal, sqlite3, sys
from dragonfly_vortex.storage import tables
from dragonfly_vortex.storage.database import Database

class Connection(sqlite3.Connection):
    def execute(self, statement, *parameters):
        if statement == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(statement, *parameters)

connect = sqlite3.connect
sqlite3.connect = lambda *arguments, **named: connect(*arguments, factory=Connection, **named)
Database(pathlib.Path(sys.argv[1])).open()
"""

_VERSION_1 = Path(__file__).with_name("version_1.sqlite3")
"""A catalog that dragonfly_vortex 0.1.0 has made: four tasks, one of them a download under way, and a damaged piece."""

_VERSION_2 = Path(__file__).with_name("version_2.sqlite3")
"""A catalog of version 2: a task of each kind, a download under way, digests, origins, and a damaged piece."""


class DatabaseTestCase(SynchronousTestCase):
    """A place for a database."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "catalog.sqlite3"

    def open(self) -> Database:
        """An open database, closed after the test."""
        database = Database(self.path)
        database.open()
        self.addCleanup(database.close)
        return database


class ChangeTests(DatabaseTestCase):
    """Questions and changes."""

    def test_change(self) -> None:
        """A change is there for others when its block is left, and not before; readers do not wait meanwhile."""
        database, other = self.open(), self.open()
        with database.change() as connection:
            connection.execute(ADD, ("a-task",))
            self.assertEqual(other.select(COUNT), [(0,)])
        self.assertEqual(other.select(COUNT), [(1,)])
        self.assertEqual(other.select("SELECT kind FROM task WHERE task_id = ?", "a-task"), [("standard",)])

    def test_nothing_of_it(self) -> None:
        """A change that ends with an error changes nothing, and the next one is made."""
        database = self.open()
        with self.assertRaises(ZeroDivisionError), database.change() as connection:
            connection.execute(ADD, ("a-task",))
            raise ZeroDivisionError
        self.assertEqual(database.select(COUNT), [(0,)])
        with database.change() as connection:
            connection.execute(ADD, ("a-task",))
        self.assertEqual(database.select(COUNT), [(1,)])

    def test_said(self) -> None:
        """The file's time says that something has been changed."""
        database = self.open()
        os.utime(self.path, (1, 1))
        with database.change():
            pass
        self.assertGreater(self.path.stat().st_mtime, 1)

    def test_on_the_disk(self) -> None:
        """The connection's modes are those that keep what was committed, and let others read meanwhile."""
        for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            self.assertEqual(self.open().connection.execute(f"PRAGMA {pragma}").fetchone(), (expected,))

    def test_wrong_query(self) -> None:
        """What SQLite refuses is a failure that says whether it was read or written."""
        database = self.open()
        with self.assertRaisesRegex(StorageFailure, "cannot read .*catalog.sqlite3: no such table: no_such_table"):
            database.select("SELECT * FROM no_such_table")
        with (
            self.assertRaisesRegex(StorageFailure, "cannot write .*catalog.sqlite3: UNIQUE constraint failed"),
            database.change() as connection,
        ):
            for _ in range(2):
                connection.execute(ADD, ("a-task",))

    def test_locked(self) -> None:
        """A database that another keeps locked for too long is a failure."""
        self.patch(database_module, "BUSY_TIMEOUT", 0.01)
        database, other = self.open(), self.open()
        with (
            other.change(),
            self.assertRaisesRegex(StorageFailure, "cannot write .*: database is locked"),
            database.change(),
        ):
            pass


class OpenTests(DatabaseTestCase):
    """Databases that can be opened, and others."""

    def make(self, version: int) -> None:
        """A database of that version."""
        self.open().close()
        connection = sqlite3.connect(self.path)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()

    def assert_fails(self, message: str) -> None:
        """Opening it fails, in one line."""
        with self.assertRaisesRegex(StorageFailure, message) as caught:
            self.open()
        self.assertNotIn("\n", str(caught.exception))

    def test_closed(self) -> None:
        """Nothing is made before it is opened; a closed one says so, and closing it again is nothing."""
        database = Database(self.path)
        self.assertFalse(self.path.parent.exists())
        database.close()
        for _ in range(2):
            with self.assertRaisesRegex(StorageFailure, "to be open, it is closed"):
                database.select("SELECT * FROM task")
            with self.assertRaisesRegex(StorageFailure, "to be open, it is closed"), database.change():
                pass
            database.open()
            database.close()

    def test_newer(self) -> None:
        """A newer version's database is refused, and left as it is."""
        self.make(VERSION + 1)
        self.assert_fails(f"expected a catalog of version {VERSION} or older, got version {VERSION + 1}")
        connection = sqlite3.connect(self.path)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (VERSION + 1,))

    def test_of_a_dfdaemon(self) -> None:
        """The directory of a dfdaemon is refused, and left as it is; a catalog beside its files can still be read."""
        theirs = self.path.parent / "metadata"
        theirs.mkdir(parents=True)
        (theirs / "CURRENT").write_text("MANIFEST-000004\n")
        for access in Access:
            with self.assertRaisesRegex(StorageFailure, "got that of a dfdaemon, .*; choose another storage.dir"):
                Database(self.path, access).open()
        self.assertEqual(list(self.path.parent.iterdir()), [theirs])
        other = self.path.parent / "other" / self.path.name
        with closing(Database(other)) as database:
            database.open()
        other.rename(self.path)
        self.assert_fails("got that of a dfdaemon")
        with closing(Database(self.path, Access.READ)) as database:
            database.open()

    def test_no_database(self) -> None:
        """A file that is no database is a failure that names it."""
        self.path.parent.mkdir()
        self.path.write_bytes(b"no database at all" * 100)
        self.assert_fails("cannot open .*catalog.sqlite3: file is not a database")

    def test_another_database(self) -> None:
        """A database with another's table of the same name is a failure."""
        self.path.parent.mkdir()
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE task (a)")
        connection.close()
        self.assert_fails("table task already exists")

    def test_damaged(self) -> None:
        """A database whose pages are damaged is a failure, when it is opened or when it is read."""
        database = self.open()
        with database.change() as connection:
            connection.execute(ADD, ("x" * 5000,))
        database.close()
        size = os.path.getsize(self.path)
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        with self.assertRaises(StorageFailure):
            self.open().select("SELECT * FROM task")

    def test_directory_in_the_way(self) -> None:
        """A directory where the database should be is a failure."""
        self.path.mkdir(parents=True)
        self.assert_fails("cannot open .*: unable to open database file")

    def test_no_directory(self) -> None:
        """A file where the directory should be is a failure."""
        self.path.parent.touch()
        self.assert_fails("cannot open .*: .*File exists")

    def test_one_after_the_other(self) -> None:
        """Opening the database waits until another process has prepared it."""
        self.path.parent.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", _OPENER, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with locked(self.path.parent), process:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("expected pipes")
            process.stdin.close()
            self.assertEqual(process.stdout.readline(), b"ready\n")
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.3)
            self.assertEqual(self.path.read_bytes() if self.path.exists() else b"", b"")
            process.kill()

    def test_all_at_once(self) -> None:
        """Many processes open and close the same new database at once, and none fails."""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _OPENER, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
                process.stdin = None
        self.assertEqual([process.communicate()[1] for process in processes], [""] * len(processes))


class MigrationTestCase(DatabaseTestCase):
    """
    A database of an older version.

    ``file`` is the database, and ``columns`` are those of its table of tasks.
    """

    file: Path
    columns: str

    def setUp(self) -> None:
        super().setUp()
        self.path.parent.mkdir()
        shutil.copyfile(self.file, self.path)
        self.before = self.rows(self.path)

    def rows(self, path: Path) -> list[tuple[object, ...]]:
        """The columns of the older version, of all tasks and pieces, as SQLite has them in the file."""
        with closing(sqlite3.connect(path)) as connection:
            tasks = connection.execute(f"SELECT {self.columns} FROM task").fetchall()
            return [*tasks, *connection.execute("SELECT * FROM piece").fetchall()]

    def version(self) -> object:
        """The version that the file has."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0]

    def check_killed(self, *statements: str) -> None:
        """A migration that is killed before any of these statements leaves the older version."""
        version = self.version()
        for statement in ("BEGIN IMMEDIATE", *statements, f"PRAGMA user_version = {VERSION}", "COMMIT"):
            killed = subprocess.run([sys.executable, "-c", _KILLED_MIGRATION, str(self.path), statement], check=False)
            self.assertEqual(killed.returncode, -signal.SIGKILL)
            self.assertEqual(self.version(), version)
            self.assertEqual(self.rows(self.path), self.before)
        self.open()
        self.assertEqual(self.version(), VERSION)
        self.assertEqual(self.rows(self.path), self.before)


class Version1Tests(MigrationTestCase):
    """Databases of version 1."""

    file = _VERSION_1
    columns = "kind, task_id, content_length, piece_length, created_at"

    def test_migrated(self) -> None:
        """What version 1 has written is there after the first opening for writing, and nothing is added to it."""
        self.assertEqual(len(self.before), 9)
        database = self.open()
        self.assertEqual(self.rows(self.path), self.before)
        self.assertEqual(database.select("SELECT DISTINCT digest, origin FROM task"), [(None, None)])
        self.assertEqual(self.version(), VERSION)
        with database.change() as connection:
            connection.execute(ADD, ("a-task",))
        self.assertEqual(self.open().select(COUNT), [(5,)])

    def test_read(self) -> None:
        """A reader sees the present columns, writes nothing, and follows what a process of version 1 adds."""
        database = Database(self.path, Access.READ)
        database.open()
        self.addCleanup(database.close)
        before = self.path.read_bytes()
        self.assertEqual(database.select("SELECT count(*), max(digest), max(origin) FROM task"), [(4, None, None)])
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual([path.name for path in self.path.parent.iterdir()], [self.path.name])
        with closing(sqlite3.connect(self.path)) as old:
            old.execute(_ADD_TO_1, ("a-task",))
            old.commit()
            self.assertEqual(database.select(COUNT), [(5,)])
        self.open()
        self.assertEqual(database.select("SELECT count(*), max(digest), max(origin) FROM task"), [(5, None, None)])

    def test_older_process(self) -> None:
        """A process of version 1 that has the file open still reads and writes it after the migration."""
        with closing(sqlite3.connect(self.path)) as old:
            old.execute("SELECT * FROM task").fetchall()
            database = self.open()
            old.execute(_ADD_TO_1, ("a-task",))
            old.commit()
            self.assertEqual(len(old.execute("SELECT kind, task_id, content_length FROM task").fetchall()), 5)
        self.assertEqual(database.select("SELECT digest FROM task WHERE task_id = 'a-task'"), [(None,)])

    def test_killed(self) -> None:
        """A migration that is killed at any of its steps leaves version 1; the next opening migrates it."""
        self.check_killed(
            "ALTER TABLE task ADD COLUMN digest TEXT",
            "ALTER TABLE task ADD COLUMN origin TEXT",
            "ALTER TABLE task ADD COLUMN source_version TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE task ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0",
        )


class Version2Tests(MigrationTestCase):
    """Databases of version 2."""

    file = _VERSION_2
    columns = "kind, task_id, content_length, piece_length, created_at, digest, origin, source_version"

    def test_migrated(self) -> None:
        """No row changes. A task counts as used at the migration, and is kept without end."""
        self.assertEqual(len(self.before), 12)
        before = int(time.time())
        database = self.open()
        self.assertEqual(self.rows(self.path), self.before)
        self.assertEqual(self.version(), VERSION)
        ((oldest, newest),) = database.select("SELECT min(used_at), max(used_at) FROM task")
        self.assertTrue(before <= oldest <= newest <= time.time(), (oldest, newest))
        self.assertEqual(
            database.select("SELECT DISTINCT kind, ttl, is_pinned FROM task ORDER BY kind"),
            [(kind, 0, 1) for kind in ("cache", "persistent", "persistent-cache", "standard")],
        )

    def test_read(self) -> None:
        """A reader sees the present columns, and writes nothing."""
        database = Database(self.path, Access.READ)
        database.open()
        self.addCleanup(database.close)
        before = self.path.read_bytes()
        self.assertEqual(database.select("SELECT count(*), min(ttl) FROM task"), [(5, 0)])
        self.assertEqual(self.path.read_bytes(), before)

    def test_older_process(self) -> None:
        """A process of version 2 that has the file open still reads and writes it after the migration."""
        with closing(sqlite3.connect(self.path)) as old:
            old.execute("SELECT * FROM task").fetchall()
            database = self.open()
            old.execute(f"INSERT INTO task ({self.columns}) VALUES ('standard', 'a-task', 1, 1, 1, NULL, NULL, '')")
            old.commit()
            self.assertEqual(len(old.execute(f"SELECT {self.columns} FROM task").fetchall()), 6)
        row = database.select("SELECT used_at, ttl, is_pinned FROM task WHERE task_id = 'a-task'")
        self.assertEqual(row, [(0, None, 0)])

    def test_killed(self) -> None:
        """A migration that is killed at any of its steps leaves version 2; the next opening migrates it."""
        self.check_killed(
            "ALTER TABLE task ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE task ADD COLUMN ttl INTEGER",
            "ALTER TABLE task ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0",
            "UPDATE task SET used_at = CAST(strftime('%s', 'now') AS INTEGER)",
            "UPDATE task SET ttl = 0, is_pinned = 1",
            "DROP TRIGGER piece_changed",
        )


class ReadTests(DatabaseTestCase):
    """Databases that are opened for reading."""

    def read(self) -> Database:
        """The database, open for reading."""
        database = Database(self.path, Access.READ)
        database.open()
        self.addCleanup(database.close)
        return database

    def test_read(self) -> None:
        """What is read is what is committed at that moment, whether another has it open or not; nothing is changed."""
        reader = self.read()
        self.assertEqual(reader.select(COUNT), [(0,)])
        self.assertFalse(self.path.parent.exists())
        for number in range(1, 4):
            writer = self.open()
            with writer.change() as connection:
                connection.execute(ADD, (f"task-{number}",))
            self.assertEqual(reader.select(COUNT), [(number,)])
            writer.close()
            self.assertEqual(reader.select(COUNT), [(number,)])
        with self.assertRaisesRegex(StorageFailure, "cannot write .*: it is open for reading"), reader.change():
            pass

    def test_written_meanwhile(self) -> None:
        """An answer that was given while the file was written to is thrown away, and asked for again."""
        self.open().close()
        reader = self.read()
        writers: list[Database] = []

        def write(_: str) -> None:
            if not writers:  # in the middle of the first question
                writers.append(self.open())
                with writers[0].change() as connection:
                    connection.execute(ADD, ("a-task",))

        reader.connection.set_trace_callback(write)
        self.assertEqual(reader.select(COUNT), [(1,)])
        self.assertEqual(len(writers), 1)


class ReplacedTests(DatabaseTestCase):
    """Databases whose path leads elsewhere while they are open."""

    def replace(self, *task_ids: str) -> None:
        """Delete the directory, and make it anew with these tasks; without any, leave it deleted."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        if task_ids:
            with closing(Database(self.path)) as database:
                database.open()
                for task_id in task_ids:
                    with database.change() as connection:
                        connection.execute(ADD, (task_id,))

    def test_write(self) -> None:
        """A change that no other process would find is refused, and not made."""
        database = self.open()
        for task_ids in (("a-task",), ()):
            self.replace(*task_ids)
            with (
                self.assertRaisesRegex(StorageFailure, "expected the file that was opened, got another or none"),
                database.change() as connection,
            ):
                connection.execute(ADD, ("lost",))
            self.assertEqual(database.select(COUNT), [(0,)])

    def test_serve(self) -> None:
        """What is served is followed to another place, to none, where nothing is made, and back."""
        database = Database(self.path, Access.SERVE)
        database.open()
        self.addCleanup(database.close)
        generations = {database.generation}
        for task_ids in (("a-task", "b-task"), (), ("c-task",)):
            self.replace(*task_ids)
            self.assertFalse(database.is_current())
            database.refresh()
            self.assertEqual(database.select(COUNT), [(len(task_ids),)])
            self.assertTrue(database.is_current())
            self.assertEqual(self.path.exists(), bool(task_ids))
            generations.add(database.generation)
        self.assertEqual(len(generations), 4)
        with database.change() as connection:
            connection.execute(ADD, ("d-task",))
        self.assertEqual(database.select(COUNT), [(2,)])
