"""
The servicer of the methods that concern whole tasks, of the local door and of the gRPC door: downloads, imports, and
what the storage has.

Everything here runs in the event loop's thread; what is done with tasks is done in the reactor's
(:class:`~dragonfly_vortex.rpc.peer_tasks.PeerTasks`), and pieces are read in a few threads besides.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc
from dragonfly_api import dfdaemon_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from dragonfly_vortex.errors import (
    NotStored,
    VortexError,
)
from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import OpenPiece, Origin, StoredTask, TaskRequest
from dragonfly_vortex.rpc.codec import close_piece, fill, parse
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.health import HealthRPCs
from dragonfly_vortex.rpc.limits import READERS, Budget, owner_of
from dragonfly_vortex.rpc.methods import LOCAL_SERVICE, TaskMethod, listed_reply, task_methods
from dragonfly_vortex.rpc.peer_tasks import PeerTasks, SourceEntries
from dragonfly_vortex.rpc.status import foreign_status, local_status, source_error
from dragonfly_vortex.rpc.streams import Context
from dragonfly_vortex.rpc.task_orders import (
    CallRefused,
    block_subject,
    download_order,
    import_order,
    source_question,
)
from dragonfly_vortex.rpc.task_stream import DownloadStream
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from dragonfly_vortex.wire.messages import printable

__all__ = ["MAX_TASK_REQUEST", "LocalRPCs", "TaskRPCs"]

_M = TypeVar("_M", bound=Message)

MAX_TASK_REQUEST = 256 * 1024
"""Bytes of a request for a task: a URL, headers, certificates."""


class TaskRPCs:
    """
    Answers calls. Made in the event loop's thread.

    :param service: whose methods these are.
    :param tasks: what is done in the peer.
    :param thread: the event loop, and the way to the reactor.
    :param budget: what all pieces in memory are taken from.
    :param metrics: where calls are counted.
    :param limited_log: for what a call can cause; it is used in the reactor's thread.
    :param spend: waits until a piece of so many bytes may be sent over the network; None: it stays on this machine.
    :param refusal: why methods that change something are not for callers here; empty where they are.
    """

    def __init__(
        self,
        service: str,
        tasks: PeerTasks,
        thread: EventLoopThread,
        *,
        budget: Budget,
        metrics: TaskMetrics,
        limited_log: LimitedLog,
        spend: Callable[[Hashable, int], Coroutine[Any, Any, None]] | None = None,
        refusal: str = "",
    ) -> None:
        self._service = service
        self._tasks = tasks
        self._thread = thread
        self._budget = budget
        self._metrics = metrics
        self._limited_log = limited_log
        self._spend = spend
        self._refusal = refusal
        self._is_local = service == LOCAL_SERVICE
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="task-reader")

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """All methods, by their names."""
        answers: dict[str, Callable[..., Coroutine[Any, Any, Message]]] = {
            "Stat": self._stat,
            "StatLocal": self._stat,
            "ListLocal": self._list,
            "Delete": partial(self._delete, is_local=False),
            "DeleteLocal": partial(self._delete, is_local=True),
            "Update": self._update,
            "Upload": self._import,
        }
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in task_methods(self._service):
            if method.is_stream:
                methods[method.name] = grpc.unary_stream_rpc_method_handler(partial(self._download, method))
            else:
                answer = partial(self._answer, method.request, self._counted(method, answers[method.verb]))
                methods[method.name] = grpc.unary_unary_rpc_method_handler(answer)
        entries = partial(self._answer, dfdaemon_pb2.ListTaskEntriesRequest, self._entries)
        methods["ListTaskEntries"] = grpc.unary_unary_rpc_method_handler(entries)
        if self._is_local:
            methods["DeleteHost"] = grpc.unary_unary_rpc_method_handler(partial(self._answer, Empty, self._leave))
        return methods

    def close(self) -> None:
        """End the readers' threads, as soon as each has read its piece. Blocks until then."""
        self._readers.shutdown()

    # -- downloads

    async def _download(self, method: TaskMethod, data: bytes, context: Context) -> None:
        try:
            self._require_right()
            message = parse(method.request, data, MAX_TASK_REQUEST)
            await self._require_permission(method, message, is_import=False)
            order = download_order(method, message, is_foreign=not self._is_local)
            await DownloadStream(self._tasks, self._thread, method, order, context, self._content_of).serve()
        except Exception as error:
            await self._abort(context, error)

    async def _content_of(self, request: TaskRequest, metadata: PieceMetadata, context: Context) -> bytes:
        """The bytes of a piece, once there is room for them; they count until the call ends or asks for others."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        owner = owner_of(str(context.peer()))
        length = metadata.length
        place = self._budget.enter(length, lambda: None if entered.done() else entered.set_result(None), owner=owner)
        with place:
            await entered
            if self._spend is not None:
                await self._spend((request.kind, request.task_id, metadata.number), length)
            opened = partial(self._tasks.open_piece, request.kind, request.task_id, metadata.number)
            piece: OpenPiece = await self._thread.ask(opened, unwanted=close_piece)
            # It closes the file, so that it has to be done even if the call has been cancelled.
            return await asyncio.shield(asyncio.wrap_future(self._readers.submit(_read, piece)))

    # -- all other methods

    def _counted(
        self, method: TaskMethod, answer: Callable[..., Coroutine[Any, Any, Message]]
    ) -> Callable[[Any], Coroutine[Any, Any, Message]]:
        """The answer to a method, which is counted. The peer itself counts imports."""
        if method.verb == "Upload":
            return partial(answer, method)

        async def counted(message: Any) -> Message:
            with self._metrics.call(method.verb, method.kind):
                return await answer(method, message)

        return counted

    async def _answer(
        self,
        request: type[Message],
        answer: Callable[[Any], Coroutine[Any, Any, Message]],
        data: bytes,
        context: Context,
    ) -> bytes:
        """Parse a request, and answer it."""
        try:
            return (await answer(parse(request, data, MAX_TASK_REQUEST))).SerializeToString()
        except Exception as error:
            await self._abort(context, error)

    async def _stat(self, method: TaskMethod, message: Any) -> Message:
        if self._is_local and method.verb == "Stat":
            known: Message | None = await self._thread.ask(self._tasks.stat, method.kind, message.task_id)
            if known is not None:
                return known
        task, is_complete = await self._find(method, message.task_id)
        return _about(method.reply, task, is_complete=is_complete)

    async def _find(self, method: TaskMethod, task_id: str) -> tuple[StoredTask, bool]:
        """A task of the storage."""
        try:
            return await self._thread.ask(self._tasks.get_task, method.kind, task_id)
        except NotStored as error:
            what = "local task" if method.verb == "StatLocal" else "task"
            raise CallRefused(StatusCode.NOT_FOUND, f"{what} not found: {printable(task_id)}") from error

    async def _list(self, method: TaskMethod, message: Any) -> Message:
        item = listed_reply(method)
        tasks = await self._thread.ask(self._tasks.list_tasks, method.kind)
        return fill(method.reply, tasks=[_about(item, task, is_complete=complete) for task, complete in tasks])

    async def _delete(self, method: TaskMethod, message: Any, *, is_local: bool) -> Message:
        self._require_right()
        remove = partial(self._tasks.remove_task, method.kind, message.task_id, is_local=is_local)
        try:
            await self._thread.ask(remove)
        except NotStored as error:
            # The code is the reference's.
            raise CallRefused(StatusCode.INTERNAL, f"task {printable(message.task_id)} not found") from error
        return Empty()

    async def _update(self, method: TaskMethod, message: Any) -> Message:
        """Keep a task until its time is over, however full the disk is, or no more."""
        self._require_right()
        update = partial(self._tasks.update_task, method.kind, message.task_id, is_pinned=message.persistent)
        try:
            await self._thread.ask(update)
        except NotStored as error:
            raise CallRefused(StatusCode.NOT_FOUND, f"task not found: {printable(message.task_id)}") from error
        return Empty()

    async def _import(self, method: TaskMethod, message: Any) -> Message:
        await self._require_permission(method, message, is_import=True)
        order = import_order(method, message)
        if method.kind is PieceKind.PERSISTENT and await self._thread.ask(partial(self._tasks.has_object, order)):
            raise CallRefused(StatusCode.ALREADY_EXISTS, "persistent task already exists")
        task = await self._thread.ask(self._tasks.import_file, order)
        return _about(
            method.reply,
            task,
            is_complete=True,
            tag=order.origin.tag,
            application=order.origin.application,
            replicas=order.replica_count,
        )

    async def _entries(self, message: Any) -> Message:
        with self._metrics.call("ListEntries", PieceKind.STANDARD):
            self._require_right()
            ask = partial(self._tasks.entries, source_question(message, is_foreign=not self._is_local))
            found: SourceEntries = await self._thread.ask(ask)
        return dfdaemon_pb2.ListTaskEntriesResponse(
            content_length=found.content_length,
            response_header=dict(found.headers),
            status_code=found.status,
            entries=[dfdaemon_pb2.Entry(url=each.url, content_length=each.content_length or 0) for each in found.files],
        )

    async def _leave(self, message: Any) -> Message:
        with self._metrics.leaving():
            await self._thread.ask(self._tasks.leave)
        return Empty()

    # -- what goes wrong

    def _require_right(self) -> None:
        """
        Check whether callers here may change something.

        :raises CallRefused: they may not.
        """
        if self._refusal:
            raise CallRefused(StatusCode.PERMISSION_DENIED, self._refusal)

    async def _require_permission(self, method: TaskMethod, message: Any, *, is_import: bool) -> None:
        """
        Check whether the operator of the cluster has a request of a program on this machine blocked.

        :raises CallRefused: it is. The words are the reference's.
        """
        if self._is_local:
            blocks = partial(self._tasks.blocks, method.kind, block_subject(message), is_import=is_import)
            if await self._thread.ask(blocks):
                self._metrics.block(method.kind, is_import=is_import)
                act = "upload" if is_import else "download"
                raise CallRefused(StatusCode.PERMISSION_DENIED, f"{act} rejected by blocklist policy")

    async def _abort(self, context: Context, error: Exception) -> NoReturn:
        """End a call with what a caller may know of an error."""
        if isinstance(error, CallRefused):
            status = error.status
        elif self._is_local:
            status = local_status(error)
        else:
            status = foreign_status(error)
        if not isinstance(error, (CallRefused, VortexError, CancelledError)):
            self._thread.tell(partial(self._limited_log.failure, "A call about a task has failed", Failure(error)))
        source = source_error(error)
        if self._is_local and source is not None and source.status:
            # As the reference has it (errordetails.proto, Backend, in JSON): dfget shows status, message and headers.
            backend = {"message": str(source), "header": source.headers, "status_code": source.status}
            context.set_trailing_metadata((("grpc-status-details-bin", json.dumps(backend).encode()),))
        await context.abort(status.code, status.text)


class LocalRPCs:
    """
    All methods of the local door. Made in the event loop's thread.

    :param tasks: what is done in the peer.
    :param thread: the event loop, and the way to the reactor.
    :param budget: what all pieces in memory are taken from.
    :param metrics: see :class:`TaskRPCs`.
    :param limited_log: see there.
    """

    def __init__(
        self,
        tasks: PeerTasks,
        thread: EventLoopThread,
        *,
        budget: Budget,
        metrics: TaskMetrics,
        limited_log: LimitedLog,
    ) -> None:
        self._rpcs = TaskRPCs(LOCAL_SERVICE, tasks, thread, budget=budget, metrics=metrics, limited_log=limited_log)
        self._closing = asyncio.Event()

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """See :class:`~dragonfly_vortex.rpc.server.RPCs`."""
        health = HealthRPCs(frozenset({"", LOCAL_SERVICE}), self._closing)
        return grpc.method_handlers_generic_handler(LOCAL_SERVICE, self._rpcs.methods()), health.handlers()

    def end_streams(self) -> None:
        """See :class:`~dragonfly_vortex.rpc.server.RPCs`. Downloads end when the peer gives them up."""
        self._closing.set()

    def close(self) -> None:
        """See :class:`~dragonfly_vortex.rpc.server.RPCs`."""
        self._rpcs.close()


def _about(
    message: type[_M],
    task: StoredTask,
    *,
    is_complete: bool,
    tag: str = "",
    application: str = "",
    replicas: int = 1,
) -> _M:
    """What is said about a task, in whichever message."""
    length, origin = task.content_length, task.origin or Origin(tag=tag, application=application)
    created = Timestamp(seconds=task.created_at)
    return fill(
        message,
        id=task.task_id,
        task_id=task.task_id,
        url=origin.url,
        digest=task.digest or None,
        tag=origin.tag,
        application=origin.application,
        filtered_query_params=origin.filtered_query_params,
        content_length=length,
        piece_length=task.piece_length,
        piece_count=None if length is None else piece_count(length, task.piece_length),
        state="Succeeded" if is_complete else "Running",
        has_available_peer=is_complete,
        peer_count=1,
        persistent=task.kind is not PieceKind.STANDARD,
        persistent_replica_count=replicas,
        current_persistent_replica_count=1,
        current_replica_count=1,
        ttl=Duration(seconds=task.ttl or 0),
        created_at=created,
        updated_at=created,
        finished_at=created if is_complete else None,
    )


def _read(piece: OpenPiece) -> bytes:
    """A piece's content; the file is closed."""
    try:
        content = bytearray(piece.range.length)
        read_exactly(piece.range.descriptor, memoryview(content), piece.range.offset)
        return bytes(content)
    finally:
        close_piece(piece)
