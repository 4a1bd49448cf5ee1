"""Tests of the threads of a storage: real ones, which wait for events."""

from __future__ import annotations

import threading
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.storage.reactor.threads import StorageThreads
from dragonfly_vortex.threads import DaemonThreadPool


class StorageThreadsTests(TestCase):
    """Work for two threads."""

    timeout = 120

    def setUp(self) -> None:
        self.done: list[str] = []
        self.threads = StorageThreads(Path("storage"), IReactorFromThreads(reactor))

    def start(self) -> None:
        """Start the threads, which end with the test."""
        self.threads.start()
        self.addCleanup(lambda: self.threads.stop(lambda: None, 10.0))

    def close(self) -> None:
        """Be the last work."""
        self.done.append("closed")

    async def test_closed(self) -> None:
        """Before the start and after the end no work is taken."""
        for _ in range(2):
            for take in (self.threads.ask, self.threads.at_disk):
                with self.assertRaisesRegex(StorageFailure, "expected the storage storage to be open, it is closed"):
                    await take(lambda: None)
            self.assertFalse(self.threads.are_started)
            self.threads.start()
            await self.threads.stop(lambda: None, 10.0)

    async def test_order(self) -> None:
        """Work is done in order, and the storage is closed after all of it."""
        self.start()
        asked = [self.threads.ask(lambda name=name: self.done.append(name)) for name in "ab"]  # type: ignore[misc]
        self.threads.call(lambda: self.done.append("c"))
        await self.threads.stop(self.close, 10.0)
        self.assertEqual(self.done, ["a", "b", "c", "closed"])
        for each in asked:
            self.assertIsNone(self.successResultOf(each))

    async def test_disk(self) -> None:
        """Questions are answered while another thread waits for the disk; the end waits for that, too."""
        self.start()
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        synced = self.threads.at_disk(go_on.wait)
        self.assertEqual(await self.threads.ask(lambda: "answer"), "answer")
        stopped = self.threads.stop(self.close, 30.0)
        self.assertNoResult(stopped)
        go_on.set()
        await stopped
        self.assertTrue(self.successResultOf(synced))

    async def test_one_thread(self) -> None:
        """Where the system starts no second thread the first one waits for the disk, and the next work may have it."""
        self.start()
        first = await self.threads.ask(threading.current_thread)

        def refuse(**arguments: object) -> None:
            raise RuntimeError("can't start new thread at interpreter shutdown")

        patched = self.patch(DaemonThreadPool, "threadFactory", staticmethod(refuse))
        self.assertIs(await self.threads.at_disk(threading.current_thread), first)
        patched.restore()
        self.assertIsNot(await self.threads.at_disk(threading.current_thread), first)

    async def test_hanging(self) -> None:
        """A thread that is busy for longer than the end may take is left behind."""
        self.start()
        is_busy, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def hang() -> None:
            is_busy.set()
            go_on.wait()

        hanging = self.threads.ask(hang)
        await deferToThread(is_busy.wait)
        await self.threads.stop(self.close, 0.05)
        self.assertNoResult(hanging)
        self.assertEqual(self.done, [])
        go_on.set()
        await hanging

    async def test_blocking_end(self) -> None:
        """The end that blocks finishes the work, too."""
        self.start()
        self.threads.call(lambda: self.done.append("a"))
        await self.threads.at_disk(lambda: None)
        self.threads.finish(self.close)
        self.assertEqual((self.done, self.threads.are_started), (["a", "closed"], False))
