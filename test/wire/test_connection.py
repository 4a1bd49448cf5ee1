"""
A conversation between a child and a parent.
"""

from __future__ import annotations

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
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Reserved,
    Role,
    State,
    Vortex,
)
from dragonfly_vortex.wire.connection import SENDERS, TRANSITIONS

REQUEST = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id="t" * 64, number=7)
METADATA = PieceMetadata(number=7, offset=28, length=4, digest="crc32:7")
CONTENT = PieceContent(packet_id=1, kind=PieceKind.STANDARD, metadata=METADATA)
NOTHING = replace(CONTENT, metadata=replace(METADATA, length=0))
ERROR = ErrorReply(packet_id=1, code=2, text="not found")
CLOSE = Close(packet_id=4)
UNKNOWN = Reserved(packet_id=5, reserved_tag=8)
PACKETS: tuple[Vortex, ...] = (REQUEST, CONTENT, ERROR, CLOSE, UNKNOWN)


def events_of(connection: Connection, data: bytes = b"") -> list[Event]:
    """What the connection makes of the bytes."""
    connection.receive_data(data)
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def connection_in(state: State, role: Role) -> Connection:
    """One side of a conversation, in the state that packets of both sides led to."""
    child, parent = Connection(Role.CHILD), Connection(Role.PARENT)
    if state in (State.REQUESTED, State.TRANSFERRING):
        events_of(parent, child.send(REQUEST))
    if state is State.TRANSFERRING:
        events_of(child, parent.send(CONTENT))
    if state is State.CLOSED:
        events_of(parent, child.send(CLOSE))
    if state is State.FAILED:
        for connection in (child, parent):
            connection.receive_data(UNKNOWN.to_bytes())
            try:
                connection.next_event()
            except RemoteProtocolError:
                continue
    connection = child if role is Role.CHILD else parent
    if connection.state is not state:
        raise AssertionError(f"expected {state}, got {connection.state}")
    return connection


class TableTests(SynchronousTestCase):
    """The tables of a conversation are all that decides what is allowed."""

    def test_complete(self) -> None:
        """Every state has its row, and everything that may come in a state may be said by someone."""
        self.assertEqual(set(TRANSITIONS), set(State))
        self.assertEqual({what for row in TRANSITIONS.values() for what in row}, set(SENDERS))

    def test_ends(self) -> None:
        """A conversation that is closed or has failed goes on to nothing."""
        self.assertEqual((TRANSITIONS[State.CLOSED], TRANSITIONS[State.FAILED]), ({}, {}))

    def test_reserved(self) -> None:
        """Neither side may send a packet without a meaning."""
        self.assertNotIn(Reserved, SENDERS)

    def test_other(self) -> None:
        """Each role is the other's other."""
        self.assertEqual((Role.CHILD.other, Role.PARENT.other), (Role.PARENT, Role.CHILD))

    def test_sending(self) -> None:
        """Every side may send in every state what the tables say, and nothing else; a refusal changes nothing."""
        for state in State:
            for role in Role:
                for packet in PACKETS:
                    connection = connection_in(state, role)
                    following = TRANSITIONS[state].get(type(packet))
                    if following is not None and role in SENDERS.get(type(packet), ()):
                        self.assertEqual(connection.send(packet), packet.to_bytes())
                        self.assertIs(connection.state, following)
                    else:
                        error = self.assertRaises(LocalProtocolError, connection.send, packet)
                        self.assertEqual(
                            str(error),
                            f"expected no {type(packet).__name__} (tag {packet.tag})"
                            f" from the {role.value} while {state.value}",
                        )
                        self.assertIs(connection.state, state)

    def test_receiving(self) -> None:
        """Where a side listens, it hears what the tables say, and fails at anything else."""
        listening = [(Role.CHILD, State.IDLE), (Role.CHILD, State.REQUESTED), (Role.PARENT, State.IDLE)]
        for role, state in listening:
            for packet in PACKETS:
                connection = connection_in(state, role)
                following = TRANSITIONS[state].get(type(packet))
                if following is not None and role.other in SENDERS.get(type(packet), ()):
                    self.assertEqual(events_of(connection, packet.to_bytes()), [packet])
                    self.assertIs(connection.state, following)
                else:
                    error = self.assertRaises(RemoteProtocolError, events_of, connection, packet.to_bytes())
                    self.assertEqual(
                        str(error),
                        f"expected no {type(packet).__name__} (tag {packet.tag})"
                        f" from the {role.other.value} while {state.value}",
                    )
                    self.assertIs(connection.state, State.FAILED)


