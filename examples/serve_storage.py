"""Serve a storage over Vortex, and nothing else of a peer: ``serve_storage.py DIRECTORY PORT``."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import react

from dragonfly_vortex import (
    ConnectionRegistry,
    PieceStore,
    ServerSettings,
    UploadLimiter,
    VortexError,
    VortexServerFactory,
)


async def main(reactor, directory, port):
    store = PieceStore(Path(directory), reactor)
    settings = ServerSettings(clock=reactor, limiter=UploadLimiter(10**9, reactor))
    factory = VortexServerFactory(store, settings, ConnectionRegistry(reactor, max_connections=100))
    try:
        await store.start()
        listening = await TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1").listen(factory)
    except (VortexError, CannotListenError, OSError, OverflowError, ValueError) as error:
        sys.exit(str(error).strip())
    print("serving Vortex on", listening.getHost(), flush=True)
    await Deferred()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: serve_storage.py DIRECTORY PORT")
    react(main, sys.argv[1:])
