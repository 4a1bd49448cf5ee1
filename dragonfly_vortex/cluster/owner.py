"""
Announces the tasks that this host has all of: each to the scheduler that it belongs to, again when that scheduler has
forgotten it, and to another one when that has taken its place.

The tasks and what the schedulers know of them are compared, and what differs is announced, a few tasks at a time; what
fails is tried again.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import Any, ClassVar, Final, NamedTuple

import grpc
from dragonfly_api import scheduler_pb2
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as TwistedTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dragonfly_vortex.cluster.conversation import Conversation
from dragonfly_vortex.cluster.methods import METHODS, AnnounceMethods
from dragonfly_vortex.cluster.requests import TaskAnnouncement
from dragonfly_vortex.cluster.schedulers import REQUEST_TIMEOUT, Host
from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.wire import PieceKind
from dragonfly_vortex.wire.messages import printable

__all__ = ["Announcer"]

_AT_ONCE: Final = 16
"""Tasks that are announced at once."""

_AGE: Final = 12 * 3600.0
"""Seconds after which a task is announced again: a scheduler forgets a peer that it has not heard of for a day."""

_RETRY, _LONGEST_RETRY = 30.0, 3600.0
"""Seconds before a task is announced again that a scheduler has refused: at first, and at most."""

_TTL: Final = 7 * 24 * 3600
"""Seconds that a scheduler keeps a task of a persistent kind where no time was given: the longest that it takes."""

_Key = tuple[PieceKind, str]


class _Announced(NamedTuple):
    """
    What a scheduler knows.

    :param address: of the scheduler; empty where it has refused.
    :param at: when that was, by the clock.
    :param refusals: how often it has refused since it last did not.
    """

    address: str
    peer_id: str
    at: float
    refusals: int = 0


class Announcer:
    """
    The tasks that this host has all of.

    :param host: this host.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tasks: dict[_Key, TaskAnnouncement] = {}
        self._announced: dict[_Key, _Announced] = {}
        self._running: dict[_Key, Deferred[None]] = {}
        self._waiting: defaultdict[_Key, list[Deferred[bool]]] = defaultdict(list)
        self._held: Counter[_Key] = Counter()  # tasks whose download a scheduler knows
        self._queue: deque[_Key] = deque()  # tasks that may have to be announced
        self._filling: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._is_stopped = False

    @property
    def announced(self) -> int:
        """The number of tasks that schedulers know this host has."""
        return sum(1 for each in self._announced.values() if each.address)

    def add(self, request: TaskAnnouncement) -> Deferred[bool]:
        """
        Announce a task. Kinds that schedulers do not know, and tasks whose length is not known, are left out.

        :returns: fires with whether a scheduler knows it, when one has answered. It may be cancelled.
        """
        if request.kind not in METHODS or request.piece_count is None or self._is_stopped:
            return succeed(False)
        key = (request.kind, request.task_id)
        self._tasks[key] = request
        known = self._announced.get(key)
        if known is not None and known.address:
            return succeed(True)
        answered: Deferred[bool] = Deferred(lambda cancelled: self._waiting[key].remove(cancelled))
        self._waiting[key].append(answered)
        self._put(key)
        return answered

    def hold(self, request: TaskAnnouncement) -> None:
        """Delay the announcement of a task until its download has ended, which reports it to a scheduler."""
        self._held[request.kind, request.task_id] += 1

    def release(self, request: TaskAnnouncement) -> None:
        """End what :meth:`hold` began."""
        key = (request.kind, request.task_id)
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]
            self._put(key)

    def settled(self, request: TaskAnnouncement, address: str, peer_id: str) -> None:
        """
        Record that a scheduler got the report of a complete task at the end of its download.

        :param peer_id: the ID under which it was downloaded.
        """
        if request.kind in METHODS and request.piece_count is not None and not self._is_stopped:
            key = (request.kind, request.task_id)
            self._tasks[key] = request
            self._announced[key] = _Announced(address, peer_id, self._host.clock.seconds())
            self._answer(key, is_known=True)

    def gave_up(self, request: TaskAnnouncement, address: str, peer_id: str) -> None:
        """
        Record that a download has failed, and that its scheduler knows it. Of a persistent kind such a peer would stay
        in the scheduler's database, and count as a replica.
        """
        if METHODS[request.kind].upload and not self._is_stopped:
            self._withdraw_soon(request.kind, request.task_id, _Announced(address, peer_id, 0.0))

    def remove(self, kind: PieceKind, task_id: str) -> None:
        """Announce a task no more, and have its scheduler offer this host no more for it."""
        self._tasks.pop((kind, task_id), None)
        self._answer((kind, task_id), is_known=False)
        known = self._announced.pop((kind, task_id), None)
        if known is not None and known.address in self._host.schedulers.serving:
            self._withdraw_soon(kind, task_id, known)

    async def verify(self, address: str) -> bool:
        """
        Check whether a scheduler still knows what was announced to it, or has been restarted.

        :returns: False where it has forgotten all; the tasks are announced again.
        """
        known = [(key, each) for key, each in self._announced.items() if each.address == address]
        standard = [(key, each) for key, each in known if key[0] is PieceKind.STANDARD]  # the others survive a restart
        if not standard:
            return True
        (_, task_id), newest = max(standard, key=lambda pair: pair[1].at)
        asked = scheduler_pb2.StatPeerRequest(host_id=self._host.host_id, task_id=task_id, peer_id=newest.peer_id)
        try:
            await self._host.schedulers.call(address, "StatPeer", asked)
        except CallFailed as failed:
            if failed.status.code is not grpc.StatusCode.NOT_FOUND:
                return True
        else:
            return True
        self.log.info(
            "scheduler {address} has been restarted: {count} tasks are announced again",
            address=address,
            count=len(known),
        )
        for key, _ in known:
            self._announced.pop(key, None)
        return False

    def look(self) -> None:
        """Compare all tasks with what schedulers know, and announce what differs."""
        if self._is_stopped:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._host.clock.callLater(_RETRY, self.look)
        self._queue = deque(key for key in self._tasks if self._due(key))
        self._fill()

    def stop(self) -> None:
        """Announce nothing more."""
        self._is_stopped = True
        for timer in (self._timer, self._filling):
            if timer is not None and timer.active():
                timer.cancel()
        for running in list(self._running.values()):
            running.cancel()
        for key in list(self._waiting):
            self._answer(key, is_known=False)

    def _answer(self, key: _Key, *, is_known: bool) -> None:
        """Fire what waits for a task to be announced."""
        for each in self._waiting.pop(key, []):
            each.callback(is_known)

    def _put(self, key: _Key) -> None:
        """Queue a task that may have to be announced."""
        self._queue.append(key)
        self._fill_soon()

    def _fill_soon(self) -> None:
        """Announce the next tasks, outside of the caller's turn."""
        if self._filling is None and self._queue and not self._is_stopped:
            self._filling = self._host.clock.callLater(0, self._fill)

    def _fill(self) -> None:
        """Announce the next tasks, as many as may be announced at once."""
        filling, self._filling = self._filling, None
        if filling is not None and filling.active():
            filling.cancel()
        while self._queue and len(self._running) < _AT_ONCE:
            key = self._queue.popleft()
            request = self._tasks.get(key)
            if request is not None and key not in self._running and (address := self._due(key)):
                self._begin(key, request, address)

    def _due(self, key: _Key) -> str:
        """The scheduler that a task is to be announced to now; empty for none."""
        if key in self._held:
            return ""
        wanted = self._host.schedulers.first(key[1])
        known = self._announced.get(key)
        if known is None or not wanted:
            return wanted
        age = self._host.clock.seconds() - known.at
        if not known.address:
            return wanted if age >= min(_RETRY * 2 ** (known.refusals - 1), _LONGEST_RETRY) else ""
        return wanted if known.address != wanted or age >= _AGE else ""

    def _begin(self, key: _Key, request: TaskAnnouncement, address: str) -> None:
        def end(_: object) -> None:
            del self._running[key]
            self._fill_soon()

        self._running[key] = running = Deferred.fromCoroutine(self._announce(key, request, address))
        running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        running.addErrback(
            lambda failure: self.log.failure("task {task_id} cannot be announced", failure, task_id=request.task_id)
        )
        running.addBoth(end)

    async def _announce(self, key: _Key, request: TaskAnnouncement, address: str) -> None:
        """Announce one task to one scheduler, and note how that ended."""
        peer_id = self._host.new_peer_id()
        before, refusals = self._announced.get(key), 0
        try:
            if before is None or before.address != address:
                await self._clear(request, address)
            try:
                await self._tell(request, address, peer_id)
            except CallFailed as failed:
                if failed.status.code is not grpc.StatusCode.NOT_FOUND or not await self._host.announce(address):
                    raise
                peer_id = self._host.new_peer_id()
                await self._tell(request, address, peer_id)
        except CallFailed as failed:
            refusals = 1 + (before.refusals if before is not None else 0)
            (self.log.warn if refusals == 1 else self.log.info)(
                "scheduler {address} does not take task {task_id}: {code} {text}",
                address=address,
                task_id=request.task_id,
                code=failed.status.code.name,
                text=printable(failed.status.text),
            )
            if failed.status.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                self._host.schedulers.suspect(address)
            address = peer_id = ""
        if key in self._tasks:
            self._announced[key] = _Announced(address, peer_id, self._host.clock.seconds(), refusals)
        self._answer(key, is_known=bool(address))
        if address and before is not None and before.address:
            await self._withdraw(request.kind, request.task_id, before)

    async def _clear(self, request: TaskAnnouncement, address: str) -> None:
        """
        Have a scheduler forget the peers of this host for a task: those of an earlier process that was killed, beside
        which this one would be offered as one more parent.

        :raises CallFailed: the scheduler has failed.
        """
        methods = METHODS[request.kind]
        if methods.upload:
            return  # the scheduler would have this host delete the task
        asked = methods.delete_request(**{"host_id": self._host.host_id, "task_id": request.task_id})
        try:
            await self._host.schedulers.call(address, methods.delete, asked)
        except CallFailed as failed:
            if failed.status.code is not grpc.StatusCode.NOT_FOUND:
                raise

    async def _tell(self, request: TaskAnnouncement, address: str, peer_id: str) -> None:
        """
        Announce to a scheduler that this host has a task.

        :raises CallFailed: it did not take that.
        """
        methods = METHODS[request.kind]
        if methods.upload and await self._upload(methods, request, address, peer_id):
            return
        conversation = Conversation(request, host_id=self._host.host_id, peer_id=peer_id, is_owner=True)

        def hear(data: bytes) -> None:
            try:
                conversation.receive(data)
            except RemoteProtocolError as error:
                self.log.warn("scheduler {address}: {error}", address=address, error=error)
                call.ended.cancel()
            call.send(conversation.take())

        call = self._host.schedulers.converse(address, methods.announce, hear)
        call.send(conversation.take())
        call.ended.addTimeout(REQUEST_TIMEOUT, self._host.clock)
        try:
            await call.ended
        except TwistedTimeoutError:
            raise CallFailed(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "it does not answer")) from None
        if not conversation.ended():
            raise CallFailed(Status(grpc.StatusCode.INTERNAL, "it ended the call before the final message"))

    async def _upload(self, methods: AnnounceMethods, request: TaskAnnouncement, address: str, peer_id: str) -> bool:
        """
        Announce to a scheduler a task of a persistent kind that no other peer has.

        :returns: False where other peers have it: this one joins them by a conversation.
        :raises CallFailed: it did not take that.
        """
        ids = {"host_id": self._host.host_id, "task_id": request.task_id}
        replicas, ttl = request.replica_count, request.ttl or _TTL
        try:
            reply: Any = methods.stat_reply.FromString(
                await self._host.schedulers.call(address, methods.stat, methods.stat_request(**ids))
            )
        except CallFailed as failed:
            if failed.status.code is not grpc.StatusCode.NOT_FOUND:
                raise
        else:
            if reply.current_replica_count or reply.current_persistent_replica_count or reply.state == "Uploading":
                return False
            # All peers that had it have left, as this one does when it stops. Such a task cannot be uploaded again, nor
            # registered for; it is made anew.
            replicas, ttl = reply.persistent_replica_count, reply.ttl.ToMilliseconds() / 1000 or ttl
            await self._host.schedulers.call(address, methods.delete, methods.delete_request(**ids))
        started = methods.upload_started(request, {**ids, "peer_id": peer_id}, replicas, ttl)
        await self._host.schedulers.call(address, f"{methods.upload}Started", started)
        finished = methods.upload_finished(**ids, **{"peer_id": peer_id})
        await self._host.schedulers.call(address, f"{methods.upload}Finished", finished)
        return True

    def _withdraw_soon(self, kind: PieceKind, task_id: str, known: _Announced) -> None:
        Deferred.fromCoroutine(self._withdraw(kind, task_id, known)).addErrback(
            lambda failure: self.log.failure("task {task_id} cannot be withdrawn", failure, task_id=task_id)
        )

    async def _withdraw(self, kind: PieceKind, task_id: str, known: _Announced) -> None:
        """Have a scheduler forget a peer of this host."""
        if known.address not in self._host.schedulers.serving:
            return
        methods = METHODS[kind]
        ids = {"host_id": self._host.host_id, "task_id": task_id, "peer_id": known.peer_id}
        try:
            await self._host.schedulers.call(known.address, methods.delete_peer, methods.delete_peer_request(**ids))
        except CallFailed as failed:
            if failed.status.code is not grpc.StatusCode.NOT_FOUND:
                self.log.info(
                    "scheduler {address} does not forget task {task_id}: {text}",
                    address=known.address,
                    task_id=task_id,
                    text=printable(failed.status.text),
                )
