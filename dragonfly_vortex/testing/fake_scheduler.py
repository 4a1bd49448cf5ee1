"""
A scheduler for tests: it plays conversations that were recorded with a real one, and notes what peers say.

Announced hosts, tasks and peers are remembered as far as tests need it; everything that a scheduler
decides is in the recordings. ``python -m test.cluster.conversations`` records them, and compares them with what
a real scheduler says today.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from dragonfly_vortex.rpc.event_loop import EventLoopThread

__all__ = ["FakeScheduler", "Heard", "Recording", "read_recordings"]

_STREAMS = ("AnnouncePeer", "AnnouncePersistentPeer", "AnnouncePersistentCachePeer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """
    A recorded conversation.

    :param name: what it is called.
    :param method: the call.
    :param steps: in order, each a kind and a value. ``peer``: a message of the peer, as JSON. ``scheduler``: one of the
        scheduler. ``end``: the name of a status and its words.
    """

    name: str
    method: str
    steps: tuple[tuple[str, Any], ...]


@dataclass(slots=True)
class Heard:
    """
    A conversation that a peer had with the fake.

    :ivar messages: of the peer.
    :ivar is_over: whether it has ended.
    """

    method: str
    messages: list[Any] = field(default_factory=list)
    is_over: bool = False

    @property
    def words(self) -> list[str]:
        """The kinds of the messages that the peer has sent."""
        return [message.WhichOneof("request") for message in self.messages]


def read_recordings(path: Path) -> dict[str, Recording]:
    """
    Read recordings.

    :param path: a file of JSON.
    :returns: by their names.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["conversations"]
    return {
        row["name"]: Recording(
            name=row["name"], method=row["method"], steps=tuple((kind, value) for kind, value in row["steps"])
        )
        for row in rows
    }


