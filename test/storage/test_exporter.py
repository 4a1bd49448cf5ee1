"""Tests of tasks that become files again."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.errors import (
    NotStored,
    OutputError,
    OutputExists,
    PieceDamaged,
    StorageFailure,
    TaskDigestMismatch,
)
from dragonfly_vortex.geometry import Progress
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.exporter import Way, export_task, link_task
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind
from test.mounts import run_with_mounts
from test.storage.contents import content_of

MIB = 1 << 20

#: Exports on a file system of that kind, and counts the blocks that it takes.
ON_FILE_SYSTEM = """
from dragonfly_vortex.storage.exporter import export_task
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind
image, place, kind = Path(sys.argv[1]), Path("/mnt"), sys.argv[2]
with image.open("wb") as file:
    file.truncate(400 << 20)
subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
subprocess.run(["mount", "-o", "loop", image, place], check=True)
content = os.urandom(20_000_001)
(place / "source").write_bytes(content)
task = import_file(place / "source", place / "data", PieceKind.STANDARD)
os.sync()
free = os.statvfs(place).f_bfree
exported = export_task(place / "data", task.kind, task.task_id, place / "out")
os.sync()
used = (free - os.statvfs(place).f_bfree) * os.statvfs(place).f_frsize
print(exported.way.name, used < 2_000_000, (place / "out").read_bytes() == content)
with (place / "out").open("r+b") as file:
    file.write(b"changed")
print(export_task(place / "data", task.kind, task.task_id, place / "again").way.name)
"""


class _Exports(SynchronousTestCase):
    """A storage and a target."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.outputs = Path(self.mktemp())
        self.outputs.mkdir()
        self.target = self.outputs / "target"

    def put(self, content: bytes, piece_length: int = 1000) -> StoredTask:
        """Import that content."""
        source = Path(self.mktemp())
        source.write_bytes(content)
        return import_file(source, self.directory, PieceKind.CACHE, piece_length)

    def export(self, task: StoredTask, overwrite: bool = False) -> None:
        """Export a task to the target."""
        export_task(self.directory, task.kind, task.task_id, self.target, overwrite)

    def stored_at(self, task: StoredTask) -> Path:
        """Where the task's content is."""
        return Content(self.directory).path(task.kind, task.task_id)

    def damage(self, task: StoredTask) -> list[str]:
        """The marks of the task's pieces."""
        with Catalog(self.directory) as catalog:
            return [piece.damage for piece in catalog.get_pieces(task.kind, task.task_id)]


