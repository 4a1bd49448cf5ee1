"""When pieces that are offered already come to the disk: a real task, its rows, and a clock."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from dragonfly_vortex.storage.reactor import syncing
from dragonfly_vortex.storage.reactor.syncing import Syncing
from test.storage.test_task_file import CONTENT, KIND, OURS, TASK_ID, WritingTestCase, metadata_of

_T = TypeVar("_T")


class SyncingTests(WritingTestCase):
    """Three pieces of 1000 bytes."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.opened()
        self.addCleanup(self.file.close)
        self.clock = Clock()
        self.waiting: list[Callable[[], object]] = []  # what a thread is to do at the disk
        self.syncing = Syncing(self.file, self.at_disk, maybeDeferred, self.clock)

    def at_disk(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Work that is done when this test says so."""
        done: Deferred[_T] = Deferred()
        self.waiting.append(lambda: maybeDeferred(work).chainDeferred(done))
        return done

    def work(self) -> None:
        """Do what waits for the disk."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()

    def add(self, *numbers: int) -> None:
        """Commit pieces, and have them brought to the disk."""
        for number in numbers:
            self.assertEqual(self.file.claim(number), OURS)
            os.pwrite(self.file.descriptor, CONTENT[number * 1000 : number * 1000 + 1000], number * 1000)
            self.file.commit([metadata_of(number)], 1000, is_synced=False)
        self.syncing.add(map(metadata_of, numbers))

    def unsynced(self) -> list[int]:
        """The numbers of the pieces that may not be on the disk, by their rows."""
        return [piece.metadata.number for piece in self.catalog.unsynced_pieces(KIND, TASK_ID)]

    def test_after_a_pause(self) -> None:
        """A few bytes are brought to the disk after a second, those that come in it together."""
        self.add(0)
        self.clock.advance(0.5)
        self.add(1)
        self.assertEqual((self.waiting, self.syncing.waiting), ([], 2000))
        self.clock.advance(0.5)
        self.work()
        self.assertEqual((self.unsynced(), self.syncing.waiting), ([], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.syncing.finish())

    def test_much(self) -> None:
        """As soon as there is enough it is brought there; what comes meanwhile is next."""
        self.patch(syncing, "_ENOUGH", 2000)
        self.add(0, 1)
        self.add(2)
        self.work()
        self.assertEqual((self.unsynced(), self.syncing.waiting), ([2], 500))
        self.clock.advance(1.0)
        self.work()
        self.assertEqual(self.unsynced(), [])
        self.successResultOf(self.syncing.finish())

    def test_end(self) -> None:
        """At the end nothing is waited for but the disk, and the task may be closed before."""
        self.add(0)
        finished = self.syncing.finish()
        self.file.close()
        self.assertNoResult(finished)
        self.work()
        self.successResultOf(finished)
        self.assertEqual((self.unsynced(), self.clock.getDelayedCalls()), ([], []))

    def test_rows(self) -> None:
        """The rows are brought to the disk at the end, and now and then before."""
        waited: list[bool] = []
        mark = self.file.mark_synced

        def noting(descriptor: int, digests: Mapping[int, str], *, is_durable: bool = True) -> None:
            waited.append(is_durable)
            mark(descriptor, digests, is_durable=is_durable)

        self.patch(self.file, "mark_synced", noting)
        for number, seconds in ((0, 1.0), (1, 11.0)):
            self.add(number)
            self.clock.advance(seconds)
            self.work()
        self.add(2)
        finished = self.syncing.finish()
        self.work()
        self.successResultOf(finished)
        self.assertEqual(waited, [False, True, True])
        self.assertEqual(self.unsynced(), [])

    def test_dropped(self) -> None:
        """A piece that is dropped and fetched again while the disk is waited for is not taken for the earlier one."""
        self.add(0, 1)
        self.clock.advance(1.0)
        self.syncing.forget([1])
        self.file.drop([1])
        self.add(1)
        self.syncing.forget([7])
        self.work()
        self.assertEqual(self.unsynced(), [1])
        finished = self.syncing.finish()
        self.work()
        self.successResultOf(finished)
        self.assertEqual((self.unsynced(), self.syncing.waiting), ([], 0))

    def test_disk_fails(self) -> None:
        """Where the disk fails, the pieces are damaged, and the log has the reason."""

        def failing(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.add(0)
        finished = self.syncing.finish()
        self.patch(os, "fdatasync", failing)
        self.work()
        self.successResultOf(finished)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        (piece,) = self.catalog.get_pieces(KIND, TASK_ID)
        self.assertEqual(piece.damage, "cannot be brought to the disk: Input/output error")

    def test_storage_fails(self) -> None:
        """Where the storage is closed meanwhile, the pieces stay marked, and the end comes anyway."""
        self.add(0)
        finished = self.syncing.finish()
        self.catalog.close()
        self.work()
        self.successResultOf(finished)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.catalog.open()
        self.assertEqual(self.unsynced(), [0])
