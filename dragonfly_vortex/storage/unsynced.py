"""
Handles pieces that a process offered before their bytes were on the disk, and left when it was killed or the power was
cut. All functions block.

While the kernel runs the bytes are in its memory, and are only to be brought to the disk. After a restart they may not
be there: such pieces count as damaged, and are read, to see which of them are.
"""

from __future__ import annotations

import os
from pathlib import Path

from dragonfly_vortex.model import StoredPiece
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.verifier import damage_of
from dragonfly_vortex.wire import PieceKind

__all__ = ["has_unsynced", "note_unsynced", "settle_unsynced"]


def note_unsynced(directory: Path) -> None:
    """
    Note that pieces of a storage will be offered before they are on the disk.

    :param directory: the storage's directory.
    :raises OSError: that cannot be noted.
    """
    _note(directory).touch()


def has_unsynced(directory: Path) -> bool:
    """
    Whether there may be such pieces. A look at all rows would take long.

    :param directory: the storage's directory.
    """
    return _note(directory).exists()


def settle_unsynced(directory: Path) -> None:
    """
    Bring what is offered of a storage to the disk, and offer again what came there before the kernel ended.

    :param directory: the storage's directory.
    :raises StorageFailure: the storage failed.
    """
    with Catalog(directory, Access.SERVE) as catalog, storage_failures(f"cannot settle {directory}"):
        if catalog.read_only:
            return
        _note(directory).unlink(missing_ok=True)
        try:
            for kind, task_id in catalog.unsynced_tasks():
                _settle(catalog, Content(directory), kind, task_id)
        except BaseException:
            note_unsynced(directory)
            raise


def _note(directory: Path) -> Path:
    """The file whose being there is the note."""
    return directory / "unsynced"


def _settle(catalog: Catalog, content: Content, kind: PieceKind, task_id: str) -> None:
    """Settle one task."""
    pieces = catalog.unsynced_pieces(kind, task_id)
    with storage_failures(f"cannot read task {task_id}"):
        try:
            descriptor = content.open(kind, task_id)
        except FileNotFoundError:  # it was removed meanwhile, or is lost: a reader finds that
            return
        try:
            sound = [piece.metadata for piece in pieces if not piece.damage or _is_sound(descriptor, piece)]
            os.fdatasync(descriptor)
            with content.lock():
                if content.is_current(descriptor, kind, task_id):
                    catalog.mark_synced(kind, task_id, {each.number: each.digest for each in sound})
        finally:
            os.close(descriptor)


def _is_sound(descriptor: int, piece: StoredPiece) -> bool:
    """Whether the bytes in a piece's place have its digest."""
    try:
        return not damage_of(descriptor, piece.metadata)
    except OSError:
        return False
