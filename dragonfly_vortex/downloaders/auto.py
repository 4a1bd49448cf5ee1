"""
Pieces over the best transport that each parent has: :class:`AutoDownloader`, over a downloader for each transport.

A parent that announces other transports can be asked in several ways: by the transport of its own address, and by the
others at the addresses that it offers. They are tried in the order of the table of transports. What is known of each
way, and how long a way may be silent, is in :mod:`dragonfly_vortex.downloaders.failover`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.downloaders.failover import Attempt, KnownParent, Way
from dragonfly_vortex.errors import (
    ParentFailed,
    ParentRefused,
    ParentUnreachable,
    PieceError,
    PieceTimeout,
    PoolClosed,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.transport_table import BEST, transport_of_address, transports_named

__all__ = ["AutoDownloader"]


@implementer(IDownloader)
class AutoDownloader(ByKind):
    """
    Fetch pieces from any parent over the first of its transports that answers. A transport that fails in the middle of
    a piece does not fail the piece: it is asked for over the next one.

    A parent whose transport announces no other one is asked by that alone.

    :param clock: for time-outs, and for how long a transport rests.
    :param builders: what builds the downloader of each transport that may carry content, by its name. Each is called
        once, when it is needed.
    :param piece_timeout: seconds without progress after which a transport itself gives up a piece.
    :param say: called with one line about each change of a parent's transport.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        builders: Mapping[str, Callable[[], IDownloader]],
        *,
        piece_timeout: float,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._clock = clock
        self._builders = builders
        self._downloaders: dict[str, IDownloader] = {}  # those that have been built, by the names of their transports
        self._piece_timeout = piece_timeout
        self._say = say
        self._parents: dict[str, KnownParent] = {}
        self._stopped = False
        self.carried: Counter[str] = Counter()
        """The number of pieces received over each transport, from parents that can be asked by several."""

    def prepare(self, name: str) -> IDownloader:
        """
        The downloader of a transport, which is built at the first call.

        :param name: the transport's.
        :raises PoolClosed: it would have to be built, and this downloader has been stopped.
        """
        if name not in self._downloaders:
            if self._stopped:
                raise PoolClosed("the downloader has been stopped")
            self._downloaders[name] = self._builders[name]()
        return self._downloaders[name]

    def learn(self, parent: str, *offered: str) -> None:
        """
        Record that a parent offers other transports. What is known of a transport stays while its address is the same.

        :param parent: the address by which it is asked for pieces.
        :param offered: its addresses for all other transports that it offers.
        """
        by_name = {transport_of_address(address).name: address for address in (*offered, parent)}
        ways = [
            Way(
                name=transport.label,
                address=by_name[transport.name],
                downloader=partial(self.prepare, transport.name),
                can_be_heard=transport.shows_progress,
            )
            for transport in transports_named(BEST)
            if transport.name in by_name and transport.name in self._builders
        ]
        self._parents.setdefault(parent, KnownParent(address=parent)).offer(ways)

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        if self._stopped:
            return fail(PoolClosed("the downloader has been stopped"))
        parent = self._parents.get(addr)
        if parent is None:
            try:
                transport = transport_of_address(addr)
            except ValueError:
                return fail()
            if not transport.announces and transport.name in self._builders:
                return self.prepare(transport.name).download(addr, request)
            self.learn(addr)
            parent = self._parents[addr]
        return Deferred.fromCoroutine(self._download(parent, request))

    def stop(self) -> Deferred[None]:
        self._stopped = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        failures = await failures_of(downloader.stop() for downloader in self._downloaders.values())
        if failures:
            failures[0].raiseException()

    # -- one piece

    async def _download(self, parent: KnownParent, request: DownloadPieceRequest) -> DownloadPieceResponse:
        """Try the ways in their order, until the parent answers on one, whatever it says."""
        tried: list[str] = []  # what came of each way, for messages
        name = piece_id(request.task_id, request.number)
        unreachable = ParentUnreachable(parent.address, name, f"it offers no {self._labels()} port")
        ways = parent.in_order(self._clock.seconds())
        is_refused = True  # on every way that was tried
        for way in ways:
            attempt = Attempt(self._clock, way, request, None if way is ways[-1] else self._piece_timeout)
            try:
                response = await attempt.result()
            except ParentUnreachable as error:
                self._failed(parent, attempt, error)
                tried.append(f"over {way.name} at {way.address}: {error.reason}")
                is_refused = is_refused and isinstance(error, ParentRefused)
                kind = type(error) if is_refused else ParentUnreachable
                unreachable = kind(parent.address, name, "; ".join(tried))
                unreachable.__cause__ = error
            except PieceTimeout as error:
                raise _named(error, parent.address, [*tried, _where(way, parent.address, error)]) from error
            except PieceError as error:
                self._answered(parent, attempt)
                raise _named(error, parent.address, [_where(way, parent.address, error)]) from error
            else:
                self._answered(parent, attempt)
                self.carried[way.name] += 1
                return response
        raise unreachable

    def _labels(self) -> str:
        """What the transports that may carry content are called in messages."""
        return " or ".join(each.label for each in transports_named(BEST) if each.name in self._builders)

    # -- what is remembered, and said

    def _answered(self, parent: KnownParent, attempt: Attempt) -> None:
        """Record that a parent has answered over a way, and say if that changes the way in use."""
        line = parent.answered(attempt.way, attempt.round)
        if line is not None:
            self.log.warn("{line}", line=line)
            self._say(line)

    def _failed(self, parent: KnownParent, attempt: Attempt, error: ParentUnreachable) -> None:
        """Record that a way has failed."""
        way = attempt.way
        if way.failed(attempt.round, self._clock.seconds(), error.reason):
            self.log.info(
                "parent {parent}: {way} at {address}: {reason}",
                parent=parent.address,
                way=way.name,
                address=way.address,
                reason=error.reason,
            )


def _where(way: Way, parent: str, error: PieceError) -> str:
    """What an error says, with the address that was asked where that is another one than the parent is known by."""
    return error.reason if way.address == parent else f"over {way.name} at {way.address}: {error.reason}"


def _named(error: PieceError, parent: str, reasons: list[str]) -> PieceError:
    """An error of one transport, about the parent by the name that the caller knows."""
    reason = "; ".join(reasons)
    if isinstance(error, ParentFailed):
        return ParentFailed(parent, error.piece_id, reason, error.code)
    return type(error)(parent, error.piece_id, reason)
