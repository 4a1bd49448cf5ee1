"""Tests of a task's file while it is downloaded: real files, rows and locks."""

from __future__ import annotations

import hashlib
import os
import zlib
from functools import partial
from pathlib import Path
from unittest import skipUnless

from msgspec.structs import replace
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.errors import NotStored, StorageError, StorageFailure, TaskChanged
from dragonfly_vortex.model import Claim, Found, Origin, StoredTask
from dragonfly_vortex.storage import piece_locks
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.claim_records import claims_path
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.directories import make_directory
from dragonfly_vortex.storage.disk import allocate
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.storage.contents import content_of, files_in, wrong_pieces

KIND = PieceKind.STANDARD
CONTENT = content_of(2500)
TASK_ID = hashlib.sha256(CONTENT).hexdigest()
CRC_32 = f"crc32:{zlib.crc32(CONTENT)}"
OURS, THEIRS = Claim(is_ours=True), Claim(is_ours=False)


def metadata_of(number: int, content: bytes = CONTENT) -> PieceMetadata:
    """A piece's row."""
    data = content[number * 1000 : number * 1000 + 1000]
    return PieceMetadata(number=number, offset=number * 1000, length=len(data), digest=f"crc32:{zlib.crc32(data)}")


class WritingTestCase(SynchronousTestCase):
    """A storage, and a task that several downloads have open."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.catalog = Catalog(self.directory)
        self.catalog.open()
        self.addCleanup(self.catalog.close)
        self.path = Content(self.directory).path(KIND, TASK_ID)

    def opened(self, digest: str | None = None, origin: Origin | None = None) -> TaskFile:
        """The task, opened once more."""
        file = TaskFile(self.directory, self.catalog, KIND, TASK_ID, digest, origin)
        self.found = file.open()
        return file

    def put(self, file: TaskFile, *numbers: int, content: bytes = CONTENT, content_length: int | None = None) -> None:
        """Claim pieces, write their bytes, commit them."""
        for number in numbers:
            self.assertEqual(file.claim(number), OURS)
            os.pwrite(file.descriptor, content[number * 1000 : number * 1000 + 1000], number * 1000)
            file.commit([metadata_of(number, content)], 1000, content_length)

    def task(self) -> StoredTask:
        """The task's row."""
        return self.catalog.get_task(KIND, TASK_ID)

    def numbers(self) -> list[int]:
        """The pieces that are offered."""
        return [p.metadata.number for p in self.catalog.get_pieces(KIND, TASK_ID) if not p.damage]

    def import_it(self, *, link: bool = False) -> Path:
        """Import the content; the file it came from."""
        source = Path(self.mktemp())
        source.write_bytes(CONTENT)
        import_file(source, self.directory, KIND, 1000, link=link)
        return source


