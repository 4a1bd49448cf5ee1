"""What the headers of an answer say: its range, its length, its version, and where or when to ask again (RFC 9110)."""

from __future__ import annotations

import email.utils
import re
import time
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from dragonfly_vortex.source.location import Header

__all__ = [
    "Range",
    "condition_of",
    "header",
    "length_of",
    "origin_of_url",
    "redirected",
    "retry_after",
    "version_of",
]

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)")

_NUMBER = re.compile(r"[0-9]{1,19}")

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
    """What changes when the content does: the ETag, also a weak one, or the time of the last change."""
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
    """Where a redirect leads; None where it leads to nothing that can be asked for."""
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
