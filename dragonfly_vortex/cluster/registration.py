"""
A download that is registered with a scheduler, from its beginning to its end, even if the scheduler fails.

A scheduler that dies, hangs or has forgotten this host does not end a download. It goes on with the parents that it
has, while another scheduler is asked, and the same one again when it has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import grpc
from google.protobuf.message import DecodeError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.cluster.conversation import Conversation, EmptyTask, GoToSource, Parents
from dragonfly_vortex.cluster.methods import METHODS
from dragonfly_vortex.cluster.requests import CandidateParent, FinishedPiece, TaskAnnouncement
from dragonfly_vortex.cluster.schedulers import REQUEST_TIMEOUT, Host
from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.rpc.channel import TwoWayCall
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.wire.messages import printable

__all__ = ["Registration"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before all schedulers are tried again: at first, and at most."""

_DOUBT: Final = 2.0
"""Seconds without an answer after which a scheduler is asked whether it still serves."""

_REFUSALS: Final = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""The statuses by which a scheduler that works refuses a download. Another scheduler would refuse it, too."""


class Registration:
    """
    A registered download. All methods may be called at any time; what cannot be sent any more is dropped.

    :param host: this host.
    :param request: the task.
    :param on_parents: called with the parents that a scheduler offers, each time; they replace those before.
    :param on_back_to_source: called with a reason when no scheduler has parents, or none can be reached: what no peer
        has is to be had at the source, if that is allowed. Parents may be offered later nevertheless. It can be called
        again with the same reason.
    :param on_over: called with this object when it has nothing more to tell.
    """

    log: ClassVar[Logger] = Logger()

    __slots__ = (
        "_address",
        "_call",
        "_conversation",
        "_host",
        "_is_over",
        "_on_back_to_source",
        "_on_over",
        "_on_parents",
        "_parents",
        "_pause",
        "_request",
        "_timer",
        "_tried",
    )

    def __init__(
        self,
        host: Host,
        request: TaskAnnouncement,
        on_parents: Callable[[tuple[CandidateParent, ...]], None],
        on_back_to_source: Callable[[str], None],
        on_over: Callable[[Registration], object],
    ) -> None:
        self._host = host
        self._request = request
        self._on_parents = on_parents
        self._on_back_to_source = on_back_to_source
        self._on_over = on_over
        self._conversation: Conversation | None = None
        self._call: TwoWayCall | None = None
        self._address = ""  # of the scheduler
        self._parents: dict[tuple[str, int], str] = {}  # the IDs of all parents that were offered, by their addresses
        self._tried: tuple[str, ...] = ()  # the schedulers that have failed in this round
        self._pause = _FIRST_PAUSE
        self._timer: IDelayedCall | None = None
        self._is_over = False

    def begin(self) -> None:
        """Ask the first scheduler, unless the download has ended already."""
        if not self._is_over:
            self._next()

    def look(self) -> None:
        """Called when a scheduler begins to serve: ask it now, if this waits for one."""
        if self._timer is not None and self._call is None and not self._is_over:
            self._stop_timer()
            self._pause = _FIRST_PAUSE
            self._next()

    @property
    def request(self) -> TaskAnnouncement:
        """The task."""
        return self._request

    def peer_id_at(self, ip: str, port: int) -> str:
        """The ID of the parent at an address, by which a scheduler knows it; empty where none was offered there."""
        return self._parents.get((ip, port), "")

    # -- what the download reports

    def report_piece(self, piece: FinishedPiece) -> None:
        """Report a downloaded piece."""
        if self._conversation is not None:
            self._conversation.finished_piece(piece)
            self._send()

    def report_failure(self, parent_id: str) -> None:
        """
        Report that a parent does not give what it is asked for. It is not offered to this download again.

        :param parent_id: the parent's ID; without one there is nothing to tell.
        """
        if self._conversation is not None and parent_id:
            self._conversation.failed_parent(parent_id)
            self._send()

    def reschedule(self, reason: str) -> None:
        """
        Ask for other parents: those of the last offer do not do. The answer comes by one of the callbacks.

        :param reason: in words.
        """
        if self._conversation is not None and self._conversation.reschedule(reason):
            self._send()
            self._expect_answer()

    def finish(self) -> None:
        """Report that this host has all of the task, now or when a scheduler serves. No callback is called any more."""
        if not self._leave():
            self._settle_later()
        elif self._conversation is not None:
            self._conversation.finish()
            self._end_soon()

    def fail(self, reason: str) -> None:
        """
        Report that the download has ended without all of the task. No callback is called any more.

        :param reason: in words.
        """
        if self._leave() and self._conversation is not None:
            self._conversation.fail(reason)
            self._end_soon()

    def abandon(self) -> None:
        """Send nothing more, because this host leaves."""
        if self._leave() and self._call is not None:
            self._is_over = True
            self._call.ended.cancel()

    def _leave(self) -> bool:
        """
        The download has ended.

        :returns: whether there is a conversation in which that can be said.
        """
        self._on_parents = _ignore
        self._on_back_to_source = _ignore
        is_talking = self._call is not None and not self._is_over
        if not is_talking:
            self._is_over = True
            self._stop_timer()
            self._on_over(self)
        return is_talking

    # -- one scheduler after another

    def _next(self) -> None:
        """Ask the next scheduler that serves, or wait for one."""
        self._timer = None
        addresses = [each for each in self._host.schedulers.in_order(self._request.task_id) if each not in self._tried]
        if addresses:
            self._address = addresses[0]
            Deferred.fromCoroutine(self._register()).addErrback(self._broken)
            return
        self._tried = ()
        self._timer = self._host.clock.callLater(self._pause, self._next)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._on_back_to_source("no scheduler can be reached")

    def _give_way(self, address: str) -> None:
        """Try the next scheduler, because this one has failed."""
        self._host.schedulers.suspect(address)
        self._tried = (*self._tried, address)
        if not self._is_over:
            self._next()

    async def _register(self) -> None:
        """Begin a conversation with the scheduler, unless it would take the task for an empty one."""
        address = self._address
        if self._request.piece_count is None:
            known = await self._is_known(address)
            if known is None:
                self._give_way(address)
                return
            if not known:
                self._wait_for_an_owner(address)
                return
        if self._is_over:
            return
        conversation = Conversation(
            self._request,
            host_id=self._host.host_id,
            peer_id=self._host.new_peer_id(),
            most_answers=self._host.max_schedule_count,
        )
        methods = METHODS[self._request.kind]
        try:
            call = self._host.schedulers.converse(address, methods.announce, self._hear)
        except CallFailed:
            self._give_way(address)
            return
        self._conversation, self._call = conversation, call
        call.ended.addCallbacks(
            lambda _: self._ended(address, Status(grpc.StatusCode.OK, "")),
            lambda failure: self._failed(address, failure),
        ).addErrback(self._broken)
        self._send()
        self._expect_answer()

    async def _is_known(self, address: str) -> bool | None:
        """Whether a scheduler knows the task; None where it does not say it."""
        methods = METHODS[self._request.kind]
        asked = methods.stat_request(**{"host_id": self._host.host_id, "task_id": self._request.task_id})
        try:
            await self._host.schedulers.call(address, methods.stat, asked)
        except CallFailed as failed:
            return False if failed.status.code is grpc.StatusCode.NOT_FOUND else None
        except DecodeError:
            return None
        return True

    def _wait_for_an_owner(self, address: str) -> None:
        """Register again after a pause: no peer has announced the task's length to the scheduler, nor can this one."""
        if self._is_over:
            return
        self._timer = self._host.clock.callLater(self._pause, self._next)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._on_back_to_source(f"scheduler {address} does not know the task")

    # -- one conversation

    def _hear(self, data: bytes) -> None:
        """Handle a message of the scheduler."""
        conversation, call = self._conversation, self._call
        if conversation is None or call is None:
            return
        self._tried, self._pause = (), _FIRST_PAUSE
        try:
            event = conversation.receive(data)
        except RemoteProtocolError as error:
            self.log.warn("scheduler {address}: {error}", address=self._address, error=error)
            call.ended.cancel()
            return
        self._send()
        if not self._is_over:
            self._stop_timer()
        match event:
            case Parents(parents):
                self._parents.update({(each.ip, each.port): each.peer_id for each in parents})
                self._on_parents(parents)
            case GoToSource(reason):
                self._on_back_to_source(printable(reason))
            case EmptyTask():
                self._on_back_to_source("the scheduler takes the task for an empty one")

    def _send(self) -> None:
        if self._conversation is not None and self._call is not None:
            self._call.send(self._conversation.take())

    def _expect_answer(self) -> None:
        """Start the timer for an answer. A scheduler that neither answers nor says that it serves has failed."""
        self._stop_timer()
        timeout = min(self._host.schedule_timeout, REQUEST_TIMEOUT)
        doubt = min(_DOUBT, timeout)
        self._timer = self._host.clock.callLater(doubt, self._doubt, timeout - doubt)

    def _doubt(self, left: float) -> None:
        """Check whether a scheduler that has not answered still serves."""
        address, call = self._address, self._call
        self._timer = self._host.clock.callLater(left, self._give_up)

        def checked(_: None) -> None:
            is_waiting = self._call is call and self._timer is not None
            if is_waiting and address not in self._host.schedulers.serving:
                self._give_up()

        self._host.schedulers.check_one(address).addCallback(checked).addErrback(self._broken)

    def _give_up(self) -> None:
        """End the call, because the scheduler has not answered in time."""
        self._stop_timer()
        if self._call is not None:
            self._call.ended.cancel()

    def _end_soon(self) -> None:
        """Send the final message, and wait until the scheduler ends the call: then it has the message."""
        self._send()
        self._is_over = True
        self._expect_answer()

    def _failed(self, address: str, failure: Failure) -> None:
        failure.trap(CallFailed, CancelledError, RuntimeError)
        error = failure.value
        self._ended(
            address, error.status if isinstance(error, CallFailed) else Status(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        )

    def _ended(self, address: str, status: Status) -> None:
        """Handle the end of the call."""
        conversation, self._conversation, self._call = self._conversation, None, None
        self._stop_timer()
        if conversation is None:
            return
        is_complete = conversation.ended() and status.code is grpc.StatusCode.OK
        if self._is_over:
            self._on_over(self)
            if conversation.has_all and self._request.range is None:
                if is_complete:
                    self._host.settled(self._request, address, conversation.ids["peer_id"])
                else:
                    self._settle_later()
            elif not conversation.has_all:
                self._host.gave_up(self._request, address, conversation.ids["peer_id"])
            return
        self.log.info(
            "scheduler {address} has ended the conversation about task {task_id}: {code} {text}",
            address=address,
            task_id=self._request.task_id,
            code=status.code.name,
            text=printable(status.text),
        )
        if is_complete:
            return  # the scheduler has said that the schedule count is exceeded
        if status.code is grpc.StatusCode.NOT_FOUND and address not in self._tried:
            Deferred.fromCoroutine(self._introduce(address)).addErrback(self._broken)
        elif status.code in _REFUSALS:  # or it does not know the task, though it knows this host
            self._on_back_to_source(f"scheduler {address} refuses: {printable(status.text)}")
        else:
            self._give_way(address)

    async def _introduce(self, address: str) -> None:
        """Announce this host to a scheduler that has forgotten it, as after a restart, and register again, once."""
        if not await self._host.announce(address):
            self._give_way(address)
            return
        self._tried = (*self._tried, address)
        self._address = address
        if not self._is_over:
            await self._register()

    def _settle_later(self) -> None:
        """Announce the task as that of an owner, because the scheduler does not know that this host has all of it."""
        if self._request.range is None:
            self._host.announce_owner(self._request)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _broken(self, failure: Failure) -> None:
        """Log a fault of this package. The download goes on without a scheduler."""
        self.log.failure("task {task_id} is no longer registered", failure, task_id=self._request.task_id)
        self._on_back_to_source("the registration has failed")


def _ignore(_: object) -> None:
    """Do nothing: no listener is left."""