class LifeTests(WritingTestCase):
    """From nothing to a finished task."""

    def test_whole(self) -> None:
        """Pieces come in any order, each is offered at once; in the end the length is known and the file has it."""
        file = self.opened()
        self.assertEqual(self.found, Found())
        self.assertRaises(NotStored, self.task)
        self.put(file, 1)
        self.assertEqual((self.task().content_length, self.task().piece_length), (None, 1000))
        self.assertEqual(self.path.read_bytes(), bytes(1000) + CONTENT[1000:2000])
        os.pwrite(file.descriptor, b"superfluous", 2600)
        self.put(file, 0, 2)
        self.assertEqual(wrong_pieces(self.directory), [])
        file.publish(2500)
        file.close()
        self.assertEqual((self.task().content_length, self.numbers()), (2500, [0, 1, 2]))
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_resumes(self) -> None:
        """What was there when it was closed is there when it is opened, and is not claimed again."""
        file = self.opened()
        self.put(file, 0, 2, content_length=2500)
        file.close()
        file = self.opened()
        self.assertEqual(self.found, Found(task=self.task(), pieces=[metadata_of(0), metadata_of(2)]))
        self.assertEqual(file.claim(0), Claim(is_ours=False, piece=metadata_of(0)))
        self.put(file, 1)
        file.publish(2500)
        file.close()
        self.assertEqual((self.path.read_bytes(), wrong_pieces(self.directory)), (CONTENT, []))

    def test_id_is_digest(self) -> None:
        """A task whose ID is its SHA-256 has that digest from its first piece on."""
        file = self.opened()
        self.put(file, 0)
        file.close()
        self.assertEqual((self.task().digest, self.task().origin), (f"sha256:{TASK_ID}", None))

    def test_given_digest(self) -> None:
        """A digest that was given is kept once the whole has it; the origin is kept from the first piece on."""
        origin = Origin(url="https://example.com/file", tag="t")
        file = self.opened(CRC_32, origin)
        self.put(file, 0, 1, 2)
        self.assertEqual((self.task().digest, self.task().origin), ("", origin))
        file.publish(2500)
        file.close()
        self.assertEqual((self.task().digest, self.task().origin), (CRC_32, origin))
        self.opened("", Origin()).close()
        self.assertEqual((self.task().digest, self.task().origin), (CRC_32, origin))

    def test_source_version(self) -> None:
        """The version of the source is kept with the pieces, and is found by the next download."""
        file = self.opened()
        self.put(file, 0)
        file.source_version = '"v1"'
        self.put(file, 1)
        file.close()
        self.opened().close()
        self.assertEqual(self.found.task and self.found.task.source_version, '"v1"')

    def test_another_kind(self) -> None:
        """A task that is there in another kind is refused before anything is made, and again when a piece comes."""
        early = TaskFile(self.directory, self.catalog, PieceKind.CACHE, TASK_ID)
        early.open()
        self.addCleanup(early.close)
        self.import_it()
        files = files_in(self.directory)
        with self.assertRaisesRegex(StorageError, "the storage has it as standard"):
            TaskFile(self.directory, self.catalog, PieceKind.PERSISTENT, TASK_ID).open()
        self.assertEqual(files_in(self.directory), files)
        with self.assertRaisesRegex(StorageError, "the storage has it as standard"):
            self.put(early, 0)

    def test_another_digest(self) -> None:
        """A digest that contradicts the one that is kept is refused; one by another algorithm is not."""
        self.import_it()
        with self.assertRaisesRegex(StorageError, "expected the digest sha256:00.*, the storage has it with sha256:"):
            self.opened(f"sha256:{'00' * 32}")
        self.assertEqual(self.numbers(), [0, 1, 2])
        for digest in ("", CRC_32):
            self.opened(digest).close()

    def test_length(self) -> None:
        """The length is written with a piece when this download knows another one than before; it is known again."""
        file, other = self.opened(), self.opened()
        self.addCleanup(file.close)
        self.addCleanup(other.close)
        for writer, number, length, expected in (
            (file, 0, None, None),
            (file, 1, 5000, 5000),
            (other, 2, None, 5000),  # it knows nothing, and says nothing
            (file, 3, None, None),  # it does not know it any more
            (other, 4, 5000, 5000),
        ):
            writer.commit([PieceMetadata(number=number, offset=number * 1000, length=1000, digest="x")], 1000, length)
            self.assertEqual(self.task().content_length, expected)

    def test_dropped_by_another(self) -> None:
        """A task of which another download has dropped a piece, or replaced one, is not finished."""
        file, other = self.opened(), self.opened()
        self.addCleanup(file.close)
        self.addCleanup(other.close)
        self.put(file, 0, 1, 2)
        self.assertEqual(other.claim(1), Claim(is_ours=False, piece=metadata_of(1)))
        other.drop([1])
        self.assertRaisesRegex(TaskChanged, "piece 1: expected .* got none", file.publish, 2500)
        self.put(other, 1, content=CONTENT[::-1])
        self.assertRaisesRegex(TaskChanged, "piece 1: expected .* got another", file.publish, 2500)
        self.assertIsNone(self.task().content_length)

    def test_finished_and_right(self) -> None:
        """No piece is dropped of a task that is whole and right by now; of one that is whole and wrong they are."""
        for content in (CONTENT, CONTENT[:2400] + bytes(100)):
            file, other = self.opened(), self.opened()
            self.put(file, 0, 1, 2, content=content, content_length=2500)
            other.claim(1)
            if content == CONTENT:
                self.assertRaisesRegex(TaskChanged, "it is complete by now", other.drop, [1])
                self.assertEqual((self.task().content_length, self.numbers()), (2500, [0, 1, 2]))
            else:
                other.drop([1])
                self.assertEqual(self.numbers(), [0, 2])
            file.close()
            other.close()
            remove_task(self.directory, KIND, TASK_ID)

    def test_nothing_came(self) -> None:
        """A file without a row is deleted when the last owner closes it."""
        first, second = self.opened(), self.opened()
        first.close()
        self.assertEqual(files_in(self.directory), [str(self.path.relative_to(self.directory / "content"))])
        second.close()
        self.assertEqual(files_in(self.directory), [])

    def test_ids(self) -> None:
        """An ID that could lead elsewhere is refused before anything is made."""
        self.assertRaises(StorageError, TaskFile(self.directory, self.catalog, KIND, "../../x").open)
        self.assertEqual(os.listdir(self.directory.parent), [self.directory.name])

    def test_failure(self) -> None:
        """A storage that cannot be written to is reported as such, and no lock of the task stays open."""
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_bytes(b"in the way")
        opened: list[Path] = []

        def noting(directory: Path) -> None:
            opened.append(directory)
            make_directory(directory)

        self.patch(piece_locks, "make_directory", noting)
        with self.assertRaisesRegex(StorageFailure, f"cannot write task {TASK_ID}"):
            self.opened()
        locks = claims_path(self.directory, KIND, TASK_ID)
        self.assertEqual((opened, locks.exists()), ([locks.parent], False))  # the last owner deletes it


