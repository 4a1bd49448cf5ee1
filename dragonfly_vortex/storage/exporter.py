"""
Exports a task to a file, and verifies every piece on the way. Everything here blocks.

Where the file system can, the file is a reflink: it shares the content's blocks until one of the two is written to.
Otherwise the kernel copies, and where it refuses, this process. In each case those bytes are verified that are in the
new file.
"""

from __future__ import annotations

import enum
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from dragonfly_vortex.errors import NotStored, OutputError, OutputExists, PieceDamaged, TaskDigestMismatch
from dragonfly_vortex.files import read_at, write_all
from dragonfly_vortex.geometry import Progress, piece_count
from dragonfly_vortex.model import StoredPiece, StoredTask, piece_id
from dragonfly_vortex.storage.atomic_file import StagedFile, check_target, hidden_path
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.directories import sync_directory
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.verifier import Damage, WholeHash, checked_blocks, mark_if_damaged
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Exported", "Way", "export_task"]

_FICLONE = 0x40049409
"""The ioctl(2) that makes a file share all blocks of another (linux/fs.h)."""


class Way(enum.Enum):
    """How a file got its content. The values are for messages."""

    REFLINK = "by reflink"
    COPY_FILE_RANGE = "by copy_file_range"
    COPY = "copied"
    HARD_LINK = "by hard link"


class Exported(Struct, frozen=True, kw_only=True):
    """
    The result of an export.

    :param task: the task's row.
    :param way: how the file got its content.
    """

    task: StoredTask
    way: Way


def export_task(
    directory: Path,
    kind: PieceKind,
    task_id: str,
    target: Path | int,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    *,
    digest: str = "",
    must_link: bool = False,
) -> Exported:
    """
    Make a file of a task's content, which is complete or not there. A piece that turns out to be damaged is marked so,
    where the storage can be written.

    :param directory: the storage's directory.
    :param target: where the file will be; or the descriptor of a pipe, to which each piece is written once it has been
        verified. What was written before an error stays written.
    :param overwrite: whether a file that stands there is replaced.
    :param progress: called after each step of at most 1 MiB, and with nothing done before the first.
    :param digest: a digest that the content must have beside the one that the storage knows; empty for none.
    :param must_link: make the target a hard link to the task's file, or fail. It must not be changed afterwards.
    :raises NotStored: there is no such task, or not all of its pieces.
    :raises PieceDamaged: a piece is not as its row says.
    :raises TaskDigestMismatch: the content does not have the digest that it must have.
    :raises OutputExists: something stands at the target already.
    :raises OutputError: the target cannot be written.
    :raises StorageFailure: the storage failed.
    """
    with ExitStack() as stack:
        catalog = stack.enter_context(Catalog(directory, Access.READ))
        task = catalog.get_task(kind, task_id)
        if task.content_length is None:
            raise NotStored(f"task {task_id}: expected all of it, got what has been downloaded so far")
        content_length = task.content_length
        pieces = _all_pieces(task, content_length, catalog.get_pieces(kind, task_id))
        staged: StagedFile | None = None
        if isinstance(target, Path):
            with _output_errors(target):
                check_target(target, overwrite=overwrite)
                if not must_link:
                    staged = stack.enter_context(StagedFile.create(target.parent, target.name))
        elif must_link:
            raise OutputError("expected a file to link, got a pipe")
        try:
            with storage_failures(f"cannot export task {task_id}"):
                source = _open(Content(directory), task)
                stack.callback(os.close, source)
                output = target if isinstance(target, int) else None if staged is None else staged.descriptor
                copying = _Copying(source, output, target)
                copying.run(task, content_length, pieces, digest, progress)
        except Damage as damage:
            mark_if_damaged(directory, kind, task_id, damage.number)
            raise PieceDamaged(f"piece {piece_id(task_id, damage.number)}: {damage.reason}") from damage
        if isinstance(target, Path) and must_link:
            link_task(directory, kind, task_id, target, overwrite=overwrite)
        elif isinstance(target, Path) and staged is not None:
            with _output_errors(target):
                os.ftruncate(staged.descriptor, content_length)
                staged.publish(target, overwrite=overwrite)
    return Exported(task=task, way=copying.way)


def _all_pieces(task: StoredTask, content_length: int, pieces: list[StoredPiece]) -> list[PieceMetadata]:
    """The rows of all the task's pieces, all of them sound."""
    count = piece_count(content_length, task.piece_length)
    if len(pieces) != count:
        raise NotStored(f"task {task.task_id}: expected {count} pieces, got {len(pieces)}")
    for piece in pieces:
        if piece.damage:
            raise PieceDamaged(f"piece {piece_id(task.task_id, piece.metadata.number)}: {piece.damage}")
    return [piece.metadata for piece in pieces]


def _open(content: Content, task: StoredTask) -> int:
    """A descriptor of the task's file."""
    try:
        return content.open(task.kind, task.task_id)
    except FileNotFoundError as error:
        raise Damage(0, "expected a file, got none") from error