class ExportTests(_Exports):
    """A task, a target, and what is between them."""

    def test_takes_nothing(self) -> None:
        """A target that takes nothing and says nothing is an error, and no endless loop."""
        task = self.put(content_of(2500))
        calls: list[int] = []

        def take_nothing(descriptor: int, data: memoryview) -> int:
            calls.append(descriptor)
            if len(calls) > 1:
                self.fail("the same bytes are written again and again")
            return 0

        self.patch(os, "write", take_nothing)
        with self.assertRaisesRegex(OutputError, "none were taken"):
            export_task(self.directory, task.kind, task.task_id, 1)

    def test_sizes(self) -> None:
        """What is exported is what was imported, whatever its size, and the storage keeps it."""
        for length in (0, 1, 1000, 3000, 3001, MIB + 1):
            content = content_of(length)
            task = self.put(content)
            self.export(task, overwrite=True)
            self.assertEqual(self.target.read_bytes(), content)
            self.assertEqual(self.stored_at(task).read_bytes(), content)
        self.assertEqual(os.listdir(self.outputs), ["target"])

    def test_long_pieces(self) -> None:
        """A piece may be longer than what is read at a time."""
        content = content_of(5 * MIB)
        self.export(self.put(content, 2 * MIB + 1))
        self.assertEqual(self.target.read_bytes(), content)

    def test_progress(self) -> None:
        """Progress begins with nothing, goes in steps, and ends with everything."""
        task = self.put(content_of(2500))
        told: list[Progress] = []
        export_task(self.directory, task.kind, task.task_id, self.target, progress=told.append)
        self.assertEqual(told[0], Progress(0, 2500, 0, 3))
        self.assertEqual(told[-1], Progress(2500, 2500, 3, 3))
        self.assertEqual(told, sorted(told))
        self.assertIn(Progress(1000, 2500, 0, 3), told)

    def test_existing(self) -> None:
        """An existing file is replaced only when that is allowed."""
        self.target.write_bytes(b"old")
        task = self.put(b"new")
        with self.assertRaisesRegex(OutputError, "cannot write .*target: expected no file there"):
            self.export(task)
        self.assertEqual(self.target.read_bytes(), b"old")
        self.export(task, overwrite=True)
        self.assertEqual(self.target.read_bytes(), b"new")

    def test_nowhere(self) -> None:
        """A target that cannot be written is no failure of the storage."""
        task = self.put(b"new")
        for target in (self.outputs / "no" / "target", self.outputs):
            with self.assertRaisesRegex(OutputError, f"cannot write {target}: "):
                export_task(self.directory, task.kind, task.task_id, target, overwrite=True)

    def test_not_stored(self) -> None:
        """A task that is not there, or not of that kind, is said to be so."""
        task = self.put(b"new")
        for kind, task_id in ((PieceKind.STANDARD, task.task_id), (task.kind, "../x")):
            with self.assertRaises(NotStored):
                export_task(self.directory, kind, task_id, self.target)
        self.assertEqual(os.listdir(self.outputs), [])

    def test_not_finished(self) -> None:
        """A task that is being downloaded is not exported, even if all of its pieces may be there."""
        task = self.put(content_of(2500))
        with Catalog(self.directory) as catalog:
            catalog.commit_pieces(replace(task, content_length=None), [])
        with self.assertRaisesRegex(NotStored, "expected all of it, got what has been downloaded so far"):
            self.export(task)
        self.assertEqual(os.listdir(self.outputs), [])

    def test_incomplete(self) -> None:
        """A task of which a piece is missing is not exported."""
        task = self.put(content_of(3000))
        with Catalog(self.directory) as catalog:
            pieces = catalog.get_pieces(task.kind, task.task_id)
            catalog.put_task(task, [piece.metadata for piece in pieces[:2]])
        with self.assertRaisesRegex(NotStored, "expected 3 pieces, got 2"):
            self.export(task)

    def test_damaged(self) -> None:
        """Wrong bytes, missing ones and a missing file are found, marked, found by their mark, and never exported."""

        def flip(path: Path) -> None:
            with open(path, "r+b") as file:
                file.seek(1500)
                file.write(b"????")

        def cut(path: Path) -> None:
            os.truncate(path, 1500)

        for change, number, message in (
            (flip, 1, "expected the digest crc32:[0-9]+, got crc32:[0-9]+"),
            (cut, 1, "expected 1000 bytes at 1000, got 500"),
            (os.unlink, 0, "expected a file, got none"),
        ):
            task = self.put(content_of(3000))
            change(self.stored_at(task))
            for _ in range(2):
                with self.assertRaisesRegex(PieceDamaged, f"piece {task.task_id}-{number}: {message}"):
                    self.export(task)
            damage = self.damage(task)
            self.assertRegex(damage.pop(number), message)
            self.assertEqual(damage, ["", ""])
            self.assertEqual(os.listdir(self.outputs), [])

    def test_marked(self) -> None:
        """A piece with a mark is not exported, whatever its bytes are."""
        task = self.put(content_of(3000))
        with Catalog(self.directory) as catalog:
            catalog.mark_damaged(task.kind, task.task_id, 2, "found short")
        with self.assertRaisesRegex(PieceDamaged, f"piece {task.task_id}-2: found short"):
            self.export(task)

    def test_other_content(self) -> None:
        """Sound pieces that do not have the digest of the whole are not exported; without one their own decide."""
        task = self.put(content_of(3000))
        with Catalog(self.directory) as catalog:
            pieces = [piece.metadata for piece in catalog.get_pieces(task.kind, task.task_id)]
            for task_id, digest in (("f" * 64, "sha512:" + "0" * 128), ("e" * 64, "")):
                other = replace(task, task_id=task_id, digest=digest)
                catalog.put_task(other, pieces)
                path = self.stored_at(other)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.stored_at(task), path)
        with self.assertRaisesRegex(TaskDigestMismatch, f"task {'f' * 64}: expected .* sha512:0.*, got .* sha512:"):
            export_task(self.directory, task.kind, "f" * 64, self.target)
        self.assertEqual(os.listdir(self.outputs), [])
        export_task(self.directory, task.kind, "e" * 64, self.target)
        self.assertEqual(self.target.read_bytes(), content_of(3000))

    def test_failure(self) -> None:
        """A content that cannot be opened is a failure of the storage, and no damage."""
        task = self.put(b"new")
        self.stored_at(task).unlink()
        self.stored_at(task).symlink_to(self.stored_at(task).absolute())
        with self.assertRaisesRegex(StorageFailure, "cannot export task .*: .*symbolic links"):
            self.export(task)
        self.assertEqual(self.damage(task), [""])


