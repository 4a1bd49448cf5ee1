"""
Read ten bytes out of the middle of a task: only the pieces with them, and the first, are fetched.
``read_range.py PARENT TASK_ID OFFSET``; the parent announces its pieces (``grpc://``).
"""

from __future__ import annotations

import sys

from twisted.internet.task import react

from dragonfly_vortex import VortexPeer


async def main(reactor, parent, task_id, offset):
    peer = VortexPeer(reactor, storage="data", parents=[parent])
    peer.startService()
    download = peer.download(task_id, whole=False)
    print(await download.read(int(offset), 10), "of", await download.size(), "bytes")
    download.close()
    await peer.stopService()


if __name__ == "__main__":
    react(lambda reactor: main(reactor, *sys.argv[1:]))
