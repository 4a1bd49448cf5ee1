"""Tests of many streams on few tasks: which of them looks into the storage, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.model import OpenPiece, StoredPiece, StoredTask
from dragonfly_vortex.rpc import task_watch
from dragonfly_vortex.rpc.announcements import Announcements
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.task_watch import Watches
from dragonfly_vortex.wire import PieceKind, PieceMetadata

_T = TypeVar("_T")

_KIND = PieceKind.STANDARD


def message_of(kind: PieceKind, metadata: PieceMetadata) -> bytes:
    """What is said about a piece."""
    return b"%d" % metadata.number


@implementer(ITaskStore)
class _Tasks:
    """A store that counts what it is asked, and changes when the test says so."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.subscribers: list[Callable[[], None]] = []
        self.pieces: dict[str, list[int]] = {}
        self.damaged: set[int] = set()
        self.content_length: int | None = 30
        self.rows = 0
        self.answering: Deferred[None] = succeed(None)
        """What each answer about pieces waits for."""

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[StoredTask]:
        if task_id not in self.pieces:
            return fail(NotStored(task_id))
        return succeed(
            StoredTask(kind=kind, task_id=task_id, content_length=self.content_length, piece_length=10, created_at=0)
        )

    def get_pieces(self, kind: PieceKind, task_id: str, first: int = 0) -> Deferred[list[StoredPiece]]:
        self.looks.append(task_id)
        if task_id not in self.pieces:
            return fail(NotStored(task_id))
        numbers = [number for number in sorted(self.pieces[task_id]) if number >= first]
        self.rows += len(numbers)
        pieces = [
            StoredPiece(
                kind=kind,
                task_id=task_id,
                metadata=PieceMetadata(number=number, offset=0, length=1, digest=""),
                damage="gone" if number in self.damaged else "",
            )
            for number in numbers
        ]
        answer: Deferred[list[StoredPiece]] = Deferred()
        self.answering.addCallback(lambda _: answer.callback(pieces))
        return answer

    def offer_mark(self) -> object:
        return self

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        self.subscribers.append(changed)
        return lambda: self.subscribers.remove(changed)

    def open_piece(
        self, kind: PieceKind, task_id: str, number: int, start: int = 0, length: int | None = None
    ) -> Deferred[OpenPiece]:
        return fail(NotStored("nothing asks for it"))

    def mark_damaged(self, kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        return succeed(None)


class WatchesTests(TestCase):
    """Watches in a loop of their own, over a store in the reactor."""

    timeout = 120

    def setUp(self) -> None:
        self.store = _Tasks()
        self.announcements = Announcements(self.store, message_of)
        self.coming: set[str] = set()
        self.thread = EventLoopThread(IReactorFromThreads(reactor), "watches")
        self.thread.start()
        self.addCleanup(self.thread.stop)

    def watched(self, work: Callable[[Watches], Awaitable[_T]]) -> Deferred[_T]:
        """Run a coroutine with watches in the loop."""

        async def in_loop() -> _T:
            return await work(
                Watches(
                    self.store,
                    self.thread,
                    message_of,
                    lambda kind, task_id: succeed(task_id in self.coming),
                    self.announcements,
                )
            )

        return self.thread.run(in_loop)

    async def change(self, change: Callable[[], object]) -> None:
        """In the loop: change something in the storage, and have its subscribers told."""

        def in_reactor() -> Deferred[None]:
            change()
            for changed in list(self.store.subscribers):
                changed()
            return succeed(None)

        await self.thread.ask(in_reactor)

    async def test_kept(self) -> None:
        """
        A complete task is kept, also where the child has left before; another is not. Neither is watched any more.
        """
        self.announcements.start()
        self.addCleanup(self.announcements.stop)
        self.store.pieces.update(a=[0, 1, 2], b=[0])

        async def work(watches: Watches) -> int:
            changes = []
            for name in "ab":
                async with watches.open(_KIND, name) as watch:
                    changes.append(watch.changed)
            for change in changes:
                await asyncio.wait_for(change.wait(), 120)
            return len(watches)

        self.assertEqual(await self.watched(work), 0)
        self.assertEqual(self.announcements.get(_KIND, "a"), {0: b"0", 1: b"1", 2: b"2"})
        self.assertIsNone(self.announcements.get(_KIND, "b"))

    async def test_coming(self) -> None:
        """A task that is being downloaded is waited for before its first piece; when that fails, it is unknown."""
        self.patch(task_watch, "_AGAIN", 0.01)
        self.coming = {"a", "b"}

        async def work(watches: Watches) -> tuple[list[int], Any]:
            async with watches.open(_KIND, "a") as good, watches.open(_KIND, "b") as bad:
                for watch in (good, bad):
                    while not watch.looked:
                        await asyncio.wait_for(watch.changed.wait(), 120)
                    self.assertEqual((watch.looked, watch.failure, watch.arrived), (True, None, []))
                changes = good.changed, bad.changed
                await self.change(lambda: self.store.pieces.update(a=[0]))
                self.coming.clear()
                for change in changes:
                    await asyncio.wait_for(change.wait(), 120)
                return [arrival.number for arrival in good.arrived], bad.failure

        numbers, failure = await self.watched(work)
        self.assertEqual((numbers, type(failure)), ([0], NotStored))

    async def test_one_look_for_many(self) -> None:
        """Streams of one task share its looks, and what is said about a piece."""
        self.store.pieces["a"] = [0]

        async def work(watches: Watches) -> Any:
            async with watches.open(_KIND, "a") as first, watches.open(_KIND, "a") as second:
                self.assertIs(first, second)
                await asyncio.wait_for(first.changed.wait(), 120)
                before = list(first.arrived)
                changed = first.changed
                await self.change(lambda: self.store.pieces.update(a=[0, 1]))
                await asyncio.wait_for(changed.wait(), 120)
                return before, list(first.arrived), first.complete

        before, after, complete = await self.watched(work)
        self.assertEqual((before, after, complete), ([(0, b"0")], [(0, b"0"), (1, b"1")], False))
        self.assertEqual(self.store.looks, ["a", "a"])

    async def test_new_task_first(self) -> None:
        """A task that no stream has asked for before is looked at before those that have changed."""
        self.store.pieces.update(a=[0], b=[0], c=[0])
        held: Deferred[None] = Deferred()

        def hold() -> None:
            self.store.answering = held

        def go_on() -> Deferred[None]:
            held.callback(None)
            return succeed(None)

        async def work(watches: Watches) -> None:
            async with watches.open(_KIND, "a") as first, watches.open(_KIND, "b") as second:
                for watch in (first, second):
                    while not watch.looked:
                        await asyncio.wait_for(watch.changed.wait(), 120)
                self.store.looks.clear()
                await self.change(hold)
                while not self.store.looks:  # the look at the first one has begun, the second one waits
                    await asyncio.sleep(0.001)
                async with watches.open(_KIND, "c") as new:
                    changed = new.changed
                    await self.thread.ask(go_on)
                    await asyncio.wait_for(changed.wait(), 120)

        await self.watched(work)
        self.assertEqual(self.store.looks[:2], ["a", "c"])

    async def test_rows(self) -> None:
        """A task that comes piece by piece costs a few rows a piece, whatever order the pieces of a window come in."""
        count, window = 64, 8
        self.store.content_length = count * 10
        order = [first + number for first in range(0, count, window) for number in reversed(range(window))]

        async def work(watches: Watches) -> Any:
            self.store.pieces["a"] = []
            async with watches.open(_KIND, "a") as watch:
                for number in order:
                    changed = watch.changed
                    await self.change(partial(self.store.pieces["a"].append, number))
                    if number not in [arrival.number for arrival in watch.arrived]:
                        await asyncio.wait_for(changed.wait(), 120)
                return [arrival.number for arrival in watch.arrived], watch.complete

        numbers, complete = await self.watched(work)
        self.assertEqual((numbers, complete), (order, True))
        self.assertLess(self.store.rows, window * count)

    async def test_kept_when_its_length_is_known(self) -> None:
        """All pieces of a task are kept whose length becomes known with the last one."""
        self.announcements.start()
        self.addCleanup(self.announcements.stop)
        self.store.pieces["a"] = [0, 1]
        self.store.content_length = None

        def end() -> None:
            self.store.pieces["a"] = [0, 1, 2]
            self.store.content_length = 30

        async def work(watches: Watches) -> None:
            async with watches.open(_KIND, "a") as watch:
                await asyncio.wait_for(watch.changed.wait(), 120)
                changed = watch.changed
                await self.change(end)
                await asyncio.wait_for(changed.wait(), 120)

        await self.watched(work)
        self.assertEqual(self.announcements.get(_KIND, "a"), {0: b"0", 1: b"1", 2: b"2"})

    async def test_complete(self) -> None:
        """A task with all its rows is complete, damaged ones too; it is not looked at again."""
        self.store.pieces["a"] = [0, 1, 2]
        self.store.damaged = {1}

        async def work(watches: Watches) -> Any:
            async with watches.open(_KIND, "a") as watch:
                await asyncio.wait_for(watch.changed.wait(), 120)
                await self.change(lambda: None)
                await asyncio.sleep(0.05)
                return watch.complete, [arrival.number for arrival in watch.arrived]

        self.assertEqual(await self.watched(work), (True, [0, 2]))
        self.assertEqual(self.store.looks, ["a"])

    async def test_unknown_length(self) -> None:
        """A task of unknown length is not complete before the length is known."""
        self.store.pieces["a"] = [0, 1, 2]
        self.store.content_length = None

        async def work(watches: Watches) -> bool:
            async with watches.open(_KIND, "a") as watch:
                await asyncio.wait_for(watch.changed.wait(), 120)
                self.assertFalse(watch.complete)
                changed = watch.changed
                await self.change(lambda: setattr(self.store, "content_length", 30))
                await asyncio.wait_for(changed.wait(), 120)
                return watch.complete

        self.assertTrue(await self.watched(work))

    async def test_failure(self) -> None:
        """A failed look fails the waiting streams, and is repeated for later ones."""

        async def work(watches: Watches) -> Any:
            async with watches.open(_KIND, "a") as watch:
                await asyncio.wait_for(watch.changed.wait(), 120)
                failure = watch.failure
                self.store.pieces["a"] = [0]
                async with watches.open(_KIND, "a") as other:
                    await asyncio.wait_for(other.changed.wait(), 120)
                    return failure, other.failure, len(other.arrived), len(watches)

        failure, later, arrived, watched = await self.watched(work)
        self.assertIsInstance(failure, NotStored)
        self.assertEqual((later, arrived, watched), (None, 1, 1))

    async def test_nothing_left(self) -> None:
        """The storage is listened to while there is a stream, and no longer."""
        self.store.pieces["a"] = [0]

        async def work(watches: Watches) -> tuple[int, int]:
            async with watches.open(_KIND, "a") as watch:
                await asyncio.wait_for(watch.changed.wait(), 120)
                during = len(self.store.subscribers)
            await asyncio.sleep(0.05)
            return during, len(watches)

        self.assertEqual(await self.watched(work), (1, 0))
        self.assertEqual(self.store.subscribers, [])

    async def test_wake_all(self) -> None:
        """Waiting streams can be woken."""
        self.store.pieces["a"] = [0]

        async def work(watches: Watches) -> None:
            async with watches.open(_KIND, "a") as watch:
                await asyncio.wait_for(watch.changed.wait(), 120)
                changed = watch.changed
                watches.wake_all()
                await asyncio.wait_for(changed.wait(), 120)

        await self.watched(work)
