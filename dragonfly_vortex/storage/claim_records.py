"""
The files of claims: where they are, what their records say, and what they show of the downloads of other processes. The
claims of a download of this process are in :mod:`~dragonfly_vortex.storage.piece_locks`.

Each task that is being downloaded has such a file. It has a record for each piece: which process has claimed it, and a
number that changes while that process runs, its beat. A record has :data:`LEVELS` places. Each time a piece is taken
over, the next place is written. Everything here blocks, though never for long, and waits for no lock.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from dragonfly_vortex.storage.locks import HAS_RANGES, is_byte_locked, is_lock_refused, lock_shared_or_alone
from dragonfly_vortex.wire import PieceKind

__all__ = [
    "LEVELS",
    "OWNER",
    "PRESENCE",
    "RECORD_LENGTH",
    "WHOLE",
    "Place",
    "claims_path",
    "forget_killed_holder",
    "is_claimed",
    "killed_holders",
    "last_place",
    "record_place",
]

LEVELS = 4
"""Places of a record: how often a piece can be taken over from processes that are still there, and one more."""

OWNER = struct.Struct("<II")
"""One place of a record: the process that has claimed the piece there, and a number that changes while it runs."""

RECORD_LENGTH = LEVELS * OWNER.size

Place = tuple[int, bytes]

PRESENCE = 1 << 32
"""The byte behind the last piece's: each owner that has the file open shares its lock."""

WHOLE = PRESENCE + 1
"""
What stands for the whole task where a number stands for a piece. The download that has claimed it may drop pieces, and
no other claims or commits any meanwhile.
"""

_RECORD_OF_WHOLE = 1 << 20
"""Whose place the record of :data:`WHOLE` has. A piece of this number, of a task of 4 TiB or more, may share it."""


def claims_path(directory: Path, kind: PieceKind, task_id: str) -> Path:
    """
    The path of the file with the locks of a task.

    :param directory: the storage's directory.
    :param task_id: an ID that a task can have.
    """
    return directory / "claims" / kind.directory / task_id


def record_place(number: int) -> int:
    """Where the record of a piece begins in the file."""
    return (_RECORD_OF_WHOLE if number == WHOLE else number) * RECORD_LENGTH


def last_place(record: bytes) -> Place:
    """The last place of a record that has been written, and what it says; the first where none has been."""
    level = max((len(record.rstrip(b"\0")) - 1) // OWNER.size, 0)
    return level, record[level * OWNER.size :][: OWNER.size]


def is_claimed(directory: Path, kind: PieceKind, task_id: str) -> bool:
    """
    Return whether any download has a task open. Nothing is written, and no lock is waited for.

    :param directory: the storage's directory.
    :raises OSError: the file of the locks cannot be opened.
    """
    try:
        descriptor = os.open(
            claims_path(directory, kind, task_id), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except FileNotFoundError:
        return False
    try:
        with contextlib.suppress(OSError):  # where that kind of lock is refused
            if HAS_RANGES and is_byte_locked(descriptor, PRESENCE):
                return True
        try:
            # Refused where a download has claimed the whole task at once.
            return not lock_shared_or_alone(descriptor, shared=True)
        except OSError as error:
            if not is_lock_refused(error):
                raise
            return False
    finally:
        os.close(descriptor)


def killed_holders(directory: Path) -> list[tuple[PieceKind, str]]:
    """
    The tasks that were held by a process that was killed: it had found that the whole is wrong, and not yet which
    pieces are. A process that ends in order clears its record of what it holds.

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
            os.pwrite(descriptor, bytes(OWNER.size), record_place(WHOLE))
        finally:
            os.close(descriptor)


def _was_held(path: Path) -> bool:
    """Whether the process that held a task was killed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # its last owner has just deleted it, or it is none of ours
        return False
    try:
        record = os.pread(descriptor, OWNER.size, record_place(WHOLE))
        return any(record) and not is_byte_locked(descriptor, WHOLE)
    except OSError as error:
        if is_lock_refused(error):
            return False
        raise
    finally:
        os.close(descriptor)
