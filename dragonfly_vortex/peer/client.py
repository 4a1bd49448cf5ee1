"""
A child's side of Vortex: :class:`VortexClientProtocol` fetches one piece at a time over one connection,
:class:`VortexClientFactory` makes the connections to one parent.

The protocol is thin. What may be said when is decided by :mod:`dragonfly_vortex.wire`, whether a piece is right and
where its bytes go by :mod:`dragonfly_vortex.transport.receivers`. What remains is here: which error a piece ends with,
and whether the connection is good for another one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute

from dragonfly_vortex.errors import (
    ParentFailed,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTruncated,
    RemoteProtocolError,
    SinkFailed,
    UnexpectedPiece,
    VortexError,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest, DownloadPieceResponse, piece_id
from dragonfly_vortex.transport.low_water import LowWaterMark
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.receivers import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.transport.sockets import plain_socket
from dragonfly_vortex.transport.splicing import Splicer
from dragonfly_vortex.transport.tls import beneath, hang_up
from dragonfly_vortex.transport.tls_failures import why_tls_failed
from dragonfly_vortex.wire import (
    Close,
    Connection,
    ContentFinished,
    ContentReceived,
    ErrorCode,
    ErrorReply,
    Event,
    PieceContent,
    PieceRequest,
    Role,
    State,
)
from dragonfly_vortex.wire.text import printable

__all__ = ["MAX_PIECE_LENGTH", "ClientSettings", "VortexClientFactory", "VortexClientProtocol"]

MAX_PIECE_LENGTH = 1024 * 1024 * 1024
"""Bytes that a piece may have. Dragonfly's own pieces end at 64 MiB; nothing this side does grows with the length."""

_READ_SIZE = 256 * 1024
"""Bytes to read from a socket at a time. Twisted's default, a quarter of it, takes half as long again."""

_LOW_WATER = 256 * 1024
"""Bytes that must have come before a connection is read on in the middle of a piece."""

_WAKE_UPS = 16
"""
How often a connection is read at least during a piece. A piece that comes in time is then never silent for longer than
this part of its time, however slow it is.
"""

_TURN = 2 * 1024 * 1024
"""
Bytes to take past the wire in one turn of the reactor, where others want theirs: a millisecond's worth. Half a megabyte
leaves a third of the content to be read in the ordinary way, which every turn begins with and which costs half as much
again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """
    What all connections to all parents have in common.

    :param clock: for time-outs, and for the rests that the limiter asks for.
    :param configure_socket: sets socket options on a transport that has just connected.
    :param receive_limiter: what all content is spent from; None for no limit.
    :param allow_empty_digest: take pieces whose parent names no digest.
    :param max_piece_length: bytes that a piece may have.
    :param read_size: bytes to read from a plain socket at a time.
    :param low_water: bytes that must have come on a plain socket before it is read on in the middle of a piece; 1 for
        as soon as there are any.
    :param splicer: moves content from plain sockets to files; None has all of it read. It is closed by whoever has
        made it.
    """

    clock: IReactorTime
    configure_socket: Callable[[ITCPTransport], None] = lambda transport: None
    receive_limiter: TokenBucket | None = None
    allow_empty_digest: bool = False
    max_piece_length: int = MAX_PIECE_LENGTH
    read_size: int = _READ_SIZE
    low_water: int = _LOW_WATER
    splicer: Splicer | None = None


@dataclass(slots=True, kw_only=True)
class _Transfer:
    """
    A piece on its way.

    :param request: what was asked for.
    :param result: fires when the piece is complete or has failed.
    :param receiver: takes the content; None until the parent has said what it will send.
    :param outcome: what ``result`` fires with, as soon as that is known.
    """

    request: DownloadPieceRequest
    result: Deferred[DownloadPieceResponse]
    receiver: PieceReceiver | None = None
    outcome: DownloadPieceResponse | VortexError | None = None

    @property
    def piece_id(self) -> str:
        """The piece's name, for messages."""
        return piece_id(self.request.task_id, self.request.number)

    @property
    def progress(self) -> str:
        """How far it has come, for messages."""
        if self.receiver is None:
            return "no reply"
        return f"{self.receiver.received} of {self.receiver.metadata.length} bytes"


class _Transport(ITCPTransport, IPushProducer):
    """What Twisted's transports can do beyond the interface that a protocol is promised."""

    bufferSize = Attribute("bytes to read at a time; only where the transport has a socket of its own")


