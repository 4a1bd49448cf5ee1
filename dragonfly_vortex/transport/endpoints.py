"""From an address in text, ``HOST:PORT``, to a connection, without blocking the reactor."""

from __future__ import annotations

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTCP, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

__all__ = ["client_endpoint", "connect_within", "split_address"]


def split_address(address: str) -> tuple[str, int]:
    """
    Host and port of an address.

    :param address: ``HOST:PORT``; an IPv6 address stands in brackets, ``[::1]:4005``.
    :raises ValueError: it is not like that.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    well_formed = bool(host) and bracketed is isIPv6Address(host) and port.isascii() and port.isdigit()
    if not well_formed or not 0 < int(port) <= 65535:
        raise ValueError(f"expected an address HOST:PORT or [IPV6]:PORT with a port from 1 to 65535, got {address!r}")
    return host, int(port)


def client_endpoint(reactor: IReactorTCP, address: str, timeout: float) -> IStreamClientEndpoint:
    """
    The endpoint that connects to an address. A name is resolved when the endpoint connects, in a thread.

    :param reactor: what connects; it resolves names, too.
    :param address: ``HOST:PORT``.
    :param timeout: seconds for each attempt to connect.
    :raises ValueError: the address is not like that.
    """
    host, port = split_address(address)
    endpoint: IStreamClientEndpoint
    if isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout)
    elif isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port, timeout)
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout)
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
