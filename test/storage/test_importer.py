"""Tests of files that become tasks: real files, and real processes that are killed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import InvalidOrigin, StorageError, StorageFailure
from dragonfly_vortex.geometry import Progress
from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.storage.contents import content_of, files_in, wrong_pieces

MIB = 1 << 20

_IMPORTER = """
import pathlib, sys
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.wire import PieceKind

path, directory = map(pathlib.Path, sys.argv[1:3])
print("ready", flush=True)
while True:
    for piece_length in (65536, 100000):
        task = import_file(path, directory, PieceKind.STANDARD, piece_length)
    remove_task(directory, PieceKind.STANDARD, task.task_id)
"""

_ONCE = """
import pathlib, sys
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind

path, directory = map(pathlib.Path, sys.argv[1:3])
sys.stdin.read()
for _ in range(5):
    print(import_file(path, directory, PieceKind.STANDARD, 65536).task_id)
"""

_MEMORY = """
import pathlib, resource, sys
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind

path, small, directory = map(pathlib.Path, sys.argv[1:4])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import_file(small, directory, PieceKind.STANDARD)
before = peak()
import_file(path, directory, PieceKind.STANDARD)
print(peak() - before)
"""


class ImportTests(SynchronousTestCase):
    """One file, one process."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = Path(self.mktemp())

    def write(self, length: int, seed: int = 0) -> bytes:
        """Make the file that is to be imported."""
        content = content_of(length, seed)
        self.path.write_bytes(content)
        return content

    def import_it(self, piece_length: int | None = None, link: bool = False) -> StoredTask:
        """Import the file."""
        return import_file(self.path, self.directory, PieceKind.STANDARD, piece_length, link)

    def stored_at(self, task: StoredTask) -> Path:
        """Where the task's content is."""
        return Content(self.directory).path(task.kind, task.task_id)

    def pieces(self, task: StoredTask) -> list[PieceMetadata]:
        """The task's rows; none of them has a mark."""
        with Catalog(self.directory) as catalog:
            pieces = catalog.get_pieces(task.kind, task.task_id)
        self.assertEqual([piece.damage for piece in pieces], [""] * len(pieces))
        return [piece.metadata for piece in pieces]

    def test_ids(self) -> None:
        """The ID is the one that is given, or follows from the origin; the digest is the content's in any case."""
        self.path.write_bytes(b"This is a test file")
        url, file = (
            Origin(url="https://example.com", tag="foo"),
            Origin(tag="tag1", application="app1", piece_length=1024),
        )
        for kind, task_id, origin, expected in (
            (PieceKind.STANDARD, "an-id", None, "an-id"),
            (PieceKind.STANDARD, "another-id", url, "another-id"),
            (PieceKind.STANDARD, "", url, "3c3f230ef9f191dd2821510346a7bc138e4894bee9aee184ba250a3040701d2a"),
            (
                PieceKind.PERSISTENT_CACHE,
                "",
                file,
                "7160a071a9acea5ac341e770c14d0211c38a4b15b3bbe2c5f848a706fd47419e",
            ),
        ):
            task = import_file(self.path, self.directory, kind, task_id=task_id, origin=origin)
            self.assertEqual(task.task_id, expected)
            self.assertEqual(self.stored_at(task).read_bytes(), b"This is a test file")
            with Catalog(self.directory) as catalog:
                self.assertEqual(catalog.get_task(kind, expected), task)
            self.assertEqual(task.origin, origin)
            self.assertEqual(task.digest, f"sha256:{hashlib.sha256(b'This is a test file').hexdigest()}")

    def test_another_kind(self) -> None:
        """A task that is there in another kind is refused, with that kind's name, and its file stays alone."""
        self.write(1000)
        task = self.import_it()
        for task_id in ("", task.task_id):
            with self.assertRaisesRegex(StorageError, "in no other kind than cache, the storage has it as standard"):
                import_file(self.path, self.directory, PieceKind.CACHE, task_id=task_id)
        self.assertEqual(len(files_in(self.directory)), 1)

    def test_wrong_ids(self) -> None:
        """An ID that no task can have, and an origin that gives none, are refused before the file is read."""
        with self.assertRaisesRegex(StorageError, "expected a task ID of"):
            import_file(self.path, self.directory, PieceKind.STANDARD, task_id="../x")
        self.assertRaises(
            InvalidOrigin, import_file, self.path, self.directory, PieceKind.STANDARD, origin=Origin(tag="t")
        )
        self.assertFalse(self.directory.exists())

    def test_sizes(self) -> None:
        """Nothing, a byte, less than a piece, exactly one, exactly several and one byte more are tasks like others."""
        for length in (0, 1, 999, 1000, 1001, 3000, 3001, MIB + 1):
            content = self.write(length)
            before = int(time.time())
            task = self.import_it(piece_length=1000)
            self.assertEqual(task.task_id, hashlib.sha256(content).hexdigest())
            self.assertEqual((task.content_length, task.piece_length), (length, 1000))
            self.assertTrue(before <= task.created_at <= time.time())
            self.assertEqual(self.stored_at(task).read_bytes(), content)
            self.assertEqual(
                self.pieces(task),
                [
                    PieceMetadata(
                        number=number,
                        offset=offset,
                        length=len(content[offset : offset + 1000]),
                        digest=f"crc32:{zlib.crc32(content[offset : offset + 1000])}",
                        parent_id="",
                        traffic_type=1,
                        cost=0,
                        created_at=task.created_at,
                    )
                    for number, offset in enumerate(range(0, max(length, 1), 1000))
                ],
            )
            with Catalog(self.directory) as catalog:
                self.assertEqual(catalog.get_task(task.kind, task.task_id), task)

    def test_nothing(self) -> None:
        """An empty file is one piece of no bytes."""
        self.write(0)
        (piece,) = self.pieces(self.import_it())
        self.assertEqual((piece.number, piece.length, piece.digest), (0, 0, "crc32:0"))

    def test_piece_lengths(self) -> None:
        """The piece length is Dragonfly's, or the one that is given, down to a byte and up beyond a block."""
        content = self.write(2 * MIB + 3)
        self.assertEqual(self.import_it().piece_length, 4 * MIB)
        for piece_length in (MIB + 7, 2 * MIB + 3, 700):
            self.assertEqual(self.import_it(piece_length).piece_length, piece_length)
            self.assertEqual(wrong_pieces(self.directory), [])
        content = self.write(3)
        digests = [piece.digest for piece in self.pieces(self.import_it(1))]
        self.assertEqual(digests, [f"crc32:{zlib.crc32(bytes([byte]))}" for byte in content])

    def test_piece_length_refused(self) -> None:
        """A piece length that cannot be is an error, before anything is written."""
        self.write(10)
        for piece_length in (0, -1, (1 << 30) + 1):
            with self.assertRaisesRegex(StorageError, f"of 1 to 1073741824 bytes, got {piece_length}"):
                self.import_it(piece_length)
        self.assertFalse(self.directory.exists())

    def test_kinds(self) -> None:
        """A file can be a task of any kind."""
        for seed, kind in enumerate(PieceKind):
            self.write(10, seed)
            self.assertEqual(import_file(self.path, self.directory, kind).kind, kind)
        self.assertEqual(len(files_in(self.directory)), 4)

    def test_again(self) -> None:
        """Another import of the file replaces its rows, with the same or another piece length, and leaves one file."""
        self.write(3000)
        for piece_length, count in ((1000, 3), (1000, 3), (600, 5), (1000, 3)):
            task = self.import_it(piece_length)
            self.assertEqual(len(self.pieces(task)), count)
            self.assertEqual(files_in(self.directory), [f"tasks/{task.task_id[:3]}/{task.task_id}"])

    def test_heals(self) -> None:
        """A damaged piece is sound again after another import, and a transfer of the old file keeps that."""
        content = self.write(3000)
        task = self.import_it(1000)
        os.truncate(self.stored_at(task), 1500)
        with Catalog(self.directory) as catalog:
            catalog.mark_damaged(task.kind, task.task_id, 1, "short")
        with open(self.stored_at(task), "rb") as reader:
            self.assertEqual(self.pieces(self.import_it(1000))[1].number, 1)
            self.assertEqual(len(reader.read()), 1500)
        self.assertEqual(self.stored_at(task).read_bytes(), content)

    def test_progress(self) -> None:
        """Progress begins with nothing, goes in steps of at most 1 MiB, and ends with everything."""
        self.write(2 * MIB + 3)
        told: list[Progress] = []
        import_file(self.path, self.directory, PieceKind.STANDARD, MIB, progress=told.append)
        self.assertEqual(
            told,
            [
                Progress(done, 2 * MIB + 3, pieces, 3)
                for done, pieces in ((0, 0), (MIB, 1), (2 * MIB, 2), (2 * MIB + 3, 2), (2 * MIB + 3, 3))
            ],
        )

    def test_changed(self) -> None:
        """A file that grows, shrinks or is written to while it is read is an error, and no task."""

        def grow(progress: Progress) -> None:
            with open(self.path, "ab") as file:
                file.write(bytes(MIB))

        def shrink(progress: Progress) -> None:
            os.truncate(self.path, MIB)

        def rewrite(progress: Progress) -> None:
            os.utime(self.path, ns=(0, progress.content_done))

        for change in (grow, shrink, rewrite):
            self.write(2 * MIB)
            with self.assertRaisesRegex(StorageError, "it changed while it was read: expected 2097152 bytes"):
                import_file(self.path, self.directory, PieceKind.STANDARD, progress=change)
        with Catalog(self.directory) as catalog:
            self.assertEqual(catalog.list_tasks(), [])
        self.assertEqual(files_in(self.directory), [])

    def test_no_file(self) -> None:
        """What is no regular file is refused, without waiting for it."""
        pipe = Path(self.mktemp())
        os.mkfifo(pipe)
        for path, message in (
            (pipe, "expected a regular file"),
            (Path("/dev/zero"), "expected a regular file"),
            (Path(), "expected a regular file"),
            (self.path, "No such file or directory"),
        ):
            with self.assertRaisesRegex(StorageError, f"cannot import {path}: {message}") as caught:
                import_file(path, self.directory, PieceKind.STANDARD)
            self.assertNotIsInstance(caught.exception, StorageFailure)

    def test_full_disk(self) -> None:
        """A copy that cannot be written to its end is a failure, and leaves nothing behind."""
        self.write(2 * MIB)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + 1, limits[1]))
        try:
            with self.assertRaisesRegex(StorageFailure, "cannot import .*: .*File too large"):
                self.import_it()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(files_in(self.directory), [])

    def test_takes_nothing(self) -> None:
        """A file of the storage that takes nothing and says nothing is an error, and no endless loop."""
        self.write(2500)
        calls: list[int] = []

        def take_nothing(descriptor: int, data: memoryview) -> int:
            calls.append(descriptor)
            if len(calls) > 1:
                self.fail("the same bytes are written again and again")
            return 0

        self.patch(os, "write", take_nothing)
        error = self.assertRaises(StorageFailure, self.import_it)
        self.assertIn("none were taken", str(error))

    def test_storage_first(self) -> None:
        """A storage that cannot be used is seen before the file is read."""
        self.write(10)
        self.directory.touch()
        told: list[Progress] = []
        with self.assertRaises(StorageFailure):
            import_file(self.path, self.directory, PieceKind.STANDARD, progress=told.append)
        self.assertEqual(told, [])

    def test_bytes_before_row(self) -> None:
        """The content has its place, and both it and its name are on the disk, before the row is committed."""
        self.write(10)
        steps: list[str] = []
        for name in ("fdatasync", "replace", "fsync"):
            self.note(os, name, steps)
        self.note(Catalog, "put_task", steps)
        for link in (False, True):
            self.import_it(link=link)
            order = [step for step in dict.fromkeys(reversed(steps[:-1]))]
            self.assertEqual(steps[-1], "put_task")
            self.assertEqual(order, ["fsync", "replace", "fdatasync"])
            steps.clear()

    def note(self, where: object, name: str, steps: list[str]) -> None:
        """Write down each call of a function, and call it."""
        function = getattr(where, name)

        def noting(*arguments: object) -> object:
            steps.append(name)
            return function(*arguments)

        self.patch(where, name, noting)


