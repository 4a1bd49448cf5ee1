"""
The downloader of sources over HTTP, for a configuration: what the row ``http`` of the table of transports names.
Importing this loads treq.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTCP, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.config import Config
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.errors import ParentUnreachable, PoolClosed, SourceUnavailable
from dragonfly_vortex.geometry import piece_count, piece_span
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IPieceAnnouncer
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import (
    NO_CREDENTIALS,
    Credentials,
    DownloadPieceResponse,
    ListedFile,
    Origin,
    SourceStat,
    piece_id,
)
from dragonfly_vortex.source.agent import MayConnect, SourceAgent
from dragonfly_vortex.source.http import HTTPSource
from dragonfly_vortex.source.hub import list_files
from dragonfly_vortex.source.location import SECRET_VARIABLES, Header, locate
from dragonfly_vortex.source.pieces import SourcePieces
from dragonfly_vortex.source.proxies import Proxies
from dragonfly_vortex.source.upload import ObjectUpload
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.read_pacing import READ_SIZE
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.wire import PieceKind

__all__ = ["SourceDownloader", "build"]

_BATCH = 256
"""Pieces that a source announces in one turn of the reactor."""


def build(config: Config, reactor: IReactorTCP, limiter: TokenBucket, dial: Dial | None = None) -> SourceDownloader:
    """
    Build the downloader. See :class:`~dragonfly_vortex.downloaders.factory.DownloaderBuilder`.

    :raises UsageError: the environment names a proxy that cannot be used.
    """
    proxies = Proxies()

    def make_agent(may_connect: MayConnect) -> SourceAgent:
        return SourceAgent(
            reactor,
            proxies,
            connections=config.download.tcp.connections_per_address,
            read_size=min(READ_SIZE, limiter.step),
            may_connect=may_connect,
        )

    return SourceDownloader(make_agent, IReactorTime(reactor), limiter, config.download.piece_timeout)


def _anywhere(host: str, address: str | None) -> bool:
    """Where the sources of this peer's own users may be."""
    return True


