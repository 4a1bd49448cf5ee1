"""
Locks on the pieces of a task, so that of all downloads into one storage, in any process, only one fetches a piece.

Each task that is being downloaded has a file of locks: byte n is locked by the download that fetches piece n. The locks
belong to the open file (``F_OFD_SETLK``), so two downloads in one process are two owners, and the kernel frees them
when the file is closed or the process has ended, by ``kill -9`` too. Where there are no such locks, the whole task is
claimed at once (``flock``): a second download waits for the first.

A lock of one kind does not keep out the other kind, and a sandbox may refuse one of them to one process only. Therefore
a download that claims piece by piece also shares the ``flock`` that claims the whole. Everything here blocks, though
never for long.

The file has a record for each piece (:mod:`~dragonfly_vortex.storage.claim_records`), by which another process can tell
which process it waits for, and whether that one is frozen.

A piece whose holder is frozen is taken over. Each place of a record has a lock of its own. The holder of a piece has
the lock of one place and writes to that place alone. A download that takes the piece over takes the next lock and
writes to the next place. No place but the first is ever cleared: so a holder that finds a later place written knows for
certain that it has lost the piece. It looks before and after each write (:meth:`PieceLock.is_held`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dragonfly_vortex.storage.atomic_file import is_named
from dragonfly_vortex.storage.claim_records import (
    LEVELS,
    OWNER,
    PRESENCE,
    RECORD_LENGTH,
    WHOLE,
    Place,
    claims_path,
    last_place,
    record_place,
)
from dragonfly_vortex.storage.directories import make_directory, open_file
from dragonfly_vortex.storage.locks import HAS_RANGES, is_byte_locked, is_lock_refused, lock_byte, lock_shared_or_alone
from dragonfly_vortex.wire import PieceKind

__all__ = ["TAKE_OVER_AFTER", "Claims", "PieceLock", "sweep_claims"]

TAKE_OVER_AFTER = 15.0
"""Seconds without a beat after which a piece may be taken over. A process that runs beats twice a second."""

_LONGEST_LOOK = 4.0
"""Seconds between two looks at a holder that count at the most: more have passed because the looking process slept."""

_LEVEL_SPAN = 1 << 33
"""Bytes between the locks of one piece: more than there are pieces."""


def sweep_claims(directory: Path, kind: PieceKind, task_id: str) -> None:
    """Delete the locks of a task that is not being downloaded. The caller keeps others from opening them meanwhile."""
    path = claims_path(directory, kind, task_id)
    if path.exists():
        claims = Claims(path)
        claims.open()
        claims.close()


class PieceLock:
    """
    A claim on a piece, from the moment when it was taken. :meth:`is_held` can be asked in any thread.

    :param level: which place of the piece's record is this lock's.
    """

    def __init__(self, claims: Claims, number: int, level: int) -> None:
        self.number = number
        self.level = level
        self.place = record_place(number)
        """Where the record of the piece begins in the file."""
        self._claims = claims
        self._is_lost = False

    def is_held(self) -> bool:
        """
        Whether the owner of this lock may still write the piece. Once it may not, it never may again. It costs one
        small read from memory.

        :raises OSError: the file cannot be read.
        """
        if not self._is_lost and not self._claims.is_latest(self):
            self._is_lost = True
        return not self._is_lost

    def lose(self) -> None:
        """Record that the lock was released."""
        self._is_lost = True


class Claims:
    """
    The claims of one download of one task.

    Opening, closing, :meth:`is_alone` and :meth:`take_over` are for one process at a time: the caller holds the lock of
    the storage's content. :meth:`renew` can be called in another thread than the rest.

    :param path: the file of locks.
    :param by_piece: whether to claim pieces one by one where that is possible.
    :param clock: the time in seconds; it never goes back.
    """

    def __init__(self, path: Path, *, by_piece: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._descriptor = -1
        self._by_piece = by_piece and HAS_RANGES
        self._clock = clock
        self._is_shared = False
        self._taken: dict[int, PieceLock] = {}
        self._looks: dict[int, tuple[Place, float, float]] = {}  # what was seen, when, and for how long the same
        self._beat = 0
        self._in_use = threading.Lock()  # held while another thread may use the descriptor, and while it is replaced

    def open(self) -> None:
        """
        Open the file of locks; it is made where it is not there. Where pieces cannot be claimed one by one, the whole
        task is claimed from now on, if no other has claimed it: nothing else shows others that it is in use.

        :raises OSError: it cannot be opened.
        """
        self._open_file()
        if self._by_piece:
            try:
                self._set(fcntl.F_RDLCK, PRESENCE)
            except OSError as error:
                if not is_lock_refused(error):
                    raise
                self._by_piece = False
            else:
                self._share()
        if not self._by_piece:
            self._take_all()

    def _open_file(self) -> None:
        make_directory(self._path.parent)
        self._descriptor = open_file(self._path)

    def _close_file(self) -> None:
        with self._in_use:
            os.close(self._descriptor)
            self._descriptor = -1

    def claim(self, number: int) -> bool:
        """
        Claim a piece; False if another has claimed it. A claim that has been taken over is released first.

        :raises OSError: the locks do not work.
        """
        if not self._by_piece:
            return self._take_all() and self._begin(PieceLock(self, 0, 0))
        if not self._share():
            return False
        if self.lock(number) is not None:
            return True
        self.release(number)
        return self._take_level(number, last_place(self._record(number))[0])

    def is_whole_claimed(self) -> bool:
        """
        Whether another download has claimed :data:`WHOLE`, and is not frozen.

        :raises OSError: the locks do not work.
        """
        return self._by_piece and is_byte_locked(self._descriptor, WHOLE) and not self.is_frozen(WHOLE)

    def is_frozen(self, number: int) -> bool:
        """
        Whether the holder of a piece has shown no beat for :data:`TAKE_OVER_AFTER`, as far as this process has looked.
        To be asked again and again.

        :raises OSError: the file cannot be read.
        """
        if not self._by_piece:
            return False
        place = last_place(self._record(number))
        if not any(place[1]):
            return False  # nothing says that the holder looks before it writes
        now = self._clock()
        before, looked_at, quiet = self._looks.get(number, (place, now, 0.0))
        quiet = quiet + min(now - looked_at, _LONGEST_LOOK) if place == before else 0.0
        self._looks[number] = place, now, quiet
        return quiet >= TAKE_OVER_AFTER

    def take_over(self, number: int) -> bool:
        """
        Claim a piece whose holder :meth:`is_frozen`; False if it runs again, or another download was first.

        :raises OSError: the locks do not work.
        """
        place = last_place(self._record(number))
        level = place[0] + 1
        if level >= LEVELS or number not in self._looks or place != self._looks[number][0] or not self._share():
            return False
        return self._take_level(number, level)

    def _take_level(self, number: int, level: int) -> bool:
        """Claim a piece at a level, unless another has, or has claimed it at a later one."""
        if not self._set(fcntl.F_WRLCK, number + level * _LEVEL_SPAN):
            return False
        self._begin(PieceLock(self, number, level))
        if self.lock(number) is not None:
            return True
        self.release(number)
        return False

    def _begin(self, lock: PieceLock) -> bool:
        """Write down a claim."""
        self._looks.pop(lock.number, None)
        self._show([self._taken.setdefault(lock.number, lock)])
        return True

    def renew(self) -> None:
        """
        Show that this process runs, for all pieces that it has claimed.

        :raises OSError: the file cannot be written.
        """
        self._show(list(self._taken.values()))

    def _show(self, locks: Sequence[PieceLock]) -> None:
        """Show that this process runs, in the places of some locks."""
        self._beat = (self._beat + 1) % (1 << 32)
        owner = OWNER.pack(os.getpid() % (1 << 32), self._beat)
        for lock in locks:
            with self._in_use:
                if self._descriptor >= 0:
                    os.pwrite(self._descriptor, owner, lock.place + lock.level * OWNER.size)

    def is_latest(self, lock: PieceLock) -> bool:
        """
        Whether a lock has not been taken over.

        :raises OSError: the file cannot be read.
        """
        if not self._by_piece:
            return True
        later = (lock.level + 1) * OWNER.size
        with self._in_use:
            if self._descriptor < 0:
                return False
            return not any(os.pread(self._descriptor, RECORD_LENGTH - later, lock.place + later))

    def owner(self, number: int) -> tuple[int, int] | None:
        """
        The process that has claimed a piece, and a number that changes at least every second while it runs; None if the
        file does not say.

        :raises OSError: the file cannot be read.
        """
        _, said = last_place(self._record(number if self._by_piece else 0))
        return OWNER.unpack(said) if any(said) else None

    def lock(self, number: int) -> PieceLock | None:
        """
        The claim to a piece, where there is one that has not been taken over.

        :raises OSError: the file cannot be read.
        """
        lock = self._taken.get(number if self._by_piece else 0)
        return lock if lock is not None and lock.is_held() else None

    def is_lost(self, number: int) -> bool:
        """
        Whether a piece was claimed, has been taken over and has not been released.

        :raises OSError: the file cannot be read.
        """
        lock = self._taken.get(number)
        return lock is not None and not lock.is_held()

    def lost(self) -> list[int]:
        """
        The pieces that were claimed, have been taken over and have not been released.

        :raises OSError: the file cannot be read.
        """
        return [number for number, lock in self._taken.items() if not lock.is_held()]

    def release(self, number: int) -> bool:
        """
        Give up the claim to a piece, if there is one.

        :returns: whether it had been taken over.
        :raises OSError: the locks do not work.
        """
        if not self._by_piece or number not in self._taken:
            return False
        lock = self._taken.pop(number)
        is_overtaken = not lock.is_held()
        lock.lose()
        if not lock.level:
            # The next holder may be of version 0.1.0, which writes nothing and does not look: it must not seem frozen.
            os.pwrite(self._descriptor, bytes(OWNER.size), record_place(number))
        self._set(fcntl.F_UNLCK, number + lock.level * _LEVEL_SPAN)
        return is_overtaken

    def _record(self, number: int) -> bytes:
        """What the file says of a piece, with zeros for what was never written."""
        return os.pread(self._descriptor, RECORD_LENGTH, record_place(number)).ljust(RECORD_LENGTH, b"\0")

    def is_only(self) -> bool:
        """
        Whether no other owner has the task open; False where that cannot be known, as an owner that waits for the whole
        task leaves no trace.

        :raises OSError: the locks do not work.
        """
        return self._by_piece and self.is_alone()

    def is_alone(self) -> bool:
        """
        Whether no other owner has the task open, or has claimed the whole.

        :raises OSError: the locks do not work.
        """
        if not self._by_piece:
            return self._take_all()
        is_alone = self._set(fcntl.F_WRLCK, PRESENCE) and self._shut_out()
        self._set(fcntl.F_RDLCK, PRESENCE)
        self._share()
        return is_alone

    def close(self) -> None:
        """Give up all claims. The last owner deletes the file; closed already, nothing is done."""
        if self._descriptor < 0:
            return
        try:
            self.release(WHOLE)  # whose record names a process that was killed
            # Where the whole task is claimed at once, others may wait at this very file.
            if self._by_piece and self._set(fcntl.F_WRLCK, PRESENCE) and self._shut_out():
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()
        finally:
            self._close_file()

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
            # The last owner that claimed piece by piece has deleted the file, and another one may have made it anew.
            self._close_file()
            self._open_file()
        return False
