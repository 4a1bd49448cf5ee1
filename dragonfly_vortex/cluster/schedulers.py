"""
The schedulers of a cluster: which of them serve, which one a task belongs to, and calls to them.

A scheduler serves once it has said so and has heard of this host. One that fails to answer serves no more until it is
asked again: soon, and then less and less often.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.cluster.hash_ring import HashRing
from dragonfly_vortex.cluster.methods import path
from dragonfly_vortex.cluster.requests import TaskAnnouncement
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.rpc.channel import Channel, GRPCSettings, TwoWayCall
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.transport_table import GRPC

__all__ = ["CONNECT_TIMEOUT", "REQUEST_TIMEOUT", "Host", "Schedulers"]

CONNECT_TIMEOUT: Final = 3.0
"""Seconds that connecting to a scheduler may take, as in the reference (``grpc/mod.rs``)."""

REQUEST_TIMEOUT: Final = 10.0
"""Seconds that a scheduler may take to answer, as in the reference."""

_HEALTH: Final = "/grpc.health.v1.Health/Check"

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
"""Seconds before a scheduler that does not serve is asked again: at first, and at most."""

_OPTIONS: Final = (
    # With less of grpcio's machinery a call that is open takes 25 KB instead of 34.
    ("grpc.minimal_stack", 1),
    ("grpc.enable_retries", 0),
)

_REMOVED: Final = Status(grpc.StatusCode.UNAVAILABLE, "the scheduler is not used any more")

_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of a scheduler's message: an offer lists the finished pieces of each parent."""


