"""Errors and status codes keep their meaning both ways, and what is said to a stranger has no insides."""

from __future__ import annotations

from grpc import StatusCode
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import (
    CertificateRejected,
    LocalProtocolError,
    NotStored,
    OtherProtocol,
    ParentFailed,
    ParentUnreachable,
    PieceDamaged,
    PieceNotFound,
    PieceTimeout,
    RemoteProtocolError,
    StorageFailure,
)
from dragonfly_vortex.rpc.status import Status, error_of, status_of
from dragonfly_vortex.wire import ErrorCode

_PARENT = ("192.0.2.1:4000", "task-1")


class StatusOfTests(SynchronousTestCase):
    """What is said to a stranger."""

    def test_codes(self) -> None:
        """Each kind of error has its code."""
        for error, code in (
            (NotStored("piece task-1 not found"), StatusCode.NOT_FOUND),
            (RemoteProtocolError("expected a request"), StatusCode.INVALID_ARGUMENT),
            (LocalProtocolError("expected a request"), StatusCode.INVALID_ARGUMENT),
            (StorageFailure("disk"), StatusCode.INTERNAL),
            (PieceDamaged("short"), StatusCode.INTERNAL),
            (ParentUnreachable(*_PARENT, "gone"), StatusCode.UNAVAILABLE),
            (PieceTimeout(*_PARENT, "late"), StatusCode.DEADLINE_EXCEEDED),
            (CancelledError(), StatusCode.CANCELLED),
            (ZeroDivisionError("ours"), StatusCode.INTERNAL),
        ):
            self.assertIs(status_of(error, "piece task-1").code, code, error)

    def test_no_insides(self) -> None:
        """No text tells of a path, a parent or a line of ours."""
        for error in (
            NotStored("/var/lib/secret"),
            StorageFailure("cannot read /var/lib/secret"),
            PieceDamaged("/var/lib/secret is short"),
            ParentUnreachable("secret:1", "secret-1", "secret"),
            PieceTimeout("secret:1", "secret-1", "secret"),
            CancelledError("secret"),
            OSError("secret"),
        ):
            text = status_of(error, "piece task-1").text
            self.assertNotIn("secret", text)
            self.assertIn("piece task-1", text)

    def test_what_was_wrong(self) -> None:
        """The reply to an invalid request says what is wrong with it."""
        self.assertEqual(status_of(RemoteProtocolError("expected x, got y"), "piece").text, "expected x, got y")

    def test_long_names(self) -> None:
        """A name that the stranger made very long is not repeated whole: headers have limits."""
        self.assertLess(len(status_of(NotStored(""), "task " + "x" * 100_000 + "\n").text), 300)


class ErrorOfTests(SynchronousTestCase):
    """What a parent's status means."""

    def test_classes(self) -> None:
        """The statuses of one kind of error are that error again, which names parent and piece."""
        for code, error in (
            (StatusCode.NOT_FOUND, PieceNotFound),
            (StatusCode.UNAVAILABLE, ParentUnreachable),
            (StatusCode.CANCELLED, ParentUnreachable),
            (StatusCode.DEADLINE_EXCEEDED, PieceTimeout),
        ):
            got = error_of(Status(code, "why\nnot"), *_PARENT)
            self.assertIs(type(got), error)
            self.assertEqual((got.parent, got.piece_id), _PARENT)
            self.assertIn(f"{code.name}: why not", str(got))

    def test_failures(self) -> None:
        """All others are a parent's failure, with the code that Vortex has for it."""
        for status in StatusCode:
            got = error_of(Status(status, ""), *_PARENT)
            if type(got) is ParentFailed:
                expected = {
                    StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_ARGUMENT,
                    StatusCode.INTERNAL: ErrorCode.INTERNAL,
                }.get(status, ErrorCode.UNKNOWN)
                self.assertEqual(got.code, expected)
        self.assertIsInstance(error_of(Status(StatusCode.UNIMPLEMENTED, ""), *_PARENT), ParentFailed)

    def test_long_words(self) -> None:
        """A parent's long words are cut."""
        self.assertLess(len(str(error_of(Status(StatusCode.INTERNAL, "x" * 9999), *_PARENT))), 400)


class ConnectionWordsTests(SynchronousTestCase):
    """Why there is no connection, in plain words."""

    def reason(self, said: str) -> str:
        """The child's error for this text of grpcio."""
        text = f"failed to connect to all addresses; last error: UNKNOWN: ipv4:192.0.2.1:4000: {said}"
        return error_of(Status(StatusCode.UNAVAILABLE, text), "192.0.2.1:4000", "piece").reason

    def test_words(self) -> None:
        """Each failure of TLS that grpcio tells of has words of its own."""
        for said, words in (
            ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: self signed certificate: OK", "is self-signed"),
            ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "has expired"),
            ("UNAUTHENTICATED: Hostname Verification Check failed.", "for another host"),
            (
                "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
                "not signed by",
            ),
            ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: other", "could not be verified"),
            ("Tls handshake failed: WRONG_VERSION_NUMBER", "expected TLS"),
            ("Socket closed", "want TLS"),
        ):
            self.assertRegex(self.reason(said), f"not connected: .*{words}")

    def test_rejected(self) -> None:
        """A parent whose certificate this side has rejected, or that speaks another protocol, is not away."""
        for said, kind in (
            ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", CertificateRejected),
            ("UNAUTHENTICATED: Hostname Verification Check failed.", CertificateRejected),
            ("Tls handshake failed: WRONG_VERSION_NUMBER", OtherProtocol),
            ("Failed parsing HTTP/2", OtherProtocol),
            ("Trying to connect an http1.x server (HTTP status 400)", OtherProtocol),
            ("Trying to connect an http1.x server (HTTP status 501)", OtherProtocol),
            *((f"Trying to connect an http1.x server (HTTP status {code})", ParentUnreachable) for code in (502, 504)),
            ("Failed parsing HTTP/2 (Trying to connect an http1.x server (HTTP status 503))", ParentUnreachable),
            ("Socket closed", ParentUnreachable),
        ):
            text = f"failed to connect to all addresses; last error: UNKNOWN: ipv4:192.0.2.1:4000: {said}"
            self.assertIs(type(error_of(Status(StatusCode.UNAVAILABLE, text), "192.0.2.1:4000", "piece")), kind)

    def test_others(self) -> None:
        """What is not known, and what a parent says itself, stays as it is."""
        self.assertIn("Connection refused", self.reason("Connection refused"))
        told = error_of(Status(StatusCode.UNAVAILABLE, "Socket closed"), "192.0.2.1:4000", "piece")
        self.assertIn("UNAVAILABLE: Socket closed", told.reason)
