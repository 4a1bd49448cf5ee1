"""
What holds for all packets, all bytes and all ways of cutting them, looked for by hypothesis.

Each property is a function over the implementation under test. It is asked of the real one, and of one with an error
planted in it, so that a property that sees nothing is seen. Set ``DFVORTEX_HYPOTHESIS=long`` to look at length
(:mod:`test.wire.profiles`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import LocalProtocolError, RemoteProtocolError
from dragonfly_vortex.wire import (
    Close,
    Connection,
    ContentFinished,
    ContentReceived,
    ErrorReply,
    Event,
    PacketReader,
    PieceContent,
    PieceMetadata,
    PieceRequest,
    Role,
    State,
    Vortex,
)
from dragonfly_vortex.wire.connection import SENDERS, TRANSITIONS
from dragonfly_vortex.wire.reader import ReceiveBuffer
from test.wire.profiles import PROFILE, QUIET
from test.wire.strategies import ANYTHING, CLOSES, ERRORS, PACKETS, PLACES, REQUESTS, metadata
from test.wire.streams import byte_by_byte, cut_at, drain, read_to_the_error

REQUESTS_AHEAD = (
    st.lists(REQUESTS, max_size=4),
    PLACES,
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
"""Requests, where to cut them, and how long the pieces are."""

# -- the properties ----------------------------------------------------------------------------------------------------


def comes_back(decode: Callable[[bytes], Vortex], packet: Vortex) -> None:
    """A packet that is sent is the packet that is received."""
    received = decode(packet.to_bytes())
    assert received == packet, f"sent {packet}, received {received}"


def comes_back_or_is_refused(decode: Callable[[bytes], Vortex], data: bytes) -> None:
    """Bytes that are a packet are its bytes; bytes that are none are a protocol error of the other side."""
    try:
        packet = decode(data)
    except RemoteProtocolError:
        return
    except Exception as error:
        raise AssertionError(f"expected a protocol error, got {error!r}") from error
    assert packet.to_bytes() == data, f"received {data.hex()}, sent {packet.to_bytes().hex()}"


def gives_events_or_one_error(make_reader: Callable[[], PacketReader], data: bytes, places: list[int]) -> None:
    """A stream of any bytes is events, or one protocol error for ever after; what waits is bounded."""
    reader = make_reader()
    first: BaseException | None = None
    for chunk in [*cut_at(data, places), b"", bytes(100), data]:
        reader.receive_data(chunk)
        try:
            events = [*drain(reader)]
        except Exception as error:
            assert isinstance(error, RemoteProtocolError), f"expected a protocol error, got {error!r}"
            assert first in (None, error), f"failed with {first!r}, and then with {error!r}"
            first = error
        else:
            assert first is None, f"failed with {first!r}, and then gave {events}"
        assert reader.buffered <= (0 if first else 65536 + 6), f"{reader.buffered} bytes wait"


def is_the_same_however_cut(make_reader: Callable[[], PacketReader], data: bytes, places: list[int]) -> None:
    """A stream is the same events, and the same error, whole, byte by byte and cut anywhere."""
    whole = read_to_the_error(make_reader(), [data])
    for chunks in (byte_by_byte(data), cut_at(data, places)):
        cut = read_to_the_error(make_reader(), chunks)
        assert cut == whole, f"whole {whole}, cut {cut}"


def answers_in_order(
    make_connection: Callable[[Role], Connection], requests: list[PieceRequest], places: list[int], lengths: list[int]
) -> None:
    """Requests that were sent ahead, however cut, are heard one by one, each when the one before is answered."""
    parent = make_connection(Role.PARENT)
    heard = []
    to_send = itertools.cycle(lengths)
    for chunk in cut_at(b"".join(request.to_bytes() for request in requests), places):
        parent.receive_data(chunk)
        while (request := parent.next_event()) is not None:
            assert isinstance(request, PieceRequest), f"expected a request, got {request}"
            heard.append(request)
            assert parent.next_event() is None, "expected the answer to come before the next request"
            length = next(to_send)
            described = PieceMetadata(number=request.number, offset=0, length=length, digest="")
            parent.send(PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=described))
            for _ in range(length):
                assert parent.next_event() is None, "expected the content to end before the next request"
                parent.content_sent(1)
    assert heard == requests, f"sent {requests}, heard {heard}"


class Conversation(RuleBasedStateMachine):
    """
    A child and a parent that say anything that is allowed, whenever it is, over links that deliver as they like: both
    hear what the other said, neither fails, and whenever nothing is under way both are in the same state.
    """

    connection = Connection

    def __init__(self) -> None:
        super().__init__()
        self.sides = {role: self.connection(role) for role in Role}
        self.under_way = {role: bytearray() for role in Role}
        self.said: dict[Role, list[object]] = {role: [] for role in Role}
        self.heard: dict[Role, list[object]] = {role: [] for role in Role}

    def in_state(self, role: Role, *states: State) -> bool:
        """Whether a side is in one of the states."""
        return self.sides[role].state in states

    def say(self, role: Role, packet: Vortex) -> None:
        """Let a side send a packet."""
        self.under_way[role] += self.sides[role].send(packet)
        self.said[role].append(packet)
        if isinstance(packet, PieceContent) and not packet.metadata.length:
            self.said[role].append(ContentFinished())
        self.listen(role)

    def listen(self, role: Role) -> None:
        """Let a side take what it can; content counts byte by byte, because it may come in any parts."""
        while (event := self.sides[role].next_event()) is not None:
            self.heard[role].extend(bytes(event.data) if isinstance(event, ContentReceived) else [event])

    def deliver(self, sender: Role, length: int) -> None:
        """Let some of what a side has sent arrive."""
        data = bytes(self.under_way[sender][:length])
        del self.under_way[sender][:length]
        self.sides[sender.other].receive_data(data)
        self.listen(sender.other)

    @precondition(lambda self: self.in_state(Role.CHILD, State.IDLE))
    @rule(request=REQUESTS)
    def ask(self, request: PieceRequest) -> None:
        """The child asks for a piece."""
        self.say(Role.CHILD, request)

    @precondition(lambda self: self.in_state(Role.PARENT, State.REQUESTED))
    @rule(described=metadata(st.integers(0, 40)))
    def answer(self, described: PieceMetadata) -> None:
        """The parent sends a piece's header, of the kind that it was asked for."""
        request = self.heard[Role.PARENT][-1]
        assert isinstance(request, PieceRequest)
        self.say(Role.PARENT, PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=described))

    @precondition(lambda self: self.in_state(Role.PARENT, State.REQUESTED))
    @rule(error=ERRORS)
    def answer_with_an_error(self, error: ErrorReply) -> None:
        """The parent sends an error."""
        self.say(Role.PARENT, error)

    @precondition(lambda self: self.in_state(Role.PARENT, State.TRANSFERRING))
    @rule(content=st.binary(max_size=40))
    def send_content(self, content: bytes) -> None:
        """The parent sends some of a piece's content."""
        parent = self.sides[Role.PARENT]
        sent = content[: parent.content_left]
        ends = len(sent) == parent.content_left
        self.under_way[Role.PARENT] += sent
        self.said[Role.PARENT].extend(sent)
        if ends:
            self.said[Role.PARENT].append(ContentFinished())
        parent.content_sent(len(sent))
        self.listen(Role.PARENT)

    @rule(role=st.sampled_from(Role), packet=CLOSES)
    def close(self, role: Role, packet: Close) -> None:
        """A side closes, where it may: seldom, or there would be little to see."""
        if self.in_state(role, State.IDLE, State.REQUESTED) and not packet.value:
            self.say(role, packet)

    @rule(role=st.sampled_from(Role), packet=PACKETS)
    def say_what_is_not_allowed(self, role: Role, packet: Vortex) -> None:
        """A side tries to say what it may not, and nothing has changed."""
        side = self.sides[role]
        before = side.state, side.content_left
        if role in SENDERS.get(type(packet), ()) and type(packet) in TRANSITIONS[side.state]:
            return
        try:
            side.send(packet)
        except LocalProtocolError:
            assert (side.state, side.content_left) == before, f"{packet} was refused and changed the side"
        else:
            raise AssertionError(f"expected {packet} to be refused to the {role.value} while {before[0]}")

    @rule(sender=st.sampled_from(Role), length=st.integers(1, 100))
    def deliver_some(self, sender: Role, length: int) -> None:
        """Some of what a side has sent arrives."""
        self.deliver(sender, length)

    @precondition(lambda self: self.in_state(Role.CHILD, State.REQUESTED, State.TRANSFERRING))
    @rule(length=st.integers(0, 100))
    def take_content(self, length: int) -> None:
        """The child takes content past the conversation, behind its header, as much as has arrived."""
        child, under_way = self.sides[Role.CHILD], self.under_way[Role.PARENT]
        while child.state is State.REQUESTED and under_way:
            self.deliver(Role.PARENT, 1)
        if child.state is not State.TRANSFERRING:
            return
        length = min(length, child.content_left, len(under_way))
        self.heard[Role.CHILD].extend(under_way[:length])
        del under_way[:length]
        child.content_taken(length)
        self.listen(Role.CHILD)

    @rule(sender=st.sampled_from(Role))
    def deliver_all(self, sender: Role) -> None:
        """All of what a side has sent arrives."""
        self.deliver(sender, len(self.under_way[sender]))

    @invariant()
    def nobody_fails(self) -> None:
        """What is allowed to be said is allowed to be heard."""
        assert not any(self.in_state(role, State.FAILED) for role in Role)

    @invariant()
    def what_is_heard_was_said(self) -> None:
        """Nothing is heard that was not said, and nothing in another order."""
        for role in Role:
            heard, said = self.heard[role.other], self.said[role]
            assert heard == said[: len(heard)], f"the {role.value} said {said}, and was heard to say {heard}"

    @invariant()
    def in_step(self) -> None:
        """Whenever nothing is under way, both sides are in the same state, with as much of a piece left."""
        child, parent = self.sides[Role.CHILD], self.sides[Role.PARENT]
        if not any(self.under_way.values()) and not parent.buffered:
            assert child.state is parent.state, f"the child is {child.state}, the parent {parent.state}"
            assert child.content_left == parent.content_left

    def teardown(self) -> None:
        """If neither side has closed, every packet that was sent is received in the end."""
        for role in Role:
            self.deliver(role, len(self.under_way[role]))
        if not any(self.in_state(role, State.CLOSED) for role in Role):
            assert [self.heard[role.other] for role in Role] == [self.said[role] for role in Role]


