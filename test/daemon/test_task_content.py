"""The content of a download: ranges of one version, and all of it in order for a consumer."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import deferLater
from twisted.web.http import Request
from zope.interface import implementer

from dragonfly_vortex.daemon.task_handle import Download
from dragonfly_vortex.errors import TaskChanged
from dragonfly_vortex.events import (
    PieceKept,
)
from dragonfly_vortex.model import Origin
from dragonfly_vortex.testing.scripted_origin import Asked, ScriptedOrigin
from test.daemon.peers import PIECE, REACTOR, PeerTestCase


@implementer(IConsumer)
class Consumer:
    """Takes what it is given, and pauses its producer."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.producer: IPushProducer | None = None
        self.pauses_at: int | None = None
        self.stops_at: int | None = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Keep a push producer."""
        if not streaming or self.producer is not None:
            raise RuntimeError("expected one push producer")
        self.producer = producer
        if self.stops_at == 0:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self.data += data
        if self.pauses_at is not None and len(self.data) >= self.pauses_at and self.producer is not None:
            self.producer.pauseProducing()
        if self.stops_at is not None and len(self.data) >= self.stops_at and self.producer is not None:
            self.producer.stopProducing()


class VersionTests(PeerTestCase):
    """A source whose content changes while a part of it is in the storage."""

    async def asked_again(self) -> tuple[Download, bytes, Deferred[None]]:
        """
        A download of content that has changed since three pieces of it came.

        :returns: the download, the new content, and what makes the source say that, when it fires.
        """
        origin = ScriptedOrigin(self.content)
        origin.start(REACTOR)
        self.addCleanup(origin.stop)
        child = self.peer("child")
        source = Origin(url=origin.url(), piece_length=PIECE)
        before = child.download(origin=source, whole=False)
        self.assertEqual(await before.read(0, 3 * PIECE), self.content[: 3 * PIECE])
        before.cancel()
        await self.assertFailure(before.done, CancelledError)
        origin.content, origin.etag = os.urandom(5 * PIECE + 7), '"2"'
        released: Deferred[None] = Deferred()

        def answer_later(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
            released.addCallback(lambda _: origin.answer_well(request, asked))

        origin.script.append(answer_later)
        # With another parent the source is not asked before the pieces that are there have been reported.
        return child.download(origin=source, parents=["127.0.0.1:1"]), origin.content, released

    async def test_read(self) -> None:
        """A range is read of one version."""
        download, content, released = await self.asked_again()
        reading = [download.read(), download.read(2 * PIECE + 5, 2 * PIECE)]
        self.assertEqual(await download.read(PIECE, 10), self.content[PIECE : PIECE + 10])  # while it is valid
        released.callback(None)
        self.assertEqual([await each for each in reading], [content, content[2 * PIECE + 5 : 4 * PIECE + 5]])
        self.assertEqual((await download.done).content_length, len(content))

    async def test_feed(self) -> None:
        """What was passed on of another version fails the feeding, and not the download."""
        download, content, released = await self.asked_again()
        consumer = Consumer()
        consumer.pauses_at = 1
        feeding = download.feed(consumer)
        while not consumer.data:
            await deferLater(REACTOR, 0.01)
        released.callback(None)
        consumer.pauses_at = None
        await download.done
        cast(IPushProducer, consumer.producer).resumeProducing()
        error = await self.assertFailure(feeding, TaskChanged)
        self.assertIn(f"got other after {PIECE} bytes", str(error))
        self.assertEqual((bytes(consumer.data), consumer.producer), (self.content[:PIECE], None))
        again = Consumer()
        self.assertEqual(await download.feed(again), len(content))
        self.assertEqual(bytes(again.data), content)


class FeedTests(PeerTestCase):
    """The content in order, to a consumer."""

    async def test_in_order(self) -> None:
        """All bytes come in order."""
        child = self.peer("child", parents=[await self.announcing_parent()])
        consumer = Consumer()
        download = child.download(self.task_id, whole=False)
        self.assertEqual(await download.feed(consumer), len(self.content))
        self.assertEqual((bytes(consumer.data), consumer.producer), (self.content, None))
        await download.done

    async def test_back_pressure(self) -> None:
        """While the consumer is paused, only a few pieces are asked of the parents."""
        child = self.peer("child", parents=[await self.announcing_parent()])
        consumer = Consumer()
        consumer.pauses_at = 1
        download = child.download(self.task_id, whole=False)
        events = aiter(download)
        feeding = download.feed(consumer)
        kept: set[int] = set()
        while len(kept) < 8:
            event = await anext(events)
            if isinstance(event, PieceKept):
                kept.add(event.number)
        await deferLater(REACTOR, 0.5)
        self.assertNoResult(feeding)
        self.assertEqual((len(consumer.data), kept), (PIECE, set(range(8))))
        consumer.pauses_at = None
        cast(IPushProducer, consumer.producer).resumeProducing()
        self.assertEqual(await feeding, len(self.content))
        self.assertEqual(bytes(consumer.data), self.content)
        await download.done

    async def test_stops_inside(self) -> None:
        """A consumer may stop its producer as it is registered, as a lost connection does, and as it is written to."""
        parent = await self.parent()
        for stops_at in (0, 1, 3 * PIECE):
            consumer = Consumer()
            consumer.stops_at = stops_at
            await self.assertFailure(parent.download(self.task_id).feed(consumer), ConnectionLost)
            self.assertEqual(len(consumer.data), -(-stops_at // PIECE) * PIECE)

    async def test_ends(self) -> None:
        """A consumer that stops, and a program that cancels, end the feeding and not the download."""
        child = self.peer("child", parents=[await self.announcing_parent()])
        download = child.download(self.task_id, whole=False)
        consumer = Consumer()
        feeding = download.feed(consumer)
        cast(IPushProducer, consumer.producer).stopProducing()
        await self.assertFailure(feeding, ConnectionLost)
        other = Consumer()
        feeding = download.feed(other)
        feeding.cancel()
        await self.assertFailure(feeding, CancelledError)
        self.assertIsNone(other.producer)
        self.assertEqual(await download.read(0, 5), self.content[:5])
        download.close()
