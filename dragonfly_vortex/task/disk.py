"""
Brings a growing file to the disk: :class:`WriteBack` writes each piece's bytes there soon after they arrive,
:class:`Reservation` has room for the whole reserved when its length is known, and :class:`Allocation` makes room a
little ahead while it is not. :class:`SparePlace` is room for a second copy of a piece. All work in a thread.

With the first, the end of a download has little to wait for, and so many bytes never wait for the disk that the kernel
would stop the reactor's thread when it writes more. With the second, a write costs the reactor's thread less, because
the file system does not have to find room for it, and the file lies in fewer parts. The length of a task may be known
only at its end, and so room is made as the file grows.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.files import read_exactly, write_all
from dragonfly_vortex.geometry import BLOCK_LENGTH
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.storage.disk import allocate, write_back

__all__ = ["WORTH_A_THREAD", "Allocation", "Reservation", "SparePlace", "WriteBack"]


WORTH_A_THREAD = 1024 * 1024
"""Bytes that are worth the way to a thread and back."""


class WriteBack:
    """
    Brings a file to the disk as it grows. It belongs to the reactor's thread, and never has more than one thread at
    work: pieces that arrive while that one waits for the disk are written together.

    :param descriptor: the file, open for writing; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread.
    :param most: bytes that may wait for the disk before it is behind.
    :param least: bytes that must have arrived before a thread is set to work.
    """

    def __init__(self, descriptor: int, in_thread: InThread, *, most: int, least: int = WORTH_A_THREAD) -> None:
        self.waiting = 0
        """Bytes that have been added and are not on the disk."""
        self.error: BaseException | None = None
        """Why nothing more is written: the disk has failed."""
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._most = most
        self._least = least
        self._untaken: list[tuple[int, int]] = []
        self._untaken_length = 0
        self._held_back: list[Deferred[None]] = []
        self._at_work = DeferredLock()
        self._is_stopped = False

    @property
    def is_behind(self) -> bool:
        """Whether more waits for the disk than may."""
        return self.waiting > self._most

    def add(self, start: int, end: int) -> Deferred[None]:
        """
        Count bytes that were written to the file.

        :param start: of the first of them.
        :param end: behind the last of them.
        :returns: fires when it is not behind any more, which may be at once. Fails when the disk has failed.
        """
        self.waiting += end - start
        self._untaken.append((start, end))
        self._untaken_length += end - start
        if self._untaken_length >= self._least or self.waiting > self._most:
            self._run()
        if self.error is None and (self.waiting <= self._most or self._is_stopped):
            return succeed(None)
        added: Deferred[None] = Deferred()
        self._held_back.append(added)
        self._let_go()
        return added

    def stop(self) -> Deferred[None]:
        """Write no more, and hold no request back. Fires when no thread is at work, which is soon."""
        self._is_stopped = True
        self._let_go()
        stopped: Deferred[None] = self._at_work.run(lambda: None)
        return stopped

    def _run(self) -> None:
        """Have the bytes that arrived written to the disk, unless a thread is at work already."""
        is_enough = self._untaken_length >= self._least or (self.is_behind and self._untaken)
        if self._at_work.locked or self._is_stopped or self.error is not None or not is_enough:
            return
        taken, self._untaken = self._untaken, []
        length, self._untaken_length = self._untaken_length, 0
        done = self._at_work.run(self._in_thread, lambda: write_back(self._descriptor, taken, self._is_going_on))
        done.addBoth(self._ran, length)

    def _is_going_on(self) -> bool:
        """Whether the work of a thread is still wanted. Called in the thread."""
        return not self._is_stopped

    def _ran(self, result: Failure | None, length: int) -> None:
        """Handle the end of a thread: more of the file is on the disk, or the disk has failed."""
        self.waiting -= length
        if isinstance(result, Failure):
            self.error = result.value
        self._run()
        self._let_go()

    def _let_go(self) -> None:
        """Fire the Deferreds of requests that were held back, if the disk has caught up."""
        if self.is_behind and self.error is None and not self._is_stopped:
            return
        held_back, self._held_back = self._held_back, []
        for added in held_back:
            if self.error is None:
                added.callback(None)
            else:
                added.errback(self.error)


_AHEAD = 64 * 1024 * 1024
"""Bytes of room ahead of those that arrived: tens of milliseconds of the fastest network, and soon given back."""


class Allocation:
    """
    Makes room for a file as it grows. It belongs to the reactor's thread. If the disk has no room it does nothing
    more: the write itself will fail.

    :param descriptor: the file, open for writing; it stays open at least until :meth:`stop` has fired.
    :param in_thread: how to call a function in a thread.
    :param task_id: the task, which lines of the log about this download name.
    """

    _log = Logger()

    def __init__(self, descriptor: int, in_thread: InThread, task_id: str = "") -> None:
        self.task_id = task_id
        self.enough_until = WORTH_A_THREAD // 2 - 1
        """Up to where :meth:`reach` has nothing to do, in bytes from the file's start."""
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._reached = 0
        self._allocated = 0
        self._limit: int | None = None
        self._at_work = DeferredLock()
        self._is_over = False

    def reach(self, end: int, content_length: int | None) -> None:
        """
        Record that bytes were written, and allocate room for as much again behind them, at most 64 MiB. A few bytes
        need none.

        :param end: of what has been written, in bytes from the file's start.
        :param content_length: bytes that the whole file will have; None while it is unknown.
        """
        self._reached = max(self._reached, end)
        self._limit = content_length
        self._run()

    def skip(self, end: int) -> None:
        """Record that there is room up to an offset, without allocating it."""
        if end > self._allocated:
            self._allocated = self.enough_until = end

    def stop(self) -> Deferred[None]:
        """Make no more room. Fires when no thread is at work, which is soon."""
        self._is_over = True
        stopped: Deferred[None] = self._at_work.run(lambda: None)
        return stopped

    def _run(self) -> None:
        """Have more room made when half of it is used, unless a thread is at work already."""
        if self._is_over or self._at_work.locked:
            return
        ahead = min(self._reached, _AHEAD)
        end = self._reached + ahead if self._limit is None else min(self._reached + ahead, self._limit)
        missing = end - self._allocated
        if missing >= max(ahead // 2, WORTH_A_THREAD):
            # Not from the beginning of a long file whose end came first: the writer would wait for that.
            start = max(self._allocated, end - 2 * _AHEAD)
            made = self._at_work.run(self._in_thread, lambda: allocate(self._descriptor, start, end))
            made.addBoth(self._made, end)

    def _made(self, result: Failure | None, end: int) -> None:
        """Handle the end of a thread: room was allocated, or there is none."""
        if isinstance(result, Failure):
            self._is_over = True
            if result.check(OSError) is None:
                self._log.failure("Room on the disk cannot be allocated", result)
            return
        self._allocated = end
        self.enough_until = max(min((end + WORTH_A_THREAD) // 2, _AHEAD), end - _AHEAD // 2) - 1  # as in _run()
        self._run()


class Reservation:
    """
    Has room for a whole content reserved, once its length is known. It belongs to the reactor's thread.

    :param reserve: see :meth:`~dragonfly_vortex.download_target.IDownloadTarget.reserve`.
    :param changed: called when a reservation has been made, or has failed.
    """

    def __init__(self, reserve: Callable[[int], Deferred[None]], changed: Callable[[], None]) -> None:
        self.length = 0
        """Bytes for which there is room."""
        self._reserve = reserve
        self._changed = changed
        self._asked: int | None = None
        self._refusal: BaseException | None = None
        self._at_work = DeferredLock()

    def ask(self, content_length: int | None) -> BaseException | None:
        """
        Reserve the room in a thread, unless a thread has begun to. A few bytes need none.

        :param content_length: bytes of the whole, as far as is known now.
        :returns: why there is no room for that; None where there is, or that is not known.
        """
        if content_length is None or content_length < WORTH_A_THREAD or self._at_work.locked:
            return None
        if content_length != self._asked:
            self._asked, self._refusal = content_length, None
            reserving: Deferred[None] = self._at_work.run(self._reserve, content_length)
            reserving.addBoth(self._ended, content_length)
        return self._refusal

    def stop(self) -> Deferred[None]:
        """Fires when no thread is at work."""
        stopped: Deferred[None] = self._at_work.run(lambda: None)
        return stopped

    def _ended(self, result: Failure | None, content_length: int) -> None:
        """Handle the end of a thread: the room is reserved, or there is none."""
        if isinstance(result, Failure):
            self._refusal = result.value
        else:
            self.length = content_length
        self._changed()


class SparePlace:
    """
    A place of its own for another copy of a piece: two requests for one piece never write to the same bytes, because
    one could spoil what the other has verified. It is a file without a name, which ends with its descriptor, however
    this process ends.

    :param directory: where it takes its room: on the file system that the piece goes to in the end.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None

    @property
    def descriptor(self) -> int:
        """
        The file, open for reading and writing.

        :raises OSError: it is not open.
        """
        if self._file is None:
            raise OSError(errno.EBADF, "the place of another copy of a piece is not open")
        return self._file.fileno()

    def open(self) -> None:
        """
        Make the file. Blocks.

        :raises OSError: it cannot be made.
        """
        self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115  # close() closes it

    def copy(self, place: FilePlace, length: int, is_held: Callable[[], bool] = lambda: True) -> None:
        """
        Copy the piece to its place. Blocks.

        :param place: of its first byte.
        :param length: bytes of it.
        :param is_held: whether that place may still be written.
        :raises OSError: it cannot be read, or not be written.
        """
        buffer = memoryview(bytearray(min(BLOCK_LENGTH, length)))
        for start in range(0, length, BLOCK_LENGTH):
            block = buffer[: length - start]
            read_exactly(self.descriptor, block, start)
            if not is_held():
                raise OSError(errno.ECANCELED, "another download has taken this piece over")
            write_all(place.descriptor, block, place.offset + start)

    def close(self) -> None:
        """Close the file, which frees its room. Blocks; closed already, nothing is done."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
