"""The interface between the methods for whole tasks and the peer, and the values that pass through it alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct, field
from twisted.internet.defer import Deferred

from dragonfly_vortex.model import (
    NO_CREDENTIALS,
    ArrivedPiece,
    Credentials,
    ListedFile,
    OpenPiece,
    Origin,
    StoredTask,
    TaskRequest,
)
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["BlockSubject", "ImportRequest", "OutputRequest", "PeerTasks", "SourceEntries"]


class BlockSubject(Struct, frozen=True, kw_only=True):
    """
    The properties of a request by which an operator can block it. Each is None where the request does not have it.
    """

    url: str | None = None
    application: str | None = None
    tag: str | None = None
    priority: int | None = None


class ImportRequest(Struct, frozen=True, kw_only=True):
    """
    A request to have a file in the storage.

    :param kind: the kind of task that it becomes.
    :param path: the file, absolute.
    :param origin: what the task's ID is made from, beside the content.
    :param ttl: seconds that the task is to be kept; None where that is not said.
    :param replica_count: how many peers are to keep it.
    :param credentials: for the object storage that a persistent task is put into.
    """

    kind: PieceKind
    path: Path
    origin: Origin = field(default_factory=Origin)
    ttl: float | None = None
    replica_count: int = 1
    credentials: Credentials = NO_CREDENTIALS


class OutputRequest(Struct, frozen=True, kw_only=True):
    """
    A request for a file with a task's content.

    :param path: where it is to be, absolute.
    :param overwrite: whether a file that stands there is replaced.
    :param must_link: whether it has to be a hard link to the storage's file; otherwise a copy is good, too.
    :param span: the bytes that are wanted, first and behind the last; None for all. The file is as long as the content
        anyway, with holes for the rest.
    """

    path: Path
    overwrite: bool = False
    must_link: bool = False
    span: tuple[int, int] | None = None


class SourceEntries(NamedTuple):
    """
    The entries that a source lists for a URL.

    :param content_length: bytes of what is there; 0 where that is not known.
    :param headers: of its answer.
    :param status: its HTTP status.
    :param files: those of a directory, and of all directories below it.
    """

    content_length: int
    headers: Mapping[str, str]
    status: int
    files: Sequence[ListedFile] = ()


class PeerTasks(Protocol):
    """The interface of a peer for a servicer. All methods are called in the reactor's thread, and none blocks."""

    host_id: str
    """This peer's host ID."""

    def new_peer_id(self) -> str:
        """An ID for one download."""

    def download(self, request: TaskRequest, tell: Callable[[ArrivedPiece], None]) -> Deferred[StoredTask]:
        """See :meth:`~dragonfly_vortex.daemon.downloads.Downloads.download`."""

    def blocks(self, kind: PieceKind, subject: BlockSubject, *, is_import: bool) -> Deferred[bool]:
        """
        Whether the operator of the cluster has a request blocked.

        :param is_import: whether it is for an import, and not for a download.
        """

    def prefetch(self, request: TaskRequest) -> None:
        """Have a task downloaded, however its callers end. A failure is logged."""

    def check_output(self, kind: PieceKind, task_id: str, output: OutputRequest) -> Deferred[None]:
        """
        Check whether an output can be made, before anything is downloaded for it. Fails with
        :class:`~dragonfly_vortex.errors.OutputError` where it cannot.
        """

    def put_placeholder(self, output: OutputRequest) -> Deferred[None]:
        """Make an empty file in the place of an output, where there is nothing."""

    def put_output(self, task: StoredTask, output: OutputRequest | None, digest: str) -> Deferred[None]:
        """
        Make a file with a task's content.

        :param output: None for none.
        :param digest: what the content has to have; empty for nothing.
        """

    def open_piece(self, kind: PieceKind, task_id: str, number: int) -> Deferred[OpenPiece]:
        """See :meth:`~dragonfly_vortex.interfaces.IPieceStore.open_piece`."""

    def import_file(self, request: ImportRequest) -> Deferred[StoredTask]:
        """
        Put a file into the storage, and a persistent task into its object storage, too. Where that fails, it is not in
        this storage either.
        """

    def has_object(self, request: ImportRequest) -> Deferred[bool]:
        """Whether the object storage has the object of a persistent task already."""

    def stat(self, kind: PieceKind, task_id: str) -> Deferred[Message | None]:
        """
        Ask a scheduler for a task, as the API's own message. Fires with None if no scheduler knows it.
        """

    def is_coming(self, kind: PieceKind, task_id: str) -> Deferred[bool]:
        """
        Whether a task is being downloaded, or waits for that, by this process or by another one that uses the same
        storage: its pieces will come, and there may be none yet.
        """

    def asked(self, kind: PieceKind, task_id: str, host_id: str) -> None:
        """
        Record that a child has asked for the pieces of a task that is not complete here.

        :param host_id: the ID by which the child says that schedulers know its host.
        """

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[tuple[StoredTask, bool]]:
        """A task of the storage, and whether all of it is there."""

    def list_tasks(self, kind: PieceKind) -> Deferred[Sequence[tuple[StoredTask, bool]]]:
        """All tasks of a kind, and whether all of each is there."""

    def remove_task(self, kind: PieceKind, task_id: str, *, is_local: bool) -> Deferred[None]:
        """
        Remove a task from the storage.

        :param is_local: whether schedulers are not told of it.
        """

    def update_task(self, kind: PieceKind, task_id: str, *, is_pinned: bool) -> Deferred[None]:
        """
        Change for how long a task is kept. Fails with :class:`~dragonfly_vortex.errors.NotStored` for an unknown one.

        :param is_pinned: whether it is kept until its time is over, however full the disk is.
        """

    def leave(self) -> Deferred[None]:
        """Have schedulers forget this peer."""

    def entries(self, request: TaskRequest) -> Deferred[SourceEntries]:
        """
        Ask a source about a URL: the files of a directory, or the length of a file.

        :param request: its origin is asked for, and no task has its ID.
        """
