"""
Imports a file as a task: stores its content, and its pieces in the catalog. Everything here blocks.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dragonfly_vortex.digest import crc32_of
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.files import write_all
from dragonfly_vortex.geometry import (
    BLOCK_LENGTH,
    Progress,
    check_lengths,
    piece_count,
    piece_length_for,
    piece_span,
)
from dragonfly_vortex.identity import ContentHash, task_id_of
from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.disk import keep_ballast
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.wire import PieceKind, PieceMetadata, TrafficType

__all__ = ["import_file"]


def import_file(
    path: Path,
    directory: Path,
    kind: PieceKind,
    piece_length: int | None = None,
    link: bool = False,
    progress: Callable[[Progress], None] | None = None,
    *,
    task_id: str = "",
    origin: Origin | None = None,
    ttl: int | None = None,
) -> StoredTask:
    """
    Put a file into a storage. What the storage already has of it is replaced, which heals damaged pieces.

    The task's ID is the one that is given, or follows from the origin (:mod:`dragonfly_vortex.identity`), or is the
    SHA-256 of the content.

    The file is read once, and its bytes are on the disk before the first row is committed. Processes may import the
    same file at the same time.

    :param path: a regular file, that does not change while it is read.
    :param directory: the storage's directory, made where it is not there.
    :param kind: the kind that the task's pieces will have.
    :param piece_length: bytes of every piece but the last; None for Dragonfly's rule.
    :param link: give the file a second name in the storage instead of copying it. It takes no space, and from then on
        the file must never be changed: the storage's content would change with it, also while it is being sent.
    :param progress: called after each step of at most 1 MiB, and with nothing done before the first.
    :param task_id: the task's ID; empty where it is to be made.
    :param origin: what the task is made from, which is kept; None where that is not known.
    :param ttl: seconds for which the task is kept, 0 for no end; None for what the configuration says for its kind. If
        the kind is persistent, the task is kept for that time however full the disk is.
    :raises InvalidOrigin: no ID can be made from the origin.
    :raises StorageError: the file cannot be imported, not with that piece length, or not under that ID.
    :raises StorageFailure: the storage failed.
    """
    content = Content(directory)
    # A wrong ID or origin is found before a long file is read.
    if task_id:
        content.path(kind, task_id)
    elif origin is not None:
        task_id_of(origin, kind, hashlib.sha256())
    with ExitStack() as stack:
        source = stack.enter_context(_opened(path))
        before = os.fstat(source)
        if piece_length is None:
            piece_length = piece_length_for(before.st_size)
        check_lengths(before.st_size, piece_length)
        # Opened first, so that a storage that cannot be used says so before a long file has been read.
        catalog = stack.enter_context(Catalog(directory))
        if task_id:
            catalog.check_kind(kind, task_id)
        with storage_failures(f"cannot import {path}"):
            content.sweep()
            staged = None if link else stack.enter_context(content.stage())
            reading = _Reading(before.st_size, piece_length, progress)
            for block in _blocks(path, source, before.st_size):
                reading.update(block)
                if staged is not None:
                    write_all(staged.descriptor, block)
            _check_unchanged(path, before, os.fstat(source), reading.done)
            checksums = reading.finish()
            # Before the lock is taken, so that no process waits for the disk.
            os.fdatasync(source if staged is None else staged.descriptor)
            task = StoredTask(
                kind=kind,
                task_id=task_id or _id_of(reading.content, kind, origin),
                content_length=before.st_size,
                piece_length=piece_length,
                created_at=int(time.time()),
                digest=f"sha256:{reading.content.hexdigest()}",
                origin=origin,
                ttl=ttl,
                is_pinned=kind.is_persistent or ttl == 0,
            )
            with content.lock():
                catalog.check_kind(kind, task.task_id)  # before the file is at its place
                if staged is None:
                    _link(content, path, source, task)
                else:
                    content.publish(staged, kind, task.task_id)
                catalog.put_task(task, _pieces(task, before.st_size, checksums))
    keep_ballast(directory)
    return task


def _id_of(content: ContentHash, kind: PieceKind, origin: Origin | None) -> str:
    """The ID of a task that has none yet."""
    return content.hexdigest() if origin is None else task_id_of(origin, kind, content)


class _Reading:
    """
    The digests of a content and of its pieces, as its bytes go by.

    A piece leaves four bytes here and no object: there can be many.
    """

    def __init__(self, content_length: int, piece_length: int, progress: Callable[[Progress], None] | None) -> None:
        self.done = 0
        self._content_length = content_length
        self._piece_length = piece_length
        self._piece_count = piece_count(content_length, piece_length)
        self._progress = progress
        self.content: ContentHash = hashlib.sha256()
        """The SHA-256 of the bytes so far."""
        self._checksums = array("I")
        self._crc32 = crc32_of()
        self._checksum = 0
        self._left = piece_length
        self._report()

    def update(self, block: memoryview) -> None:
        """Take the next bytes."""
        self.content.update(block)
        at = 0
        while at < len(block):
            part = block[at : at + self._left]
            self._checksum = self._crc32(part, self._checksum)
            self._left -= len(part)
            at += len(part)
            if not self._left:
                self._end_piece()
        self.done += len(block)
        self._report()

    def finish(self) -> array[int]:
        """The CRC-32 of every piece; a last one that is shorter, or empty, ends here."""
        if len(self._checksums) < self._piece_count:
            self._end_piece()
            self._report()
        return self._checksums

    def _end_piece(self) -> None:
        """Keep the checksum of a complete piece, and begin the next."""
        self._checksums.append(self._checksum)
        self._checksum = 0
        self._left = self._piece_length

    def _report(self) -> None:
        """Report how far it is."""
        if self._progress is not None:
            self._progress(Progress(self.done, self._content_length, len(self._checksums), self._piece_count))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of the file that is to be imported."""
    with _source_errors(path):
        # Without O_NONBLOCK a pipe would be waited for here.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StorageError(f"cannot import {path}: expected a regular file, got a directory, a pipe or a device")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _source_errors(path: Path) -> Iterator[None]:
    """A file that cannot be read is no failure of the storage."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot import {path}: {error.strerror}") from error


def _blocks(path: Path, source: int, expected: int) -> Iterator[memoryview]:
    """The file's bytes, each block good until the next is asked for. A file that grows and grows ends anyway."""
    block = memoryview(bytearray(BLOCK_LENGTH))
    done = 0
    while done <= expected:
        with _source_errors(path):
            length = os.readv(source, [block])
        if not length:
            return
        done += length
        yield block[:length]


