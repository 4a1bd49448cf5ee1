"""
Pieces over the best transport that each parent has: :class:`AutoDownloader`, over a downloader for each transport.

A parent that is known by its gRPC address has two ways to it: TCP, at the address that it offers, and gRPC. TCP comes
first. What is known of each way, and how long a way may be silent, is in :mod:`dragonfly_vortex.downloaders.failover`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.downloaders.failover import Attempt, KnownParent, Way
from dragonfly_vortex.errors import ParentFailed, ParentUnreachable, PieceError, PieceTimeout, PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse, piece_id

__all__ = ["AutoDownloader"]

_GRPC_SCHEMES = ("grpc://", "grpcs://")


@implementer(IDownloader)
class AutoDownloader(ByKind):
    """
    Fetch pieces from any parent, over TCP where it answers, and over gRPC otherwise. A transport that fails in the
    middle of a piece does not fail the piece: it is asked for over the other one.

    A parent is known by its gRPC address when that is ``grpc://…`` or ``grpcs://…``, or when :meth:`learn` was
    called for it. Any other is asked over TCP, at the address that is given, and over nothing else.

    :param clock: for time-outs, and for how long a transport rests.
    :param tcp: takes pieces over TCP.
    :param make_grpc: makes what takes pieces over gRPC, when it is needed; None where content is to go over TCP alone.
    :param piece_timeout: seconds without progress after which a transport itself gives up a piece.
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
        self._parents: dict[str, KnownParent] = {}
        self._stopped = False
        self.carried: Counter[str] = Counter()
        """The number of pieces received over each transport, from parents that are known by their gRPC address."""

    def learn(self, parent: str, tcp_address: str | None) -> None:
        """
        A parent is known by its gRPC address, and offers TCP. What is known of a transport stays while its address is
        the same.

        :param parent: its gRPC address, by which it is asked for pieces.
        :param tcp_address: its TCP address; None where it offers none.
        """
        ways = []
        if tcp_address is not None:
            ways.append(Way(name="TCP", address=tcp_address, downloader=lambda: self._tcp, can_be_heard=True))
        if self._make_grpc is not None:
            ways.append(Way(name="gRPC", address=parent, downloader=self._grpc_downloader, can_be_heard=False))
        self._parents.setdefault(parent, KnownParent(address=parent)).offer(ways)

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        if addr not in self._parents and addr.startswith(_GRPC_SCHEMES):
            self.learn(addr, None)
        parent = self._parents.get(addr)
        if parent is None:
            return self._tcp.download(addr, request)
        if self._stopped:
            return fail(PoolClosed("the downloader has been stopped"))
        return Deferred.fromCoroutine(self._download(parent, request))

    def stop(self) -> Deferred[None]:
        self._stopped = True
        stopping = self._tcp.stop()
        if self._grpc is not None:
            grpc = self._grpc
            stopping.addBoth(_then, grpc.stop())
        return stopping

    # -- one piece

    async def _download(self, parent: KnownParent, request: DownloadPieceRequest) -> DownloadPieceResponse:
        """Try the ways in their order, until the parent answers on one, whatever it says."""
        tried: list[str] = []  # what came of each way, for messages
        name = piece_id(request.task_id, request.number)
        unreachable = ParentUnreachable(parent.address, name, "it offers no TCP port")
        ways = parent.in_order(self._clock.seconds())
        for way in ways:
            attempt = Attempt(self._clock, way, request, None if way is ways[-1] else self._piece_timeout)
            try:
                response = await attempt.result()
            except ParentUnreachable as error:
                self._failed(parent, attempt, error)
                tried.append(f"over {way.name} at {way.address}: {error.reason}")
                unreachable = type(error)(parent.address, name, "; ".join(tried))
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

    def _grpc_downloader(self) -> IDownloader:
        if self._grpc is None:
            if self._make_grpc is None or self._stopped:
                raise PoolClosed("the downloader has been stopped")
            self._grpc = self._make_grpc()
        return self._grpc

    # -- what is remembered, and said

    def _answered(self, parent: KnownParent, attempt: Attempt) -> None:
        """A parent has said something, about a piece."""
        line = parent.answered(attempt.way, attempt.round)
        if line is not None:
            self.log.warn("{line}", line=line)
            self._say(line)

    def _failed(self, parent: KnownParent, attempt: Attempt, error: ParentUnreachable) -> None:
        """A way has failed; there may be another one."""
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


def _then(_: object, other: Deferred[None]) -> Deferred[None]:
    """Wait for another Deferred, too."""
    return other
