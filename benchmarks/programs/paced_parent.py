"""
``python -m benchmarks.programs.paced_parent``: serves a storage, with what a configuration has no switch for: at which
pace and in which segments a connection sends, how much of a piece in one step, and whether anybody but the reactor's
thread waits for the disk. Where nothing is said it sends as every parent does.
"""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.tcp import Port

from dragonfly_vortex.peer.server import VortexServerFactory
from dragonfly_vortex.service import IPeerReactor
from dragonfly_vortex.storage.store import PieceStore
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.readahead import ReadAhead

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
    parser.add_argument("--step", metavar="BYTES", type=int, help="sent at once on a connection; as ever")
    parser.add_argument("--no-read-ahead", action="store_true", help="the reactor's thread waits for the disk")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(_serve(cast(IPeerReactor, reactor), options)))


async def _serve(reactor: IPeerReactor, options: argparse.Namespace) -> None:
    """Serve until the process is told to end."""
    store = PieceStore(options.storage, reactor)
    await store.start()
    limiter = TokenBucket(_UNLIMITED, reactor)
    if options.step is not None:
        limiter.step = options.step
    read_ahead = None if options.no_read_ahead else ReadAhead(reactor)
    factory = VortexServerFactory(store, reactor, limiter=limiter, read_ahead=read_ahead)
    port = cast(Port, reactor.listenTCP(0, cast(Any, factory), interface="127.0.0.1"))  # it need not be a ServerFactory
    # A connection inherits both from the port.
    if options.rate is not None:
        port.socket.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, options.rate)
    if options.segment is not None:
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, options.segment)
    for part in (store, read_ahead):
        if part is not None:
            reactor.addSystemEventTrigger("before", "shutdown", part.stop)
    print(f"listening on {port.getHost().port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    main()
