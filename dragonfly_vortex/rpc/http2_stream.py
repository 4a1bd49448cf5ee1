"""A call on a connection of HTTP/2: its request as far as it has come, and the messages that wait to be sent."""

from __future__ import annotations

from collections import deque
from typing import Any

import grpc
from twisted.internet.interfaces import IDelayedCall

from dragonfly_vortex.rpc.server_call import Metadata, ServerCall
from dragonfly_vortex.rpc.status import Status

__all__ = ["PATIENCE", "ServerStream"]

PATIENCE = 60.0
"""
Seconds that a child has to finish a question, to take the next part of a reply
(:data:`~dragonfly_vortex.rpc.server_call.REPORTED`) or its last one, and to take the rest when its connection is
closed. One that takes longer may never do it, and holds memory and a call.
"""

_SMALL = 16 * 1024
"""Bytes below which messages are put together."""


class ServerStream:
    """A call on a connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.call: ServerCall | None = None
        self.handler: grpc.RpcMethodHandler[Any, Any] | None = None
        self.method = ""
        self.request = bytearray()
        self.is_request_whole = False
        self.metadata: Metadata | None = None
        self.has_headers = False
        self.has_sent = False
        self.chunks: deque[memoryview] = deque()
        self.small = bytearray()
        self.unreported = 0
        self.status: Status | None = None
        self.deadline: IDelayedCall | None = None
        self.patience: IDelayedCall | None = None  # while the child is to do something

    def put(self, message: bytes) -> None:
        """Add a message to what is to be sent. A long one is not copied."""
        self.small += b"\0" + len(message).to_bytes(4, "big")  # not compressed
        if len(message) < _SMALL:
            self.small += message
        else:
            self.chunks += (memoryview(bytes(self.small)), memoryview(message))
            self.small.clear()

    def take(self, most: int) -> memoryview:
        """The next bytes to be sent; none where there are none."""
        if not self.chunks and self.small:
            self.chunks.append(memoryview(bytes(self.small)))
            self.small.clear()
        if not self.chunks:
            return memoryview(b"")
        chunk = self.chunks.popleft()
        if len(chunk) > most:
            self.chunks.appendleft(chunk[most:])
        return chunk[:most]

    @property
    def has_content(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self.chunks or self.small)

    def stop_waiting(self) -> None:
        """The child has done what was waited for."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None