@implementer(IDownloader)
class SourceDownloader(ByKind):
    """
    Fetch pieces from sources. A source is added for a task; its address is a name without secrets.

    :param make_agent: makes what asks sources, for the connections that may be made. All sources for which the same
        connections may be made share one, and with it the connections that are kept.
    :param clock: for time-outs, and for the rests that the limiter asks for.
    :param limiter: what all content is spent from.
    :param piece_timeout: seconds without progress after which a piece fails, and in which a source says what it has.
    """

    def __init__(
        self,
        make_agent: Callable[[MayConnect], SourceAgent],
        clock: IReactorTime,
        limiter: TokenBucket,
        piece_timeout: float,
    ) -> None:
        self._make_agent = make_agent
        self._agents: dict[MayConnect, SourceAgent] = {}
        self._clock = clock
        self._limiter = limiter
        self._splicer = Splicer()
        self._piece_timeout = piece_timeout
        self._pieces: dict[tuple[str, str], SourcePieces] = {}  # by address and task
        self._under_way: set[Deferred[DownloadPieceResponse]] = set()
        self._is_stopped = False

    def add(
        self,
        task_id: str,
        origin: Origin,
        headers: Sequence[Header] = (),
        *,
        credentials: Credentials = NO_CREDENTIALS,
        version: str = "",
        may_connect: MayConnect = _anywhere,
        metrics: TaskMetrics | None = None,
    ) -> str:
        """
        Prepare to ask a source for the pieces of a task.

        :param origin: what the task is made from.
        :param headers: what the user wants to be sent.
        :param credentials: what the source is shown; without any, those of the environment, which are not for the
            requests of strangers: those with ``may_connect``.
        :param version: what is known already of the version of the content; empty for nothing.
        :param may_connect: whether a connection may be made.
        :param metrics: where requests are counted; None: nowhere.
        :returns: its address.
        :raises InvalidOrigin: it is no URL of a source.
        """
        source = self._source(origin, headers, credentials, may_connect, metrics)
        self._pieces[source.name, task_id] = SourcePieces(
            source,
            self._clock,
            self._limiter,
            timeout=self._piece_timeout,
            piece_length=origin.piece_length,
            version=version,
            splicer=self._splicer,
        )
        return source.name

    def list_files(
        self,
        origin: Origin,
        headers: Sequence[Header] = (),
        *,
        credentials: Credentials = NO_CREDENTIALS,
        may_connect: MayConnect = _anywhere,
        metrics: TaskMetrics | None = None,
    ) -> Deferred[list[ListedFile]]:
        """
        Ask a hub of models for the files of a repository. The parameters are those of :meth:`add`.

        :returns: fails with a :class:`~dragonfly_vortex.errors.SourceError`, at the latest after the time for a piece.
        """
        source = self._source(origin, headers, credentials, may_connect, metrics)

        def too_late(result: object, timeout: float) -> Failure:
            reason = f"expected the list of files within {timeout:g} s, got a part or nothing"
            return Failure(SourceUnavailable(source.name, reason))

        return list_files(source, origin).addTimeout(self._piece_timeout, self._clock, too_late)

    def upload(self, origin: Origin, credentials: Credentials, metrics: TaskMetrics | None = None) -> ObjectUpload:
        """
        Prepare to make an object in an object storage. The parameters are those of :meth:`add`.

        :raises InvalidOrigin: the origin is no object.
        """
        return ObjectUpload(
            origin,
            credentials,
            self._agent(_anywhere),
            clock=self._clock,
            timeout=self._piece_timeout,
            metrics=metrics,
        )

    def _source(
        self,
        origin: Origin,
        headers: Sequence[Header],
        credentials: Credentials,
        may_connect: MayConnect,
        metrics: TaskMetrics | None,
    ) -> HTTPSource:
        """
        What asks for an origin.

        :raises InvalidOrigin: it is no URL of a source.
        """
        environment = dict(os.environ)
        if may_connect is not _anywhere:
            for name in SECRET_VARIABLES:
                environment.pop(name, None)
        location = locate(origin, headers, credentials=credentials, environment=environment)
        return HTTPSource(location, self._agent(may_connect), metrics)

    def _agent(self, may_connect: MayConnect) -> SourceAgent:
        if may_connect not in self._agents:
            self._agents[may_connect] = self._make_agent(may_connect)
        return self._agents[may_connect]

    def remove(self, address: str, task_id: str) -> None:
        """Forget the source of a task: what is under way of it ends."""
        pieces = self._pieces.pop((address, task_id), None)
        if pieces is not None:
            pieces.stop()

    def stat(self, address: str, task_id: str) -> Deferred[SourceStat]:
        """Return the metadata of a source's content. Fails with a :class:`~dragonfly_vortex.errors.SourceError`."""
        return self._pieces[address, task_id].stat()

    def version(self, address: str, task_id: str) -> str:
        """The version of the content, as far as the source has named it; empty where it has not."""
        return self._pieces[address, task_id].version

    def announcer(self, address: str) -> IPieceAnnouncer:
        """Return the announcer of a source, which has the layout of the task and all its pieces."""
        return SourceAnnouncer(address, self._pieces, self._clock)

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        if self._is_stopped:
            return fail(PoolClosed("the downloader has been stopped"))
        pieces = self._pieces.get((addr, request.task_id))
        if pieces is None:
            name = piece_id(request.task_id, request.number)
            return fail(ParentUnreachable(addr, name, "expected a source of this task, got that of another one"))
        result = pieces.download(request, self._piece_timeout)
        self._under_way.add(result)
        return result.addBoth(self._ended, result)

    def stop(self) -> Deferred[None]:
        self._is_stopped = True
        for result in list(self._under_way):
            result.cancel()
        return Deferred.fromCoroutine(self._stop())

    def _ended(self, outcome: object, result: Deferred[DownloadPieceResponse]) -> object:
        self._under_way.discard(result)
        return fail(PoolClosed("the downloader has been stopped")) if self._is_stopped else outcome

    async def _stop(self) -> None:
        failures = await failures_of(pieces.stop() for pieces in self._pieces.values())
        self._pieces.clear()
        failures += await failures_of(agent.close() for agent in self._agents.values())
        self._splicer.close()
        if failures:
            failures[0].raiseException()


@implementer(IPieceAnnouncer)
class SourceAnnouncer:
    """
    Announces all pieces of a task at its source.

    :param address: the source's.
    :param pieces: those of all sources, by address and task.
    :param clock: calls later.
    """

    def __init__(self, address: str, pieces: dict[tuple[str, str], SourcePieces], clock: IReactorTime) -> None:
        self._address = address
        self._pieces = pieces
        self._clock = clock

    def start(
        self,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        pieces = self._pieces[self._address, task_id]
        is_ended = False
        next_call: IDelayedCall

        def end() -> None:
            nonlocal is_ended
            is_ended = True
            if next_call.active():
                next_call.cancel()

        def tell(stat: SourceStat) -> None:
            length, piece_length = stat.content_length, pieces.piece_length or 0
            if is_ended:
                return
            on_layout(length, piece_length)
            tell_pieces(0, length, piece_length)

        def tell_pieces(first: int, length: int | None, piece_length: int) -> None:
            """Announce the next batch. The rest waits for the next turn: the length of a task is not ours to choose."""
            nonlocal next_call
            count = 0 if length is None else piece_count(length, piece_length)
            for number in range(first, min(first + _BATCH, count)):
                if is_ended:
                    return
                on_piece(number, *piece_span(number, length or 0, piece_length))
            if is_ended:
                return
            if first + _BATCH < count:
                next_call = self._clock.callLater(0, tell_pieces, first + _BATCH, length, piece_length)
            else:
                on_end(length is not None)

        def fail_to_tell(_: object) -> None:
            if not is_ended:
                on_end(False)  # a request for a piece says why

        next_call = self._clock.callLater(0, lambda: pieces.stat().addCallbacks(tell, fail_to_tell))
        return end
