"""Exports a task to a file, and verifies every piece on the way. Everything here blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dragonfly_vortex.errors import NotStored, OutputError, OutputExists, PieceDamaged, TaskDigestMismatch
from dragonfly_vortex.files import write_all
from dragonfly_vortex.geometry import Progress, piece_count
from dragonfly_vortex.model import StoredPiece, StoredTask, piece_id
from dragonfly_vortex.storage.atomic_file import StagedFile, check_target
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.verifier import Damage, WholeHash, checked_blocks, mark_if_damaged
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["export_task"]


def export_task(
    directory: Path,
    kind: PieceKind,
    task_id: str,
    target: Path | int,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> StoredTask:
    """
    Copy a task's content to a file, which is complete or not there. A piece that turns out to be damaged is marked so,
    where the storage can be written.

    :param directory: the storage's directory.
    :param target: where the file will be; or the descriptor of a pipe, to which each piece is written once it has been
        verified. What was written before an error stays written.
    :param overwrite: whether a file that stands there is replaced.
    :param progress: called after each step of at most 1 MiB, and with nothing done before the first.
    :raises NotStored: there is no such task, or not all of its pieces.
    :raises PieceDamaged: a piece is not as its row says.
    :raises TaskDigestMismatch: the content does not have the digest that the storage knows of the whole.
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
        if isinstance(target, int):
            output = target
        else:
            with _output_errors(target):
                check_target(target, overwrite=overwrite)
                staged = stack.enter_context(StagedFile.create(target.parent, target.name))
                output = staged.descriptor
        try:
            with storage_failures(f"cannot export task {task_id}"):
                source = _open(Content(directory), task)
                stack.callback(os.close, source)
                _copy(task, content_length, pieces, source, output, target, progress)
        except Damage as damage:
            mark_if_damaged(directory, kind, task_id, damage.number)
            raise PieceDamaged(f"piece {piece_id(task_id, damage.number)}: {damage.reason}") from damage
        if staged is not None and isinstance(target, Path):
            with _output_errors(target):
                staged.publish(target, overwrite=overwrite)
    return task


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


def _copy(
    task: StoredTask,
    content_length: int,
    pieces: list[PieceMetadata],
    source: int,
    output: int,
    target: Path | int,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Copy all pieces in order, and verify each of them and the whole. A pipe gets what is verified already."""
    whole = WholeHash(task.digest)
    done = 0
    for ended, piece in enumerate(pieces):
        if progress is not None:
            progress(Progress(done, content_length, ended, len(pieces)))
        if isinstance(target, int):
            for _ in checked_blocks(source, piece):
                pass
        for block in checked_blocks(source, piece):
            whole.update(block)
            with _output_errors(target):
                write_all(output, block)
            done += len(block)
            if progress is not None:
                progress(Progress(done, content_length, ended, len(pieces)))
    mismatch = whole.mismatch()
    if mismatch:
        raise TaskDigestMismatch(task.task_id, mismatch)
    if progress is not None:
        progress(Progress(done, content_length, len(pieces), len(pieces)))


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
