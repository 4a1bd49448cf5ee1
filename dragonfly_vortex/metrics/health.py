"""The pages for probes: ``GET /healthy`` says that the process runs, ``GET /readiness`` whether it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.web.resource import Resource
from twisted.web.server import Request

from dragonfly_vortex.metrics.http import HTTPServer, IHTTPReactor

__all__ = ["HealthServer"]


class HealthServer(HTTPServer):
    """
    Serves both pages.

    :param reactor: where it listens.
    :param missing: gives what the peer lacks to be ready, in words; nothing when it is ready.
    :param ip: the address to listen on, IPv4 or IPv6.
    :param port: 4003 by Dragonfly's convention; 0 for any.
    """

    def __init__(self, reactor: IHTTPReactor, missing: Callable[[], Sequence[str]], *, ip: str, port: int) -> None:
        # The reference has /healthy alone: status 200 while the process runs (dragonfly-client/src/health/mod.rs).
        pages = {b"healthy": _Page(lambda: ()), b"readiness": _Page(missing)}
        super().__init__(reactor, "health", pages, ip=ip, port=port)


class _Page(Resource):
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
