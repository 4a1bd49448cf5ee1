"""Makes client endpoints for parents' addresses, and connects without blocking the reactor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.transport_table import TCP

if TYPE_CHECKING:
    from dragonfly_vortex.transport.tls import ClientTLS

__all__ = ["ATTEMPT_DELAY", "Dial", "NameEndpoint", "client_endpoint", "connect_within"]

ATTEMPT_DELAY = 0.25
"""Seconds for which one attempt to connect goes on before the next address of a name is tried as well (RFC 8305)."""


Dial = Callable[[str], IStreamClientEndpoint]
"""Makes the endpoint that connects to a parent. It is given the parent's address in text."""


def client_endpoint(
    reactor: IReactorTCP, address: str, timeout: float, tls: ClientTLS | None = None
) -> IStreamClientEndpoint:
    """
    The endpoint that connects to a parent. A name is resolved when the endpoint connects, in a thread.

    :param reactor: connects, resolves names, and is the clock.
    :param address: ``HOST:PORT``, or ``tls://HOST:PORT`` for TLS.
    :param timeout: seconds for each attempt to connect.
    :param tls: for parents that speak it; None where there are none.
    :raises ValueError: the address is not like that.
    """
    parent = ParentAddress.from_text(address)
    if parent.transport.name != TCP.name or (parent.is_secure and tls is None):
        known = " and ".join(f"{scheme}://" for scheme in TCP.schemes[: 1 if tls is None else 2])
        raise ValueError(f"expected an address of {known}, got {address!r}")
    endpoint = _tcp_endpoint(reactor, parent, timeout)
    if parent.is_secure and tls is not None:
        from dragonfly_vortex.transport.tls_endpoint import TLSEndpoint

        return TLSEndpoint(tls.to(parent.host), endpoint, IReactorTime(reactor))
    return endpoint


def _tcp_endpoint(reactor: IReactorTCP, parent: ParentAddress, timeout: float) -> IStreamClientEndpoint:
    endpoint: IStreamClientEndpoint
    if isIPAddress(parent.host):
        endpoint = TCP4ClientEndpoint(reactor, parent.host, parent.port, timeout)
    elif isIPv6Address(parent.host):
        endpoint = TCP6ClientEndpoint(reactor, parent.host, parent.port, timeout)
    else:
        endpoint = NameEndpoint(reactor, parent.host, parent.port, timeout)
    return endpoint


class AddressNotAllowed(ConnectError):
    """A connection may not be made."""


@implementer(IStreamClientEndpoint)
class NameEndpoint:
    """
    Connects to the first address of a name that answers (RFC 8305, "Happy Eyeballs").

    It is in place of Twisted's ``HostnameEndpoint``, which waits 0.3 s after each address that refuses at once, the
    last one too, and which refuses names with an underscore, as containers have them.

    :param reactor: connects, resolves names, and is the clock.
    :param host: the name.
    :param timeout: seconds for each attempt to connect.
    :param may_connect: whether an address of the name may be connected to; where none may, connecting fails with
        :class:`AddressNotAllowed`.
    """

    def __init__(
        self,
        reactor: IReactorTCP,
        host: str,
        port: int,
        timeout: float,
        may_connect: Callable[[str], bool] = lambda address: True,
    ) -> None:
        self._may_connect = may_connect
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See :meth:`twisted.internet.interfaces.IStreamClientEndpoint.connect`.

        :returns: fails with :class:`twisted.internet.error.DNSLookupError` where the name has no address, and as the
            last attempt where all fail.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        receiver = _Addresses()
        resolver = IReactorPluggableNameResolver(self._reactor).nameResolver
        resolver.resolveHostName(receiver, self._host, portNumber=self._port)
        addresses = await receiver.resolved
        endpoints = [self._endpoint(address) for address in addresses if self._may_connect(address.host)]
        if addresses and not endpoints:
            raise AddressNotAllowed
        if not endpoints:
            raise DNSLookupError(f"no results for hostname lookup: {self._host}")
        return await _Attempts(IReactorTime(self._reactor), endpoints, factory).first

    def _endpoint(self, address: IPv4Address | IPv6Address) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if isinstance(address, IPv6Address) else TCP4ClientEndpoint
        return kind(self._reactor, address.host, self._port, self._timeout)