# -- the planted errors ------------------------------------------------------------------------------------------------


def decode_with_signed_numbers(data: bytes) -> Vortex:
    """:meth:`Vortex.from_bytes` that takes a piece's number for a signed one."""
    packet = Vortex.from_bytes(data)
    if isinstance(packet, PieceRequest) and packet.number >= 2**31:
        return replace(packet, number=packet.number - 2**32)
    return packet


def decode_without_extra(data: bytes) -> Vortex:
    """:meth:`Vortex.from_bytes` that loses what is behind the metadata's fields."""
    packet = Vortex.from_bytes(data)
    if isinstance(packet, PieceContent):
        return replace(packet, metadata=replace(packet.metadata, extra=b""))
    return packet


class ForgivingReader(PacketReader):
    """A reader that goes on behind an error as if nothing had been."""

    def end(self, error: RemoteProtocolError | None = None) -> None:
        """Start again."""
        self._read = PacketReader._read_header


class HastyBuffer(ReceiveBuffer):
    """A buffer that loses a first chunk with less than a header in it."""

    def append(self, data: bytes) -> None:
        """Take what is long enough."""
        if self.length or len(data) >= 6:
            super().append(data)


class HastyReader(PacketReader):
    """A reader over such a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = HastyBuffer()


class ImpatientConnection(Connection):
    """A parent that hears the next request while it answers."""

    def next_event(self) -> Event | None:
        """Received bytes, on either side's turn."""
        return super().next_event() or self._reader.next_event()


