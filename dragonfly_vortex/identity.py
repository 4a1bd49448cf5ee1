"""
The IDs of tasks, made from their origins as the reference makes them, and those of hosts and peers. Nothing is read or
written.

The rules are those of ``dragonfly-client-util`` 1.5.10 (``id_generator/mod.rs``, ``url/mod.rs``, ``digest/mod.rs``). A
standard task has one of three: the SHA-256 of a given text, the digest in a registry's URL, or the SHA-256 of the URL
and the options. All peers of a cluster must agree on each byte, because a task with another ID is another task.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote_plus

from dragonfly_vortex.digest import parse_digest
from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.model import Origin
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from ada_url import URL

__all__ = [
    "DEFAULT_FILTERED_QUERY_PARAMS",
    "ContentHash",
    "default_revision",
    "digest_in_url",
    "filter_query",
    "host_id_of",
    "new_peer_id",
    "normalize_url",
    "shown_url",
    "task_id_of",
]

_SEED = "-seed"
"""The end of the IDs of a seed."""

DEFAULT_FILTERED_QUERY_PARAMS = (
    *("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"),
    *("X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-User-Agent"),
    *("X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires"),
    *("X-Goog-SignedHeaders", "X-Goog-Signature"),
    *("OSSAccessKeyId", "Expires", "Signature", "SecurityToken"),
    *("AccessKeyId", "X-Obs-Date", "X-Obs-Security-Token"),
    *("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature"),
    *("x-cos-security-token", "ns"),
)
"""
The parameters that ``dfget`` and the proxy of a ``dfdaemon`` leave out where the user names none: those of signed URLs
of S3, GCS, OSS, OBS and COS, and containerd's (``dragonfly-client-util`` 1.5.10, ``http/query_params.rs``).
"""

_DEFAULT_REVISIONS = {"hf": "main", "modelscope": "master", "opencsg": "main"}

_BLOB_URL = r".*://.*/v2/.*/blobs/([^?]+)(?:\?.*)?"
_MANIFEST_URL = r".*://.*/v2/.*/manifests/([^?]+)(?:\?.*)?"

_UNRESERVED = frozenset(b"-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
"""The bytes of a query that are written as they are, as in Go's ``url.QueryEscape``."""


_CARET = "\ue000"
"""
What stands for ``^`` while a URL is parsed. The standard has it escaped in a path since November 2024; the reference's
library (``url`` 2.5.8) is older, and leaves it.
"""


