"""What a peer does with whole tasks, where no call over a socket shows it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from threading import Event

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import Config, StorageConfig
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from dragonfly_vortex.errors import OutputExists
from dragonfly_vortex.model import Credentials, Origin, StoredTask
from dragonfly_vortex.rpc.peer_tasks import ImportRequest, OutputRequest
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, hang
from dragonfly_vortex.wire import PieceKind
from test.rpc.local_peer import peer_reactor

LENGTH = 3_000_000


class LocalTasksTests(TestCase):
    """A storage with one task."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.content = bytes(range(250)) * (LENGTH // 250)
        self.directory.joinpath("file").write_bytes(self.content)
        store = PieceStore(self.directory / "storage", peer_reactor)
        await store.start()
        self.addCleanup(store.stop)
        config = Config(storage=StorageConfig(dir=store.directory))
        downloads = self.downloads = Downloads(config, peer_reactor, store)
        self.addCleanup(downloads.stop)
        self.tasks = LocalTasks(config, peer_reactor, store, downloads)
        self.output = self.directory / "output"
        self.request = ImportRequest(kind=PieceKind.PERSISTENT_CACHE, path=self.directory / "file")

    async def imported(self) -> StoredTask:
        """The task."""
        return await self.tasks.import_file(self.request)

    async def test_coming(self) -> None:
        """A task is coming while another program downloads it into the same storage, before its first piece, too."""
        kind, task_id = PieceKind.STANDARD, "ab" * 32
        self.assertFalse(await self.tasks.is_coming(kind, task_id))
        with Catalog(self.directory / "storage") as catalog:
            file = TaskFile(self.directory / "storage", catalog, kind, task_id)
            file.open()
            self.assertTrue(await self.tasks.is_coming(kind, task_id))
            self.assertFalse(await self.tasks.is_coming(PieceKind.PERSISTENT, task_id))
            file.close()
        self.assertFalse(await self.tasks.is_coming(kind, task_id))

    async def test_range(self) -> None:
        """The output of a range is as long as the content, and has the range at its place."""
        task = await self.imported()
        span = (100, 2_000_000)
        await self.tasks.put_output(task, OutputRequest(path=self.output, span=span), "")
        written = self.output.read_bytes()
        self.assertEqual((len(written), written[slice(*span)]), (LENGTH, self.content[slice(*span)]))
        self.assertEqual(written[:100] + written[2_000_000:], bytes(100 + 1_000_000))
        again = self.tasks.put_output(task, OutputRequest(path=self.output, span=span), "")
        await self.assertFailure(again, OutputExists)

    async def test_cancelled_range(self) -> None:
        """A copy of a range that is given up ends at its next block, and leaves nothing at its place."""
        task = await self.imported()
        looks: list[object] = []

        def look(_: object) -> None:
            looks.append(_)
            if len(looks) == 2:
                raise CancelledError

        output = OutputRequest(path=self.output, span=(0, LENGTH))
        with self.assertRaises(CancelledError):
            self.tasks._put_output(task, output, "", look)
        self.assertEqual([path.name for path in self.directory.iterdir() if path.is_file()], ["file"])

    async def test_stop_while_uploading(self) -> None:
        """A persistent task whose object is not made because the peer stops does not stay in the storage."""
        storage = ScriptedOrigin(b"", script=[hang])
        storage.start(peer_reactor)
        self.addCleanup(storage.stop)
        origin = Origin(url="s3://bucket/key", region="region", endpoint=storage.url(""))
        credentials = Credentials(access_key_id="key", access_key_secret="secret")
        uploading = self.tasks.import_file(
            replace(self.request, kind=PieceKind.PERSISTENT, origin=origin, credentials=credentials)
        )
        await storage.until_asked(1)
        self.assertEqual(len(await self.tasks.list_tasks(PieceKind.PERSISTENT)), 1)
        await self.downloads.stop()
        self.assertEqual(await self.tasks.list_tasks(PieceKind.PERSISTENT), [])
        await self.assertFailure(uploading, CancelledError)

    async def test_cancelled_while_opening(self) -> None:
        """An upload that is cancelled while its file is opened closes the file, and the task does not stay."""
        task = await self.imported()
        opened: list[os.stat_result] = []
        opening: Deferred[None] = Deferred()
        may_open = Event()

        def open_late(content: Content, kind: PieceKind, task_id: str) -> int:
            peer_reactor.callFromThread(opening.callback, None)
            may_open.wait(30.0)
            descriptor = os.open(content.path(kind, task_id), os.O_RDONLY)
            opened.append(os.fstat(descriptor))
            return descriptor

        self.patch(Content, "open", open_late)
        uploading = Deferred.fromCoroutine(self.tasks._put_object(self.request, task))
        await opening
        uploading.cancel()
        may_open.set()
        await self.assertFailure(uploading, CancelledError)
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                self.assertFalse(os.path.samestat(os.fstat(int(name)), opened[0]))
        self.assertEqual(await self.tasks.list_tasks(PieceKind.PERSISTENT_CACHE), [])

    async def test_cancelled_import(self) -> None:
        """An import that is given up ends, and leaves nothing in the storage."""
        importing = self.tasks.import_file(self.request)
        importing.cancel()
        await self.assertFailure(importing, CancelledError)
        await self.imported()  # in the same threads, behind the one that was given up
        self.assertEqual(len(await self.tasks.list_tasks(PieceKind.PERSISTENT_CACHE)), 1)
