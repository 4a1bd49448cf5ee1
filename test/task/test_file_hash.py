"""Tests of the hash of a file that grows: over real files, with threads that the test lets run."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task import file_hash
from dragonfly_vortex.task.file_hash import GrowingHash, SharedHash

_T = TypeVar("_T")

MIB = 1024 * 1024


class HeldThreads:
    """Threads that run when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, function: Callable[[], _T], /) -> Deferred[_T]:
        """Keep a call for later. A thread cannot be cancelled."""
        done: Deferred[_T] = Deferred()
        self.calls.append((function, done))
        return done

    def run_one(self) -> None:
        """Do the first call that was kept."""
        function, done = self.calls.pop(0)
        execute(function).chainDeferred(done)


class GrowingHashTests(SynchronousTestCase):
    """A hash that follows a file."""

    def setUp(self) -> None:
        self.content = os.urandom(40 * MIB)
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        os.pwrite(self.descriptor, self.content, 0)
        self.threads = HeldThreads()
        self.heard = 0
        self.hash = GrowingHash(self.descriptor, self.threads, self.hear)

    def hear(self) -> None:
        """Count the calls."""
        self.heard += 1

    def digest(self, length: int) -> str:
        """What is expected for the first bytes."""
        return f"sha256:{hashlib.sha256(self.content[:length]).hexdigest()}"

    def test_grows(self) -> None:
        """It hashes what is there, in order, and says so."""
        self.hash.grow(5)
        self.hash.grow(7)
        self.assertEqual((len(self.threads.calls), self.hash.waiting), (1, 7))
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.hash.waiting, self.heard), (7, 0, 1))
        self.hash.grow(MIB + 1)
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.hash.waiting, self.heard), (MIB + 1, 0, 2))
        self.assertEqual(self.hash.text(), self.digest(MIB + 1))
        self.assertEqual(self.threads.calls, [])

    def test_two_threads(self) -> None:
        """Where there is more than a window two threads are asked for, and never more at a time."""
        self.hash.grow(4 * MIB)
        self.assertEqual(len(self.threads.calls), 1)
        self.hash.grow(len(self.content))
        self.assertEqual(len(self.threads.calls), 2)
        self.hash.grow(len(self.content))
        self.assertEqual(len(self.threads.calls), 2)

    def test_heard_of(self) -> None:
        """A thread ends now and then, so that it is heard of, and is sent again."""
        self.hash.grow(len(self.content))
        for hashed in (16, 32, 40):
            self.threads.run_one()
            self.assertEqual(self.hash.hashed, hashed * MIB)
        self.assertEqual((self.hash.text(), self.heard), (self.digest(len(self.content)), 3))

    def test_nothing(self) -> None:
        """Of no bytes there is a digest without a thread."""
        self.hash.grow(0)
        self.assertEqual((self.threads.calls, self.hash.text()), ([], self.digest(0)))

    def test_starts_anew(self) -> None:
        """What a thread has under way when all is forgotten does not count."""
        self.hash.grow(MIB)
        self.hash.start_anew()
        self.hash.grow(7)
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.hash.waiting), (0, 7))
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.hash.text()), (7, self.digest(7)))

    def test_stops(self) -> None:
        """Stopped, it begins nothing more, and says when no thread is at work."""
        self.hash.grow(len(self.content))
        stopped = self.hash.stop()
        for _ in range(2):
            self.assertNoResult(stopped)
            self.threads.run_one()
        self.assertIsNone(self.successResultOf(stopped))
        self.hash.grow(len(self.content))
        self.assertEqual((self.threads.calls, self.hash.hashed), ([], 0))
        self.assertIsNone(self.successResultOf(self.hash.stop()))

    def test_short_file(self) -> None:
        """A file that ends before it should is an error, which is kept; nothing is hashed after it."""
        os.ftruncate(self.descriptor, 10)
        self.hash.grow(MIB)
        self.threads.run_one()
        self.assertEqual(str(self.hash.error), f"[Errno 5] expected {MIB} bytes at 0, got 10")
        self.assertEqual((self.heard, self.threads.calls), (1, []))

    def test_short_file_far_behind(self) -> None:
        """What comes behind an error is not hashed, and the error is the first."""
        os.ftruncate(self.descriptor, 10)
        self.hash.grow(len(self.content))
        for _ in range(2):
            self.threads.run_one()
        self.assertEqual(str(self.hash.error), f"[Errno 5] expected {4 * MIB} bytes at 0, got 10")
        self.assertEqual((self.hash.hashed, self.heard, self.threads.calls), (0, 2, []))

    def test_forgotten_error(self) -> None:
        """What could not be read of what is forgotten is no error."""
        self.hash.grow(MIB)
        (forgotten, done) = self.threads.calls.pop()
        os.ftruncate(self.descriptor, 10)
        error = self.assertRaises(OSError, forgotten)
        self.hash.start_anew()
        self.hash.grow(10)
        done.errback(error)
        self.threads.run_one()
        self.assertEqual((self.hash.error, self.hash.text()), (None, self.digest(10)))

    def test_no_thread(self) -> None:
        """Where no thread can be had that is the error, and it can be stopped."""

        def no_thread(function: Callable[[], _T]) -> Deferred[_T]:
            raise RuntimeError("no thread")

        growing = GrowingHash(self.descriptor, no_thread, self.hear)
        growing.grow(MIB)
        self.assertIsInstance(growing.error, RuntimeError)
        self.successResultOf(growing.stop())


