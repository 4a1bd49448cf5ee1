"""Fetch the first piece of a task over a blocking socket, without Twisted: ``wire_alone.py HOST PORT TASK_ID``."""

from __future__ import annotations

import socket
import sys

from dragonfly_vortex import VortexError
from dragonfly_vortex.wire import (
    Connection,
    ContentFinished,
    ContentReceived,
    ErrorReply,
    PieceKind,
    PieceRequest,
    Role,
)


def main(host, port, task_id):
    child = Connection(Role.CHILD)
    request = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id=task_id, number=0)
    with socket.create_connection((host, int(port))) as parent:
        parent.sendall(child.send(request))
        length = 0
        while data := parent.recv(65536):
            child.receive_data(data)
            while event := child.next_event():
                if isinstance(event, ContentReceived):
                    length += len(event.data)
                elif isinstance(event, ContentFinished):
                    return print(length, "bytes")
                elif isinstance(event, ErrorReply):  # the parent keeps the connection open
                    sys.exit(f"the parent answered with error {event.code}: {event.text}")
                else:
                    print(event)
        sys.exit("the parent has closed the connection")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: wire_alone.py HOST PORT TASK_ID")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, VortexError) as error:
        sys.exit(str(error))
