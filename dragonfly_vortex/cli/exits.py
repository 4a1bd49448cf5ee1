"""How the command ends: its exit statuses, and which error gets which."""

from __future__ import annotations

import enum

from dragonfly_vortex.errors import (
    CertificateUnusable,
    ConfigError,
    InvalidPiece,
    NoParentLeft,
    NotStored,
    OutputExists,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceDamaged,
    PieceNotFound,
    PieceTimeout,
    TaskDigestMismatch,
    TaskNotFound,
    UnknownProtocol,
    WrongTransport,
)

__all__ = ["ExitStatus", "UsageError", "status_of"]


class UsageError(Exception):
    """The command was called with something that it cannot do."""


class ExitStatus(enum.IntEnum):
    """What ``dfvortex`` exits with; ``docs/command-line.md`` tells the same."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DIGEST_MISMATCH = 4
    UNREACHABLE = 5
    TIMED_OUT = 6
    INTERRUPTED = 130
    TERMINATED = 143


_STATUSES: dict[type[Exception], ExitStatus] = {
    UsageError: ExitStatus.USAGE,
    ConfigError: ExitStatus.USAGE,
    CertificateUnusable: ExitStatus.USAGE,
    UnknownProtocol: ExitStatus.USAGE,
    WrongTransport: ExitStatus.USAGE,
    OutputExists: ExitStatus.USAGE,
    NotStored: ExitStatus.NOT_FOUND,
    TaskNotFound: ExitStatus.NOT_FOUND,
    PieceNotFound: ExitStatus.NOT_FOUND,
    TaskDigestMismatch: ExitStatus.DIGEST_MISMATCH,
    ParentSpokeWrongly: ExitStatus.FAILED,  # no peer of ours, and nothing that could have a digest
    InvalidPiece: ExitStatus.DIGEST_MISMATCH,
    PieceDamaged: ExitStatus.DIGEST_MISMATCH,
    ParentUnreachable: ExitStatus.UNREACHABLE,
    PieceTimeout: ExitStatus.TIMED_OUT,
}


def status_of(error: BaseException) -> ExitStatus:
    """
    The exit status for an error; that of the last piece's error where no parent was left.

    :param error: what ended the command.
    """
    if isinstance(error, NoParentLeft):
        return status_of(error.last)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return ExitStatus.FAILED