class Schedulers:
    """
    The schedulers of a cluster.

    :param settings: for the channels.
    :param welcome: called with the address of a scheduler that says that it serves, before it is used; fires with
        whether it can be.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, settings: GRPCSettings, welcome: Callable[[str], Awaitable[bool]]) -> None:
        self._settings = settings
        self._scheme = GRPC.schemes[settings.credentials is not None]
        self._welcome = welcome
        self._ring = HashRing(())  # of those that serve
        self._channels: dict[str, Channel] = {}  # of those that are known
        self._checking: dict[str, Deferred[None]] = {}
        self._asking: set[Deferred[None]] = set()  # what is behind these
        self._pauses: dict[str, float] = {}
        self._rechecks: dict[str, IDelayedCall] = {}

    @property
    def known(self) -> frozenset[str]:
        """The addresses of all schedulers."""
        return frozenset(self._channels)

    @property
    def serving(self) -> frozenset[str]:
        """The addresses of those that serve."""
        return self._ring.names

    def in_order(self, task_id: str) -> tuple[str, ...]:
        """The schedulers that serve, in the order in which a task belongs to them."""
        return tuple(self._ring.in_order(task_id))

    def first(self, task_id: str) -> str:
        """The scheduler that a task belongs to; empty where none serves."""
        return self._ring.first(task_id)

    def set_known(self, addresses: Iterable[str]) -> None:
        """
        Use these schedulers, and no others. Those that are new are asked whether they serve by the next
        :meth:`check`.

        :param addresses: ``IP:PORT`` of each.
        """
        addresses = frozenset(addresses)
        for address in self.known - addresses:
            self._remove(address)
        for address in addresses - self.known:
            self._channels[address] = Channel(f"{self._scheme}://{address}", self._settings, _LONGEST, _OPTIONS)

    def check(self) -> Deferred[None]:
        """Ask all schedulers whether they serve. Fires when all have answered, or failed to."""
        return Deferred.fromCoroutine(_all([self.check_one(address) for address in sorted(self.known)]))

    def suspect(self, address: str) -> None:
        """Use a scheduler no more until it says that it serves: a call to it has failed."""
        if address in self.serving:
            self.log.warn("scheduler {address} fails; it is not used until it serves again", address=address)
            self._ring = HashRing(self.serving - {address})
        if address in self.known:
            self._recheck_later(address)

    def call(self, address: str, method: str, request: Message, timeout: float = REQUEST_TIMEOUT) -> Deferred[bytes]:
        """
        Make a call that has one reply.

        :param address: of the scheduler.
        :param method: its name in the service of schedulers.
        :returns: fires with the reply; fails with :class:`CallFailed`.
        """
        channel = self._channels.get(address)
        if channel is None:
            return fail(CallFailed(_REMOVED))
        return channel.call(path(method), request.SerializeToString(), timeout)

    def converse(self, address: str, method: str, hear: Callable[[bytes], None]) -> TwoWayCall:
        """
        Make a call with a stream of messages in each direction; see :meth:`Channel.converse`.

        :raises CallFailed: the scheduler is not known any more.
        """
        channel = self._channels.get(address)
        if channel is None:
            raise CallFailed(_REMOVED)
        return channel.converse(path(method), hear)

    def stop(self) -> Deferred[None]:
        """End all calls. Fires when nothing is left."""
        for address in list(self._rechecks):
            self._cancel_recheck(address)
        self._ring = HashRing(())
        channels, self._channels = self._channels, {}
        checks = list(self._checking.values())
        for asking in list(self._asking):
            asking.cancel()  # it may wait for a disk that does not answer, to announce this host
        return Deferred.fromCoroutine(_all([*(channel.close() for channel in channels.values()), *checks]))

    # -- which of them serve

    def check_one(self, address: str) -> Deferred[None]:
        """
        Ask one scheduler whether it serves; a question that is under way is not asked twice.

        :returns: fires when it has answered, or failed to.
        """
        asked: Deferred[None] = Deferred()
        if address in self._checking:
            self._checking[address].addBoth(lambda _: asked.callback(None))
            return asked
        self._checking[address] = asked
        self._cancel_recheck(address)

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self.log.failure("scheduler {address} cannot be asked", failure, address=address)

        def end(result: object) -> None:
            self._asking.discard(asking)
            del self._checking[address]
            asked.callback(None)

        asking = Deferred.fromCoroutine(self._ask(address))
        self._asking.add(asking)
        asking.addErrback(failed).addBoth(end)
        return asked

    async def _ask(self, address: str) -> None:
        channel = self._channels.get(address)
        if channel is None:
            return
        reason = ""
        try:
            request = health_pb2.HealthCheckRequest().SerializeToString()
            reply = health_pb2.HealthCheckResponse.FromString(await channel.call(_HEALTH, request, CONNECT_TIMEOUT))
            if reply.status != health_pb2.HealthCheckResponse.SERVING:
                reason = f"it answers {health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)}"
        except CallFailed as failed:
            reason = f"{failed.status.code.name}: {failed.status.text}"
            if failed.status.code is grpc.StatusCode.UNIMPLEMENTED:
                reason = ""  # it answers, after all
        if self._channels.get(address) is not channel:
            return  # it has been removed meanwhile
        if not reason and address not in self.serving and not await self._welcome(address):
            reason = "it refuses this host"
        if self._channels.get(address) is not channel:
            return
        if reason:
            if address not in self._pauses:
                self.log.warn("scheduler {address} does not serve: {reason}", address=address, reason=reason)
            self._ring = HashRing(self.serving - {address})
            self._recheck_later(address)
        else:
            if address not in self.serving:
                self.log.info("scheduler {address} serves", address=address)
                self._ring = HashRing(self.serving | {address})
            self._pauses.pop(address, None)

    def _recheck_later(self, address: str) -> None:
        if address in self._rechecks and self._rechecks[address].active():
            return
        pause = self._pauses.get(address, _FIRST_PAUSE)
        self._pauses[address] = min(2 * pause, _LONGEST_PAUSE)
        self._rechecks[address] = self._settings.reactor.callLater(pause, self.check_one, address)

    def _cancel_recheck(self, address: str) -> None:
        """Cancel a question for later. Its time may have passed while another question was under way."""
        recheck = self._rechecks.pop(address, None)
        if recheck is not None and recheck.active():
            recheck.cancel()

    def _remove(self, address: str) -> None:
        """Forget a scheduler."""
        self._ring = HashRing(self.serving - {address})
        self._cancel_recheck(address)
        self._pauses.pop(address, None)
        self._channels.pop(address).close()


class Host(Struct, frozen=True, kw_only=True):
    """
    The parts that the registrations and announcements of this host share.

    :param host_id: the ID by which schedulers know it.
    :param new_peer_id: makes an ID for one conversation.
    :param announce: announces the host to a scheduler that does not know it; fires with whether that was taken.
    :param announce_owner: announces a task that this host has all of, when a scheduler is there.
    :param settled: called with a request, a scheduler and a peer ID, once that scheduler knows that the host has all.
    :param gave_up: called likewise, once a download has failed.
    :param schedule_timeout: seconds in which a scheduler answers.
    :param max_schedule_count: how often one conversation takes parents.
    """

    host_id: str
    clock: IReactorTime
    schedulers: Schedulers
    new_peer_id: Callable[[], str]
    announce: Callable[[str], Awaitable[bool]]
    announce_owner: Callable[[TaskAnnouncement], object]
    settled: Callable[[TaskAnnouncement, str, str], None]
    gave_up: Callable[[TaskAnnouncement, str, str], None]
    schedule_timeout: float
    max_schedule_count: int


async def _all(deferreds: Iterable[Deferred[None]]) -> None:
    """Wait for all; what fails has been logged."""
    await failures_of(deferreds)
