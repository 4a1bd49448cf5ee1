"""
Tasks that were held by a process that was killed: it had found that the whole is wrong, and not yet which pieces are.

A process that ends in order clears its record of what it holds. One that is killed leaves the record, and the kernel
frees its lock. Everything here blocks, though never for long, and waits for no lock.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dragonfly_vortex.storage.locks import HAS_RANGES, is_byte_locked, is_lock_refused
from dragonfly_vortex.storage.piece_locks import WHOLE, claims_path, whole_record
from dragonfly_vortex.wire import PieceKind

__all__ = ["forget_killed_holder", "killed_holders"]


def killed_holders(directory: Path) -> list[tuple[PieceKind, str]]:
    """
    The tasks that were held by a process that was killed.

    :param directory: the storage's directory.
    :returns: the kind and the ID of each.
    :raises OSError: the files cannot be read.
    """
    kinds = [(kind, claims_path(directory, kind, "")) for kind in PieceKind] if HAS_RANGES else []
    return [(kind, path.name) for kind, place in kinds if place.is_dir() for path in place.iterdir() if _was_held(path)]


def forget_killed_holder(directory: Path, kind: PieceKind, task_id: str) -> None:
    """
    Delete the record of a task that :func:`killed_holders` has returned.

    :raises OSError: the file cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(claims_path(directory, kind, task_id), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            offset, length = whole_record()
            os.pwrite(descriptor, bytes(length), offset)
        finally:
            os.close(descriptor)


def _was_held(path: Path) -> bool:
    """Whether the process that held a task was killed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # its last owner has just deleted it, or it is none of ours
        return False
    try:
        offset, length = whole_record()
        record = os.pread(descriptor, length, offset)
        return any(record) and not is_byte_locked(descriptor, WHOLE)
    except OSError as error:
        if is_lock_refused(error):
            return False
        raise
    finally:
        os.close(descriptor)
