"""
Pieces over the best transport that each parent has: :class:`AutoDownloader`, over a downloader for each transport.

A parent that is known by its gRPC address has two ways to it: TCP, at the address that it offers, and gRPC. TCP comes
first. A way that fails rests for a while; then one piece at a time tries it again. The life of a way::

    WORKING --a piece fails there--> RESTING --after a while--> one piece tries it
       ^                                ^                          |          |
       |                                +---------it fails---------+          |
       +------------------------------it answers------------------------------+

Pieces that were under way together when a way failed say nothing new about it: each attempt belongs to a round, and
each change begins another one. While all ways rest all are tried: nothing is given up for having failed before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.errors import ParentFailed, ParentUnreachable, PieceError, PieceTimeout, PoolClosed
from dragonfly_vortex.interfaces import (
    DownloadPieceRequest,
    DownloadPieceResponse,
    FilePlace,
    IDownloader,
    IFileSink,
    IPieceSink,
    piece_id,
)
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["FIRST_WORDS", "REST", "AutoDownloader"]

REST = 30.0
"""Seconds that a way is left alone after it has failed, while there is another one."""

FIRST_WORDS = 5.0
"""Seconds in which something must come over TCP from a parent of which nothing has come that way before."""

_SHARE = 4
"""
One part in so many of the time for a piece is how long a way that works may be silent, while there is another one. A
parent of the reference may wait for a piece itself before it answers, and the other way needs time, too.
"""


_GRPC_SCHEMES = ("grpc://", "grpcs://")


@dataclass(slots=True, kw_only=True, eq=False)
class _Way:
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
    :param round: see the module.
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


@dataclass(slots=True, kw_only=True, eq=False)
class _Parent:
    """
    A parent that is known by its gRPC address.

    :param ways: the ways to it, the best first.
    :param in_use: the one that its pieces come by; None before there was any.
    """

    address: str
    ways: tuple[_Way, ...] = ()
    in_use: _Way | None = None

    def in_order(self, now: float) -> list[_Way]:
        """The ways in the order in which a piece tries them."""
        return sorted(self.ways, key=lambda way: way.is_resting(now))

    @property
    def best(self) -> _Way | None:
        """The best of those that work."""
        return next((way for way in self.ways if way.failed_at is None), None)


@implementer(IDownloader)
class AutoDownloader(ByKind):
    """
    Fetch pieces from any parent, over TCP where it answers, and over gRPC otherwise. A transport that fails in the
    middle of a piece does not fail the piece: it is asked for over the other one.

    A parent is known by its gRPC address when that is ``grpc://…`` or ``grpcs://…``, or when something has been told of
    it by :meth:`learn`. Any other is asked over TCP, at the address that is given, and over nothing else.

    :param clock: for time-outs, and for how long a transport rests.
    :param tcp: takes pieces over TCP.
    :param make_grpc: makes what takes pieces over gRPC, when it is needed; None where content is to go over TCP alone.
    :param piece_timeout: seconds that one piece may take, over all transports together.
    :param say: called with one line about each change of a parent's transport.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        tcp: IDownloader,
        make_grpc: Callable[[], IDownloader] | None,
        *,
        piece_timeout: float,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._clock = clock
        self._tcp = tcp
        self._make_grpc = make_grpc
        self._grpc: IDownloader | None = None
        self._piece_timeout = piece_timeout
        self._say = say
        self._parents: dict[str, _Parent] = {}
        self._stopped = False
        self.carried: Counter[str] = Counter()
        """How many pieces have come over each transport, from parents that are known by their gRPC address."""

    def learn(self, parent: str, tcp_address: str | None) -> None:
        """
        A parent is known by its gRPC address, and offers TCP. What is known of a transport stays while its address is
        the same.

        :param parent: its gRPC address, by which it is asked for pieces.
        :param tcp_address: its TCP address; None where it offers none.
        """
        known = self._parents.setdefault(parent, _Parent(address=parent))
        ways = {(way.name, way.address): way for way in known.ways}
        wanted = []
        if tcp_address is not None:
            wanted.append(_Way(name="TCP", address=tcp_address, downloader=lambda: self._tcp, can_be_heard=True))
        if self._make_grpc is not None:
            wanted.append(_Way(name="gRPC", address=parent, downloader=self._grpc_downloader, can_be_heard=False))
        before, known.ways = known.ways, tuple(ways.get((way.name, way.address), way) for way in wanted)
        if known.ways != before:
            known.in_use = None

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        if addr not in self._parents and addr.startswith(_GRPC_SCHEMES):
            self.learn(addr, None)
        parent = self._parents.get(addr)
        if parent is None:
            return self._tcp.download(addr, request)
        if self._stopped:
            return fail(PoolClosed("the downloader has been stopped"))
        name = piece_id(request.task_id, request.number)
        tried: list[str] = []

        def too_late(_: object, seconds: float) -> Failure:
            reason = "; ".join([f"expected the piece within {seconds:g} s, got no complete reply", *tried])
            return Failure(PieceTimeout(addr, name, reason))

        result = Deferred.fromCoroutine(self._download(parent, request, tried))
        return result.addTimeout(self._piece_timeout, self._clock, too_late)

    def stop(self) -> Deferred[None]:
        self._stopped = True
        stopping = self._tcp.stop()
        if self._grpc is not None:
            grpc = self._grpc
            stopping.addBoth(_then, grpc.stop())
        return stopping

    # -- one piece

    async def _download(
        self, parent: _Parent, request: DownloadPieceRequest, tried: list[str]
    ) -> DownloadPieceResponse:
        """
        Try the ways in their order, until the parent answers on one, whatever it says.

        :param tried: takes what came of each way, for messages.
        """
        name = piece_id(request.task_id, request.number)
        unreachable = ParentUnreachable(parent.address, name, "it offers no TCP port")
        ways = parent.in_order(self._clock.seconds())
        for way in ways:
            attempt = _Attempt(self._clock, way, request, None if way is ways[-1] else self._patience)
            try:
                response = await attempt.result()
            except ParentUnreachable as error:
                self._failed(parent, attempt, error)
                tried.append(f"over {way.name} at {way.address}: {error.reason}")
                unreachable = type(error)(parent.address, name, "; ".join(tried))
                unreachable.__cause__ = error
            except PieceTimeout as error:
                raise _named(error, parent.address, [*tried, error.reason]) from error
            except PieceError as error:
                self._answered(parent, attempt)
                raise _named(error, parent.address, [error.reason]) from error
            else:
                self._answered(parent, attempt)
                self.carried[way.name] += 1
                return response
        raise unreachable

    def _patience(self, way: _Way) -> float:
        """Seconds that a way may be silent, while there is another one to be tried."""
        share = self._piece_timeout / _SHARE
        has_worked = way.heard_at is not None and way.failed_at is None
        return share if has_worked else min(FIRST_WORDS, share)

    def _grpc_downloader(self) -> IDownloader:
        if self._grpc is None:
            if self._make_grpc is None or self._stopped:
                raise PoolClosed("the downloader has been stopped")
            self._grpc = self._make_grpc()
        return self._grpc

    # -- what is remembered, and said

    def _answered(self, parent: _Parent, attempt: _Attempt) -> None:
        """A parent has said something on a way, about a piece."""
        way = attempt.way
        if attempt.round == way.round and way.failed_at is not None:
            way.failed_at = None
            way.round += 1
        if way is parent.best and way is not parent.in_use:
            before, parent.in_use = parent.in_use, way
            failed = next((other for other in parent.ways if other.failed_at is not None), None)
            if failed is not None and (before is not None or way is not parent.ways[0]):
                self._tell(f"parent {parent.address}: {failed.name} {_does_not_answer(failed)}, using {way.name}")
            elif before is not None:
                self._tell(f"parent {parent.address}: {way.name} answers again, using {way.name}")

    def _failed(self, parent: _Parent, attempt: _Attempt, error: ParentUnreachable) -> None:
        """A way has failed; there may be another one."""
        way = attempt.way
        if attempt.round == way.round:
            way.failed_at = self._clock.seconds()
            way.why = error.reason
            way.round += 1
            self.log.info(
                "parent {parent}: {way} at {address}: {reason}",
                parent=parent.address,
                way=way.name,
                address=way.address,
                reason=error.reason,
            )

    def _tell(self, line: str) -> None:
        self.log.warn("{line}", line=line)
        self._say(line)