class WayTests(_Exports):
    """The ways in which a file gets its content. All other tests take the best one here."""

    def refuse(self, number: int | None) -> Callable[..., int]:
        """A system call that fails with that error; None: that does nothing."""

        def call(*arguments: object) -> int:
            if number is None:
                return 0
            raise OSError(number, os.strerror(number))

        return call

    def way_of(self, task: StoredTask) -> Way:
        """Export a task, and give the way."""
        return export_task(self.directory, task.kind, task.task_id, self.target, overwrite=True).way

    def test_fallback(self) -> None:
        """Where the file system or the kernel refuses a call, the next way is taken, and the file is right."""
        content = content_of(3 * MIB)
        task = self.put(content, MIB + 1)
        for number in (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.ENOTTY):
            self.patch(fcntl, "ioctl", self.refuse(number))
            self.assertIs(self.way_of(task), Way.COPY_FILE_RANGE)
            self.assertEqual(self.target.read_bytes(), content)
        for answer in (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS, errno.EPERM, None):
            self.patch(os, "copy_file_range", self.refuse(answer))
            self.assertIs(self.way_of(task), Way.COPY)
            self.assertEqual(self.target.read_bytes(), content)

    def test_refused_later(self) -> None:
        """A kernel that copies a part only, and then no more, does not make a wrong file."""
        content = content_of(3 * MIB)
        task = self.put(content, MIB + 1)
        copy, lengths = os.copy_file_range, [1000, 2000, 0]

        def copy_little(source: int, output: int, length: int, at: int, to: int) -> int:
            return copy(source, output, min(length, lengths.pop(0)), at, to)

        self.patch(fcntl, "ioctl", self.refuse(errno.ENOTTY))
        self.patch(os, "copy_file_range", copy_little)
        self.assertIs(self.way_of(task), Way.COPY)
        self.assertEqual(lengths, [])
        self.assertTrue(self.target.read_bytes() == content)

    def test_no_room(self) -> None:
        """A full disk is an error of the output, whichever call reports it."""
        task = self.put(content_of(2500))
        full = self.refuse(errno.ENOSPC)
        for name in ("copy_file_range", "pwrite"):
            self.patch(os, name, full)
        self.patch(fcntl, "ioctl", full)
        with self.assertRaisesRegex(OutputError, "No space left"):
            self.export(task)
        self.assertEqual(os.listdir(self.outputs), [])

    def test_hard_link(self) -> None:
        """A hard link is the task's file, made once its content is verified; a pipe cannot be one."""
        task = self.put(content_of(2500))
        way = export_task(self.directory, task.kind, task.task_id, self.target, must_link=True).way
        self.assertIs(way, Way.HARD_LINK)
        self.assertTrue(os.path.samefile(self.target, self.stored_at(task)))
        with self.assertRaises(OutputExists):
            export_task(self.directory, task.kind, task.task_id, self.target, must_link=True)
        with self.assertRaisesRegex(OutputError, "expected a file to link, got a pipe"):
            export_task(self.directory, task.kind, task.task_id, 1, must_link=True)
        self.target.unlink()
        with self.stored_at(task).open("r+b") as file:
            file.write(b"damage")
        with self.assertRaises(PieceDamaged):
            export_task(self.directory, task.kind, task.task_id, self.target, must_link=True)
        self.assertEqual(os.listdir(self.outputs), [])

    def test_digest(self) -> None:
        """A digest that the caller names is verified beside the storage's own."""
        task = self.put(b"123456789")
        for digest, is_right in (("crc32:3421780262", True), ("crc32:1", False)):
            try:
                export_task(self.directory, task.kind, task.task_id, self.target, digest=digest)
            except TaskDigestMismatch as error:
                self.assertIn("expected a content with the digest crc32:1, got", str(error))
            self.assertEqual(self.target.exists(), is_right)
            self.target.unlink(missing_ok=True)

    def on_file_system(self, kind: str) -> None:
        """Assert that a file system of that kind makes a reflink, which takes no room and is a file of its own."""
        if shutil.which(f"mkfs.{kind}") is None:
            raise SkipTest(f"no mkfs.{kind} here")
        image = Path(self.mktemp()).absolute()
        try:
            lines = run_with_mounts(ON_FILE_SYSTEM, image, kind)
        except RuntimeError as error:
            if "mount" not in str(error):
                raise
            raise SkipTest(f"no {kind} can be mounted here") from error
        finally:
            image.unlink(missing_ok=True)
        self.assertEqual(lines, ["REFLINK True True", "REFLINK"])

    def test_xfs(self) -> None:
        """XFS makes a reflink."""
        self.on_file_system("xfs")

    def test_btrfs(self) -> None:
        """Btrfs makes a reflink."""
        self.on_file_system("btrfs")


