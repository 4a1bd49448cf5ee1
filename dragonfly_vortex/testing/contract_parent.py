"""
The parent that a downloader's contract needs: it offers pieces, each honestly or with one fault.

What a fault looks like on the wire is the transport's own; :class:`VortexContractParent` is the one for Vortex/TCP, on
a real socket.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTCP

from dragonfly_vortex.testing.pieces import SamplePiece, reply_bytes, sample_piece
from dragonfly_vortex.testing.scripted_parent import End, ScriptedParent, Send, Step
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceRequest

__all__ = ["ContractParent", "Fault", "Offer", "VortexContractParent"]


class Fault(enum.Enum):
    """The faults that a parent can put into an offered piece."""

    NONE = "nothing"
    NOT_FOUND = "the parent says that it does not have it"
    INVALID_ARGUMENT = "the parent says that the request is invalid"
    INTERNAL = "the parent says that it has failed"
    WRONG_BYTE = "the content has one wrong byte in its middle"
    NO_DIGEST = "the parent names no digest"
    WRONG_NUMBER = "the parent sends another piece"
    TRUNCATED = "the connection ends in the middle of the content"
    STALLED = "the parent stops in the middle of the content"
    SILENT = "the parent does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    A piece that a parent offers.

    :param piece: the piece as it should be.
    :param fault: what is wrong with it.
    """

    piece: SamplePiece
    fault: Fault = Fault.NONE


class ContractParent(Protocol):
    """The interface of a parent in the contract."""

    address: str
    """Where it listens, ``HOST:PORT``."""

    def until_asked(self, requests: int = 1) -> Deferred[None]:
        """Fires when that many requests have arrived, in all."""

    def until_deserted(self) -> Deferred[None]:
        """Fires when no transfer and no connection is left."""


class VortexContractParent(ScriptedParent):
    """
    A parent that speaks Vortex/TCP. It says "not found" to what it does not offer.

    :param offers: what it has.
    :param closes: end the connection after each reply, and echo no packet ID, as the reference does.
    :param tls: what connections speak; None for no TLS.
    """

    def __init__(
        self,
        reactor: IReactorTCP,
        offers: Iterable[Offer],
        *,
        closes: bool = False,
        tls: IOpenSSLServerConnectionCreator | None = None,
    ) -> None:
        super().__init__(reactor, self._steps_for, tls=tls)
        self._offers = {(offer.piece.kind, offer.piece.number): offer for offer in offers}
        self._closes = closes

    def _steps_for(self, request: PieceRequest) -> Sequence[Step]:
        offer = self._offers.get((request.kind, request.number))
        fault = Fault.NOT_FOUND if offer is None else offer.fault
        piece = sample_piece(0) if offer is None else offer.piece
        packet_id = 255 - request.packet_id if self._closes else request.packet_id
        steps = _FAULTS[fault](piece, packet_id)
        return [*steps, End()] if self._closes and fault not in (Fault.SILENT, Fault.STALLED) else steps


def _honest(piece: SamplePiece, packet_id: int) -> Sequence[Step]:
    return [Send(reply_bytes(piece, packet_id=packet_id))]


def _error(code: ErrorCode, packet_id: int) -> Sequence[Step]:
    return [Send(ErrorReply(packet_id=packet_id, code=code, text=f"told to say {code.name}").to_bytes())]


def _failing(code: ErrorCode) -> Callable[[SamplePiece, int], Sequence[Step]]:
    """An error after which a parent closes, all but "not found"."""
    end = [] if code is ErrorCode.NOT_FOUND else [End()]
    return lambda piece, packet_id: [*_error(code, packet_id), *end]


def _wrong_byte(piece: SamplePiece, packet_id: int) -> Sequence[Step]:
    middle = len(piece.content) // 2
    wrong = bytes([piece.content[middle] ^ 1])
    return _honest(replace(piece, content=piece.content[:middle] + wrong + piece.content[middle + 1 :]), packet_id)


def _no_digest(piece: SamplePiece, packet_id: int) -> Sequence[Step]:
    return _honest(replace(piece, metadata=replace(piece.metadata, digest="")), packet_id)


def _wrong_number(piece: SamplePiece, packet_id: int) -> Sequence[Step]:
    return _honest(replace(piece, metadata=replace(piece.metadata, number=piece.number + 1)), packet_id)


def _half(piece: SamplePiece, packet_id: int) -> Sequence[Step]:
    return [Send(reply_bytes(piece, packet_id=packet_id)[: -(len(piece.content) // 2)])]


_FAULTS: dict[Fault, Callable[[SamplePiece, int], Sequence[Step]]] = {
    Fault.NONE: _honest,
    Fault.NOT_FOUND: _failing(ErrorCode.NOT_FOUND),
    Fault.INVALID_ARGUMENT: _failing(ErrorCode.INVALID_ARGUMENT),
    Fault.INTERNAL: _failing(ErrorCode.INTERNAL),
    Fault.WRONG_BYTE: _wrong_byte,
    Fault.NO_DIGEST: _no_digest,
    Fault.WRONG_NUMBER: _wrong_number,
    Fault.TRUNCATED: lambda piece, packet_id: [*_half(piece, packet_id), End()],
    Fault.STALLED: _half,
    Fault.SILENT: lambda piece, packet_id: [],
}
"""What a parent plays for a piece with a fault."""
