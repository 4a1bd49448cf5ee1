"""
A resolver that looks names up in daemon threads, for which the process does not wait at its end.

The system gives a name server half a minute, and cannot be interrupted. Twisted resolves in the reactor's pool, whose
threads are all waited for in the end: a command would have failed, or have its file, and not end.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from threading import Thread

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
)
from zope.interface import implementer

__all__ = ["UnawaitedResolver"]

_FAMILIES: dict[int, type[IPv4Address] | type[IPv6Address]] = {
    socket.AF_INET: IPv4Address,
    socket.AF_INET6: IPv6Address,
}


@implementer(IHostResolution)
class _Resolution:
    """
    A name that is being resolved.

    :param name: the name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_cancelled = False

    def cancel(self) -> None:
        """Drop the result."""
        self.is_cancelled = True


@implementer(IHostnameResolver)
class UnawaitedResolver:
    """
    Asks the system, in a thread for each name, which ends with the process at the latest.

    :param reactor: receives the addresses in its thread.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See :meth:`twisted.internet.interfaces.IHostnameResolver.resolveHostName`. All is for TCP here."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(hostName, portNumber, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):  # no host has that name, or it is no valid name
                found = []
            addresses = [_FAMILIES[family]("TCP", *place) for family, _, _, _, place in found if family in _FAMILIES]
            self._reactor.callFromThread(deliver, addresses)

        def deliver(addresses: Sequence[IPv4Address | IPv6Address]) -> None:
            if resolution.is_cancelled:
                return
            for address in addresses:
                if addressTypes is None or isinstance(address, tuple(addressTypes)):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        Thread(target=look_up, name=f"resolving {hostName}", daemon=True).start()
        return resolution
