"""
Describes TLS failures in a sentence. OpenSSL's own messages are terse; these name the side and what is wrong with its
certificate.
"""

from __future__ import annotations

from OpenSSL import SSL

__all__ = ["CertificateRefused", "is_certificate_refused", "why_not_verified", "why_tls_failed", "why_unusable"]


class CertificateRefused(SSL.Error):
    """
    The other side's certificate was refused, by this side. It is one of OpenSSL's errors in form, because only those
    end a handshake in Twisted.

    :param reason: what is wrong with the certificate.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__([("certificate", "", reason)])


_Codes = SSL.X509VerificationCodes

_NOT_SIGNED = "the certificate was not signed by an authority that is trusted here"

_NOT_VERIFIED: dict[int, str] = {
    _Codes.ERR_CERT_HAS_EXPIRED: "the certificate has expired",
    _Codes.ERR_CERT_NOT_YET_VALID: "the certificate is not valid yet: is a clock wrong?",
    _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "the certificate is self-signed, and not trusted here",
    _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN: _NOT_SIGNED,
    _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT: _NOT_SIGNED,
    _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: _NOT_SIGNED,
    _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: _NOT_SIGNED,
    _Codes.ERR_CERT_UNTRUSTED: _NOT_SIGNED,
    _Codes.ERR_CERT_SIGNATURE_FAILURE: "the certificate's signature does not fit its authority",
    _Codes.ERR_INVALID_PURPOSE: "the certificate is for another purpose (extended key usage)",
    _Codes.ERR_INVALID_CA: "the certificate was signed by a certificate that is not an authority's",
    _Codes.ERR_CERT_CHAIN_TOO_LONG: "the certificate's chain to an authority is too long",
    _Codes.ERR_CERT_REVOKED: "the certificate has been revoked",
}

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


def is_certificate_refused(error: BaseException | None) -> bool:
    """
    Whether a connection ended because one side refused the other's certificate: another attempt ends in the same way.

    :param error: what it ended with.
    """
    if isinstance(error, CertificateRefused):
        return True
    return isinstance(error, SSL.Error) and _without_version(why_unusable(error)) in _REFUSALS


def why_not_verified(code: int) -> str:
    """
    Describe why a certificate was not verified.

    :param code: why OpenSSL did not verify it (``X509_V_ERR_...``).
    """
    return _NOT_VERIFIED.get(code, f"the certificate cannot be verified (OpenSSL's error {code})")


def why_tls_failed(error: BaseException | None) -> str | None:
    """
    Why a connection ended that was to be one under TLS.

    :param error: what it ended with.
    :returns: None for an error that has nothing to do with TLS.
    """
    if isinstance(error, CertificateRefused):
        return f"TLS: {error.reason}"
    if not isinstance(error, SSL.Error):
        return None
    reason = why_unusable(error)
    return f"TLS: {_FAILED.get(_without_version(reason), reason)}"


def _without_version(reason: str) -> str:
    """Remove the version of TLS from an alert's name, such as "tlsv1 alert unknown ca"."""
    _, alert, name = reason.rpartition("alert ")
    return alert + name


def why_unusable(error: Exception) -> str:
    """
    OpenSSL's own words, without its names of libraries and functions.

    :param error: one of its errors, or another.
    """
    entries = error.args[0] if error.args else ()
    if isinstance(entries, list) and entries:
        return ", ".join(str(entry[-1]) for entry in entries)
    return " ".join(str(error).split()) or type(error).__name__
