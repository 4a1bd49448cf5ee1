"""
Two tables that turn errors into gRPC's status codes, and status codes into errors.

A stranger gets the meaning of an error, without details of this side, as over Vortex
(:func:`~dragonfly_vortex.vortex.replies.error_reply`). What a stranger says is repeated in our messages on one
line and cut short.
"""

from __future__ import annotations

from typing import NamedTuple

from grpc import StatusCode
from twisted.internet.defer import CancelledError

from dragonfly_vortex.errors import (
    CertificateRejected,
    NoParentLeft,
    NoSourceKnown,
    NotStored,
    OtherProtocol,
    ParentFailed,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTimeout,
    ProtocolError,
    SourceError,
    TaskDigestMismatch,
    TaskError,
    UnexpectedPiece,
    VortexError,
)
from dragonfly_vortex.wire import ErrorCode
from dragonfly_vortex.wire.messages import printable

__all__ = ["CallFailed", "Status", "error_of", "foreign_status", "local_status", "source_error", "status_of"]

_MISMATCH = "digest mismatch"
"""The reference's words for a content with another digest."""


class Status(NamedTuple):
    """
    The status of a call.

    :param code: the status code.
    :param text: the words that go with it.
    """

    code: StatusCode
    text: str


class CallFailed(Exception):
    """
    A call to a parent has failed.

    :param status: what it ended with.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status.code.name, status.text)
        self.status = status


_STATUS_OF_ERROR: tuple[tuple[type[BaseException], StatusCode, str], ...] = (
    (NotStored, StatusCode.NOT_FOUND, "{what} not found"),
    (ProtocolError, StatusCode.INVALID_ARGUMENT, "{error}"),
    (ParentUnreachable, StatusCode.UNAVAILABLE, "{what} is not available now"),
    (PieceTimeout, StatusCode.DEADLINE_EXCEEDED, "{what} did not come in time"),
    (CancelledError, StatusCode.CANCELLED, "{what} was cancelled"),
)
"""What is said for an error of that class: the first row that fits, or else that the storage has failed."""

_ERROR_OF_STATUS: dict[StatusCode, type[PieceError]] = {
    StatusCode.NOT_FOUND: PieceNotFound,
    StatusCode.UNAVAILABLE: ParentUnreachable,
    StatusCode.CANCELLED: ParentUnreachable,  # by the parent, which is stopping; what this side cancels ends before
    StatusCode.DEADLINE_EXCEEDED: PieceTimeout,
}
"""Which error a status code is; all others are a parent's failure, with one of the codes below."""

_CODE_OF_STATUS = {
    StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_ARGUMENT,
    StatusCode.INTERNAL: ErrorCode.INTERNAL,
}
"""What a parent's failure is called over Vortex; unknown for the rest."""


_NOT_CONNECTED = "failed to connect to all addresses"

_CLOSED_AT_ONCE = (
    "closed at once: does the other side want TLS (grpcs://) or a certificate, or is it a Vortex port (tcp://)?"
)

_IN_WORDS = (
    (
        "self signed certificate in certificate chain",
        "the certificate was not signed by an authority that is trusted here",
    ),
    ("self signed certificate", "the certificate is self-signed, and not trusted here"),
    ("certificate has expired", "the certificate has expired"),
    ("Hostname Verification Check failed", "the certificate is for another host"),
    ("unable to get local issuer certificate", "the certificate was not signed by an authority that is trusted here"),
    ("CERTIFICATE_VERIFY_FAILED", "the certificate could not be verified"),
    ("WRONG_VERSION_NUMBER", "expected TLS, got something else: the other side speaks none here"),
    ("http1.x server", "expected HTTP/2, got HTTP/1: it is a web server's port"),
    ("Failed parsing HTTP/2", "expected HTTP/2, got something else: is it a Vortex port (tcp:// or tls://)?"),
    ("Socket closed", _CLOSED_AT_ONCE),
    ("Connection reset by peer", _CLOSED_AT_ONCE),
)
"""What grpcio says when it cannot connect, by a part of it, and what that is in plain words."""


