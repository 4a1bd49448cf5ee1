"""Tests of what is remembered of pieces: rows, open files, and both together over a real catalog and real files."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import StoredPiece, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.piece_cache import (
    LOOK_INTERVAL,
    MAX_FILES,
    MAX_LOOKS,
    MAX_PAGES,
    PAGE_LENGTH,
    HotPieces,
    OpenFiles,
    PiecePages,
    Seen,
    page_of,
)
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.storage.contents import content_of

KIND = PieceKind.STANDARD
CONTENT = content_of(2500)


def rows_of(number: int, task_id: str = "a-task") -> dict[int, StoredPiece]:
    """All rows of the page that a piece is in, each with objects of its own, as a database gives them."""
    return {
        each: StoredPiece(
            kind=KIND,
            task_id=task_id,
            metadata=PieceMetadata(
                number=each,
                offset=each << 12,
                length=4096 + each - each,
                digest=f"crc32:{4_000_000_000 + each}",
                parent_id=f"198.51.100.7-a-parent-{each}",
                cost=1000 + each,
                created_at=1_700_000_000 + each,
            ),
        )
        for each in page_of(number)
    }


class PageTests(SynchronousTestCase):
    """Which pages of rows are kept."""

    def setUp(self) -> None:
        self.pages = PiecePages()

    def test_neighbours(self) -> None:
        """A page is found by each of its pieces, and by no other's task, kind or number."""
        rows = rows_of(40)
        self.pages.keep(KIND, "a-task", 40, rows)
        for number in page_of(40):
            self.assertIs(self.pages.find(KIND, "a-task", number), rows)
        self.assertIsNone(self.pages.find(KIND, "a-task", page_of(40)[0] - 1))
        self.assertIsNone(self.pages.find(KIND, "a-task", page_of(40)[-1] + 1))
        self.assertIsNone(self.pages.find(KIND, "b-task", 40))
        self.assertIsNone(self.pages.find(PieceKind.CACHE, "a-task", 40))
        self.pages.clear()
        self.assertIsNone(self.pages.find(KIND, "a-task", 40))

    def test_page_of(self) -> None:
        """A page of rows begins at a multiple of its length."""
        for number in (0, 1, PAGE_LENGTH - 1, PAGE_LENGTH, 5 * PAGE_LENGTH + 3):
            page = page_of(number)
            self.assertIn(number, page)
            self.assertEqual((page[0] % PAGE_LENGTH, len(page)), (0, PAGE_LENGTH))

    def test_nothing(self) -> None:
        """A page without rows is not kept."""
        self.pages.keep(KIND, "a-task", 0, {})
        self.assertIsNone(self.pages.find(KIND, "a-task", 0))

    def test_bounded(self) -> None:
        """The page that was not used for the longest time makes room; all together take 5 MB at the most."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for page in range(MAX_PAGES):
            self.pages.keep(KIND, "a-task", page * PAGE_LENGTH, rows_of(page * PAGE_LENGTH))
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 5_000_000)
        self.assertIsNotNone(self.pages.find(KIND, "a-task", 0))
        for page in (MAX_PAGES, MAX_PAGES + 1, MAX_PAGES + 1):
            self.pages.keep(KIND, "a-task", page * PAGE_LENGTH, rows_of(page * PAGE_LENGTH))
        there = [self.pages.find(KIND, "a-task", page * PAGE_LENGTH) is not None for page in range(MAX_PAGES + 2)]
        self.assertEqual(there, [True, False, False] + [True] * (MAX_PAGES - 1))


class OpenFilesTests(SynchronousTestCase):
    """Which files are open, and when they are closed."""

    def setUp(self) -> None:
        self.files = OpenFiles()
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"some bytes")
        self.addCleanup(lambda: self.close(self.files.clear()))

    def descriptor(self) -> int:
        """The file, opened."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, descriptors: list[int]) -> None:
        """Close them; each is open."""
        for descriptor in descriptors:
            os.close(descriptor)

    def test_open(self) -> None:
        """Opening a kept file gives a new descriptor of it, which no program inherits."""
        self.assertEqual(self.files.keep(KIND, "a-task", self.descriptor()), [])
        self.assertIsNone(self.files.open(KIND, "b-task"))
        self.assertIsNone(self.files.open(PieceKind.CACHE, "a-task"))
        for _ in range(2):
            descriptor = self.files.open(KIND, "a-task")
            if descriptor is None:
                self.fail("expected a descriptor")
            self.assertFalse(os.get_inheritable(descriptor))
            self.assertEqual(os.pread(descriptor, 100, 0), b"some bytes")
            os.close(descriptor)

    def test_replaced(self) -> None:
        """A task has one file; the one before is handed back."""
        first, second = self.descriptor(), self.descriptor()
        self.files.keep(KIND, "a-task", first)
        self.assertEqual(self.files.keep(KIND, "a-task", second), [first])
        os.close(first)
        self.assertEqual(self.files.clear(), [second])
        os.close(second)
        self.assertEqual((self.files.clear(), len(self.files)), ([], 0))

    def test_bounded(self) -> None:
        """The file that was not used for the longest time makes room."""
        kept = [self.descriptor() for _ in range(MAX_FILES)]
        for number, descriptor in enumerate(kept):
            self.assertEqual(self.files.keep(KIND, f"task-{number}", descriptor), [])
        used = self.files.open(KIND, "task-0")
        if used is not None:
            os.close(used)
        self.assertEqual(self.files.keep(KIND, "one more", self.descriptor()), [kept[1]])
        self.assertEqual(len(self.files), MAX_FILES)
        os.close(kept[1])

    def test_idle(self) -> None:
        """A file is given up at the last of so many looks without use, and not before."""
        kept = self.descriptor()
        self.files.keep(KIND, "a-task", kept)
        for _ in range(2):
            for _ in range(MAX_LOOKS - 1):
                self.assertEqual(self.files.look(), [])
            used = self.files.open(KIND, "a-task")
            if used is not None:
                os.close(used)
        for _ in range(MAX_LOOKS - 1):
            self.assertEqual(self.files.look(), [])
        self.assertEqual(self.files.look(), [kept])
        os.close(kept)

    def test_deleted(self) -> None:
        """A file that has been deleted is given up at the next look, however hot it is."""
        kept = self.descriptor()
        self.files.keep(KIND, "a-task", kept)
        self.path.unlink()
        self.assertEqual(self.files.look(), [kept])
        os.close(kept)

    def test_no_descriptors_left(self) -> None:
        """Where there can be no more descriptors, the caller hears of it."""
        kept = self.descriptor()
        self.files.keep(KIND, "a-task", kept)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            with self.assertRaises(OSError):
                self.files.open(KIND, "a-task")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class HotPiecesTests(SynchronousTestCase):
    """What is remembered, and for how long."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        self.path = Path(self.mktemp())
        self.path.write_bytes(content_of(2500))
        self.task = import_file(self.path, directory, KIND, 1000)
        self.catalog = Catalog(directory)
        self.catalog.open()
        self.addCleanup(self.catalog.close)
        self.version = CatalogVersion(self.catalog.path)
        self.version.open()
        self.addCleanup(self.version.close)
        self.clock = Clock()
        self.closed: list[int] = []
        self.hot = HotPieces(self.version, self.clock, self.close)
        self.addCleanup(self.hot.stop)

    def close(self, descriptors: Sequence[int]) -> None:
        """Close descriptors, each of which is open."""
        for descriptor in descriptors:
            os.close(descriptor)
            self.closed.append(descriptor)

    def remember(self, seen: Seen) -> None:
        """Read the first page and remember it."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.hot.remember(seen, KIND, self.task.task_id, 0, self.rows(), descriptor)
        os.close(descriptor)

    def rows(self) -> dict[int, StoredPiece]:
        """The rows of the first page."""
        rows = self.catalog.find_pieces(KIND, self.task.task_id, page_of(0))
        return {row.metadata.number: row for row in rows}

    def is_hot(self) -> tuple[bool, bool]:
        """Whether rows are remembered, and a file."""
        self.hot.refresh()
        rows = self.hot.find(KIND, self.task.task_id, 0)
        descriptor = self.hot.open(KIND, self.task.task_id)
        if descriptor is not None:
            os.close(descriptor)
        return rows is not None, descriptor is not None

    def test_follow(self) -> None:
        """With another version everything is forgotten, also what is being read, and that version is asked."""
        self.remember(self.hot.refresh())
        seen = self.hot.refresh()
        other = CatalogVersion(self.catalog.path)
        other.open()
        self.addCleanup(other.close)
        self.assertIs(self.hot.follow(other), self.version)
        self.remember(seen)
        self.assertEqual(self.is_hot(), (False, False))
        self.version.close()
        self.remember(self.hot.refresh())
        self.assertEqual(self.is_hot(), (True, True))

    def test_remembered(self) -> None:
        """What has been read is there until a piece is taken back, whichever that is."""
        self.assertEqual(self.is_hot(), (False, False))
        self.remember(self.hot.refresh())
        self.assertEqual(self.is_hot(), (True, True))
        self.assertEqual(self.hot.find(KIND, self.task.task_id, 1), self.rows())
        self.catalog.mark_damaged(KIND, self.task.task_id, 2, "a test")
        self.assertEqual(self.is_hot(), (False, False))
        self.assertEqual(len(self.closed), 1)

    def test_taken_back(self) -> None:
        """A commit that deletes a piece or a task forgets everything, and so does one that adds a task."""
        other = StoredTask(kind=KIND, task_id="another", content_length=2, piece_length=1, created_at=1)
        pieces = [PieceMetadata(number=number, offset=number, length=1, digest="crc32:1") for number in range(2)]
        for change in (
            lambda: self.catalog.put_task(other, pieces),
            lambda: self.catalog.drop_pieces(KIND, "another", {0: "crc32:1"}),
            lambda: self.catalog.remove_task(KIND, "another"),
        ):
            self.remember(self.hot.refresh())
            self.assertEqual(self.is_hot(), (True, True))
            change()
            self.assertEqual(self.is_hot(), (False, False))

    def test_added(self) -> None:
        """A commit that adds a piece forgets nothing, and a piece that was not there before is asked for again."""
        self.catalog.drop_pieces(KIND, self.task.task_id, {2: self.rows()[2].metadata.digest})
        self.remember(self.hot.refresh())
        self.assertEqual(self.hot.find(KIND, self.task.task_id, 2), self.rows())
        task = self.catalog.get_task(KIND, self.task.task_id)
        for number in (3, 4):
            seen = self.hot.refresh()
            piece = PieceMetadata(number=number, offset=number * 1000, length=1000, digest="crc32:1")
            self.catalog.commit_pieces(task, [piece])
            self.assertEqual(self.is_hot(), (True, True))
            self.assertIsNone(self.hot.find(KIND, self.task.task_id, 2))
            self.remember(seen)  # read around the commit: its rows are right, and there may be more by now
            self.hot.refresh()
            self.assertIsNone(self.hot.find(KIND, self.task.task_id, 2))
            self.assertIsNotNone(self.hot.find(KIND, self.task.task_id, number))

    def test_committed_while_it_was_read(self) -> None:
        """What was read around a commit is not used, whether the commit has been noticed since or not."""
        for is_noticed in (False, True):
            seen = self.hot.refresh()
            self.catalog.mark_damaged(KIND, self.task.task_id, 0, f"a test: {is_noticed}")
            if is_noticed:
                self.hot.refresh()
            self.remember(seen)
            self.assertEqual(self.is_hot(), (False, False))

    def test_another_life(self) -> None:
        """What was read before everything was forgotten is not remembered, though the version is the same number."""
        seen = self.hot.refresh()
        self.hot.stop()
        self.hot.refresh()
        self.remember(seen)
        self.assertEqual(self.is_hot(), (False, False))

    def test_nobody_can_tell(self) -> None:
        """While the version is unknown, nothing is remembered and nothing is used."""
        self.remember(self.hot.refresh())
        self.version.close()
        self.assertEqual(self.is_hot(), (False, False))
        self.remember(self.hot.refresh())
        self.version.open()
        self.assertEqual(self.is_hot(), (False, False))

    def test_removed(self) -> None:
        """A removed task's file is closed at the next look, without any request."""
        self.remember(self.hot.refresh())
        self.catalog.remove_task(KIND, self.task.task_id)
        self.assertEqual(self.closed, [])
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(len(self.closed), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deleted_by_hand(self) -> None:
        """A file that was deleted past the catalog is closed at the next look, and then opened anew."""
        self.remember(self.hot.refresh())
        self.path.unlink()
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(self.is_hot(), (True, False))

    def test_idle(self) -> None:
        """An unused file is closed after that many looks; while it is used it stays."""
        self.remember(self.hot.refresh())
        for _ in range(3 * MAX_LOOKS):
            self.clock.advance(LOOK_INTERVAL)
            self.assertEqual(self.is_hot(), (True, True))
        self.clock.pump([LOOK_INTERVAL] * MAX_LOOKS)
        self.assertEqual(self.is_hot(), (True, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """At the end nothing is open and nothing scheduled."""
        self.remember(self.hot.refresh())
        self.hot.stop()
        self.assertEqual((len(self.closed), self.clock.getDelayedCalls()), (1, []))
        self.hot.stop()

    def test_no_descriptors_left(self) -> None:
        """A process that has no descriptors left gives back those that are kept, and keeps no more."""
        self.remember(self.hot.refresh())
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.addCleanup(os.close, descriptor)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            self.assertIsNone(self.hot.open(KIND, self.task.task_id))
            self.assertEqual(len(self.closed), 1)
            self.hot.remember(self.hot.refresh(), KIND, self.task.task_id, 0, self.rows(), descriptor)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual(self.is_hot(), (True, False))
