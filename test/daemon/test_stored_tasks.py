"""The tasks of a storage on the status page, from a real storage."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, cast

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.daemon.test_status import Peer, peer_reactor


class StoredTests(TestCase):
    """A real storage."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.directory = Path(self.mktemp())
        self.peer = Peer(self.directory)
        await self.peer.store.start()
        self.addCleanup(self.peer.store.stop)
        self.catalog = Catalog(self.directory)
        self.catalog.open()
        self.addCleanup(self.catalog.close)

    def put(self, number: int, pieces: int) -> StoredTask:
        """Write a task of three pieces, some of which are there."""
        task = StoredTask(
            kind=PieceKind.STANDARD,
            task_id=f"{number:064x}",
            content_length=30,
            piece_length=10,
            created_at=1_700_000_000 + number,
            origin=Origin(url="https://origin.example/model?token=secret"),
        )
        rows = [PieceMetadata(number=each, offset=10 * each, length=10, digest="crc32:7") for each in range(pieces)]
        self.catalog.put_task(task, rows)
        return task

    async def until_pieces(self, *expected: int) -> dict[str, Any]:
        """Wait until the newest tasks have so many pieces; the section."""
        while True:
            shown = self.peer.sections().get("stored")
            if shown is not None and tuple(task["pieces"] for task in shown["tasks"]) == expected:
                return cast("dict[str, Any]", shown)
            await deferLater(peer_reactor, 0.01)
            self.peer.clock.advance(0.5)

    async def test_tasks(self) -> None:
        """The newest tasks come first, with what is there of them and what the disk has."""
        self.put(1, 3)
        self.put(2, 1)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        shown = await self.until_pieces(1, 3)
        self.assertEqual((shown["count"], shown["bytes"]), (2, 60))
        newest, _ = shown["tasks"]
        self.assertEqual((newest["id"], newest["piece_count"]), (f"{2:064x}", 3))
        self.assertEqual(newest["name"], "https://origin.example/model?...")
        self.assertGreater(shown["disk_total"], shown["disk_free"])

    async def test_disk_is_asked_in_a_thread(self) -> None:
        """The reactor's thread does not wait for a disk that does not answer."""
        asked: list[threading.Thread] = []

        def statvfs(path: Any) -> os.statvfs_result:
            asked.append(threading.current_thread())
            return ask(path)

        ask = os.statvfs
        self.patch(os, "statvfs", statvfs)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        await self.until_pieces()
        self.assertTrue(asked)
        self.assertNotIn(threading.current_thread(), asked)

    async def test_another_process(self) -> None:
        """Pieces that another process adds, and tasks that it removes, are seen."""
        self.put(1, 1)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        await self.until_pieces(1)
        task = self.put(2, 2)
        await self.until_pieces(2, 1)
        self.catalog.remove_task(task.kind, task.task_id)
        await self.until_pieces(1)

    async def test_many(self) -> None:
        """Of many tasks the newest are shown, and all are counted."""
        for number in range(60):
            self.put(number, 0)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        shown = await self.until_pieces(*[0] * 40)
        self.assertEqual(shown["count"], 60)

    async def test_end(self) -> None:
        """Nothing of the storage is watched after the end, though a look was under way."""
        self.put(1, 1)
        self.peer.status.begin()
        self.peer.sections()
        self.peer.status.end()
        self.peer.status.begin()
        await self.until_pieces(1)
        self.peer.status.end()

    async def test_storage_that_cannot_be_read(self) -> None:
        """A storage that does not answer leaves the rest of the page as it is."""
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        await self.peer.store.stop()
        for _ in range(5):
            self.peer.clock.advance(3)
            self.assertIn("now", self.peer.sections())
            await deferLater(peer_reactor, 0.01)
        await self.peer.store.start()
