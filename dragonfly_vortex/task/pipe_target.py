"""
A pipe as the target of a download: gets the bytes of verified pieces, in order, as soon as they are there.

What has been written to a pipe cannot be taken back. Each piece has been verified by its digest before it is written;
whether the whole has the task's digest is known after the last piece. If not, the download fails, and the reader of the
pipe has to check its status.

Pieces come in any order, and the whole is hashed from a file: so they are kept in a temporary file without a name.
"""

from __future__ import annotations

import os
import select
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import OutputError, TaskDigestMismatch, VortexError
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.model import Claim, Found
from dragonfly_vortex.storage.disk import MOST_UNWRITTEN
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["PipeTarget"]

_LOOK = 100
"""Milliseconds between two looks whether the pipe is still to be written to."""

_BLOCK_LENGTH = 256 * 1024

_BATCH = 8 * 1024 * 1024
"""Bytes that a thread writes before it reports to the reactor."""


@implementer(IDownloadTarget)
class PipeTarget:
    """
    A pipe, or another file that takes bytes in order only. It begins with nothing.

    :param pipe: the descriptor that is written to; it stays open.
    :param task_id: the task, for errors.
    :param in_thread: how to call a function in a thread.
    """

    is_read_in_order = True

    def __init__(self, pipe: int, task_id: str, in_thread: InThread) -> None:
        self.descriptor = -1
        self.directory = Path()  # that of temporary files, from open() on: to find it tries to write there
        self._pipe = pipe
        self._task_id = task_id
        self._in_thread = in_thread
        self._pieces: dict[int, PieceMetadata] = {}
        self._ends: dict[int, int] = {}  # of the pieces that are verified, by where they begin
        self._ready = 0  # bytes from the first one on that are verified
        self._written = 0
        self._is_writing = False
        self._is_stopped = False
        self._error: BaseException | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._ending = Ending(lambda: not self._is_writing)

    @property
    def is_behind(self) -> bool:
        return self._ready - self._written > MOST_UNWRITTEN

    def open(self) -> Deferred[Found]:
        return self._in_thread(self._open).addCallback(lambda _: Found())

    def _open(self) -> None:
        """In a thread: open the temporary file."""
        try:
            self.directory = Path(tempfile.gettempdir())
            with tempfile.TemporaryFile(dir=self.directory) as file:
                self.descriptor = os.dup(file.fileno())
        except OSError as error:
            raise OutputError(f"expected room for a temporary file, got: {error}") from error

    def reserve(self, content_length: int) -> Deferred[None]:
        return succeed(None)  # what has been read is deleted, so that the whole need not fit

    def claim(self, number: int) -> Deferred[Claim]:
        return succeed(Claim(is_ours=True))

    def release(self, number: int) -> None:
        """Do nothing: no other download waits for the claim."""

    def renew(self) -> None:
        """Do nothing: no other download waits for the claim."""

    def commit(self, metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        self._pieces[metadata.number] = metadata
        self._ends[metadata.offset] = metadata.offset + metadata.length
        while (end := self._ends.get(self._ready, 0)) > self._ready:
            self._ready = end
        self._run()
        return self._wait(lambda: not self.is_behind)

    def keep_source_version(self, version: str) -> None:
        """No other download goes on with it."""

    def hold(self) -> Deferred[bool]:
        return succeed(True)

    def drop(self, numbers: Sequence[int]) -> Deferred[None]:
        """Fails if any of the pieces may have been written to the pipe."""
        for number in numbers:
            piece = self._pieces.pop(number, None)
            if piece is None:
                continue
            if piece.offset < self._ready and self._error is None:
                reason = "expected a content with its digest, got another one, of which some has been written already"
                self._error = TaskDigestMismatch(self._task_id, reason)
            self._ends.pop(piece.offset, None)
        return self._wait(lambda: True)

    def publish(self, content_length: int) -> Deferred[None]:
        self._run()
        return self._wait(lambda: self._written == content_length)

    def close(self) -> Deferred[None]:
        self._is_stopped = True
        return self._ending.wait().addCallback(self._close)

    def _close(self, _: None) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def failure(self, reason: str) -> VortexError:
        return OutputError(f"standard output: {reason}")

    def _wait(self, is_done: Callable[[], bool]) -> Deferred[None]:
        """Wait for a condition; the Deferred fails when nothing more can be written."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append((is_done, waiting))
        self._look()
        return waiting

    def _look(self) -> None:
        """Fire the Deferreds whose condition holds."""
        waiting, self._waiting = self._waiting, []
        for is_done, deferred in waiting:
            if self._error is not None:
                deferred.errback(self._error)
            elif is_done():
                deferred.callback(None)
            else:
                self._waiting.append((is_done, deferred))

    def _run(self) -> None:
        """Write what is ready in a thread, unless one is at work."""
        if self._is_writing or self._is_stopped or self._error is not None or self._written == self._ready:
            return
        self._is_writing = True
        start, end = self._written, min(self._ready, self._written + _BATCH)
        maybeDeferred(self._in_thread, lambda: self._write(start, end)).addBoth(self._ran)

    def _ran(self, result: int | Failure) -> None:
        """Handle the end of a thread."""
        self._is_writing = False
        if not isinstance(result, Failure):
            self._written = result
        elif self._error is None:
            self._error = result.value
        self._run()
        self._ending.look()
        self._look()

    def _write(self, start: int, end: int) -> int:
        """
        In a thread: write bytes of the temporary file to the pipe, as long as they are wanted.

        :returns: up to where they have been written.
        """
        # Where the other side may not read, only so much is written at a time as never has to wait (PIPE_BUF).
        is_file = stat.S_ISREG(os.fstat(self._pipe).st_mode)
        most = _BLOCK_LENGTH if is_file else select.PIPE_BUF
        poll = select.poll()
        poll.register(self._pipe, select.POLLOUT)
        block = memoryview(b"")
        while start < end and not self._is_stopped:
            if not is_file and not poll.poll(_LOOK):
                continue
            if not block:
                block = memoryview(os.pread(self.descriptor, min(_BLOCK_LENGTH, end - start), start))
                if not block:
                    raise self.failure(f"expected {end - start} more bytes in the temporary file, got none")
            try:
                written = os.write(self._pipe, block[:most])
            except OSError as error:
                raise self.failure(error.strerror or str(error)) from error
            if not written:  # no file should do so; going on would never end
                raise self.failure(f"expected to write {len(block)} bytes, none were taken")
            block = block[written:]
            start += written
        return start