class _Copying:
    """
    Puts a content into a file or a pipe, and verifies what it puts there; or verifies it only.

    :param source: the task's file.
    :param output: an empty file, or a pipe; None where the content is verified only, because a link is made of it.
    :param target: what the output is for; a number for a pipe.
    """

    def __init__(self, source: int, output: int | None, target: Path | int) -> None:
        self._source = source
        self._output = output
        self._target = target
        self.way = self._begin()
        """How the file gets its content."""

    def run(
        self,
        task: StoredTask,
        content_length: int,
        pieces: list[PieceMetadata],
        digest: str,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Go through all pieces in order, and verify each of them and the whole. A pipe gets what is verified."""
        wholes = [WholeHash(each) for each in {task.digest, digest}]
        done = 0
        for ended, piece in enumerate(pieces):
            if progress is not None:
                progress(Progress(done, content_length, ended, len(pieces)))
            if isinstance(self._target, int):
                for _ in checked_blocks(self._source, piece):
                    pass
            at = piece.offset
            for block in checked_blocks(self._source, piece, self._read):
                for whole in wholes:
                    whole.update(block)
                self._write(block, at)
                at += len(block)
                done += len(block)
                if progress is not None:
                    progress(Progress(done, content_length, ended, len(pieces)))
        for whole in wholes:
            if mismatch := whole.mismatch():
                raise TaskDigestMismatch(task.task_id, mismatch)
        if progress is not None:
            progress(Progress(done, content_length, len(pieces), len(pieces)))

    def _begin(self) -> Way:
        """Find out how the content can be put there, and put it there where that is done at once."""
        if self._output is None:
            return Way.HARD_LINK
        if isinstance(self._target, int):
            return Way.COPY
        with suppress(OSError):  # what is wrong, if anything is, the next way finds out
            fcntl.ioctl(self._output, _FICLONE, self._source)
            return Way.REFLINK
        return Way.COPY_FILE_RANGE if hasattr(os, "copy_file_range") else Way.COPY

    def _read(self, source: int, buffer: memoryview, offset: int) -> int:
        """Read the next bytes, from the new file where they are there already."""
        if self.way is Way.COPY_FILE_RANGE and self._output is not None:
            copied = 0
            with suppress(OSError):  # as above
                copied = os.copy_file_range(source, self._output, len(buffer), offset, offset)
            if copied:
                buffer = buffer[:copied]
            else:  # which some file systems answer that cannot do it
                self.way = Way.COPY
        if self.way not in (Way.REFLINK, Way.COPY_FILE_RANGE) or self._output is None:
            return read_at(source, buffer, offset)
        with _output_errors(self._target):
            return read_at(self._output, buffer, offset)

    def _write(self, block: memoryview, offset: int) -> None:
        """Write what was read, where it is not there already."""
        if self.way is Way.COPY and self._output is not None:
            with _output_errors(self._target):
                write_all(self._output, block, None if isinstance(self._target, int) else offset)


@contextmanager
def _output_errors(target: Path | int) -> Iterator[None]:
    """A file that cannot be written is no failure of the storage."""
    name = target if isinstance(target, Path) else "to the pipe"
    try:
        yield
    except FileExistsError as error:
        raise OutputExists(f"cannot write {name}: {error.strerror}") from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error


def link_task(
    directory: Path, kind: PieceKind, task_id: str, target: Path, *, overwrite: bool = False, sync: bool = True
) -> None:
    """
    Make a hard link to a task's file, all of which has to be in the storage. Where the target is such a link already,
    nothing is done.

    It takes no room. From then on the file is both: what is written into it damages the task's pieces.

    :param directory: the storage's directory.
    :param target: the new name.
    :param overwrite: whether a file that stands there is replaced.
    :param sync: whether to wait until the name is on the disk.
    :raises OutputExists: something stands at the target already.
    :raises OutputError: it cannot be linked, for example because the target is on another file system.
    """
    content = Content(directory).path(kind, task_id)
    try:
        if _is_same(content, target):
            return
        check_target(target, overwrite=overwrite)
        if not overwrite:
            os.link(content, target)
            if sync:
                sync_directory(target.parent)
            return
        hidden = hidden_path(target.parent, target.name)  # a link cannot replace a name, and a rename can
        os.link(content, hidden)
        try:
            os.replace(hidden, target)
        finally:
            hidden.unlink(missing_ok=True)
        if sync:
            sync_directory(target.parent)
    except FileExistsError as error:
        raise OutputExists(f"cannot write {target}: {error.strerror}") from error
    except OSError as error:
        raise OutputError(f"cannot link {target}: {error.strerror}") from error


def _is_same(content: Path, target: Path) -> bool:
    """Whether both are names of one file."""
    try:
        return os.path.samestat(os.lstat(content), os.lstat(target))
    except FileNotFoundError:
        return False