class VortexClientProtocol(Protocol):
    """
    One connection to a parent. A piece is asked for when the one before is complete, never ahead: a parent that closes
    with unread input resets the connection, and the tail of the piece would be lost.

    A piece is complete with its last byte. What the parent sends unasked behind it does not make the piece worse, but
    the connection is given up.

    :param parent: the parent's address, for messages.
    :param settings: what all connections have in common.
    :param ended: called with this connection when it has ended.
    """

    log: ClassVar[Logger] = Logger()
    transport: _Transport

    def __init__(
        self, parent: str, settings: ClientSettings, ended: Callable[[VortexClientProtocol], None] = lambda _: None
    ) -> None:
        self.parent = parent
        self.answered = False
        """Whether anything has come since the last piece was asked for."""
        self.closed_here = False
        """Whether it was this side that ended the connection."""
        self._settings = settings
        self._ended = ended
        self._conversation = Connection(Role.CHILD, settings.max_piece_length)
        self._transfer: _Transfer | None = None
        self._socket: socket.socket | None = None  # what is read from it is what the parent has sent
        self._low_water: LowWaterMark | None = None
        self._rest: IDelayedCall | None = None
        self._open = False
        self._packet_id = 0

    @property
    def usable(self) -> bool:
        """Whether a piece may be asked for now."""
        conversation = self._conversation
        idle = self._transfer is None and conversation.state is State.IDLE and not conversation.buffered
        return self._open and idle

    def download_piece(self, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        """
        Ask for a piece; only while the connection is :attr:`usable`. Cancelling the Deferred aborts the connection.

        :returns: fires with the response when the piece has been verified; fails with a
            :class:`~dragonfly_vortex.errors.PieceError` or a :class:`~dragonfly_vortex.errors.SinkFailed`.
        :raises LocalProtocolError: the request cannot be sent, or this is not the time for it.
        """
        packet = PieceRequest(
            packet_id=self._packet_id, kind=request.kind, task_id=request.task_id, number=request.number
        )
        data = self._conversation.send(packet)
        self._packet_id = (self._packet_id + 1) % 256
        self.answered = False
        result: Deferred[DownloadPieceResponse] = Deferred(self._cancel)
        self._transfer = _Transfer(request=request, result=result)
        self.transport.write(data)
        return result

    def close(self) -> None:
        """End the connection, with a goodbye where it is idle. One that has ended already stays as it is."""
        if self.usable:
            self.transport.write(self._conversation.send(Close(packet_id=self._packet_id)))
        if self._open:
            self._hang_up()

    # -- what Twisted calls

    def connectionMade(self) -> None:
        self._open = True
        tcp = beneath(self.transport)
        if plain_socket(tcp) is not None:
            tcp.bufferSize = self._at_once(self._settings.read_size)
        self._socket = plain_socket(self.transport)
        if self._socket is not None:
            self._low_water = LowWaterMark(self._socket)
        self._settings.configure_socket(tcp)

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            return
        self.answered = True
        self._spend(len(data))
        self._conversation.receive_data(data)
        try:
            self._hear()
            self._take_on()
        except RemoteProtocolError as error:
            self._spoke_wrongly(error)
        except (PieceError, SinkFailed) as error:
            self._abort(error)
        except ConnectionLost as error:
            self._abort(self._lost_error(Failure(error)))
        self._wait_for_more()
        self._deliver()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._open = False
        self._stop_resting()
        self._settle(self._lost_error(reason))
        self._ended(self)
        self._deliver()

    # -- what the parent says

    def _hear(self) -> None:
        """Follow all that has come, in order."""
        while self._open and (event := self._conversation.next_event()) is not None:
            self._follow(event)

    def _take_on(self) -> None:
        """Have the receiver of the piece under way take what the socket still holds of it, before that is read."""
        left = self._conversation.content_left
        transfer = self._transfer
        if not left or not self._open or self._rest is not None or self._socket is None:
            return
        if transfer is not None and transfer.receiver is not None:
            taken = transfer.receiver.take(self._socket, min(left, self._at_once(_TURN)))
            if taken:
                self._conversation.content_taken(taken)
                self._spend(taken)
                self._hear()

    def _wait_for_more(self) -> None:
        """Be woken when a good part of what is missing has come; before a piece, when anything has."""
        receiver = self._transfer.receiver if self._transfer is not None else None
        if self._low_water is not None and self._open:
            part = receiver.metadata.length // _WAKE_UPS if receiver is not None else 1
            wanted = min(self._conversation.content_left, self._at_once(self._settings.low_water), part)
            self._low_water.set(max(1, wanted))

    def _follow(self, event: Event) -> None:
        """Do what an event asks for. That it may come now, and of which kind it is, has been checked by the wire."""
        transfer = self._transfer
        if isinstance(event, Close):
            self._said_goodbye()
        elif transfer is not None:
            if isinstance(event, PieceContent):
                self._begin(transfer, event)
            elif isinstance(event, ErrorReply):
                self._refused(transfer, event)
            elif transfer.receiver is not None:
                self._receive(transfer, transfer.receiver, event)

    def _begin(self, transfer: _Transfer, packet: PieceContent) -> None:
        request, metadata = transfer.request, packet.metadata
        if metadata.number != request.number:
            raise UnexpectedPiece(
                self.parent, transfer.piece_id, f"expected piece number {request.number}, got {metadata.number}"
            )
        transfer.receiver = PieceReceiver(
            self.parent,
            transfer.piece_id,
            metadata,
            MemorySink() if request.sink is None else request.sink,
            allow_empty_digest=self._settings.allow_empty_digest,
            splicer=self._settings.splicer,
        )
        transfer.receiver.begin()

    def _receive(self, transfer: _Transfer, receiver: PieceReceiver, event: Event) -> None:
        if isinstance(event, ContentReceived):
            receiver.write(event.data)
        elif isinstance(event, ContentFinished):
            transfer.outcome = DownloadPieceResponse(metadata=receiver.metadata, content=receiver.finish())

    def _refused(self, transfer: _Transfer, packet: ErrorReply) -> None:
        """The parent has no piece for us. It goes on after "not found", and closes after everything else."""
        reason = f"expected the piece, got error {packet.code}: {printable(packet.text)}"
        if packet.code == ErrorCode.NOT_FOUND:
            transfer.outcome = PieceNotFound(self.parent, transfer.piece_id, reason)
        else:
            transfer.outcome = ParentFailed(self.parent, transfer.piece_id, reason, packet.code)
            self._hang_up()

    def _said_goodbye(self) -> None:
        """The parent will answer nothing more: to a piece under way, that is the end of the connection."""
        self.answered = False
        self._settle_unreachable("closed before a reply")
        self._open = False
        hang_up(self.transport)

    def _spoke_wrongly(self, error: RemoteProtocolError) -> None:
        transfer = self._transfer
        if transfer is None or transfer.outcome is not None:
            self.log.warn("parent {parent} sent what nobody asked for: {reason}", parent=self.parent, reason=str(error))
            self._abort(None)
        else:
            wrong = ParentSpokeWrongly(self.parent, transfer.piece_id, str(error))
            wrong.__cause__ = error
            self._abort(wrong)

    # -- how a piece ends

    def _settle(self, outcome: VortexError | None) -> None:
        """Decide how the piece under way ends, if that has not been decided yet."""
        transfer = self._transfer
        if transfer is not None and transfer.outcome is None:
            transfer.outcome = outcome
            if transfer.receiver is not None:
                transfer.receiver.fail()

    def _settle_unreachable(self, reason: str) -> None:
        if self._transfer is not None:
            self._settle(ParentUnreachable(self.parent, self._transfer.piece_id, reason))

    def _deliver(self) -> None:
        """
        Tell of the piece that has ended. This comes last, because whoever is told may ask for the next piece at once.
        """
        transfer = self._transfer
        if transfer is None or transfer.outcome is None:
            return
        self._transfer = None
        if isinstance(transfer.outcome, DownloadPieceResponse):
            transfer.result.callback(transfer.outcome)
        else:
            transfer.result.errback(transfer.outcome)

    def _cancel(self, result: Deferred[DownloadPieceResponse]) -> None:
        """Nobody wants the piece any more. Where the next one starts can only be known by reading it all: so abort."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            if transfer.receiver is not None:
                transfer.receiver.fail()
            self._abort(None)
            result.errback(CancelledError(transfer.progress))

    def _lost_error(self, reason: Failure) -> VortexError | None:
        """What the end of the connection means for the piece under way."""
        transfer = self._transfer
        if transfer is None:
            return None
        how = "closed" if reason.check(ConnectionDone) else "lost"
        failed = why_tls_failed(reason.value)
        error: ParentUnreachable
        if transfer.receiver is None:
            error = ParentUnreachable(self.parent, transfer.piece_id, failed or f"{how} before a reply")
        else:
            error = PieceTruncated(self.parent, transfer.piece_id, f"{failed or how} after {transfer.progress}")
        error.__cause__ = reason.value
        return error

    # -- how the connection ends

    def _hang_up(self) -> None:
        """End the connection when everything that was written has gone."""
        self._open = False
        self.closed_here = True
        self._stop_resting()
        hang_up(self.transport)

    def _abort(self, outcome: VortexError | None) -> None:
        """End the connection now, and with it the piece under way."""
        self._settle(outcome)
        self._open = False
        self.closed_here = True
        self._stop_resting()
        self.transport.abortConnection()

    # -- how fast

    def _at_once(self, length: int) -> int:
        """As many bytes as may come at once, within the limiter's step."""
        limiter = self._settings.receive_limiter
        return length if limiter is None else min(length, limiter.step)

    def _spend(self, length: int) -> None:
        """Stop reading for as long as the limiter asks for; the kernel's window then slows the parent down."""
        limiter = self._settings.receive_limiter
        seconds = limiter.spend(length) if limiter is not None else 0.0
        if seconds > 0 and self._rest is None:
            self.transport.pauseProducing()
            self._rest = self._settings.clock.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._rest = None
        self.transport.resumeProducing()

    def _stop_resting(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.cancel()


class VortexClientFactory(Factory):
    """
    Connections to one parent.

    :param parent: the parent's address, for messages.
    :param settings: what all connections have in common.
    :param ended: called with each connection when it has ended.
    """

    noisy = False

    def __init__(
        self, parent: str, settings: ClientSettings, ended: Callable[[VortexClientProtocol], None] = lambda _: None
    ) -> None:
        self.parent = parent
        self.settings = settings
        self._ended = ended

    def buildProtocol(self, addr: IAddress | None) -> VortexClientProtocol:
        protocol = VortexClientProtocol(self.parent, self.settings, self._ended)
        protocol.factory = self
        return protocol
