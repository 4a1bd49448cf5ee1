"""What a storage costs as it grows, counted in SQL statements and files, which no load of the machine changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage import collector
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.collector import Collector
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Database
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.wire import PieceKind, PieceMetadata

KIND = PieceKind.STANDARD


class GrowthTests(SynchronousTestCase):
    """Storages with a few tasks, and with ten times as many."""

    def storage(self, count: int, piece_count: int = 1) -> Path:
        """A storage with so many tasks, each of an empty file."""
        directory = Path(self.mktemp())
        pieces = [PieceMetadata(number=each, offset=each, length=1, digest="crc32:0") for each in range(piece_count)]
        with Catalog(directory) as catalog, Content(directory).lock():
            for number in range(count):
                task_id = f"{number:064x}"[::-1]
                task = StoredTask(
                    kind=KIND, task_id=task_id, content_length=piece_count, piece_length=1, created_at=1, ttl=1
                )
                path = Content(directory).path(KIND, task_id)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                catalog.put_task(task, pieces)
        return directory

    def count(self, act: Callable[[], object]) -> int:
        """How many SQL statements something takes."""
        statements: list[str] = []
        self.watch(lambda connection: connection.set_trace_callback(statements.append), act)
        return len(statements)

    def steps(self, act: Callable[[], object]) -> int:
        """How many instructions SQLite runs for something, rounded down in each statement to tens."""
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 10
            return 0  # go on

        self.watch(lambda connection: connection.set_progress_handler(step, 10), act)
        return steps

    def watch(self, prepare: Callable[[sqlite3.Connection], object], act: Callable[[], object]) -> None:
        """Do something, with each connection that it opens prepared."""
        connect = sqlite3.connect

        def prepared(*arguments: object, **named: object) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **named)  # type: ignore[call-overload]
            prepare(connection)
            return connection

        patch = self.patch(sqlite3, "connect", prepared)
        try:
            act()
        finally:
            patch.restore()

    def test_open_and_list(self) -> None:
        """To open a storage, and to list it, takes as many statements for many tasks as for few."""

        def read(directory: Path) -> None:
            with Catalog(directory) as catalog:
                catalog.list_tasks()

        few, many = self.storage(3), self.storage(30)
        self.assertEqual(self.count(lambda: read(few)), self.count(lambda: read(many)))

    def test_pieces(self) -> None:
        """So does a task of many pieces; one piece of it is found by an index."""
        few, many = self.storage(1, 10), self.storage(1, 1000)

        def read(directory: Path) -> None:
            with Catalog(directory) as catalog:
                catalog.get_pieces(KIND, catalog.list_tasks()[0].task_id)

        self.assertEqual(self.count(lambda: read(few)), self.count(lambda: read(many)))
        database = Database(many / "catalog.sqlite3")
        database.open()
        self.addCleanup(database.close)
        plan = database.select(
            "EXPLAIN QUERY PLAN SELECT * FROM piece WHERE kind = 'a' AND task_id = 'b' AND number = 1"
        )
        self.assertIn("SEARCH piece USING PRIMARY KEY", str(plan))

    def test_collected(self) -> None:
        """A collection takes at most a few statements and looks at files a task, however many tasks there are."""
        looks = 0
        blocks = collector._blocks

        def look(path: Path) -> tuple[int, bool]:
            nonlocal looks
            looks += 1
            return blocks(path)

        self.patch(collector, "_blocks", look)
        costs = []
        for count in (20, 200):
            directory, looks = self.storage(count), 0
            statements = self.count(Collector(directory, Policy(disk_threshold=1 << 50)).run)
            costs.append((statements, looks))
            with Catalog(directory) as catalog:
                self.assertEqual(catalog.list_tasks(), [])
        (few, few_looks), (many, many_looks) = costs
        self.assertLessEqual(many - few, 9 * 180)  # with those of the triggers
        self.assertLessEqual(many_looks - few_looks, 2 * 180)

    def test_nothing_to_collect(self) -> None:
        """Neither does one that removes nothing take more of SQLite's instructions and looks a task."""
        looks = 0
        blocks = collector._blocks

        def look(path: Path) -> tuple[int, bool]:
            nonlocal looks
            looks += 1
            return blocks(path)

        self.patch(collector, "_blocks", look)
        costs = []
        for count in (30, 300):
            directory, looks = self.storage(count), 0
            steps = self.steps(Collector(directory, Policy(disk_threshold=1 << 50), now=lambda: 1.0).run)
            costs.append((steps, looks))
            with Catalog(directory) as catalog:
                self.assertEqual(len(catalog.list_tasks()), count)
        (few, few_looks), (many, many_looks) = costs
        self.assertLessEqual(many, 10 * few)
        self.assertEqual((few_looks, many_looks), (30, 300))

    def test_steps(self) -> None:
        """To list tasks and to read the rows of pieces takes as many instructions for each, to find one no more."""

        def listed(directory: Path) -> None:
            with Catalog(directory) as catalog:
                catalog.list_tasks()

        def found(directory: Path) -> None:
            with Catalog(directory) as catalog:
                catalog.get_piece(KIND, "0" * 64, 0)

        def read(directory: Path) -> None:
            with Catalog(directory) as catalog:
                catalog.get_pieces(KIND, "0" * 64)

        few, many = self.storage(30), self.storage(300)
        self.assertLessEqual(self.steps(lambda: listed(many)), 11 * self.steps(lambda: listed(few)))
        self.assertLessEqual(self.steps(lambda: found(many)), self.steps(lambda: found(few)) + 20)
        few, many = self.storage(1, 30), self.storage(1, 300)
        self.assertLessEqual(self.steps(lambda: read(many)), 11 * self.steps(lambda: read(few)))
        self.assertLessEqual(self.steps(lambda: found(many)), self.steps(lambda: found(few)) + 20)
