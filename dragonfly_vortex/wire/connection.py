"""
One side of a Vortex connection, without I/O: a state machine that allows each packet only from the right side and in
the right state.

The two tables below decide what is allowed. They hold for both sides: what one sends, the other receives. Requests that
a child sends ahead wait in the parent's buffer until the reply under way is complete, so that a conversation is always
about one piece.

The content of a piece never passes through here on its way out: :meth:`Connection.send` returns the header, and
:meth:`Connection.content_sent` counts. On its way in it is handed on as it came, or is taken past here, and
:meth:`Connection.content_taken` counts.
"""

from __future__ import annotations

import enum
from typing import cast

from dragonfly_vortex.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from dragonfly_vortex.wire.messages import Close, ErrorReply, PieceContent, PieceRequest, Vortex
from dragonfly_vortex.wire.reader import ContentFinished, ContentReceived, Event, PacketReader
from dragonfly_vortex.wire.tags import PieceKind

__all__ = ["SENDERS", "TRANSITIONS", "Connection", "Role", "State"]


class Role(enum.Enum):
    """The two sides of a conversation."""

    CHILD = "child"
    PARENT = "parent"

    __hash__ = object.__hash__  # the enum's own is slow: a function in Python

    @property
    def other(self) -> Role:
        """The other side."""
        return Role.PARENT if self is Role.CHILD else Role.CHILD


class State(enum.Enum):
    """The states of a conversation."""

    IDLE = "idle"
    REQUESTED = "requested"
    TRANSFERRING = "transferring"
    CLOSED = "closed"
    FAILED = "failed"

    __hash__ = object.__hash__  # as above


SENDERS: dict[type[Event], frozenset[Role]] = {
    PieceRequest: frozenset({Role.CHILD}),
    PieceContent: frozenset({Role.PARENT}),
    ContentReceived: frozenset({Role.PARENT}),
    ContentFinished: frozenset({Role.PARENT}),
    ErrorReply: frozenset({Role.PARENT}),
    Close: frozenset({Role.CHILD, Role.PARENT}),
}
"""The sides that may send each packet. Packets that are missing here, such as reserved tags, are never allowed."""

TRANSITIONS: dict[State, dict[type[Event], State]] = {
    State.IDLE: {PieceRequest: State.REQUESTED, Close: State.CLOSED},
    State.REQUESTED: {PieceContent: State.TRANSFERRING, ErrorReply: State.IDLE, Close: State.CLOSED},
    State.TRANSFERRING: {ContentReceived: State.TRANSFERRING, ContentFinished: State.IDLE},
    State.CLOSED: {},
    State.FAILED: {},
}
"""What may come in which state, and which state follows."""

_FOLLOWING = {
    (state, what, sender): following
    for state, row in TRANSITIONS.items()
    for what, following in row.items()
    for sender in SENDERS[what]
}
"""Both tables as one: which state follows on a packet from a side."""

_REPLYING = frozenset({State.REQUESTED, State.TRANSFERRING})

_TAKEN = ContentReceived(b"")
"""What content is to the tables that was taken past here."""

_FINISHED = ContentFinished()