class TogetherTests(WritingTestCase):
    """Two downloads of one task."""

    def test_share(self) -> None:
        """They have one file, even before the first row; each piece is one's, and the other finds it."""
        first, second = self.opened(), self.opened()
        self.assertEqual((first.claim(0), second.claim(0)), (OURS, THEIRS))
        self.put(second, 1)
        os.pwrite(first.descriptor, CONTENT[:1000], 0)
        first.commit([metadata_of(0)], 1000)
        self.assertEqual(second.claim(0).piece, metadata_of(0))
        self.assertEqual(first.claim(1).piece, metadata_of(1))
        self.assertEqual(self.path.read_bytes(), CONTENT[:2000])
        first.close()
        self.put(second, 2)
        second.close()
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_give_up(self) -> None:
        """A claim that is released, or whose owner closes, is the other's."""
        first, second = self.opened(), self.opened()
        self.assertEqual((first.claim(0), first.claim(1), second.claim(0)), (OURS, OURS, THEIRS))
        first.release(0)
        self.assertEqual((second.claim(0), second.claim(1)), (OURS, THEIRS))
        first.close()
        self.assertEqual(second.claim(1), OURS)
        second.close()

    def test_held(self) -> None:
        """While one download holds the task the others claim, commit and drop nothing; later they hear of changes."""
        first, second = self.opened(), self.opened()
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        self.put(first, 0)
        self.put(second, 1)
        self.assertEqual(second.claim(2), OURS)
        os.pwrite(second.descriptor, CONTENT[2000:], 2000)
        self.assertEqual((first.claim(1).piece, first.hold(), first.hold()), (metadata_of(1), True, True))
        self.assertEqual((second.hold(), second.claim(3)), (False, THEIRS))
        self.assertEqual(second.commit([metadata_of(2)], 1000), {2})
        self.assertRaisesRegex(TaskChanged, "tries its parents one by one", second.drop, [1])
        first.drop([1])
        self.put(first, 2)
        first.close()
        self.assertRaisesRegex(TaskChanged, "piece 1: expected the one that was verified, got none", second.hold)

    def test_held_by_a_frozen_one(self) -> None:
        """A frozen process keeps no other from the task, and learns of changes when it runs again."""
        self.patch(piece_locks, "TAKE_OVER_AFTER", 0.0)
        first, second = self.opened(), self.opened()
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        self.put(first, 0, 1)
        self.assertTrue(first.hold())
        self.assertEqual(second.claim(0).piece, metadata_of(0))
        self.assertTrue(second.hold())
        second.drop([0])
        self.assertRaises(TaskChanged, first.hold)

    def test_other_lengths(self) -> None:
        """A piece that is not where the task's pieces are is refused, and so is another piece length."""
        first = self.opened()
        self.put(first, 0)
        with self.assertRaisesRegex(StorageError, "expected pieces of 1000 bytes, got 500"):
            first.commit([replace(metadata_of(1), offset=500, length=500)], 500)
        with self.assertRaisesRegex(StorageError, f"{TASK_ID}-1: expected its place .* got 1000 bytes at 7"):
            first.commit([replace(metadata_of(1), offset=7)], 1000)
        with self.assertRaisesRegex(StorageError, f"{TASK_ID}-3: expected its place in 2500 bytes"):
            first.commit([replace(metadata_of(1), number=3, offset=3000)], 1000, 2500)
        self.assertEqual(self.numbers(), [0])
        first.close()

    def test_replaced(self) -> None:
        """A download whose open file is not the task's any more gets an error, and changes nothing."""
        for replace_it in (self.import_it, lambda: remove_task(self.directory, KIND, TASK_ID)):
            file = self.opened()
            if file.claim(0) == OURS:
                self.put(file, 0)
            replace_it()
            for change in (
                partial(file.claim, 1),
                partial(file.commit, [metadata_of(1)], 1000),
                partial(file.drop, [0]),
                partial(file.publish, 1),
            ):
                with self.assertRaisesRegex(StorageError, "imported anew or removed"):
                    change()
            file.close()
        self.assertEqual((files_in(self.directory), self.catalog.list_tasks()), ([], []))