class LinkTests(SynchronousTestCase):
    """A storage with one task."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.directory.joinpath("file").write_bytes(b"content")
        self.storage = self.directory / "storage"
        self.task_id = import_file(self.directory / "file", self.storage, PieceKind.STANDARD).task_id
        self.target = self.directory / "output"

    def link(self, *, overwrite: bool = False) -> None:
        """Link the task to the target."""
        link_task(self.storage, PieceKind.STANDARD, self.task_id, self.target, overwrite=overwrite)

    def assert_linked(self) -> None:
        """Assert that the target is the task's file, and that no other name was left."""
        self.assertEqual((self.target.read_bytes(), self.target.stat().st_nlink), (b"content", 2))
        self.assertEqual(sorted(os.listdir(self.directory)), ["file", "output", "storage"])

    def test_link(self) -> None:
        """The target is the task's file; linked again it stays so."""
        self.link()
        self.assert_linked()
        self.link()
        self.link(overwrite=True)
        self.assert_linked()

    def test_something_there(self) -> None:
        """A file at the target is replaced only if it may be, a directory never is."""
        self.target.write_text("mine")
        self.assertRaises(OutputExists, self.link)
        self.assertEqual(self.target.read_text(), "mine")
        self.link(overwrite=True)
        self.assert_linked()
        self.target.unlink()
        self.target.mkdir()
        self.assertRaises(OutputExists, lambda: self.link(overwrite=True))

    def test_impossible(self) -> None:
        """A directory that is not there, and another file system, cannot be linked into."""
        self.target = self.directory / "missing" / "output"
        self.assertRaises(OutputError, self.link)
        self.target = Path("/proc/output")
        self.assertRaises(OutputError, lambda: self.link(overwrite=True))
