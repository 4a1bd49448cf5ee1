"""Tests of a download into a pipe: a real pipe, real threads, and a plan that is played by the tests."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from functools import partial
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import OutputError, TaskDigestMismatch
from dragonfly_vortex.storage.disk import MOST_UNWRITTEN
from dragonfly_vortex.task.pipe_target import PipeTarget
from dragonfly_vortex.wire import PieceMetadata

_T = TypeVar("_T")

CONTENT = os.urandom(250_000)


class PipeTargetTests(TestCase):
    """Pieces of 100,000 bytes."""

    timeout = 120

    def setUp(self) -> None:
        threads = IReactorThreads(reactor)
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        self.addCleanup(lambda: os.close(self.writing))
        in_thread = partial(deferToThreadPool, threads, threads.getThreadPool())
        self.target = PipeTarget(self.writing, "a-task", in_thread)
        self.addCleanup(self.target.close)

    def commit(self, number: int, content: bytes = CONTENT, length: int = 100_000) -> Deferred[None]:
        """A piece has arrived and is verified."""
        data = content[number * length :][:length]
        os.pwrite(self.target.descriptor, data, number * length)
        metadata = PieceMetadata(number=number, offset=number * length, length=len(data), digest="")
        return self.target.commit(metadata, length, None)

    def read(self, length: int) -> Deferred[bytes]:
        """Read from the pipe in a thread."""

        def read() -> bytes:
            data = b""
            while len(data) < length:
                data += os.read(self.reading, length - len(data))
            return data

        done: Deferred[bytes] = Deferred()

        def work() -> None:
            data = read()
            IReactorThreads(reactor).callFromThread(done.callback, data)

        threading.Thread(target=work, daemon=True).start()
        return done

    async def test_no_temporary_directory(self) -> None:
        """Where no directory takes temporary files, opening says so; before that no directory is looked at."""

        def find() -> str:
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

        self.patch(tempfile, "gettempdir", find)
        target = PipeTarget(self.writing, "a-task", execute)
        failure = self.failureResultOf(target.open(), OutputError)
        self.assertIn("No usable temporary directory found", str(failure.value))
        await target.close()

    async def test_in_order(self) -> None:
        """Pieces are written in their order, whatever order they come in."""
        verifyObject(IDownloadTarget, self.target)
        await self.target.open()
        await self.commit(1)
        await self.commit(2)
        reading = self.read(len(CONTENT))
        await self.commit(0)
        await self.target.publish(len(CONTENT))
        self.assertEqual(await reading, CONTENT)

    async def test_empty(self) -> None:
        """A task without bytes writes none."""
        await self.target.open()
        await self.commit(0, b"")
        await self.target.publish(0)

    async def test_behind(self) -> None:
        """While the reader takes nothing, no more than a bound waits: the next piece is not asked for."""
        await self.target.open()
        os.ftruncate(self.target.descriptor, MOST_UNWRITTEN + 200_000)
        metadata = PieceMetadata(number=0, offset=0, length=MOST_UNWRITTEN + 200_000, digest="")
        committed = self.target.commit(metadata, metadata.length, None)
        self.assertTrue(self.target.is_behind)
        self.assertNoResult(committed)
        await self.read(8 * 1024 * 1024)  # as much as a thread writes before it is heard of
        await committed
        self.assertFalse(self.target.is_behind)

    async def test_stopped_while_nobody_reads(self) -> None:
        """A reader that takes nothing does not keep the download from ending."""
        await self.target.open()
        await self.commit(0)
        await self.target.close()

    async def test_wrong(self) -> None:
        """A piece that was wrong is forgotten if nothing of it can have been written, and otherwise is an error."""
        await self.target.open()
        await self.commit(1, b"x" * 200_000)
        await self.target.drop([1, 7])
        await self.commit(1)
        reading = self.read(200_000)
        await self.commit(0)
        self.assertEqual(await reading, CONTENT[:200_000])
        with self.assertRaises(TaskDigestMismatch):
            await self.target.drop([1])
        with self.assertRaises(TaskDigestMismatch):
            await self.commit(2)

    async def test_no_reader(self) -> None:
        """A pipe without a reader is an error whose cause says so."""
        await self.target.open()
        descriptor = os.dup(self.reading)
        os.close(self.reading)
        os.close(descriptor)
        self.reading = os.open(os.devnull, os.O_RDONLY)
        await self.commit(0)
        with self.assertRaises(OutputError) as caught:
            await self.target.publish(100_000)
        self.assertIsInstance(caught.exception.__cause__, BrokenPipeError)

    async def test_takes_nothing(self) -> None:
        """A file that takes nothing and says nothing is an error, and no endless loop."""
        written: list[int] = []
        write = os.write

        def take_nothing(descriptor: int, data: bytes) -> int:
            if descriptor != self.writing:
                return write(descriptor, data)
            written.append(descriptor)
            if len(written) > 1:
                raise RuntimeError("the same bytes are written again and again")
            return 0

        await self.target.open()
        self.patch(os, "write", take_nothing)
        await self.commit(0)
        with self.assertRaisesRegex(OutputError, "expected to write 100000 bytes, none were taken"):
            await self.target.publish(100_000)
