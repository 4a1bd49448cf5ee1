"""
Reads ahead in a few threads, so that the reactor's thread only reads what is in memory and never waits for the disk.

The calls before each step of a piece::

    resident()   a probe that never waits. Almost always it says yes, and that is all
    fetch()      if not: a thread reads that step. First it has the kernel read what comes behind it, so that the disk
                 is busy while the step is sent
    close()      the piece is over, or its connection. While a thread reads, the descriptor stays open: a closed one's
                 number may be another file's at once

Nothing asks ahead of time whether a piece is in memory as a whole: most are, and then each such question is work for
nothing.

The probe is ``preadv2(2)`` with ``RWF_NOWAIT``. Where the platform or the file system has none (tmpfs, whose pages are
always there) every page counts as resident. Where a sandbox or the kernel refuses the call, nothing is known, and a
thread reads every step first. What is wrong with a file shows when it is read, not when it is probed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.errors import PieceDamaged, PoolClosed, StorageFailure
from dragonfly_vortex.files import read_at
from dragonfly_vortex.model import FileRange
from dragonfly_vortex.system_calls import is_refused
from dragonfly_vortex.threads import STOP_TIMEOUT, DaemonThreadPool, run_in_pool

__all__ = ["Pages", "ReadAhead", "read_resident"]

_T = TypeVar("_T")

_THREADS = 4

_PROBE_DISTANCE = 256 * 1024
"""Bytes from one probed byte to the next. The kernel reads and evicts files in stretches of about that length."""

_WINDOW = 4 * 1024 * 1024
"""Bytes behind a step that the kernel is asked to read meanwhile: enough for a disk to be busy, little enough for the
steps of other pieces to be read soon."""

_ADVICE = 512 * 1024
"""Bytes of one such question. The kernel silently cuts longer ones to what a disk takes at once."""

_READ_LENGTH = 256 * 1024

_CAN_PROBE = hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT")

_A_BYTE = [bytearray(1)]


class ReadAhead:
    """
    The threads that wait for the disk. They are started when the first page is missing.

    :param reactor: where the Deferreds fire.
    :param threads: how many reads may wait at once.
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int = _THREADS) -> None:
        self._reactor = reactor
        self._threads = threads
        self._pool: DaemonThreadPool | None = None
        self._under_way = 0
        self._is_stopped = False
        self.is_blind = False
        """Whether the kernel has refused a probe, and so does not say what is in memory."""
        self._ending = Ending(lambda: not self._under_way)

    def stop(self, timeout: float = STOP_TIMEOUT) -> Deferred[None]:
        """
        End the threads. No further read may be requested.

        :param timeout: seconds after which a read that the disk does not answer is left behind.
        :returns: fires when the last read has ended, or the time is over.
        """
        ended = self._ending.wait().addTimeout(timeout, IReactorTime(self._reactor), lambda result, _: None)
        return ended.addCallback(self._end_threads)

    def in_thread(self, work: Callable[[], _T]) -> Deferred[_T]:
        """
        Have work done that waits for the disk.

        :returns: fires with what it returns, or fails with what it raises; fails with
            :class:`~dragonfly_vortex.errors.PoolClosed` after the end.
        """
        if self._is_stopped:
            return fail(PoolClosed("expected threads that read ahead, they are stopped"))
        if self._pool is None:
            self._pool = DaemonThreadPool(minthreads=0, maxthreads=self._threads, name="read-ahead")
            self._pool.start()
        done: Deferred[_T] = Deferred()

        def came_back(result: _T | Failure) -> None:
            self._under_way -= 1
            done.callback(result)  # before the end, which is to find nothing left to do
            self._ending.look()

        self._under_way += 1
        run_in_pool(self._reactor, self._pool, work).addBoth(came_back)
        return done

    def _end_threads(self, _: None) -> None:
        self._is_stopped = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.abandon() if self._under_way else pool.stop()


