"""
``python -m benchmarks.programs.sending_parent``: serves a storage, with what a configuration has no switch for: how
much goes out at once, and whether anybody but the reactor's thread waits for the disk.
"""

from __future__ import annotations

import argparse
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

_UNLIMITED = 1 << 40


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.sending_parent")
    parser.add_argument("storage", type=Path)
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
    for part in (store, read_ahead):
        if part is not None:
            reactor.addSystemEventTrigger("before", "shutdown", part.stop)
    print(f"listening on {port.getHost().port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    main()
