"""Tests of the collections that are made now and then: a real thread and storage, and a simulated clock."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer, provider

from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.collector import Collected, Collector
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.storage.reactor import collecting
from dragonfly_vortex.storage.reactor.collecting import RECORD_INTERVAL, GarbageCollection, TaskUses, room_for
from dragonfly_vortex.wire import PieceKind

POLICY = Policy(disk_threshold=1 << 50)


@implementer(IReactorFromThreads)
class _ClockAndThreads(Clock):
    """Simulated time, and the real reactor's thread."""

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        IReactorFromThreads(reactor).callFromThread(callable, *args, **kwargs)


class GarbageCollectionTests(TestCase):
    """When a storage is collected, and what is said of it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.clock = _ClockAndThreads()
        self.collection = GarbageCollection(self.directory, self.clock, 900.0, POLICY)
        self.addCleanup(self.collection.stop)
        self.events: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.events.append(f"{event['log_level'].name}: {formatEvent(event)}")

        self.patch(GarbageCollection, "log", Logger(observer=observe))
        self.add(ttl=1)

    def add(self, ttl: int | None, content: bytes = b"content") -> None:
        """Import a task that was created long ago."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        import_file(path, self.directory, PieceKind.STANDARD, ttl=ttl)
        with Catalog(self.directory) as catalog, catalog._database.change() as connection:
            connection.execute("UPDATE task SET created_at = 1")

    def count(self) -> int:
        """How many tasks there are."""
        with Catalog(self.directory, Access.READ) as catalog:
            return len(catalog.list_tasks())

    async def until(self, count: int, logged: int) -> None:
        """Wait until there are so many tasks and lines of the log."""
        while (self.count(), len(self.events)) != (count, logged):
            await deferLater(IReactorTime(reactor), 0.01)

    async def test_for_a_download(self) -> None:
        """What is removed to make room for a download is logged like the rest, in the reactor's thread."""
        room = room_for(self.directory, self.clock, POLICY, is_made=True)
        with open(self.mktemp(), "wb") as file:
            await deferToThread(room.reserve, file.fileno(), 1)
        self.assertEqual(self.events, [])
        room = room_for(self.directory, self.clock, Policy(disk_threshold=1 << 20), is_made=True)
        with open(self.mktemp(), "wb") as file:
            await deferToThread(room.reserve, file.fileno(), (1 << 20) - 1)
        await self.until(0, 2)
        self.assertIn(f"standard task {hashlib.sha256(b'content').hexdigest()} removed", self.events[0])

    async def test_now_and_then(self) -> None:
        """The first collection comes after the interval, and so does each further one; a line says what has gone."""
        self.collection.start()
        self.clock.advance(899)
        self.assertEqual(self.count(), 1)
        self.clock.advance(1)
        await self.until(0, 2)
        self.add(ttl=None)
        self.clock.advance(900)
        await self.until(0, 4)
        task = f"info: garbage collection: standard task {hashlib.sha256(b'content').hexdigest()} removed, "
        for line, rule in ((self.events[0], "its own TTL"), (self.events[2], "gc.policy.task_ttl")):
            self.assertRegex(line, rf"^{task}[0-9]+ bytes freed: its time is over \({rule}\)$")
        for line in self.events[1::2]:
            self.assertRegex(line, "^info: garbage collection: 1 tasks removed, [0-9]+ bytes freed, 0 in use$")

    async def test_many(self) -> None:
        """The first of many tasks have a line each, and the last line counts them all."""
        self.patch(collecting, "_MOST_LINES", 2)
        for content in (b"2", b"3", b"4"):
            self.add(ttl=1, content=content)
        self.collection.start()
        self.clock.advance(900)
        await self.until(0, 3)
        self.assertIn(": 4 tasks removed, ", self.events[2])

    async def test_changed(self) -> None:
        """Other rules hold from the next collection on, and another interval from now on."""
        self.collection.start()
        self.collection.change(10.0, POLICY)
        self.clock.advance(10)
        await self.until(0, 2)

    async def test_changed_during_collection(self) -> None:
        """Another interval that is set while a collection is under way leaves one timer, and none after the end."""
        working: Deferred[None] = Deferred()
        self.patch(GarbageCollection, "in_thread", lambda collection, work: working.addCallback(lambda _: Collected()))
        self.collection.start()
        self.clock.advance(900)
        self.collection.change(10.0, POLICY)
        working.callback(None)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [910.0])
        await self.collection.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_failed(self) -> None:
        """A collection that fails is logged, and the next one is tried."""
        catalog = self.directory / "catalog.sqlite3"
        kept = catalog.read_bytes()
        catalog.write_bytes(b"no catalog" * 1000)
        self.collection.start()
        self.clock.advance(900)
        while not self.events:
            await deferLater(IReactorTime(reactor), 0.01)
        self.assertTrue(self.events[0].startswith(LogLevel.error.name), self.events)
        catalog.write_bytes(kept)
        self.clock.advance(900)
        await self.until(0, 3)

    async def test_stopped(self) -> None:
        """The end waits for the step that is under way, and no further one is taken; no thread is left."""
        begun, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        remove = Collector._remove_strays

        def hang(collector: Collector) -> object:
            begun.set()
            go_on.wait(60)
            return remove(collector)

        self.patch(Collector, "_remove_strays", hang)
        self.collection.start()
        self.clock.advance(900)
        while not begun.is_set():
            await deferLater(IReactorTime(reactor), 0.01)
        stopped = self.collection.stop()
        self.assertNoResult(stopped)
        go_on.set()
        await stopped
        self.assertEqual(self.count(), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        while any("-storage-gc-" in thread.name for thread in threading.enumerate()):
            await deferLater(IReactorTime(reactor), 0.01)

    async def test_hanging_disk(self) -> None:
        """A disk that does not answer is not waited for longer than the end may take."""
        begun, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def hang() -> None:
            begun.set()
            go_on.wait(60)

        working = self.collection.in_thread(hang)
        while not begun.is_set():
            await deferLater(IReactorTime(reactor), 0.01)
        stopped = self.collection.stop(5.0)
        self.assertNoResult(stopped)
        self.clock.advance(5.0)
        await stopped
        go_on.set()
        await working


KIND = PieceKind.STANDARD


class TaskUsesTests(SynchronousTestCase):
    """What is used is recorded once for many uses."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recorded: list[Collection[tuple[PieceKind, str]]] = []
        self.uses = TaskUses(self.clock, self.recorded.append)

    def test_recorded_together(self) -> None:
        """All uses in a minute are recorded in one call, and nothing is scheduled before the next use."""
        for task_id in ("one", "two", "one"):
            self.uses.add(KIND, task_id)
            self.clock.advance(RECORD_INTERVAL / 4)
        self.assertEqual(self.recorded, [])
        self.clock.advance(RECORD_INTERVAL / 4)
        self.assertEqual(self.recorded, [{(KIND, "one"), (KIND, "two")}])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.uses.add(KIND, "one")
        self.clock.advance(RECORD_INTERVAL)
        self.assertEqual(self.recorded[1:], [{(KIND, "one")}])

    def test_taken(self) -> None:
        """At the end what was not recorded is taken, and nothing is scheduled."""
        self.assertEqual(self.uses.take(), set())
        self.uses.add(KIND, "one")
        self.assertEqual(self.uses.take(), {(KIND, "one")})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.uses.take(), set())
