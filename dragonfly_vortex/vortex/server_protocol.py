"""
A parent's side of one connection of Vortex: :class:`VortexServerProtocol` answers its requests in their order.

The protocol sends one reply at a time, applies the idle timeout and ends the connection. :mod:`dragonfly_vortex.wire`
checks the packets, an :class:`~dragonfly_vortex.interfaces.IPieceStore` opens the pieces,
:mod:`dragonfly_vortex.transport.sender` sends them, and :mod:`dragonfly_vortex.vortex.connections` limits the
connections.

Where a piece is at hand, its reply begins inside ``dataReceived``. A small one is complete then, and of a large one
the socket has what it can take.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.errors import LocalProtocolError, PieceDamaged, RemoteProtocolError
from dragonfly_vortex.interfaces import IConnectionTransport, IHotPieceStore, IPieceStore
from dragonfly_vortex.model import FileRange, OpenPiece
from dragonfly_vortex.transport.sender import Sender, duplicated
from dragonfly_vortex.transport.socket_options import beneath, hang_up, plain_socket, set_cork
from dragonfly_vortex.transport.tls import begins_tls
from dragonfly_vortex.transport.tls_errors import why_tls_failed
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.replies import error_reply, log_broken_reply
from dragonfly_vortex.wire import Close, Connection, ErrorCode, PieceContent, PieceRequest, Role

__all__ = ["VortexServerProtocol"]

_MAX_AHEAD = 64 * 1024
"""Bytes of requests sent ahead that are kept; beyond them the connection is not read until they are answered."""

_REPLIES_AT_ONCE = 16
"""Replies that a connection may complete in one turn of the reactor; to complete one more it waits for the next turn,
so that a child that asks for many pieces ahead does not keep the others waiting."""

_FIRST_WORD = 1.0
"""Seconds that a new connection has to ask for something before it counts as idle. A request that is on its way must
not find its connection closed to make room for the next."""

_LINGER = 2.0
"""Seconds that a child has to read what was said last. Closing at once, with bytes of the child unread, would reset the
connection, and an error or the end of a piece that is still on its way would be lost."""


class _Phase(enum.Enum):
    """What a connection is doing."""

    WAITING = "waiting for a request"
    REPLYING = "replying"
    LINGERING = "waiting for the child to end"
    ENDING = "ending"


@implementer(IHalfCloseableProtocol)
class VortexServerProtocol(Protocol, TimeoutMixin):
    """
    One connection from a child: its requests are answered in their order.

    It provides :class:`IHalfCloseableProtocol`, because a child may close its write side as soon as it has asked, and
    the reference's does when it has read a piece's metadata.

    :param store: where pieces come from.
    :param settings: what all connections have in common.
    :param connections: all connections.
    :param share: to which of their shares this one counts; empty for none.
    """

    transport: IConnectionTransport

    def __init__(
        self, store: IPieceStore, settings: ServerSettings, connections: ConnectionRegistry, share: str = ""
    ) -> None:
        self.share = share
        """To which share of the connections this one counts; empty for none."""
        self.is_idle = False
        """Whether the connection waits for its next request. A new one is not idle before :data:`_FIRST_WORD`."""
        self._store = store
        self._hot_store: IHotPieceStore | None = IHotPieceStore(store, None)
        self._settings = settings
        self._connections = connections
        self._connection = Connection(Role.PARENT)
        self._phase = _Phase.WAITING
        self._is_new = True  # has asked for nothing
        self._heard = False
        self._proceeding = False
        self._reading = True
        self._half_closed = False  # the child will send nothing more; what it has sent is answered
        self._finishing = False  # we want no further request, not even one that has been sent
        self._opening: Deferred[OpenPiece] | None = None
        self._is_under_way = False  # a reply is, and is counted
        self._replies = 0  # in this turn of the reactor
        self._next_turn: IDelayedCall | None = None

    # -- what Twisted calls

    def connectionMade(self) -> None:
        settings = self._settings
        settings.configure_socket(beneath(self.transport))
        self._sender = Sender(self.transport, settings.clock, settings.limiter, self._progressed, settings.read_ahead)
        self._child = settings.tally.children.of(str(getattr(self.transport.getPeer(), "host", "")))
        self.setTimeout(min(_FIRST_WORD, self._connections.idle_timeout))
        self._connections.opened(self)

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        """Schedule a call; :class:`TimeoutMixin` uses this."""
        return self._settings.clock.callLater(period, func)

    def dataReceived(self, data: bytes) -> None:
        if self._phase in (_Phase.LINGERING, _Phase.ENDING):
            return
        if not self._heard:
            self._heard = True
            if begins_tls(data):
                self._refuse(RemoteProtocolError("expected a request without TLS on this port, got TLS"))
                return
        self._connection.receive_data(data)
        self._proceed()

    def readConnectionLost(self) -> None:
        self._half_closed = True
        if self._phase in (_Phase.WAITING, _Phase.LINGERING):
            self._close()

    def writeConnectionLost(self) -> None:
        """Do nothing when this side has closed its half of a connection that is ending."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._phase = _Phase.ENDING
        failed = why_tls_failed(reason.value)
        if failed is not None:
            self._connections.limited_log.info("refused {peer}: {reason}", peer=self.transport.getPeer(), reason=failed)
        self.setTimeout(None)
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._opening is not None:
            self._opening.cancel()
        self._connections.closed(self)

    def timeoutConnection(self) -> None:
        """Called when there was no progress for as long as the phase allows."""
        rest = self._connections.idle_timeout - _FIRST_WORD
        if self._is_new and self._phase is _Phase.WAITING and rest > 0:
            self._is_new = False
            self._become_idle(rest)
        elif self._phase in (_Phase.WAITING, _Phase.LINGERING):
            self._close()
        elif self._opening is not None or self._sender.resting:  # our own disk or limit is waited for
            self.setTimeout(self._connections.idle_timeout)
        else:
            self._connections.limited_log.info(
                "connection from {peer} aborted, without progress while {phase}",
                peer=self.transport.getPeer(),
                phase=self._phase.value,
            )
            self.abort()

    # -- what the registry of connections calls

    def finish(self) -> None:
        """End the connection: at once when it is idle, after the reply under way otherwise."""
        self._finishing = True
        if self._phase is _Phase.WAITING:
            self._close()

    def abort(self) -> None:
        """End the connection now, whatever is under way."""
        self._phase = _Phase.ENDING
        self.transport.abortConnection()

    # -- requests, one after the other

    def _proceed(self, replies: int = 0) -> None:
        """
        Answer the requests that have arrived, until a reply has to wait.

        :param replies: how many have been completed in this turn of the reactor.
        """
        if self._proceeding:  # a reply that was complete at once: the loop below goes on
            return
        self._proceeding = True
        self._replies = replies
        try:
            while self._phase is _Phase.WAITING and self._next_request():
                pass
        finally:
            self._proceeding = False
        if self._replies:
            self._is_new = False
        if self._phase is _Phase.WAITING and (self._replies or not (self._is_new or self.is_idle)):
            self._become_idle(self._connections.idle_timeout)
        self._read_or_pause()

    def _next_request(self) -> bool:
        """Take the child's next packet; False when there is none, or none behind it."""
        if self._finishing:
            self._hang_up()
            return False
        try:
            event = self._connection.next_event()
        except RemoteProtocolError as error:
            self._refuse(error)
            return False
        if isinstance(event, PieceRequest):
            self._answer(event)
        elif isinstance(event, Close) or self._half_closed:
            self._hang_up()
        return event is not None and (self._connection.buffered > 0 or self._half_closed or self._finishing)

    def _read_or_pause(self) -> None:
        """Do not read further requests while enough of them wait."""
        reading = self._connection.buffered <= _MAX_AHEAD or self._phase is _Phase.LINGERING
        if reading is not self._reading and self._phase is not _Phase.ENDING:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # -- one reply

    def _answer(self, request: PieceRequest) -> None:
        """Reply with a piece that is at hand, or have it opened."""
        hot, name = self._hot_store, (request.kind, request.task_id, request.number)
        piece = hot.hot_piece(*name) if hot is not None else None
        if piece is None:
            self._reply(request, None)
        elif self._replies == _REPLIES_AT_ONCE or not self._reply_at_once(request, piece):
            self._reply(request, duplicated(piece))

    def _reply_at_once(self, request: PieceRequest, piece: OpenPiece) -> bool:
        """
        Reply with a small piece that is at hand. Most small pieces are, and a Deferred for each would cost more than
        all else.

        :returns: whether it could be done; nothing has been done otherwise.
        """
        content = self._sender.read_at_once(piece.range)
        if content is None:
            return False
        try:
            header = self._connection.send_whole(PieceContent.of(request, piece.metadata))
        except LocalProtocolError:
            self._settings.limiter.give_back(len(content))
            return False
        self._sender.send_at_once(header + content, self._connection.buffered > 0)
        self._settings.tally.sent(len(content))
        self._child.task_id = request.task_id
        self._child.sent += len(content)
        if self._settings.rechecks is not None:
            self._settings.rechecks.sent(self._child.host, request.kind, request.task_id, request.number)
        self._replies += 1
        return True

    def _reply(self, request: PieceRequest, piece: OpenPiece | None) -> None:
        """
        Reply by a Deferred.

        :param piece: the open piece; None where the store is to open it.
        """
        self._phase = _Phase.REPLYING
        self._is_new = False
        self._child.task_id = request.task_id
        name = request.kind, request.task_id, request.number
        opening = self._opening = self._store.open_piece(*name) if piece is None else succeed(piece)
        sending = opening.addCallbacks(self._send, self._send_error, callbackArgs=(request,), errbackArgs=(request,))
        sending.addBoth(self._counted).addCallback(self._replied).addErrback(self._broken_off, request)
        if self._phase is _Phase.REPLYING:  # it takes longer than this call
            self._enter(_Phase.REPLYING, self._connections.idle_timeout)
            if self._next_turn is None:
                self._is_under_way = True
                self._settings.tally.piece_begun()

    def _send(self, piece: OpenPiece, request: PieceRequest) -> Deferred[None] | None:
        """Send the piece that was opened."""
        self._opening = None
        if self._phase is not _Phase.REPLYING:
            os.close(piece.range.descriptor)
            return None
        try:
            header = self._connection.send(PieceContent.of(request, piece.metadata))
        except LocalProtocolError:  # a row that cannot be sent: it is logged, and the descriptor must not stay open
            os.close(piece.range.descriptor)
            raise
        self._cork(True)
        name = (request.kind, request.task_id, request.number)
        return self._transmit(header, piece.range, name).addCallback(self._sent_whole, request)

    def _sent_whole(self, _: None, request: PieceRequest) -> None:
        """Record that a whole piece was sent."""
        rechecks = self._settings.rechecks
        if rechecks is not None:
            rechecks.sent(self._child.host, request.kind, request.task_id, request.number)

    def _send_error(self, failure: Failure, request: PieceRequest) -> Deferred[None] | None:
        """Send an error, because the piece cannot be sent. The connection goes on."""
        self._opening = None
        if self._phase is not _Phase.REPLYING:
            return None
        log_broken_reply(self._connections.limited_log, request, failure)
        return self._transmit(self._connection.send(error_reply(request, failure)))

    def _transmit(self, header: bytes, content: FileRange | None = None, piece: Hashable = None) -> Deferred[None]:
        more, at_once = self._connection.buffered > 0, not self._replies
        return self._sender.send(header, content, piece=piece, more=more, at_once=at_once)

    def _counted(self, result: Any) -> Any:
        """Count a reply that has ended, complete or not, if it took longer than a call."""
        if self._is_under_way:
            self._is_under_way = False
            self._settings.tally.piece_ended()
        return result

    def _progressed(self, length: int) -> None:
        self._connection.content_sent(length)
        self._settings.tally.sent(length)
        self._child.sent += length
        self.resetTimeout()

    def _replied(self, _: None = None) -> None:
        self._next_turn = None
        if self._phase is not _Phase.REPLYING:
            return
        if self._replies == _REPLIES_AT_ONCE:
            self._replies = 0
            self._next_turn = self._settings.clock.callLater(0, self._replied)
            return
        self._replies += 1
        self._cork(False)
        self._phase = _Phase.WAITING
        self._proceed(1)  # idle only behind the requests sent ahead: what waits for room ends an idle connection

    def _broken_off(self, failure: Failure, request: PieceRequest) -> None:
        """
        Abort the connection, because a reply ended before it was complete: only an abort shows the child that its piece
        is not complete. An unexpected failure is handled here, too, so that it does not leave the connection open.
        """
        log_broken_reply(self._connections.limited_log, request, failure)
        if failure.check(PieceDamaged):
            self._mark_damaged(request, failure.getErrorMessage())
        self.abort()

    def _mark_damaged(self, request: PieceRequest, reason: str) -> None:
        """Stop offering a piece whose file is too short."""
        log = self._connections.limited_log
        marking = self._store.mark_damaged(request.kind, request.task_id, request.number, reason)
        marking.addErrback(lambda failure: log.failure("a damaged piece could not be marked", failure))

    def _cork(self, corked: bool) -> None:
        if self._settings.cork and (sock := plain_socket(self.transport)) is not None:
            set_cork(sock, corked)

    # -- the end

    def _refuse(self, error: RemoteProtocolError) -> None:
        """Say what was wrong, and end."""
        self._connections.limited_log.info("refused {peer}: {reason}", peer=self.transport.getPeer(), reason=str(error))
        self.transport.write(self._connection.refuse(ErrorCode.INVALID_ARGUMENT, str(error)))
        self._hang_up()

    def _hang_up(self) -> None:
        """Say nothing more, and let the child read everything before the connection is closed."""
        plain, tls = plain_socket(self.transport) is not None, beneath(self.transport) is not self.transport
        if self._half_closed or not (plain or tls):
            self._close()
            return
        self._enter(_Phase.LINGERING, _LINGER)
        if plain:
            self.transport.loseWriteConnection()
        else:  # TLS says goodbye, and closes when the child has said it, too
            self.transport.loseConnection()

    def _close(self) -> None:
        """Close when everything that was written has been sent."""
        self._enter(_Phase.ENDING, self._connections.idle_timeout)
        hang_up(self.transport)

    # -- what the connection waits for

    def _enter(self, phase: _Phase, timeout: float) -> None:
        """Enter another phase than waiting for a request, for at most that many seconds without progress."""
        self._phase = phase
        self._connections.became_busy(self)
        self.setTimeout(timeout)

    def _become_idle(self, timeout: float) -> None:
        self.setTimeout(timeout)
        self._connections.became_idle(self)
