"""
``python -m benchmarks.programs.two_addresses PORT``: connects to a name that has two addresses, of which the first
refuses, and writes how many seconds that took.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from zope.interface import implementer

from dragonfly_vortex.transport.endpoints import client_endpoint

_TO_CONNECT = 10.0


@implementer(IHostnameResolver, IHostResolution)
class _Resolver:
    """Resolves all names to an address of this machine where nothing listens, and to 127.0.0.1, at once."""

    name = "two.test"

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, hostName: str, portNumber: int = 0, *more: Any, **others: Any
    ) -> IHostResolution:
        """See :class:`IHostnameResolver`."""
        resolutionReceiver.resolutionBegan(self)
        for host in ("127.0.0.2", "127.0.0.1"):
            resolutionReceiver.addressResolved(IPv4Address("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """See :class:`IHostResolution`: it is complete."""


async def _connect(reactor: Any, port: str) -> None:
    reactor.installNameResolver(_Resolver())
    began = time.monotonic()
    protocol: Any = await client_endpoint(reactor, f"two.test:{port}", _TO_CONNECT).connect(
        Factory.forProtocol(Protocol)
    )
    print(time.monotonic() - began)
    protocol.transport.abortConnection()


def main() -> None:
    """Run the program."""
    react(lambda reactor: Deferred.fromCoroutine(_connect(reactor, sys.argv[1])))


if __name__ == "__main__":
    main()