class PieceTests(SynchronousTestCase):
    """A piece is asked for and sent, and then the next may be."""

    def test_a_piece(self) -> None:
        """Both sides go the same way from a request to the end of the content."""
        child, parent = Connection(Role.CHILD), Connection(Role.PARENT)
        for _ in range(2):
            self.assertEqual(events_of(parent, child.send(REQUEST)), [REQUEST])
            self.assertEqual((child.state, parent.state), (State.REQUESTED, State.REQUESTED))
            self.assertEqual(events_of(child, parent.send(CONTENT)), [CONTENT])
            self.assertEqual((child.state, parent.state), (State.TRANSFERRING, State.TRANSFERRING))
            self.assertEqual((child.content_left, parent.content_left), (4, 4))
            parent.content_sent(3)
            self.assertEqual(events_of(child, b"abc"), [ContentReceived(b"abc")])
            self.assertEqual((child.content_left, parent.content_left), (1, 1))
            parent.content_sent(1)
            self.assertEqual(events_of(child, b"d"), [ContentReceived(b"d"), ContentFinished()])
            self.assertEqual((child.state, parent.state), (State.IDLE, State.IDLE))
            self.assertEqual((child.content_left, parent.content_left), (0, 0))

    def test_at_hand(self) -> None:
        """Content that is sent with its header makes the reply complete, and the next request can come."""
        parent = Connection(Role.PARENT)
        for packet in (CONTENT, NOTHING, CONTENT):
            self.assertEqual(events_of(parent, REQUEST.to_bytes()), [REQUEST])
            self.assertEqual(parent.send_whole(packet), packet.to_bytes())
            self.assertEqual((parent.state, parent.content_left), (State.IDLE, 0))
        with self.assertRaises(LocalProtocolError):
            parent.send_whole(CONTENT)

    def test_every_kind(self) -> None:
        """A piece of each kind is answered by content of that kind and no other, on both sides."""
        for asked in PieceKind:
            for answered in PieceKind:
                child, parent = Connection(Role.CHILD), Connection(Role.PARENT)
                events_of(parent, child.send(replace(REQUEST, kind=asked)))
                reply = replace(NOTHING, kind=answered)
                if asked is answered:
                    self.assertEqual(events_of(child, parent.send(reply)), [reply, ContentFinished()])
                    continue
                message = f"expected a {asked.label} piece, as was asked for, got a {answered.label} piece"
                self.assertEqual(str(self.assertRaises(LocalProtocolError, parent.send, reply)), message)
                self.assertIs(parent.state, State.REQUESTED)
                error = self.assertRaises(RemoteProtocolError, events_of, child, reply.to_bytes())
                self.assertEqual(str(error), message)
                self.assertIs(child.state, State.FAILED)

    def test_a_piece_of_no_bytes(self) -> None:
        """A piece of no bytes is sent with its header."""
        child, parent = connection_in(State.REQUESTED, Role.CHILD), connection_in(State.REQUESTED, Role.PARENT)
        self.assertEqual(events_of(child, parent.send(NOTHING)), [NOTHING, ContentFinished()])
        self.assertEqual((child.state, parent.state), (State.IDLE, State.IDLE))

    def test_specification_form(self) -> None:
        """A child takes a piece that has its content inside of the packet; a parent does not send it."""
        packet = replace(CONTENT, content=b"abcd")
        parent = connection_in(State.REQUESTED, Role.PARENT)
        error = self.assertRaises(LocalProtocolError, parent.send, packet)
        self.assertIn("the deployed form has it behind the packet", str(error))
        self.assertIs(parent.state, State.REQUESTED)
        child = connection_in(State.REQUESTED, Role.CHILD)
        expected = [CONTENT, ContentReceived(b"abcd"), ContentFinished()]
        self.assertEqual(events_of(child, packet.to_bytes()), expected)

    def test_error(self) -> None:
        """After an error the next piece may be asked for."""
        child, parent = connection_in(State.REQUESTED, Role.CHILD), connection_in(State.REQUESTED, Role.PARENT)
        self.assertEqual(events_of(child, parent.send(ERROR)), [ERROR])
        self.assertEqual(events_of(parent, child.send(REQUEST)), [REQUEST])

    def test_piece_length(self) -> None:
        """A child that takes pieces of some length refuses longer ones."""
        child = Connection(Role.CHILD, max_piece_length=3)
        child.send(REQUEST)
        error = self.assertRaises(RemoteProtocolError, events_of, child, CONTENT.to_bytes())
        self.assertEqual(str(error), "expected a piece of at most 3 bytes, got 4")
        self.assertIs(child.state, State.FAILED)

    def test_unasked(self) -> None:
        """A second content packet where none was asked for fails the conversation."""
        child = connection_in(State.REQUESTED, Role.CHILD)
        child.receive_data(NOTHING.to_bytes() * 2)
        self.assertEqual([child.next_event(), child.next_event()], [NOTHING, ContentFinished()])
        self.assertRaises(RemoteProtocolError, child.next_event)

    def test_cannot_be_encoded(self) -> None:
        """A packet that cannot be sent at all changes nothing."""
        child = Connection(Role.CHILD)
        self.assertRaises(LocalProtocolError, child.send, replace(REQUEST, number=-1))
        self.assertIs(child.state, State.IDLE)