@skipUnless(os.geteuid() == 0, "only root can give a file to another user")
class OwnerTests(SynchronousTestCase):
    """Root imports into the storage of another user, with a umask that gives no rights to others."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        os.chown(self.directory, 23456, 34567)
        self.path = Path(self.mktemp())
        self.path.write_bytes(content_of(2500))
        self.addCleanup(os.umask, os.umask(0o077))

    def owners(self) -> set[tuple[int, int]]:
        """The owners and groups of all that is in the storage."""
        there = [path.stat() for path in self.directory.rglob("*")]
        return {(status.st_uid, status.st_gid) for status in there}

    def test_copied(self) -> None:
        """Whatever is made belongs to the storage's owner: content, directories, and the files of the database."""
        with Catalog(self.directory) as catalog:
            import_file(self.path, self.directory, PieceKind.STANDARD)
            self.assertEqual(len(catalog.list_tasks()), 1)
            names = {path.name for path in self.directory.glob("catalog.sqlite3*")}
            self.assertEqual(names, {"catalog.sqlite3", "catalog.sqlite3-wal", "catalog.sqlite3-shm"})
            self.assertEqual(self.owners(), {(23456, 34567)})

    def test_failed(self) -> None:
        """What is left where an import is killed belongs to the storage's owner, too."""

        def stop(progress: Progress) -> None:
            if progress.content_done:
                self.assertEqual(self.owners(), {(23456, 34567)})
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            import_file(self.path, self.directory, PieceKind.STANDARD, progress=stop)

    def test_linked(self) -> None:
        """A linked file keeps its owner, and is refused where the storage's owner may not read it."""
        for mode in (0o600, 0o640):
            self.path.chmod(mode)
            with self.assertRaisesRegex(
                StorageError, r"expected a file that the storage's owner \(user 23456\) may read"
            ):
                import_file(self.path, self.directory, PieceKind.STANDARD, link=True)
        self.path.chmod(0o644)
        import_file(self.path, self.directory, PieceKind.STANDARD, link=True)
        self.assertEqual(self.path.stat().st_uid, 0)


