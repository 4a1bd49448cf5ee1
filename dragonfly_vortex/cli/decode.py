"""``dfvortex decode``: says what captured bytes of a Vortex connection mean, packet by packet."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO

from msgspec import Struct

from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.terminal import counted
from dragonfly_vortex.cli.values import STDOUT
from dragonfly_vortex.digest import Hasher, new_hash, parse_digest, verify
from dragonfly_vortex.errors import RemoteProtocolError, UsageError
from dragonfly_vortex.wire import (
    Close,
    ContentFinished,
    ContentReceived,
    ErrorCode,
    ErrorReply,
    PacketReader,
    PieceContent,
    PieceRequest,
    Reserved,
    Role,
    TrafficType,
    Vortex,
)
from dragonfly_vortex.wire.connection import SENDERS
from dragonfly_vortex.wire.messages import printable

__all__ = ["decode"]

_READ_SIZE = 1 << 16

_CAPTURES = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
"""How the files of tcpdump and Wireshark begin, which have the headers of lower protocols between a stream's bytes."""


class _Packet(Struct, frozen=True, kw_only=True):
    """
    A packet of a stream.

    :param offset: where it starts, in bytes.
    :param content: for a piece, how much of its content is there and whether it fits its digest.
    :param is_sound: whether it is complete and fits its digest.
    """

    offset: int
    packet: Vortex
    content: str = ""
    is_sound: bool = True


def decode(arguments: Namespace) -> ExitStatus:
    """
    ``dfvortex decode``: a line for each packet. With a file of each direction, each reply follows its request.

    :raises RemoteProtocolError: the bytes are no Vortex, or end within a packet.
    """
    is_sound = True
    with ExitStack() as stack:
        paths = [arguments.path] if arguments.replies is None else [arguments.path, arguments.replies]
        roles = [None] if arguments.replies is None else [Role.CHILD, Role.PARENT]
        streams = []
        for path, role in zip(paths, roles, strict=True):
            file = sys.stdin.buffer if path == STDOUT else stack.enter_context(open(path, "rb"))
            streams.append(_Stream(file, "standard input" if path == STDOUT else str(path), role))
        for stream, packet in _in_turn(streams):
            is_sound = is_sound and packet.is_sound
            print(f"{packet.offset:>12} {_direction(stream.role, packet.packet)} {_describe(packet)}")
    return ExitStatus.DONE if is_sound else ExitStatus.DIGEST_MISMATCH


def _in_turn(streams: list[_Stream]) -> Iterator[tuple[_Stream, _Packet]]:
    """The packets of the first stream, and after each request the next packet of the other one; at last the rest."""
    replies = streams[1].packets() if len(streams) > 1 else iter(())
    for packet in streams[0].packets():
        yield streams[0], packet
        if isinstance(packet.packet, PieceRequest):
            for reply in replies:
                yield streams[1], reply
                break
    for reply in replies:
        yield streams[1], reply


class _Stream:
    """
    The bytes of one direction.

    :param file: has them.
    :param name: for messages.
    :param role: which side sent them; None where that is not known.
    """

    def __init__(self, file: BinaryIO, name: str, role: Role | None) -> None:
        self.role = role
        self._file = file
        self._name = name

    def packets(self) -> Iterator[_Packet]:
        """
        The packets, in order. No more is kept of one than its limit on the wire, and of a content nothing.

        :raises RemoteProtocolError: the bytes are no Vortex, or end within a packet.
        """
        reader, received, start = PacketReader(), 0, 0
        piece: PieceContent | None = None
        hasher: Hasher | None = None
        while True:
            try:
                event = reader.next_event()
            except RemoteProtocolError as error:
                raise RemoteProtocolError(f"{self._name}: the packet at byte {start}: {error}") from error
            if event is None:
                data = self._file.read(_READ_SIZE)
                if not received and data.startswith(_CAPTURES):
                    raise UsageError(
                        f"{self._name}: expected the bytes that one side has sent, got a capture of whole frames;"
                        " `tcpflow -r FILE` makes a file of each side's bytes of it"
                    )
                if not data:
                    break
                received += len(data)
                reader.receive_data(data)
            elif isinstance(event, PieceContent):
                piece, hasher = event, _hasher_for(event.metadata.digest)
            elif isinstance(event, ContentReceived):
                if hasher is not None:
                    hasher.update(event.data)
            else:
                if isinstance(event, ContentFinished) and piece is not None:
                    is_sound = hasher is None or verify(hasher, piece.metadata.digest)
                    verdict = "nothing to verify it by" if hasher is None else "verified"
                    if hasher is not None and not is_sound:
                        verdict = f"expected this digest, got {hasher.text()}"
                    yield _Packet(offset=start, packet=piece, content=verdict, is_sound=is_sound)
                elif isinstance(event, Vortex):
                    yield _Packet(offset=start, packet=event)
                start, piece = received - reader.buffered, None
        if piece is not None:
            there = piece.metadata.length - reader.content_left
            yield _Packet(offset=start, packet=piece, content=f"{there} bytes of it are there", is_sound=False)
        if received > start:
            raise RemoteProtocolError(
                f"{self._name}: expected the rest of the packet at byte {start}, got the end after"
                f" {counted(received - start, 'byte')} of it"
            )


def _hasher_for(digest: str) -> Hasher | None:
    """What verifies a content; None for what is no digest."""
    try:
        return new_hash(parse_digest(digest)[0])
    except ValueError:
        return None


def _direction(role: Role | None, packet: Vortex) -> str:
    """``>`` for what a child sends, ``<`` for what a parent sends, ``!`` where the sender may not send it."""
    senders = SENDERS.get(type(packet), frozenset())
    if not senders or (role is not None and role not in senders):
        return "!"
    if role is None and len(senders) > 1:
        return "-"
    return ">" if Role.CHILD in (senders if role is None else (role,)) else "<"


def _describe(packet: _Packet) -> str:
    """What a packet says, on one line of limited length: a stranger has written it."""
    what = packet.packet
    if isinstance(what, PieceRequest):
        return f"request {what.packet_id}: {what.kind.label} piece {what.number} of task {printable(what.task_id)}"
    if isinstance(what, PieceContent):
        row = what.metadata
        origin = {each.value: each.name.lower() for each in TrafficType}.get(row.traffic_type, str(row.traffic_type))
        parts = (
            f"{counted(row.length, 'byte')} at {row.offset}",
            f"{printable(row.digest) or 'no digest'}: {packet.content}",
            f"parent {printable(row.parent_id) or 'unknown'}",
            f"traffic {origin}",
            f"cost {row.cost} s",
            f"created at {row.created_at}",
        )
        return f"content {what.packet_id}: {what.kind.label} piece {row.number}, {', '.join(parts)}"
    if isinstance(what, ErrorReply):
        code = {each.value: f" ({each.name.lower()})" for each in ErrorCode}.get(what.code, "")
        return f"error {what.packet_id}: code {what.code}{code}: {printable(what.text)}"
    if isinstance(what, Close):
        return f"close {what.packet_id}" + (f": {counted(len(what.value), 'byte')}" if what.value else "")
    if isinstance(what, Reserved):
        return f"reserved {what.packet_id}: tag {what.reserved_tag}, {counted(len(what.value), 'byte')}"
    return repr(what)