class DropTests(WritingTestCase):
    """The whole is not what its ID says."""

    def test_all(self) -> None:
        """Without its pieces the task is gone, and may come with another piece length."""
        file = self.opened()
        self.put(file, 0, 1, content=CONTENT[::-1], content_length=2000)
        file.drop([0, 1])
        self.assertRaises(NotStored, self.task)
        file.commit([replace(metadata_of(0), length=500)], 500)
        self.assertEqual(self.task().piece_length, 500)
        file.drop([0])
        file.close()
        self.assertEqual(files_in(self.directory), [])

    def test_some(self) -> None:
        """What is not dropped stays; the length is not known any more; a dropped piece is to be claimed again."""
        file = self.opened()
        self.put(file, 0, 1, content_length=2500)
        file.drop([1])
        self.assertEqual((self.numbers(), self.task().content_length), ([0], None))
        self.assertEqual(file.claim(1), OURS)
        file.close()

    def test_anothers(self) -> None:
        """A row that another has written in place of one that was dropped is not dropped."""
        first, second = self.opened(), self.opened()
        self.put(first, 0, content=CONTENT[::-1])
        second.claim(0)
        first.drop([0])
        self.put(first, 0)
        second.drop([0])
        self.assertEqual(self.numbers(), [0])
        first.close()
        second.close()


