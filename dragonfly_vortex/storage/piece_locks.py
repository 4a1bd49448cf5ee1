"""
Who is fetching which piece of a task, over all processes on one storage.

Each task that is being downloaded has a file of locks: byte n is locked by the download that fetches piece n. The locks
belong to the open file (``F_OFD_SETLK``), so two downloads in one process are two owners, and the kernel frees them
when the file is closed or the process has ended, by ``kill -9`` too. Where there are no such locks, the whole task is
claimed at once (``flock``): a second download waits for the first.

A lock of one kind does not keep out the other kind, and a sandbox may refuse one of them to one process only. Therefore
a download that claims piece by piece also shares the ``flock`` that claims the whole. Everything here blocks, though
never for long.

The file says for each piece which process has claimed it, and has a number there that changes while that process runs:
so another process can tell for whom it waits, and whether that one is frozen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from dragonfly_vortex.storage.atomic_file import is_named
from dragonfly_vortex.storage.directories import make_directory, open_file
from dragonfly_vortex.storage.locks import HAS_RANGES, is_lock_refused, lock_byte, lock_shared_or_alone
from dragonfly_vortex.wire import PieceKind

__all__ = ["Claims", "claims_path", "sweep_claims"]

_OWNER = struct.Struct("<II")
"""What the file says for each piece: the process that has claimed it, and a number that grows while it runs."""

_PRESENCE = 1 << 32
"""The byte behind the last piece's: everybody who has the file open has locked it, together with all others."""


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
        self._by_piece = by_piece and HAS_RANGES
        self._is_shared = False
        self._taken: set[int] = set()
        self._beat = 0

    def open(self) -> None:
        """
        Open the file of locks; it is made where it is not there.

        :raises OSError: it cannot be opened.
        """
        self._open_file()
        if self._by_piece:
            try:
                self._set(fcntl.F_RDLCK, _PRESENCE)
            except OSError as error:
                if not is_lock_refused(error):
                    raise
                self._by_piece = False
            else:
                self._share()

    def _open_file(self) -> None:
        make_directory(self._path.parent)
        self._descriptor = open_file(self._path)

    def take(self, number: int) -> bool:
        """
        Claim a piece; False if another has claimed it.

        :raises OSError: the locks do not work.
        """
        is_taken = self._share() and self._set(fcntl.F_WRLCK, number) if self._by_piece else self._take_all()
        if is_taken:
            self._taken.add(number if self._by_piece else 0)
            self.renew()
        return is_taken

    def renew(self) -> None:
        """
        Show that this process runs, for all pieces that it has claimed.

        :raises OSError: the file cannot be written.
        """
        self._beat = (self._beat + 1) % (1 << 32)
        for number in self._taken:
            os.pwrite(self._descriptor, _OWNER.pack(os.getpid() % (1 << 32), self._beat), number * _OWNER.size)

    def owner(self, number: int) -> tuple[int, int] | None:
        """
        Which process has claimed a piece, and a number that changes at least every second while it runs; None where
        the file does not say.

        :raises OSError: the file cannot be read.
        """
        place = number * _OWNER.size if self._by_piece else 0
        said = os.pread(self._descriptor, _OWNER.size, place)
        return _OWNER.unpack(said) if len(said) == _OWNER.size and any(said) else None

    def give_back(self, number: int) -> None:
        """
        Claim a piece no longer, if it was claimed.

        :raises OSError: the locks do not work.
        """
        if self._by_piece:
            self._taken.discard(number)
            self._set(fcntl.F_UNLCK, number)

    def is_alone(self) -> bool:
        """
        Tell whether nobody else has the task open.

        :raises OSError: the locks do not work.
        """
        if not self._by_piece:
            return self._take_all()
        is_alone = self._set(fcntl.F_WRLCK, _PRESENCE) and self._shut_out()
        self._set(fcntl.F_RDLCK, _PRESENCE)
        self._share()
        return is_alone

    def close(self) -> None:
        """Give up all claims. The file is deleted by the last who has it open; closed already, nothing is done."""
        if self._descriptor < 0:
            return
        try:
            # Where the whole task is claimed at once, others may wait at this very file.
            if self._by_piece and self._set(fcntl.F_WRLCK, _PRESENCE) and self._shut_out():
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _set(self, kind: int, start: int) -> bool:
        """Lock or unlock one byte; False if another has it locked."""
        return lock_byte(self._descriptor, kind, start)

    def _share(self) -> bool:
        """Keep others from claiming the whole task; False if another has."""
        if not self._is_shared:
            self._is_shared = self._flock(shared=True)
        return self._is_shared

    def _shut_out(self) -> bool:
        """Claim the whole task beside its pieces; False if another has claimed it, or shares it."""
        self._is_shared = False
        return self._flock(shared=False)

    def _flock(self, *, shared: bool) -> bool:
        """Beside the locks of bytes: where ``flock`` is refused, those have to be enough."""
        try:
            return lock_shared_or_alone(self._descriptor, shared=shared)
        except OSError as error:
            if not is_lock_refused(error):
                raise
            return True

    def _take_all(self) -> bool:
        """Claim the whole task; False if another has."""
        while lock_shared_or_alone(self._descriptor, shared=False):
            if is_named(self._descriptor, self._path):
                return True
            # The last one who claimed piece by piece has deleted the file, and another one may have made it anew.
            os.close(self._descriptor)
            self._open_file()
        return False
