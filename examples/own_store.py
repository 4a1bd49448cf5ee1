"""Serve one file from a store of one's own, as a task of one piece: ``own_store.py FILE PORT``."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import zlib
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import react
from zope.interface import implementer

from dragonfly_vortex import (
    ConnectionRegistry,
    FileRange,
    IPieceStore,
    NotStored,
    OpenPiece,
    ServerSettings,
    UploadLimiter,
    VortexServerFactory,
)
from dragonfly_vortex.wire import PieceMetadata


@implementer(IPieceStore)
class OneFile:
    def __init__(self, path):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ValueError(f"expected a regular file, got {path}")
        content = path.read_bytes()
        self.path = path
        self.task_id = hashlib.sha256(content).hexdigest()
        self.metadata = PieceMetadata(number=0, offset=0, length=len(content), digest=f"crc32:{zlib.crc32(content)}")

    def open_piece(self, kind, task_id, number, start=0, length=None):
        if (task_id, number) != (self.task_id, 0):
            return fail(NotStored(f"piece {task_id}-{number} not found"))
        length = self.metadata.length - start if length is None else length
        descriptor = os.open(self.path, os.O_RDONLY)  # the server closes it
        return succeed(OpenPiece(metadata=self.metadata, range=FileRange(descriptor, start, length)))

    def mark_damaged(self, kind, task_id, number, reason):
        print(f"piece {task_id}-{number}: {reason}", flush=True)
        return succeed(None)


async def main(reactor, path, port):
    settings = ServerSettings(clock=reactor, limiter=UploadLimiter(10**9, reactor))
    try:
        store = OneFile(Path(path))
        factory = VortexServerFactory(store, settings, ConnectionRegistry(reactor))
        listening = await TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1").listen(factory)
    except (CannotListenError, OSError, OverflowError, ValueError) as error:
        sys.exit(str(error).strip())
    print("serving", store.task_id, "\nserving Vortex on", listening.getHost(), flush=True)
    await Deferred()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: own_store.py FILE PORT")
    react(main, sys.argv[1:])
