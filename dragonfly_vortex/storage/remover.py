"""Removes a task from the storage. Everything here blocks."""

from __future__ import annotations

import time
from pathlib import Path

from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content, is_task_id
from dragonfly_vortex.storage.disk import drop_ballast, keep_ballast
from dragonfly_vortex.storage.failures import is_full, storage_failures
from dragonfly_vortex.storage.piece_locks import sweep_claims
from dragonfly_vortex.wire import PieceKind

__all__ = ["remove_task"]


_PATIENCE = 5.0
"""Seconds in which peers that have a removed file open close it, and its room is free; they look each second."""

_PAUSE = 0.1
"""Seconds between two attempts."""


def remove_task(directory: Path, kind: PieceKind, task_id: str) -> None:
    """
    Remove a task: first its rows, then its file. What is being sent of it is sent to its end.

    A file without rows, which a process that was killed can leave behind, is removed too. On a disk that is full the
    storage's ballast makes the room that this needs. Where that is not enough the file is removed first; until the rows
    are gone, too, the task's pieces count as damaged then.

    :param directory: the storage's directory.
    :raises NotStored: there is no such task.
    :raises StorageFailure: the storage failed.
    """
    if not is_task_id(task_id):
        raise NotStored(f"task {task_id!r} not found")
    try:
        is_removed = _remove(directory, kind, task_id)
    except StorageFailure as error:
        if not is_full(error):
            raise
        is_removed = _remove_from_full_disk(directory, kind, task_id)
    keep_ballast(directory)
    if not is_removed:
        raise NotStored(f"task {task_id} not found")


def _remove(directory: Path, kind: PieceKind, task_id: str) -> bool:
    """Rows first, so that none leads to a file that is not there; False if there was nothing."""
    content = Content(directory)
    with Catalog(directory) as catalog, storage_failures(f"cannot remove task {task_id}"), content.lock():
        content.sweep()
        had_rows = catalog.remove_task(kind, task_id)
        had_file = content.remove(kind, task_id)
        sweep_claims(directory, kind, task_id)
    return had_rows or had_file


def _remove_from_full_disk(directory: Path, kind: PieceKind, task_id: str) -> bool:
    """Make room for the change of the rows."""
    drop_ballast(directory)
    try:
        return _remove(directory, kind, task_id)
    except StorageFailure as error:
        if not is_full(error):
            raise
    content = Content(directory)
    with storage_failures(f"cannot remove task {task_id}"), content.lock():
        had_file = content.remove(kind, task_id)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return _remove(directory, kind, task_id) or had_file
        except StorageFailure as error:
            if not is_full(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)
