"""
The file as a target of a download, which is complete and verified or not there.

Opening, publishing and discarding block and are done in a thread.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import OutputError, OutputExists, VortexError
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import Claim, Found
from dragonfly_vortex.storage.atomic_file import StagedFile, check_target
from dragonfly_vortex.storage.disk import MOST_UNWRITTEN, free_run, reserve
from dragonfly_vortex.storage.kept_file import KeptFile
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.task.disk import WORTH_A_THREAD, WriteBack
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Output", "OutputTarget"]


class Output:
    """
    A target and the temporary beside it.

    :param target: where the file is to be.
    :param overwrite: whether a file that stands there is replaced.
    :param sync: whether publishing waits until the file is on the disk.
    :param kept_for: the task, by kind and ID, for which the temporary is kept where the download ends early; None to
        keep nothing.
    """

    def __init__(
        self,
        target: Path,
        *,
        overwrite: bool = False,
        sync: bool = True,
        kept_for: tuple[PieceKind, str] | None = None,
    ) -> None:
        self.target = target
        self.overwrite = overwrite
        self.sync = sync
        self.kept: KeptFile | None = None
        """The temporary, if it can be kept."""
        self._kept_for = kept_for
        self._staged: StagedFile | None = None

    @property
    def descriptor(self) -> int:
        """
        The temporary, open for reading and writing.

        :raises OutputError: it is not open.
        """
        if self._staged is None:
            raise OutputError(f"{self.target}: expected an open temporary, got none")
        return self._staged.descriptor

    def open(self) -> Found:
        """
        Begin the temporary, or go on with the one that was kept, if the target may be written at all. Blocks.

        :returns: what is there of the task.
        :raises OutputError: it may not, or the directory cannot be written to.
        """
        with self._told_as_output_error():
            check_target(self.target, overwrite=self.overwrite)
            self.kept = None if self._kept_for is None else KeptFile.open(self.target, *self._kept_for)
            if self.kept is not None:
                self._staged = self.kept.staged
                return self.kept.found
            self._staged = StagedFile.create(self.target.parent, self.target.name)
            return Found()

    def publish(self, length: int) -> None:
        """
        Give the temporary the target's name. Blocks until it is on the disk, if that is to be waited for.

        :param length: bytes of the whole content; what was written behind them is cut off.
        :raises OutputError: it could not be done, or something stands there by now. The temporary is still there.
        """
        descriptor = self.descriptor
        with self._told_as_output_error():
            os.ftruncate(descriptor, length)
            temporary = self.kept or self._staged
            if temporary is not None:
                temporary.publish(self.target, overwrite=self.overwrite, sync=self.sync)
                self._staged = self.kept = None

    def discard(self) -> None:
        """Delete the temporary, unless it has been published, or never was. Blocks."""
        temporary = self.kept or self._staged
        self._staged = self.kept = None
        if temporary is not None:
            with self._told_as_output_error():
                temporary.discard()

    def close(self) -> None:
        """Keep the temporary, where it can be kept and there is a piece in it; else :meth:`discard`. Blocks."""
        kept = self.kept
        if kept is None:
            self.discard()
            return
        self._staged = self.kept = None
        with self._told_as_output_error():
            kept.close(sync=self.sync)

    @contextlib.contextmanager
    def _told_as_output_error(self) -> Iterator[None]:
        """Turn the system's errors into errors that name the target."""
        try:
            yield
        except FileExistsError as error:
            raise OutputExists(f"{self.target}: {error.strerror}") from error
        except OSError as error:
            raise OutputError(f"{self.target}: {error.strerror or error}") from error


@implementer(IDownloadTarget)
class OutputTarget:
    """
    A file that is complete or not there, and has no other writer. It begins empty, or with the pieces that a download
    of the same task to the same place has left.

    :param path: where the file is to be.
    :param in_thread: how to call a function in a thread.
    :param overwrite: whether a file that stands there is replaced.
    :param sync: whether it is on the disk when it has been published, over a power cut too.
    :param kept_for: the task, by kind and ID, whose verified pieces are kept beside the file where the download ends
        early, or the process is killed; None to keep nothing.
    """

    is_read_in_order = False

    def __init__(
        self,
        path: Path,
        in_thread: InThread,
        *,
        overwrite: bool = False,
        sync: bool = True,
        kept_for: tuple[PieceKind, str] | None = None,
    ) -> None:
        self._in_thread = in_thread
        self._sync = sync
        self._output = Output(path, overwrite=overwrite, sync=sync, kept_for=kept_for)
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

    def _open(self) -> tuple[Found, int]:
        """In a thread: open the file, and see how much may wait for the disk."""
        return self._output.open(), MOST_UNWRITTEN if self._sync else max(MOST_UNWRITTEN, free_run())

    def _opened(self, opened: tuple[Found, int]) -> Found:
        """Take over the file that a thread has opened."""
        found, most = opened
        # Without sync nothing waits for the disk in the end: it is given work only when the kernel would begin soon.
        least = WORTH_A_THREAD if self._sync else most // 2
        self._write_back = WriteBack(self._output.descriptor, self._in_thread, most=most, least=least)
        return found

    def reserve(self, content_length: int) -> Deferred[None]:
        descriptor = self._output.descriptor
        return self._in_thread(lambda: reserve(descriptor, content_length)).addErrback(self._cannot_be_written)

    def claim(self, number: int) -> Deferred[Claim]:
        return succeed(Claim(is_ours=True))

    def release(self, number: int) -> None:
        """Do nothing: no other download waits for the claim."""

    def renew(self) -> None:
        """Do nothing: no other download waits for the claim."""

    def commit(self, metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        if self._output.kept is not None:
            self._output.kept.commit(metadata, piece_length, content_length)
        if self._write_back is None:
            return succeed(None)
        written = self._write_back.add(metadata.offset, metadata.offset + metadata.length)
        return written.addErrback(self._cannot_be_written)

    def _cannot_be_written(self, failure: Failure) -> None:
        """Fail the download, because the disk has failed."""
        error = cast(BaseException, failure.value)  # a Failure that an errback gets has one
        raise self.failure(f"cannot be written: {reason_of(error)}") from error

    def keep_source_version(self, version: str) -> None:
        if self._output.kept is not None:
            self._output.kept.keep_source_version(version)

    def hold(self) -> Deferred[bool]:
        return succeed(True)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        if self._output.kept is not None:
            self._output.kept.drop(numbers)
        return succeed(None)

    def publish(self, content_length: int) -> Deferred[None]:
        return self._stop_writing().addCallback(lambda _: self._publish(content_length))

    def _publish(self, content_length: int) -> Deferred[None]:
        """Publish the file, unless a thread has seen that the disk fails, which the kernel reports only once."""
        if self._write_back is not None and self._write_back.error is not None:
            return fail(self._write_back.error).addErrback(self._cannot_be_written)
        return self._in_thread(lambda: self._output.publish(content_length))

    def close(self) -> Deferred[None]:
        return self._stop_writing().addCallback(lambda _: self._in_thread(self._output.close))

    def _stop_writing(self) -> Deferred[None]:
        """End the threads that write to the file."""
        return succeed(None) if self._write_back is None else self._write_back.stop()

    def forget(self) -> None:
        """
        Delete what is kept of the task, after :meth:`close`: all of it is there, and it is wrong. Blocks.

        :raises OutputError: it cannot be deleted.
        """
        self._output.open()
        self._output.discard()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def failure(self, reason: str) -> VortexError:
        return OutputError(f"{self._output.target}: {reason}")
