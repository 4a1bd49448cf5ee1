"""
The status page: what a peer does, live, for a browser. ``GET /`` is the page, and ``GET /events`` its stream of events.

The status consists of sections, each with a name. An event holds those sections that have changed since the last event
of its stream, and ``null`` for those that are gone. So an event that is left out, because a browser does not read,
makes the next one longer and nothing else: at most one event waits for a browser.

The page names tasks, URLs and addresses. It is for the machine it runs on, unless the configuration says otherwise, and
a web site that a browser on this machine shows cannot read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import ClassVar, Protocol, cast

import msgspec
from twisted.internet.interfaces import IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from dragonfly_vortex.address import most_of_share, plain_ip, share_of
from dragonfly_vortex.limited_log import LimitedLog

__all__ = ["INTERVAL", "MOST_STREAMS", "Audience", "Status", "StatusPage"]

INTERVAL = 0.5
"""Seconds between two events of a stream."""

MOST_STREAMS = 8
"""Streams that there may be. One more gets status 503, and its page tries again."""

_KEPT_ALIVE = 15.0
"""Seconds without a change after which a line is sent anyway, so that the end of a connection is noticed."""

_PATIENCE = 30.0
"""Seconds that a browser may leave its connection unread before the stream ends."""

_FILES = {
    b"": ("index.html", b"text/html; charset=utf-8"),
    b"status.css": ("status.css", b"text/css; charset=utf-8"),
    b"status.js": ("status.js", b"text/javascript; charset=utf-8"),
    b"status.svg": ("status.svg", b"image/svg+xml"),
}
"""The files of the page, by their paths: each with its name in the package, and its type."""

_HOST = re.compile(rb"(?:\[(?P<ip>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::[0-9]{1,5})?")

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


class Status(Protocol):
    """The interface of what the page shows."""

    def begin(self) -> None:
        """Called when a browser has begun to watch, and no other one watches."""

    def sections(self) -> Mapping[str, object]:
        """All sections by name, as values that msgspec can write as JSON. Called while a browser watches."""

    def end(self) -> None:
        """Called when the last browser has ended."""


class Audience:
    """
    Decides who may read the page.

    :param allow_remote: whether other machines may.
    :param hosts: names by which they may call this one, beside its addresses. A name that is none of these may be one
        that a web site has made to lead here (DNS rebinding).
    """

    def __init__(self, *, allow_remote: bool = False, hosts: frozenset[str] = frozenset()) -> None:
        self._allow_remote = allow_remote
        self._hosts = frozenset(host.lower() for host in hosts)

    def refusal(self, request: Request) -> str:
        """Why a request is refused, in a sentence for its sender; empty for one that is not."""
        if not self._allow_remote and not _is_loopback(_client_ip(request)):
            return "The status page is for the peer's own machine, unless metrics.status.allow_remote is true."
        host = request.getHeader(b"host") or b""
        if not self._is_own_name(_name_in(host)):
            return "Open the status page by an address, as localhost, or by a name that metrics.status.hosts has."
        origin = request.getHeader(b"origin")
        if origin is not None and origin != b"http://" + host:
            return "The status page is not for the pages of other origins."
        site = request.getHeader(b"sec-fetch-site")
        is_followed_link = request.path == b"/" and request.getHeader(b"sec-fetch-mode") == b"navigate"
        if site in (b"cross-site", b"same-site") and not is_followed_link:
            return "The status page is not for the pages of other sites."
        return ""

    def _is_own_name(self, name: str) -> bool:
        """Whether a host's name cannot be one that leads elsewhere, too."""
        if name == "localhost" or _is_loopback(name):
            return True
        return self._allow_remote and (_is_address(name) or name in self._hosts)


def _name_in(host: bytes) -> str:
    """The host of the header ``Host``, without the port; empty where there is none."""
    found = _HOST.fullmatch(host)
    return "" if found is None else (found["ip"] or found["name"]).decode().lower()


def _client_ip(request: Request) -> str:
    return str(getattr(request.getClientAddress(), "host", ""))