class LinkTests(SynchronousTestCase):
    """Files that are linked instead of copied."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = Path(self.mktemp())
        self.path.write_bytes(content_of(3000))

    def import_it(self, path: Path, link: bool = True) -> Path:
        """Import a file, and give the place of its content."""
        task = import_file(path, self.directory, PieceKind.STANDARD, 1000, link)
        self.assertEqual(wrong_pieces(self.directory), [])
        return Content(self.directory).path(task.kind, task.task_id)

    def test_linked(self) -> None:
        """A linked file is stored as itself, again and again, by another name too; a copy takes its place."""
        symlink = Path(self.mktemp())
        symlink.symlink_to(self.path.absolute())
        for path in (self.path, self.path, symlink):
            stored = self.import_it(path)
            self.assertTrue(os.path.samefile(stored, self.path))
            self.assertFalse(stored.is_symlink())
            self.assertEqual(self.path.stat().st_nlink, 2)
        self.assertFalse(os.path.samefile(self.import_it(self.path, link=False), self.path))
        self.assertEqual(self.path.stat().st_nlink, 1)
        self.assertEqual(len(files_in(self.directory)), 1)

    def test_other_file_system(self) -> None:
        """A file of another file system cannot be linked, and the error says what can be done."""

        def link(source: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        self.patch(os, "link", link)
        with self.assertRaisesRegex(StorageError, "expected one file system, got two; import it without a link"):
            self.import_it(self.path)
        self.assertEqual(files_in(self.directory), [])

    def test_refused(self) -> None:
        """A link that the system refuses is a failure with its reason."""

        def link(source: Path, target: Path) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        self.patch(os, "link", link)
        with self.assertRaisesRegex(StorageFailure, "cannot import .*: .*Operation not permitted"):
            self.import_it(self.path)


class ProcessTests(SynchronousTestCase):
    """Importers that are many, killed, or hungry."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = Path(self.mktemp())
        self.content = content_of(4 * MIB)
        self.path.write_bytes(self.content)

    def start(self, program: str) -> subprocess.Popen[str]:
        """An importer of its own."""
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.path), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_killed(self) -> None:
        """Whenever an importer is killed every row has its bytes, and the next import sweeps up what was left."""
        seed = random.randrange(1 << 32)
        moments = random.Random(seed)
        leftovers = kills = 0
        while kills < 15 or (not leftovers and kills < 500):  # on a busy machine few are in the middle of a copy
            kills += 1
            process = self.start(_IMPORTER)
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise AssertionError("expected an importer")
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 0.1))
            process.kill()
            self.assertEqual(process.wait(), -signal.SIGKILL)
            self.assertEqual(wrong_pieces(self.directory), [], f"seed {seed}")
            leftovers += any("dfvortex-part" in name for name in files_in(self.directory))
        self.assertGreater(leftovers, 0, "expected a kill in the middle of a copy")
        task = import_file(self.path, self.directory, PieceKind.STANDARD)
        self.assertEqual(files_in(self.directory), [f"tasks/{task.task_id[:3]}/{task.task_id}"])
        self.assertEqual(wrong_pieces(self.directory), [])

    def test_at_once(self) -> None:
        """Several processes import the same file at the same time: all succeed, and it is there once."""
        processes = [self.start(_ONCE) for _ in range(4)]
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
                process.stdin = None
        task_id = hashlib.sha256(self.content).hexdigest()
        for process in processes:
            self.assertEqual(process.communicate(), (f"{task_id}\n" * 5, ""))
        self.assertEqual(files_in(self.directory), [f"tasks/{task_id[:3]}/{task_id}"])
        self.assertEqual(wrong_pieces(self.directory), [])

    def test_locked(self) -> None:
        """An importer waits while another process changes what files there are: file and rows change together."""
        with Content(self.directory).lock():
            process = self.start(_IMPORTER)
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise AssertionError("expected an importer")
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.5)
            self.assertTrue(all("dfvortex-part" in name for name in files_in(self.directory)))
            process.kill()

    def test_memory(self) -> None:
        """An import needs as much memory for a long file as for a short one."""
        long = Path(self.mktemp())
        with open(long, "wb") as file:
            file.truncate(64 * MIB)
        result = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(long), str(self.path), str(self.directory)],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertLess(int(result.stdout), 4096)
