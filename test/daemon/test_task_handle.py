"""What a program gets of a download: the end, the events, ranges, and the content in order."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
)
from dragonfly_vortex.errors import NoParentKnown, NotStored, PoolClosed, StorageFailure
from dragonfly_vortex.events import (
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    LayoutFound,
    ParentAdded,
    PieceKept,
)
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.wire import PieceKind
from test.daemon.peers import COUNT, PIECE, REACTOR, PeerTestCase, address_of
from test.vortex.serving import open_descriptors


class DownloadTests(PeerTestCase):
    """What a program gets of a download."""

    async def test_events(self) -> None:
        """The events come in order, from the first to the last; the Deferred fires with the same result."""
        parent = await self.parent()
        child = self.peer("child", parents=[address_of(parent)])
        download = child.download(self.task_id)
        events = [event async for event in download]
        done = await download.done
        kept = [event for event in events if isinstance(event, PieceKept)]
        self.assertEqual({event.number for event in kept}, set(range(COUNT)))
        self.assertEqual({(event.parent, event.transport) for event in kept}, {(address_of(parent), "tcp")})
        self.assertIsInstance(events[0], (ParentAdded, LayoutFound))
        self.assertEqual(events[-1], DownloadFinished(task=done))
        self.assertEqual([event async for event in download], [DownloadFinished(task=done)])

    async def test_closed_events(self) -> None:
        """An iterator that is closed keeps no more events in memory, and code that waits for one goes on."""
        parent = await self.parent()
        download = self.peer("child", parents=[address_of(parent)]).download(self.task_id)
        events = aiter(download)
        waiting = Deferred.fromCoroutine(self.all_of(events))
        await events.aclose()
        self.assertEqual(await waiting, [])
        async with aclosing(aiter(download)) as some:
            await anext(some)
        self.assertEqual(download._events, [])
        await download.done
        self.assertEqual(await self.all_of(events), [])
        await events.aclose()

    async def all_of(self, events: AsyncIterator[DownloadEvent]) -> list[DownloadEvent]:
        """The events that there are still."""
        return [event async for event in events]

    async def test_there(self) -> None:
        """A task that is in the storage is reported, too, and no parent is asked."""
        parent = await self.parent()
        download = parent.download(self.task_id)
        events = [event async for event in download]
        self.assertEqual(len([event for event in events if isinstance(event, PieceKept)]), COUNT)
        self.assertEqual(events[-1], DownloadFinished(task=await download.done))

    async def test_failures(self) -> None:
        """A failure is the last event, and what the Deferred fails with."""
        parent = await self.parent()
        child = self.peer("child")
        download = child.download(self.task_id)
        await self.assertFailure(download.done, NoParentKnown)
        [last] = [event async for event in download]
        self.assertIsInstance(last, DownloadFailed)
        self.assertRaises(ValueError, child.download)
        self.assertRaises(ValueError, child.download, self.task_id, parents=["no port"])
        cancelled = child.download(self.task_id, parents=[address_of(parent)])
        cancelled.cancel()
        await self.assertFailure(cancelled.done, CancelledError)
        await self.assertFailure(cancelled.read(0, 10), CancelledError)
        await child.stopService()
        self.assertRaises(PoolClosed, child.download, self.task_id)

    async def test_failure_that_is_not_awaited(self) -> None:
        """The failure of a program that takes the events, or nothing, is no unhandled error; it can be had later."""
        child = self.peer("child")
        download = child.download(self.task_id)
        last = [event async for event in download][-1]
        self.assertIsInstance(last, DownloadFailed)
        await self.assertFailure(download.done, NoParentKnown)
        silent = self.peer("silent", parents=[address_of(await self.parent())])
        for turns in (0, 1, 10):
            silent.download("0" * 64)
            for _ in range(turns):
                await deferLater(REACTOR, 0)
        await silent.stopService()
        another = child.download(self.task_id)
        self.assertIsInstance([event async for event in another][-1], DownloadFailed)
        del another
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_cancelled_at_event(self) -> None:
        """A program may cancel at any event, and where the length is known; nothing goes on in the peer then."""
        parent = await self.parent()
        for kind in (ParentAdded, LayoutFound, PieceKept):
            child = self.peer(kind.__name__, parents=[address_of(parent)])
            download = child.download(self.task_id)
            async for event in download:
                if isinstance(event, kind):
                    download.cancel()
            self.assertIsInstance(event, DownloadFailed)
            await self.assertFailure(download.done, CancelledError)
            await child.stopService()
        self.assertEqual(self.flushLoggedErrors(), [])
        for name in ("PieceKept", "parent"):  # some pieces are there, and all
            peer = self.peer(name, parents=[address_of(parent)]) if name != "parent" else parent
            download = peer.download(self.task_id)
            await download.size()
            download.close()
            await peer.stopService()
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_read_cancelled(self) -> None:
        """A range whose reading is cancelled is not fetched."""
        child = self.peer("child", parents=[await self.announcing_parent()])
        download = child.download(self.task_id, whole=False)
        reading = download.read()
        reading.cancel()
        await self.assertFailure(reading, CancelledError)
        events = aiter(download)
        await download.size()
        await deferLater(REACTOR, 0.5)
        download.close()
        kept = [event.number async for event in events if isinstance(event, PieceKept)]
        self.assertEqual(kept, [0])

    async def test_removed(self) -> None:
        """What is removed after the download cannot be read, and no reading goes on for ever; nor do two at once."""
        parent = await self.parent()
        download = parent.download(self.task_id)
        await download.done
        remove_task(self.directory / "parent", PieceKind.STANDARD, self.task_id)
        await self.assertFailure(download.read(0, 5), NotStored)
        download._content.pieces.clear()
        await self.assertFailure(download.read(0, 5), NotStored)

    async def test_read(self) -> None:
        """A range is read while the task comes, and after it; what is behind the end is left out."""
        parent = await self.parent()
        child = self.peer("child", parents=[address_of(parent)])
        download = child.download(self.task_id)
        self.assertEqual(await download.read(3 * PIECE - 5, 10), self.content[3 * PIECE - 5 : 3 * PIECE + 5])
        self.assertEqual(await download.size(), len(self.content))
        await download.done
        self.assertEqual(await download.read(), self.content)
        self.assertEqual(await download.read(len(self.content) - 3, 10), self.content[-3:])
        self.assertEqual(await download.read(len(self.content) + 3, 10), b"")
        self.assertRaises(ValueError, download.read, -1)

    async def test_read_after_the_stop(self) -> None:
        """A reading after the end of the peer fails, and starts no thread."""
        parent = await self.parent()
        download = parent.download(self.task_id)
        await download.done
        downloads = parent._downloads
        await parent.stopService()
        await self.assertFailure(download.read(0, 5), StorageFailure)
        assert downloads is not None
        await self.assertFailure(downloads.in_thread(lambda: None), PoolClosed)
        self.assertIsNone(downloads.in_thread._pool)

    async def test_read_while_it_stops(self) -> None:
        """A reading that the end of the threads cuts off leaves no file open."""
        parent = await self.parent()
        download = parent.download(self.task_id)
        await download.read()  # the storage keeps a descriptor of its own
        download._downloads.in_thread.close()
        before = open_descriptors()
        await self.assertFailure(download.read(0, 5), PoolClosed)
        self.assertEqual(open_descriptors(), before)

    async def test_lost(self) -> None:
        """A piece that was lost while the task came, and did not come again before the end, is not waited for."""
        parent = await self.parent()
        download = self.peer("child", parents=[address_of(parent)]).download(self.task_id)
        await download.done
        del download._content.pieces[3]
        error = await self.assertFailure(download.read(), NotStored)
        self.assertIn("piece", str(error))

    async def test_only_what_is_read(self) -> None:
        """Of a task that is not wanted whole, the pieces that are read come, and the first, and no other."""
        child = self.peer("child", parents=[await self.announcing_parent()])
        download = child.download(self.task_id, whole=False)
        kept: set[int] = set()
        events = aiter(download)
        self.assertEqual(await download.read(7 * PIECE + 10, 10), self.content[7 * PIECE + 10 : 7 * PIECE + 20])
        self.assertEqual(await download.read(12 * PIECE - 1, PIECE + 2), self.content[12 * PIECE - 1 : 13 * PIECE + 1])
        self.assertEqual(await download.size(), len(self.content))
        download.close()
        async for event in events:
            if isinstance(event, PieceKept):
                kept.add(event.number)
        self.assertEqual(kept - {0}, {7, 11, 12, 13})

    async def test_read_first(self) -> None:
        """Of a task that is wanted whole, what is read comes before the rest."""
        config = Config(
            storage=StorageConfig(server=StorageServerConfig(protocol="tcp")),
            download=DownloadConfig(concurrent_piece_count=1),
            metrics=MetricsConfig(enable=False),
        )
        child = self.peer("child", config=config, listen=[], parents=[await self.announcing_parent()])
        download = child.download(self.task_id)
        order: list[int] = []
        events = aiter(download)
        await download.read(15 * PIECE, PIECE)
        await download.done
        async for event in events:
            if isinstance(event, PieceKept):
                order.append(event.number)
        # In order it would be the sixteenth; a few come before its announcement.
        self.assertLess(order.index(15), 8)
