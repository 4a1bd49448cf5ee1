"""The interface between the methods for whole tasks and the peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from dragonfly_vortex.model import (
    ArrivedPiece,
    BlockSubject,
    ImportRequest,
    ListedFile,
    OpenPiece,
    OutputRequest,
    StoredTask,
    TaskRequest,
)
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["PeerTasks", "SourceEntries"]


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
        See whether an output can be made, before anything is downloaded for it. Fails with
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
        """Put a file into the storage."""

    def stat(self, kind: PieceKind, task_id: str) -> Deferred[Message | None]:
        """
        Ask a scheduler for a task, as the API's own message. Fires with None if no scheduler knows it.
        """

    def is_coming(self, kind: PieceKind, task_id: str) -> bool:
        """Whether a task is being downloaded, or waits for that: its pieces will come, and there may be none yet."""

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
