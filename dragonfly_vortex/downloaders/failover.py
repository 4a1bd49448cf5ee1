"""
Failover between the ways to a parent. :class:`Way` and :class:`KnownParent` remember which ways work and which rest.
:class:`Attempt` fetches one piece over one way, and gives up a way that is silent for too long while there is another.

A way that fails rests for a while; then one piece at a time tries it again. The life of a way::

    WORKING --a piece fails there--> RESTING --after a while--> one piece tries it
       ^                                ^                          |          |
       |                                +---------it fails---------+          |
       +------------------------------it answers------------------------------+

Several pieces may be under way when a way fails; all but the first say nothing new about it. So each piece is asked for
in a round, each change of the way begins another round, and a failure counts only in its own round. While all ways
rest, all are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from dragonfly_vortex.errors import ParentUnreachable, PieceError, PieceTimeout
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IFileSink, IPieceSink
from dragonfly_vortex.model import DownloadPieceResponse, FilePlace, piece_id
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["FIRST_WORDS", "REST", "Attempt", "KnownParent", "Way"]


REST = 30.0
"""Seconds that a way is left alone after it has failed, while there is another one."""


class Way(Struct, kw_only=True, eq=False):
    """
    A transport to one parent.

    :param name: what it is called in messages.
    :param address: the parent's address there.
    :param downloader: gives what takes pieces that way.
    :param can_be_heard: whether a piece is seen to arrive before it is complete.
    :param heard_at: when something came last, on whichever piece; None before that.
    :param failed_at: when it failed; None while it works.
    :param why: what was said about the failure.
    :param is_tried: whether a piece is trying it again.
    :param round: counts its changes; see the module.
    """

    name: str
    address: str
    downloader: Callable[[], IDownloader]
    can_be_heard: bool
    heard_at: float | None = None
    failed_at: float | None = None
    why: str = ""
    is_tried: bool = False
    round: int = 0

    def is_resting(self, now: float) -> bool:
        """Whether it has failed, and is not to be tried by one more piece now."""
        return self.failed_at is not None and (self.is_tried or now < self.failed_at + REST)

    def failed(self, asked_in: int, now: float, why: str) -> bool:
        """
        Record that a piece has failed over this way.

        :param asked_in: the round in which it was asked for.
        :param why: what is said about the failure.
        :returns: whether that is news.
        """
        if asked_in != self.round:
            return False
        self.failed_at = now
        self.why = why
        self.round += 1
        return True


class KnownParent(Struct, kw_only=True, eq=False):
    """
    A parent that can be asked in several ways.

    :param address: the one that it is known by, for messages.
    :param ways: the ways to it, the best first.
    :param in_use: the one that its pieces come by; None before there was any.
    """

    address: str
    ways: tuple[Way, ...] = ()
    in_use: Way | None = None

    def in_order(self, now: float) -> list[Way]:
        """The ways in the order in which a piece tries them."""
        return sorted(self.ways, key=lambda way: way.is_resting(now))

    @property
    def best(self) -> Way | None:
        """The best of those that work."""
        return next((way for way in self.ways if way.failed_at is None), None)

    def offer(self, wanted: Sequence[Way]) -> None:
        """
        Set the ways to the parent, the best first. What is known of one stays while its address is the same.

        :param wanted: ways as if nothing were known of them.
        """
        known = {(way.name, way.address): way for way in self.ways}
        before, self.ways = self.ways, tuple(known.get((way.name, way.address), way) for way in wanted)
        if self.ways != before:
            self.in_use = None

    def answered(self, way: Way, asked_in: int) -> str | None:
        """
        Record an answer of the parent about a piece, over one of its ways.

        :param asked_in: the round in which it was asked for that.
        :returns: a line about the change that this is; None where nothing has changed, or not for the user.
        """
        if asked_in == way.round and way.failed_at is not None:
            way.failed_at = None
            way.round += 1
        if way is not self.best or way is self.in_use:
            return None
        before, self.in_use = self.in_use, way
        failed = next((other for other in self.ways if other.failed_at is not None), None)
        if failed is not None and (before is not None or way is not self.ways[0]):
            named = _named(failed, self.address)
            return f"parent {self.address}: {named} does not answer ({failed.why}), using {way.name}"
        if before is not None:
            return f"parent {self.address}: {way.name} answers again, using {way.name}"
        return None


def _named(way: Way, parent: str) -> str:
    """
    A way for a message: with its port where the parent is not known by that, and with its whole address where that is
    on another host.
    """
    if way.address == parent:
        return way.name
    host, _, port = way.address.rpartition(":")
    is_there = host.rpartition("://")[2] == parent.rpartition("://")[2].rpartition(":")[0]
    return f"{way.name} port {port}" if is_there else f"{way.name} at {way.address}"


FIRST_WORDS = 5.0
"""Seconds in which a byte must arrive over a way by which none has arrived before."""

_SHARE = 4
"""
One part in so many of the time for a piece is how long a way that works may be silent, while there is another one. A
parent of the reference may wait for a piece itself before it answers, and the other way needs time, too.
"""


class Attempt:
    """
    An attempt to fetch one piece over one way.

    :param clock: for how long the way is silent.
    :param way: how the parent is asked.
    :param request: what for.
    :param piece_timeout: seconds that the piece may take, over all ways together, where there is another way; None
        where this is the last one, and may be silent.
    """

    def __init__(
        self,
        clock: IReactorTime,
        way: Way,
        request: DownloadPieceRequest,
        piece_timeout: float | None = None,
    ) -> None:
        self.way = way
        self.round = way.round
        self._clock = clock
        self._request = request
        self._piece_timeout = piece_timeout if way.can_be_heard else None
        self._asked_at = clock.seconds()
        self._downloading: Deferred[DownloadPieceResponse] | None = None
        self._listening: IDelayedCall | None = None
        self._was_silent = False

    async def result(self) -> DownloadPieceResponse:
        """
        Return the piece.

        :raises ParentUnreachable: the way has failed, or has been silent for too long.
        """
        way, request = self.way, self._request
        sink = _HeardSink(MemorySink() if request.sink is None else request.sink, self._hear)
        is_trying = way.failed_at is not None and not way.is_tried
        way.is_tried |= is_trying
        try:
            self._downloading = way.downloader().download(way.address, replace(request, sink=sink))
            self._listen()
            return await self._downloading
        except CancelledError as error:
            if not self._was_silent:
                raise
            seconds = round(self._clock.seconds() - self._since(), 1)
            name = piece_id(request.task_id, request.number)
            raise ParentUnreachable(way.address, name, f"nothing came for {seconds:g} s") from error
        except (ParentUnreachable, PieceTimeout):
            raise
        except PieceError:
            self._hear()
            raise
        finally:
            if self._listening is not None and self._listening.active():
                self._listening.cancel()
            if is_trying:
                way.is_tried = False

    def _hear(self) -> None:
        """Record the time at which bytes have arrived."""
        self.way.heard_at = self._clock.seconds()

    def _since(self) -> float:
        """Since when the way has been silent, as far as this piece goes."""
        return max(self._asked_at, self.way.heard_at or self._asked_at)

    def _listen(self) -> None:
        """Give up when the way has been silent for too long; look again when that may be."""
        if self._piece_timeout is None or self._downloading is None:
            return
        left = self._since() + self._patience(self._piece_timeout) - self._clock.seconds()
        if left > 0:
            self._listening = self._clock.callLater(left, self._listen)
        else:
            self._was_silent = True
            self._downloading.cancel()

    def _patience(self, piece_timeout: float) -> float:
        """Seconds that the way may be silent."""
        share = piece_timeout / _SHARE
        has_worked = self.way.heard_at is not None and self.way.failed_at is None
        return share if has_worked else min(FIRST_WORDS, share)


@implementer(IFileSink)
class _HeardSink:
    """
    A sink that records when bytes arrive for it. Whether it has a file is known by the one that it stands for.

    :param sink: where it goes.
    """

    def __init__(self, sink: IPieceSink, hear: Callable[[], None]) -> None:
        self._sink = sink
        self._file_sink: IFileSink | None = IFileSink(sink, None)
        self._hear = hear

    def begin(self, metadata: PieceMetadata) -> None:
        self._hear()
        self._sink.begin(metadata)

    def write(self, data: bytes | memoryview) -> None:
        self._hear()
        self._sink.write(data)

    def place(self) -> FilePlace | None:
        return None if self._file_sink is None else self._file_sink.place()

    def wrote(self, length: int) -> None:
        self._hear()
        if self._file_sink is not None:
            self._file_sink.wrote(length)

    def finish(self) -> object:
        return self._sink.finish()

    def fail(self) -> None:
        self._sink.fail()