class ContentHash(Protocol):
    """A SHA-256 of ``hashlib``."""

    def copy(self) -> ContentHash:
        """Return a second hash of the same bytes."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""


def task_id_of(origin: Origin, kind: PieceKind = PieceKind.STANDARD, content: ContentHash | None = None) -> str:
    """
    The ID of a task.

    Its URL is taken as it is; a user's URL goes through :func:`normalize_url` first.

    :param origin: what the task is made from.
    :param kind: the kind of its pieces: each has rules of its own.
    :param content: the SHA-256 of the whole content. Only an imported file of :attr:`PieceKind.PERSISTENT_CACHE` needs
        it, and it is not changed.
    :raises InvalidOrigin: the kind has no rule for such an origin.
    """
    if kind is PieceKind.STANDARD:
        return _of_url(origin)
    if kind is PieceKind.PERSISTENT:
        return _of_object(origin)
    if kind is PieceKind.PERSISTENT_CACHE:
        return _of_file(origin, content)
    raise InvalidOrigin(f"expected a task ID: Dragonfly has no rule that makes one for tasks of kind {kind.label}")


def _of_url(origin: Origin) -> str:
    """The ID of a standard task: by a given text, by the digest in the URL, or by the URL and the options."""
    if origin.content_for_calculating_task_id is not None:
        return _sha256(origin.content_for_calculating_task_id)
    if not origin.url:
        raise InvalidOrigin("expected a URL, or a text for calculating the task ID, got neither")
    if origin.by_blob_digest:
        digest = digest_in_url(origin.url)
        if digest:
            return parse_digest(digest)[1]
        if re.fullmatch(_BLOB_URL, origin.url):
            raise InvalidOrigin(
                f"expected the URL of a blob with a SHA-256 or SHA-512 at its end, got {shown_url(origin.url)}"
            )
    length = "" if origin.piece_length is None else str(origin.piece_length)
    url = filter_query(origin.url, origin.filtered_query_params)
    # Nothing stands between the parts, in the reference neither: tag "a" and application "b" are tag "ab".
    text = "".join((url, origin.tag, origin.application, origin.revision, length, "STANDARD"))
    return _sha256(text)


def _sha256(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    import hashlib  # which loads OpenSSL: commands that make no ID do without

    return hashlib.sha256(text.encode()).hexdigest()


def _of_object(origin: Origin) -> str:
    """The ID of a persistent task, which is an object in an object storage."""
    if not (origin.url and origin.region and origin.endpoint):
        raise InvalidOrigin(
            "expected URL, region and endpoint of an object storage, from which the ID of a persistent task is made;"
            f" got {shown_url(origin.url)!r}, {origin.region!r} and {origin.endpoint!r}"
        )
    return _sha256("".join((origin.url, origin.region, origin.endpoint, "PERSISTENT")))


def _of_file(origin: Origin, content: ContentHash | None) -> str:
    """The ID of a persistent-cache task, which is a file: its content is part of the ID."""
    if origin.content_for_calculating_task_id is not None:
        return _sha256(origin.content_for_calculating_task_id)
    if content is None:
        raise InvalidOrigin("expected the content, from which the ID of a persistent-cache task is made, got none")
    length = "" if origin.piece_length is None else str(origin.piece_length)
    whole = content.copy()
    whole.update("".join((origin.tag, origin.application, length, "PERSISTENT_CACHE")).encode())
    return whole.hexdigest()


def digest_in_url(url: str) -> str:
    """
    The digest of a content, where its URL names one: that of a registry's blob, or of a manifest by its digest.

    :returns: ``sha256:<hex>`` or ``sha512:<hex>``; empty where the URL names none.
    """
    match = re.fullmatch(_BLOB_URL, url) or re.fullmatch(_MANIFEST_URL, url)
    if match is None:
        return ""
    try:
        algorithm, _ = parse_digest(match[1])
    except ValueError:
        return ""
    return match[1] if algorithm.startswith("sha") else ""


def default_revision(url: str) -> str:
    """The revision that ``dfget`` asks a hub of models for where the user names none; empty for other sources."""
    return _DEFAULT_REVISIONS.get(url.partition("://")[0], "")


def normalize_url(url: str) -> str:
    """
    A URL as ``dfget`` sends it to its daemon: scheme and host in small letters, no default port, no ``.`` and ``..``
    in the path, which is at least ``/``, and what must be escaped is escaped (WHATWG's URL standard).

    :raises InvalidOrigin: it is no absolute URL.
    """
    return _text(_parsed(url).href)


def filter_query(url: str, filtered_query_params: tuple[str, ...]) -> str:
    """
    A URL without some parameters of its query, and with the others in the order of their names.

    :param filtered_query_params: the names of the parameters that are left out. Without any, the URL stays as it is,
        and is not even normalized.
    :raises InvalidOrigin: it is no absolute URL.
    """
    if not filtered_query_params:
        return url
    parsed = _parsed(url)
    pairs = []
    for segment in _text(parsed.search).removeprefix("?").split("&"):
        name, _, value = segment.partition("=")
        # Go's parser, which the reference follows here, skips what has a semicolon.
        if segment and ";" not in segment and unquote_plus(name) not in filtered_query_params:
            pairs.append((unquote_plus(name), unquote_plus(value)))
    pairs.sort(key=lambda pair: pair[0])
    parsed.search = "&".join(f"{_escape(name)}={_escape(value)}" for name, value in pairs)
    href = _text(parsed.href)
    if parsed.pathname == "/" and _has_no_path(url):
        scheme, _, rest = href.partition("://")
        authority, _, rest = rest.partition("/")
        return f"{scheme}://{authority}{rest}"
    return href


def _parsed(url: str) -> URL:
    """A URL, parsed by the standard that the reference's library follows, too; :func:`_text` is its text."""
    from ada_url import URL  # it takes as long as the rest of a command's start, and most commands have no URL

    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    try:
        return URL("".join((scheme, separator, authority, slash, path.replace("^", _CARET))))
    except ValueError:
        # Without the cause, whose text has the whole URL.
        raise InvalidOrigin(f"expected a URL like https://example.com/file, got {shown_url(url)!r}") from None


def shown_url(url: str) -> str:
    """
    A URL as messages show it. Its user, password and query may be secrets: a signed URL is as good as a password.

    :param url: any text.
    :returns: the URL without user, password and fragment, and with three dots for its query.
    """
    bare, _, query = url.partition("#")[0].partition("?")
    scheme, separator, rest = bare.rpartition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}{'?...' if query else ''}"


def _text(part: str) -> str:
    """A part of a parsed URL as the reference writes it."""
    return part.replace(quote(_CARET), "^")


def _has_no_path(url: str) -> bool:
    """Whether there is nothing behind a URL's host; the parser makes ``/`` of that."""
    _, separator, rest = url.partition("://")
    return bool(separator) and "/" not in re.split("[?#]", rest, maxsplit=1)[0]


def _escape(text: str) -> str:
    """A name or a value as it is written in a query."""
    return "".join(
        chr(byte) if byte in _UNRESERVED else "+" if byte == 0x20 else f"%{byte:02X}" for byte in text.encode()
    )


def host_id_of(ip: str, hostname: str, *, is_seed: bool) -> str:
    """The ID by which schedulers and children know a host."""
    return f"{ip}-{hostname}{_SEED if is_seed else ''}"


def new_peer_id(ip: str, hostname: str, *, is_seed: bool) -> str:
    """Make an ID for one download, or one announcement, of a host. A scheduler takes each only once."""
    from uuid import uuid4

    return f"{ip}-{hostname}-{uuid4()}{_SEED if is_seed else ''}"
