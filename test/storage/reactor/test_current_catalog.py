"""Tests of a storage that is replaced while it is served, or can only be read."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageError, StorageFailure
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.current_catalog import open_piece
from test.mounts import run_with_mounts
from test.storage.reactor.test_store import CONTENT, KIND, TASK, StoreCase, descriptors, metadata_of, read

_MOUNTED_OVER = """
from twisted.internet.task import react
from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind

async def main(reactor):
    place, other, file = map(Path, sys.argv[1:])
    kind, tasks = PieceKind.STANDARD, []
    for directory, content in ((place, b"in the place"), (other, b"mounted over it")):
        file.write_bytes(content)
        tasks.append(import_file(file, directory, kind).task_id)
    store = PieceStore(place, reactor)
    await store.start()
    unmount = ["umount", "-l", place]
    for change in (lambda: None, lambda: over(place, other), lambda: subprocess.run(unmount, check=True)):
        change()
        for task_id in tasks:
            try:
                piece = await store.open_piece(kind, task_id, 0)
            except NotStored:
                print("none")
            else:
                print(os.pread(piece.range.descriptor, 100, 0).decode())
                os.close(piece.range.descriptor)
        tasks.reverse()
    await store.stop()

react(main)
"""

_READ_ONLY = """
from twisted.internet.task import react
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind

async def main(reactor):
    directory, kind, task_id = Path(sys.argv[1]), PieceKind.STANDARD, sys.argv[2]
    read_only(directory)
    store = PieceStore(directory, reactor)
    await store.start()
    task = await store.get_task(kind, task_id)
    print(task.content_length, "bytes")
    for _ in range(2):
        piece = await store.open_piece(kind, task_id, 2)
    print("piece 2 of", len(os.pread(piece.range.descriptor, piece.range.length, piece.range.offset)), "bytes")
    for change in (
        lambda: store.get_task(kind, "f" * 64),
        lambda: store.mark_damaged(kind, task_id, 0, "a test"),
        lambda: store.write_task(kind, "abc").open(),
    ):
        try:
            await change()
        except StorageError as error:
            reason = ": Read-only file system" * ("Read-only file system" in str(error))
            print(f"{type(error).__name__}{reason}")
    await store.stop()

react(main)
"""


class ReplacedTests(StoreCase):
    """A storage whose directory is replaced while it is served."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not condition():
            await deferLater(IReactorTime(reactor), 0.01)

    async def test_replaced(self) -> None:
        """What is imported into a new storage is there at once, though the old one's pieces were remembered."""
        await self.started
        self.import_it()
        for _ in range(2):
            read(await self.store.open_piece(KIND, TASK.task_id, 0))
        shutil.rmtree(self.directory)
        self.path.write_bytes(CONTENT[::-1])
        other = import_file(self.path, self.directory, KIND, 1000).task_id
        for _ in range(2):
            self.assertEqual(read(await self.store.open_piece(KIND, other, 0)), CONTENT[::-1][:1000])
        with self.assertRaises(NotStored):
            await self.store.open_piece(KIND, TASK.task_id, 0)
        read(self.successResultOf(self.store.open_piece(KIND, other, 1)))  # which is remembered

    async def test_nobody_asks(self) -> None:
        """Without any request, a deleted storage is closed soon, and its subscribers hear of a new one."""
        await self.started
        self.import_it()
        read(await self.store.open_piece(KIND, TASK.task_id, 0))
        told: list[int] = []
        self.addCleanup(self.store.subscribe(lambda: told.append(1)))
        shutil.rmtree(self.directory)
        await self.until(lambda: not descriptors("catalog.sqlite3") and not descriptors())
        self.assertFalse(self.directory.exists())
        told.clear()
        self.import_elsewhere()
        await self.until(lambda: bool(told))
        self.assertEqual((await self.store.get_task(KIND, TASK.task_id)).content_length, 2500)

    async def test_mounted_over(self) -> None:
        """What is mounted over the storage is served at once, and what was below it when that is unmounted."""
        places = [Path(self.mktemp()).absolute() for _ in range(3)]
        said = await deferToThread(run_with_mounts, _MOUNTED_OVER, *places)
        self.assertEqual(said, ["in the place", "none", "mounted over it", "none", "in the place", "none"])

    async def test_unusable(self) -> None:
        """What comes into its place and is no storage is an error for each question, until there is one again."""
        await self.started
        self.import_it()
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        (self.directory / "catalog.sqlite3").write_bytes(b"no database" * 100)
        for _ in range(2):
            with self.assertRaisesRegex(StorageFailure, "not a database"):
                await self.store.get_task(KIND, TASK.task_id)
        (self.directory / "catalog.sqlite3").unlink()
        self.import_it()
        self.assertEqual((await self.store.get_task(KIND, TASK.task_id)).content_length, 2500)

    async def test_while_written(self) -> None:
        """A task that is being written when its storage is deleted cannot be gone on with."""
        await self.started
        writer = self.store.write_task(KIND, TASK.task_id)
        await writer.open()
        self.assertTrue((await writer.claim(0)).is_ours)
        shutil.rmtree(self.directory)
        with self.assertRaises(StorageError):
            await writer.commit(metadata_of(0), 1000, None)
        with contextlib.suppress(StorageError):
            await writer.close()


class ReadOnlyTests(StoreCase):
    """A storage on a read-only file system."""

    async def test_served(self) -> None:
        """Pieces are served, and nothing can be changed, by a download neither."""
        await self.store.stop()
        self.import_it()
        said = await deferToThread(run_with_mounts, _READ_ONLY, self.directory.absolute(), TASK.task_id)
        refused = "StorageFailure: Read-only file system"
        self.assertEqual(said, ["2500 bytes", "piece 2 of 500 bytes", "NotStored", refused, refused])


class OpenPieceTests(SynchronousTestCase):
    """A task of three pieces."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.content = Content(self.directory)
        path = Path(self.mktemp())
        path.write_bytes(CONTENT)
        self.task_id = import_file(path, self.directory, KIND, 1000).task_id

    def catalog(self, access: Access = Access.WRITE) -> Catalog:
        """The catalog, open until the test ends."""
        catalog = Catalog(self.directory, access)
        catalog.open()
        self.addCleanup(catalog.close)
        return catalog

    def test_open(self) -> None:
        """A piece comes with its neighbours' rows, and with the range that was asked for."""
        opened = open_piece(self.catalog(), self.content, KIND, self.task_id, 1, 10, 20)
        descriptor, offset, length = opened.piece.range
        self.addCleanup(os.close, descriptor)
        self.assertEqual(os.pread(descriptor, length, offset), CONTENT[1010:1030])
        self.assertEqual(sorted(opened.rows), [0, 1, 2])
        with self.assertRaises(NotStored):
            open_piece(self.catalog(), self.content, KIND, self.task_id, 3, 0, None)
        with self.assertRaises(StorageError):
            open_piece(self.catalog(), self.content, KIND, self.task_id, 0, 1, 1000)

    def test_no_file(self) -> None:
        """A piece without a file is damaged, and is marked so where that can be written."""
        self.content.path(KIND, self.task_id).unlink()
        for access, damage in ((Access.READ, ""), (Access.WRITE, "expected a file, got none")):
            catalog = self.catalog(access)
            with self.assertRaisesRegex(PieceDamaged, "expected a file, got none"):
                open_piece(catalog, self.content, KIND, self.task_id, 0, 0, None)
            self.assertEqual(catalog.get_piece(KIND, self.task_id, 0).damage, damage)
