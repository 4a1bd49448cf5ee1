"""
Describes TLS failures in a sentence. OpenSSL's own messages are terse; these name the side and what is wrong with its
certificate.

A connection without TLS is asked about, too, so this module does not load OpenSSL: an error of what has not been loaded
does not exist.
"""

from __future__ import annotations

import sys
from typing import TypeGuard

from dragonfly_vortex.errors import CertificateRejected, OtherProtocol, ParentUnreachable

__all__ = ["kind_of", "why_tls_failed", "why_unusable"]


_FAILED: dict[str, str] = {
    # Seen by this side.
    "wrong version number": "expected TLS, got something else: the other side speaks none here",
    "packet length too long": "expected TLS, got something else: the other side speaks none here",
    "http request": "expected TLS, got something else: the other side speaks none here",
    "unsupported protocol": "expected TLS 1.3, got an earlier version",
    "peer did not return a certificate": "expected a certificate of the other side, got none",
    # Said by the other side, in an alert (RFC 8446, section 6).
    "alert certificate required": "the other side asks for a certificate, and was shown none",
    "alert unknown ca": "the other side does not trust the authority of the certificate that it was shown",
    "alert certificate expired": "to the other side, the certificate that it was shown has expired",
    "alert certificate revoked": "to the other side, the certificate that it was shown has been revoked",
    "alert bad certificate": "the other side refused the certificate that it was shown",
    "alert certificate unknown": "the other side refused the certificate that it was shown",
    "alert internal error": "the other side cannot go on; is the certificate that it was shown for another host?",
    "alert unsupported certificate": "to the other side, the certificate that it was shown is for another purpose",
    "alert protocol version": "the other side does not speak TLS 1.3",
    "alert handshake failure": "the two sides have no TLS parameters in common",
}


_REFUSALS = frozenset(
    f"alert {name}"
    for name in (
        "certificate required",
        "unknown ca",
        "certificate expired",
        "certificate revoked",
        "bad certificate",
        "certificate unknown",
        "unsupported certificate",
    )
)
"""The alerts by which the other side refuses a certificate."""


_OTHER_PROTOCOLS = frozenset(
    ("wrong version number", "packet length too long", "http request", "unsupported protocol", "alert protocol version")
)
"""What OpenSSL says where the other side speaks no TLS, or no version of it that is spoken here."""


def kind_of(error: BaseException | None) -> type[ParentUnreachable]:
    """
    The kind of the error for a connection that has ended. Where one side refused the other's certificate, or the other
    side speaks another protocol, another attempt ends in the same way.

    :param error: what it ended with.
    """
    if not _is_openssls(error):
        return ParentUnreachable
    reason = _without_version(why_unusable(error))
    if hasattr(error, "refusal") or reason in _REFUSALS:
        return CertificateRejected
    return OtherProtocol if reason in _OTHER_PROTOCOLS else ParentUnreachable


def why_tls_failed(error: BaseException | None) -> str | None:
    """
    Why a connection ended that was to be one under TLS.

    :param error: what it ended with.
    :returns: None for an error that has nothing to do with TLS.
    """
    if not _is_openssls(error):
        return None
    reason = why_unusable(error)
    return f"TLS: {getattr(error, 'refusal', None) or _FAILED.get(_without_version(reason), reason)}"


def _is_openssls(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether an error is one of OpenSSL's."""
    openssl = sys.modules.get("OpenSSL.SSL")
    return openssl is not None and isinstance(error, openssl.Error)


def _without_version(reason: str) -> str:
    """Remove the version of TLS from an alert's name, such as "tlsv1 alert unknown ca"."""
    _, alert, name = reason.rpartition("alert ")
    return alert + name


def why_unusable(error: Exception) -> str:
    """
    The text of an OpenSSL error, without its names of libraries and functions.

    :param error: one of its errors, or another.
    """
    entries = error.args[0] if error.args else ()
    if isinstance(entries, list) and entries:
        return ", ".join(str(entry[-1]) for entry in entries)
    return " ".join(str(error).split()) or type(error).__name__