@implementer(IResolutionReceiver)
class _Addresses:
    """The addresses of a name. ``resolved`` fires with them; once cancelled it takes none."""

    def __init__(self) -> None:
        self.resolved: Deferred[list[IPv4Address | IPv6Address]] = Deferred(self._cancel)
        self._found: list[IPv4Address | IPv6Address] = []
        self._resolution: IHostResolution | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._found.append(address)

    def resolutionComplete(self) -> None:
        if not self.resolved.called:
            self.resolved.callback(self._found)

    def _cancel(self, _: object) -> None:
        """Cancel the resolution, where Twisted's resolver can."""
        if self._resolution is not None:
            with contextlib.suppress(NotImplementedError):
                self._resolution.cancel()


class _Attempts:
    """
    Attempts to connect, one after the other: the next begins when one fails, or after a while.

    :param clock: for the pauses between attempts.
    :param endpoints: in the order of the attempts.
    """

    def __init__(
        self, clock: IReactorTime, endpoints: Sequence[IStreamClientEndpoint], factory: IProtocolFactory
    ) -> None:
        self.first: Deferred[IProtocol] = Deferred(lambda _: self._end())
        """Fires with the first connection; fails when all attempts have failed."""
        self._clock = clock
        self._endpoints = iter(endpoints)
        self._factory = factory
        self._under_way: set[Deferred[IProtocol]] = set()
        self._waiting: IDelayedCall | None = None
        self._begin_next()

    def _begin_next(self, failure: Failure | None = None) -> None:
        """Begin the next attempt, if there is one more; or fail with the last one."""
        self._stop_waiting()
        endpoint = next(self._endpoints, None)
        if endpoint is not None:
            self._waiting = self._clock.callLater(ATTEMPT_DELAY, self._begin_next)
            attempt = endpoint.connect(self._factory)
            self._under_way.add(attempt)
            attempt.addBoth(self._ended, attempt)
        elif failure is not None and not self._under_way:
            self.first.errback(failure)

    def _ended(self, result: IProtocol | Failure, attempt: Deferred[IProtocol]) -> None:
        """Handle the end of an attempt."""
        self._under_way.discard(attempt)
        if self.first.called:
            return  # it was cancelled
        if isinstance(result, Failure):
            self._begin_next(result)
        else:
            self.first.callback(result)
            self._end()

    def _end(self) -> None:
        """Cancel the attempts under way."""
        self._stop_waiting()
        self._endpoints = iter(())
        attempts, self._under_way = self._under_way, set()
        for attempt in attempts:
            attempt.cancel()

    def _stop_waiting(self) -> None:
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()


def connect_within(
    timeout: float, clock: IReactorTime, endpoint: IStreamClientEndpoint, factory: IProtocolFactory
) -> Deferred[IProtocol]:
    """
    Connect, in a limited time for all there is to do: resolving a name, and trying each of its addresses.

    :param timeout: seconds.
    :returns: fires with the protocol. Fails with :class:`twisted.internet.error.TimeoutError` when it takes too long,
        with :class:`CancelledError` when cancelled (an endpoint by itself says in either case what its present stage
        makes of it), and as the endpoint does.
    """
    connecting = endpoint.connect(factory)

    def give_up(connected: Deferred[IProtocol]) -> None:
        connected.errback(CancelledError("no connection"))
        connecting.cancel()

    def too_late(_: object, seconds: float) -> Failure:
        return Failure(TimeoutError(string=f"more than {seconds:g} s"))

    connected: Deferred[IProtocol] = Deferred(give_up)
    connecting.addBoth(lambda outcome: None if connected.called else connected.callback(outcome))
    return connected.addTimeout(timeout, clock, too_late)
