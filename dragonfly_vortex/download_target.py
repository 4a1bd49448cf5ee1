"""The interface of the targets that downloads write to, inside the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from dragonfly_vortex.errors import VortexError
from dragonfly_vortex.model import Claim, Found
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["IDownloadTarget"]


class IDownloadTarget(Interface):
    """
    The target to which one download writes one task: a file, a pipe or a storage. Nothing here blocks the reactor.

    A piece is claimed, written to its place in the file, and committed; a whole task is published. The parts of the
    storage below a target have the same words for the same acts. Several downloads may write one task of a storage, in
    one process or in several. A range of the file is written only while no row offers it.
    """

    descriptor: int = Attribute("the file that pieces are written to, open for reading and writing; it may have holes")
    directory: Path = Attribute("where there is room for another copy of a piece, on the same file system")
    is_read_in_order: bool = Attribute("whether the bytes are read in order while they come")
    is_behind: bool = Attribute("whether so many committed bytes wait for the disk that no more should be asked for")

    def open() -> Deferred[Found]:
        """Open the file. Fires with what is there already."""

    def reserve(content_length: int) -> Deferred[None]:
        """
        Reserve room for a content. To be called once its length is known, and again where it turns out to be another.

        :param content_length: bytes of the whole.
        :returns: fires when there is room; fails where there is none.
        """

    def claim(number: int) -> Deferred[Claim]:
        """
        Keep all others from fetching a piece, until :meth:`commit` has fired, :meth:`release`, :meth:`close`, or the
        end of this process, however it ends. A process that does not run keeps them from it for 15 s.

        :returns: fires with a :class:`Claim`. Fails with :class:`~dragonfly_vortex.errors.StorageError` where the task
            has been imported anew or removed meanwhile, as the other methods do.
        """

    def release(number: int) -> None:
        """
        Give up a claim, or one that is being made. If it has been taken over, the piece's bytes are checked: a write
        that was under way then may have changed what the other download has written.
        """

    def renew() -> None:
        """Show other processes that this one runs and keeps its claims. Called every second."""

    def commit(metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        """
        Make a piece survive a kill, as far as the target can: its bytes are in the file and have been verified. In a
        storage the bytes are on the disk before the row is, and pieces that are committed at the same time share the
        waiting for the disk.

        :param metadata: the piece's row.
        :param piece_length: bytes of every piece of the task but the last.
        :param content_length: bytes of the whole task; None while that is not known, or not known any more.
        :returns: fires when the piece is committed and the target is not behind because of it. Fails with
            :class:`~dragonfly_vortex.errors.PieceTakenOver` where another download has taken the piece over, which is
            to be claimed anew then, and with :class:`~dragonfly_vortex.errors.StorageError` where the task is there
            with another piece length.
        """

    def keep_source_version(version: str) -> None:
        """
        Keep the version of the source that pieces are fetched from, with the pieces that are committed later.

        :param version: its ``ETag`` or ``Last-Modified``.
        """

    def hold() -> Deferred[bool]:
        """
        Keep all other downloads from claiming, committing and dropping pieces of the task, until :meth:`close`. To be
        called before anything is concluded from a wrong whole: two downloads whose parents disagree would drop each
        other's pieces for ever.

        :returns: fires with False while another download holds the task: ask again. Fails with
            :class:`~dragonfly_vortex.errors.TaskChanged` where another download has changed pieces that this one has
            committed or found.
        """

    def drop(numbers: Sequence[int]) -> Deferred[None]:
        """
        Stop offering pieces that this download committed or found, because the whole does not fit its ID. The length
        of the task is unknown again then. A row that another download has written in place of one of them stays.

        :returns: fires when their places can be written again. Fails with
            :class:`~dragonfly_vortex.errors.TaskChanged` where another download holds the task, or has completed it.
        """

    def publish(content_length: int) -> Deferred[None]:
        """
        Put the task in its place for good: all of it is there, and it is what its ID says.

        :param content_length: bytes of it; what was written behind them is cut off.
        :returns: fails with :class:`~dragonfly_vortex.errors.TaskChanged` where another download has changed pieces.
        """

    def close() -> Deferred[None]:
        """
        Give up all claims and close the file. What was published stays; in a storage, so does what was committed.
        """

    def subscribe(changed: Callable[[], None]) -> Callable[[], None]:
        """
        Have a function called when a piece that another download has claimed may have arrived.

        :returns: ends the subscription.
        """

    def failure(reason: str) -> VortexError:
        """
        Make an error of this target.

        :param reason: what has failed.
        """
