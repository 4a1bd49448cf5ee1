"""
A web server for tests: it serves one content, as a script says.

Without a script it answers as a good server does: ranges, validators and conditions (RFC 9110, 13 and 14).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IReactorTCP,
    ITCPTransport,
)
from twisted.internet.protocol import ServerFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

__all__ = [
    "Asked",
    "Fault",
    "ScriptedOrigin",
    "cut_off",
    "encoded",
    "hang",
    "redirect",
    "say",
    "say_text",
    "shifted",
    "whole",
]

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    A request that was received.

    :param uri: path and query, as they came; of a proxy's request, the whole URL.
    :param headers: the values by names in small letters.
    :param range: the first and the last byte; None for none.
    """

    uri: str
    headers: dict[str, str]
    range: tuple[int, int] | None


Fault = Callable[["ScriptedOrigin", Request, Asked], None]
"""Answers a request in another way than a good server does."""


@dataclass(eq=False)
class ScriptedOrigin:
    """
    A web server on a port of 127.0.0.1. All of it may be changed while it runs.

    :param content: what is at each path.
    :param etag: with its quotes; empty for none.
    :param last_modified: empty for none.
    :param has_ranges: whether a range can be had.
    :param names_length: whether an answer of all has a Content-Length.
    :param script: answers the next requests, one each; None for one that is answered well.
    :param always: answers all others, where it is not None.
    """

    content: bytes
    etag: str = '"1"'
    last_modified: str = ""
    has_ranges: bool = True
    names_length: bool = True
    script: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    asked: list[Asked] = field(default_factory=list)
    """All requests that have arrived."""
    _port: IListeningPort | None = field(default=None, init=False)
    _transports: set[ITCPTransport] = field(default_factory=set, init=False)
    _waiting: list[tuple[int, Deferred[None]]] = field(default_factory=list, init=False)
    _scheme: str = field(default="http", init=False)

    def start(self, reactor: IReactorTCP, tls: IOpenSSLServerConnectionCreator | None = None) -> None:
        """
        Listen.

        :param tls: for a server of ``https``.
        """
        site = _Site(_Everything(self))
        factory = cast(ServerFactory, site if tls is None else TLSMemoryBIOFactory(tls, False, site))
        self._scheme = "http" if tls is None else "https"
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def port(self) -> int:
        """Its port."""
        return cast(IListeningPort, self._port).getHost().port  # type: ignore[attr-defined,no-any-return]

    def url(self, path: str = "/content.bin", host: str = "127.0.0.1") -> str:
        """A URL of the content."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges that have been asked for, but for the first byte alone, in order."""
        return sorted(each.range for each in self.asked if each.range not in (None, (0, 0)))

    def until_asked(self, count: int) -> Deferred[None]:
        """Fires when so many requests have arrived in all."""
        come: Deferred[None] = Deferred()
        self._waiting.append((count, come))
        self._tell()
        return come

    def stop(self) -> Deferred[None]:
        """Listen no more, and abort all connections."""
        for transport in list(self._transports):
            transport.abortConnection()
        return maybeDeferred(cast(IListeningPort, self._port).stopListening).addCallback(lambda _: None)

    # -- what a script may call ----------------------------------------------------------------------------------------

    def answer_well(self, request: Request, asked: Asked) -> None:
        """Answer as a good server does."""
        if not self._meets_condition(asked):
            say(412)(self, request, asked)
            return
        if asked.range is None or not self.has_ranges:
            self.send(request, self.content, length=len(self.content) if self.names_length else None)
        elif asked.range[0] >= len(self.content):
            say(416, Content_Range=f"bytes */{len(self.content)}")(self, request, asked)
        else:
            first, last = asked.range[0], min(asked.range[1], len(self.content) - 1)
            self.send(request, self.content[first : last + 1], place=f"bytes {first}-{last}/{len(self.content)}")

    def send(
        self, request: Request, data: bytes, *, place: str = "", length: int | None = -1, is_cut: bool = False
    ) -> None:
        """
        Send content.

        :param place: the Content-Range; empty for an answer that is no part.
        :param length: the Content-Length; -1 for the right one, None for none.
        :param is_cut: whether the connection ends behind it.
        """
        if place:
            request.setResponseCode(206)
            request.setHeader("Content-Range", place)
        for name, value in (("ETag", self.etag), ("Last-Modified", self.last_modified)):
            if value:
                request.setHeader(name, value)
        if length is not None:
            request.setHeader("Content-Length", str(len(data) if length == -1 else length))
        request.write(data)
        if is_cut:
            request.loseConnection()
        else:
            request.finish()

    def took(self, request: Request) -> Asked:
        """Record that a request was received."""
        headers = {
            name.decode().lower(): b", ".join(values).decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        found = _RANGE.fullmatch(headers.get("range", ""))
        asked = Asked(
            uri=request.uri.decode(),
            headers=headers,
            range=None if found is None else (int(found[1]), int(found[2])),
        )
        self.asked.append(asked)
        self._transports.add(cast(ITCPTransport, request.transport))
        self._tell()
        return asked

    def _tell(self) -> None:
        """Fire what waits for a number of requests."""
        for each in [each for each in self._waiting if each[0] <= len(self.asked)]:
            self._waiting.remove(each)
            each[1].callback(None)

    def _meets_condition(self, asked: Asked) -> bool:
        """Whether the condition of a request is met, where it has one."""
        wanted, unmodified = asked.headers.get("if-match"), asked.headers.get("if-unmodified-since")
        return wanted in (None, self.etag) and unmodified in (None, self.last_modified)


class _Site(Site):
    """A site without a log: what was asked is in :attr:`ScriptedOrigin.asked`."""

    noisy = False

    def log(self, request: Request) -> None:
        """Write nothing."""


class _Everything(Resource):
    """Answers for all paths."""

    isLeaf = True

    def __init__(self, origin: ScriptedOrigin) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._origin = origin

    def render(self, request: Request) -> int:
        origin = self._origin
        asked = origin.took(request)
        fault = origin.script.pop(0) if origin.script else origin.always
        request.notifyFinish().addErrback(lambda _: None)
        if fault is None:
            origin.answer_well(request, asked)
        else:
            fault(origin, request, asked)
        return NOT_DONE_YET


# -- faults


def say(status: int, **headers: str) -> Fault:
    """Answer with a status and headers, whose names have an underscore for each hyphen, and without content."""

    def answer(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        request.setHeader("Content-Length", "0")
        request.finish()

    return answer


def say_text(text: str) -> Fault:
    """Answer with a text."""

    def answer(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
        origin.send(request, text.encode())

    return answer


def redirect(url: str, status: int = 302) -> Fault:
    """Send the client elsewhere."""
    return say(status, Location=url)


def cut_off(after: int) -> Fault:
    """End the connection after so many bytes of what was asked for."""

    def answer(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
        first, last = asked.range or (0, len(origin.content) - 1)
        place = f"bytes {first}-{last}/{len(origin.content)}" if asked.range else ""
        data = origin.content[first : last + 1]
        origin.send(request, data[:after], place=place, length=len(data), is_cut=True)

    return answer


def shifted(by: int, *, says_so: bool = True) -> Fault:
    """Send a range that lies so many bytes behind the one that was asked for."""

    def answer(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
        first, last = asked.range or (0, 0)
        shift = by if says_so else 0
        data = origin.content[first + by : last + 1 + by]
        origin.send(request, data, place=f"bytes {first + shift}-{last + shift}/{len(origin.content)}")

    return answer


def whole(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
    """Send the whole content, whatever range was requested."""
    origin.send(request, origin.content)


def encoded(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
    """Say that the content is compressed."""
    request.setHeader("Content-Encoding", "gzip")
    origin.answer_well(request, asked)


def hang(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
    """Answer nothing."""
