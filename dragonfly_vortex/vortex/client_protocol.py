"""
A child's side of Vortex: :class:`VortexClientProtocol` fetches one piece at a time over one connection,
:class:`VortexClientFactory` makes the connections to one parent.

The protocol is thin. What may be said when is decided by :mod:`dragonfly_vortex.wire`, what it means for a piece by
:mod:`dragonfly_vortex.vortex.transfer`, how fast the connection is read by
:mod:`dragonfly_vortex.transport.read_pacing`. What remains is here: in which order it is done, and whether the
connection is good for another piece.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import ClassVar

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute

from dragonfly_vortex.errors import PieceError, RemoteProtocolError, SinkFailed
from dragonfly_vortex.geometry import MAX_PIECE_LENGTH
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.read_pacing import LOW_WATER, READ_SIZE, Pace
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.socket_options import beneath, hang_up, plain_socket
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.transport.wrong_port import LONGEST, what_is_sent
from dragonfly_vortex.vortex.transfer import Transfer
from dragonfly_vortex.wire import Close, Connection, ErrorCode, ErrorReply, PieceRequest, Role, State

__all__ = ["ClientSettings", "VortexClientFactory", "VortexClientProtocol"]

_A_WHILE = 0.5
"""Seconds without a byte after which a connection is read on with the next one."""


class ClientSettings(Struct, frozen=True, kw_only=True):
    """
    The settings of all connections to all parents.

    :param clock: for time-outs, and for the rests that the limiter asks for.
    :param configure_socket: sets socket options on a transport that has just connected.
    :param receive_limiter: what all content is spent from; None for no limit.
    :param allow_empty_digest: take pieces whose parent names no digest.
    :param max_piece_length: bytes that a piece may have.
    :param read_size: bytes to read from a plain socket at a time.
    :param low_water: bytes that must have arrived on a plain socket before it is read again in the middle of a piece;
        1: as soon as there are any.
    :param splicer: moves content from plain sockets to files; None: all content is read. Its creator closes it.
    """

    clock: IReactorTime
    configure_socket: Callable[[ITCPTransport], None] = lambda transport: None
    receive_limiter: TokenBucket | None = None
    allow_empty_digest: bool = False
    max_piece_length: int = MAX_PIECE_LENGTH
    read_size: int = READ_SIZE
    low_water: int = LOW_WATER
    splicer: Splicer | None = None


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
    _pace: Pace

    def __init__(
        self, parent: str, settings: ClientSettings, ended: Callable[[VortexClientProtocol], None] = lambda _: None
    ) -> None:
        self.parent = parent
        self.answered = False
        """Whether any byte has arrived since the last request."""
        self.closed_here = False
        """Whether it was this side that ended the connection."""
        self._progressed_at = float("-inf")  # when something came last
        self._rested_before = 0.0  # the piece that is under way
        self._settings = settings
        self._ended = ended
        self._conversation = Connection(Role.CHILD, settings.max_piece_length)
        self._transfer: Transfer | None = None
        self._socket: socket.socket | None = None  # what is read from it is what the parent has sent
        self._beneath: socket.socket | None = None  # what is read from it may be for TLS to decrypt
        self._receive: Callable[[socket.socket, int], memoryview] | None = None  # TLSTransport.receive
        self._open = False
        self._packet_id = 0
        self._first = b""  # the first bytes that arrived, by which another protocol is recognized

    @property
    def usable(self) -> bool:
        """Whether a piece may be asked for now."""
        conversation = self._conversation
        idle = self._transfer is None and conversation.state is State.IDLE and not conversation.buffered
        return self._open and idle

    @property
    def progressed_at(self) -> float:
        """When the last bytes arrived, or the limiter's last rest ended."""
        return max(self._progressed_at, self._pace.rests_until)

    def look(self) -> None:
        """Read slow bytes at once, if nothing has been read for a while."""
        if self._open and self._socket is not None and self.progressed_at <= self._settings.clock.seconds() - _A_WHILE:
            self._pace.wait_for_any()

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
        self._rested_before = self._pace.rested
        result: Deferred[DownloadPieceResponse] = Deferred(self._cancel)
        self._transfer = Transfer(
            self.parent,
            request,
            result,
            packet_id=packet.packet_id,
            allow_empty_digest=self._settings.allow_empty_digest,
            splicer=self._settings.splicer,
        )
        self._send(data)
        return result

    def close(self) -> None:
        """
        End the connection without a close packet, for which dfdaemon 1.5.10 logs an error. One that has ended already
        stays as it is.
        """
        if self._open:
            self._hang_up()

    # -- what Twisted calls

    def connectionMade(self) -> None:
        self._open = True
        settings, tcp = self._settings, beneath(self.transport)
        self._socket = plain_socket(self.transport)
        self._pace = Pace(
            self.transport,
            self._socket,
            settings.clock,
            limiter=settings.receive_limiter,
            low_water=settings.low_water,
        )
        self._beneath = plain_socket(tcp)
        # The class is not named here: its module loads pyOpenSSL, which takes longer than a small download.
        self._receive = getattr(self.transport, "receive", None)
        if self._beneath is not None:
            tcp.bufferSize = self._pace.at_once(settings.read_size)
        settings.configure_socket(tcp)

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            return
        self.answered = True
        self._progressed_at = self._settings.clock.seconds()
        if len(self._first) < LONGEST:
            self._first += data[: LONGEST - len(self._first)]
        if self._pace.is_limited:
            self._pace.spend(len(data))
        self._conversation.receive_data(data)
        try:
            self._hear()
            self._take_on()
        except RemoteProtocolError as error:
            self._spoke_wrongly(error)
        except (PieceError, SinkFailed, ConnectionLost) as error:
            self._fail(error)
        self._wait_for_more()
        self._deliver()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._open = False
        self._pace.stop()
        if self._transfer is not None:
            self._transfer.may_need_tls = beneath(self.transport) is self.transport and not self._first
            self._transfer.fail(reason.value)
        self._ended(self)
        self._deliver()

    # -- a turn, step by step

    def _hear(self) -> None:
        """Handle all events that have arrived, in order."""
        while self._open and (event := self._conversation.next_event()) is not None:
            if isinstance(event, Close):
                self._said_goodbye()
            elif self._transfer is not None:
                self._transfer.follow(event)
                if isinstance(event, ErrorReply) and event.code != ErrorCode.NOT_FOUND:
                    self._hang_up()  # as the parent does, which goes on after "not found" only

    def _take_on(self) -> None:
        """Take what the socket still holds of the piece, before the transport reads it: spliced, or decrypted."""
        left = self._conversation.content_left
        receiver = self._transfer.receiver if self._transfer is not None else None
        if not left or not self._open or self._pace.rest is not None or receiver is None:
            return
        rest = b""
        if self._socket is not None:
            taken = receiver.take(self._socket, min(left, self._pace.turn))
        else:
            taken, rest = self._decrypt(receiver, left)
        if taken:
            self._conversation.content_taken(taken)
            self._conversation.receive_data(rest)
            if self._pace.is_limited:
                self._pace.spend(taken + len(rest))
            self._hear()

    def _decrypt(self, receiver: PieceReceiver, left: int) -> tuple[int, bytes]:
        """Read and decrypt content: how many bytes of the piece, and what was read behind it."""
        taken, rest = 0, b""
        at_once = self._pace.at_once(self._settings.read_size)
        receive, sock = self._receive, self._beneath
        if receive is None or sock is None:
            return taken, rest
        while self._open and taken < min(left, self._pace.turn) and (content := receive(sock, at_once)):
            part, rest = content[: left - taken], bytes(content[left - taken :])
            receiver.write(part)
            taken += len(part)
        return taken, rest

    def _wait_for_more(self) -> None:
        """Wake when a large part of the missing bytes has arrived; before a piece, when any byte has."""
        left = self._conversation.content_left
        if self._open and (left or self._pace.waits_for_many):
            receiver = self._transfer.receiver if self._transfer is not None else None
            self._pace.wait_for(left, receiver.metadata.length if receiver is not None else 0)

    def _deliver(self) -> None:
        """
        Fire the ended piece's Deferred. This comes last, because its callback may request the next piece at once.
        """
        transfer = self._transfer
        if transfer is not None and transfer.outcome is not None:
            self._transfer = None
            transfer.tell(self._pace.rested - self._rested_before)

    def _send(self, data: bytes) -> None:
        """
        Send a request at once: the transport would first have the reactor ask whether the socket can take it, which is
        almost always true. Nothing waits in the transport: the one before has been answered.
        """
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is full, or the connection is gone, as the transport will find out
                data = data[self._socket.send(data) :]
        if data:
            self.transport.write(data)

    # -- how the connection ends

    def _said_goodbye(self) -> None:
        """Handle a close packet. The parent will answer nothing more, which ends a piece under way."""
        self.answered = False
        if self._transfer is not None:
            self._transfer.fail(ConnectionDone())
        self._open = False
        hang_up(self.transport)

    def _spoke_wrongly(self, error: RemoteProtocolError) -> None:
        """Handle a breach of the protocol by the parent; a complete piece stays valid."""
        other = what_is_sent(self._first)
        if other is not None:
            error = RemoteProtocolError(f"expected a Vortex reply, got {other}")
        if self._transfer is None or self._transfer.outcome is not None:
            self.log.warn("parent {parent} sent an unexpected packet: {reason}", parent=self.parent, reason=str(error))
        self._fail(error)

    def _cancel(self, result: Deferred[DownloadPieceResponse]) -> None:
        """Abort the connection: the piece is not wanted any more, and the next one starts only behind its content."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.give_up()
            self._abort()
            result.errback(CancelledError(transfer.progress))

    def _fail(self, reason: Exception) -> None:
        """End the connection now, and with it the piece under way."""
        if self._transfer is not None:
            self._transfer.fail(reason)
        self._abort()

    def _abort(self) -> None:
        """End the connection now."""
        self._end_here()
        self.transport.abortConnection()

    def _hang_up(self) -> None:
        """End the connection when everything that was written has been sent."""
        self._end_here()
        hang_up(self.transport)

    def _end_here(self) -> None:
        self._open = False
        self.closed_here = True
        self._pace.stop()


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
