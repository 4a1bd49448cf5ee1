"""A task leaves the storage. Everything here blocks."""

from __future__ import annotations

from pathlib import Path

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.claims import sweep_claims
from dragonfly_vortex.storage.content import Content, is_task_id
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.wire import PieceKind

__all__ = ["remove_task"]


def remove_task(directory: Path, kind: PieceKind, task_id: str) -> None:
    """
    Remove a task: first its rows, then its file. What is being sent of it is sent to its end.

    A file without rows, which a process that was killed can leave behind, is removed too.

    :param directory: the storage's directory.
    :raises NotStored: there is no such task.
    :raises StorageFailure: the storage failed.
    """
    if not is_task_id(task_id):
        raise NotStored(f"task {task_id!r} not found")
    content = Content(directory)
    with Catalog(directory) as catalog, storage_failures(f"cannot remove task {task_id}"), content.lock():
        content.sweep()
        had_rows = catalog.remove_task(kind, task_id)
        had_file = content.remove(kind, task_id)
        sweep_claims(directory, kind, task_id)
    if not (had_rows or had_file):
        raise NotStored(f"task {task_id} not found")
