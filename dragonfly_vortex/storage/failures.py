"""The disk's and the database's own errors, told as failures of the storage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from dragonfly_vortex.errors import StorageFailure

__all__ = ["storage_failures"]


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
        raise StorageFailure(f"{doing}: {error}") from error