class ContentSentTests(SynchronousTestCase):
    """The parent counts what it sends of a piece."""

    def test_too_much(self) -> None:
        """More than there is to send is refused, and not counted."""
        parent = connection_in(State.TRANSFERRING, Role.PARENT)
        error = self.assertRaises(LocalProtocolError, parent.content_sent, 5)
        self.assertEqual(str(error), "expected 0 to 4 bytes of content to be sent, got 5")
        self.assertEqual((parent.content_left, parent.state), (4, State.TRANSFERRING))

    def test_less_than_nothing(self) -> None:
        """What was sent cannot be taken back."""
        parent = connection_in(State.TRANSFERRING, Role.PARENT)
        error = self.assertRaises(LocalProtocolError, parent.content_sent, -1)
        self.assertEqual(str(error), "expected 0 to 4 bytes of content to be sent, got -1")
        self.assertEqual(parent.content_left, 4)

    def test_nothing(self) -> None:
        """A step in which nothing could be sent changes nothing."""
        parent = connection_in(State.TRANSFERRING, Role.PARENT)
        parent.content_sent(0)
        self.assertEqual((parent.content_left, parent.state), (4, State.TRANSFERRING))

    def test_without_a_piece(self) -> None:
        """Where no piece is under way there is nothing to send, a child's side included."""
        for connection in (Connection(Role.PARENT), connection_in(State.TRANSFERRING, Role.CHILD)):
            self.assertRaises(LocalProtocolError, connection.content_sent, 1)


