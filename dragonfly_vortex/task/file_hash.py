"""
The digest of a file that is still being written: of its first bytes, in order, as far as they are there.

A file that arrives in pieces has no order of its own, and a digest has: so the file is read back in threads, soon after
it was written, while the system still has its pages in memory. One thread hashes at a time, which is the slowest part
of a download; meanwhile the other one reads the next bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.digest import new_hash, parse_digest
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.interfaces import InThread

__all__ = ["GrowingHash", "SharedHash", "TaskHash"]

_WINDOW = 4 * 1024 * 1024
"""Bytes that are read, and then hashed, at a time. A thread needs Python's lock before each, and may wait for it."""

_THREADS = 2
"""One that hashes, and one that reads the next bytes."""

_WINDOWS = 4
"""How many a thread takes before it reports to the reactor."""


class TaskHash:
    """
    The digest of a task's content, which is hashed while its pieces arrive.

    :param target: where they go; open until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread.
    :param on_progress: called in the reactor's thread when some more has been hashed, or could not be.
    :param expected: the digest that the whole must have; empty for none, and then nothing is hashed.
    """

    def __init__(
        self, target: IDownloadTarget, in_thread: InThread, on_progress: Callable[[], None], expected: str
    ) -> None:
        self._target = target
        self._hash: GrowingHash | None = None
        if expected:
            algorithm, _ = parse_digest(expected)
            self._hash = GrowingHash(target.descriptor, in_thread, on_progress, algorithm)
        self._state: object = None

    def follow(self, state: object, length: int) -> int:
        """
        Hash the content up to there.

        :param state: of the pieces. All is hashed anew if it is not equal to the last one.
        :param length: bytes from the first one on that will not change while that is their state.
        :returns: how many of them have not been hashed.
        :raises VortexError: the target cannot be read.
        """
        if self._hash is None:
            return 0
        if self._hash.error is not None:
            raise self._target.failure(f"cannot be read back: {self._hash.error}") from self._hash.error
        if self._state != state:
            self._state = state
            self._hash.start_anew()
        self._hash.grow(length)
        return self._hash.waiting

    def text(self) -> str:
        """The digest of what has been hashed, for example ``sha256:<hex>``; empty where none is expected."""
        return "" if self._hash is None else self._hash.text()

    def stop(self) -> Deferred[None]:
        """Hash no more. Fires when no thread is at work."""
        return succeed(None) if self._hash is None else self._hash.stop()


