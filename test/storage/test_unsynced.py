"""Pieces that were offered before they were on the disk, after a kill and after the end of the kernel."""

from __future__ import annotations

import errno
import os

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage import tables
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.storage.unsynced import has_unsynced, note_unsynced, settle_unsynced
from test.storage.test_task_file import CONTENT, KIND, OURS, TASK_ID, WritingTestCase, metadata_of


class UnsyncedTests(WritingTestCase):
    """A task of three pieces, of which the first is on the disk, and the others were offered before that."""

    def setUp(self) -> None:
        super().setUp()
        file = self.opened()
        self.addCleanup(file.close)
        self.put(file, 0, content_length=2500)
        for number in (1, 2):
            self.offer(file, number)
        self.file = file

    def offer(self, file: TaskFile, number: int) -> None:
        """Commit a piece that is not on the disk."""
        self.assertEqual(file.claim(number), OURS)
        os.pwrite(file.descriptor, CONTENT[number * 1000 : number * 1000 + 1000], number * 1000)
        file.commit([metadata_of(number)], 1000, 2500, is_synced=False)

    def restart_the_kernel(self) -> None:
        """What follows is another run of the kernel."""
        self.patch(tables, "boot_id", lambda: "another")

    def unsynced(self) -> list[int]:
        """The numbers of the pieces that may not be on the disk."""
        return [piece.metadata.number for piece in self.catalog.unsynced_pieces(KIND, TASK_ID)]

    def note_syncs(self) -> list[tuple[int, list[int]]]:
        """Which file is brought to the disk from now on, by its inode, and the pieces that are offered before that."""
        synced: list[tuple[int, list[int]]] = []
        fdatasync = os.fdatasync

        def noting(descriptor: int) -> None:
            synced.append((os.fstat(descriptor).st_ino, self.numbers()))
            fdatasync(descriptor)

        self.patch(os, "fdatasync", noting)
        return synced

    def test_offered(self) -> None:
        """While the kernel runs all pieces are offered, to any process, and the task can be completed."""
        self.assertEqual(self.numbers(), [0, 1, 2])
        with Catalog(self.directory, Access.READ) as other:
            self.assertEqual([piece.damage for piece in other.get_pieces(KIND, TASK_ID)], ["", "", ""])
        self.file.publish(2500, is_synced=False)
        self.assertEqual(self.task().content_length, 2500)
        self.assertEqual(self.unsynced(), [1, 2])

    def test_synced(self) -> None:
        """Pieces that are on the disk are as all others; one that has another digest by now is not meant."""
        self.file.mark_synced(self.file.descriptor, {1: metadata_of(1).digest, 2: "crc32:0"})
        self.assertEqual(self.unsynced(), [2])
        self.restart_the_kernel()
        self.assertEqual(self.numbers(), [0, 1])

    def test_another_file(self) -> None:
        """What was brought to the disk of a file that is not the task's any more is not meant, either."""
        with open(os.devnull, "rb") as other:
            self.file.mark_synced(other.fileno(), {1: metadata_of(1).digest})
        self.assertEqual(self.unsynced(), [1, 2])

    def test_after_a_kill(self) -> None:
        """What a killed process has left is brought to the disk."""
        synced = self.note_syncs()
        settle_unsynced(self.directory)
        self.assertEqual((self.unsynced(), self.numbers()), ([], [0, 1, 2]))
        self.assertIn((os.stat(self.path).st_ino, [0, 1, 2]), synced)

    def test_after_a_power_cut(self) -> None:
        """A piece that may not be on the disk is offered again when it has been read and is right."""
        os.pwrite(self.file.descriptor, b"\0" * 500, 2000)
        self.restart_the_kernel()
        self.assertEqual(self.numbers(), [0])
        settle_unsynced(self.directory)
        self.assertEqual((self.numbers(), self.unsynced()), ([0, 1], [2]))

    def test_fetched_again(self) -> None:
        """A piece that did not come to the disk is fetched by the next download."""
        self.restart_the_kernel()
        again = self.opened()
        self.addCleanup(again.close)
        self.assertEqual([piece.number for piece in self.found.pieces], [0])
        self.put(again, 1, 2, content_length=2500)
        self.assertEqual((self.numbers(), self.unsynced()), ([0, 1, 2], []))

    def test_in_doubt(self) -> None:
        """A task in doubt is not offered before it has been found to be right and its pieces are on the disk."""
        self.catalog.doubt_task(KIND, TASK_ID)
        synced = self.note_syncs()
        self.file.publish(2500)
        self.assertEqual(synced, [(os.stat(self.path).st_ino, [])])
        self.assertEqual((self.numbers(), self.unsynced()), ([0, 1, 2], []))

    def test_lost(self) -> None:
        """Pieces that the disk does not take are damaged, and say why."""
        self.file.mark_lost(self.file.descriptor, [1, 7], "cannot be brought to the disk: Input/output error")
        (damaged,) = (piece for piece in self.catalog.get_pieces(KIND, TASK_ID) if piece.damage)
        self.assertEqual((damaged.metadata.number, damaged.damage[-18:]), (1, "Input/output error"))

    def test_noted(self) -> None:
        """A download that offers pieces early notes that, and what settles them takes the note away."""
        self.assertFalse(has_unsynced(self.directory))
        file = TaskFile(self.directory, self.catalog, KIND, TASK_ID, sync=False)
        file.open()
        self.addCleanup(file.close)
        self.assertTrue(has_unsynced(self.directory))
        settle_unsynced(self.directory)
        self.assertFalse(has_unsynced(self.directory))

    def test_settling_fails(self) -> None:
        """Where it cannot be done the note stays, for the next start."""
        note_unsynced(self.directory)

        def failing(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.patch(os, "fdatasync", failing)
        self.assertRaises(StorageFailure, settle_unsynced, self.directory)
        self.assertTrue(has_unsynced(self.directory))
        self.assertEqual(self.unsynced(), [1, 2])

    def test_removed(self) -> None:
        """A task whose file has gone is left as it is."""
        os.unlink(self.path)
        settle_unsynced(self.directory)
        self.assertEqual(self.unsynced(), [1, 2])