class MiscountingConnection(Connection):
    """A parent that counts one byte less than it sent."""

    def content_sent(self, length: int) -> None:
        """Count, wrongly."""
        super().content_sent(max(length - 1, 0))


class MiscountingConversation(Conversation):
    """A conversation with such a parent."""

    connection = MiscountingConnection


class GreedyConnection(Connection):
    """A child that does not count what it takes past the conversation."""

    def content_taken(self, length: int) -> None:
        """Count nothing."""
        super().content_taken(0)


class GreedyConversation(Conversation):
    """A conversation with such a child."""

    connection = GreedyConnection


# -- the tests ---------------------------------------------------------------------------------------------------------


class PropertyTests(SynchronousTestCase):
    """Each property holds for the real implementation, and not for one with an error planted in it."""

    def assert_holds(self, holds: Callable[..., None], implementation: object, *data: SearchStrategy[Any]) -> None:
        """Assert that hypothesis finds no counterexample."""
        PROFILE(given(st.just(implementation), *data)(holds))()

    def assert_fails(self, holds: Callable[..., None], implementation: object, *data: SearchStrategy[Any]) -> None:
        """Assert that hypothesis finds a counterexample."""
        self.assertRaises(AssertionError, QUIET(given(st.just(implementation), *data)(holds)))

    def test_packets_come_back(self) -> None:
        """Every packet that is sent is the packet that is received."""
        self.assert_holds(comes_back, Vortex.from_bytes, PACKETS)

    def test_packets_come_back_with_an_error(self) -> None:
        """Planted: a piece's number is read as a signed one."""
        self.assert_fails(comes_back, decode_with_signed_numbers, PACKETS)

    def test_bytes_come_back_or_are_refused(self) -> None:
        """Any bytes are a packet that is the same bytes again, or one protocol error."""
        self.assert_holds(comes_back_or_is_refused, Vortex.from_bytes, ANYTHING)

    def test_bytes_come_back_or_are_refused_with_an_error(self) -> None:
        """Planted: bytes behind the metadata's fields are lost."""
        self.assert_fails(comes_back_or_is_refused, decode_without_extra, ANYTHING)

    def test_events_or_one_error(self) -> None:
        """Any bytes, however cut, are events or one protocol error, the same for ever after, and nothing piles up."""
        self.assert_holds(gives_events_or_one_error, PacketReader, ANYTHING, PLACES)

    def test_events_or_one_error_with_an_error(self) -> None:
        """Planted: a reader goes on behind an error."""
        self.assert_fails(gives_events_or_one_error, ForgivingReader, ANYTHING, PLACES)

    def test_the_same_however_cut(self) -> None:
        """Any bytes are the same events and the same error, however they are cut."""
        self.assert_holds(is_the_same_however_cut, PacketReader, ANYTHING, PLACES)

    def test_the_same_however_cut_with_an_error(self) -> None:
        """Planted: a first chunk with less than a header in it is lost."""
        self.assert_fails(is_the_same_however_cut, HastyReader, ANYTHING, PLACES)

    def test_answers_in_order(self) -> None:
        """Requests that are sent ahead, however cut, are answered in order."""
        self.assert_holds(answers_in_order, Connection, *REQUESTS_AHEAD)

    def test_answers_in_order_with_an_error(self) -> None:
        """Planted: a parent hears the next request while it answers."""
        self.assert_fails(answers_in_order, ImpatientConnection, *REQUESTS_AHEAD)

    def test_conversation(self) -> None:
        """Any legal conversation, however cut and interleaved, keeps both sides in step."""
        run_state_machine_as_test(Conversation, settings=PROFILE)

    def test_conversation_with_an_error(self) -> None:
        """Planted: a parent counts one byte less than it sent."""
        self.assertRaises(AssertionError, run_state_machine_as_test, MiscountingConversation, settings=QUIET)

    def test_conversation_with_another_error(self) -> None:
        """Planted: a child does not count what it takes past the conversation."""
        self.assertRaises(AssertionError, run_state_machine_as_test, GreedyConversation, settings=QUIET)
