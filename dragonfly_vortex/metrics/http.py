"""
An HTTP server for a few pages; the one for metrics, ``GET /metrics``, with the status page where there is one; and the
one for probes: ``GET /healthy`` says that the process runs, ``GET /readiness`` whether it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTCP, IReactorThreads, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from dragonfly_vortex.deferreds import Ending, FlatLock
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.metrics.instruments import CONTENT_TYPE, Family, written
from dragonfly_vortex.metrics.status_page import StatusPage
from dragonfly_vortex.threads import DaemonThreadPool, run_in_pool

__all__ = ["HTTPServer", "HealthServer", "IHTTPReactor", "IMetricsReactor", "MetricsServer"]

_MAX_CONNECTIONS = 16
"""
Connections that there may be: a Prometheus needs one, and those of others must not take the peer's descriptors, nor
shut it out.
"""

_IDLE_TIMEOUT = 90.0
"""Seconds that a connection stays open without a request: longer than Prometheus's usual interval of a minute."""

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class IHTTPReactor(IReactorTCP, IReactorTime):
    """The interfaces of a reactor that a server of pages uses."""


class IMetricsReactor(IHTTPReactor, IReactorThreads):
    """The interfaces of a reactor that the metrics server uses."""


@implementer(IServer)
class HTTPServer:
    """
    Serves pages, each at a path of one name, to few connections.

    :param reactor: where it listens.
    :param subject: what the pages are about, for the log.
    :param pages: the pages, by name.
    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 0 for any.
    :param is_stream: whether a connection has an answer that goes on without end. Such a one, of which there are few,
        makes no room for others.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IHTTPReactor,
        subject: str,
        pages: Mapping[bytes, Resource],
        *,
        ip: str,
        port: int,
        is_stream: Callable[[object], bool] = lambda connection: False,
    ) -> None:
        self._reactor = reactor
        self._subject = subject
        self._pages = pages
        self._ip = ip
        self._port_number = port
        self._is_stream = is_stream
        self._connections: _Connections | None = None
        self._port: IListeningPort | None = None

    @property
    def address(self) -> IAddress | None:
        """The address where it listens; None while it does not."""
        return self._port.getHost() if self._port is not None else None

    def start(self) -> IAddress:
        """See :meth:`IServer.start`."""
        root = Resource()
        for name, page in self._pages.items():
            root.putChild(name, page)
        site = _Site(root, _Request, parsePOSTFormSubmission=False, timeout=_IDLE_TIMEOUT, reactor=self._reactor)
        connections = _Connections(site, self._is_stream)
        # Twisted wraps servers by what it declares to be a client's factory.
        port = self._reactor.listenTCP(self._port_number, connections, interface=self._ip)  # type: ignore[arg-type]
        self._connections, self._port = connections, port
        address: IAddress = port.getHost()
        self.log.info("serving {subject} on {address}", subject=self._subject, address=address)
        return address

    async def _stop(self) -> None:
        port, self._port = self._port, None
        connections, self._connections = self._connections, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        if connections is not None:
            await connections.close()

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`IServer.stop`. A page that has not left by now is not waited for: there will be another one."""
        return Deferred.fromCoroutine(self._stop())


class MetricsServer(HTTPServer):
    """
    Serves a page of metrics.

    :param reactor: where it listens.
    :param families: collects it; called in a thread.
    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 4002 by Dragonfly's convention; 0 for any.
    :param status: the status page; None for none.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IMetricsReactor,
        families: Callable[[], Iterable[Family]],
        *,
        ip: str,
        port: int,
        status: StatusPage | None = None,
    ) -> None:
        self._limited_log = LimitedLog(self.log, reactor)
        self._page = _Page(reactor, families, self._limited_log)
        self._status = status
        pages: dict[bytes, Resource] = {b"metrics": self._page}
        if status is None:
            super().__init__(reactor, "metrics", pages, ip=ip, port=port)
        else:
            pages.update(status.resources)
            super().__init__(reactor, "metrics", pages, ip=ip, port=port, is_stream=status.is_stream)

    def start(self) -> IAddress:
        """See :meth:`IServer.start`."""
        if self._status is not None:
            self._status.start()
        address = super().start()
        self._page.start()
        return address

    async def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
        await super()._stop()
        self._page.stop()
        self._limited_log.close()


class _Connection(ProtocolWrapper):
    """
    A connection that a stranger cannot fill the log by: Twisted logs a traceback for a length of thousands of digits.

    A child of Vortex that was given this port has an answer at once. Twisted would wait for the end of a line.
    """

    _has_begun = False

    def dataReceived(self, data: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            if not data[:1].isalpha():  # no method of HTTP
                self.write(_BAD_REQUEST)
                self.loseConnection()
        if self.disconnecting:
            return
        try:
            super().dataReceived(data)  # type: ignore[no-untyped-call] # Twisted's
        except ValueError:  # a page's own errors do not come here
            self.abortConnection()


class _Connections(WrappingFactory[_Connection]):
    """All connections: so many and no more, the oldest makes room for a new one, and all are closed in the end."""

    noisy = False
    protocol = _Connection

    def __init__(self, site: Site, is_stream: Callable[[object], bool]) -> None:
        super().__init__(site)  # type: ignore[no-untyped-call] # Twisted's
        self._is_stream = is_stream
        self._ending = Ending(lambda: not self.protocols)

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        if len(self.protocols) >= _MAX_CONNECTIONS:
            # A stream is the oldest as a rule. There are fewer of them than connections.
            oldest = next(each for each in self.protocols if not self._is_stream(each))
            del self.protocols[oldest]  # not when it is lost, which is later: more may come in this turn
            oldest.transport.abortConnection()
        return super().buildProtocol(addr)

    def unregisterProtocol(self, p: _Connection) -> None:
        self.protocols.pop(p, None)  # one that has made room is not there any more
        self._ending.look()

    def close(self) -> Deferred[None]:
        """Close them. Fires when there is none any more."""
        for connection in list(self.protocols):
            connection.transport.abortConnection()
        return self._ending.wait()


class _Request(Request):
    """A request without a body: Twisted would keep one, however long, in memory or in a file."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)  # type: ignore[no-untyped-call] # Twisted's

    def handleContentChunk(self, data: bytes) -> None:
        """Forget it."""


