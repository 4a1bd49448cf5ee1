"""Tests of tasks that leave the storage."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.wire import PieceKind
from test.mounts import run_with_mounts
from test.storage.contents import files_in

_FULL = """
from dragonfly_vortex.storage.disk import drop_ballast
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.wire import PieceKind

disk = Path(sys.argv[1])
small_disk(disk, 4 << 20)
storage, file = disk / "storage", disk / "file"
tasks = []
for length in (100, 100, 100, 1_000_000):
    file.write_bytes(os.urandom(length))
    tasks.append(import_file(file, storage, PieceKind.STANDARD).task_id)
file.unlink()
peer = Catalog(storage, Access.SERVE)
for is_beside, task_id in zip((True, False, False, True), tasks):
    if task_id is tasks[-1]:
        drop_ballast(storage)
    if is_beside:
        peer.open()
    fill(disk)
    if not is_beside:
        peer.open()
        print(peer.read_only)
        peer.close()
    with Catalog(storage, Access.READ) as catalog:
        print(len(catalog.list_tasks()))
    remove_task(storage, PieceKind.STANDARD, task_id)
    peer.close()
    (disk / "fill").unlink()
with Catalog(storage) as catalog:
    print(len(catalog.list_tasks()))
print([path for path in (storage / "content").rglob("*") if path.is_file()])
"""


class RemoveTests(SynchronousTestCase):
    """One task of two."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"content")

    def put(self, kind: PieceKind = PieceKind.STANDARD, link: bool = False) -> StoredTask:
        """Import the file."""
        return import_file(self.path, self.directory, kind, link=link)

    def tasks(self) -> list[StoredTask]:
        """What the catalog has."""
        with Catalog(self.directory) as catalog:
            return catalog.list_tasks()

    def test_removed(self) -> None:
        """Rows and file are gone, and another task stays; a process that has the file open keeps it."""
        task = self.put()
        self.path.write_bytes(b"other content")
        other = self.put(PieceKind.CACHE)
        with open(Content(self.directory).path(task.kind, task.task_id), "rb") as reader:
            remove_task(self.directory, task.kind, task.task_id)
            self.assertEqual(reader.read(), b"content")
        self.assertEqual(self.tasks(), [other])
        self.assertEqual(files_in(self.directory), [f"cache-tasks/{other.task_id[:3]}/{other.task_id}"])

    def test_linked(self) -> None:
        """The file that was linked stays where the user has it."""
        task = self.put(link=True)
        remove_task(self.directory, task.kind, task.task_id)
        self.assertEqual(self.path.read_bytes(), b"content")
        self.assertEqual(files_in(self.directory), [])

    def test_not_there(self) -> None:
        """A task that is not there is said to be so, an impossible one too."""
        task = self.put()
        for kind, task_id in ((PieceKind.CACHE, task.task_id), (task.kind, "../../x"), (task.kind, "abc")):
            with self.assertRaisesRegex(NotStored, "task .* not found"):
                remove_task(self.directory, kind, task_id)
        self.assertEqual(self.tasks(), [task])

    def test_half(self) -> None:
        """Rows without a file and a file without rows, as a killed process leaves them, are removed too."""
        task = self.put()
        Content(self.directory).path(task.kind, task.task_id).unlink()
        remove_task(self.directory, task.kind, task.task_id)
        self.assertEqual(self.tasks(), [])
        self.put()
        with Catalog(self.directory) as catalog:
            catalog.remove_task(task.kind, task.task_id)
        remove_task(self.directory, task.kind, task.task_id)
        self.assertEqual(files_in(self.directory), [])

    def test_full_disk(self) -> None:
        """On a disk without any room tasks are removed, with the catalog open elsewhere and not; a peer only reads."""
        said = run_with_mounts(_FULL, Path(self.mktemp()).absolute())
        full = "No space left on device"
        self.assertEqual(said, ["4", full, "3", full, "2", "1", "0", "[]"])

    def test_rows_first(self) -> None:
        """A file that cannot be removed has no rows any more."""
        task = self.put()
        path = Content(self.directory).path(task.kind, task.task_id)
        path.unlink()
        path.mkdir()
        with self.assertRaisesRegex(StorageFailure, f"cannot remove task {task.task_id}: .*[Dd]irectory"):
            remove_task(self.directory, task.kind, task.task_id)
        self.assertEqual(self.tasks(), [])
