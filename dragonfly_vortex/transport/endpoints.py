"""Makes client endpoints for parents' addresses, and connects without blocking the reactor."""

from __future__ import annotations

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTCP, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.transport.tls import ClientTLS
from dragonfly_vortex.transport.tls_endpoint import TLSEndpoint

__all__ = ["client_endpoint", "connect_within"]


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
    if parent.scheme == "tls" and tls is not None:
        return TLSEndpoint(tls.to(parent.host), _tcp_endpoint(reactor, parent, timeout), IReactorTime(reactor))
    if parent.scheme != "tcp":
        known = "tcp:// and tls://" if tls is not None else "tcp://"
        raise ValueError(f"expected an address of {known}, got {address!r}")
    return _tcp_endpoint(reactor, parent, timeout)


def _tcp_endpoint(reactor: IReactorTCP, parent: ParentAddress, timeout: float) -> IStreamClientEndpoint:
    endpoint: IStreamClientEndpoint
    if isIPAddress(parent.host):
        endpoint = TCP4ClientEndpoint(reactor, parent.host, parent.port, timeout)
    elif isIPv6Address(parent.host):
        endpoint = TCP6ClientEndpoint(reactor, parent.host, parent.port, timeout)
    else:
        endpoint = HostnameEndpoint(reactor, parent.host, parent.port, timeout)
        # Twisted refuses names with an underscore, which IDNA does not have and resolvers, containers and grpcio do.
        endpoint._badHostname = False
    return endpoint


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