def read_resident(content: FileRange, read_ahead: ReadAhead | None) -> bytearray | None:
    """
    Read a small range at once, if all of it is in memory.

    :param content: its descriptor stays the caller's.
    :param read_ahead: as for :class:`Pages`.
    :returns: None where it is not known to be in memory, is shorter, or cannot be read: :class:`Pages` says which.
    """
    descriptor, offset, length = content
    data = bytearray(length)
    try:
        if read_ahead is None:
            got = read_at(descriptor, memoryview(data), offset)
        elif _CAN_PROBE and not read_ahead.is_blind:
            try:
                got = os.preadv(descriptor, [data], offset, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    return None
                got = read_at(descriptor, memoryview(data), offset)  # a file system whose pages are always there
        else:
            return None
    except OSError:
        return None
    return data if got == length else None


class Pages:
    """
    A piece's range in an open file, read where it is in memory, and fetched where it is not.

    :param source: the range; its descriptor is closed by :meth:`close` alone.
    :param read_ahead: fetches what is not in memory. None: everything counts as resident.
    """

    __slots__ = ("_advised", "_closed", "_fetched", "_fetching", "_probes", "_read_ahead", "source")

    def __init__(self, source: FileRange, read_ahead: ReadAhead | None = None) -> None:
        self.source = source
        self._read_ahead = read_ahead
        self._probes = _CAN_PROBE and read_ahead is not None
        self._fetched = 0  # what is before this offset has been fetched, or seen in memory, and is not probed again
        self._advised = 0  # what is before this offset the kernel has been asked to read
        self._fetching = False
        self._closed = False

    def resident(self, offset: int, length: int) -> bool:
        """
        Whether a part can be read without waiting for the disk.

        :param offset: in the file.
        :param length: bytes, at least 1.
        """
        if not self._probes or offset < self._fetched:
            return True
        if self._is_blind():
            return False
        descriptor, end = self.source.descriptor, offset + length
        try:
            # The last byte of each stretch: a disk reads forwards, so it comes last.
            for behind in (*range(offset + _PROBE_DISTANCE, end, _PROBE_DISTANCE), end):
                if not os.preadv(descriptor, _A_BYTE, behind - 1, os.RWF_NOWAIT):
                    return False  # no byte is the end of the file, or not: see read()
        except BlockingIOError:
            return False
        except OSError as error:
            self._cannot_probe(error)
            if self._is_blind():
                return False
        self._fetched = end  # a socket may take the part bit by bit
        return True

    def read(self, offset: int, length: int) -> bytearray | None:
        """
        Read a part, if that can be done without waiting for the disk.

        :param offset: in the file.
        :param length: bytes.
        :returns: the bytes, fewer where the file ends before; None where a page is not in memory, or may not be. A file
            that seems to end is believed only when it has been waited for: Linux 5.9 and 5.10 may say 0 bytes for what
            is not in memory (preadv2(2), "Bugs"), and a sound piece would count as damaged.
        :raises OSError: the file cannot be read.
        """
        data = bytearray(length)
        got = self.read_into(offset, memoryview(data))
        if got is None:
            return None
        del data[got:]
        return data

    def read_into(self, offset: int, buffer: memoryview) -> int | None:
        """
        Read a part into memory that is there, if that can be done without waiting for the disk.

        :param offset: in the file.
        :param buffer: as many bytes are read.
        :returns: how many bytes were read, as :meth:`read` says it.
        :raises OSError: the file cannot be read.
        """
        descriptor = self.source.descriptor
        if not self._probes or offset < self._fetched:
            return read_at(descriptor, buffer, offset)
        if self._is_blind():
            return None
        try:
            got = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            self._cannot_probe(error)
            return None if self._is_blind() else read_at(descriptor, buffer, offset)
        return got if got == len(buffer) else None

    def read_all(self) -> bytearray | None:
        """
        Read the whole range and close it, if that can be done without waiting for the disk.

        :returns: None where a part is not in memory; the range stays open then.
        :raises PieceDamaged: the file ends too early.
        :raises StorageFailure: the file cannot be read.
        """
        _, offset, length = self.source
        try:
            data = self.read(offset, length)
        except OSError as error:
            self.close()
            raise StorageFailure(f"reading a piece's file failed: {error.strerror}") from error
        if data is None:
            return None
        self.close()
        if len(data) != length:
            raise PieceDamaged(f"expected {length} bytes at offset {offset} of the file, got {len(data)}")
        return data

    def fetch(self, offset: int, length: int) -> Deferred[None]:
        """
        Read a part in a thread, and have what is behind it read meanwhile. One at a time.

        :param offset: in the file.
        :param length: bytes.
        :returns: fires when the part is in memory, or the file ends before; fails with :class:`OSError`.
        """
        if self._read_ahead is None:
            return succeed(None)
        self._fetching = True
        fetching = self._read_ahead.in_thread(lambda: self._fetch(offset, offset + length))
        return fetching.addBoth(self._came_back, offset + length)

    def close(self) -> None:
        """Close the descriptor, as soon as no thread reads from it."""
        self._closed = True
        if not self._fetching:
            os.close(self.source.descriptor)

    def _is_blind(self) -> bool:
        """Whether the kernel does not say what is in memory, which may or may not be everything."""
        return self._read_ahead is not None and self._read_ahead.is_blind

    def _cannot_probe(self, error: OSError) -> None:
        """Handle a failed probe, of all files or of this one, whose file system has no probes or which is no file."""
        if self._read_ahead is not None and is_refused(error) and error.errno != errno.EOPNOTSUPP:
            self._read_ahead.is_blind = True
        else:
            self._probes = False

    def _came_back(self, result: _T, end: int) -> _T:
        self._fetching = False
        self._fetched = end
        if self._closed:
            os.close(self.source.descriptor)
        return result

    def _fetch(self, offset: int, end: int) -> None:
        """In a thread: the kernel is asked for more than the part, then the part is read."""
        descriptor, _, _ = self.source
        if hasattr(os, "posix_fadvise"):
            window = min(end + _WINDOW, self.source.offset + self.source.length)
            with contextlib.suppress(OSError):  # it is advice: where it is refused, less is in memory in time
                for start in range(max(offset, self._advised), window, _ADVICE):
                    os.posix_fadvise(descriptor, start, min(_ADVICE, window - start), os.POSIX_FADV_WILLNEED)
            self._advised = window
        buffer = memoryview(bytearray(min(_READ_LENGTH, end - offset)))
        while offset < end and not self._closed:
            got = read_at(descriptor, buffer[: end - offset], offset)
            if not got:
                break
            offset += got
