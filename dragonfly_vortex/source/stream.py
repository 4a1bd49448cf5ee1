"""
The pieces of a source that gives no ranges: one stream from the first byte on, cut into pieces as it comes.

A piece that is wanted is written to its place when the stream reaches it. What is not wanted is skipped, as soon as a
later piece is; otherwise the stream is paused before it. For a piece that has gone by, the stream begins anew when no
later one is wanted. So at most one read of bytes is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.errors import SourceNotFound
from dragonfly_vortex.interfaces import ISource
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.read_pacing import Pace
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Flow", "PieceStream", "the_end"]


@implementer(IPushProducer)
class Flow:
    """
    The flow of one transfer, which pauses as the limit of all content requires.

    :param clock: for the rests.
    :param limiter: what all content is spent from.
    """

    def __init__(self, clock: IReactorTime, limiter: TokenBucket) -> None:
        self._came_at = clock.seconds()
        self.rested = 0.0
        """Seconds of all rests together."""
        self._clock = clock
        self._limiter = limiter
        self._producer: IPushProducer | None = None
        self._pace: Pace | None = None
        self._is_held_back = False
        self._is_resting = False

    def begin(self, producer: IPushProducer) -> None:
        """Take content from a producer, the first one or another one."""
        self._producer = producer
        self._pace = Pace(self, None, self._clock, limiter=self._limiter)

    def spend(self, length: int) -> None:
        """Count bytes that have arrived."""
        self._came_at = self._clock.seconds()
        if self._pace is not None:
            self._pace.spend(length)

    def hold_back(self, is_held_back: bool) -> None:
        """Pause or resume the producer, for another reason than the limit."""
        self._is_held_back = is_held_back
        self._update()

    def end(self) -> None:
        """Record the end of the producer."""
        self._producer = None
        if self._pace is not None:
            self.rested += self._pace.rested
            self._pace.stop()
            self._pace = None

    @property
    def at_once(self) -> int:
        """Bytes that may be taken in one turn of the reactor; 0 while the producer is paused."""
        return 0 if self._pace is None or self._is_resting or self._is_held_back else self._pace.turn

    @property
    def progressed_at(self) -> float:
        """The time of the last bytes, or of the end of the last pause."""
        return self._came_at if self._pace is None else max(self._came_at, self._pace.rests_until)

    # -- what a pace calls

    def pauseProducing(self) -> None:
        """See :meth:`twisted.internet.interfaces.IPushProducer.pauseProducing`."""
        self._is_resting = True
        self._update()

    def resumeProducing(self) -> None:
        """See :meth:`twisted.internet.interfaces.IPushProducer.resumeProducing`."""
        self._is_resting = False
        self._update()

    def stopProducing(self) -> None:
        """See :meth:`twisted.internet.interfaces.IProducer.stopProducing`."""

    def _update(self) -> None:
        if self._producer is None:
            return
        if self._is_resting or self._is_held_back:
            self._producer.pauseProducing()
        else:
            self._producer.resumeProducing()


@implementer(IConsumer)
class PieceStream:
    """
    One stream of a source, for all pieces of a task.

    :param source: gives the stream.
    :param piece_length: bytes of every piece but the last.
    :param make_flow: makes what limits the rate of a stream.
    """

    log = Logger()

    def __init__(self, source: ISource, piece_length: int, make_flow: Callable[[], Flow]) -> None:
        self._source = source
        self._piece_length = piece_length
        self._make_flow = make_flow
        self._wanted: dict[int, tuple[PieceReceiver, Deferred[None]]] = {}
        self._at = 0  # the byte of the content that comes next
        self._writing: int | None = None  # the piece that is being written
        self._held = b""  # what came of a piece that is not wanted yet
        self._flow: Flow | None = None
        self._coming: Deferred[None] | None = None  # the stream
        self._content_length: int | None = None  # known when a stream has ended
        self._is_over = False  # whether this one has, and what is held is the rest of it

    def fetch(self, number: int, receiver: PieceReceiver) -> Deferred[None]:
        """
        Wait for a piece. Cancelling the Deferred ends the waiting.

        :param receiver: begins, takes the bytes, and is finished by its owner.
        :returns: fires at the end of the piece, which comes early where the stream ends in it. Fails with
            :class:`~dragonfly_vortex.errors.SourceNotFound` where it ends before the piece, with what the receiver
            raises, and with a :class:`~dragonfly_vortex.errors.SourceError`.
        """
        done: Deferred[None] = Deferred(lambda _: self._forget(number))
        self._wanted[number] = receiver, done
        self._go_on()
        return done

    def stop(self) -> None:
        """End the stream, and fail what waits for it."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
        self._fail_all(Failure(CancelledError()))

    @property
    def progressed_at(self) -> float:
        """The time of the last bytes of the stream, or of the end of the last pause; long ago if there is no stream."""
        return float("-inf") if self._flow is None else self._flow.progressed_at

    # -- the stream ----------------------------------------------------------------------------------------------------

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.registerProducer`."""
        self._flow = self._make_flow()
        self._flow.begin(IPushProducer(producer))

    def unregisterProducer(self) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.unregisterProducer`."""
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.end()

    def write(self, data: bytes) -> None:
        """See :meth:`twisted.internet.interfaces.IConsumer.write`."""
        if self._flow is not None:
            self._flow.spend(len(data))
        self._held += data
        self._cut()

    def _cut(self) -> None:
        """Give what is held to the pieces that want it."""
        while self._held:
            number, begun = divmod(self._at, self._piece_length)
            if not begun and number in self._wanted:
                self._begin(number)
            is_skipped = self._writing is None and (begun or any(later > number for later in self._wanted))
            if self._writing is None and not is_skipped:
                break
            part, self._held = self._held[: self._piece_length - begun], self._held[self._piece_length - begun :]
            self._at += len(part)
            if self._writing is not None:
                self._give(self._writing, part)
            if self._at % self._piece_length == 0:
                self._end(self._writing)
        if self._flow is not None:
            self._flow.hold_back(bool(self._held))
        if self._is_over and not self._held:
            if not self._at and 0 in self._wanted:
                self._begin(0)
            self._end(self._writing)
        if self._wanted and not self._is_anything_ahead():
            self._begin_anew()

    def _begin(self, number: int) -> None:
        receiver, _ = self._wanted[number]
        self._writing = number
        if self._content_length is not None:
            receiver.metadata = _shortened(receiver.metadata, self._content_length)
        try:
            receiver.begin()
        except Exception:  # of the sink, which may be a user's: the piece fails with it
            self._fail(number, Failure())

    def _give(self, number: int, part: bytes) -> None:
        receiver, _ = self._wanted[number]
        try:
            receiver.write(part)
        except Exception:  # of the sink, which may be a user's: the piece fails with it
            self._fail(number, Failure())

    def _end(self, number: int | None) -> None:
        """Fire the Deferred of a piece that was received."""
        if number is not None:
            _, done = self._wanted.pop(number)
            self._writing = None
            done.callback(None)

    def _fail(self, number: int, failure: Failure) -> None:
        _, done = self._wanted.pop(number)
        if self._writing == number:
            self._writing = None
        done.errback(failure)

    def _forget(self, number: int) -> None:
        """Forget a piece that is not wanted any more."""
        if self._wanted.pop(number, None) is None:
            return
        if self._writing == number:
            self._writing = None
        self._go_on()

    def _go_on(self) -> None:
        """Have the stream come, from its beginning where nothing that is wanted lies before it."""
        self._fail_behind_the_end()
        if not self._wanted:
            return
        if (self._coming is not None or self._is_over) and self._is_anything_ahead():
            self._cut()
        else:
            self._begin_anew()

    def _fail_behind_the_end(self) -> None:
        """Fail the pieces behind the end of the content, once it is known."""
        length = self._content_length
        for number in list(self._wanted):
            if length is not None and number * self._piece_length >= max(1, length) and number in self._wanted:
                self._fail(number, Failure(the_end(self._source.name, length)))

    def _is_anything_ahead(self) -> bool:
        """Whether the stream has not come to the end of all pieces that are wanted."""
        return any(number * self._piece_length >= self._at or number == self._writing for number in self._wanted)

    def _begin_anew(self) -> None:
        """Have the stream come from its first byte."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
        self._at, self._held, self._writing, self._is_over = 0, b"", None, False
        coming = self._coming = self._source.fetch(0, None, self)
        coming.addBoth(self._ended, coming)

    def _ended(self, result: Failure | None, coming: Deferred[None]) -> None:
        """Handle the end of the stream."""
        if self._coming is not coming:
            return  # it was given up
        self._coming = None
        if isinstance(result, Failure):
            self._fail_all(result)
            return
        self._is_over = True
        self._content_length = self._at + len(self._held)
        self._go_on()

    def _fail_all(self, failure: Failure) -> None:
        wanted, self._wanted, self._writing = self._wanted, {}, None
        for _, done in wanted.values():
            if not done.called:  # the failure of another piece may have it given up
                done.errback(failure)


def _shortened(metadata: PieceMetadata, content_length: int) -> PieceMetadata:
    """The metadata of a piece that is no longer than the content is."""
    return replace(metadata, length=max(0, min(metadata.length, content_length - metadata.offset)))


def the_end(source: str, content_length: int) -> SourceNotFound:
    """Make the error for a piece behind the end."""
    error = SourceNotFound(source, f"expected more than {content_length} bytes, got the end")
    error.content_length = content_length
    return error
