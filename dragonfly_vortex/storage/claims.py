"""
Who is fetching which piece of a task, over all processes on one storage.

Each task that is being downloaded has a file of locks: byte n is locked by whoever fetches piece n. The locks belong to
the open file (``F_OFD_SETLK``), so two downloads in one process are two owners, and the kernel frees them when the file
is closed or the process has ended, by ``kill -9`` too. Where there are no such locks, the whole task is claimed at once
(``flock``): a second download waits for the first. Everything here blocks, though never for long.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

from dragonfly_vortex.storage.directories import make_directory, open_file
from dragonfly_vortex.wire import PieceKind

__all__ = ["Claims", "claims_path", "sweep_claims"]

_SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None

_LOCK = struct.Struct("hhqqi4x")
"""Linux's ``struct flock``: type, whence, start, length, and no process."""

_PRESENCE = 1 << 32
"""The byte behind the last piece's: everybody who has the file open has locked it, together with all others."""

_NO_LOCKS = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What a kernel or a file system answers that does not have the locks of open files."""


def claims_path(directory: Path, kind: PieceKind, task_id: str) -> Path:
    """
    Where the locks of a task are.

    :param directory: the storage's directory.
    :param task_id: an ID that a task can have.
    """
    return directory / "claims" / kind.directory / task_id


def sweep_claims(directory: Path, kind: PieceKind, task_id: str) -> None:
    """Delete the locks of a task that nobody downloads. The caller keeps everybody from opening them meanwhile."""
    path = claims_path(directory, kind, task_id)
    if path.exists():
        claims = Claims(path)
        claims.open()
        claims.close()


class Claims:
    """
    The claims of one download of one task.

    Opening, closing and :meth:`is_alone` are for one process at a time: whoever calls them holds the lock of the
    storage's content.

    :param path: the file of locks.
    :param by_piece: whether to claim pieces one by one where that is possible.
    """

    def __init__(self, path: Path, *, by_piece: bool = True) -> None:
        self._path = path
        self._descriptor = -1
        self._by_piece = by_piece and _SET_LOCK is not None

    def open(self) -> None:
        """
        Open the file of locks; it is made where it is not there.

        :raises OSError: it cannot be opened.
        """
        make_directory(self._path.parent)
        self._descriptor = open_file(self._path)
        if self._by_piece:
            try:
                self._set(fcntl.F_RDLCK, _PRESENCE)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                self._by_piece = False

    def take(self, number: int) -> bool:
        """
        Claim a piece; False if another has claimed it.

        :raises OSError: the locks do not work.
        """
        return self._set(fcntl.F_WRLCK, number) if self._by_piece else self._take_all()

    def give_back(self, number: int) -> None:
        """
        Claim a piece no longer, if it was claimed.

        :raises OSError: the locks do not work.
        """
        if self._by_piece:
            self._set(fcntl.F_UNLCK, number)

    def is_alone(self) -> bool:
        """
        Tell whether nobody else has the task open.

        :raises OSError: the locks do not work.
        """
        if not self._by_piece:
            return self._take_all()
        is_alone = self._set(fcntl.F_WRLCK, _PRESENCE)
        self._set(fcntl.F_RDLCK, _PRESENCE)
        return is_alone

    def close(self) -> None:
        """Give up all claims. The file is deleted by the last who has it open; closed already, nothing is done."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            # Where the whole task is claimed at once, others may wait at this very file.
            if self._by_piece and self._set(fcntl.F_WRLCK, _PRESENCE, descriptor):
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()
        finally:
            os.close(descriptor)

    def _set(self, kind: int, start: int, descriptor: int | None = None) -> bool:
        """Lock or unlock one byte; False if another has it locked."""
        if _SET_LOCK is None:
            return False
        place = self._descriptor if descriptor is None else descriptor
        try:
            fcntl.fcntl(place, _SET_LOCK, _LOCK.pack(kind, os.SEEK_SET, start, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _take_all(self) -> bool:
        """Claim the whole task; False if another has."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
