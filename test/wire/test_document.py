"""
``docs/wire-format.md`` says what the code does: its examples are decoded, its tables are compared with the code's.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.wire import (
    ContentFinished,
    ContentReceived,
    ErrorCode,
    ErrorReply,
    PacketReader,
    PieceContent,
    PieceKind,
    PieceRequest,
    Role,
    TrafficType,
    Vortex,
)
from dragonfly_vortex.wire.connection import SENDERS, TRANSITIONS
from dragonfly_vortex.wire.metadata import EARLIEST_CREATED_AT, LATEST_CREATED_AT, MIN_METADATA_LENGTH
from dragonfly_vortex.wire.tags import MAX_VALUE_LENGTH, REQUEST_LENGTH
from test.wire.streams import read
from test.wire.vectors import valid_vectors

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "wire-format.md"


def section(name: str) -> str:
    """The part of the document between the marks of that name."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.findall(rf"<!-- {re.escape(name)} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    if len(found) != 1:
        raise AssertionError(f"expected one part named {name!r} in {DOCUMENT.name}, got {len(found)}")
    return str(found[0])


def rows(name: str) -> list[list[str]]:
    """The cells of the table of that name, without its head, and without the marks of code."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def conversation_table() -> str:
    """The tables of a conversation as the document has them."""
    lines = ["| while | may be said | by | then |", "|---|---|---|---|"]
    for state, row in TRANSITIONS.items():
        for what, following in row.items():
            speakers = " or ".join(role.value for role in Role if role in SENDERS[what])
            lines.append(f"| {state.value} | `{what.__name__}` | {speakers} | {following.value} |")
        if not row:
            lines.append(f"| {state.value} | nothing | | |")
    return "\n".join(lines) + "\n"


class ExampleTests(SynchronousTestCase):
    """Every example's bytes decode to what stands beside them."""

    def example(self, name: str) -> tuple[Vortex, dict[str, str]]:
        """
        The packet that an example's bytes are, and what the document says of its fields. The reference encodes the
        same bytes.
        """
        data, said = b"", {}
        for line in section(name).strip("`\n").splitlines():
            code, field, value = re.split("  +", line)
            data += bytes.fromhex(code)
            said[field] = value
        self.assertIn(data, [vector.data for vector in valid_vectors()])
        packet = Vortex.from_bytes(data)
        self.assertEqual(said.pop("packet ID"), str(packet.packet_id))
        self.assertEqual(said.pop("tag"), str(packet.tag))
        self.assertEqual(said.pop("length"), str(len(data) - 6))
        return packet, said

    def test_request(self) -> None:
        """The example of a request."""
        packet, said = self.example("example: request")
        if not isinstance(packet, PieceRequest):
            self.fail(f"expected a request, got {packet}")
        self.assertEqual(said, {"task ID": packet.task_id, "piece number": str(packet.number)})

    def test_content(self) -> None:
        """The example of a content packet, field by field of its metadata."""
        packet, said = self.example("example: content")
        if not isinstance(packet, PieceContent):
            self.fail(f"expected content, got {packet}")
        metadata = packet.metadata
        self.assertEqual(
            said,
            {
                "metadata length": str(len(packet.to_bytes()) - 10),
                "number": str(metadata.number),
                "offset": str(metadata.offset),
                "piece length": str(metadata.length),
                "digest length": str(len(metadata.digest)),
                "digest": metadata.digest,
                "parent ID length": str(len(metadata.parent_id)),
                "parent ID": metadata.parent_id,
                "traffic type": str(metadata.traffic_type),
                "cost": str(metadata.cost),
                "created at": str(metadata.created_at),
            },
        )

    def test_error(self) -> None:
        """The example of an error."""
        packet, said = self.example("example: error")
        if not isinstance(packet, ErrorReply):
            self.fail(f"expected an error, got {packet}")
        self.assertEqual(said, {"code": str(packet.code), "text": packet.text})

    def test_close(self) -> None:
        """The example of a close."""
        packet, said = self.example("example: close")
        self.assertEqual((type(packet).__name__, said), ("Close", {}))

    def test_two_forms(self) -> None:
        """The two forms of a piece are the same piece: the packet, its content and the end."""
        deployed, specified = (
            bytes.fromhex("".join(code.split()))
            for code in re.findall(r"```\n(.*?)```", section("two forms"), re.DOTALL)
        )
        events = read(PacketReader(), [deployed])
        packet, content, end = events
        if not (isinstance(packet, PieceContent) and isinstance(content, ContentReceived)):
            self.fail(f"expected a piece, got {events}")
        self.assertEqual((content.data, packet.metadata.length, end), (b"hello", 5, ContentFinished()))
        self.assertEqual(read(PacketReader(), [specified]), events)
        self.assertEqual(Vortex.from_bytes(deployed[:-5]).to_bytes(), deployed[:-5])
        self.assertEqual(Vortex.from_bytes(specified).to_bytes(), specified)
        self.assertEqual(len(deployed), len(specified))


class TableTests(SynchronousTestCase):
    """Every table says what the code's tables say."""

    def test_tags(self) -> None:
        """The kinds and their tags."""
        self.assertEqual(
            rows("kinds"), [[kind.label, str(kind.request_tag), str(kind.content_tag)] for kind in PieceKind]
        )

    def test_error_codes(self) -> None:
        """The error codes."""
        self.assertEqual(
            [row[:2] for row in rows("error codes")],
            [[str(int(code)), code.name.lower().replace("_", " ")] for code in ErrorCode] + [["4-255", "reserved"]],
        )

    def test_traffic_types(self) -> None:
        """The numbers of traffic types."""
        for traffic_type in TrafficType:
            name = traffic_type.name.lower().replace("_", " ")
            self.assertIn(f"{int(traffic_type)} {name}", section("metadata"))

    def test_metadata(self) -> None:
        """The metadata's fields follow one another, from 0 to the least length, whatever the texts' lengths are."""
        at = 0
        for offset, length, *_ in rows("metadata"):
            texts = {"": 0, "D": 100, "P": 10_000}
            place = sum(int(part) if part.isdigit() else texts[part] for part in offset.split(" + "))
            self.assertEqual(place, at, offset)
            at += texts[length] if length in texts else int(length)
        self.assertEqual(at, MIN_METADATA_LENGTH + 10_100)

    def test_limits(self) -> None:
        """Our limits."""
        ours = {row[0]: row[1] for row in rows("limits")}
        named = ("a request's value", "an error's, a close's, a reserved packet's value", "metadata", "created at")
        numbers = [re.findall("[\\d,\N{MINUS SIGN}]+", ours[name]) for name in named]
        expected = [
            [REQUEST_LENGTH],
            [MAX_VALUE_LENGTH],
            [MIN_METADATA_LENGTH, MAX_VALUE_LENGTH],
            [EARLIEST_CREATED_AT, LATEST_CREATED_AT],
        ]
        self.assertEqual(
            numbers, [[f"{number:,}".replace("-", "\N{MINUS SIGN}") for number in row] for row in expected]
        )

    def test_conversation(self) -> None:
        """The conversation's table."""
        self.assertEqual(section("conversation"), conversation_table())
