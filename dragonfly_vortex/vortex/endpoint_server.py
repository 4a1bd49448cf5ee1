"""Serves Vortex at any of Twisted's server endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import failures_of
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory
from dragonfly_vortex.vortex.server import tls_expected
from dragonfly_vortex.vortex.server_protocol import VortexServerFactory

__all__ = ["EndpointServer"]


class EndpointServer:
    """
    Serves pieces over Vortex, at several endpoints. One that is full closes a new connection: an endpoint's listener
    cannot wait, as that of :class:`~dragonfly_vortex.vortex.server.TCPServer` does.

    :param clock: for small writes under TLS, which are put together.
    :param factory: answers the connections.
    :param endpoints: where to listen; none: nowhere.
    :param tls: what every connection speaks; None for what the endpoints make of it.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        factory: VortexServerFactory,
        endpoints: Sequence[IStreamServerEndpoint],
        *,
        tls: ServerTLS | None = None,
    ) -> None:
        self._factory = factory
        self._endpoints = endpoints
        self._outer = factory if tls is None else TLSServerFactory(tls, factory, tls_expected, clock)
        self._opening: list[Deferred[IListeningPort]] = []
        self._ports: list[IListeningPort] = []
        self._is_stopped = False

    @property
    def address(self) -> IAddress | None:
        """Where the first endpoint listens, None while it does not."""
        return self._ports[0].getHost() if self._ports else None

    @property
    def addresses(self) -> list[IAddress]:
        """Where it listens."""
        return [port.getHost() for port in self._ports]

    def start(self) -> None:
        """
        Begin to listen.

        :raises Exception: what an endpoint fails with at once, such as
            :class:`~twisted.internet.error.CannotListenError`.
        """
        failures: list[Failure] = []
        for endpoint in self._endpoints:
            opening = maybeDeferred(endpoint.listen, self._outer)
            opening.addCallback(self._listens)
            if isinstance(getattr(opening, "result", None), Failure):
                opening.addErrback(failures.append)
            else:
                self._opening.append(opening)
        if failures:
            self._give_up()
            ports, self._ports = self._ports, []
            for port in ports:
                maybeDeferred(port.stopListening)
            failures[0].raiseException()

    def listening(self) -> Deferred[None]:
        """
        Wait for the endpoints.

        :returns: fires when all of them listen. Fails with the first failure, which is in the log then.
        """
        return Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        opening, self._opening = self._opening, []
        for failure in await failures_of(opening):
            self.log.error("an endpoint cannot listen: {reason}", reason=failure.getErrorMessage())
            failure.raiseException()

    def _listens(self, port: IListeningPort) -> IListeningPort:
        if self._is_stopped:
            maybeDeferred(port.stopListening)
        else:
            self._ports.append(port)
            self.log.info("serving Vortex on {address}", address=port.getHost())
        return port

    async def _stop(self, timeout: float) -> None:
        ports, self._ports = self._ports, []
        try:
            failures = await failures_of([maybeDeferred(port.stopListening) for port in ports])
        finally:
            await self._factory.connections.drain(timeout)
        for failure in failures:
            failure.raiseException()

    def _give_up(self) -> None:
        """
        Close each port that opens from now on. The Deferred of an endpoint is not cancelled: many endpoints cannot
        cancel it, and then the port would be lost.
        """
        self._is_stopped = True
        for opening in self._opening:
            opening.addErrback(lambda _: None)

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`~dragonfly_vortex.interfaces.IServer.stop`."""
        self._give_up()
        return Deferred.fromCoroutine(self._stop(timeout)) if self._endpoints else succeed(None)
