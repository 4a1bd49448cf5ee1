"""
The location of a source: the address of a user's URL, and its name in messages.

A URL may hold secrets: a user's name and password, and the signature in the query of a presigned URL. They are in no
name, and in no ``repr``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from dragonfly_vortex import __version__
from dragonfly_vortex.errors import InvalidOrigin, UsageError
from dragonfly_vortex.identity import shown_url
from dragonfly_vortex.model import NO_CREDENTIALS, Credentials, Origin
from dragonfly_vortex.source.s3 import object_url, sign_url
from dragonfly_vortex.transport_table import SOURCE_SCHEMES

__all__ = [
    "HF_ENDPOINT",
    "SECRET_VARIABLES",
    "Header",
    "Location",
    "Repository",
    "is_directory",
    "locate",
    "name_of",
    "origin_from",
    "parse_header",
]

Header = tuple[str, str]
"""Name and value of a header of HTTP."""

HF_ENDPOINT = "https://huggingface.co"
"""The hub of models, unless the environment variable of this name says another."""

_HUB = "hf"
_OBJECT = "s3"

SECRET_VARIABLES = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Variables of the environment with credentials."""

_REPOSITORY = re.compile(
    r"(?:(?P<kind>models|datasets|spaces)/)?(?!models/|datasets/|spaces/)(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<path>.*)"
)

_DEFAULT_REVISION = "main"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header: a token (RFC 9110, 5.6.2)."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""The characters that no header's value has (RFC 9110, 5.5)."""

