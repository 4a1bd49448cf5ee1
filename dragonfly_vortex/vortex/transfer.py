"""
The transfer of one piece to a child: :class:`Transfer` handles the parent's events about it, and has its outcome.

It ends once, and the first reason counts: with its last byte, with the parent's refusal, or with what went wrong, here,
there or in between. What becomes of the connection is decided by :mod:`dragonfly_vortex.vortex.client_protocol`;
whether the content is right, and where it goes, by :mod:`dragonfly_vortex.transport.receiver`.
"""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from dragonfly_vortex.errors import (
    OtherProtocol,
    ParentFailed,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTruncated,
    RemoteProtocolError,
    SinkFailed,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.transport.tls_errors import kind_of, why_tls_failed
from dragonfly_vortex.transport.wrong_port import NEEDS_TLS
from dragonfly_vortex.transport_table import TCP
from dragonfly_vortex.wire import ContentFinished, ContentReceived, ErrorCode, ErrorReply, Event, PieceContent
from dragonfly_vortex.wire.messages import printable

__all__ = ["Transfer"]


class Transfer:
    """
    One piece from one parent.

    :param parent: the parent's address, for messages.
    :param request: what was asked for.
    :param result: what :meth:`tell` fires.
    :param packet_id: of the request.
    :param allow_empty_digest: take the piece though its parent names no digest, also where the whole is not verified.
    :param splicer: moves content from a plain socket to a file; None has all of it written.
    """

    __slots__ = (
        "_allow_empty_digest",
        "_packet_id",
        "_parent",
        "_repeats_id",
        "_request",
        "_result",
        "_splicer",
        "may_need_tls",
        "outcome",
        "receiver",
    )

    def __init__(
        self,
        parent: str,
        request: DownloadPieceRequest,
        result: Deferred[DownloadPieceResponse],
        *,
        packet_id: int = 0,
        allow_empty_digest: bool = False,
        splicer: Splicer | None = None,
    ) -> None:
        self.receiver: PieceReceiver | None = None
        """Takes the content; None until the parent has said what it will send."""
        self.may_need_tls = False
        """Whether nothing has arrived over a connection without TLS: a port with TLS closes without a word."""
        self.outcome: DownloadPieceResponse | PieceError | SinkFailed | None = None
        """How it has ended; None before that."""
        self._parent = parent
        self._request = request
        self._result = result
        self._packet_id = packet_id
        self._repeats_id = True
        self._allow_empty_digest = allow_empty_digest
        self._splicer = splicer

    @property
    def progress(self) -> str:
        """The progress of the piece, for messages."""
        if self.receiver is None:
            return "no reply"
        return f"{self.receiver.received} of {self.receiver.metadata.length} bytes"

    # -- what the parent says

    def follow(self, event: Event) -> None:
        """
        Handle an event.

        :param event: that it may come now, and of which kind it is, has been checked by the wire.
        :raises UnexpectedPiece: it is another piece, or one that the sink refuses.
        :raises DigestMismatch: there is no digest, or the content has another one.
        :raises SinkFailed: the content cannot be written.
        """
        receiver = self.receiver
        if receiver is None:
            if isinstance(event, PieceContent):
                self._begin(event)
            elif isinstance(event, ErrorReply):
                self._refuse(event)
        elif isinstance(event, ContentReceived):
            receiver.write(event.data)
        elif isinstance(event, ContentFinished):
            self.outcome = DownloadPieceResponse(
                metadata=receiver.metadata,
                content=receiver.finish(),
                transport=TCP.name,
                repeats_id=self._repeats_id,
            )

    def _begin(self, packet: PieceContent) -> None:
        request, metadata = self._request, packet.metadata
        self._repeats_id = packet.packet_id == self._packet_id
        if metadata.number != request.number:
            raise UnexpectedPiece(
                self._parent, self._piece_id, f"expected piece number {request.number}, got {metadata.number}"
            )
        self.receiver = PieceReceiver(
            self._parent,
            request.task_id,
            metadata,
            MemorySink() if request.sink is None else request.sink,
            allow_empty_digest=self._allow_empty_digest or request.is_whole_verified,
            splicer=self._splicer,
        )
        self.receiver.begin()

    def _refuse(self, packet: ErrorReply) -> None:
        """Handle an error reply of the parent."""
        reason = f"expected the piece, got error {packet.code}: {printable(packet.text)}"
        if packet.code == ErrorCode.NOT_FOUND:
            self.outcome = PieceNotFound(self._parent, self._piece_id, reason)
        elif packet.text == NEEDS_TLS:
            self.outcome = OtherProtocol(self._parent, self._piece_id, reason)
        else:
            self.outcome = ParentFailed(self._parent, self._piece_id, reason, packet.code)

    # -- how it ends

    def fail(self, reason: BaseException | None) -> None:
        """
        Fail the transfer, unless it has ended already.

        :param reason: what is wrong with the piece, or with what the parent says; anything else is what the connection
            has ended with.
        """
        if self.outcome is None:
            self.outcome = self._error(reason)
            self.give_up()

    def give_up(self) -> None:
        """Report to the sink that nothing more will come."""
        if self.receiver is not None:
            self.receiver.fail()

    def tell(self, waited: float = 0.0) -> None:
        """
        Fire the result with the outcome.

        :param waited: seconds that it waited for this side's own limit.
        """
        if isinstance(self.outcome, DownloadPieceResponse):
            self._result.callback(replace(self.outcome, waited=waited) if waited else self.outcome)
        elif self.outcome is not None:
            self._result.errback(self.outcome)

    def _error(self, reason: BaseException | None) -> PieceError | SinkFailed:
        """Turn a reason into an error of the piece."""
        error: PieceError
        if isinstance(reason, (PieceError, SinkFailed)):
            return reason
        if isinstance(reason, RemoteProtocolError):
            error = ParentSpokeWrongly(self._parent, self._piece_id, str(reason))
        else:
            error = self._lost(reason)
        error.__cause__ = reason
        return error

    def _lost(self, reason: BaseException | None) -> ParentUnreachable:
        """Turn the end of the connection into an error of the piece."""
        failed, how = why_tls_failed(reason), "closed" if isinstance(reason, ConnectionDone) else "lost"
        if self.receiver is None:
            words = f"{how} before a reply" + ("; is it a tls:// address?" if self.may_need_tls else "")
            return kind_of(reason)(self._parent, self._piece_id, failed or words)
        return PieceTruncated(self._parent, self._piece_id, f"{failed or how} after {self.progress}")

    @property
    def _piece_id(self) -> str:
        """The piece's name, for messages."""
        return piece_id(self._request.task_id, self._request.number)