class FoundTests(WritingTestCase):
    """What earlier processes have left."""

    def test_killed_before_the_first(self) -> None:
        """A file without a row is not continued: its content is unknown."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"left behind")
        file = self.opened()
        self.assertEqual(self.path.read_bytes(), b"")
        file.close()

    def test_no_file(self) -> None:
        """Rows without a file are deleted."""
        self.import_it()
        self.path.unlink()
        file = self.opened()
        self.assertEqual((self.found, self.catalog.list_tasks()), (Found(), []))
        file.close()

    def test_damaged(self) -> None:
        """A damaged piece is claimed and written again, in place, and its mark is gone with its row."""
        self.import_it()
        self.catalog.mark_damaged(KIND, TASK_ID, 1, "rotten")
        file = self.opened()
        self.assertEqual([piece.number for piece in self.found.pieces], [0, 2])
        inode = os.stat(self.path).st_ino
        self.put(file, 1)
        file.close()
        self.assertEqual((self.numbers(), os.stat(self.path).st_ino), ([0, 1, 2], inode))

    def test_too_short(self) -> None:
        """Pieces that cannot be in the file are marked as damaged, and claimed again."""
        self.import_it()
        os.truncate(self.path, 1500)
        file = self.opened()
        self.assertEqual(([piece.number for piece in self.found.pieces], self.numbers()), ([0], [0]))
        self.put(file, 1, 2)
        file.close()
        self.assertEqual((wrong_pieces(self.directory), self.numbers()), ([], [0, 1, 2]))

    def test_finished(self) -> None:
        """A finished task is found as it is, and nothing of it is written to."""
        self.import_it()
        before = os.stat(self.path)
        file = self.opened()
        self.assertEqual(len(self.found.pieces), 3)
        file.publish(2500)
        file.close()
        self.assertEqual(os.stat(self.path).st_mtime_ns, before.st_mtime_ns)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_room_is_given_back(self) -> None:
        """What was allocated behind the end of a task goes when it is finished."""
        file = self.opened()
        self.put(file, 0, 1, 2)
        try:
            allocate(file.descriptor, 0, 8 << 20)
        except OSError as error:
            raise SkipTest(f"this file system makes no room: {error}") from error
        file.publish(2500)
        file.close()
        self.assertLess(os.stat(self.path).st_blocks * 512, 1 << 20)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_room_is_given_back_unfinished(self) -> None:
        """What was allocated behind the last piece is freed when the last download gives up, and the pieces stay."""
        one, two = self.opened(), self.opened()
        self.put(one, 0, 1)
        try:
            allocate(one.descriptor, 0, 8 << 20)
        except OSError as error:
            raise SkipTest(f"this file system makes no room: {error}") from error
        self.put(two, 2)
        for file in (one, two):
            self.assertGreater(os.stat(self.path).st_blocks * 512, 1 << 20)
            file.close()
        self.assertLess(os.stat(self.path).st_blocks * 512, 1 << 20)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_linked_and_longer(self) -> None:
        """What a user has appended to a file that is linked into the storage is not cut off."""
        source = self.import_it(link=True)
        with source.open("ab") as appended:
            appended.write(b"and more")
        file = self.opened()
        self.assertEqual(len(self.found.pieces), 3)
        file.publish(2500)
        file.close()
        self.assertEqual(source.read_bytes(), CONTENT + b"and more")

    def test_linked(self) -> None:
        """A user's own file is never written to: sound, it is read; damaged, the task begins anew beside it."""
        source = self.import_it(link=True)
        file = self.opened()
        self.assertEqual(len(self.found.pieces), 3)
        with self.assertRaisesRegex(StorageError, "linked into the storage"):
            file.drop([0])
        file.close()
        self.catalog.mark_damaged(KIND, TASK_ID, 1, "rotten")
        file = self.opened()
        self.assertEqual(self.found, Found())
        self.put(file, 0, content=CONTENT[::-1])
        file.close()
        self.assertEqual(source.read_bytes(), CONTENT)

    @skipUnless(os.geteuid() == 0, "only root can give a file to another user")
    def test_owner(self) -> None:
        """What root downloads into the storage of another user belongs to that user: content, directories and locks."""
        for path in (self.directory, *self.directory.iterdir()):
            os.chown(path, 23456, 34567)
        self.addCleanup(os.umask, os.umask(0o077))
        file = self.opened()
        self.put(file, 0)
        there = {path: (path.stat().st_uid, path.stat().st_gid) for path in self.directory.rglob("*")}
        self.assertIn(claims_path(self.directory, KIND, TASK_ID), there)
        self.assertIn(self.path, there)
        self.assertEqual(set(there.values()), {(23456, 34567)})
        file.close()
