"""
Agreement with the reference, packet by packet: whole, byte by byte, split at every position and with trailing data.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import ProtocolError, RemoteProtocolError
from dragonfly_vortex.wire import (
    Close,
    ContentFinished,
    ContentReceived,
    ErrorReply,
    Event,
    PacketReader,
    PieceContent,
    Vortex,
)
from test.wire.streams import every_cut, read
from test.wire.vectors import doubtful_vectors, valid_vectors

FOLLOWING = Close(packet_id=77)

# What a stream cannot know to be wrong: the bytes are the start of a packet, or a packet and the start of the next.
# For each: what a reader has read, and the bytes that wait for more.
UNFINISHED: dict[str, tuple[list[Event], int]] = {
    "empty": ([], 0),
    "header cut short": ([], 5),
    "declared length greater than value": ([], 1),
    "declared length less than value": ([ErrorReply(packet_id=1, code=1, text="")], 1),
}


def in_a_stream(packet: Vortex, following: bytes = b"") -> list[Event]:
    """The events of a packet, with the following bytes behind it, as a stream has them."""
    if not isinstance(packet, PieceContent):
        return [packet]
    content: list[Event] = [ContentReceived(following)] if following and packet.metadata.length else []
    return [packet, *content, *([] if packet.metadata.length else [ContentFinished()])]


class WholePacketTests(SynchronousTestCase):
    """:meth:`Vortex.from_bytes` and :meth:`Vortex.to_bytes` say what the reference says."""

    def test_there_are_vectors(self) -> None:
        """The file has the entries that it had: none is lost on the way."""
        self.assertEqual((len(valid_vectors()), len(doubtful_vectors())), (61, 14))

    def test_decodes(self) -> None:
        """The bytes of every valid entry are the packet with the entry's fields."""
        for vector in valid_vectors():
            self.assertEqual(Vortex.from_bytes(vector.data), vector.packet, vector.name)

    def test_encodes(self) -> None:
        """The fields of every valid entry are the entry's bytes."""
        for vector in valid_vectors():
            self.assertEqual(vector.packet.to_bytes(), vector.data, vector.name)

    def test_what_is_accepted_comes_back(self) -> None:
        """What is accepted, the doubtful entries among it, is encoded to the same bytes again."""
        accepted = [vector.data for vector in valid_vectors()]
        accepted += [vector.data for vector in doubtful_vectors() if vector.accepted]
        for data in accepted:
            self.assertEqual(Vortex.from_bytes(data).to_bytes(), data)

    def test_refuses(self) -> None:
        """Every entry that the reference refused is a protocol error."""
        for vector in doubtful_vectors():
            if not vector.accepted:
                self.assertRaises(ProtocolError, Vortex.from_bytes, vector.data)

    def test_cut_short(self) -> None:
        """No part of a valid entry, from its start to any position, is a packet."""
        for vector in valid_vectors():
            for end in range(len(vector.data)):
                self.assertRaises(RemoteProtocolError, Vortex.from_bytes, vector.data[:end])

    def test_trailing_data(self) -> None:
        """A packet with anything behind it is not one whole packet, the content of a deployed reply included."""
        for vector in valid_vectors():
            for trailing in (b"\x00", FOLLOWING.to_bytes(), vector.data, bytes(65536)):
                self.assertRaises(RemoteProtocolError, Vortex.from_bytes, vector.data + trailing)


class StreamTests(SynchronousTestCase):
    """:class:`PacketReader` says of a stream what :meth:`Vortex.from_bytes` says of a packet, however it is cut."""

    def test_valid(self) -> None:
        """Every valid entry is its packet, whole, byte by byte and split at every position."""
        for vector in valid_vectors():
            for chunks in every_cut(vector.data):
                self.assertEqual(read(PacketReader(), chunks), in_a_stream(vector.packet), vector.name)

    def test_valid_with_trailing_data(self) -> None:
        """What follows a packet is the next packet; behind a content packet it is the piece's content."""
        trailing = FOLLOWING.to_bytes()
        for vector in valid_vectors():
            expected = in_a_stream(vector.packet, trailing)
            if not isinstance(expected[-1], ContentReceived):
                expected.append(FOLLOWING)
            for chunks in every_cut(vector.data + trailing):
                self.assertEqual(read(PacketReader(), chunks), expected, vector.name)

    def test_specification_form(self) -> None:
        """The content packets, written as the specification has them, are the same events as in the deployed form."""
        seen = 0
        for vector in valid_vectors():
            packet = vector.packet
            if isinstance(packet, PieceContent) and packet.metadata.length <= 65536:
                content = bytes(packet.metadata.length)
                value = vector.data[6:] + content
                specified = vector.data[:2] + len(value).to_bytes(4, "big") + value
                expected = in_a_stream(packet, content)
                if packet.metadata.length:
                    expected.append(ContentFinished())
                for at in range(len(vector.data) + 1):
                    for data in (specified, vector.data + content):
                        self.assertEqual(read(PacketReader(), [data[:at], data[at:]]), expected, vector.name)
                self.assertEqual(Vortex.from_bytes(specified).to_bytes(), specified)
                seen += 1
        self.assertEqual(seen, 8)

    def test_refused(self) -> None:
        """Every entry that is wrong in itself is the same single error, however it is cut and whatever follows."""
        for vector in doubtful_vectors():
            if vector.accepted or vector.name in UNFINISHED:
                continue
            messages = set()
            for trailing in (b"", FOLLOWING.to_bytes()):
                for chunks in every_cut(vector.data + trailing):
                    error = self.assertRaises(RemoteProtocolError, read, PacketReader(), chunks)
                    messages.add(str(error))
            self.assertEqual(len(messages), 1, (vector.name, messages))

    def test_unfinished(self) -> None:
        """
        What is wrong only as one whole packet waits for more: in a stream a packet ends where its header says, so that
        a length less than the value is a packet and the start of another.
        """
        for vector in doubtful_vectors():
            if vector.name in UNFINISHED:
                events, buffered = UNFINISHED[vector.name]
                for chunks in every_cut(vector.data):
                    reader = PacketReader()
                    self.assertEqual(read(reader, chunks), events, vector.name)
                    self.assertEqual(reader.buffered, buffered, vector.name)

    def test_unfinished_is_finished_by_what_follows(self) -> None:
        """A length greater than the value takes from what follows; the rest of a longer value starts a packet."""
        vectors = {vector.name: vector.data for vector in doubtful_vectors()}
        greater = vectors["declared length greater than value"] + b"ok"
        less = vectors["declared length less than value"] + bytes.fromhex("fe00000000")
        for chunks in every_cut(greater):
            self.assertEqual(read(PacketReader(), chunks), [ErrorReply(packet_id=1, code=1, text="ok")])
        for chunks in every_cut(less):
            self.assertEqual(
                read(PacketReader(), chunks), [ErrorReply(packet_id=1, code=1, text=""), Close(packet_id=2)]
            )

    def test_accepted_by_the_reference(self) -> None:
        """A close with a value, which the reference accepts, is accepted, and keeps its value."""
        accepted = [vector.data for vector in doubtful_vectors() if vector.accepted]
        self.assertEqual(accepted, [Close(packet_id=1, value=b"\x00").to_bytes()])
        for chunks in every_cut(accepted[0]):
            self.assertEqual(read(PacketReader(), chunks), [Close(packet_id=1, value=b"\x00")])
