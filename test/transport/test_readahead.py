"""Tests of what waits for the disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.errors import PoolClosed
from dragonfly_vortex.model import FileRange
from dragonfly_vortex.threads import DaemonThreadPool
from dragonfly_vortex.transport import readahead
from dragonfly_vortex.transport.readahead import Pages, ReadAhead, read_resident
from test.transport.cold import cold_file, is_resident, make_hole
from test.vortex.serving import REACTOR, open_descriptors

KIB = 1024
MIB = 1024 * KIB


class PagesTests(TestCase):
    """Ranges of real files, in memory and not."""

    timeout = 120

    def setUp(self) -> None:
        """Threads of its own, which end with the test."""
        self.read_ahead = ReadAhead(REACTOR, threads=1)
        self.addCleanup(self.read_ahead.stop)
        self.path = Path(self.mktemp())

    def pages(self, offset: int = 0, length: int | None = None) -> Pages:
        """A range of the file, up to its end."""
        descriptor = os.open(self.path, os.O_RDONLY)
        length = self.path.stat().st_size - offset if length is None else length
        return Pages(FileRange(descriptor, offset, length), self.read_ahead)

    async def test_cold(self) -> None:
        """What is not in memory is not read, until it has been fetched."""
        content = cold_file(self.path, 1 * MIB)
        pages = self.pages()
        self.addCleanup(pages.close)
        self.assertFalse(pages.resident(0, 512 * KIB))
        self.assertIsNone(pages.read(256 * KIB, 64 * KIB))
        await pages.fetch(0, 512 * KIB)
        again = self.pages()  # which has fetched nothing, and so must ask
        self.addCleanup(again.close)
        self.assertTrue(again.resident(0, 512 * KIB))
        self.assertEqual(again.read(0, 64 * KIB), content[: 64 * KIB])

    def test_resident_at_once(self) -> None:
        """A small range is read at once where all of it is in memory, and not where that is unknown."""
        content = cold_file(self.path, 128 * KIB)
        descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        small = FileRange(descriptor, 64 * KIB, 4 * KIB)
        self.assertIsNone(read_resident(small, self.read_ahead))
        self.assertEqual(read_resident(small, None), content[64 * KIB : 68 * KIB])  # which waits for the disk
        self.assertEqual(read_resident(small, self.read_ahead), content[64 * KIB : 68 * KIB])
        self.assertIsNone(read_resident(FileRange(descriptor, 127 * KIB, 4 * KIB), self.read_ahead))
        preadv = os.preadv

        def preadv_of_tmpfs(descriptor: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
            if flags:
                raise OSError(errno.EOPNOTSUPP, "tmpfs")
            return preadv(descriptor, buffers, offset)

        self.patch(os, "preadv", preadv_of_tmpfs)
        self.assertEqual(read_resident(small, self.read_ahead), content[64 * KIB : 68 * KIB])
        self.read_ahead.is_blind = True
        self.assertIsNone(read_resident(small, self.read_ahead))
        self.assertIsNone(read_resident(FileRange(-1, 0, 1), None))

    async def test_behind(self) -> None:
        """Fetching has the kernel read what is behind, too, but not behind the range."""
        cold_file(self.path, 8 * MIB)
        pages = self.pages(0, 6 * MIB)
        self.addCleanup(pages.close)
        await pages.fetch(0, 64 * KIB)
        self.assertTrue(pages.resident(64 * KIB - 1, 1))
        descriptor = pages.source.descriptor
        os.pread(descriptor, 1, 4 * MIB)  # waits for what was asked for
        self.assertTrue(all(is_resident(descriptor, offset) for offset in range(0, 4 * MIB, 64 * KIB)))
        self.assertFalse(is_resident(descriptor, 8 * MIB - 1))

    def test_holes(self) -> None:
        """A stretch of 256 KiB that is not in memory is seen wherever it is."""
        cold_file(self.path, 1 * MIB)
        for hole in range(0, 512 * KIB, 256 * KIB):
            make_hole(self.path, hole, 256 * KIB)
            pages = self.pages()
            self.addCleanup(pages.close)
            self.assertFalse(pages.resident(0, 512 * KIB), f"hole at {hole}")
            self.assertTrue(pages.resident(512 * KIB, 512 * KIB))

    def test_partly_cold(self) -> None:
        """Bytes that are only partly in memory are not read at all."""
        cold_file(self.path, 64 * KIB)
        make_hole(self.path, 32 * KIB, 32 * KIB)
        pages = self.pages()
        self.addCleanup(pages.close)
        self.assertIsNone(pages.read(0, 64 * KIB))

    async def test_end_of_file(self) -> None:
        """A file that ends is believed when a thread has waited for what is behind: then fewer bytes are read."""
        self.path.write_bytes(b"abc")
        pages = self.pages(1, 10)
        self.addCleanup(pages.close)
        self.assertFalse(pages.resident(1, 10))
        self.assertIsNone(pages.read(1, 10))
        await pages.fetch(1, 10)
        self.assertTrue(pages.resident(1, 10))
        self.assertEqual(pages.read(1, 10), b"bc")
        self.assertEqual(pages.read(5, 10), b"")

    async def test_no_bytes_for_cold_ones(self) -> None:
        """A kernel that answers a probe of what is not in memory with no bytes is not taken for the end of the file."""
        self.path.write_bytes(b"abcdef")
        pages = self.pages(0, 6)
        self.addCleanup(pages.close)
        preadv = os.preadv

        def preadv_of_linux_5_10(descriptor: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
            return 0 if flags else preadv(descriptor, buffers, offset)

        self.patch(os, "preadv", preadv_of_linux_5_10)
        self.assertFalse(pages.resident(0, 6))
        self.assertIsNone(pages.read(0, 6))
        await pages.fetch(0, 6)
        self.assertEqual(pages.read(0, 6), b"abcdef")

    def test_no_threads(self) -> None:
        """Without threads everything counts as resident."""
        content = cold_file(self.path, 64 * KIB)
        pages = Pages(FileRange(os.open(self.path, os.O_RDONLY), 0, 64 * KIB))
        self.addCleanup(pages.close)
        self.assertTrue(pages.resident(0, 64 * KIB))
        self.assertEqual(pages.read(0, 64 * KIB), content)
        self.successResultOf(pages.fetch(0, 64 * KIB))

    def test_no_probes(self) -> None:
        """If the system cannot say what is in memory, everything counts as resident, and is read."""
        for pages in (self.of_a_file_system_without(), self.on_a_platform_without()):
            self.assertTrue(pages.resident(0, 10))
            self.assertTrue(pages.read(0, 5))
            pages.close()

    def of_a_file_system_without(self) -> Pages:
        """Something to read that refuses probes."""
        return Pages(FileRange(os.open("/proc/self/stat", os.O_RDONLY), 0, 10), self.read_ahead)

    def on_a_platform_without(self) -> Pages:
        """A cold file where there are no probes."""
        self.patch(readahead, "_CAN_PROBE", False)
        cold_file(self.path, 10)
        return self.pages()

    async def test_probes_refused(self) -> None:
        """Where a sandbox refuses the probe, a thread reads everything first, and nothing is asked a second time."""
        content = cold_file(self.path, 64 * KIB)
        first, second = self.pages(), self.pages()
        asked: list[int] = []
        preadv = os.preadv

        def refused_preadv(descriptor: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
            if flags:
                asked.append(offset)
                raise PermissionError(errno.EPERM, "Operation not permitted")
            return preadv(descriptor, buffers, offset)

        self.patch(os, "preadv", refused_preadv)
        self.assertFalse(first.resident(0, 64 * KIB))
        for pages in (first, second):
            self.addCleanup(pages.close)
            self.assertIsNone(pages.read(0, 64 * KIB))
            await pages.fetch(0, 64 * KIB)
            self.assertTrue(pages.resident(0, 64 * KIB))
            self.assertEqual(pages.read(0, 64 * KIB), content)
        self.assertEqual(len(asked), 1)

    async def test_no_advice(self) -> None:
        """Where the kernel takes no advice, what is asked for is read anyway."""
        content = cold_file(self.path, 64 * KIB)

        def refuse(*_: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        self.patch(os, "posix_fadvise", refuse)
        pages = self.pages()
        self.addCleanup(pages.close)
        await pages.fetch(0, 64 * KIB)
        self.assertEqual(pages.read(0, 64 * KIB), content)

    def test_errors(self) -> None:
        """What is wrong with a file is said when it is read, and not by a probe."""
        pages = Pages(FileRange(os.open(".", os.O_RDONLY), 0, 10), self.read_ahead)
        self.addCleanup(pages.close)
        self.assertTrue(pages.resident(0, 10))
        self.assertRaises(IsADirectoryError, pages.read, 0, 10)

    async def test_errors_in_a_thread(self) -> None:
        """A read that fails in a thread fails the fetching."""
        pages = Pages(FileRange(os.open(".", os.O_RDONLY), 0, 10), self.read_ahead)
        self.addCleanup(pages.close)
        with self.assertRaises(IsADirectoryError):
            await pages.fetch(0, 10)

    async def test_close_while_a_thread_reads(self) -> None:
        """The descriptor stays open until the thread has finished."""
        self.path.write_bytes(bytes(100))
        pages = self.pages()
        let_go = self.block()
        fetching = pages.fetch(0, 100)
        pages.close()
        self.assertIn(str(pages.source.descriptor), open_descriptors())
        let_go()
        await fetching
        self.assertNotIn(str(pages.source.descriptor), open_descriptors())

    async def test_stop(self) -> None:
        """Stopping waits for what is under way, and leaves no thread."""
        self.path.write_bytes(bytes(100))
        pages = self.pages()
        let_go = self.block()
        fetching = pages.fetch(0, 100)
        stopping = self.read_ahead.stop()
        self.assertNoResult(stopping)
        let_go()
        await stopping
        self.successResultOf(fetching)
        self.assertEqual([thread for thread in threading.enumerate() if "read-ahead" in thread.name], [])
        pages.close()

    async def test_stopped(self) -> None:
        """After the end no work is taken: a pool that has ended would drop it, and a new one would not end."""
        await self.read_ahead.stop()
        self.failureResultOf(self.read_ahead.in_thread(lambda: None), PoolClosed)
        self.assertEqual([thread for thread in threading.enumerate() if "read-ahead" in thread.name], [])

    async def test_stop_while_the_disk_hangs(self) -> None:
        """A read that does not end is waited for no longer than a stop may take."""
        self.path.write_bytes(bytes(100))
        pages = self.pages()
        let_go = self.block()
        fetching = pages.fetch(0, 100)
        await self.read_ahead.stop(0.1)
        self.assertNoResult(fetching)
        let_go()
        await fetching
        pages.close()

    def test_no_thread(self) -> None:
        """Where the system starts no thread the part is not fetched, and the end does not wait for it."""

        def refuse(**arguments: object) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(DaemonThreadPool, "threadFactory", staticmethod(refuse))
        self.path.write_bytes(bytes(100))
        pages = self.pages()
        self.failureResultOf(pages.fetch(0, 100), RuntimeError)
        pages.close()
        self.assertNotIn(str(pages.source.descriptor), open_descriptors())
        self.successResultOf(self.read_ahead.stop())

    def block(self) -> Callable[[], None]:
        """Give the only thread something to wait for; what is returned ends that."""
        waiting = threading.Event()
        self.addCleanup(waiting.set)
        self.read_ahead.in_thread(waiting.wait)
        return waiting.set


class ReadAheadTests(SynchronousTestCase):
    """Threads that were never used."""

    def test_unused(self) -> None:
        """No thread is started before it is needed."""
        read_ahead = ReadAhead(REACTOR)
        stopped: Deferred[None] = read_ahead.stop()
        self.successResultOf(stopped)
