"""
Packets of every form, with every value that their fields may have, for hypothesis to draw from.
"""

from __future__ import annotations

from hypothesis import strategies as st

from dragonfly_vortex.wire import (
    Close,
    ErrorReply,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Reserved,
    Vortex,
)
from dragonfly_vortex.wire.metadata import EARLIEST_CREATED_AT, LATEST_CREATED_AT

BYTE = st.integers(0, 255)
#: The numbers at which a sign would show are drawn often: which others are, depends on the modules that are loaded.
U32 = st.sampled_from((2**31 - 1, 2**31, 2**32 - 1)) | st.integers(0, 2**32 - 1)
U64 = st.sampled_from((2**63 - 1, 2**63, 2**64 - 1)) | st.integers(0, 2**64 - 1)
KINDS = st.sampled_from(PieceKind)
SMALL_VALUES = st.binary(max_size=40)

TASK_IDS = st.one_of(
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.text(st.characters(max_codepoint=127), min_size=64, max_size=64),
    st.text(st.characters(min_codepoint=128, max_codepoint=0x7FF), min_size=32, max_size=32),
)
"""Texts of 64 bytes: what a task ID is, and what the wire lets it be."""

REQUESTS = st.builds(PieceRequest, packet_id=BYTE, kind=KINDS, task_id=TASK_IDS, number=U32)


def metadata(lengths: st.SearchStrategy[int] = U64) -> st.SearchStrategy[PieceMetadata]:
    """
    Metadata of pieces.

    :param lengths: the pieces' lengths in bytes.
    """
    return st.builds(
        PieceMetadata,
        number=U32,
        offset=U64,
        length=lengths,
        digest=st.text(max_size=70),
        parent_id=st.text(max_size=40),
        traffic_type=BYTE,
        cost=U64,
        created_at=st.integers(EARLIEST_CREATED_AT, LATEST_CREATED_AT),
        extra=SMALL_VALUES,
    )


CONTENTS = st.builds(PieceContent, packet_id=BYTE, kind=KINDS, metadata=metadata())
"""Content packets in the deployed form."""


@st.composite
def specified_contents(draw: st.DrawFn) -> PieceContent:
    """Content packets in the specification's form."""
    content = draw(SMALL_VALUES)
    described = draw(metadata(st.just(len(content))))
    return PieceContent(packet_id=draw(BYTE), kind=draw(KINDS), metadata=described, content=content)


ERRORS = st.builds(ErrorReply, packet_id=BYTE, code=BYTE, text=st.text())
CLOSES = st.builds(Close, packet_id=BYTE, value=SMALL_VALUES)
RESERVED = st.builds(Reserved, packet_id=BYTE, reserved_tag=st.integers(8, 253), value=SMALL_VALUES)

PACKETS: st.SearchStrategy[Vortex] = st.one_of(REQUESTS, CONTENTS, specified_contents(), ERRORS, CLOSES, RESERVED)
"""Every packet that can be sent."""


@st.composite
def nearly_packets(draw: st.DrawFn) -> bytes:
    """Bytes that have much of a packet: a real one with a few bytes changed, or a header that fits any value."""
    if draw(st.booleans()):
        data = bytearray(draw(PACKETS).to_bytes())
        for at in draw(st.lists(st.integers(0, len(data) - 1), max_size=3)):
            data[at] = draw(BYTE)
        return bytes(data)
    value = draw(st.binary(max_size=120))
    return bytes((draw(BYTE), draw(BYTE))) + len(value).to_bytes(4, "big") + value


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Packets one behind the other, in both forms of content, all of it there."""
    parts = []
    for packet in draw(st.lists(st.one_of(REQUESTS, specified_contents(), ERRORS, CLOSES, RESERVED), max_size=4)):
        if isinstance(packet, PieceContent) and draw(st.booleans()):
            bare = PieceContent(packet_id=packet.packet_id, kind=packet.kind, metadata=packet.metadata)
            parts.append(bare.to_bytes() + packet.content)
        else:
            parts.append(packet.to_bytes())
    return b"".join(parts)


ANYTHING = st.one_of(
    st.binary(max_size=200), nearly_packets(), streams(), st.builds(bytes.__add__, streams(), nearly_packets())
)
"""Bytes from nonsense to sense."""

PLACES = st.lists(st.integers(0, 600), max_size=12)
"""Where to cut a stream."""
