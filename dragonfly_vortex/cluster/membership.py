"""
This peer as a member of a Dragonfly cluster. Importing this loads grpcio: a daemon does so only where schedulers are
configured (:func:`~dragonfly_vortex.cluster.is_configured`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import grpc
from dragonfly_api import scheduler_pb2
from google.protobuf.message import Message
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from dragonfly_vortex.address import split_address
from dragonfly_vortex.cluster.dynconfig import BlockLists, Dynconfig, in_order, read_dynconfig, resolve
from dragonfly_vortex.cluster.hosts import Hosts
from dragonfly_vortex.cluster.methods import METHODS
from dragonfly_vortex.cluster.owner import Announcer
from dragonfly_vortex.cluster.registration import Registration
from dragonfly_vortex.cluster.requests import CandidateParent, TaskAnnouncement
from dragonfly_vortex.cluster.schedulers import CONNECT_TIMEOUT, Host, Schedulers
from dragonfly_vortex.config import Config, scheduler_tls
from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.host_stats import HostMeter, NetworkMeter
from dragonfly_vortex.identity import new_peer_id
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.credentials import channel_credentials
from dragonfly_vortex.rpc.host import announcement, host_id
from dragonfly_vortex.rpc.peer_tasks import BlockSubject
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.threads import DaemonThreadPool, run_in_pool
from dragonfly_vortex.wire import PieceKind
from dragonfly_vortex.wire.messages import printable

__all__ = ["IMemberReactor", "Membership"]

_T = TypeVar("_T")

_PORTS: Final = range(1024, 65535)
"""The ports that schedulers accept (``common.proto``)."""

_IN_A_TURN: Final = 10
"""Downloads that are registered again in one turn of the reactor; each takes some tenths of a millisecond."""

_THREADS: Final = 4
"""Threads that measure this host, read files and resolve names."""

_FAREWELL: Final = 2.0
"""Seconds in which a scheduler hears that this host leaves."""


class IMemberReactor(IRPCReactor, IReactorThreads):
    """The interfaces of a reactor that a member uses."""


class Membership:
    """
    A member, from :meth:`start` to :meth:`stop`. What is registered and announced before the schedulers have answered
    is announced to them then.

    :param config: the peer's configuration; it names schedulers.
    :param reactor: where it runs.
    :param port: where this peer's gRPC server listens.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, config: Config, reactor: IMemberReactor, port: int) -> None:
        self._config = config
        self._reactor = reactor
        self._port = port
        self._refreshing: LoopingCall | None = None
        self._announcing: LoopingCall | None = None
        self._is_stopped = False
        self._pool: DaemonThreadPool | None = None
        self._is_checked = False  # whether schedulers have been asked once
        self._block_lists: BlockLists = {}
        self._early: list[Registration] = []
        self._registrations: set[Registration] = set()

    def start(self) -> Deferred[None]:
        """
        Ask the schedulers, announce this host to those that serve, and go on doing so. Blocks for as long as the files
        of the configuration take to be read.

        :returns: fires when all schedulers have answered, or failed to, once.
        :raises CertificateUnusable: a file for TLS cannot be used.
        :raises ConfigError: the file with the schedulers cannot be used.
        """
        config = self._config
        tls = scheduler_tls(config)
        if self._port not in _PORTS:
            text = "schedulers accept hosts with a port from {first} to {last}, and not {port}"
            self.log.error(text, first=_PORTS[0], last=_PORTS[-1], port=self._port)
        dynconfig = self._read_dynconfig()
        self._block_lists = self._lists_of(dynconfig)
        if dynconfig.unused:
            text = "keys of {file} that are not used here: {keys}"
            self.log.warn(text, file=config.dynconfig.file, keys=", ".join(dynconfig.unused))
        settings = GRPCSettings(
            reactor=self._reactor,
            credentials=channel_credentials(tls) if tls is not None else None,
            connect_timeout=CONNECT_TIMEOUT,
        )
        self._schedulers = Schedulers(settings, self._welcome)
        host = Host(
            host_id=host_id(config),
            clock=self._reactor,
            schedulers=self._schedulers,
            new_peer_id=partial(new_peer_id, config.host.ip, config.host.hostname, is_seed=config.seed_peer.enable),
            announce=self._announce,
            announce_owner=lambda request: self._announcer.add(request),
            settled=lambda request, address, peer_id: self._announcer.settled(request, address, peer_id),
            gave_up=lambda request, address, peer_id: self._announcer.gave_up(request, address, peer_id),
            schedule_timeout=config.scheduler.schedule_timeout,
            max_schedule_count=config.scheduler.max_schedule_count,
        )
        self._host = host
        self._announcer = Announcer(host)
        self._hosts = Hosts(self._schedulers, self._reactor, self._in_thread)
        network = NetworkMeter(config.host.ip, config.download.bandwidth_limit, config.upload.bandwidth_limit)
        self._meter = HostMeter(config.storage.dir, network)
        self._pool = DaemonThreadPool(minthreads=0, maxthreads=_THREADS, name="membership")
        self._pool.start()
        started = Deferred.fromCoroutine(self._refresh(dynconfig))
        self._refreshing = LoopingCall(lambda: self._once(self._refresh()))
        self._announcing = LoopingCall(lambda: self._once(self._announce_again()))
        for looping, interval in (
            (self._refreshing, config.dynconfig.refresh_interval),
            (self._announcing, config.scheduler.announce_interval),
        ):
            looping.clock = self._reactor
            looping.start(interval, now=False)
        return started.addBoth(self._begin)

    def stop(self) -> Deferred[None]:
        """Announce to schedulers that this host leaves, for at most two seconds, and end all calls."""
        return Deferred.fromCoroutine(self._stop())

    def register(
        self,
        request: TaskAnnouncement,
        on_parents: Callable[[tuple[CandidateParent, ...]], None],
        on_back_to_source: Callable[[str], None],
    ) -> Registration:
        """
        Register a download; see :class:`Registration`. Neither callback is called before this returns.

        :param request: the task, of a kind that schedulers know.
        :returns: what the download reports its progress to. One of its methods ``finish`` and ``fail`` must be called.
        """
        registration = Registration(self._host, request, on_parents, on_back_to_source, self._over)
        self._registrations.add(registration)
        self._announcer.hold(request)
        if self._is_checked:
            self._reactor.callLater(0, registration.begin)
        else:
            self._early.append(registration)
        return registration

    def announce_stored(self, task: StoredTask, replica_count: int = 1) -> Deferred[bool]:
        """
        Announce a task that the storage has all of. One that is announced already, or was registered and finished, is
        announced once.

        :param replica_count: how many peers are to keep it, of a persistent kind.
        :returns: fires with whether a scheduler knows the task, when one has answered. One that has refused it may take
            it later. The Deferred may be cancelled, and the task is announced anyway.
        """
        return self._announcer.add(TaskAnnouncement.of_stored(task, replica_count))

    def hold_stored(self, task: StoredTask) -> Callable[[], None]:
        """Delay the announcement of a task. Returns what ends that; to be called once."""
        self._announcer.hold(held := TaskAnnouncement.of_stored(task))
        return partial(self._announcer.release, held)

    def forget_stored(self, kind: PieceKind, task_id: str) -> None:
        """Have schedulers offer this peer no more for a task, which has left the storage."""
        self._announcer.remove(kind, task_id)

    def stat(self, kind: PieceKind, task_id: str) -> Deferred[Message]:
        """
        Ask the scheduler of a task for its state there.

        :param kind: one that schedulers know.
        :returns: fires with a ``Task``, ``PersistentTask`` or ``PersistentCacheTask``; fails with :class:`CallFailed`:
            with ``UNAVAILABLE`` where no scheduler serves.
        """
        if not (addresses := self._schedulers.in_order(task_id)):
            return fail(CallFailed(Status(grpc.StatusCode.UNAVAILABLE, "no scheduler can be reached")))
        methods = METHODS[kind]
        request = methods.stat_request(**{"host_id": self._host.host_id, "task_id": task_id})
        return self._schedulers.call(addresses[0], methods.stat, request).addCallback(methods.stat_reply.FromString)

    def find_host(self, task_id: str, host_id: str) -> Deferred[tuple[str, int] | None]:
        """
        Find a host's gRPC door. All hosts are asked for together, at most every two seconds.

        :param task_id: a task that the host downloads, whose scheduler is asked.
        :param host_id: the host's ID.
        :returns: fires with its IP address and its port, as the scheduler has them; with None for an unknown host.
            Fails with :class:`CallFailed`, and with :class:`~google.protobuf.message.DecodeError`.
        """
        return self._hosts.find(task_id, host_id)

    def delete_host(self) -> Deferred[None]:
        """
        Have all schedulers forget this host, until it is announced again.

        :returns: fires when each has answered, or failed to.
        """
        return Deferred.fromCoroutine(self._delete_host())

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port by which schedulers know this host."""
        return self._config.host.ip, self._port

    @property
    def serving(self) -> frozenset[str]:
        """The addresses of the schedulers that serve."""
        return self._schedulers.serving

    @property
    def announced(self) -> int:
        """The number of tasks that schedulers know this host has."""
        return self._announcer.announced

    # -- the schedulers

    def _over(self, registration: Registration) -> None:
        """Forget a download that has nothing more to report."""
        if registration in self._registrations:
            self._registrations.discard(registration)
            self._announcer.release(registration.request)

    def blocks(self, kind: PieceKind, subject: BlockSubject, *, is_import: bool) -> bool:
        """Whether the operator of the cluster has a download, or an import, of a kind of task blocked."""
        block_list = self._block_lists.get((kind, is_import))
        return block_list is not None and block_list.blocks(subject)

    async def _refresh(self, dynconfig: Dynconfig | None = None) -> None:
        """Find out which schedulers there are, and which serve."""
        try:
            if dynconfig is None:
                dynconfig = await self._in_thread(self._read_dynconfig)
            self._block_lists = self._lists_of(dynconfig)
            addresses = dynconfig.addresses
            if dynconfig.name and not self._is_stopped:
                addresses = await self._in_thread(partial(resolve, dynconfig.name))
            if self._is_stopped:
                return
            self._schedulers.set_known(in_order((*self._config.scheduler.addrs, *addresses)))
        except (ConfigError, OSError) as error:
            self.log.error("the schedulers' addresses cannot be found: {error}", error=error)
        await self._schedulers.check()
        for address in self._schedulers.serving:
            if not await self._announcer.verify(address):
                await self._announce(address)
        self._announcer.look()

    def _once(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Run one turn of a loop. A failure, such as that of a thread to start, is logged and does not end the loop."""
        turn = Deferred.fromCoroutine(work)
        return turn.addErrback(lambda failure: self.log.failure("schedulers cannot be asked now", failure))

    def _lists_of(self, dynconfig: Dynconfig) -> BlockLists:
        """The block lists for a peer of this type."""
        return dynconfig.seed if self._config.seed_peer.enable else dynconfig.client

    def _read_dynconfig(self) -> Dynconfig:
        file = self._config.dynconfig.file
        return read_dynconfig(file) if file is not None else Dynconfig()

    def _begin(self, result: object) -> object:
        """The schedulers have been asked once: what waited for that goes on."""
        self._is_checked = True
        early, self._early = self._early, []
        for registration in early:
            registration.begin()
        return result

    def _in_thread(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Not in the reactor's pool: at its end the reactor would wait for a disk or a name server."""
        if self._pool is None:
            return fail(OSError("expected a running member, got one that is stopped"))
        result: Deferred[_T] = run_in_pool(self._reactor, self._pool, work)
        return result

    # -- this host

    async def _welcome(self, address: str) -> bool:
        """A scheduler begins to serve: announce this host and its tasks to it."""
        if ipaddress.ip_address(self._config.host.ip).is_loopback and not _is_loopback(address):
            self.log.warn(
                "scheduler {address} gets {ip} as this peer's address, unreachable for other machines: set host.ip",
                address=address,
                ip=self._config.host.ip,
            )
        if not await self._announce(address):
            return False
        await self._announcer.verify(address)
        self._reactor.callLater(0, self._look)
        return True

    def _look(self) -> None:
        """Announce and register again what a change of the schedulers concerns."""
        self._announcer.look()
        Deferred.fromCoroutine(self._look_at_registrations()).addErrback(
            lambda failure: self.log.failure("downloads cannot be registered again", failure)
        )

    async def _look_at_registrations(self) -> None:
        """Register downloads that wait for a scheduler, a few in one turn of the reactor."""
        for number, registration in enumerate(tuple(self._registrations)):
            registration.look()
            if number % _IN_A_TURN == _IN_A_TURN - 1:
                await deferLater(self._reactor, 0)

    async def _announce(self, address: str) -> bool:
        """Announce this host to a scheduler; whether it took that."""
        if self._is_stopped:
            return False
        try:
            stats = await self._in_thread(self._meter.read)
            if self._is_stopped:
                return False  # this host has said that it leaves
            await self._schedulers.call(address, "AnnounceHost", announcement(self._config, self._port, stats))
        except (CallFailed, OSError, KeyError) as error:
            text = error.status.text if isinstance(error, CallFailed) else str(error)
            self.log.error(
                "this host cannot be announced to scheduler {address}: {text}", address=address, text=printable(text)
            )
            return False
        return True

    async def _announce_again(self) -> None:
        """Announce this host to all schedulers that serve."""
        for address in self._schedulers.serving:
            if not await self._announce(address) and not self._is_stopped:
                self._schedulers.suspect(address)

    async def _stop(self) -> None:
        self._is_stopped = True
        for looping in (self._refreshing, self._announcing):
            if looping is not None and looping.running:
                looping.stop()
        self._announcer.stop()
        for registration in list(self._registrations):
            registration.abandon()
        try:
            await self._delete_host()
            await self._schedulers.stop()
        finally:
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.abandon()

    async def _delete_host(self) -> None:
        request = scheduler_pb2.DeleteHostRequest(host_id=self._host.host_id)
        leaving = [
            self._schedulers.call(address, "DeleteHost", request, _FAREWELL) for address in self._schedulers.serving
        ]
        for failure in await failures_of(leaving):
            self.log.info("a scheduler has not forgotten this host: {text}", text=failure.getErrorMessage())


def _is_loopback(address: str) -> bool:
    """Whether an ``IP:PORT`` is on this machine."""
    return ipaddress.ip_address(split_address(address)[0]).is_loopback
