"""Tests of a download's way into the storage: a real reactor, real threads, and processes that are killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import NotStored, StorageError, StorageFailure
from dragonfly_vortex.model import Claim
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.reactor import stored_target
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from test.storage.contents import files_in, wrong_pieces
from test.storage.test_task_file import CONTENT, KIND, OURS, TASK_ID, metadata_of

_WRITER = """
import os, pathlib, sys
from twisted.internet import reactor
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from test.storage.test_task_file import CONTENT, KIND, TASK_ID, metadata_of

async def write():
    store = PieceStore(pathlib.Path(sys.argv[1]), reactor)
    await store.start()
    writer = store.write_task(KIND, TASK_ID)
    await writer.open()
    for number in (0, 1):
        await writer.claim(number)
        os.pwrite(writer.descriptor, CONTENT[number * 1000 : number * 1000 + 1000], number * 1000)
        if not number:
            await writer.commit(metadata_of(number), 1000, None)
    print("written", flush=True)

from twisted.internet.defer import Deferred
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(write()))
reactor.run()
"""

_HOLDER = _WRITER.replace("print(", "print(await writer.hold(), ")
"""The same, and it holds the task."""


class WriterTests(TestCase):
    """A task that is written by one download or two."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.store = PieceStore(self.directory, IReactorFromThreads(reactor))
        self.addCleanup(self.store.stop)
        self.started = self.store.start()

    async def writer(self) -> StoredTarget:
        """The task, opened once more."""
        writer = self.store.write_task(KIND, TASK_ID)
        self.found = await writer.open()
        self.addCleanup(writer.close)
        return writer

    def add(self, writer: StoredTarget, number: int) -> Deferred[None]:
        """Write a piece's bytes and have its row added."""
        os.pwrite(writer.descriptor, CONTENT[number * 1000 : number * 1000 + 1000], number * 1000)
        return writer.commit(metadata_of(number), 1000, None)

    async def test_whole(self) -> None:
        """A task comes piece by piece, and each is handed out as soon as its row is added."""
        writer = await self.writer()
        self.assertTrue(verifyObject(IDownloadTarget, writer))
        for number in range(3):
            self.assertEqual(await writer.claim(number), OURS)
            await self.add(writer, number)
            opened = await self.store.open_piece(KIND, TASK_ID, number)
            descriptor, offset, length = opened.range
            self.assertEqual(os.pread(descriptor, length, offset), CONTENT[offset : offset + length])
            os.close(descriptor)
        await writer.publish(2500)
        self.assertEqual((await self.store.get_task(KIND, TASK_ID)).content_length, 2500)

    async def test_together(self) -> None:
        """Pieces that come while the disk is waited for share a transaction; what is unwritten is counted."""
        writer = await self.writer()
        changes = 0

        def count(statement: str) -> None:
            nonlocal changes
            changes += statement == "COMMIT"

        def trace(catalog: Catalog) -> None:
            catalog._database.connection.set_trace_callback(count)

        await self.store._change(lambda: trace(self.store._catalog))
        added = [self.add(writer, number) for number in range(3)]
        self.patch(stored_target, "MOST_UNWRITTEN", 2499)
        self.assertTrue(writer.is_behind)
        await gatherResults(added)
        self.assertEqual((writer.is_behind, changes), (False, 2))
        self.assertEqual(wrong_pieces(self.directory), [])

    async def test_bytes_before_row(self) -> None:
        """A piece's bytes are on the disk before its row is committed; where the disk fails there is no row."""
        writer = await self.writer()
        fdatasync = os.fdatasync
        seen: list[tuple[bytes, int]] = []

        def noting(descriptor: int) -> None:
            fdatasync(descriptor)
            with Catalog(self.directory) as catalog:
                seen.append((os.pread(descriptor, 1000, 0), len(catalog.find_pieces(KIND, TASK_ID, range(3)))))

        self.patch(os, "fdatasync", noting)
        await self.add(writer, 0)
        self.assertEqual(seen, [(CONTENT[:1000], 0)])

        def failing(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "fdatasync", failing)
        with self.assertRaisesRegex(OSError, "No space left"):
            await self.add(writer, 1)
        self.assertEqual(len(await self.store.get_pieces(KIND, TASK_ID)), 1)

    async def test_offered_early(self) -> None:
        """
        Where the download does not wait for the disk, a piece is offered at once, and the task can be published and
        closed; the end of the storage waits until it is on the disk.
        """
        may_sync, synced = threading.Event(), list[int]()
        fdatasync = os.fdatasync

        def held(descriptor: int) -> None:
            may_sync.wait(60)
            fdatasync(descriptor)
            synced.append(descriptor)

        self.addCleanup(may_sync.set)
        await self.started
        await self.store._threads.at_disk(lambda: None)  # what is done at the start
        self.patch(os, "fdatasync", held)
        writer = self.store.write_task(KIND, TASK_ID, offers_early=True)
        await writer.open()
        for number in range(3):
            await writer.claim(number)
            await self.add(writer, number)
        await writer.publish(2500)
        await writer.close()
        self.assertEqual(len([piece for piece in await self.store.get_pieces(KIND, TASK_ID) if not piece.damage]), 3)
        self.assertEqual(synced, [])
        stopped = self.store.stop()
        self.assertFalse(stopped.called)
        may_sync.set()
        await stopped
        with Catalog(self.directory) as catalog:
            self.assertEqual(catalog.unsynced_tasks(), [])
            self.assertEqual(catalog.get_task(KIND, TASK_ID).content_length, 2500)

    async def test_closed_during_commit(self) -> None:
        """A target that is closed while a commit is under way still has its pieces brought to the disk."""
        writer = self.store.write_task(KIND, TASK_ID, offers_early=True)
        await writer.open()
        await writer.claim(0)
        committed = self.add(writer, 0)
        closed = writer.close()
        await committed
        await closed
        await self.store.stop()
        self.assertEqual(self.flushLoggedErrors(), [])
        with Catalog(self.directory) as catalog:
            self.assertEqual(catalog.unsynced_tasks(), [])
            self.assertEqual(len(catalog.get_pieces(KIND, TASK_ID)), 1)

    async def test_early_without_digest(self) -> None:
        """A piece without a digest gets one before it is offered."""
        writer = self.store.write_task(KIND, TASK_ID, offers_early=True)
        await writer.open()
        self.addCleanup(writer.close)
        await writer.claim(0)
        os.pwrite(writer.descriptor, CONTENT[:1000], 0)
        await writer.commit(replace(metadata_of(0), digest=""), 1000, None)
        (piece,) = await self.store.get_pieces(KIND, TASK_ID)
        self.assertEqual(piece.metadata.digest, metadata_of(0).digest)

    async def test_in_order(self) -> None:
        """What is dropped behind an adding that has not fired is not added again by it."""
        writer = await self.writer()
        added = [self.add(writer, number) for number in range(2)]
        await writer.drop([1])
        await gatherResults(added)
        pieces = await self.store.get_pieces(KIND, TASK_ID)
        self.assertEqual([piece.metadata.number for piece in pieces], [0])

    async def test_fails(self) -> None:
        """An adding that cannot be done fails, and so do those that came with it; later ones can be done."""
        writer = await self.writer()
        bad = writer.commit(metadata_of(2), 999, None)
        with self.assertRaises(StorageError):
            await bad
        await self.add(writer, 0)

    async def test_no_digest(self) -> None:
        """A piece whose parent has named no digest has one in its row; one that is not in the file has no row."""
        writer = await self.writer()
        os.pwrite(writer.descriptor, CONTENT[:1000], 0)
        await writer.commit(replace(metadata_of(0), digest=""), 1000, None)
        (piece,) = await self.store.get_pieces(KIND, TASK_ID)
        self.assertEqual(piece.metadata, metadata_of(0))
        with self.assertRaisesRegex(StorageFailure, f"{TASK_ID}-1: .*expected 1000 bytes at 1000, got 0"):
            await writer.commit(replace(metadata_of(1), digest=""), 1000, None)

    async def test_released(self) -> None:
        """A claim that is given up before it is granted is not kept."""
        first, second = await self.writer(), await self.writer()
        claimed = first.claim(0)
        claimed.cancel()
        first.release(0)
        with self.assertRaises(CancelledError):
            await claimed
        self.assertEqual(await second.claim(0), OURS)

    async def test_nothing_came(self) -> None:
        """A target that is closed with nothing in it leaves no file and no lock; one that is not open has none."""
        await self.store.write_task(KIND, TASK_ID).close()
        await (await self.writer()).close()
        await self.store.stop()
        self.assertEqual(files_in(self.directory), [])
        self.assertEqual(list((self.directory / "claims").rglob(TASK_ID)), [])

    async def test_closed_storage(self) -> None:
        """With its storage closed a writer can do nothing more."""
        store = PieceStore(self.directory, IReactorFromThreads(reactor))
        await store.start()
        writer = store.write_task(KIND, TASK_ID)
        await writer.open()
        await self.add(writer, 0)
        await writer.close()
        await store.stop()
        with self.assertRaises(StorageFailure):
            await writer.claim(1)
        with self.assertRaises(StorageFailure):
            await writer.commit(metadata_of(1), 1000, None)
        with self.assertRaises(StorageFailure):
            await store.write_task(KIND, TASK_ID).open()

    async def test_killed_while_it_held_the_task(self) -> None:
        """
        When a process is killed that held a task its pieces are not offered any more, by a store that runs neither; the
        next download finds them nevertheless, and they are offered when the whole is right.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(self.directory.absolute())],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        stdout = process.stdout
        self.assertEqual(stdout and stdout.readline(), "True written\n")
        await self.store._check()
        self.assertEqual([piece.damage for piece in await self.store.get_pieces(KIND, TASK_ID)], [""])
        process.kill()
        process.wait()
        await self.store._check()
        with self.assertRaises(NotStored):
            await self.store.open_piece(KIND, TASK_ID, 0)
        writer = await self.writer()
        self.assertEqual([piece.number for piece in self.found.pieces], [0])
        self.assertEqual((await writer.claim(0)).piece, metadata_of(0))
        await gatherResults([self.add(writer, 1), self.add(writer, 2)])
        await writer.publish(2500)
        self.assertEqual([piece.damage for piece in await self.store.get_pieces(KIND, TASK_ID)], [""] * 3)
        await writer.close()
        await self.store._check()
        self.assertEqual([piece.damage for piece in await self.store.get_pieces(KIND, TASK_ID)], [""] * 3)

    async def test_killed(self) -> None:
        """
        What a killed process has told of is there, what it had claimed is free at once, and its file is gone on with.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(self.directory.absolute())],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        stdout = process.stdout
        self.assertEqual(stdout and stdout.readline(), "written\n")
        writer = await self.writer()
        self.assertEqual([piece.number for piece in self.found.pieces], [0])
        self.assertEqual(await writer.claim(1), Claim(is_ours=False))
        process.kill()
        process.wait()
        self.assertEqual(await writer.claim(1), OURS)
        await gatherResults([self.add(writer, 1), self.add(writer, 2)])
        await writer.publish(2500)
        self.assertEqual(wrong_pieces(self.directory), [])