class ContentTakenTests(SynchronousTestCase):
    """The child counts what it takes of a piece past the conversation."""

    def test_to_the_end(self) -> None:
        """Content may be taken or received, in any order, and ends as it does when all of it is received."""
        for taken, received in (((4,), b""), ((1, 0, 2), b"d"), ((), b"abcd")):
            child = connection_in(State.TRANSFERRING, Role.CHILD)
            for length in taken:
                child.content_taken(length)
                self.assertIs(child.state, State.TRANSFERRING)
            self.assertEqual(child.content_left, len(received))
            expected: list[Event] = [ContentReceived(received)] if received else []
            self.assertEqual(events_of(child, received), [*expected, ContentFinished()])
            self.assertEqual((child.state, child.content_left), (State.IDLE, 0))

    def test_then_the_next(self) -> None:
        """Behind content that was taken the next packet is read."""
        child = connection_in(State.TRANSFERRING, Role.CHILD)
        child.content_taken(4)
        self.assertEqual(events_of(child), [ContentFinished()])
        child.send(REQUEST)
        self.assertEqual(events_of(child, ERROR.to_bytes()), [ERROR])

    def test_not_so_much(self) -> None:
        """More than is missing, and less than nothing, is refused and not counted."""
        child = connection_in(State.TRANSFERRING, Role.CHILD)
        for length in (5, -1):
            error = self.assertRaises(LocalProtocolError, child.content_taken, length)
            self.assertEqual(str(error), f"expected 0 to 4 bytes of content to be taken, got {length}")
            self.assertEqual((child.content_left, child.state), (4, State.TRANSFERRING))

    def test_before_what_waits(self) -> None:
        """What has been received and not been given out comes first."""
        child = connection_in(State.TRANSFERRING, Role.CHILD)
        child.receive_data(b"ab")
        error = self.assertRaises(LocalProtocolError, child.content_taken, 1)
        self.assertEqual(str(error), "expected no bytes to wait, got 2: they come before those taken")
        self.assertEqual(events_of(child), [ContentReceived(b"ab")])
        self.assertEqual(child.content_left, 2)

    def test_where_there_is_no_content(self) -> None:
        """Only a child takes content, and only while a piece is under way."""
        for role in Role:
            for state in State:
                if (role, state) != (Role.CHILD, State.TRANSFERRING):
                    error = self.assertRaises(LocalProtocolError, connection_in(state, role).content_taken, 0)
                    self.assertEqual(
                        str(error), f"expected no ContentReceived from the {role.other.value} while {state.value}"
                    )


class RequestsAheadTests(SynchronousTestCase):
    """What a child sends ahead waits for its turn."""

    def test_in_order(self) -> None:
        """Requests that came at once are heard one by one, each when the one before is answered."""
        requests = [replace(REQUEST, packet_id=number, number=number) for number in range(3)]
        parent = Connection(Role.PARENT)
        parent.receive_data(b"".join(request.to_bytes() for request in requests) + CLOSE.to_bytes())
        for waiting, request in zip((2, 1, 0), requests, strict=True):
            self.assertEqual(events_of(parent), [request])
            self.assertEqual(parent.buffered, waiting * len(REQUEST.to_bytes()) + len(CLOSE.to_bytes()))
            parent.send(CONTENT)
            self.assertEqual(events_of(parent), [])
            parent.content_sent(4)
        self.assertEqual(events_of(parent), [CLOSE])

    def test_close_ahead(self) -> None:
        """A close behind a request is heard when the piece is complete: the reply under way is finished."""
        parent = connection_in(State.REQUESTED, Role.PARENT)
        self.assertEqual(events_of(parent, CLOSE.to_bytes()), [])
        parent.send(NOTHING)
        self.assertEqual(events_of(parent), [CLOSE])
        self.assertIs(parent.state, State.CLOSED)

    def test_nonsense_ahead(self) -> None:
        """Nonsense behind a request does not touch the reply under way."""
        parent = connection_in(State.REQUESTED, Role.PARENT)
        self.assertEqual(events_of(parent, b"\xff" * 6), [])
        parent.send(CONTENT)
        parent.content_sent(4)
        self.assertRaises(RemoteProtocolError, events_of, parent)


