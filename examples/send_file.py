"""
Send a file to each client that connects to an endpoint, without copying it where there is no TLS:
``send_file.py FILE tcp:8000``, or with certificates
``send_file.py FILE mtls:8000:certificate=server.pem:privateKey=server.key:trustRoots=clients.pem``.
"""

from __future__ import annotations

import os
import stat
import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from dragonfly_vortex import send_file


class SendsOneFile(Protocol):
    def connectionMade(self):
        with open(self.factory.path, "rb") as file:
            sent = send_file(self.transport, file)
        sent.addCallbacks(
            lambda length: self.transport.loseConnection(), lambda failure: self.transport.abortConnection()
        )


async def main(reactor, path, where):
    factory = Factory.forProtocol(SendsOneFile)
    factory.path = path
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            raise ValueError(f"expected a regular file, got {path}")
        open(path, "rb").close()
        port = await serverFromString(reactor, where).listen(factory)
    except (CannotListenError, OSError, OverflowError, ValueError) as error:
        sys.exit(str(error).strip())
    print("sending at", port.getHost(), flush=True)
    await Deferred()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: send_file.py FILE ENDPOINT")
    react(main, sys.argv[1:])
