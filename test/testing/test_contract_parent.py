"""Tests of the contract's parent: its faults are what they promise, as the wire's reader sees them."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.digest import new_hash
from dragonfly_vortex.testing.contract_parent import Fault, Offer, VortexContractParent
from dragonfly_vortex.testing.pieces import TASK_ID, sample_piece
from dragonfly_vortex.wire import (
    ContentFinished,
    ContentReceived,
    ErrorCode,
    ErrorReply,
    Event,
    PacketReader,
    PieceContent,
    PieceKind,
    PieceRequest,
)

PIECE = sample_piece(1000, number=5)


class VortexContractParentTests(TestCase):
    """Each fault, over a socket."""

    def ask(self, fault: Fault, number: int = 5, closes: bool = False) -> Deferred[tuple[list[Event], bool]]:
        """
        What a child reads for its request, and whether the connection has ended then. It has not where nothing more
        comes for a moment after the parent has answered.
        """
        offers = [Offer(piece=PIECE, fault=fault)]
        parent = VortexContractParent(IReactorTCP(reactor), offers, closes=closes)
        host, port = parent.start().split(":")
        self.addCleanup(parent.stop)
        request = PieceRequest(packet_id=9, kind=PieceKind.STANDARD, task_id=TASK_ID, number=number)

        def converse() -> tuple[list[Event], bool]:
            reader, has_answered = PacketReader(), False
            with socket.create_connection((host, int(port)), timeout=120) as child:
                child.sendall(request.to_bytes())
                child.settimeout(0.1)
                while True:
                    try:
                        data = child.recv(65536)
                    except TimeoutError:
                        if has_answered:
                            return list(iter(reader.next_event, None)), False
                        has_answered = bool(parent.requests)
                        continue
                    if not data:
                        return list(iter(reader.next_event, None)), True
                    reader.receive_data(data)

        return deferToThread(converse)

    async def assert_piece(self, fault: Fault, **changed: object) -> bytes:
        """The parent sends a piece whose metadata are true but for these, and whose content comes back."""
        events, ended = await self.ask(fault)
        self.assertFalse(ended)
        packet = events[0]
        assert isinstance(packet, PieceContent)
        for name in ("number", "offset", "length", "digest"):
            self.assertEqual(getattr(packet.metadata, name), changed.get(name, getattr(PIECE.metadata, name)))
        self.assertEqual(packet.packet_id, 9)
        self.assertEqual(events[-1], ContentFinished())
        return content_of(events)

    async def test_honest(self) -> None:
        """Without a fault the piece comes as it is."""
        self.assertEqual(await self.assert_piece(Fault.NONE), PIECE.content)

    async def test_wrong_byte(self) -> None:
        """One byte is another one, and the digest is that of the right content."""
        content = await self.assert_piece(Fault.WRONG_BYTE)
        self.assertEqual(sum(a != b for a, b in zip(content, PIECE.content, strict=True)), 1)
        hasher = new_hash("crc32")
        hasher.update(content)
        self.assertNotEqual(hasher.text(), PIECE.metadata.digest)

    async def test_no_digest(self) -> None:
        """The digest is empty."""
        self.assertEqual(await self.assert_piece(Fault.NO_DIGEST, digest=""), PIECE.content)

    async def test_wrong_number(self) -> None:
        """The number is the next one."""
        await self.assert_piece(Fault.WRONG_NUMBER, number=6)

    async def test_errors(self) -> None:
        """Errors have their codes, and all but "not found" end the connection; what is not offered is not found."""
        for fault, code, number in (
            (Fault.NOT_FOUND, ErrorCode.NOT_FOUND, 5),
            (Fault.INVALID_ARGUMENT, ErrorCode.INVALID_ARGUMENT, 5),
            (Fault.INTERNAL, ErrorCode.INTERNAL, 5),
            (Fault.NONE, ErrorCode.NOT_FOUND, 6),
        ):
            (event,), ended = await self.ask(fault, number)
            assert isinstance(event, ErrorReply)
            self.assertEqual((event.code, ended), (code, code is not ErrorCode.NOT_FOUND))

    async def test_unfinished(self) -> None:
        """Half of the content comes, and then the end or nothing; or nothing at all."""
        for fault, expected, expected_end in (
            (Fault.TRUNCATED, 500, True),
            (Fault.STALLED, 500, False),
            (Fault.SILENT, 0, False),
        ):
            events, ended = await self.ask(fault)
            self.assertEqual((len(content_of(events)), ended), (expected, expected_end))
            self.assertNotIn(ContentFinished(), events)

    async def test_closing(self) -> None:
        """A parent like the reference's ends the connection behind its reply, whose packet ID is not the request's."""
        events, ended = await self.ask(Fault.NONE, closes=True)
        assert isinstance(events[0], PieceContent)
        self.assertNotEqual(events[0].packet_id, 9)
        self.assertEqual((content_of(events), ended), (PIECE.content, True))


def content_of(events: list[Event]) -> bytes:
    """The content among the events."""
    return b"".join(bytes(event.data) for event in events if isinstance(event, ContentReceived))
