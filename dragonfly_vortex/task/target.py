"""
Where a download goes: :class:`IDownloadTarget`, and its first provider, a file. The other one is the storage, in
:mod:`~dragonfly_vortex.task.stored_target`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from zope.interface import Attribute, Interface, implementer

from dragonfly_vortex.errors import OutputError, VortexError
from dragonfly_vortex.interfaces import Claim, StoredTask
from dragonfly_vortex.task.hashing import InThread
from dragonfly_vortex.task.output import Output
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Found", "IDownloadTarget", "OutputTarget"]


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
    is_served: bool = Attribute("whether others read the file already, so that it had better stay in memory")
    unwritten: int = Attribute("bytes of pieces that have been kept, and are not safe on the disk yet")

    def open() -> Deferred[Found]:
        """Open the file. Fires with what is there already."""

    def claim(number: int) -> Deferred[Claim]:
        """Ask for leave to fetch a piece; see :meth:`~dragonfly_vortex.interfaces.ITaskWriter.claim`."""

    def release(number: int) -> None:
        """A piece that was claimed will not be kept."""

    def keep(metadata: PieceMetadata, piece_length: int) -> Deferred[None]:
        """
        A piece that was claimed is in the file, and verified. Fires when it will be there the next time.

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
    """

    is_served = False
    unwritten = 0

    def __init__(self, path: Path, in_thread: InThread, *, overwrite: bool = False) -> None:
        self._in_thread = in_thread
        self._output = Output(path, overwrite=overwrite)

    @property
    def descriptor(self) -> int:
        return self._output.descriptor

    def open(self) -> Deferred[Found]:
        return self._in_thread(self._output.open).addCallback(lambda _: Found())

    def claim(self, number: int) -> Deferred[Claim]:
        return succeed(Claim(is_ours=True))

    def release(self, number: int) -> None:
        """Nobody else waits for it."""

    def keep(self, metadata: PieceMetadata, piece_length: int) -> Deferred[None]:
        return succeed(None)

    def set_content_length(self, content_length: int | None) -> Deferred[None]:
        return succeed(None)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        return succeed(None)

    def publish(self, content_length: int) -> Deferred[None]:
        return self._in_thread(lambda: self._output.publish(content_length))

    def close(self) -> Deferred[None]:
        return self._in_thread(self._output.discard)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def failure(self, reason: str) -> VortexError:
        return OutputError(f"{self._output.target}: {reason}")