_OURS = frozenset(
    (
        *("accept-encoding", "connection", "content-length", "if-match", "if-modified-since", "if-none-match"),
        *("if-range", "if-unmodified-since", "range", "te", "transfer-encoding", "upgrade"),
    )
)
"""
Headers by which the ranges of a source are asked for, or which frame a request. A user cannot set them: a request with
a length and without a body would make the source take the next request for that body.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """
    The location of a source over HTTP.

    :param url: what is asked for, without the name and password of a user.
    :param name: the URL as messages have it, without secrets.
    :param headers: what the user wants to be sent, credentials included.
    """

    url: str = field(repr=False)
    name: str
    headers: tuple[Header, ...] = field(repr=False)


class Repository(NamedTuple):
    """
    A repository on a hub of models, or a file or directory in it, as a URL names it.

    :param kind: ``models``, ``datasets`` or ``spaces``; empty where the URL does not say, which means ``models``.
    :param name: owner and name.
    :param revision: a branch, a tag or a commit.
    :param path: of the file, as URLs have it, or of a directory, with a slash at its end; empty for all of it.
    """

    kind: str
    name: str
    revision: str
    path: str

    @classmethod
    def of(cls, origin: Origin) -> Repository:
        """
        Read an origin.

        :raises InvalidOrigin: it names no repository.
        """
        found = _REPOSITORY.fullmatch(origin.url.partition("://")[2])
        if found is None:
            raise _invalid(origin.url)
        revision = origin.revision or unquote(found["revision"] or _DEFAULT_REVISION)
        return cls(found["kind"] or "", found["name"], revision, found["path"])

    @property
    def url(self) -> str:
        """The URL of the whole repository, without the revision, which is a field of its own, as in the reference."""
        return f"{_HUB}://{f'{self.kind}/' if self.kind else ''}{self.name}/"

    def require_file(self) -> None:
        """
        Check whether it is a file.

        :raises InvalidOrigin: it is none.
        """
        if not self.path:
            raise _invalid(self.url)

    def place(self, endpoint: str) -> str:
        """
        The URL of a file on a hub, or of the list of files, by the hub's interface over HTTP.

        :param endpoint: the hub's.
        """
        hub, revision = endpoint.rstrip("/"), quote(self.revision, safe="")
        if not self.path or self.path.endswith("/"):
            return f"{hub}/api/{self.kind or 'models'}/{self.name}/revision/{revision}"
        kind = f"{self.kind}/" if self.kind in ("datasets", "spaces") else ""
        return f"{hub}/{kind}{self.name}/resolve/{revision}/{self.path}"


def is_directory(url: str) -> bool:
    """Whether a URL is that of a repository on a hub of models, or of a directory there, and not of a file."""
    return url.lower().startswith(f"{_HUB}://") and url.endswith("/")


def name_of(url: str) -> str:
    """
    Return a URL for messages: without user, password, query and fragment.

    :raises InvalidOrigin: it is no URL of a source.
    """
    parts = _split(url)
    return f"{parts.scheme}://{_netloc(parts)}{parts.path}"


def origin_from(url: str) -> Origin:
    """
    Make the origin of a URL. A revision in the URL becomes a field of its own, as in the reference.

    :param url: as :func:`~dragonfly_vortex.identity.normalize_url` writes it, ``http``, ``https``, ``s3`` or
        ``hf://OWNER/REPOSITORY[@REVISION]/PATH``, with ``datasets/`` or ``spaces/`` before the owner where that is the
        kind of the repository.
    :raises InvalidOrigin: it is no URL of a source.
    """
    parts = _split(url)
    if parts.scheme != _HUB:
        return Origin(url=url)
    found = Repository.of(Origin(url=url))
    found.require_file()
    return Origin(url=f"{found.url}{found.path}", revision=found.revision)


def locate(
    origin: Origin,
    headers: Sequence[Header] = (),
    *,
    credentials: Credentials = NO_CREDENTIALS,
    environment: Mapping[str, str] | None = None,
    method: str = "GET",
) -> Location:
    """
    Find where an origin leads.

    :param origin: its URL, revision, region and endpoint are read. A directory of a hub leads to the list of the
        repository's files, an object to a URL that is signed for some days.
    :param headers: what the user wants to be sent. Those that a download sets itself are left out.
    :param credentials: what the source is shown; those of the environment where there are none, and the origin names
        no hub or object storage of its own. An object is asked for without a signature where there are none at all.
    :param environment: with :data:`SECRET_VARIABLES`, ``HF_ENDPOINT`` for the address of a mirror, and
        ``AWS_ENDPOINT_URL`` and ``AWS_REGION`` for those of an object storage; None for an empty one.
    :param method: what the signature of an object is good for.
    :raises InvalidOrigin: it is no URL of a source, or a header is none.
    """
    if not all(_NAME.fullmatch(name) and not _CONTROL.search(value) for name, value in headers):
        raise InvalidOrigin("expected headers without control characters, each with a name, got something else")
    environment = {} if environment is None else environment
    parts = _split(origin.url)
    url, authorization = origin.url, _basic(parts)
    if parts.scheme == _HUB:
        url = Repository.of(origin).place(origin.endpoint or environment.get("HF_ENDPOINT") or HF_ENDPOINT)
        token = credentials.token
        if not origin.endpoint:  # the token of the environment is for its own hub
            token = token or environment.get("HF_TOKEN", "")
        authorization = f"Bearer {token}" if token else ""
    if parts.scheme == _OBJECT:
        url, authorization = _signed(origin, credentials, environment, method), ""
    wanted = [header for header in headers if header[0].lower() not in _OURS]
    given = {name.lower() for name, _ in headers}
    if authorization and "authorization" not in given:
        wanted.append(("Authorization", authorization))
    if "user-agent" not in given:
        wanted.append(("User-Agent", f"dfvortex/{__version__}"))
    parts = _split(url)
    bare = parts._replace(netloc=_netloc(parts), path=parts.path or "/", fragment="").geturl()
    return Location(url=bare, name=name_of(url), headers=tuple(wanted))


def _signed(origin: Origin, credentials: Credentials, environment: Mapping[str, str], method: str) -> str:
    """The signed URL of an object."""
    region = origin.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
    endpoint = origin.endpoint
    if not endpoint:  # the key of the environment is for its own storage
        endpoint = environment.get("AWS_ENDPOINT_URL", "")
        if not credentials.access_key_id:
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            key, secret, session = (environment.get(name, "") for name in names)
            credentials = Credentials(access_key_id=key, access_key_secret=secret, session_token=session)
    url = object_url(origin.url, region, endpoint)
    if not credentials.access_key_id:
        return url
    return sign_url(method, url, credentials, at=datetime.now(timezone.utc), region=region)


def parse_header(text: str) -> Header:
    """
    Read a header of the command line.

    :param text: ``NAME: VALUE``.
    :raises UsageError: it is none, or one that a download sets itself. The value, which may be a secret, is not in the
        message.
    """
    name, colon, value = text.partition(":")
    if not colon or not _NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
        raise UsageError("expected a header NAME: VALUE of printable ASCII characters, got something else")
    if name.lower() in _OURS:
        raise UsageError(f"expected a header that a download does not set itself, got {name}")
    return name, value.strip()


def _split(url: str) -> SplitResult:
    """
    The parts of a URL.

    :raises InvalidOrigin: it is no URL of a source.
    """
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in SOURCE_SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good or not url.isprintable() or " " in url:
        raise InvalidOrigin(f"expected a URL of {', '.join(SOURCE_SCHEMES)} with a host, got {shown_url(url)!r}")
    return parts


def _netloc(parts: SplitResult) -> str:
    """Host and port, without a user. The host of a hub's URL is an owner, whose letters may be large."""
    return parts.netloc.rpartition("@")[2] if parts.scheme != _HUB else parts.netloc


def _basic(parts: SplitResult) -> str:
    """The credentials of a URL with user and password; empty for one without."""
    user = parts.netloc.rpartition("@")[0]
    if not user:
        return ""
    name, _, password = user.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")


def _invalid(url: str) -> InvalidOrigin:
    return InvalidOrigin(f"expected {_HUB}://[datasets/|spaces/]OWNER/REPOSITORY[@REVISION]/PATH, got {name_of(url)!r}")
