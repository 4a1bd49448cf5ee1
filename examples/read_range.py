"""
Read ten bytes out of the middle of a task: only the pieces with them, and the first, are fetched.
``read_range.py PARENT TASK_ID OFFSET``; the parent announces its pieces (``grpc://``).
"""

from __future__ import annotations

import sys

from twisted.internet.task import react

from dragonfly_vortex import VortexError, VortexPeer


async def main(reactor, parent, task_id, offset):
    try:
        peer = VortexPeer(reactor, storage="data", parents=[parent])
    except ValueError as error:
        sys.exit(str(error))
    peer.startService()
    try:
        download = peer.download(task_id, whole=False)
        print(await download.read(int(offset), 10), "of", await download.size(), "bytes")
    except (VortexError, ValueError) as error:
        sys.exit(str(error))
    finally:
        await peer.stopService()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: read_range.py PARENT TASK_ID OFFSET")
    react(main, sys.argv[1:])
