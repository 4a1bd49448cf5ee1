"""Objects that are made in an object storage, where no call over the local door shows it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import InvalidOrigin, SourceError, SourceUnavailable, StorageFailure
from dragonfly_vortex.geometry import BLOCK_LENGTH
from dragonfly_vortex.metrics.task_metrics import PREFIX, TaskMetrics
from dragonfly_vortex.model import Origin
from dragonfly_vortex.source.upload import FileBody, ObjectUpload
from dragonfly_vortex.testing.scripted_origin import hang, say
from test.metrics.page import values_of
from test.source.objects import ACCESS_KEY, REGION
from test.source.origins import Gathering, SourceCase, pattern

_T = TypeVar("_T")

CONTENT = pattern(2 * BLOCK_LENGTH + 8)


def at_once(function: Callable[[], _T], /) -> Deferred[_T]:
    """Call a function."""
    return succeed(function())


class FileBodyTests(SynchronousTestCase):
    """The bytes of a file for a request."""

    def setUp(self) -> None:
        self.consumer = Gathering()
        self.body = FileBody(io.BytesIO(CONTENT), len(CONTENT), at_once)

    def test_pause(self) -> None:
        """Nothing is sent while the request is paused."""
        self.body.pauseProducing()
        done = self.body.startProducing(self.consumer)
        self.assertEqual((self.consumer.data, self.body.sent), (b"", 0))
        self.body.resumeProducing()
        self.successResultOf(done)
        self.assertEqual(self.consumer.data, CONTENT)

    def test_stop(self) -> None:
        """A request that is over takes nothing more, and what waits for it does not fire."""
        self.body.pauseProducing()
        done = self.body.startProducing(self.consumer)
        self.body.stopProducing()
        self.body.resumeProducing()
        self.assertNoResult(done)
        self.assertEqual(self.consumer.data, b"")

    def test_short_file(self) -> None:
        """A file that is shorter than it was fails the request."""
        body = FileBody(io.BytesIO(b"short"), 6, at_once)
        self.failureResultOf(body.startProducing(self.consumer), OSError)


_LONG = 1 << 26
"""Bytes: more than the sockets of both sides take."""


class Hasty(Protocol):
    """A storage that answers a request at once, and reads no more."""

    def dataReceived(self, data: bytes) -> None:
        cast(Any, self.transport).pauseProducing()
        cast(Any, self.transport).write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Patient(Protocol):
    """A storage that answers when it has the end of a content."""

    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"the end"):
            cast(Any, self.transport).write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class ObjectUploadTests(SourceCase):
    """An object storage on this machine."""

    def upload(
        self,
        endpoint: str,
        clock: IReactorTime | None = None,
        url: str = "s3://bucket/key",
        metrics: TaskMetrics | None = None,
    ) -> ObjectUpload:
        """An object that may be made."""
        origin = Origin(url=url, region=REGION, endpoint=endpoint)
        # More seconds than a test may take; those with a clock of their own take them at once.
        return ObjectUpload(origin, ACCESS_KEY, self.agent(), clock=clock or self.clock, timeout=200.0, metrics=metrics)

    async def test_exists(self) -> None:
        """A storage has an object or has it not; any other answer, as that a key may not look, is an error."""
        for status, expected in ((200, True), (404, False)):
            upload = self.upload(self.origin(always=say(status)).url(""))
            self.assertIs(await upload.exists(), expected)
        error = await self.failure_of(
            Deferred.fromCoroutine(self.upload(self.origin(always=say(403)).url("")).exists())
        )
        self.assertIsInstance(error, SourceError)

    async def test_counted(self) -> None:
        """Each request counts by its scheme and its method."""
        metrics = TaskMetrics(self.clock.seconds)
        await self.upload(self.origin(always=say(200)).url(""), metrics=metrics).exists()
        counted = values_of(metrics.families())
        self.assertEqual(counted[f"{PREFIX}backend_request_total{{method=HEAD,scheme=http}}"], 1)

    async def test_slow_file(self) -> None:
        """A content that comes slowly has its time anew with each part."""
        port = self.reactor.listenTCP(0, cast(Any, Factory.forProtocol(Patient)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        clock, blocks = Clock(), list[Callable[[], None]]()

        def in_thread(function: Callable[[], _T], /) -> Deferred[_T]:
            called: Deferred[_T] = Deferred()
            blocks.append(lambda: called.callback(function()))
            return called

        content = bytes(2 * BLOCK_LENGTH) + b"the end"
        body = FileBody(io.BytesIO(content), len(content), in_thread)
        upload = self.upload(f"http://127.0.0.1:{cast(IPv4Address, port.getHost()).port}", clock)
        putting = Deferred.fromCoroutine(upload.put(body))
        for _ in range(3):
            while not blocks:
                await deferLater(self.clock, 0.01)
            clock.pump([1.0] * 150)
            blocks.pop()()
            clock.pump([1.0] * 2)  # in which the progress is seen
        await putting

    async def test_silence(self) -> None:
        """A storage that does not answer fails the request after the time for that."""
        origin, clock = self.origin(always=hang), Clock()
        asking = Deferred.fromCoroutine(self.upload(origin.url(""), clock).exists())
        await origin.until_asked(1)
        clock.pump([1.0] * 201)
        error = await self.failure_of(asking)
        self.assertIsInstance(error, SourceUnavailable)
        self.assertIn("no progress for 200 s", str(error))

    async def test_cancelled(self) -> None:
        """A request that is given up ends."""
        origin = self.origin(always=hang)
        asking = Deferred.fromCoroutine(self.upload(origin.url("")).exists())
        await origin.until_asked(1)
        asking.cancel()
        self.assertIsInstance(await self.failure_of(asking), CancelledError)

    async def test_not_running(self) -> None:
        """A storage that cannot be reached is named, without the signature."""
        error = await self.failure_of(Deferred.fromCoroutine(self.upload("http://127.0.0.1:1").exists()))
        self.assertIsInstance(error, SourceUnavailable)
        self.assertNotIn("X-Amz", str(error))

    async def test_short_file(self) -> None:
        """A file that cannot be read is no failure of the object storage."""
        origin = self.origin(always=hang)
        body = FileBody(io.BytesIO(b"short"), 6, at_once)
        error = await self.failure_of(Deferred.fromCoroutine(self.upload(origin.url("")).put(body)))
        self.assertIsInstance(error, StorageFailure)
        self.assertIn("expected a file of 6 bytes, got one of 5", str(error))

    async def test_early_answer(self) -> None:
        """A storage that has an object before all of it was sent does not have it; the rest is not sent."""
        port = self.reactor.listenTCP(0, cast(Any, Factory.forProtocol(Hasty)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        body = FileBody(io.BytesIO(bytes(_LONG)), _LONG, at_once)
        upload = self.upload(f"http://127.0.0.1:{cast(IPv4Address, port.getHost()).port}")
        error = await self.failure_of(Deferred.fromCoroutine(upload.put(body)))
        self.assertIsInstance(error, SourceUnavailable)
        self.assertIn(f"expected an answer after {_LONG} bytes, got 200 after {body.sent}", str(error))

    def test_other_schemes(self) -> None:
        """Nothing is put where no signature goes."""
        for url in ("http://h/f", "gs://bucket/key", "s3://bucket"):
            self.assertRaises(InvalidOrigin, self.upload, "http://h", url=url)
