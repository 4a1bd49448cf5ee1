"""Tests of the rows that are kept in memory."""

from __future__ import annotations

import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import StoredPiece
from dragonfly_vortex.storage.reactor.rows import MAX_PAGES, PAGE_LENGTH, PiecePages, page_of
from dragonfly_vortex.wire import PieceKind, PieceMetadata

KIND = PieceKind.STANDARD


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
    """Which pages there are."""

    def setUp(self) -> None:
        self.pages = PiecePages()

    def test_page_of(self) -> None:
        """A page begins at a multiple of its length."""
        for number in (0, 1, PAGE_LENGTH - 1, PAGE_LENGTH, 5 * PAGE_LENGTH + 3):
            page = page_of(number)
            self.assertIn(number, page)
            self.assertEqual((page[0] % PAGE_LENGTH, len(page)), (0, PAGE_LENGTH))

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