def _check_unchanged(path: Path, before: os.stat_result, after: os.stat_result, length: int) -> None:
    """Refuse a file that is not the one that was begun with."""
    if (before.st_size, before.st_size, before.st_mtime_ns) != (length, after.st_size, after.st_mtime_ns):
        raise StorageError(
            f"cannot import {path}: it changed while it was read: expected {before.st_size} bytes last written at"
            f" {before.st_mtime_ns} ns, got {length} of {after.st_size} bytes last written at {after.st_mtime_ns} ns"
        )


def _link(content: Content, path: Path, source: int, task: StoredTask) -> None:
    """Link the file into the storage."""
    try:
        content.link(path.resolve(), source, task.kind, task.task_id)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise StorageError(
            f"cannot link {path} into {content.directory}: expected one file system, got two; import it without a link"
        ) from error


def _pieces(task: StoredTask, content_length: int, checksums: array[int]) -> Iterator[PieceMetadata]:
    """The rows of an imported task's pieces."""
    for number, checksum in enumerate(checksums):
        offset, length = piece_span(number, content_length, task.piece_length)
        yield PieceMetadata(
            number=number,
            offset=offset,
            length=length,
            digest=f"crc32:{checksum}",
            parent_id="",
            traffic_type=TrafficType.REMOTE_PEER,
            cost=0,
            created_at=task.created_at,
        )