class Connection:
    """
    One side of a conversation.

    :param role: the side that we are.
    :param max_piece_length: bytes that a piece from the other side may have at the most; None for no limit.
    """

    def __init__(self, role: Role, max_piece_length: int | None = None) -> None:
        self.role = role
        self.state = State.IDLE
        self._other = role.other
        self._must_send_first = _REPLYING if role is Role.PARENT else frozenset()
        self._reader = PacketReader(max_piece_length)
        self._kind: PieceKind | None = None
        self._left_to_send = 0

    @property
    def buffered(self) -> int:
        """Bytes received that wait for their turn: on a parent's side, requests sent ahead."""
        return self._reader.buffered

    @property
    def content_left(self) -> int:
        """Bytes that are still missing of the piece under way: to be received by a child, to be sent by a parent."""
        return self._left_to_send if self.role is Role.PARENT else self._reader.content_left

    def receive_data(self, data: bytes) -> None:
        """
        Take bytes from the other side; :meth:`next_event` says what they mean.

        :param data: the next bytes. They are dropped where the conversation is closed or has failed.
        """
        self._reader.receive_data(data)

    def next_event(self) -> Event | None:
        """
        The next event from the other side; None when more bytes are needed, or when this side must send first.

        :raises RemoteProtocolError: the other side said what is not allowed. The conversation has failed then, for
            good.
        """
        if self.state in self._must_send_first:
            return None
        try:
            event = self._reader.next_event()
            if event is not None:
                self._follow(event, self._other, RemoteProtocolError)
        except RemoteProtocolError as error:
            self._end(State.FAILED, error)
            raise
        return event

    def send(self, packet: Vortex) -> bytes:
        """
        The bytes to send for a packet. For a piece's content these are its header: ``metadata.length`` bytes of
        content must follow, reported by :meth:`content_sent`, before anything else.

        :raises LocalProtocolError: the packet is not allowed now, or cannot be sent at all; nothing has changed then.
        """
        data = self._begin_sending(packet)
        if isinstance(packet, PieceContent):
            self._left_to_send = packet.metadata.length
            self._finish_sending()
        return data

    def send_whole(self, packet: PieceContent) -> bytes:
        """
        The bytes to send before a piece's content that the caller has at hand: it sends all of it with them, and the
        reply is complete then.

        :raises LocalProtocolError: as for :meth:`send`.
        """
        data = self._begin_sending(packet)
        self._follow(_FINISHED, self.role, LocalProtocolError)
        return data

    def content_sent(self, length: int) -> None:
        """
        Count content that has been sent.

        :param length: how many bytes.
        :raises LocalProtocolError: there was not so much to send.
        """
        if not 0 <= length <= self._left_to_send:
            raise LocalProtocolError(f"expected 0 to {self._left_to_send} bytes of content to be sent, got {length}")
        self._left_to_send -= length
        self._finish_sending()

    def content_taken(self, length: int) -> None:
        """
        Count content that was received past :meth:`receive_data`; :meth:`next_event` says when it was the last.

        :param length: how many bytes.
        :raises LocalProtocolError: the other side may send no content now, not so much of it is missing, or bytes that
            come before it have not been given out yet. Nothing has changed then.
        """
        self._follow(_TAKEN, self._other, LocalProtocolError)
        self._reader.content_taken(length)

    def refuse(self, code: int, text: str) -> bytes:
        """
        The bytes of an error that ends the conversation, sent by a parent that did not understand the last packet.

        :param code: an :class:`~dragonfly_vortex.wire.tags.ErrorCode`.
        :param text: what was expected and what came.

        :raises LocalProtocolError: a piece's content is under way, and an error would become a part of it; or this
            side is a child, which sends no errors; or the error cannot be sent at all. Nothing has changed then.
        """
        if self.role not in SENDERS[ErrorReply]:
            raise LocalProtocolError(f"expected no ErrorReply from the {self.role.value}")
        if self.state is State.TRANSFERRING:
            raise LocalProtocolError("expected the piece under way to be complete before an error is sent")
        data = ErrorReply(packet_id=self._reader.packet_id, code=code, text=text).to_bytes()
        if self.state is not State.FAILED:
            self._end(State.FAILED)
        return data

    def _begin_sending(self, packet: Vortex) -> bytes:
        """The bytes of a packet that may be sent now."""
        if isinstance(packet, PieceContent) and packet.content:
            raise LocalProtocolError(
                "expected a content packet without content: the deployed form has it behind the packet"
            )
        data = packet.to_bytes()
        self._follow(packet, self.role, LocalProtocolError)
        return data

    def _finish_sending(self) -> None:
        if not self._left_to_send and self.state is State.TRANSFERRING:
            self._follow(_FINISHED, self.role, LocalProtocolError)

    def _follow(self, event: Event, sender: Role, error: type[ProtocolError]) -> None:
        """Change the state as the tables say, or raise."""
        what = type(event)
        following = _FOLLOWING.get((self.state, what, sender))
        if following is None:
            tag = f" (tag {event.tag})" if isinstance(event, Vortex) else ""
            raise error(f"expected no {what.__name__}{tag} from the {sender.value} while {self.state.value}")
        if what is PieceRequest:
            self._kind = cast(PieceRequest, event).kind
        elif isinstance(event, PieceContent) and event.kind is not self._kind:
            asked = self._kind.label if self._kind else "no"
            raise error(f"expected a {asked} piece, as was asked for, got a {event.kind.label} piece")
        self.state = following
        if following is State.CLOSED:
            self._end(following)

    def _end(self, state: State, error: RemoteProtocolError | None = None) -> None:
        """Enter a state after which nothing can follow: nothing more is read."""
        self.state = state
        self._reader.end(error)