class FakeScheduler:
    """
    A scheduler on a port of 127.0.0.1. Its attributes may be changed while it runs.

    :param reactor: where ``changed`` is called.
    :param recordings: what can be played.
    :param changed: called in the reactor's thread when a peer has said something.
    :param credentials: for TLS; None for none.
    :ivar hosts: the hosts that have been announced, by their IDs.
    :ivar left: the IDs of hosts that have left.
    :ivar announcements: how often a host was announced.
    :ivar heard: all conversations.
    :ivar calls: the other calls, by their names, with their messages.
    :ivar script: what is played for a task: the names of recordings, of which each conversation takes one, and the last
        one stays.
    :ivar default: the recording that is played for other tasks.
    :ivar parents: the IP addresses and ports of the parents that are offered, in place of the recorded ones.
    :ivar offers: likewise, of the next offers, of which each is taken once.
    :ivar peers: the peers that have finished, by their IDs, with their tasks.
    :ivar is_hanging: whether nothing is answered.
    :ivar refused: methods that are answered with ``UNIMPLEMENTED``.
    :ivar delay: seconds before a register is answered.
    :ivar replicas: how many peers are said to have a task of a persistent kind.
    :ivar port: where it serves; 0 while it does not.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        recordings: Mapping[str, Recording],
        changed: Callable[[], object] = lambda: None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._thread = EventLoopThread(reactor, "fake-scheduler")
        self._recordings = recordings
        self._changed = changed
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None
        self.hosts: dict[str, Any] = {}
        self.left: list[str] = []
        self.announcements = 0
        self.heard: list[Heard] = []
        self.calls: list[tuple[str, Any]] = []
        self.script: dict[str, list[str]] = {}
        self.parents: Sequence[tuple[str, int]] = ()
        self.offers: list[Sequence[tuple[str, int]]] = []
        self.peers: dict[str, str] = {}
        self.is_hanging = False
        self.refused: set[str] = set()
        self.delay = 0.0
        self.default = "owner"
        self.replicas = 0
        self.port = 0

    def start(self, port: int = 0) -> Deferred[int]:
        """
        Begin to serve.

        :param port: 0 takes a free one.
        :returns: fires with the port.
        """
        self._thread.start()
        return self._thread.run(lambda: self._serve(port))

    def stop(self) -> Deferred[None]:
        """End all calls at once, as a process that is killed. Fires when the port is free."""

        async def stop() -> None:
            if self._server is not None:
                await self._server.stop(None)

        self.port = 0
        return self._thread.run(stop).addBoth(lambda _: self._thread.stop())

    async def _serve(self, port: int) -> int:
        server = self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Handler(self),))
        address = f"127.0.0.1:{port}"
        if self._credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self._credentials)
        await server.start()
        return self.port

    def _tell(self) -> None:
        self._thread.tell(self._changed)

    # -- the calls

    async def unary(self, method: str, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        """Answer a call that has one reply."""
        await self._hang()
        if method == "Check":
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        self.calls.append((method, request))
        self._tell()
        if method in self.refused:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {method}")
        if method == "AnnounceHost":
            if not request.host.HasField("cpu"):
                await context.abort(grpc.StatusCode.INTERNAL, "a new host without cpu")
            if not (1024 <= request.host.port < 65535 and 1024 <= request.host.download_port < 65535):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid Host.Port")
            self.hosts[request.host.id] = request.host
            self.announcements += 1
        elif method == "DeleteHost":
            if self.hosts.pop(request.host_id, None) is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"host {request.host_id} not found")
            self.left.append(request.host_id)
        elif method == "StatPeer":
            if request.peer_id not in self.peers:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"peer {request.peer_id} not found")
            return common_pb2.Peer(id=request.peer_id, state="Succeeded")
        elif method.startswith("Stat"):
            if request.task_id not in self.peers.values() and request.task_id not in self.script:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"task {request.task_id} not found")
            known = getattr(common_pb2, method[len("Stat") :])(id=request.task_id)
            if "current_replica_count" in known.DESCRIPTOR.fields_by_name:
                known.current_replica_count = self.replicas
            return cast(Message, known)
        elif method == "ListHosts":
            return cast(Message, scheduler_pb2.ListHostsResponse(hosts=list(self.hosts.values())))
        elif method.startswith("Upload") and method.endswith("Finished"):
            self.peers[request.peer_id] = request.task_id
            return cast(Message, getattr(common_pb2, method[len("Upload") : -len("Finished")])(id=request.task_id))
        elif method.startswith("Delete") and method.endswith("Peer"):
            self.peers.pop(request.peer_id, None)
        elif method == "DeleteTask":
            of_host = [each for each, task in self.peers.items() if task == request.task_id]
            for peer_id in of_host:
                if peer_id.startswith(request.host_id):
                    del self.peers[peer_id]
        return Empty()

    async def converse(
        self, method: str, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Message]:
        """Play a recording to a peer."""
        await self._hang()
        heard = Heard(method)
        self.heard.append(heard)
        response: Any = getattr(scheduler_pb2, f"{method}Response")
        try:
            steps: Sequence[tuple[str, Any]] | None = None
            position = 0
            async for request in requests:
                heard.messages.append(request)
                self._tell()
                await self._hang()
                if steps is None:
                    if request.host_id not in self.hosts:
                        await context.abort(grpc.StatusCode.NOT_FOUND, f"peer {request.peer_id} not found")
                    steps = self._recording(request.task_id).steps
                    await asyncio.sleep(self.delay)
                word = request.WhichOneof("request")
                # A peer decides how many pieces it reports.
                after = position
                while "_piece_" in _word_of(steps[after]) and _word_of(steps[after]) != word:
                    after += 1
                if _word_of(steps[after]) != word:
                    continue
                position = after
                position += 1
                while position < len(steps) and steps[position][0] != "peer":
                    kind, value = steps[position]
                    if kind == "end":
                        if word.endswith("peer_finished_request") or word.endswith("source_finished_request"):
                            self.peers[request.peer_id] = request.task_id
                        if value[0] != "OK":
                            await context.abort(grpc.StatusCode[value[0]], value[1])
                        return
                    yield self._offer(json_format.ParseDict(value, response(), ignore_unknown_fields=True))
                    position += 1
        except asyncio.CancelledError:
            pass  # the server stops; grpcio would write a traceback
        finally:
            heard.is_over = True
            self._tell()

    def _recording(self, task_id: str) -> Recording:
        """What is played for a task."""
        names = self.script.get(task_id, [self.default])
        return self._recordings[names.pop(0) if len(names) > 1 else names[0]]

    def _offer(self, response: Any) -> Message:
        """A response with the parents of this test."""
        which = response.WhichOneof("response")
        if self.offers and which.startswith("normal_"):
            self.parents = self.offers.pop(0)
        if which.startswith("normal_") and self.parents:
            offer = getattr(response, which)
            peers = getattr(offer, offer.DESCRIPTOR.fields_by_number[1].name)
            for peer, (ip, port) in zip(peers, self.parents, strict=False):
                peer.host.ip, peer.host.port = ip, port
        return cast(Message, response)

    async def _hang(self) -> None:
        while self.is_hanging:
            await asyncio.sleep(0.02)


class _Handler(grpc.GenericRpcHandler):
    """Leads calls to a fake scheduler."""

    def __init__(self, scheduler: FakeScheduler) -> None:
        self._scheduler = scheduler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = str(handler_call_details.method).rpartition("/")[2]
        if name in _STREAMS:
            return grpc.stream_stream_rpc_method_handler(
                partial(self._scheduler.converse, name),
                getattr(scheduler_pb2, f"{name}Request").FromString,
                lambda message: message.SerializeToString(),
            )
        request = health_pb2.HealthCheckRequest if name == "Check" else getattr(scheduler_pb2, f"{name}Request", None)
        if request is None:
            return None

        async def unary(message: Any, context: Any) -> Message:
            return await self._scheduler.unary(name, message, context)

        return grpc.unary_unary_rpc_method_handler(
            unary, request.FromString, lambda message: message.SerializeToString()
        )


def _word_of(step: tuple[str, Any]) -> str:
    """The kind of a recorded message of a peer: the field that is not an ID. Nothing for what is none."""
    if step[0] != "peer":
        return ""
    (name,) = (name for name in step[1] if name not in ("hostId", "taskId", "peerId"))
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
