"""Turns errors of the disk and of SQLite into failures of the storage."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.system_calls import reason_of

__all__ = ["is_full", "is_out_of_descriptors", "is_unwritable", "storage_failures"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_UNWRITABLE = _FULL | {errno.EROFS, errno.EACCES}

_FULL_FOR_SQLITE = ("database or disk is full", "disk I/O error")
"""SQLite's texts; the second one when it cannot make its index. Python has had their codes since 3.11."""

_UNWRITABLE_FOR_SQLITE = (*_FULL_FOR_SQLITE, "unable to open database file", "attempt to write a readonly database")


@contextmanager
def storage_failures(doing: str) -> Iterator[None]:
    """
    Turn what goes wrong on this side into a :class:`~dragonfly_vortex.errors.StorageFailure`; the cause says more.

    :param doing: what could not be done, like ``cannot open /some/where``.
    :raises StorageFailure: for an :class:`OSError` or an :class:`sqlite3.Error`.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StorageFailure(f"{doing}: {reason_of(error)}") from error


def is_full(error: BaseException | None) -> bool:
    """
    Return whether an error of the disk or the database may be one of a disk without room.

    :param error: such an error, or the :class:`~dragonfly_vortex.errors.StorageFailure` that it has become.
    """
    return _is_one_of(error, _FULL, _FULL_FOR_SQLITE)


def is_out_of_descriptors(error: BaseException | None) -> bool:
    """
    Return whether this process, or the system, can open no further file.

    :param error: as for :func:`is_full`.
    """
    return _is_one_of(error, frozenset({errno.EMFILE, errno.ENFILE}), ())


def is_unwritable(error: BaseException | None) -> bool:
    """
    Return whether a storage may still be readable after an error: the disk is full or read-only, or another user's.

    :param error: such an error, or the :class:`~dragonfly_vortex.errors.StorageFailure` that it has become.
    """
    return _is_one_of(error, _UNWRITABLE, _UNWRITABLE_FOR_SQLITE)


def _is_one_of(error: BaseException | None, numbers: frozenset[int], texts: tuple[str, ...]) -> bool:
    """Whether it is an error of the system with one of these numbers, or of SQLite's with one of these texts."""
    if isinstance(error, StorageFailure):
        error = error.__cause__
    if isinstance(error, OSError):
        return error.errno in numbers
    return isinstance(error, sqlite3.OperationalError) and any(text in str(error) for text in texts)
