"""The replies to a request for a download: what the task is, and each of its pieces as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

from dragonfly_api import common_pb2, dfdaemon_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace
from twisted.internet.defer import succeed

from dragonfly_vortex.geometry import piece_count, piece_span
from dragonfly_vortex.model import ArrivedPiece, StoredTask, TaskRequest
from dragonfly_vortex.rpc.codec import encode_arrived, fill
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.methods import TaskMethod, started_reply
from dragonfly_vortex.rpc.peer_tasks import OutputRequest, PeerTasks
from dragonfly_vortex.rpc.streams import Context
from dragonfly_vortex.rpc.task_orders import DownloadOrder
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["DownloadStream"]


_IN_A_TURN = 1024
"""Pieces that are listed in one turn of the event loop."""

_ARRIVED = "download_piece_finished_response"
"""The field of a reply with a piece."""


class DownloadStream:
    """
    The replies to one request for a download.

    :param tasks: what is done in the peer.
    :param thread: the event loop, and the way to the reactor.
    :param method: what was called.
    :param order: what is wanted.
    :param context: the call.
    :param content_of: gives the bytes of a piece.
    """

    def __init__(
        self,
        tasks: PeerTasks,
        thread: EventLoopThread,
        method: TaskMethod,
        order: DownloadOrder,
        context: Context,
        content_of: Callable[[TaskRequest, PieceMetadata, Context], Coroutine[Any, Any, bytes]],
    ) -> None:
        self._tasks = tasks
        self._thread = thread
        self._method = method
        self._order = order
        self._context = context
        self._content_of = content_of
        self._peer_id = ""
        self._arrived: asyncio.Queue[ArrivedPiece | None] = asyncio.Queue()  # None: no more will come
        self._held: list[ArrivedPiece] = []  # until the length of the task is known
        request = order.request
        self._task = StoredTask(
            kind=request.kind, task_id=request.task_id, content_length=None, piece_length=0, created_at=0
        )
        self._wanted: range | None = None
        self._sent: set[int] = set()

    async def serve(self) -> None:
        """
        Send the pieces that are there and those that come, then make the output. Messages wait until the caller reads
        them.

        Nothing is said before a piece is there: dfget shows the status of a call that fails without a reply. Where it
        fails later dfget first deletes the output, and shows the failure of that where there is none; so there is one.

        :raises Exception: the task cannot be downloaded, or its output not be made.
        """
        request, output = self._order.request, self._order.output
        if output is not None:
            await self._thread.ask(self._tasks.check_output, request.kind, request.task_id, output)
        try:
            await self._serve(request, output)
        except Exception:  # whatever it is, dfget shows it only where there is an output; it goes on upwards
            if output is not None and self._wanted is not None:
                await self._thread.ask(self._tasks.put_placeholder, output)
            raise

    async def _serve(self, request: TaskRequest, output: OutputRequest | None) -> None:
        self._peer_id = await self._thread.ask(lambda: succeed(self._tasks.new_peer_id()))
        if self._order.is_prefetch and self._order.has_range:
            self._thread.tell(self._tasks.prefetch, request)
        download = asyncio.ensure_future(self._thread.ask(self._tasks.download, request, self._told))
        try:
            task = await self._tell_pieces(download)
        finally:
            download.cancel()
        if output is not None and self._order.has_range:
            output = replace(output, span=self._order.span(task.content_length or 0))
        digest = "" if self._order.has_range else self._order.digest
        await self._thread.ask(self._tasks.put_output, task, output, digest)

    def _told(self, piece: ArrivedPiece) -> None:
        """In the reactor's thread: a piece is there."""
        self._thread.post(lambda: self._arrived.put_nowait(piece))

    async def _tell_pieces(self, download: asyncio.Future[StoredTask]) -> StoredTask:
        """Report the pieces until all that are wanted are there. Returns the task."""
        download.add_done_callback(lambda _: self._arrived.put_nowait(None))
        while not self._has_range:
            piece = await self._arrived.get()
            if piece is None:
                task = download.result()
                await self._start(task.content_length or 0, task.piece_length, is_finished=True)
                return task
            await self._arrive(piece, is_finished=download.done())
        return self._task

    @property
    def _has_range(self) -> bool:
        """Whether a range was wanted, and all pieces of it have been reported."""
        return self._order.has_range and self._wanted is not None and len(self._sent) == len(self._wanted)

    async def _arrive(self, piece: ArrivedPiece, *, is_finished: bool) -> None:
        """Report a piece, and those that were held back until the task's layout is known."""
        self._held.append(piece)
        if piece.content_length is not None:
            await self._start(piece.content_length, piece.piece_length, is_finished=is_finished)
        if self._wanted is None:
            return
        held, self._held = self._held, []
        for each in held:
            await self._tell(each.metadata)

    async def _start(self, content_length: int, piece_length: int, *, is_finished: bool) -> None:
        """Say what the task is, once."""
        if self._wanted is not None:
            return
        first, end = self._order.span(content_length)
        self._task = replace(self._task, content_length=content_length, piece_length=piece_length)
        self._wanted = range(first // piece_length, piece_count(end, piece_length)) if end else range(0)
        field, message = started_reply(self._method)
        started: Any = fill(
            message,
            content_length=content_length,
            range=common_pb2.Range(start=first, length=end - first) if self._order.has_range else None,
            is_finished=is_finished,
        )
        listed = self._wanted if "pieces" in message.DESCRIPTOR.fields_by_name else range(0)
        for count, number in enumerate(listed, 1):
            offset, length = piece_span(number, content_length, piece_length)
            started.pieces.add(number=number, offset=offset, length=length)
            if count % _IN_A_TURN == 0:
                await asyncio.sleep(0)
        await self._write(field, started)
        held, self._held = self._held, []
        for each in held:
            await self._tell(each.metadata)

    async def _tell(self, metadata: PieceMetadata) -> None:
        """Say that a piece is there. One that came again, because it had been wrong, is sent again."""
        number, order = metadata.number, self._order
        if self._wanted is None or number not in self._wanted or (number in self._sent and not order.needs_content):
            return
        self._sent.add(number)
        piece = common_pb2.Piece(
            number=number,
            parent_id=metadata.parent_id or None,
            offset=metadata.offset,
            length=metadata.length,
            digest=metadata.digest,
            traffic_type=cast(common_pb2.TrafficType, metadata.traffic_type),
            cost=Duration(seconds=metadata.cost),
            created_at=Timestamp(seconds=metadata.created_at),
        )
        if not order.needs_content:
            await self._write(_ARRIVED, dfdaemon_pb2.DownloadPieceFinishedResponse(piece=piece))
            return
        content = await self._content_of(order.request, metadata, self._context)
        await self._context.write(encode_arrived(self._reply(), _ARRIVED, piece, content))

    async def _write(self, field: str, message: Message) -> None:
        """Send a reply, and wait until there is room for the next one."""
        await self._context.write(self._reply(**{field: message}).SerializeToString())

    def _reply(self, **fields: Message) -> Message:
        """A reply with the names that all have."""
        task_id = self._order.request.task_id
        names = {"host_id": self._tasks.host_id, "task_id": task_id, "peer_id": self._peer_id}
        return self._method.reply(**names, **fields)