class _Site(Site):
    """A site that logs no line for a request, and has no clock that runs each second."""

    noisy = False

    def startFactory(self) -> None:
        """Open no log."""

    def stopFactory(self) -> None:
        """There is none to close."""


class _Page(Resource):
    """
    The page.

    The reference's page also answers DELETE, and resets all counters. This page does not: counters only grow.
    """

    def __init__(
        self,
        reactor: IReactorThreads,
        families: Callable[[], Iterable[Family]],
        limited_log: LimitedLog,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self._log = limited_log
        self._reactor = reactor
        self._pool: DaemonThreadPool | None = None
        self._families = families
        self._one_at_a_time = FlatLock()  # a client that has disconnected meanwhile gets no page

    def start(self) -> None:
        """Be ready to collect."""
        self._pool = DaemonThreadPool(minthreads=0, maxthreads=1, name="metrics")
        self._pool.start()

    def stop(self) -> None:
        """Collect no more."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.abandon()

    def render_GET(self, request: Request) -> int:
        """Answer a request, in a moment."""
        answered = request.notifyFinish()
        answered.addErrback(lambda _: None)  # the other side has not waited
        Deferred.fromCoroutine(self._answer(request, answered))
        return NOT_DONE_YET

    async def _answer(self, request: Request, answered: Deferred[Any]) -> None:
        try:
            async with self._one_at_a_time:
                if answered.called or self._pool is None:  # no page for a client that has disconnected
                    return
                page = await run_in_pool(self._reactor, self._pool, self._collect)
        except Exception:  # a defect of ours; what it is stays here
            self._log.failure("the metrics could not be collected")
            request.setResponseCode(500)
            page = b""
        if not answered.called:
            request.setHeader(b"content-type", CONTENT_TYPE)
            request.setHeader(b"content-length", str(len(page)))
            request.write(page)
            request.finish()

    def _collect(self) -> bytes:
        """In a thread: write the page."""
        return written(self._families())


class HealthServer(HTTPServer):
    """
    Serves the pages ``/healthy`` and ``/readiness``.

    :param reactor: where it listens.
    :param missing: gives what the peer lacks to be ready, in words; nothing when it is ready.
    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 4003 by Dragonfly's convention; 0 for any.
    """

    def __init__(self, reactor: IHTTPReactor, missing: Callable[[], Sequence[str]], *, ip: str, port: int) -> None:
        # The reference has /healthy alone: status 200 while the process runs (dragonfly-client/src/health/mod.rs).
        pages = {b"healthy": _Probe(lambda: ()), b"readiness": _Probe(missing)}
        super().__init__(reactor, "health", pages, ip=ip, port=port)


class _Probe(Resource):
    """
    A page with status 200 if nothing is missing, otherwise 503 and a line for each thing that is.

    :param missing: gives them.
    """

    def __init__(self, missing: Callable[[], Sequence[str]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted's
        self._missing = missing

    def render_GET(self, request: Request) -> bytes:
        """Answer a request."""
        missing = self._missing()
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        if missing:
            request.setResponseCode(503)
        return "".join(f"{line}\n" for line in missing or ("ok",)).encode()

    def render_HEAD(self, request: Request) -> bytes:
        """Answer a request for the headers alone. Twisted would log a warning for each that had a body."""
        request.setHeader(b"content-length", str(len(self.render_GET(request))).encode())
        return b""
