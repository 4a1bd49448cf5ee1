"""Tests of the hash of a file that grows: over real files, with threads that the test lets run."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.digest import new_hash
from dragonfly_vortex.task.hashing import GrowingHash, hash_range

_T = TypeVar("_T")

MIB = 1024 * 1024


class HeldThreads:
    """Threads that do nothing until they are told to, and then at once."""

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
        self.content = os.urandom(20 * MIB)
        self.descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)
        os.pwrite(self.descriptor, self.content, 0)
        self.threads = HeldThreads()
        self.heard = 0
        self.hash = GrowingHash(self.descriptor, self.threads, self.hear)

    def hear(self) -> None:
        """Count what is told."""
        self.heard += 1

    def digest(self, length: int) -> str:
        """What is expected for the first bytes."""
        return f"sha256:{hashlib.sha256(self.content[:length]).hexdigest()}"

    def test_grows(self) -> None:
        """It hashes what is there, in order, asks for no more than two threads at a time, and says so."""
        self.hash.grow(5)
        self.hash.grow(7)
        self.hash.grow(MIB + 1)
        self.assertEqual((len(self.threads.calls), self.hash.waiting), (2, MIB + 1))
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.heard), (5, 1))
        self.threads.run_one()
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.hash.waiting, self.heard), (MIB + 1, 0, 3))
        self.assertEqual(self.hash.text(), self.digest(MIB + 1))
        self.assertEqual(self.threads.calls, [])

    def test_stretches(self) -> None:
        """A long way is gone in stretches, so that it can be stopped and be heard of."""
        self.hash.grow(len(self.content))
        for hashed in (8, 16, 20):
            self.threads.run_one()
            self.assertEqual(self.hash.hashed, hashed * MIB)
        self.assertEqual(self.hash.text(), self.digest(len(self.content)))

    def test_order(self) -> None:
        """A thread that comes first waits for the one that hashes what is before."""
        self.hash.grow(len(self.content))
        later = threading.Thread(target=self.threads.calls[1][0])
        later.start()
        self.threads.run_one()
        later.join(10)
        self.assertFalse(later.is_alive())
        self.assertEqual(self.hash.text(), self.digest(16 * MIB))

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
        self.assertEqual(self.hash.hashed, 0)
        self.threads.run_one()
        self.assertEqual((self.hash.hashed, self.hash.text()), (7, self.digest(7)))

    def test_stops(self) -> None:
        """Stopped, it begins nothing more, and says when the thread at work is done."""
        self.hash.grow(len(self.content))
        stopped = self.hash.stop()
        for _ in range(2):
            self.assertNoResult(stopped)
            self.threads.run_one()
        self.assertIsNone(self.successResultOf(stopped))
        self.hash.grow(len(self.content))
        self.assertEqual(self.threads.calls, [])
        self.assertIsNone(self.successResultOf(self.hash.stop()))

    def test_short_file(self) -> None:
        """A file that ends before it should is an error, which is kept; nothing is hashed after it."""
        os.ftruncate(self.descriptor, 10)
        self.hash.grow(MIB)
        self.threads.run_one()
        self.assertEqual(str(self.hash.error), f"expected {MIB} bytes in the file, got 10")
        self.assertEqual((self.heard, self.threads.calls), (1, []))

    def test_heard_in_reverse(self) -> None:
        """When the second of two threads is heard of first, all is hashed all the same."""
        self.hash.grow(9 * MIB)
        (first, first_done), (second, second_done) = self.threads.calls
        first()
        second()
        second_done.callback(None)
        self.assertEqual(self.hash.waiting, 0)
        first_done.callback(None)
        self.assertEqual((self.hash.waiting, self.hash.text()), (0, self.digest(9 * MIB)))

    def test_forgotten_error(self) -> None:
        """What could not be read of what is forgotten is no error."""
        os.ftruncate(self.descriptor, 10)
        self.hash.grow(MIB)
        self.hash.start_anew()
        self.hash.grow(10)
        for _ in range(2):
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

    def test_short_file_far_behind(self) -> None:
        """What comes behind an error is not hashed, and the error is the first."""
        os.ftruncate(self.descriptor, 10)
        self.hash.grow(len(self.content))
        for _ in range(2):
            self.threads.run_one()
        self.assertEqual(str(self.hash.error), f"expected {8 * MIB} bytes in the file, got 10")
        self.assertEqual((self.hash.hashed, self.heard, self.threads.calls), (0, 2, []))


class HashRangeTests(SynchronousTestCase):
    """Bytes of a file, hashed in this thread."""

    def test_range(self) -> None:
        """Exactly the range is hashed, whatever windows it is read in."""
        content = os.urandom(3 * MIB + 17)
        descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        os.pwrite(descriptor, content, 0)
        for start, end in ((0, len(content)), (1, 2), (5, MIB + 5), (7, 2 * MIB + 9)):
            hasher = new_hash("sha256")
            hash_range(hasher, descriptor, start, end)
            self.assertEqual(hasher.text(), f"sha256:{hashlib.sha256(content[start:end]).hexdigest()}")
