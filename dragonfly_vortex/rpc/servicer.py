"""
The gRPC servicer of a parent, with the methods of ``dfdaemon.v2.DfdaemonUpload``: for each kind of piece those of its
row in :data:`~dragonfly_vortex.rpc.methods.METHODS`, the one about the host, and those about whole tasks
(:mod:`~dragonfly_vortex.rpc.task_servicer`).

Everything here runs in the event loop's thread; what the storage knows is asked in the reactor's, and what is read from
files is read in a few threads besides. How many there are does not depend on how many calls are under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn

import grpc
from dragonfly_api import dfdaemon_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from dragonfly_vortex.errors import NotStored, PieceDamaged, RemoteProtocolError
from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.host_stats import NetworkMeter
from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import StoredTask, piece_id
from dragonfly_vortex.peer_exchange import Askers, asking_peer, takes_part
from dragonfly_vortex.rpc.announcements import Announcements
from dragonfly_vortex.rpc.codec import close_piece, fill, parse, read_reply
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.health import HealthRPCs
from dragonfly_vortex.rpc.host import HostStatus
from dragonfly_vortex.rpc.limits import MAX_NUMBERS, MAX_REQUEST, READERS, Budget, Place, owner_of
from dragonfly_vortex.rpc.methods import METHODS, SERVICE, SYNC_HOST, PieceRequest, path
from dragonfly_vortex.rpc.peer_tasks import PeerTasks
from dragonfly_vortex.rpc.server_call import Answer, Metadata
from dragonfly_vortex.rpc.status import Status, status_of
from dragonfly_vortex.rpc.streams import Context, Interest, LoopTurns, tell_host, tell_pieces
from dragonfly_vortex.rpc.task_servicer import TaskRPCs
from dragonfly_vortex.rpc.task_watch import Watches
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport_table import GRPC
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["UploadRPCs"]

_MAX_OPEN = 64
"""Pieces whose file is open at once, waiting for memory or being read."""

_QUESTIONS_IN_MEMORY = 64 * 1024 * 1024
"""Bytes of what the open streams of pieces were asked."""

_BYTES_OF_A_NUMBER = 16
"""
What a stream keeps of a piece number beside the question itself, which grpcio keeps until the call ends: 8 bytes to
look it up, and 8 while it waits to be sent.
"""


class UploadRPCs:
    """
    Answers calls. Made in the event loop's thread.

    :param store: where the pieces are.
    :param thread: the event loop, and the way to the reactor.
    :param ip: the address under which this peer's doors are reached.
    :param vortex_port: gives the port of the door for Vortex/TCP, None where there is none; called in the reactor's
        thread.
    :param limiter: what all content is spent from, in the reactor's thread; None for no limit.
    :param budget: what all pieces in memory are taken from.
    :param tally: where pieces and bytes are counted.
    :param limited_log: for what a call can cause; it is used in the reactor's thread.
    :param metrics: where questions about tasks are counted.
    :param rechecks: is called for each piece that has been sent, in the reactor's thread; None: nothing is checked.
    :param askers: remembers the peers that ask; None: peers are not named to each other.
    :param scheme: of this peer's gRPC door.
    :param tasks: what is done with whole tasks; None: the methods for that are not served.
    :param refusal: why the methods that change something are not for callers here; empty where they are.
    :param network: measures the network interface; None: nothing is said about it.
    """

    def __init__(
        self,
        store: ITaskStore,
        thread: EventLoopThread,
        *,
        ip: str,
        vortex_port: Callable[[], int | None],
        limiter: UploadLimiter | None,
        budget: Budget,
        tally: Tally,
        metrics: TaskMetrics,
        limited_log: LimitedLog,
        rechecks: Rechecks | None = None,
        askers: Askers | None = None,
        scheme: str = GRPC.scheme,
        tasks: PeerTasks | None = None,
        refusal: str = "",
        network: NetworkMeter | None = None,
    ) -> None:
        self.host = HostStatus(network)
        """What is said about the host."""
        self._store = store
        self._thread = thread
        self._ip = ip
        self._vortex_port = vortex_port
        self._limiter = limiter
        self._budget = budget
        self._tally = tally
        self._metrics = metrics
        self._limited_log = limited_log
        self._rechecks = rechecks
        self._askers = askers
        self._scheme = scheme
        self._is_coming = tasks.is_coming if tasks is not None else _never
        self._asked = tasks.asked if tasks is not None else None
        self.announcements = Announcements(store, self._sync_message)
        """What is said about complete tasks."""
        self._watches = Watches(store, thread, self._sync_message, self._is_coming, self.announcements)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="upload-reader")
        self._open = Budget(_MAX_OPEN, fair=True)
        self._questions = Budget(_QUESTIONS_IN_MEMORY, fair=True)
        self._turns = LoopTurns()
        self._closing = asyncio.Event()
        self._clear_askers()
        self._task_rpcs: TaskRPCs | None = None
        if tasks is not None:
            self._task_rpcs = TaskRPCs(
                SERVICE,
                tasks,
                thread,
                budget=budget,
                metrics=metrics,
                limited_log=limited_log,
                spend=self._sent,
                refusal=refusal,
            )

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """All methods, for a server, those about its health too. Requests about pieces are parsed here."""
        methods = {} if self._task_rpcs is None else self._task_rpcs.methods()
        methods[SYNC_HOST] = grpc.unary_stream_rpc_method_handler(self._sync_host)
        for kind, row in METHODS.items():
            methods[row.download] = grpc.unary_unary_rpc_method_handler(partial(self._download, kind))
            methods[row.stat] = grpc.unary_unary_rpc_method_handler(partial(self._stat, kind))
            methods[row.sync] = grpc.unary_stream_rpc_method_handler(partial(self._sync, kind))
        health = HealthRPCs(frozenset({"", SERVICE}), self._closing)
        return grpc.method_handlers_generic_handler(SERVICE, methods), health.handlers()

    def answer_at_once(self, method: str, metadata: Metadata, data: bytes) -> Answer | None:
        """See :meth:`Announcements.answer`, :meth:`HostStatus.answer`. A peer of the exchange needs a handler."""
        if self._closing.is_set() or (self._askers is not None and takes_part(metadata)):
            return None
        if method == path(SYNC_HOST):
            return self.host.answer(metadata, data)
        return self.announcements.answer(method, metadata, data)

    def end_streams(self) -> None:
        """End all streams soon, and say that this server stops."""
        self._closing.set()
        self._watches.wake_all()

    def close(self) -> None:
        """End the readers' threads, as soon as each has read its piece. Blocks until then."""
        self._clear_askers()
        self._readers.shutdown()
        if self._task_rpcs is not None:
            self._task_rpcs.close()

    # -- one piece

    async def _download(self, kind: PieceKind, data: bytes, context: Context) -> list[bytes]:
        self._turns.call_begins()
        what = "the request"
        try:
            request = parse(PieceRequest, data)
            what = f"piece {piece_id(request.task_id, request.piece_number)}"
            self._piece_begun(context)
            return await self._reply(kind, request.task_id, request.piece_number, context)
        except Exception as error:
            await self._abort(context, error, what)

    def _piece_begun(self, context: Context) -> None:
        """Count a piece as being under way until its call has ended, however it does."""
        self._tally.piece_begun()

        def ended(_: Context) -> None:
            self._tally.piece_ended()

        context.add_done_callback(ended)  # type: ignore[arg-type]  # the stubs want a class of their own, which is not there

    async def _reply(self, kind: PieceKind, task_id: str, number: int, context: Context) -> list[bytes]:
        with await self._enter(self._open, 1, context):
            piece = await self._thread.ask(self._store.open_piece, kind, task_id, number, unwanted=close_piece)
            try:
                await self._enter(self._budget, piece.metadata.length, context)
                await self._spend((kind, task_id, number), piece.metadata.length)
            except BaseException:
                close_piece(piece)
                raise
            # The job closes the file, so that it has to be done even if the call has been cancelled.
            reading = asyncio.wrap_future(self._readers.submit(read_reply, piece))
            try:
                reply = await asyncio.shield(reading)
            except PieceDamaged as error:
                await self._thread.ask(self._store.mark_damaged, kind, task_id, number, str(error))
                raise
            self._tally.sent(piece.metadata.length)  # gRPC has it now, and does not say how much of it has left
            host = str(context.peer()).rpartition(":")[0]  # without its port
            child = self._tally.children.of(host.removeprefix("ipv4:").removeprefix("ipv6:"))
            child.sent += piece.metadata.length
            child.task_id = task_id
            if self._rechecks is not None:
                self._thread.tell(self._rechecks.sent, host, kind, task_id, number)
            return reply

    async def _enter(self, budget: Budget, length: int, context: Context) -> Place:
        """Wait for room, which is given back when the call has ended, or before. It counts for each owner."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = budget.enter(
            length, lambda: None if entered.done() else entered.set_result(None), owner=owner_of(str(context.peer()))
        )

        def ended(_: Context) -> None:
            place.leave()

        context.add_done_callback(ended)  # type: ignore[arg-type]  # the stubs want a class of their own, which is not there
        await entered
        return place

    async def _spend(self, piece: Hashable, length: int) -> None:
        """Wait until a piece may be sent."""
        if self._limiter is not None:
            await self._thread.ask(self._limiter.spend_in_turn, piece, length)

    async def _sent(self, piece: Hashable, length: int) -> None:
        """Count a piece of a download for its caller, once the limiter allows it."""
        await self._spend(piece, length)
        self._tally.sent(length)

    # -- what there is

    async def _stat(self, kind: PieceKind, data: bytes, context: Context) -> bytes:
        self._turns.call_begins()
        row = METHODS[kind]
        what = "the request"
        call = "StatLocal" if kind is PieceKind.STANDARD else "Stat"  # as the methods are called
        try:
            with self._metrics.call(call, kind):
                task_id = str(getattr(parse(row.stat_request, data), "task_id"))  # noqa: B009  # its class is in the row
                what = f"task {task_id}"
                try:
                    task: StoredTask = await self._thread.ask(self._store.get_task, kind, task_id)
                except NotStored:
                    if not await self._thread.ask(self._is_coming, kind, task_id):
                        raise
                    # Nothing is known of it yet; a child that hears this waits for its pieces.
                    return row.stat_reply(
                        **{row.stat_reply.DESCRIPTOR.fields_by_number[1].name: task_id}
                    ).SerializeToString()
        except Exception as error:
            await self._abort(context, error, what)
        length = task.content_length  # None while a download does not know it yet: the field is left out then
        return fill(
            row.stat_reply,
            id=task_id,
            task_id=task_id,
            content_length=length,
            piece_length=task.piece_length,
            piece_count=None if length is None else piece_count(length, task.piece_length),
            created_at=Timestamp(seconds=task.created_at),
        ).SerializeToString()

    async def _sync(self, kind: PieceKind, data: bytes, context: Context) -> None:
        self._turns.call_begins()
        row = METHODS[kind]
        what = "the request"
        try:
            request = parse(row.sync_request, data, MAX_REQUEST)
            task_id = str(getattr(request, "task_id"))  # noqa: B009  # its class is in the row
            what = f"task {task_id}"
            numbers = getattr(request, row.interested)
            if len(numbers) > MAX_NUMBERS:
                raise RemoteProtocolError(f"expected at most {MAX_NUMBERS} piece numbers, got {len(numbers)}")
            self._keep(len(data) + _BYTES_OF_A_NUMBER * len(numbers), context)
            interest = Interest(numbers)
            host_id = str(getattr(request, "host_id"))  # noqa: B009  # its class is in the row
            del request, numbers
            if host_id and self._asked is not None:
                self._thread.tell(self._asked, kind, task_id, host_id)
            await context.send_initial_metadata(await self._introduce(kind, task_id, context))
            async with self._watches.open(kind, task_id) as watch:
                await tell_pieces(watch, interest, context, self._turns, self._closing)
        except _NoRoom as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except NotStored:
            # As the reference has it (dfdaemon_upload.rs, sync_pieces).
            await context.abort(grpc.StatusCode.INTERNAL, status_of(NotStored(), what).text)
        except Exception as error:
            await self._abort(context, error, what)

    async def _introduce(self, kind: PieceKind, task_id: str, context: Context) -> tuple[tuple[str, str], ...]:
        """
        Remember the peer that asks for a task, if it takes part in the exchange.

        :returns: the metadata that names the others to it.
        :raises Exception: the storage cannot be read.
        """
        question = context.invocation_metadata() or ()
        if self._askers is None or not takes_part(question):
            return ()
        try:
            await self._thread.ask(self._store.get_task, kind, task_id)
        except NotStored:
            if not await self._thread.ask(self._is_coming, kind, task_id):
                return ()  # the stream says why
        peer = asking_peer(self._scheme, str(context.peer()), question)
        if peer is not None and self._askers.add(kind, task_id, peer):
            self._in_readers(partial(self._askers.write, kind, task_id), "the list of peers cannot be written")
        return self._askers.others(kind, task_id, peer)

    def _clear_askers(self) -> None:
        """Delete the lists of peers, which are of use while this peer is asked."""
        if self._askers is not None:
            self._in_readers(self._askers.clear, "the lists of peers cannot be deleted")

    def _in_readers(self, work: Callable[[], None], failed: str) -> None:
        """Have something done in a reader's thread; a failure is logged."""

        def do() -> None:
            try:
                work()
            except OSError:
                self._thread.tell(partial(self._limited_log.failure, failed, Failure()))

        self._readers.submit(do)

    def _keep(self, length: int, context: Context) -> None:
        """
        Count what is kept of a question until its call has ended.

        :raises _NoRoom: there is too much already.
        """
        place = self._questions.enter(length, lambda: None, owner=owner_of(str(context.peer())))
        if not place.inside:
            place.leave()
            raise _NoRoom("too many requests at once")

        def ended(_: Context) -> None:
            place.leave()

        context.add_done_callback(ended)  # type: ignore[arg-type]  # the stubs want a class of their own, which is not there

    def _sync_message(self, kind: PieceKind, metadata: PieceMetadata) -> bytes:
        return fill(
            METHODS[kind].sync_reply,
            number=metadata.number,
            offset=metadata.offset,
            length=metadata.length,
            ip=self._ip,
            tcp_port=self._vortex_port(),
        ).SerializeToString()

    async def _sync_host(self, data: bytes, context: Context) -> None:
        try:
            parse(dfdaemon_pb2.SyncHostRequest, data)
        except RemoteProtocolError as error:
            await self._abort(context, error, "the request")
        await context.send_initial_metadata(())
        await tell_host(self.host.current, context, self._turns, self._closing)

    # -- what goes wrong

    async def _abort(self, context: Context, error: Exception, what: str) -> NoReturn:
        status: Status = status_of(error, what)
        if status.code is grpc.StatusCode.INTERNAL:
            self._thread.tell(
                partial(self._limited_log.failure, "{what} could not be served", Failure(error), what=what)
            )
        await context.abort(status.code, status.text)


class _NoRoom(Exception):
    """A call is refused because too many others are under way."""


def _never(kind: PieceKind, task_id: str) -> Deferred[bool]:
    """No task is being downloaded."""
    return succeed(False)
