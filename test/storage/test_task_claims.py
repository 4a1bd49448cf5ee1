"""Tests of claims that are taken over from a download that does not run: real files, rows and locks."""

from __future__ import annotations

import os

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.storage import piece_locks
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.storage.task_file import TaskFile
from test.storage.test_task_file import CONTENT, KIND, OURS, TASK_ID, WritingTestCase, metadata_of


class TakenOverTests(WritingTestCase):
    """Two downloads of one task, the first of which does not run for a while."""

    def take_over(self) -> tuple[TaskFile, TaskFile]:
        """A download that has lost its first piece, and the one that fetches it now."""
        self.patch(piece_locks, "TAKE_OVER_AFTER", 0.0)
        first, second = self.opened(), self.opened()
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        claim = first.claim(0)
        self.assertTrue(claim.is_held())
        self.assertEqual(second.claim(0), OURS)
        self.assertEqual((claim.is_ours, claim.is_held()), (True, False))
        return first, second

    def test_taken_over(self) -> None:
        """A download that has lost a piece writes no row of it, and finds it once the other one has written one."""
        first, second = self.take_over()
        os.pwrite(first.descriptor, CONTENT[:1000], 0)
        self.put(first, 1)
        self.assertEqual(first.commit([metadata_of(0)], 1000), {0})
        self.assertEqual(self.numbers(), [1])
        self.assertEqual(second.commit([metadata_of(0)], 1000), set())
        self.assertEqual(first.claim(0).piece, metadata_of(0))
        self.assertEqual(self.numbers(), [0, 1])

    def test_late_write(self) -> None:
        """After a piece was lost it is read again: a write that came too late and has changed it is found."""
        for how in ("release", "close"):
            for wrong in (b"", b"wrong"):
                first, second = self.take_over()
                os.pwrite(second.descriptor, CONTENT[:1000], 0)
                second.commit([metadata_of(0)], 1000)
                os.pwrite(first.descriptor, wrong, 500)
                first.release(0) if how == "release" else first.close()
                self.assertEqual(self.numbers(), [] if wrong else [0])
                first.close()
                second.close()
                remove_task(self.directory, KIND, TASK_ID)

    def test_late_write_before_the_row(self) -> None:
        """No row is written of a piece that was changed by the download that has lost it; it is fetched again."""
        first, second = self.take_over()
        os.pwrite(second.descriptor, CONTENT[:1000], 0)
        os.pwrite(first.descriptor, b"wrong", 500)
        first.release(0)
        self.assertEqual(second.commit([metadata_of(0)], 1000), {0})
        self.assertRaises(NotStored, self.numbers)
        self.put(second, 0)
        self.assertEqual(self.numbers(), [0])


class CostTests(WritingTestCase):
    """What a claim costs."""

    def test_own_claim(self) -> None:
        """For a piece its own claim is looked at, however many others there are."""
        file = self.opened()
        self.addCleanup(file.close)
        reads: list[int] = []
        read = os.pread

        def count(descriptor: int, length: int, offset: int) -> bytes:
            """Count a read."""
            reads.append(offset)
            return read(descriptor, length, offset)

        self.patch(os, "pread", count)

        def cost(number: int) -> tuple[int, int]:
            """How often the file of the claims is read for a claim, and for the leave to write its row."""
            reads.clear()
            file.claims.take(number)
            of_claim = len(reads)
            file.claims.may_commit(metadata_of(number), file.descriptor)
            return of_claim, len(reads) - of_claim

        first = cost(0)
        for number in range(1, 50):
            file.claims.take(number)
        self.assertEqual(cost(50), first)