class CloseTests(SynchronousTestCase):
    """After a close neither side may send or receive anything."""

    def test_by_a_child(self) -> None:
        """A child closes before or after it has asked, and hears no more."""
        for state in (State.IDLE, State.REQUESTED):
            child = connection_in(state, Role.CHILD)
            child.send(CLOSE)
            self.assertEqual(events_of(child, CONTENT.to_bytes() + b"abcd"), [])
            self.assertIs(child.state, State.CLOSED)

    def test_keeps_nothing(self) -> None:
        """What comes after a close is dropped, not kept, and so is what came with it."""
        parent = Connection(Role.PARENT)
        self.assertEqual(events_of(parent, CLOSE.to_bytes() + REQUEST.to_bytes()), [CLOSE])
        self.assertEqual(parent.buffered, 0)
        parent.receive_data(bytes(65536))
        self.assertEqual(parent.buffered, 0)
        child = Connection(Role.CHILD)
        child.receive_data(b"\x00")
        child.send(CLOSE)
        self.assertEqual(child.buffered, 0)

    def test_with_a_value(self) -> None:
        """A close may have a value, which says nothing."""
        packet = replace(CLOSE, value=bytes(65536))
        self.assertEqual(events_of(Connection(Role.PARENT), packet.to_bytes()), [packet])


class FailureTests(SynchronousTestCase):
    """A conversation that has failed stays so."""

    def test_the_grammar(self) -> None:
        """Bytes that are no packet fail the conversation with the same error for ever."""
        parent = Connection(Role.PARENT)
        error = self.assertRaises(RemoteProtocolError, events_of, parent, b"\x01\x00\xff\xff\xff\xff")
        for data in (b"", REQUEST.to_bytes()):
            self.assertIs(self.assertRaises(RemoteProtocolError, events_of, parent, data), error)
            self.assertEqual(parent.buffered, 0)
        self.assertIs(parent.state, State.FAILED)

    def test_the_order(self) -> None:
        """A packet in the wrong place fails the conversation with the same error for ever, and nothing more is kept."""
        child = Connection(Role.CHILD)
        error = self.assertRaises(RemoteProtocolError, events_of, child, ERROR.to_bytes() + CLOSE.to_bytes())
        for data in (b"", CLOSE.to_bytes(), CONTENT.to_bytes()):
            self.assertIs(self.assertRaises(RemoteProtocolError, events_of, child, data), error)
            self.assertEqual(child.buffered, 0)
        self.assertIs(child.state, State.FAILED)


class RefuseTests(SynchronousTestCase):
    """A parent that does not understand says so, and the conversation is over."""

    def test_after_nonsense(self) -> None:
        """The error carries the packet ID of what was not understood."""
        parent = connection_in(State.IDLE, Role.PARENT)
        self.assertRaises(RemoteProtocolError, events_of, parent, b"\x63\x00\x00\x00\x00\x45")
        data = parent.refuse(1, "expected something else")
        self.assertEqual(Vortex.from_bytes(data), ErrorReply(packet_id=99, code=1, text="expected something else"))
        self.assertIs(parent.state, State.FAILED)

    def test_a_request(self) -> None:
        """A request that is understood and cannot be right can be refused for good too."""
        child, parent = connection_in(State.REQUESTED, Role.CHILD), connection_in(State.REQUESTED, Role.PARENT)
        self.assertEqual(events_of(child, parent.refuse(1, "")), [replace(ERROR, code=1, text="")])
        self.assertIs(parent.state, State.FAILED)
        self.assertRaises(LocalProtocolError, parent.send, ERROR)

    def test_inside_of_a_piece(self) -> None:
        """An error inside of a piece's content would be a part of it."""
        parent = connection_in(State.TRANSFERRING, Role.PARENT)
        self.assertRaises(LocalProtocolError, parent.refuse, 1, "")
        self.assertIs(parent.state, State.TRANSFERRING)

    def test_cannot_be_encoded(self) -> None:
        """A refusal that cannot be sent changes nothing."""
        parent = connection_in(State.REQUESTED, Role.PARENT)
        self.assertRaises(LocalProtocolError, parent.refuse, 256, "")
        self.assertIs(parent.state, State.REQUESTED)

    def test_by_a_child(self) -> None:
        """A child sends no errors."""
        child = connection_in(State.REQUESTED, Role.CHILD)
        self.assertRaises(LocalProtocolError, child.refuse, 1, "")
        self.assertIs(child.state, State.REQUESTED)
