"""
A peer in a program: serve what the storage has, download a task from a parent, and print each piece as it comes.
``peer.py PARENT TASK_ID``, for example ``peer.py grpc://10.0.0.7:4000 TASK_ID``.
"""

from __future__ import annotations

import sys

from twisted.internet.task import react

from dragonfly_vortex import VortexError, VortexPeer
from dragonfly_vortex.events import PieceKept


async def main(reactor, parent, task_id):
    try:
        peer = VortexPeer(reactor, storage="data", listen=["tcp:0:interface=127.0.0.1"], parents=[parent])
    except ValueError as error:
        sys.exit(str(error))
    peer.startService()
    try:
        download = peer.download(task_id)
        async for event in download:
            if isinstance(event, PieceKept):
                print(f"piece {event.number} from {event.parent} in {event.seconds:.3f} s")
        done = await download.done
        print(f"{done.content_length} bytes, served at {peer.address}")
    except (VortexError, ValueError) as error:
        sys.exit(str(error))
    finally:
        await peer.stopService()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: peer.py PARENT TASK_ID")
    react(main, sys.argv[1:])
