"""
``python -m benchmarks.programs.paced_parent``: serves a storage, no faster than it is told, in segments as a network
card has them. A connection inherits both from the port.
"""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.tcp import Port
from twisted.python.failure import Failure

from dragonfly_vortex.peer.server import VortexServerFactory
from dragonfly_vortex.service import IPeerReactor
from dragonfly_vortex.storage.store import PieceStore
from dragonfly_vortex.transport.ratelimit import TokenBucket

__all__ = ["SAYS"]

SAYS = r"listening on (\d+)"
"""What it says when it can be connected to; the group is the port."""

_SO_MAX_PACING_RATE = getattr(socket, "SO_MAX_PACING_RATE", 47)  # Linux; Python has no name for it

_UNLIMITED = 1 << 40


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.paced_parent")
    parser.add_argument("storage", type=Path)
    parser.add_argument("--rate", metavar="BYTES", type=int, help="per second, on each connection")
    parser.add_argument("--segment", metavar="BYTES", type=int, help="that a segment has at the most")
    options = parser.parse_args()
    from twisted.internet import reactor as global_reactor

    reactor = cast(IPeerReactor, global_reactor)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(_serve(reactor, options)).addErrback(_give_up, reactor))
    reactor.run()


def _give_up(failure: Failure, reactor: IPeerReactor) -> None:
    """Say why nothing is served."""
    print(failure.getErrorMessage(), flush=True)
    reactor.stop()


async def _serve(reactor: IPeerReactor, options: argparse.Namespace) -> None:
    """Serve from now on, until the process is told to end."""
    store = PieceStore(options.storage, reactor)
    await store.start()
    reactor.addSystemEventTrigger("before", "shutdown", store.stop)
    factory = VortexServerFactory(store, reactor, limiter=TokenBucket(_UNLIMITED, reactor))
    port = cast(Port, reactor.listenTCP(0, cast(Any, factory), interface="127.0.0.1"))  # it need not be a ServerFactory
    if options.rate is not None:
        port.socket.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, options.rate)
    if options.segment is not None:
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, options.segment)
    print(f"listening on {port.getHost().port}", flush=True)


if __name__ == "__main__":
    main()
