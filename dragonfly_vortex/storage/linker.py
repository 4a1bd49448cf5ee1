"""Gives the file of a task another name outside of the storage. Everything here blocks."""

from __future__ import annotations

import os
from pathlib import Path

from dragonfly_vortex.errors import OutputError, OutputExists
from dragonfly_vortex.storage.atomic_file import check_target, hidden_path
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.directories import sync_directory
from dragonfly_vortex.wire import PieceKind

__all__ = ["link_task"]


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
