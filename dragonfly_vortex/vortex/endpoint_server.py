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

from dragonfly_vortex.deferreds import call_if_late, failures_of
from dragonfly_vortex.errors import CannotServe
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory
from dragonfly_vortex.vortex.server import VortexServerFactory, tls_expected

__all__ = ["EndpointServer"]

LISTEN_TIMEOUT = 30.0
"""
Seconds that an endpoint has to listen. It is no setting: Twisted's endpoints listen at once, this only ends the wait
for a program's own endpoint that never does. A program with a slower one waits for that before it starts the peer.
"""


class EndpointServer:
    """
    Serves pieces over Vortex, at several endpoints. An endpoint's listener cannot wait, as that of
    :class:`~dragonfly_vortex.vortex.server.TCPServer` does: where all connections are busy a new one is closed, or that
    address loses one which has most of them.

    :param clock: for the time that an endpoint has to listen, and for small writes under TLS, which are put together.
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
        self._clock = clock
        self._factory = factory
        self._endpoints = endpoints
        self._outer = factory if tls is None else TLSServerFactory(tls, factory, tls_expected, clock)
        self._opening: list[Deferred[None]] = []  # of the endpoints that do not listen yet
        self._listening: list[Deferred[None]] = []  # of all endpoints, which are waited for
        self._ports: list[IListeningPort] = []
        self._is_stopped = False

    @property
    def address(self) -> IAddress | None:
        """The address where the first endpoint listens, None while it does not."""
        return self._ports[0].getHost() if self._ports else None

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses where it listens."""
        return [port.getHost() for port in self._ports]

    def start(self) -> None:
        """
        Begin to listen.

        :raises Exception: what an endpoint fails with at once, such as
            :class:`~twisted.internet.error.CannotListenError`.
        """
        failures: list[Failure] = []
        for endpoint in self._endpoints:
            opening = self._listen(endpoint)
            if isinstance(getattr(opening, "result", None), Failure):
                opening.addErrback(failures.append)
            else:
                self._listening.append(opening)
        if failures:
            self._give_up()
            ports, self._ports = self._ports, []
            for port in ports:
                maybeDeferred(port.stopListening)
            failures[0].raiseException()

    def listening(self) -> Deferred[None]:
        """
        Wait for the endpoints.

        :returns: fires when all of them listen. Fails with the first failure, which is in the log then:
            :class:`~dragonfly_vortex.errors.CannotServe` for an endpoint that has neither listened nor failed within
            :data:`LISTEN_TIMEOUT`, and for the end of the server.
        """
        return Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        listening, self._listening = self._listening, []
        for failure in await failures_of(listening):
            if not self._is_stopped:
                self.log.error("an endpoint cannot listen: {reason}", reason=failure.getErrorMessage())
            failure.raiseException()

    def _listen(self, endpoint: IStreamServerEndpoint) -> Deferred[None]:
        """
        Have an endpoint listen. Its own Deferred is not cancelled when that takes too long: many endpoints cannot
        cancel it, and then the port would be lost. A port that opens too late is closed.
        """
        opening: Deferred[None] = Deferred()
        self._opening.append(opening)

        def too_late() -> None:
            reason = f"expected the endpoint {endpoint!r} to listen within {LISTEN_TIMEOUT:g} s, got nothing"
            self._opening.remove(opening)
            opening.errback(CannotServe(reason))

        def ended(result: IListeningPort | Failure) -> None:
            if opening.called:
                if not isinstance(result, Failure):
                    maybeDeferred(result.stopListening)
                return
            self._opening.remove(opening)
            if isinstance(result, Failure):
                opening.errback(result)
                return
            self._ports.append(result)
            self.log.info("serving Vortex on {address}", address=result.getHost())
            opening.callback(None)

        call_if_late(opening, self._clock, LISTEN_TIMEOUT, too_late)
        maybeDeferred(endpoint.listen, self._outer).addBoth(ended)
        return opening

    async def _stop(self, timeout: float) -> None:
        ports, self._ports = self._ports, []
        try:
            failures = await failures_of([maybeDeferred(port.stopListening) for port in ports])
        finally:
            await self._factory.connections.drain(timeout)
        for failure in failures:
            failure.raiseException()

    def _give_up(self) -> None:
        """Close each port that opens from now on, and do not wait for it."""
        self._is_stopped = True
        opening, self._opening = self._opening, []
        for each in opening:
            each.errback(CannotServe("expected an endpoint to listen, the server was stopped before"))
        for each in self._listening:  # nothing waits for them
            each.addErrback(lambda _: None)

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`~dragonfly_vortex.interfaces.IServer.stop`."""
        self._give_up()
        return Deferred.fromCoroutine(self._stop(timeout)) if self._endpoints else succeed(None)
