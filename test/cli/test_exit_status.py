"""Exit statuses, and what ``docs/command-line.md`` says of them."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.exit_status import ExitStatus, status_of
from dragonfly_vortex.errors import (
    CertificateUnusable,
    ConfigError,
    DigestMismatch,
    NoParentLeft,
    NoPeerFound,
    NotStored,
    NoVortexPeer,
    OutputError,
    OutputExists,
    ParentFailed,
    ParentSpokeWrongly,
    ParentUnreachable,
    PieceDamaged,
    PieceError,
    PieceNotFound,
    PieceTimeout,
    PieceTruncated,
    StorageFailure,
    TaskDigestMismatch,
    TaskNotFound,
    TimedOut,
    UnexpectedPiece,
    UnknownProtocol,
    UsageError,
)
from dragonfly_vortex.wire import ErrorCode

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "command-line.md"


class StatusTests(SynchronousTestCase):
    """Which error gets which status."""

    def test_errors(self) -> None:
        """Each error of its own kind has that kind's status, and what has none has failed."""
        expected: dict[ExitStatus, tuple[BaseException, ...]] = {
            ExitStatus.USAGE: (
                UsageError(""),
                ConfigError("f", 1, "k", "r"),
                CertificateUnusable("f", "r"),
                UnknownProtocol("quic"),
                OutputExists(""),
            ),
            ExitStatus.NOT_FOUND: (NotStored(""), TaskNotFound("t", "r"), PieceNotFound("p", "t-0", "r")),
            ExitStatus.DIGEST_MISMATCH: (
                TaskDigestMismatch("t", "r"),
                DigestMismatch("p", "t-0", "r"),
                UnexpectedPiece("p", "t-0", "r"),
                PieceDamaged(""),
            ),
            ExitStatus.UNREACHABLE: (
                ParentUnreachable("p", "t-0", "r"),
                PieceTruncated("p", "t-0", "r"),
                ParentSpokeWrongly("p", "t-0", "r"),
                ParentFailed("p", "t-0", "r", ErrorCode.INVALID_ARGUMENT),
                NoPeerFound("r"),
                NoVortexPeer("p", "r"),
            ),
            ExitStatus.TIMED_OUT: (PieceTimeout("p", "t-0", "r"), TimedOut(2)),
            ExitStatus.FAILED: (
                OutputError(""),
                StorageFailure(""),
                ParentFailed("p", "t-0", "r", ErrorCode.INTERNAL),
                OSError(),
            ),
        }
        for status, errors in expected.items():
            for error in errors:
                self.assertIs(status_of(error), status, repr(error))
                if isinstance(error, PieceError):
                    self.assertIs(status_of(NoParentLeft("t", error)), status, repr(error))


class DocumentTests(SynchronousTestCase):
    """What the documentation says of statuses."""

    def test_statuses(self) -> None:
        """The table has each status with its name, and no other."""
        text = DOCUMENT.read_text(encoding="utf-8")
        told = {int(number): name for number, name in re.findall(r"(?m)^\| (\d+) \| ([a-z ]+) \|", text)}
        self.assertEqual(told, {status.value: status.name.lower().replace("_", " ") for status in ExitStatus})
