"""Run a whole peer as a part of a program, for as long as its standard input is open: ``whole_peer.py tap.yaml``."""

from __future__ import annotations

import sys

from twisted.application.service import MultiService
from twisted.internet.error import CannotListenError
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from dragonfly_vortex import VortexError, VortexService, load_config, use_monotonic_clock


async def main(reactor, path):
    use_monotonic_clock(reactor)  # before anything else uses the reactor
    program = MultiService()
    try:
        loaded = load_config(path)
        peer = VortexService(loaded.config, reactor, loaded.warnings)
        peer.setServiceParent(program)
        program.startService()
    except (VortexError, CannotListenError) as error:
        sys.exit(str(error).strip())
    print("serving Vortex on", peer.address, flush=True)
    await deferToThread(sys.stdin.read)
    await program.stopService()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: whole_peer.py CONFIG")
    react(main, sys.argv[1:])
