"""The exit statuses of the command, and the status for each error."""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from types import FrameType

from dragonfly_vortex.errors import (
    CertificateRejected,
    InvalidPiece,
    NoParentLeft,
    NoPeerFound,
    NotStored,
    NoVortexPeer,
    OtherProtocol,
    ParentFailed,
    ParentRefused,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceDamaged,
    PieceNotFound,
    PieceTimeout,
    TaskDigestMismatch,
    TaskNotFound,
    TimedOut,
    UsageError,
    VortexError,
)
from dragonfly_vortex.wire import ErrorCode

__all__ = ["STATUS_OF_SIGNAL", "ExitStatus", "on_signals", "status_of"]


class ExitStatus(enum.IntEnum):
    """The exit statuses of ``dfvortex``, as ``docs/command-line.md`` lists them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DIGEST_MISMATCH = 4
    UNREACHABLE = 5
    TIMED_OUT = 6
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


STATUS_OF_SIGNAL = {
    signal.SIGHUP: ExitStatus.HUNG_UP,
    signal.SIGINT: ExitStatus.INTERRUPTED,
    signal.SIGTERM: ExitStatus.TERMINATED,
}
"""What a command exits with that one of these signals has ended."""

_STATUSES: dict[type[VortexError], ExitStatus] = {
    UsageError: ExitStatus.USAGE,
    NotStored: ExitStatus.NOT_FOUND,
    TaskNotFound: ExitStatus.NOT_FOUND,
    PieceNotFound: ExitStatus.NOT_FOUND,
    TaskDigestMismatch: ExitStatus.DIGEST_MISMATCH,
    ParentSpokeWrongly: ExitStatus.UNREACHABLE,  # no peer by that transport, as where gRPC does not begin
    InvalidPiece: ExitStatus.DIGEST_MISMATCH,
    PieceDamaged: ExitStatus.DIGEST_MISMATCH,
    CertificateRejected: ExitStatus.UNREACHABLE,
    OtherProtocol: ExitStatus.UNREACHABLE,
    ParentRefused: ExitStatus.FAILED,  # it answers, and gives nothing
    ParentUnreachable: ExitStatus.UNREACHABLE,
    NoPeerFound: ExitStatus.UNREACHABLE,
    NoVortexPeer: ExitStatus.UNREACHABLE,
    PieceTimeout: ExitStatus.TIMED_OUT,
    TimedOut: ExitStatus.TIMED_OUT,
}


def status_of(error: BaseException) -> ExitStatus:
    """
    The exit status for an error; that of the last piece's error where no parent was left.

    :param error: what ended the command.
    """
    if isinstance(error, NoParentLeft):
        return status_of(error.last)
    if isinstance(error, ParentFailed) and error.code == ErrorCode.INVALID_ARGUMENT:
        return ExitStatus.UNREACHABLE  # the parent did not understand the request: it expects TLS, say
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return ExitStatus.FAILED


def on_signals(act: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> None:
    """
    Make signals end a command as an error does, so that it leaves no temporary file.

    :param act: called with the signal's number.
    :param numbers: which signals. A closing terminal that ``nohup`` has us ignore stays ignored.
    """
    for number in numbers:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, act)
