"""
Where a download goes: :class:`IDownloadTarget`, and its first provider, a file. The other one is the storage, in
:mod:`~dragonfly_vortex.task.stored_target`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from dragonfly_vortex.errors import OutputError, VortexError
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import Claim, StoredTask
from dragonfly_vortex.storage.disk import free_run
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.task.disk import WORTH_A_THREAD, WriteBack
from dragonfly_vortex.task.output import Output
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["MOST_UNWRITTEN", "Found", "IDownloadTarget", "OutputTarget"]

MOST_UNWRITTEN = 128 * 1024 * 1024
"""Bytes of verified pieces that may wait for the disk before no more is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What was there before a download began.

    :param task: what is known of the task.
    :param pieces: those of its pieces that are there.
    """

    task: StoredTask | None = None
    pieces: Sequence[PieceMetadata] = ()


class IDownloadTarget(Interface):
    """A place for one task. Its methods are called in the reactor's thread, and what they have done blocks nobody."""

    descriptor: int = Attribute("the file that pieces are written to, open for reading and writing")
    directory: Path = Attribute("where there is room for another copy of a piece, on the same file system")
    is_behind: bool = Attribute("whether so much of what was kept waits for the disk that no more should be asked for")

    def open() -> Deferred[Found]:
        """Open the file. Fires with what is there already."""

    def claim(number: int) -> Deferred[Claim]:
        """Ask for leave to fetch a piece; see :meth:`~dragonfly_vortex.interfaces.ITaskWriter.claim`."""

    def release(number: int) -> None:
        """A piece that was claimed will not be kept."""

    def renew() -> None:
        """The download goes on: show that to others who wait for what it has claimed. To be called every second."""

    def keep(metadata: PieceMetadata, piece_length: int) -> Deferred[None]:
        """
        A piece that was claimed is in the file, and verified. Fires when it will be there the next time, as far as that
        is possible, and when the target is not behind any more because of it.

        :param piece_length: bytes of every piece of the task but the last.
        """

    def set_content_length(content_length: int | None) -> Deferred[None]:
        """The length of the task has become known, or is not known any more. Some piece has been kept before."""

    def drop(numbers: Sequence[int]) -> Deferred[None]:
        """Pieces that were kept or found are no good: fires when they can be written again."""

    def publish(content_length: int) -> Deferred[None]:
        """All is there and verified. Fires when it is at its place for good."""

    def close() -> Deferred[None]:
        """Close the file. What has been published stays, and so does what can be gone on with."""

    def subscribe(changed: Callable[[], None]) -> Callable[[], None]:
        """
        Hear of what others do to the task.

        :param changed: called when a piece that somebody else has claimed may have come.
        :returns: ends the subscription.
        """

    def failure(reason: str) -> VortexError:
        """
        An error of this target.

        :param reason: what has failed.
        """


@implementer(IDownloadTarget)
class OutputTarget:
    """
    A file that is complete or not there. It begins with nothing, and nobody else writes to it.

    :param path: where the file is to be.
    :param in_thread: how to call a function in a thread.
    :param overwrite: whether a file that stands there is replaced.
    :param sync: whether it is on the disk when it has been published, over a power cut too.
    :param writes_early: whether each piece is brought to the disk soon after it has come; where the disk is not waited
        for in the end, when half of what may wait for it does. Otherwise that is left to the kernel, which may stop the
        reactor's thread.
    :param most_unwritten: bytes of verified pieces that may wait for the disk then. Without it as many as cost nothing:
        128 MiB where the disk is waited for in the end, else as many as the kernel leaves alone.
    """

    def __init__(
        self,
        path: Path,
        in_thread: InThread,
        *,
        overwrite: bool = False,
        sync: bool = True,
        writes_early: bool = True,
        most_unwritten: int | None = None,
    ) -> None:
        self._in_thread = in_thread
        self._sync = sync
        self._writes_early = writes_early
        self._most_unwritten = most_unwritten
        self._output = Output(path, overwrite=overwrite, sync=sync)
        self._write_back: WriteBack | None = None

    @property
    def descriptor(self) -> int:
        return self._output.descriptor

    @property
    def directory(self) -> Path:
        return self._output.target.parent

    @property
    def is_behind(self) -> bool:
        return self._write_back is not None and self._write_back.is_behind

    def open(self) -> Deferred[Found]:
        return self._in_thread(self._open).addCallback(self._opened)

    def _open(self) -> int:
        """In a thread: open the file, and see how much may wait for the disk."""
        self._output.open()
        if self._most_unwritten is not None:
            return self._most_unwritten
        return MOST_UNWRITTEN if self._sync else max(MOST_UNWRITTEN, free_run())

    def _opened(self, most: int) -> Found:
        """The file is open, and there is nothing in it."""
        if self._writes_early:
            # Nobody waits for the disk in the end: so it is given work only when the kernel will want that soon.
            least = WORTH_A_THREAD if self._sync else most // 2
            self._write_back = WriteBack(self._output.descriptor, self._in_thread, most=most, least=least)
        return Found()

    def claim(self, number: int) -> Deferred[Claim]:
        return succeed(Claim(is_ours=True))

    def release(self, number: int) -> None:
        """Nobody else waits for it."""

    def renew(self) -> None:
        """Nothing else waits for it."""

    def keep(self, metadata: PieceMetadata, piece_length: int) -> Deferred[None]:
        if self._write_back is None:
            return succeed(None)
        kept = self._write_back.add(metadata.offset, metadata.offset + metadata.length)
        return kept.addErrback(self._cannot_be_written)

    def _cannot_be_written(self, failure: Failure) -> None:
        """The disk has failed."""
        error = cast(BaseException, failure.value)  # a Failure that an errback gets has one
        raise self.failure(f"cannot be written: {reason_of(error)}") from error

    def set_content_length(self, content_length: int | None) -> Deferred[None]:
        return succeed(None)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        return succeed(None)

    def publish(self, content_length: int) -> Deferred[None]:
        return self._stop_writing().addCallback(lambda _: self._publish(content_length))

    def _publish(self, content_length: int) -> Deferred[None]:
        """No thread writes any more. The kernel tells of a failing disk once: if it has, the file is no good."""
        if self._write_back is not None and self._write_back.error is not None:
            return fail(self._write_back.error).addErrback(self._cannot_be_written)
        return self._in_thread(lambda: self._output.publish(content_length))

    def close(self) -> Deferred[None]:
        return self._stop_writing().addCallback(lambda _: self._in_thread(self._output.discard))

    def _stop_writing(self) -> Deferred[None]:
        """Let go of the file."""
        return succeed(None) if self._write_back is None else self._write_back.stop()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def failure(self, reason: str) -> VortexError:
        return OutputError(f"{self._output.target}: {reason}")