def _does_not_answer(way: _Way) -> str:
    place = f"port {way.address.rpartition(':')[2]} " if way.name == "TCP" else ""
    return f"{place}does not answer ({way.why})"


def _named(error: PieceError, parent: str, reasons: list[str]) -> PieceError:
    """An error of one transport, about the parent by the name that the caller knows."""
    reason = "; ".join(reasons)
    if isinstance(error, ParentFailed):
        return ParentFailed(parent, error.piece_id, reason, error.code)
    return type(error)(parent, error.piece_id, reason)


def _then(_: object, other: Deferred[None]) -> Deferred[None]:
    """Wait for another Deferred, too."""
    return other


class _Attempt:
    """
    One piece over one way.

    :param patience: how long the way may be silent; None for as long as the piece may take.
    """

    def __init__(
        self,
        clock: IReactorTime,
        way: _Way,
        request: DownloadPieceRequest,
        patience: Callable[[_Way], float] | None,
    ) -> None:
        self.way = way
        self.round = way.round
        self._clock = clock
        self._request = request
        self._patience = patience if way.can_be_heard else None
        self._asked_at = clock.seconds()
        self._downloading: Deferred[DownloadPieceResponse] | None = None
        self._listening: IDelayedCall | None = None
        self._was_silent = False

    async def result(self) -> DownloadPieceResponse:
        """
        The piece.

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
        """Something has come."""
        self.way.heard_at = self._clock.seconds()

    def _since(self) -> float:
        """Since when the way has been silent, as far as this piece goes."""
        return max(self._asked_at, self.way.heard_at or self._asked_at)

    def _listen(self) -> None:
        """Give up when the way has been silent for too long; look again when that may be."""
        if self._patience is None or self._downloading is None:
            return
        left = self._since() + self._patience(self.way) - self._clock.seconds()
        if left > 0:
            self._listening = self._clock.callLater(left, self._listen)
        else:
            self._was_silent = True
            self._downloading.cancel()


@implementer(IFileSink)
class _HeardSink:
    """
    A sink that tells when something comes for it. Whether it has a file is known by the one that it stands for.

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
