"""Tests of the questions to a catalog, in a real database."""

from __future__ import annotations

from msgspec.structs import replace

from dragonfly_vortex.errors import NotStored, StorageError, TaskChanged
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import put_in_two_kinds
from test.storage.test_catalog import FIRST, LAST, TASK, CatalogCase


class QueryTests(CatalogCase):
    """What the catalog says of tasks and pieces."""

    def test_sums(self) -> None:
        """The tasks with pieces, and the bytes of these, are counted by kind."""
        self.assertEqual(self.catalog.sums(), {})
        other = replace(TASK, task_id="b" * 64)
        self.catalog.put_task(TASK, [LAST, FIRST])
        self.catalog.put_task(other, [FIRST])
        self.catalog.put_task(replace(other, task_id="c" * 64), [])
        self.assertEqual(self.catalog.sums(), {TASK.kind: (2, 2 * FIRST.length + LAST.length)})

    def test_newest_tasks(self) -> None:
        """The newest tasks come first, with the number and the bytes of all."""
        self.assertEqual(self.catalog.newest_tasks(5), ([], 0, 0))
        tasks = [
            replace(TASK, task_id=f"{number:064x}", created_at=TASK.created_at + number, content_length=length)
            for number, length in enumerate((11, None, 20))
        ]
        for task in tasks:
            self.catalog.put_task(task, [])
        self.assertEqual(self.catalog.newest_tasks(2), ([tasks[2], tasks[1]], 3, 31))

    def test_count_pieces(self) -> None:
        """The pieces of a task are counted; a task that is not there has none."""
        self.assertEqual(self.catalog.count_pieces(TASK.kind, TASK.task_id), 0)
        self.catalog.put_task(TASK, [FIRST, LAST])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 0, "zeros")
        self.assertEqual(self.catalog.count_pieces(TASK.kind, TASK.task_id), 2)

    def test_two_kinds(self) -> None:
        """Of an ID that an earlier version has stored in two kinds the oldest is offered."""
        self.catalog.put_task(TASK, [])
        put_in_two_kinds(self.directory, TASK)
        self.catalog.check_offered(TASK.kind, TASK.task_id)
        with self.assertRaisesRegex(NotStored, f"task {TASK.task_id} is offered as standard, not as cache"):
            self.catalog.check_offered(PieceKind.CACHE, TASK.task_id)
        self.catalog.check_offered(PieceKind.PERSISTENT, TASK.task_id)  # it is not there at all

    def test_find_pieces(self) -> None:
        """The rows of a range of numbers are those that are there, damaged ones too, and those of that task alone."""
        self.catalog.put_task(TASK, [FIRST, LAST, replace(LAST, number=31), replace(LAST, number=32)])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 1, "a test")
        for numbers in (range(2), range(1, 32), range(32, 64), range(2, 31)):
            found = self.catalog.find_pieces(TASK.kind, TASK.task_id, numbers)
            self.assertEqual(found, [piece for piece in self.pieces() if piece.metadata.number in numbers])
        for kind, task_id in ((PieceKind.CACHE, TASK.task_id), (TASK.kind, "another"), (TASK.kind, "../etc")):
            self.assertEqual(self.catalog.find_pieces(kind, task_id, range(32)), [])

    def test_lists(self) -> None:
        """All tasks are listed, the oldest first, and those of one ID are found."""
        self.assertEqual(self.catalog.list_tasks(), [])
        older = replace(TASK, task_id="older", kind=PieceKind.PERSISTENT, created_at=-5)
        other = replace(TASK, task_id="abc")
        for task in (TASK, older, other):
            self.catalog.put_task(task, [])
        newer = put_in_two_kinds(self.directory, TASK)
        self.assertEqual(self.catalog.list_tasks(), [older, TASK, other, newer])
        self.assertEqual(self.catalog.find_tasks(TASK.task_id), [newer, TASK])
        self.assertEqual(self.catalog.find_tasks("abcd"), [])
        self.assertEqual(self.catalog.find_tasks("\udcff"), [])

    def test_digests(self) -> None:
        """The digests of the sound pieces are reported, and those of the whole where no piece is missing or damaged."""
        key = (TASK.kind, TASK.task_id)
        self.assertEqual((self.catalog.sound_digests(*key), self.catalog.digests_of_whole(*key)), ({}, None))
        self.catalog.put_task(TASK, [FIRST, LAST])
        both = {0: FIRST.digest, 1: LAST.digest}
        self.assertEqual((self.catalog.sound_digests(*key), self.catalog.digests_of_whole(*key)), (both, both))
        self.catalog.mark_damaged(*key, 1, "a test")
        self.assertEqual(self.catalog.sound_digests(*key), {0: FIRST.digest})
        self.assertIsNone(self.catalog.digests_of_whole(*key))

    def test_checks(self) -> None:
        """Pieces that are gone or others than those that were verified are refused, and so is another digest."""
        key = (TASK.kind, TASK.task_id)
        self.catalog.check_digest(*key, "sha256:aa")
        self.catalog.put_task(replace(TASK, digest="sha256:bb"), [FIRST])
        self.catalog.check_pieces(*key, [0], {0: FIRST.digest})
        for number, digests, got in ((0, {0: "crc32:0"}, "another"), (1, {}, "none")):
            with self.assertRaisesRegex(TaskChanged, f"piece {number}: expected the one that was verified, got {got}"):
                self.catalog.check_pieces(*key, [number], digests)
        for digest in ("sha256:bb", "crc32:0", ""):
            self.catalog.check_digest(*key, digest)
        with self.assertRaisesRegex(StorageError, "expected the digest sha256:aa, the storage has it with sha256:bb"):
            self.catalog.check_digest(*key, "sha256:aa")
