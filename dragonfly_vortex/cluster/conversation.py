"""
What a peer and a scheduler say to each other about one task, without I/O: the scheduler's messages go in, and the
peer's messages and what it is to do come out.

As a child a peer registers, is given parents or is sent to the source, reports the pieces that it gets, asks for other
parents, and says in the end that it has all or has failed. As an owner it registers a task that it has: it finishes
before it is answered. After that the scheduler ends the call, and a peer that cancels it earlier may lose its last
words.

::

    REGISTERING ── parents ──► RUNNING ── finished, failed ──► ENDING ── the call has ended ──► ENDED
         │   └─── source ───► AT_SOURCE ────────┘                ▲
         └─────── metadata only, empty ──────────────────────────┘
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from dragonfly_api import common_pb2
from google.protobuf.message import DecodeError, Message

from dragonfly_vortex.cluster.methods import METHODS, digest_for_scheduler
from dragonfly_vortex.cluster.requests import CandidateParent, FinishedPiece, TaskAnnouncement
from dragonfly_vortex.errors import RemoteProtocolError

__all__ = ["Conversation", "EmptyTask", "Event", "GoToSource", "Parents", "State"]

_SLOWER = 10
"""How many times the mean of the costs before a reported cost may be. A scheduler never again offers a peer whose last
piece cost over 20 times the mean, until the peer reports another piece; 20 with a margin."""

_LEAST_COST = 0.001
"""Seconds that a piece costs at least: to a scheduler any cost is more than 20 times nothing."""


class State(enum.Enum):
    """The states of a conversation."""

    REGISTERING = enum.auto()
    RUNNING = enum.auto()
    AT_SOURCE = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


_MOST_OFFERED = 64
"""Parents of one offer that are taken, in one turn of the reactor. A scheduler offers some twenty at the most."""


class Parents(NamedTuple):
    """The scheduler offers these parents, in place of those before."""

    parents: tuple[CandidateParent, ...]


class GoToSource(NamedTuple):
    """The scheduler has no parents, and refers to the source. Its reason is text."""

    reason: str


class EmptyTask(NamedTuple):
    """The scheduler regards the task as empty."""


Event: TypeAlias = Parents | GoToSource | EmptyTask


class Conversation:
    """
    The conversation of a peer and a scheduler about one task. After each call, :meth:`take` returns the messages to
    send.

    :param request: the task.
    :param host_id: the host's ID, as it was announced.
    :param peer_id: an ID that was never used before: a scheduler refuses a peer that registers again.
    :param is_owner: this peer has all of the task.
    :param most_answers: how often parents are taken before the peer gives up.
    :ivar ids: the three IDs, by the names of their fields.
    :ivar state: the state of the conversation.
    :ivar has_all: whether the peer has all of the task, and has said so or will.
    """

    __slots__ = (
        "_answers",
        "_costs",
        "_is_owner",
        "_last_words",
        "_methods",
        "_most_answers",
        "_offer",
        "_outgoing",
        "has_all",
        "ids",
        "state",
    )

    def __init__(
        self, request: TaskAnnouncement, *, host_id: str, peer_id: str, is_owner: bool = False, most_answers: int = 5
    ) -> None:
        self.state = State.REGISTERING
        self.ids = {"host_id": host_id, "task_id": request.task_id, "peer_id": peer_id}
        self._methods = METHODS[request.kind]
        self._is_owner = is_owner
        self._most_answers = most_answers
        self._answers = 0
        self._offer = b""  # the parents as they came, in the form that a request for others has, too
        self._outgoing: list[bytes] = []
        self._costs = (0, 0.0)  # how many there are, and their sum
        self._last_words: str | None = None  # of a peer that has ended before it was answered; empty: it has all
        self.has_all = is_owner
        register = self._request()
        self._methods.register(getattr(register, f"register_{self._methods.word}peer_request"), request)
        if is_owner and not self._methods.word:
            register.register_peer_request.download.metadata_only = True
            register.register_peer_request.download.need_back_to_source = False
        self._send(register)
        if is_owner:
            self._last_words = ""

    def take(self) -> list[bytes]:
        """Return the messages to send, in order, each once."""
        taken, self._outgoing = self._outgoing, []
        return taken

    # -- what the scheduler says

    def receive(self, data: bytes) -> Event | None:
        """
        Take a message of the scheduler.

        :returns: what the peer is to do; None where there is nothing.
        :raises RemoteProtocolError: it is none that belongs here. The call is to be ended.
        """
        if self.state in (State.ENDING, State.ENDED):
            return None  # it crossed with the final message
        try:
            response: Any = self._methods.response.FromString(data)
        except DecodeError as error:
            raise RemoteProtocolError(f"expected a scheduler's response, got {len(data)} bytes: {error}") from error
        which = response.WhichOneof("response")
        word = self._methods.word
        if self._last_words is None:
            self._answers += 1
            if self._answers > self._most_answers:
                self.fail(f"expected at most {self._most_answers} answers, got another one")
                return GoToSource(f"the scheduler has answered {self._most_answers} times")
        if which == f"normal_{word}task_response":
            return self._offered(getattr(response, which))
        if which == "need_back_to_source_response":
            self._say("download_{}peer_back_to_source_started_request")
            self.state = State.AT_SOURCE
            reason = response.need_back_to_source_response.description or "the scheduler has no parent"
            return self._unless_over(GoToSource(reason))
        if which == f"empty_{word}task_response":
            self._say("download_{}peer_started_request")
            self.state = State.RUNNING
            return self._unless_over(EmptyTask())
        if which == "metadata_only_response" and self._is_owner:
            self._say("download_{}peer_started_request")
            self.state = State.RUNNING
            return self._unless_over(None)
        raise RemoteProtocolError(f"expected parents, the source or nothing, got {which or 'an unknown response'}")

    def ended(self) -> bool:
        """
        Take the end of the call.

        :returns: whether the scheduler has heard all that it was to hear.
        """
        is_complete = self.state is State.ENDING
        self.state = State.ENDED
        return is_complete

    # -- what the peer says

    def finished_piece(self, piece: FinishedPiece) -> None:
        """Report a piece that the peer has got. This is not needed before the scheduler has answered."""
        if self.state not in (State.RUNNING, State.AT_SOURCE):
            return
        if piece.is_from_source and not self._methods.has_source:
            return
        name = (
            "download_piece_back_to_source_finished_request"
            if piece.is_from_source
            else "download_piece_finished_request"
        )
        request = self._request()
        told = getattr(request, name).piece
        told.number, told.offset, told.length = piece.number, piece.offset, piece.length
        told.digest = digest_for_scheduler(piece.digest)
        told.traffic_type = common_pb2.BACK_TO_SOURCE if piece.is_from_source else common_pb2.REMOTE_PEER
        if piece.parent_id:
            told.parent_id = piece.parent_id
        told.cost.FromNanoseconds(round(self._told_cost(piece.cost) * 1e9))
        told.created_at.FromNanoseconds(round(piece.created_at * 1e9))
        self._send(request)

    def failed_parent(self, parent_id: str, number: int | None = None) -> None:
        """
        Report that a parent failed to give a piece, so that the scheduler offers it to this peer no more.

        :param number: the piece's; None for any.
        """
        if self.state is not State.RUNNING:
            return
        request = self._request()
        failed = request.download_piece_failed_request
        failed.parent_id = parent_id
        if number is not None:
            failed.piece_number = number
        failed.temporary = True  # with false a scheduler does nothing
        self._send(request)

    def reschedule(self, description: str) -> bool:
        """
        Ask for other parents than those of the last offer.

        :param description: why, in words.
        :returns: whether it was asked; not while no parents have been offered.
        """
        if self.state is not State.RUNNING or not self._offer:
            return False
        name = f"reschedule_{self._methods.word}peer_request"
        request = self._request()
        asked: Message = getattr(request, name)
        # The offer's only field is a list with the same number and type, so that each parent goes back as it came, with
        # fields that are unknown here, too.
        asked.MergeFromString(self._offer)
        if description:
            setattr(asked, "description", description)  # noqa: B010  # a field of each of these messages
        self._offer = b""
        self._send(request)
        return True

    def finish(self) -> None:
        """Report that the peer has all of the task; later, if the scheduler has not answered yet."""
        self.has_all = True
        if self.state is State.REGISTERING:
            self._last_words = ""
        elif self.state is State.RUNNING:
            self._end("download_{}peer_finished_request")
        elif self.state is State.AT_SOURCE:
            self._end("download_{}peer_back_to_source_finished_request")

    def fail(self, description: str) -> None:
        """
        Report that the peer gives up; later, if the scheduler has not answered yet.

        :param description: why, in words.
        """
        if self.state is State.REGISTERING:
            self._last_words = description or "failed"
        elif self.state is State.RUNNING:
            self._end("download_{}peer_failed_request", description)
        elif self.state is State.AT_SOURCE:
            self._end("download_{}peer_back_to_source_failed_request", description)

    # -- the messages

    def _offered(self, offer: Any) -> Event | None:
        """The scheduler offers parents."""
        self._say("download_{}peer_started_request")
        self.state = State.RUNNING
        self._offer = offer.SerializeToString()
        peers = getattr(offer, offer.DESCRIPTOR.fields_by_number[1].name)
        return self._unless_over(Parents(_candidates(peers[:_MOST_OFFERED])))

    def _unless_over(self, event: Event | None) -> Event | None:
        """What there is to do, unless the peer has ended meanwhile, and says so now."""
        if self._last_words is None:
            return event
        if self._last_words:
            self.fail(self._last_words)
        else:
            self.finish()
        return None

    def _end(self, name: str, description: str = "") -> None:
        """Send the final message."""
        self._say(name, description)
        self.state = State.ENDING
        self._offer = b""

    def _say(self, name: str, description: str = "") -> None:
        """Send a message that has nothing in it but, maybe, a description."""
        field = name.format(self._methods.word)
        request = self._request()
        said: Any = getattr(request, field)
        said.SetInParent()
        if description:
            said.description = description
        self._send(request)

    def _request(self) -> Any:
        """A message that has only the identity of the peer."""
        return self._methods.request(**self.ids)

    def _send(self, request: Message) -> None:
        self._outgoing.append(request.SerializeToString())

    def _told_cost(self, cost: float) -> float:
        """The cost that a scheduler gets: one slow piece does not end this peer's time as a parent."""
        count, total = self._costs
        told = max(cost, _LEAST_COST)
        if count:
            told = min(told, _SLOWER * total / count)
        self._costs = count + 1, total + told
        return told


def _candidates(peers: Sequence[Any]) -> tuple[CandidateParent, ...]:
    """The parents of an offer."""
    return tuple(
        CandidateParent(
            peer_id=peer.id,
            host_id=peer.host.id,
            ip=peer.host.ip,
            port=peer.host.port,
            state=peer.state,
            content_length=peer.task.content_length,
        )
        for peer in peers
    )
