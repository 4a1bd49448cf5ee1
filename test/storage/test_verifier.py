"""Tests of reading and judging what is in a storage."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.geometry import Progress
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage import verifier
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.tables import IN_DOUBT
from dragonfly_vortex.storage.verifier import Pace, Verdict, verify_task
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import content_of
from test.transport.cold import is_resident, make_cold

MIB = 1 << 20


class VerifyTests(SynchronousTestCase):
    """A task whose file is changed by the tests."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.content = content_of(2500)
        self.task = self.put(self.content)

    def put(self, content: bytes, piece_length: int = 1000) -> StoredTask:
        """Import that content."""
        source = Path(self.mktemp())
        source.write_bytes(content)
        return import_file(source, self.directory, PieceKind.CACHE, piece_length)

    def path(self, task: StoredTask | None = None) -> Path:
        """Where a task's content is."""
        task = task or self.task
        return Content(self.directory).path(task.kind, task.task_id)

    def rot(self, offset: int) -> None:
        """Change a byte of the task's file."""
        with self.path().open("r+b") as file:
            file.seek(offset)
            file.write(bytes([self.content[offset] ^ 1]))

    def verify(self, task: StoredTask | None = None) -> Verdict:
        """Judge a task."""
        task = task or self.task
        return verify_task(self.directory, task.kind, task.task_id)

    def marks(self) -> list[str]:
        """The marks of the task's pieces."""
        with Catalog(self.directory) as catalog:
            return [piece.damage for piece in catalog.get_pieces(self.task.kind, self.task.task_id)]

    def test_sound(self) -> None:
        """What is as it was is sound, whatever its size, and nothing is marked."""
        for length in (0, 1, 1000, 2500, MIB + 1):
            task = self.put(content_of(length), 1000 if length < MIB else 2 * MIB)
            verdict = self.verify(task)
            self.assertTrue(verdict.is_sound)
            self.assertEqual((verdict.task, verdict.damaged, verdict.mismatch), (task, {}, ""))
        self.assertEqual(self.marks(), ["", "", ""])

    def test_in_doubt(self) -> None:
        """A task in doubt is offered again if it is right, and not if it is wrong, though each piece has its digest."""
        for is_right in (True, False):
            with Catalog(self.directory) as catalog:
                catalog.doubt_task(self.task.kind, self.task.task_id)
            if not is_right:
                self.rot(1500)
                digest = f"crc32:{zlib.crc32(self.path().read_bytes()[1000:2000])}"
                with Catalog(self.directory) as catalog:
                    pieces = [piece.metadata for piece in catalog.get_pieces(self.task.kind, self.task.task_id)]
                    pieces[1] = replace(pieces[1], digest=digest)
                    catalog.put_task(self.task, pieces)
                    catalog.doubt_task(self.task.kind, self.task.task_id)
            verdict = self.verify()
            self.assertEqual((verdict.damaged, verdict.is_sound), ({}, is_right))
            self.assertEqual(self.marks(), ["" if is_right else IN_DOUBT] * 3)

    def test_rotten(self) -> None:
        """A byte that has changed is found, and its piece alone is marked; a second look finds the same."""
        self.rot(1500)
        for _ in range(2):
            verdict = self.verify()
            self.assertEqual(list(verdict.damaged), [1])
            self.assertRegex(verdict.damaged[1], r"^expected the digest crc32:\d+, got crc32:\d+$")
            self.assertFalse(verdict.is_sound)
        self.assertEqual([bool(mark) for mark in self.marks()], [False, True, False])

    def test_short(self) -> None:
        """A file that is cut short has lost the pieces behind its end."""
        os.truncate(self.path(), 1500)
        damaged = self.verify().damaged
        self.assertEqual(damaged, {1: "expected 1000 bytes at 1000, got 500", 2: "expected 500 bytes at 2000, got 0"})
        self.assertEqual(self.marks(), ["", *damaged.values()])

    def test_gone(self) -> None:
        """Without its file a task has no sound piece."""
        self.path().unlink()
        self.assertEqual(self.verify().damaged, dict.fromkeys(range(3), "expected a file, got none"))

    def test_unreadable(self) -> None:
        """A piece that the disk does not give is damaged, and the others are judged."""
        pread = os.pread

        def failing_read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
            if offset == 1000:
                raise OSError(5, "Input/output error")
            data = pread(descriptor, len(buffer), offset)
            buffer[: len(data)] = data
            return len(data)

        self.patch(verifier, "_read_and_forget", failing_read_at)
        self.assertEqual(self.verify().damaged, {1: "cannot be read: Input/output error"})

    def test_whole(self) -> None:
        """A whole that does not have its digest is reported, and no piece is marked; without one, pieces decide."""
        with Catalog(self.directory) as catalog:
            pieces = [piece.metadata for piece in catalog.get_pieces(self.task.kind, self.task.task_id)]
            for task_id, digest in (("f" * 64, "crc32:1"), ("e" * 64, "")):
                task = replace(self.task, task_id=task_id, digest=digest)
                path = self.path(task)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(self.content)
                catalog.put_task(task, pieces)
        verdict = verify_task(self.directory, self.task.kind, "f" * 64)
        self.assertEqual((verdict.is_sound, verdict.damaged), (False, {}))
        got = f"crc32:{zlib.crc32(self.content)}"
        self.assertEqual(verdict.mismatch, f"expected a content with the digest crc32:1, got one with {got}")
        self.assertTrue(verify_task(self.directory, self.task.kind, "e" * 64).is_sound)

    def test_incomplete(self) -> None:
        """What is not there is not damaged: the pieces that are there are judged."""
        with Catalog(self.directory) as catalog:
            pieces = [piece.metadata for piece in catalog.get_pieces(self.task.kind, self.task.task_id)]
            catalog.put_task(self.task, pieces[1:])
        self.assertEqual((self.verify().is_sound, self.verify().piece_count), (True, 2))
        with Catalog(self.directory) as catalog:
            catalog.commit_pieces(replace(self.task, content_length=None), [])
        self.rot(1500)
        self.assertEqual(list(self.verify().damaged), [1])

    def test_not_there(self) -> None:
        """A task that is not there is said to be so."""
        for kind, task_id in ((PieceKind.STANDARD, self.task.task_id), (PieceKind.CACHE, "../x")):
            self.assertRaises(NotStored, verify_task, self.directory, kind, task_id)

    def test_healed_meanwhile(self) -> None:
        """A piece that was damaged when it was read and is sound when it would be marked is not marked."""
        self.rot(1500)

        def heal(progress: Progress) -> None:
            if progress.pieces_done == 2:
                self.put(self.content)

        verdict = verify_task(self.directory, self.task.kind, self.task.task_id, progress=heal)
        self.assertEqual((verdict.damaged, verdict.mismatch), ({}, ""))
        self.assertEqual(self.marks(), ["", "", ""])

    def test_removed_meanwhile(self) -> None:
        """A task that is removed while it is verified is no damage."""

        def remove(progress: Progress) -> None:
            if progress.pieces_done == 1:
                self.path().unlink(missing_ok=True)
                with Catalog(self.directory) as catalog:
                    catalog.remove_task(self.task.kind, self.task.task_id)

        verdict = verify_task(self.directory, self.task.kind, self.task.task_id, progress=remove)
        self.assertTrue(verdict.is_sound)

    def test_progress(self) -> None:
        """Progress begins with nothing, goes in steps, and ends with everything."""
        told: list[Progress] = []
        verify_task(self.directory, self.task.kind, self.task.task_id, progress=told.append)
        self.assertEqual((told[0], told[-1]), (Progress(0, 2500, 0, 3), Progress(2500, 2500, 3, 3)))
        self.assertEqual(told, sorted(told))

    def test_memory(self) -> None:
        """What was not in memory is not afterwards, and what was stays."""
        path = self.path(self.put(content_of(2 * MIB), MIB))
        make_cold(path)
        with path.open("rb") as file:
            os.pread(file.fileno(), 4096, MIB)
            verify_task(self.directory, PieceKind.CACHE, path.name)
            self.assertTrue(is_resident(file.fileno(), MIB))
            self.assertFalse(is_resident(file.fileno(), 0))


class PaceTests(SynchronousTestCase):
    """Reading at a rate."""

    def test_rate(self) -> None:
        """Each step is waited for as long as it may take; time in which nothing was read is not made up for."""
        now = 100.0

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        pace = Pace(1000, clock=lambda: now, sleep=sleep)
        pace.spend(500)
        self.assertEqual(now, 100.5)
        now += 10
        pace.spend(1000)
        self.assertEqual(now, 111.5)

    def test_no_limit(self) -> None:
        """Without a rate nothing is waited for."""
        Pace(None, sleep=self.fail).spend(1 << 40)
