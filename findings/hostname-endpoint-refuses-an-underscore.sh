#!/usr/bin/env bash
# Twisted 26.10.0: HostnameEndpoint refuses `piece_store` and `ab--cd` as host names, and TCP4ClientEndpoint connects to them.
#
# Seen: ValueError, "invalid hostname", before the resolver is asked. HostnameEndpoint encodes each name by the package `idna`,
# which allows neither an underscore nor two hyphens in the third and fourth place. /etc/hosts and DNS may have such
# names, and getaddrinfo() resolves them. A tls: endpoint string is a HostnameEndpoint, a tcp: one is a TCP4ClientEndpoint.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0 idna==3.20
"$work/venv/bin/python" --version
"$work/venv/bin/python" -m twisted.trial --version
cat >"$work/show.py" <<'PYTHON'
import socket

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from zope.interface import implementer


@implementer(IHostResolution)
class Resolution:
    def __init__(self, name):
        self.name = name

    def cancel(self):
        pass


@implementer(IHostnameResolver)
class Hosts:
    """A resolver in which each name is this machine, as a line of /etc/hosts would say."""

    asked = 0

    def resolveHostName(self, receiver, name, portNumber=0, *rest, **more):
        self.asked += 1
        resolution = Resolution(name)
        receiver.resolutionBegan(resolution)
        receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        receiver.resolutionComplete()
        return resolution


async def connect(reactor, endpoint, name, port):
    hosts = Hosts()
    reactor.installNameResolver(hosts)
    try:
        protocol = await endpoint(reactor, name, port).connect(Factory.forProtocol(Protocol))
        protocol.transport.abortConnection()
        seen = "connected"
    except ValueError as error:
        seen = f"ValueError: {error}"
    print(f"{endpoint.__name__}, {name}: {seen}; the resolver was asked {hosts.asked} times")
    return seen == "connected", hosts.asked


async def main(reactor):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name in "piece-store", "piece_store", "ab--cd":
            if await connect(reactor, TCP4ClientEndpoint, name, port) != (True, 1):
                raise SystemExit("changed: TCP4ClientEndpoint does not connect")
            expected = (True, 1) if name == "piece-store" else (False, 0)
            if await connect(reactor, HostnameEndpoint, name, port) != expected:
                raise SystemExit(f"changed: HostnameEndpoint and {name}")


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/show.py"
