"""A scripted parent over gRPC: it sends a task's lengths and its pieces, stream by stream, as the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dragonfly_vortex.rpc.methods import METHODS, path
from dragonfly_vortex.wire import PieceKind
from test.rpc.conditions import Conditions

__all__ = ["AnnouncingParent", "Stream", "fails", "piece", "says", "says_and_waits"]

Stream = Callable[[grpc.ServicerContext], Iterable[Message]]
"""What is said in one stream, in a thread of grpcio's."""


def piece(number: int, length: int = 100, *, ip: str = "", tcp_port: int | None = None) -> Message:
    """What is said about a piece; it starts at ``number`` times its length."""
    return dfdaemon_pb2.SyncPiecesResponse(
        number=number, offset=number * length, length=length, ip=ip, tcp_port=tcp_port
    )


def says(*messages: Message) -> Stream:
    """A stream of these messages, which ends then."""
    return lambda context: messages


def says_and_waits(*messages: Message) -> Stream:
    """A stream of these messages, which stays open then."""

    def stream(context: grpc.ServicerContext) -> Iterator[Message]:
        yield from messages
        ended = threading.Event()
        if context.add_callback(ended.set):  # it has not ended before it began
            ended.wait(120)

    return stream


def fails(code: grpc.StatusCode, text: str = "told to say so", *messages: Message) -> Stream:
    """A stream of these messages, which ends with a status then."""

    def stream(context: grpc.ServicerContext) -> Iterator[Message]:
        yield from messages
        context.abort(code, text)

    return stream


class AnnouncingParent:
    """
    Answers on a free port of 127.0.0.1.

    :param reactor: runs the callbacks.
    :param stat: what is said about the task: a message, or a status. The last one stays for all that follow.
    :param streams: what is said in each stream, one after the other. The last one stays.
    """

    def __init__(
        self,
        reactor: Any,
        stat: Iterable[Message | grpc.StatusCode],
        streams: Iterable[Stream],
        *,
        kind: PieceKind = PieceKind.STANDARD,
    ) -> None:
        self.asked: list[list[int]] = []
        """Which pieces were asked for, in each stream."""
        self.stated = 0
        """How often the length was asked for."""
        self.ended = 0
        """How many streams have ended."""
        self._reactor = reactor
        self._stat = list(stat)
        self._streams = list(streams)
        self._row = METHODS[kind]
        self._conditions = Conditions()
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def start(self) -> None:
        """Listen."""
        self._server.start()

    def stop(self) -> Deferred[None]:
        """End everything."""
        return deferToThread(self._server.stop(None).wait).addCallback(lambda _: None)

    def until_ended(self, streams: int = 1) -> Deferred[None]:
        """Fires when so many streams have ended."""
        return self._conditions.until(lambda: self.ended >= streams)

    # -- in grpcio's threads

    def method(self, called: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method."""
        if called == path(self._row.stat):
            return grpc.unary_unary_rpc_method_handler(
                self._answer_stat, self._row.stat_request.FromString, _serialized
            )
        if called == path(self._row.sync):
            return grpc.unary_stream_rpc_method_handler(
                self._answer_sync, self._row.sync_request.FromString, _serialized
            )
        return None

    def _answer_stat(self, request: Message, context: grpc.ServicerContext) -> Message:
        said = self._stat.pop(0) if len(self._stat) > 1 else self._stat[0]
        self.stated += 1
        if isinstance(said, grpc.StatusCode):
            context.abort(said, "told to say so")
        return said

    def _answer_sync(self, request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        self.asked.append(list(getattr(request, self._row.interested)))
        stream = self._streams.pop(0) if len(self._streams) > 1 else self._streams[0]
        tell = partial(self._reactor.callFromThread, self._ended)
        if not context.add_callback(tell):  # it has ended before it began
            tell()
        yield from stream(context)

    # -- in the reactor's thread

    def _ended(self) -> None:
        self.ended += 1
        self._conditions.look()


class _Handlers(grpc.GenericRpcHandler):
    """The methods that there are."""

    def __init__(self, parent: AnnouncingParent) -> None:
        self._parent = parent

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._parent.method(str(handler_call_details.method))


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
