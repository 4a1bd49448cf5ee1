"""Tests of where the bytes of tasks lie."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.storage.atomic_file import hidden_path, sweep
from dragonfly_vortex.storage.content import Content, is_task_id
from dragonfly_vortex.wire import PieceKind

TASK = "0123456789abcdef" * 4


class IsTaskIdTests(SynchronousTestCase):
    """Names that are safe, and others."""

    def test_accepted(self) -> None:
        """Digests, and whatever is as harmless."""
        for task_id in (TASK, TASK * 2, "abc", "-._", "A_b-C.d", "x" * 200):
            self.assertTrue(is_task_id(task_id), task_id)

    def test_refused(self) -> None:
        """What could lead elsewhere, hide itself, or is too short or too long."""
        for task_id in (
            "",
            "ab",
            ".",
            "...",
            "../../../etc/passwd",
            "a/b",
            ".hidden",
            "abc\n",
            "abc\0",
            "a b",
            "äöü",
            "x" * 201,
            "\udcff" * 3,
        ):
            self.assertFalse(is_task_id(task_id), task_id)


class ContentTests(SynchronousTestCase):
    """Files of tasks."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.content = Content(self.directory)

    def put(self, data: bytes, kind: PieceKind = PieceKind.STANDARD) -> None:
        """Give the task that content."""
        with self.content.lock(), self.content.stage() as staged:
            os.write(staged.descriptor, data)
            self.content.publish(staged, kind, TASK)

    def read(self, kind: PieceKind = PieceKind.STANDARD) -> bytes:
        """The task's content."""
        with os.fdopen(self.content.open(kind, TASK), "rb") as file:
            return file.read()

    def files(self) -> list[str]:
        """All files of the storage."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())

    def test_nothing_at_first(self) -> None:
        """Nothing is made before it is needed."""
        self.assertFalse(self.directory.exists())

    def test_layout(self) -> None:
        """Every kind has its directory, as in the reference, and a task the first three characters of its ID."""
        for kind in PieceKind:
            self.put(kind.label.encode(), kind)
            self.assertEqual(self.read(kind), kind.label.encode())
        self.assertEqual(
            self.files(),
            [
                f"content/cache-tasks/012/{TASK}",
                f"content/persistent-cache-tasks/012/{TASK}",
                f"content/persistent-tasks/012/{TASK}",
                f"content/tasks/012/{TASK}",
            ],
        )

    def test_unsafe(self) -> None:
        """An ID that is no safe name gets as far as an error that shows it."""
        for task_id in ("../../../../etc/passwd", "..", "a/b/c"):
            with self.assertRaisesRegex(StorageError, "expected a task ID of .*, got '" + task_id):
                self.content.path(PieceKind.STANDARD, task_id)

    def test_replaced(self) -> None:
        """A task's file is replaced, and a process that has the old one open keeps it."""
        self.put(b"old")
        descriptor = self.content.open(PieceKind.STANDARD, TASK)
        self.put(b"new")
        with os.fdopen(descriptor, "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.assertEqual(self.read(), b"new")

    def test_create_over_a_link(self) -> None:
        """A new task's file is a new one, whatever a killed process has left in its place."""
        source = Path(self.mktemp())
        source.write_bytes(b"the user's")
        self.link(source)
        with self.content.lock():
            self.content.create(PieceKind.STANDARD, TASK)
        self.assertEqual(self.read(), b"")
        self.assertEqual(source.read_bytes(), b"the user's")

    def link(self, source: Path, opened: Path | None = None) -> None:
        """Link a file as the task's."""
        with open(opened or source, "rb") as file, self.content.lock():
            self.content.link(source, file.fileno(), PieceKind.STANDARD, TASK)

    def test_link(self) -> None:
        """A linked file is the same file, however often it is linked, and leaves no other name behind."""
        source = Path(self.mktemp())
        source.write_bytes(b"linked")
        self.put(b"old")
        for _ in range(2):
            self.link(source)
            self.assertTrue(os.path.samefile(source, self.content.path(PieceKind.STANDARD, TASK)))
            self.assertEqual(self.files(), [f"content/tasks/012/{TASK}"])
        self.assertEqual(source.stat().st_nlink, 2)

    def test_link_while_swept(self) -> None:
        """A sweep that comes in the middle does not take the link for a dead file."""
        link = os.link

        def link_and_sweep(source: Path, target: Path) -> None:
            link(source, target)
            sweep(self.content.directory, "import")

        source = Path(self.mktemp())
        source.touch()
        self.patch(os, "link", link_and_sweep)
        self.link(source)
        self.assertTrue(os.path.samefile(source, self.content.path(PieceKind.STANDARD, TASK)))

    def test_sweep(self) -> None:
        """What a killed process has staged is deleted, and what is being staged stays; no directory is needed."""
        self.content.sweep()
        self.assertFalse(self.content.directory.exists())
        with self.content.stage() as staged:
            dead = hidden_path(self.content.directory, "import")
            dead.touch()
            self.content.sweep()
            self.assertEqual((dead.exists(), staged.path.exists()), (False, True))

    def test_link_to_another(self) -> None:
        """A name that has become another file's is not linked."""
        source, other = Path(self.mktemp()), Path(self.mktemp())
        source.touch()
        other.touch()
        with self.assertRaisesRegex(StorageError, "to stay the file that was read, got another"):
            self.link(source, opened=other)
        self.assertEqual(self.files(), [])

    def test_remove(self) -> None:
        """A removed file is gone, and its directory with it where nothing else is in there."""
        self.put(b"gone")
        other = TASK.replace("f", "e")
        with self.content.lock():
            self.content.create(PieceKind.STANDARD, other)
            self.assertTrue(self.content.remove(PieceKind.STANDARD, TASK))
            self.assertFalse(self.content.remove(PieceKind.STANDARD, TASK))
            self.assertEqual(self.files(), [f"content/tasks/012/{other}"])
            self.assertTrue(self.content.remove(PieceKind.STANDARD, other))
        self.assertFalse((self.directory / "content/tasks/012").exists())

    def test_no_regular_file(self) -> None:
        """A named pipe in the place of a task's file is refused at once: its other end is not waited for."""
        self.put(b"")
        path = self.content.path(PieceKind.STANDARD, TASK)
        path.unlink()
        os.mkfifo(path)
        for work in (self.content.open, self.content.open_for_writing):
            self.assertRaisesRegex(
                OSError, "expected a regular file, got something else", work, PieceKind.STANDARD, TASK
            )

    def test_written_through_a_link(self) -> None:
        """A symbolic link in the place of a task's file is not written through."""
        self.put(b"")
        path, other = self.content.path(PieceKind.STANDARD, TASK), Path(self.mktemp())
        path.unlink()
        other.write_bytes(b"another's")
        path.symlink_to(other.absolute())
        self.assertRaises(OSError, self.content.open_for_writing, PieceKind.STANDARD, TASK)
        self.assertEqual(other.read_bytes(), b"another's")