_REFUSED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
"""What grpcio says, in part, when this side refuses the parent's certificate. The reverse it does not tell."""

_OTHER_PROTOCOLS = ("WRONG_VERSION_NUMBER", "http1.x server", "Failed parsing HTTP/2")
"""What grpcio says, in part, when the parent speaks another protocol."""

_NOT_STARTED = ("(HTTP status 502)", "(HTTP status 503)", "(HTTP status 504)")
"""What grpcio says, in part, when a proxy answers by HTTP/1 that the parent behind it is not there, or not yet."""

_TOO_LONG = "Received message larger than max"
"""What grpcio says when a reply is longer than a channel allows."""


def _in_words(text: str) -> str:
    """Why there is no connection, where that is known; else the text itself."""
    if text.startswith(_NOT_CONNECTED):
        for part, words in _IN_WORDS:
            if part in text:
                return f"not connected: {words}"
    return text


def status_of(error: BaseException, what: str) -> Status:
    """
    The status and the message for another peer about an error.

    :param what: what it happened to, like ``piece …``; a task's ID in it is the stranger's own text.
    """
    what = printable(what)
    for kind, code, text in _STATUS_OF_ERROR:
        if isinstance(error, kind):
            return Status(code, printable(text.format(what=what, error=error)))
    return Status(StatusCode.INTERNAL, f"{what} could not be read from the storage")


def error_of(status: Status, parent: str, piece_id: str) -> PieceError:
    """
    The error for the status of a parent's reply.

    :param status: what the call ended with.
    :param parent: the parent's address, for the message.
    :param piece_id: the piece's name, for the message.
    """
    if status.code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LONG in status.text:
        return UnexpectedPiece(parent, piece_id, f"expected a shorter reply: {printable(status.text)}")
    reason = f"expected the piece, got status {status.code.name}: {printable(_in_words(status.text))}"
    if status.text.startswith(_NOT_CONNECTED) and not any(part in status.text for part in _NOT_STARTED):
        for parts, refusal in ((_REFUSED, CertificateRejected), (_OTHER_PROTOCOLS, OtherProtocol)):
            if any(part in status.text for part in parts):
                return refusal(parent, piece_id, reason)
    kind = _ERROR_OF_STATUS.get(status.code)
    if kind is not None:
        return kind(parent, piece_id, reason)
    return ParentFailed(parent, piece_id, reason, _CODE_OF_STATUS.get(status.code, ErrorCode.UNKNOWN))


def source_error(error: BaseException | None) -> SourceError | None:
    """What a source has answered, where that is the reason of an error."""
    seen: set[int] = set()  # an error can be its own cause
    while error is not None and id(error) not in seen:
        if isinstance(error, SourceError):
            return error
        seen.add(id(error))
        error = error.last if isinstance(error, NoParentLeft) else error.__cause__
    return None


def local_status(error: Exception) -> Status:
    """
    What to say on the same machine about an error. The code is nearly always the reference's, which is INTERNAL.
    """
    if isinstance(error, ProtocolError):
        return Status(StatusCode.INVALID_ARGUMENT, str(error))
    if isinstance(error, CancelledError):
        return Status(StatusCode.UNAVAILABLE, "the download was given up: the peer is stopping")
    if isinstance(error, TaskDigestMismatch) and _MISMATCH not in str(error):
        return Status(StatusCode.INTERNAL, f"{_MISMATCH}: {error}")
    return Status(StatusCode.INTERNAL, str(error) if isinstance(error, VortexError) else "the call has failed")


def foreign_status(error: Exception) -> Status:
    """What to say over the network about an error: nothing of this machine, nor of other peers."""
    source = source_error(error)
    if source is not None:
        return Status(StatusCode.INTERNAL, printable(str(source)))
    if isinstance(error, (TaskError, NoSourceKnown)):
        return Status(StatusCode.INTERNAL, "the task cannot be downloaded")
    return status_of(error, "the task")
