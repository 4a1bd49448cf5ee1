"""
Reads the answers of sources: their range, length and version, and where or when to ask again (RFC 9110). It also
makes the errors for answers that cannot be used.
"""

from __future__ import annotations

import email.utils
import re
import time
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from dragonfly_vortex.errors import (
    ParentUnreachable,
    SourceChanged,
    SourceError,
    SourceNotFound,
    SourceRefused,
    SourceUnavailable,
)
from dragonfly_vortex.source.agent import ContentEncoded
from dragonfly_vortex.source.connections import CONNECT_TIMEOUT
from dragonfly_vortex.source.location import Header
from dragonfly_vortex.source.proxies import ProxyRefused, ProxyUnreachable
from dragonfly_vortex.transport.endpoints import AddressNotAllowed
from dragonfly_vortex.transport.tls_errors import kind_of, why_tls_failed

__all__ = [
    "Range",
    "condition_of",
    "failure_of",
    "header",
    "is_cancelled",
    "length_of",
    "origin_of_url",
    "redirected",
    "refusal_of",
    "retry_after",
    "version_of",
]

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)")

_NUMBER = re.compile(r"[0-9]{1,19}")

_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may have another one later."""

_ABSENT = frozenset({404, 410})

_LONGEST_PAUSE = 3600.0
"""Seconds of a ``Retry-After`` at the most."""


class Range(NamedTuple):
    """
    The range of an answer.

    :param whole: bytes of the whole content; None where the source does not say.
    """

    start: int
    length: int
    whole: int | None

    @classmethod
    def of(cls, headers: Headers) -> Range | None:
        """The range that an answer names (RFC 9110, 14.4); None for none, and for several."""
        found = _CONTENT_RANGE.fullmatch(header(headers, "Content-Range"))
        if found is None:
            return None
        first, last = int(found[1] or 0), int(found[2] or -1)
        return cls(first, last - first + 1, None if found[3] == "*" else int(found[3]))


def length_of(response: IResponse) -> int | None:
    """Bytes of an answer's content; None where it does not say."""
    return None if response.length is UNKNOWN_LENGTH else int(response.length)


def header(headers: Headers, name: str) -> str:
    """A header's value; empty where there is none, or more than one."""
    values = headers.getRawHeaders(name, ())
    return values[0].strip() if len(values) == 1 else ""


def version_of(headers: Headers) -> str:
    """Return the version of the content: the ETag, also a weak one, or the time of the last change."""
    return header(headers, "ETag") or header(headers, "Last-Modified")


def condition_of(headers: Headers) -> Header | None:
    """
    The header by which a range of the same version is asked for: a strong ETag, or else the time of the last change. A
    weak ETag does not tell two contents apart byte by byte (RFC 9110, 8.8.1), so it is only compared.
    """
    etag, changed = header(headers, "ETag"), header(headers, "Last-Modified")
    if etag.startswith('"'):
        return "If-Match", etag
    return ("If-Unmodified-Since", changed) if changed and not etag else None


def origin_of_url(url: str) -> tuple[str, str | None, int | None]:
    """The origin that credentials are for: scheme, host and port (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def redirected(url: str, headers: Headers) -> str | None:
    """Return the URL that a redirect leads to; None where it leads to nothing that can be asked for."""
    try:
        there = urljoin(url, header(headers, "Location"))
        parts = urlsplit(there)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(header(headers, "Location"))
        return parts._replace(fragment="").geturl() if is_good and parts.port != 0 else None
    except ValueError:
        return None


def retry_after(headers: Headers) -> float:
    """Seconds for which a source asks not to be asked (RFC 9110, 10.2.3): a number, or a date."""
    value = header(headers, "Retry-After")
    seconds = 0.0
    if _NUMBER.fullmatch(value):
        seconds = float(value)
    else:
        with suppress(ValueError, TypeError, OverflowError):
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    return min(max(0.0, seconds), _LONGEST_PAUSE)


def refusal_of(source: str, response: IResponse, *expected: int) -> SourceError:
    """
    Return the error for an answer whose status cannot be used.

    :param source: its name, for messages.
    :param expected: the statuses that messages name.
    """
    reason = f"expected status {' or '.join(map(str, expected))}, got {response.code}"
    error: SourceError = SourceRefused(source, reason)
    if response.code in _ABSENT:
        error = SourceNotFound(source, reason)
    if response.code in _TEMPORARY:
        error = SourceUnavailable(source, reason, retry_after(response.headers))
    error.status = response.code
    for name, values in response.headers.getAllRawHeaders():
        error.headers[name.decode("latin-1").lower()] = b", ".join(values).decode("latin-1")
    return error


def is_cancelled(error: Exception) -> bool:
    """Whether a request has been given up. Twisted's client says so in one of the reasons of its error."""
    reasons = getattr(error, "reasons", ())
    return isinstance(error, CancelledError) or any(reason.check(CancelledError) for reason in reasons)


def failure_of(source: str, error: Exception) -> SourceError:
    """
    Return the error for a request that got no answer. The text of an unknown error may have the URL, so it is not
    repeated.
    """
    reasons = [reason.value for reason in getattr(error, "reasons", ())] or [error]
    reason = next((each for each in reasons if isinstance(each, (SSL.Error, ContentEncoded))), reasons[-1])
    if isinstance(reason, ContentEncoded):
        return SourceChanged(source, f"expected the content as it is, got Content-Encoding {reason.encoding[:40]!r}")
    tls = why_tls_failed(reason)
    if tls is not None:
        return (SourceUnavailable if kind_of(reason) is ParentUnreachable else SourceRefused)(source, tls)
    if isinstance(reason, AddressNotAllowed):
        return SourceRefused(source, "this host may not be asked")
    if isinstance(reason, ProxyRefused):
        return SourceUnavailable(source, str(reason))
    if isinstance(reason, ProxyUnreachable):
        return SourceUnavailable(source, f"the proxy of the environment: {failure_of(source, reason.error).reason}")
    if isinstance(reason, TimeoutError):
        return SourceUnavailable(source, f"no connection within {CONNECT_TIMEOUT:g} s")
    return SourceUnavailable(source, _WHY.get(type(reason), f"expected an answer, got {type(reason).__name__}"))


_WHY: dict[type[BaseException], str] = {
    ConnectionRefusedError: "connection refused",
    DNSLookupError: "the name cannot be resolved",
    ConnectionDone: "the connection was closed before an answer",
    ConnectionLost: "the connection was lost before an answer",
}
