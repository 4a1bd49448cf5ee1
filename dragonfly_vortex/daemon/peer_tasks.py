"""The work on whole tasks that programs on the same machine, and schedulers, request of a running peer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.deferreds import outlast
from dragonfly_vortex.digest import new_hash, parse_digest
from dragonfly_vortex.errors import (
    NoSchedulerKnown,
    NotStored,
    OutputError,
    OutputExists,
    TaskDigestMismatch,
)
from dragonfly_vortex.files import read_exactly, write_all
from dragonfly_vortex.geometry import BLOCK_LENGTH, is_complete
from dragonfly_vortex.identity import host_id_of, new_peer_id
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import ArrivedPiece, OpenPiece, StoredTask, TaskRequest
from dragonfly_vortex.rpc.peer_tasks import BlockSubject, ImportRequest, OutputRequest, SourceEntries
from dragonfly_vortex.storage.atomic_file import StagedFile, check_target
from dragonfly_vortex.storage.claim_records import is_claimed
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.exporter import export_task, link_task
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.threads import STOP_TIMEOUT
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["LocalTasks"]

_T = TypeVar("_T")

_ANNOUNCE_TIMEOUT = 5.0
"""Seconds in which an imported task is announced to a scheduler before the import succeeds anyway."""

_Look = Callable[[object], None]
"""Is called now and then by work in a thread; it raises CancelledError when the work is to end."""


class LocalTasks:
    """
    See :class:`~dragonfly_vortex.rpc.peer_tasks.PeerTasks`.

    :param config: the peer's configuration.
    :param reactor: the clock.
    :param store: the peer's storage.
    :param downloads: the peer's downloads.
    """

    _log = Logger()

    def __init__(self, config: Config, reactor: IReactorTime, store: PieceStore, downloads: Downloads) -> None:
        self._reactor = reactor
        host, is_seed = config.host, config.seed_peer.enable
        self.host_id = host_id_of(host.ip, host.hostname, is_seed=is_seed)
        self.new_peer_id = partial(new_peer_id, host.ip, host.hostname, is_seed=is_seed)
        self._store = store
        self._downloads = downloads
        self._in_thread: InThread = downloads.in_thread

    def download(self, request: TaskRequest, tell: Callable[[ArrivedPiece], None]) -> Deferred[StoredTask]:
        return self._downloads.download(request, tell)

    def blocks(self, kind: PieceKind, subject: BlockSubject, *, is_import: bool) -> Deferred[bool]:
        membership = self._downloads.membership
        return succeed(membership is not None and membership.blocks(kind, subject, is_import=is_import))

    def prefetch(self, request: TaskRequest) -> None:
        not_prefetched = self._downloads.metrics.prefetch(request)

        def failed(failure: Failure) -> None:
            not_prefetched()
            if not failure.check(CancelledError):
                text = "task {task_id} cannot be prefetched: {reason}"
                self._log.warn(text, task_id=request.task_id, reason=failure.getErrorMessage())

        self._downloads.download(replace(request, range=None)).addErrback(failed)

    def check_output(self, kind: PieceKind, task_id: str, output: OutputRequest) -> Deferred[None]:
        return self._in_thread(lambda: _check_output(self._store.directory, kind, task_id, output))

    def put_placeholder(self, output: OutputRequest) -> Deferred[None]:
        def put() -> None:
            with suppress(OSError), open(output.path, "xb"):
                pass

        return self._in_thread(put)

    def put_output(self, task: StoredTask, output: OutputRequest | None, digest: str) -> Deferred[None]:
        is_verified = not digest or digest == task.digest
        if output is None and is_verified:
            return succeed(None)
        return self._until_cancelled(partial(self._put_output, task, output, "" if is_verified else digest))

    def open_piece(self, kind: PieceKind, task_id: str, number: int) -> Deferred[OpenPiece]:
        return self._store.open_piece(kind, task_id, number)

    def import_file(self, request: ImportRequest) -> Deferred[StoredTask]:
        return Deferred.fromCoroutine(self._import_file(request))

    async def _import_file(self, request: ImportRequest) -> StoredTask:
        origin = request.origin

        def work(look: _Look) -> StoredTask:
            ttl = None if request.ttl is None else max(1, math.ceil(request.ttl))  # 0 would be no end
            return import_file(
                request.path,
                self._store.directory,
                request.kind,
                origin.piece_length,
                progress=look,
                origin=origin,
                ttl=ttl,
            )

        ended = self._downloads.metrics.upload(request.kind, origin)
        length = None
        try:
            task = await self._until_cancelled(work)
            if request.kind is PieceKind.PERSISTENT:
                await self._put_object(request, task)
            length = task.content_length or 0
        finally:
            ended(length)
        membership = self._downloads.membership
        if membership is not None:
            # Other peers can be asked for it once a scheduler knows it. It is announced again later where that fails.
            with suppress(TimeoutError):
                announced = membership.announce_stored(task, request.replica_count)
                await announced.addTimeout(_ANNOUNCE_TIMEOUT, self._reactor)
        return task

    def has_object(self, request: ImportRequest) -> Deferred[bool]:
        return self._downloads.sources.has_object(request.origin, request.credentials)

    async def _put_object(self, request: ImportRequest, task: StoredTask) -> None:
        """
        Put a task of the storage into its object storage; it is not announced before. Where that fails, it does not
        stay in this storage.
        """
        from dragonfly_vortex.source.upload import FileBody  # a peer without sources does not load treq

        membership = self._downloads.membership
        announce = membership.hold_stored(task) if membership is not None else lambda: None
        ended: Deferred[None] = Deferred()
        files: list[BinaryIO] = []  # filled by the thread: a cancellation would lose what it returns

        def open_file() -> None:
            files.append(os.fdopen(Content(self._store.directory).open(task.kind, task.task_id), "rb"))

        try:
            try:
                await outlast(self._in_thread(open_file))
                self._downloads.see_end(ended)  # it gives up the upload, and the task is removed then
                body = FileBody(files[0], task.content_length or 0, self._in_thread)
                await self._downloads.sources.put_object(request.origin, request.credentials, body)
            finally:
                ended.addTimeout(STOP_TIMEOUT, self._reactor).addErrback(lambda _: None)  # a disk may not answer
                for file in files:
                    await self._in_thread(file.close)
        except BaseException:
            with suppress(NotStored):
                await self.remove_task(task.kind, task.task_id, is_local=True)
            if membership is not None:
                membership.forget_stored(task.kind, task.task_id)
            raise
        finally:
            announce()
            ended.callback(None)

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[tuple[StoredTask, bool]]:
        return Deferred.fromCoroutine(self._get_task(kind, task_id))

    def is_coming(self, kind: PieceKind, task_id: str) -> Deferred[bool]:
        if self._downloads.is_running(kind, task_id):
            return succeed(True)
        return self._store.query(lambda _: is_claimed(self._store.directory, kind, task_id))

    def asked(self, kind: PieceKind, task_id: str, host_id: str) -> None:
        self._downloads.meet(kind, task_id, host_id)

    def list_tasks(self, kind: PieceKind) -> Deferred[Sequence[tuple[StoredTask, bool]]]:
        return Deferred.fromCoroutine(self._list_tasks(kind))

    def remove_task(self, kind: PieceKind, task_id: str, *, is_local: bool) -> Deferred[None]:
        return self._in_thread(lambda: remove_task(self._store.directory, kind, task_id))

    def update_task(self, kind: PieceKind, task_id: str, *, is_pinned: bool) -> Deferred[None]:
        return self._store.update_task(kind, task_id, is_pinned=is_pinned)

    def stat(self, kind: PieceKind, task_id: str) -> Deferred[Message | None]:
        membership = self._downloads.membership
        if membership is None or kind is PieceKind.CACHE:
            return succeed(None)

        def failed(failure: Failure) -> None:
            from dragonfly_vortex.rpc.status import CallFailed

            failure.trap(CallFailed)

        return membership.stat(kind, task_id).addErrback(failed)

    def leave(self) -> Deferred[None]:
        membership = self._downloads.membership
        return fail(NoSchedulerKnown()) if membership is None else membership.delete_host()

    def entries(self, request: TaskRequest) -> Deferred[SourceEntries]:
        async def ask() -> SourceEntries:
            if request.origin is not None and request.origin.url.endswith("/"):
                return SourceEntries(0, {}, 200, await self._downloads.sources.list_files(request))
            found = await self._downloads.sources.ask(request)
            return SourceEntries(found.content_length or 0, {}, 200)

        return Deferred.fromCoroutine(ask())

    async def _get_task(self, kind: PieceKind, task_id: str) -> tuple[StoredTask, bool]:
        task = await self._store.get_task(kind, task_id)
        return task, is_complete(task, await self._store.get_pieces(kind, task_id))

    async def _list_tasks(self, kind: PieceKind) -> Sequence[tuple[StoredTask, bool]]:
        found = []
        for task in await self._store.list_tasks(kind):
            with suppress(NotStored):  # it has been removed meanwhile
                found.append(await self._get_task(kind, task.task_id))
        return found

    def _until_cancelled(self, work: Callable[[_Look], _T]) -> Deferred[_T]:
        """
        Work in a thread. Cancelled, the work ends at its next look, and the Deferred fires then.

        :param work: calls what it is given now and then.
        """
        return Deferred.fromCoroutine(self._run(work))

    async def _run(self, work: Callable[[_Look], _T]) -> _T:
        is_given_up = False

        def look(_: object) -> None:
            if is_given_up:
                raise CancelledError

        working = self._in_thread(lambda: work(look))
        try:
            return await working
        except CancelledError:
            is_given_up = True
            raise

    def _put_output(self, task: StoredTask, output: OutputRequest | None, digest: str, look: _Look) -> None:
        """In a thread: verify the content, and make a file with it."""
        directory = self._store.directory
        if digest:
            _verify(directory, task, digest, look)
        if output is None:
            return
        try:
            if output.span is not None:
                _copy_span(directory, task, output.path, output.span, look, overwrite=output.overwrite)
                return
            try:
                link_task(directory, task.kind, task.task_id, output.path, overwrite=output.overwrite, sync=False)
            except OutputExists:
                raise
            except OutputError:
                if output.must_link:
                    raise
                export_task(directory, task.kind, task.task_id, output.path, output.overwrite, look)
        except OutputExists as error:
            # The words are the reference's.
            raise OutputExists(f"output path {output.path} is already exists") from error


def _check_output(directory: Path, kind: PieceKind, task_id: str, output: OutputRequest) -> None:
    """
    Check whether an output can be made.

    :raises OutputExists: something stands there that is not to be replaced, and is no link to the task's file.
    :raises OutputError: there is no directory for it, or a link has to lead to another file system.
    """
    path = output.path
    try:
        is_elsewhere = os.stat(path.parent).st_dev != os.stat(directory).st_dev
        if output.must_link and is_elsewhere:
            raise OutputError(f"cannot link {path}: expected the file system of the storage, got another")
        with suppress(FileNotFoundError):
            if os.path.samefile(path, Content(directory).path(kind, task_id)):
                return
        check_target(path, overwrite=output.overwrite)
    except FileExistsError as error:
        # The words are the reference's.
        raise OutputExists(f"output path {path} is already exists") from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _verify(directory: Path, task: StoredTask, digest: str, look: _Look) -> None:
    """
    Compare the digest of a whole content.

    :raises TaskDigestMismatch: it is another one.
    """
    hasher = new_hash(parse_digest(digest)[0])
    with storage_failures(f"cannot read task {task.task_id}"):
        descriptor = Content(directory).open(task.kind, task.task_id)
        with open(descriptor, "rb", buffering=0) as file:
            while block := file.read(BLOCK_LENGTH):
                hasher.update(block)
                look(None)
    if hasher.text() != digest:
        # The words are the reference's.
        raise TaskDigestMismatch(task.task_id, f"digest mismatch expected: {digest}, actual: {hasher.text()}")


def _copy_span(
    directory: Path, task: StoredTask, target: Path, span: tuple[int, int], look: _Look, *, overwrite: bool
) -> None:
    """Make a file of the content's length with some of its bytes."""
    try:
        check_target(target, overwrite=overwrite)
        with StagedFile.create(target.parent, target.name) as staged:
            os.truncate(staged.descriptor, task.content_length or 0)
            _copy_bytes(directory, task, staged.descriptor, span, look)
            staged.publish(target, overwrite=overwrite)
    except FileExistsError as error:
        raise OutputExists(f"cannot write {target}: {error.strerror}") from error
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}") from error


def _copy_bytes(directory: Path, task: StoredTask, output: int, span: tuple[int, int], look: _Look) -> None:
    """Copy some bytes of a task's file to their place in another one."""
    with storage_failures(f"cannot read task {task.task_id}"):
        source = Content(directory).open(task.kind, task.task_id)
    try:
        for start in range(*span, BLOCK_LENGTH):
            block = memoryview(bytearray(min(BLOCK_LENGTH, span[1] - start)))
            with storage_failures(f"cannot read task {task.task_id}"):
                read_exactly(source, block, start)
            write_all(output, block, start)
            look(None)
    finally:
        os.close(source)