class GrowingHash:
    """
    Hashes a file as it grows. It belongs to the reactor's thread.

    :param descriptor: the file, open for reading; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread: in the order in which it is asked, or several at once.
    :param on_progress: called in the reactor's thread when some more has been hashed, or could not be.
    :param algorithm: ``sha256``, ``sha512`` or ``crc32``.
    """

    def __init__(
        self, descriptor: int, in_thread: InThread, on_progress: Callable[[], None], algorithm: str = "sha256"
    ) -> None:
        self.error: BaseException | None = None
        """Why there will be no digest: the file could not be read."""
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._on_progress = on_progress
        self._algorithm = algorithm
        self._hash = SharedHash(descriptor, algorithm)
        self._at_work = 0
        self._ending = Ending(lambda: not self._at_work)
        self._is_stopped = False

    @property
    def hashed(self) -> int:
        """Bytes that have been hashed."""
        return self._hash.hashed

    @property
    def waiting(self) -> int:
        """Bytes that are there and have not been hashed."""
        return self._hash.length - self._hash.hashed

    def grow(self, length: int) -> None:
        """
        Hash the file up to there.

        :param length: bytes from the first one on that will not change any more.
        """
        self._hash.grow(length)
        self._run()

    def start_anew(self) -> None:
        """Forget what has been hashed: it has changed, or will."""
        self._hash.stop()
        self._hash = SharedHash(self._descriptor, self._algorithm)

    def text(self) -> str:
        """The digest of what has been hashed, for example ``sha256:<hex>``."""
        return self._hash.text()

    def stop(self) -> Deferred[None]:
        """Hash no more. Fires when no thread is at work."""
        self._is_stopped = True
        self._hash.stop()
        return self._ending.wait()

    def _run(self) -> None:
        """Start threads for the windows that no thread has taken, unless enough are at work already."""
        while self._at_work < self._worth_sending() and not self._is_stopped and self.error is None:
            self._at_work += 1
            # There may be no thread to be had.
            maybeDeferred(self._in_thread, self._hash.work).addBoth(self._ran, self._hash)

    def _worth_sending(self) -> int:
        """How many threads have work in the windows that no thread has taken."""
        return min(_THREADS, -(-self._hash.untaken // _WINDOW))

    def _ran(self, result: Failure | None, hash_: SharedHash) -> None:
        """Handle the end of a thread, unless the hash has begun anew meanwhile."""
        self._at_work -= 1
        if isinstance(result, Failure) and hash_ is self._hash:
            self.error = self.error or result.value
        self._run()
        self._ending.look()
        self._on_progress()


class SharedHash:
    """
    The digest of a file's first bytes, on which several threads work. Each takes a window, reads it, and hashes it
    when the one before has been hashed: so a thread waits only for such as have begun before, and one alone gets on.

    :param descriptor: the file, open for reading.
    :param algorithm: ``sha256``, ``sha512`` or ``crc32``.
    """

    def __init__(self, descriptor: int, algorithm: str = "sha256") -> None:
        self.length = 0
        """Bytes that are there to be hashed."""
        self.hashed = 0
        """Bytes that have been hashed."""
        self._descriptor = descriptor
        self._hasher = new_hash(algorithm)
        self._taken = 0  # bytes that threads have taken, to read and hash them
        self._changed = threading.Condition()
        self._is_stopped = False
        self._windows: list[memoryview] = []  # that no thread uses now

    @property
    def untaken(self) -> int:
        """Bytes that are there and that no thread has taken."""
        return self.length - self._taken

    def grow(self, length: int) -> None:
        """
        Record that the file has grown.

        :param length: bytes from the first one on that will not change any more.
        """
        with self._changed:
            self.length = max(self.length, length)

    def stop(self) -> None:
        """Have the threads end, each with the window that it has."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def text(self) -> str:
        """The digest of what has been hashed, for example ``sha256:<hex>``; while no thread is at work."""
        return self._hasher.text()

    def work(self) -> None:
        """
        In a thread: read and hash some of what is there.

        :raises OSError: it cannot be read. Nothing is hashed any more then.
        """
        try:
            window = self._windows.pop()
        except IndexError:  # all are in use, or there has been none
            window = memoryview(bytearray(_WINDOW))
        try:
            for _ in range(_WINDOWS):
                start, end = self._take()
                if start == end:
                    return
                data = window[: end - start]
                read_exactly(self._descriptor, data, start)
                if not self._is_turn(start):
                    return
                self._hasher.update(data)
                self._go_on(end)
        except BaseException:
            self.stop()  # or the next thread would wait for ever
            raise
        finally:
            self._windows.append(window)

    def _take(self) -> tuple[int, int]:
        """The next window that no thread has taken, its start and its end; an empty one if there is none."""
        with self._changed:
            start = self._taken
            if not self._is_stopped:
                self._taken = min(self.length, start + _WINDOW)
            return start, self._taken

    def _is_turn(self, start: int) -> bool:
        """Wait until all bytes up to an offset are hashed; False if the hash was stopped before."""
        with self._changed:
            self._changed.wait_for(lambda: self.hashed == start or self._is_stopped)
            return not self._is_stopped

    def _go_on(self, end: int) -> None:
        """Record that all bytes up to an offset are hashed."""
        with self._changed:
            self.hashed = end
            self._changed.notify_all()
