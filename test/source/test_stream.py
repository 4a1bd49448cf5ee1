"""The flow of content from a source, and one stream that is cut into pieces, by a source that the test plays."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dragonfly_vortex.errors import SourceNotFound, SourceUnavailable
from dragonfly_vortex.interfaces import ISource
from dragonfly_vortex.model import SourceStat
from dragonfly_vortex.source.stream import Flow, PieceStream
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceMetadata


@implementer(IPushProducer)
class Producer:
    """Counts nothing, and knows whether it may send."""

    is_paused = False

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False

    def stopProducing(self) -> None:
        """Nothing more is wanted."""


@implementer(ISource)
class PlayedSource:
    """Gives what the test says."""

    name = "played"

    def __init__(self) -> None:
        self.fetches: list[Deferred[None]] = []
        self.cancelled = 0
        self.producer = Producer()

    def stat(self) -> Deferred[SourceStat]:
        raise NotImplementedError

    def fetch(self, start: int, length: int | None, consumer: IConsumer) -> Deferred[None]:
        def cancel(_: Deferred[None]) -> None:
            self.cancelled += 1

        self.consumer = consumer
        consumer.registerProducer(self.producer, True)
        self.fetches.append(Deferred(cancel))
        return self.fetches[-1]

    def stop(self) -> Deferred[None]:
        raise NotImplementedError


class FlowTests(SynchronousTestCase):
    """When a transfer rests."""

    def test_rests(self) -> None:
        """It rests as long as the limit asks for, and longer where it is held back."""
        clock, producer = Clock(), Producer()
        flow = Flow(clock, TokenBucket(1000, clock))
        flow.begin(producer)
        clock.advance(1)
        flow.spend(1050)
        self.assertTrue(producer.is_paused)
        self.assertEqual(flow.progressed_at, 2.0)
        flow.hold_back(True)
        clock.advance(1.0)
        self.assertTrue(producer.is_paused)
        flow.hold_back(False)
        self.assertFalse(producer.is_paused)
        flow.end()
        self.assertEqual(flow.rested, 1.0)
        flow.pauseProducing()
        self.assertFalse(producer.is_paused)


class PieceStreamTests(SynchronousTestCase):
    """Pieces of 4 bytes."""

    def setUp(self) -> None:
        self.source = PlayedSource()
        clock = Clock()
        self.stream = PieceStream(self.source, 4, lambda: Flow(clock, TokenBucket(1 << 40, clock)))
        self.receivers: dict[int, PieceReceiver] = {}

    def fetch(self, number: int) -> Deferred[None]:
        """Ask for a piece."""
        metadata = PieceMetadata(number=number, offset=4 * number, length=4, digest="")
        receiver = PieceReceiver("played", "t", metadata, MemorySink(), is_source=True)
        self.receivers[number] = receiver
        return self.stream.fetch(number, receiver)

    def content(self, number: int) -> object:
        """What a piece has become."""
        return self.receivers[number].finish()

    def test_failure_that_ends_all(self) -> None:
        """A piece whose failure makes another one be given up fails, and the other is given up."""
        first, second = self.fetch(0), self.fetch(1)

        def give_up(failure: Failure) -> Failure:
            second.cancel()
            return failure

        first.addErrback(give_up)
        fetching = self.source.fetches[-1]
        fetching.errback(SourceUnavailable("played", "it is away"))
        self.failureResultOf(first, SourceUnavailable)
        self.failureResultOf(second, CancelledError)
        self.successResultOf(fetching)  # nothing has failed in it

    def test_waits_for_requests(self) -> None:
        """What comes before it is asked for is held, once, and the stream is paused."""
        first = self.fetch(0)
        self.source.consumer.write(b"aaaabb")
        self.successResultOf(first)
        self.assertEqual(self.content(0), b"aaaa")
        self.assertTrue(self.source.producer.is_paused)
        second = self.fetch(1)
        self.assertFalse(self.source.producer.is_paused)
        self.source.consumer.write(b"bb")
        self.successResultOf(second)
        self.assertEqual(self.content(1), b"bbbb")

    def test_skips(self) -> None:
        """What is not wanted is skipped when something later is."""
        later = self.fetch(2)
        self.source.consumer.write(b"aaaabbbbcccc")
        self.successResultOf(later)
        self.assertEqual(self.content(2), b"cccc")

    def test_begins_anew(self) -> None:
        """A piece that has gone by is got by another stream, when nothing later is wanted any more."""
        later = self.fetch(1)
        self.source.consumer.write(b"aa")
        first = self.fetch(0)
        self.source.consumer.write(b"aabbbb")
        self.successResultOf(later)
        self.assertEqual((len(self.source.fetches), self.source.cancelled), (2, 1))
        self.source.consumer.write(b"aaaa")
        self.successResultOf(first)

    def test_the_end(self) -> None:
        """The end shortens the piece in which it comes; there is nothing behind it."""
        first, second, third = self.fetch(0), self.fetch(1), self.fetch(2)
        self.source.consumer.write(b"aaaabb")
        self.source.fetches[0].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.content(1), b"bb")
        self.assertEqual(self.receivers[1].metadata.length, 2)
        self.failureResultOf(third, SourceNotFound)

    def test_the_end_is_held(self) -> None:
        """What is held when the stream ends is still given to the pieces; what lies behind is known not to be there."""
        first = self.fetch(0)
        self.source.consumer.write(b"aaaabbbbc")
        self.source.fetches[0].callback(None)
        self.successResultOf(first)
        self.failureResultOf(self.fetch(3), SourceNotFound)
        second, third = self.fetch(1), self.fetch(2)
        self.successResultOf(second)
        self.successResultOf(third)
        self.assertEqual((self.content(1), self.content(2)), (b"bbbb", b"c"))
        self.assertEqual(len(self.source.fetches), 1)

    def test_a_failure(self) -> None:
        """A stream that fails fails all that waits for it."""
        first, second = self.fetch(0), self.fetch(1)
        self.source.consumer.write(b"aaaab")
        self.successResultOf(first)
        self.source.fetches[0].errback(SourceUnavailable("played", "gone"))
        self.failureResultOf(second, SourceUnavailable)
        self.fetch(1)
        self.assertEqual(len(self.source.fetches), 2)