def _is_address(text: str) -> bool:
    try:
        plain_ip(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    try:
        return plain_ip(text).is_loopback
    except ValueError:
        return False


class StatusPage:
    """
    The page and its streams.

    :param clock: for the events.
    :param status: what is shown; it is asked for nothing while no browser watches.
    :param audience: who may read it.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, clock: IReactorTime, status: Status, audience: Audience) -> None:
        self._clock = clock
        self._status = status
        self._limited_log = LimitedLog(self.log, clock)
        self._streams: list[_Stream] = []
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self._files = {path: _File(audience, kind) for path, (_, kind) in _FILES.items()}
        self.resources: dict[bytes, Resource] = {**self._files, b"events": _Events(audience, self)}
        """What a server serves, by path."""

    def start(self) -> None:
        """Read the files of the page. This blocks for a moment."""
        directory = files(__package__) / "static"
        for path, (name, _) in _FILES.items():
            self._files[path].content = (directory / name).read_bytes()

    def stop(self) -> None:
        """End all streams."""
        for stream in list(self._streams):
            stream.abort()
            self._forget(stream)
        self._limited_log.close()

    def has_room(self, share: str) -> bool:
        """
        Whether there may be one more stream. One address has at most half of what the others leave, this machine
        excepted: a browser that reads keeps its stream for as long as it likes.

        :param share: that of the browser's address, see :func:`~dragonfly_vortex.address.share_of`.
        """
        own = sum(stream.share == share for stream in self._streams)
        total = len(self._streams)
        return total < MOST_STREAMS and (not share or own < most_of_share(MOST_STREAMS, total - own))

    def is_stream(self, connection: object) -> bool:
        """Whether a connection is that of a stream."""
        return any(stream.connection is connection for stream in self._streams)

    def add(self, request: Request) -> None:
        """Send events as the answer to a request, until its connection ends."""
        stream = _Stream(request, self._clock.seconds())
        self._streams.append(stream)
        request.notifyFinish().addBoth(lambda _: self._forget(stream))
        if not self._ticking.running:
            self._status.begin()
            self._ticking.start(INTERVAL)  # the first event leaves now
        # Otherwise the first event leaves with the next ones of the others.

    def _forget(self, stream: _Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            if not self._streams:
                self._ticking.stop()
                self._status.end()

    def _tick(self) -> None:
        """Send an event to each browser that reads."""
        now = self._clock.seconds()
        for stream in list(self._streams):
            if stream.is_stuck(now):
                stream.abort()
        readers = [stream for stream in self._streams if stream.is_read]
        if not readers:
            return
        try:
            sections = {name: msgspec.json.encode(value) for name, value in self._status.sections().items()}
        except Exception:  # a defect of ours: the page shows an older status, and the log says why
            self._limited_log.failure("the status could not be collected")
            return
        for stream in readers:
            stream.send(sections, now)


@implementer(IPushProducer)
class _Stream:
    """
    The events for one browser.

    :param request: whose answer they are.
    :param now: seconds, as in each method.
    """

    def __init__(self, request: Request, now: float) -> None:
        self._request = request
        self.connection = cast(ITCPTransport, request.channel.transport)
        """The connection that the events leave by."""
        self.share = share_of(_client_ip(request))
        """Which share of the streams it counts to."""
        self._sent: dict[str, bytes] = {}  # the sections that the browser has
        self._sent_at = now
        self.is_read = True
        """Whether the browser has read what was sent so far, but for what the kernel holds."""
        request.setHeader(b"content-type", b"text/event-stream")
        request.write(b"retry: 2000\n\n")
        request.registerProducer(self, True)

    def send(self, sections: Mapping[str, bytes], now: float) -> None:
        """Send the sections that the browser does not have, or that it is alive."""
        changed = {name: data for name, data in sections.items() if self._sent.get(name) != data}
        changed.update((name, b"null") for name in self._sent if name not in sections)
        if changed:
            self._sent = dict(sections)
            self._sent_at = now
            self._request.write(b"data: {%b}\n\n" % b",".join(b'"%b":%b' % (k.encode(), v) for k, v in changed.items()))
        elif now - self._sent_at >= _KEPT_ALIVE:
            self._sent_at = now
            self._request.write(b":\n\n")

    def is_stuck(self, now: float) -> bool:
        """Whether the browser has not read for too long."""
        return not self.is_read and now - self._sent_at >= _PATIENCE

    def abort(self) -> None:
        """End the connection, whatever waits to be sent."""
        self.connection.abortConnection()

    def pauseProducing(self) -> None:
        """Send nothing more for now: the last event has not left."""
        self.is_read = False

    def resumeProducing(self) -> None:
        """Send the next event again."""
        self.is_read = True

    def stopProducing(self) -> None:
        """Called by the transport when the connection has ended."""
        self.is_read = False


class _Guarded(Resource):
    """
    A part of the page.

    :param audience: who may read it.
    """

    isLeaf = True

    def __init__(self, audience: Audience) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self._audience = audience

    def render(self, request: Request) -> bytes | int:
        """Answer a request, or refuse it."""
        for name, value in _HEADERS:
            request.setHeader(name, value)
        refusal = self._audience.refusal(request)
        if refusal:
            return _text(request, 403, refusal)
        answer: bytes | int = super().render(request)  # type: ignore[no-untyped-call] # Twisted's
        return answer


class _File(_Guarded):
    """
    A file of the page.

    :param kind: its type.
    """

    def __init__(self, audience: Audience, kind: bytes) -> None:
        super().__init__(audience)
        self.content = b""
        self._kind = kind

    def render_GET(self, request: Request) -> bytes:
        """Answer a request."""
        request.setHeader(b"content-type", self._kind)
        return self.content

    def render_HEAD(self, request: Request) -> bytes:
        """Answer a request for the headers alone. Twisted would log a warning for each that had a body."""
        request.setHeader(b"content-length", str(len(self.render_GET(request))).encode())
        return b""


class _Events(_Guarded):
    """
    The stream of events.

    :param page: what sends them.
    """

    def __init__(self, audience: Audience, page: StatusPage) -> None:
        super().__init__(audience)
        self._page = page

    def render_GET(self, request: Request) -> bytes | int:
        """Answer a request, without end."""
        if not self._page.has_room(share_of(_client_ip(request))):
            request.setHeader(b"retry-after", b"10")
            return _text(request, 503, "The limit of open status pages, or of those of one address, is reached.")
        self._page.add(request)
        return NOT_DONE_YET

    def render_HEAD(self, request: Request) -> bytes:
        """Answer without a stream."""
        request.setHeader(b"content-type", b"text/event-stream")
        return b""


def _text(request: Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return f"{text}\n".encode()
