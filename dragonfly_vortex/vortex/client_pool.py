"""
The clients of many parents, by address: made when they are needed, kept while they are used, and stopped when they have
been idle for long or when another parent needs the place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar

from msgspec import Struct, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.errors import PieceTimeout, PoolClosed
from dragonfly_vortex.interfaces import DownloadPieceRequest, IClient
from dragonfly_vortex.model import DownloadPieceResponse, piece_id

__all__ = ["ClientPool"]


class _Entry(Struct, kw_only=True, eq=False):
    """
    A client in the pool.

    :param active_requests: pieces that it has been asked for and that have not ended.
    :param idle_since: when the last of them ended.
    """

    client: IClient
    active_requests: int = 0
    idle_since: float = 0.0


class _Waiting(Struct, kw_only=True, eq=False):
    """A request for which there is no place yet."""

    address: str
    admitted: Deferred[None] = field(default_factory=Deferred)


class ClientPool:
    """
    One client for each address, ``capacity`` of them at the most.

    At capacity the client that has been idle for longest makes room; where all are busy, requests wait in order.

    :param make_client: makes the client for an address.
    :param clock: for time-outs and for the periodic cleanup.
    :param capacity: how many clients, that is addresses, there may be.
    :param idle_timeout: seconds after which an idle client is stopped; the cleanup comes round twice in that time.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        make_client: Callable[[str], IClient],
        clock: IReactorTime,
        *,
        capacity: int = 2000,
        idle_timeout: float = 420.0,
    ) -> None:
        self._make_client = make_client
        self._clock = clock
        self._capacity = capacity
        self._idle_timeout = idle_timeout
        self._busy: dict[str, _Entry] = {}
        self._idle: OrderedDict[str, _Entry] = OrderedDict()  # the longest idle first
        self._waiting: list[_Waiting] = []
        self._ending: set[Deferred[None]] = set()  # each fires when a client has stopped
        self._cleanup = LoopingCall(self._stop_idle_clients)
        self._cleanup.clock = clock
        self._stopped = False

    def __len__(self) -> int:
        """The number of clients."""
        return len(self._busy) + len(self._idle)

    def active_requests(self, address: str) -> int:
        """The number of pieces that are being fetched from an address."""
        entry = self._busy.get(address)
        return entry.active_requests if entry is not None else 0

    def download_piece(
        self, address: str, request: DownloadPieceRequest, timeout: float
    ) -> Deferred[DownloadPieceResponse]:
        """
        Fetch a piece from a parent. Cancelling the Deferred ends the transfer, or the waiting for a place.

        :param address: the parent, ``HOST:PORT``.
        :param timeout: seconds in which there must be a place, and then as for the client.
        :returns: as :meth:`~dragonfly_vortex.interfaces.IClient.download_piece`; fails with
            :class:`~dragonfly_vortex.errors.PoolClosed` after :meth:`stop`.
        """
        if self._stopped or not self._has_place(address):
            return Deferred.fromCoroutine(self._wait_and_download(address, request, timeout))
        return self._download(self._take_place(address), address, request, timeout)

    def stop(self) -> Deferred[None]:
        """Stop all clients, fail what is under way and what is waiting. Fires when the last connection has ended."""
        self._stopped = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.admitted.errback(_closed())
        if self._cleanup.running:
            self._cleanup.stop()
        for entry in [*self._busy.values(), *self._idle.values()]:
            self._stop_client(entry)
        self._idle.clear()
        return gatherResults([_after(ending) for ending in self._ending]).addCallback(lambda _: None)

    async def _wait_and_download(
        self, address: str, request: DownloadPieceRequest, timeout: float
    ) -> DownloadPieceResponse:
        entry = await self._enter(address, request, timeout)
        return await self._download(entry, address, request, timeout)

    def _download(
        self, entry: _Entry, address: str, request: DownloadPieceRequest, timeout: float
    ) -> Deferred[DownloadPieceResponse]:
        """Have the client of a busy entry fetch a piece."""
        entry.active_requests += 1
        return entry.client.download_piece(request, timeout).addBoth(self._ended, address, entry)

    def _ended(
        self, outcome: DownloadPieceResponse | Failure, address: str, entry: _Entry
    ) -> DownloadPieceResponse | Failure:
        """A request has ended."""
        entry.active_requests -= 1
        if not entry.active_requests:
            self._now_idle(address, entry)
        return outcome

    # -- places

    async def _enter(self, address: str, request: DownloadPieceRequest, timeout: float) -> _Entry:
        """The busy entry of an address, as soon as there is a place for it."""

        def too_late(_: object, seconds: float) -> Failure:
            reason = f"expected the piece within {seconds:g} s, got no place: all {self._capacity} clients are busy"
            return Failure(PieceTimeout(address, piece_id(request.task_id, request.number), reason))

        if self._stopped:
            raise _closed()
        if not self._has_place(address):
            waiting = _Waiting(address=address)
            waiting.admitted = Deferred(lambda _: self._waiting.remove(waiting))
            self._waiting.append(waiting)
            await waiting.admitted.addTimeout(timeout, self._clock, too_late)
        return self._take_place(address)

    def _has_place(self, address: str) -> bool:
        return address in self._busy or bool(self._idle) or len(self) < self._capacity

    def _take_place(self, address: str) -> _Entry:
        entry = self._busy.get(address) or self._idle.pop(address, None)
        if entry is None:
            if len(self) >= self._capacity:
                _, longest_idle = self._idle.popitem(last=False)
                self._stop_client(longest_idle)
            entry = _Entry(client=IClient(self._make_client(address)))
        self._busy[address] = entry
        if not self._cleanup.running:
            # One that fails would end it for good without a word.
            self._cleanup.start(self._idle_timeout / 2, now=False).addErrback(self._log_failure)
        return entry

    def _now_idle(self, address: str, entry: _Entry) -> None:
        del self._busy[address]
        if self._stopped:
            return
        entry.idle_since = self._clock.seconds()
        self._idle[address] = entry
        for waiting in list(self._waiting):
            # An admitted request takes its place at once, so the next test sees the changed pool.
            if waiting in self._waiting and self._has_place(waiting.address):
                self._waiting.remove(waiting)
                waiting.admitted.callback(None)

    def _stop_idle_clients(self) -> None:
        due = self._clock.seconds() - self._idle_timeout
        while self._idle:
            address, entry = next(iter(self._idle.items()))
            if entry.idle_since > due:
                break
            del self._idle[address]
            self._stop_client(entry)
        if not self._busy and not self._idle:
            self._cleanup.stop()

    # -- the end of clients

    def _stop_client(self, entry: _Entry) -> None:
        ending = entry.client.stop().addErrback(self._log_failure)
        self._ending.add(ending)
        ending.addCallback(lambda _: self._ending.discard(ending))

    def _log_failure(self, failure: Failure) -> None:
        self.log.failure("a client could not be stopped", failure)


def _closed() -> PoolClosed:
    return PoolClosed("the downloader has been stopped")


def _after(ending: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires with another one, for which others may wait, too."""
    after: Deferred[None] = Deferred()

    def pass_on(_: None) -> None:
        after.callback(None)

    ending.addCallback(pass_on)
    return after