class SharedHashTests(SynchronousTestCase):
    """Several threads that work on one hash."""

    def setUp(self) -> None:
        self.content = os.urandom(11 * MIB + 17)
        path = Path(self.mktemp())
        path.write_bytes(self.content)
        self.descriptor = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, self.descriptor)
        self.hash = SharedHash(self.descriptor)

    def start(self) -> threading.Thread:
        """A thread that works until nothing is left to be taken."""

        def work() -> None:
            while self.hash.untaken > 0:
                self.hash.work()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def join(self, *threads: threading.Thread) -> None:
        """Wait for threads, which have little to do."""
        for thread in threads:
            thread.join(120)
            self.assertFalse(thread.is_alive())

    def test_threads(self) -> None:
        """However many there are, and however little they read at once, it is the hash of the whole."""
        self.patch(file_hash, "_WINDOW", 100_000)
        preadv = os.preadv
        self.patch(os, "preadv", lambda descriptor, data, start: preadv(descriptor, [data[0][:70_000]], start))
        self.hash.grow(len(self.content))
        self.join(*[self.start() for _ in range(5)])
        self.assertEqual(self.hash.text(), f"sha256:{hashlib.sha256(self.content).hexdigest()}")

    def hold_first(self) -> tuple[threading.Event, threading.Event]:
        """Let the reading of the first bytes take its time: it tells when it has begun, and waits for leave to end."""
        begun, may_end = threading.Event(), threading.Event()
        self.addCleanup(may_end.set)
        preadv = os.preadv

        def read(descriptor: int, data: list[memoryview], start: int) -> int:
            if not start:
                begun.set()
                may_end.wait(120)
            return preadv(descriptor, data, start)

        self.patch(os, "preadv", read)
        return begun, may_end

    def test_order(self) -> None:
        """A thread that has read a later window waits with hashing it."""
        begun, may_end = self.hold_first()
        self.hash.grow(8 * MIB)
        first = self.start()
        begun.wait(120)
        second = self.start()
        self.assertEqual((self.hash.hashed, second.is_alive()), (0, True))
        may_end.set()
        self.join(first, second)
        self.assertEqual(self.hash.text(), f"sha256:{hashlib.sha256(self.content[: 8 * MIB]).hexdigest()}")

    def test_stopped(self) -> None:
        """Stopped, a thread that waits for another one waits no longer, and none goes on."""
        begun, may_end = self.hold_first()
        self.hash.grow(len(self.content))
        first = self.start()
        begun.wait(120)
        second = threading.Thread(target=self.hash.work, daemon=True)
        second.start()
        self.hash.stop()
        self.join(second)
        self.hash.length = 0  # for the thread of this test, which asks whether there is more
        may_end.set()
        self.join(first)
        self.assertEqual(self.hash.hashed, 0)

    def test_stopped_before(self) -> None:
        """A thread that comes when it has been stopped does not even read."""
        self.patch(os, "preadv", lambda *_: self.fail("something is read"))
        self.hash.grow(len(self.content))
        self.hash.stop()
        self.hash.work()
        self.assertEqual(self.hash.hashed, 0)

    def test_error(self) -> None:
        """When one cannot read, the one behind it, which can, does not wait for ever."""
        preadv = os.preadv
        waits = threading.Event()

        def read(descriptor: int, data: list[memoryview], start: int) -> int:
            if start:
                waits.set()
                return preadv(descriptor, data, start)
            waits.wait(120)
            return 0

        self.patch(os, "preadv", read)
        self.hash.grow(8 * MIB)
        errors: list[str] = []

        def work() -> None:
            try:
                self.hash.work()
            except OSError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        self.join(*threads)
        self.assertEqual((errors, self.hash.hashed), ([f"[Errno 5] expected {4 * MIB} bytes at 0, got 0"], 0))
