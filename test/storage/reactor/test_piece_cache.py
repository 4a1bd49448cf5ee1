"""Tests of what is remembered of pieces: a real catalog, real files, and a clock of the test's own."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import StoredPiece
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.open_files import MAX_LOOKS
from dragonfly_vortex.storage.reactor.piece_cache import LOOK_INTERVAL, HotPieces
from dragonfly_vortex.storage.reactor.rows import page_of
from dragonfly_vortex.storage.reactor.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import content_of

KIND = PieceKind.STANDARD


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

    def remember(self, seen: object) -> None:
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
        """What has been read is there until something is committed, whatever that is."""
        self.assertEqual(self.is_hot(), (False, False))
        self.remember(self.hot.refresh())
        self.assertEqual(self.is_hot(), (True, True))
        self.assertEqual(self.hot.find(KIND, self.task.task_id, 1), self.rows())
        self.catalog.mark_damaged(KIND, self.task.task_id, 2, "a test")
        self.assertEqual(self.is_hot(), (False, False))
        self.assertEqual(len(self.closed), 1)

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
        """While nobody can tell the version, nothing is remembered and nothing is used."""
        self.remember(self.hot.refresh())
        self.version.close()
        self.assertEqual(self.is_hot(), (False, False))
        self.remember(self.hot.refresh())
        self.version.open()
        self.assertEqual(self.is_hot(), (False, False))

    def test_removed(self) -> None:
        """A removed task's file is closed at the next look, though nobody asks for anything."""
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
        """A file that nobody uses is closed after so many looks; while it is used it stays."""
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
