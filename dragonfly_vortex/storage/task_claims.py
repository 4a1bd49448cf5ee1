"""
The claims of a download on the pieces of its task, and what follows where a piece is taken over from a process that
does not run. Everything here blocks, and belongs to the storage's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dragonfly_vortex.errors import StorageFailure
from dragonfly_vortex.model import Claim, piece_id
from dragonfly_vortex.storage.claim_records import WHOLE, claims_path
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.piece_locks import Claims
from dragonfly_vortex.storage.verifier import damage_of, mark_if_damaged
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["TaskClaims"]


class TaskClaims:
    """
    The pieces of a task that one download has claimed.

    :param directory: the storage's directory.
    """

    def __init__(self, directory: Path, kind: PieceKind, task_id: str) -> None:
        self.locks = Claims(claims_path(directory, kind, task_id))
        self.report: Callable[[str], object] = str
        """Called with a line for the log, in the thread that calls the methods."""
        self._directory = directory
        self._kind = kind
        self._task_id = task_id
        self._content = Content(directory)
        self._lost: set[int] = set()  # pieces that were taken over while they were claimed here

    def take(self, number: int) -> Claim | None:
        """
        Claim a piece, or take it over from a process that does not run.

        :returns: None if it is claimed here now; else the claim of another download.
        :raises OSError: the locks do not work.
        :raises StorageFailure: the storage failed.
        """
        if self.locks.is_whole_claimed():
            return Claim(is_ours=False, owner=self.locks.owner(WHOLE))
        if self.locks.is_lost(number):
            self.release(number)
        if not self.locks.claim(number) and not self._take_over(number):
            return Claim(is_ours=False, owner=self.locks.owner(number))
        return None

    def claim_of(self, number: int) -> Claim:
        """
        The claim on a piece that has been taken, as it is at this moment.

        :raises OSError: the file of the claims cannot be read.
        """
        lock = self.locks.lock(number)
        if lock is None:
            return Claim(is_ours=False, owner=self.locks.owner(number))
        return Claim(is_ours=True, is_held=lock.is_held)

    def release(self, number: int) -> None:
        """
        Give up a claim, if there is one. After a lost one the piece is verified: the last write may have been too late.

        :raises OSError: the locks do not work.
        :raises StorageFailure: the storage failed.
        """
        if self.locks.release(number):
            self._lost.add(number)
        if number in self._lost:
            # Where there is no row yet, the other download reads the bytes again before it writes the row.
            reason = mark_if_damaged(self._directory, self._kind, self._task_id, number)
            if reason:
                self.report(f"piece {piece_id(self._task_id, number)}: {reason}; it is fetched anew")

    def release_lost(self) -> None:
        """Verify what other downloads have taken over, for the end of this download."""
        for number in self._lost.union(self.locks.lost()):
            with suppress(OSError, StorageFailure):  # what cannot be read here is found by the next reader
                self.release(number)

    def may_commit(self, piece: PieceMetadata, descriptor: int) -> bool:
        """
        Whether a row can be written for a piece that was fetched here. The bytes of one that was taken over from
        another download are read again: that one may have written since. The caller has the lock of the content.

        :param descriptor: the task's file.
        :raises OSError: the file cannot be read.
        """
        if self.locks.is_lost(piece.number):
            return False
        lock = self.locks.lock(piece.number)
        if lock is None:
            return piece.number not in self._lost
        damage = damage_of(descriptor, piece) if lock.level else ""
        if damage:
            self.report(f"piece {piece_id(self._task_id, piece.number)}: {damage}; it is fetched anew")
        return not damage

    def _take_over(self, number: int) -> bool:
        """Claim a piece whose holder is frozen."""
        if not self.locks.is_frozen(number):
            return False
        owner = self.locks.owner(number)
        with self._content.lock():  # the holder is not just writing the row: it has done so, or will find the claim
            if not self.locks.take_over(number):
                return False
        name, pid = piece_id(self._task_id, number), owner[0] if owner is not None else 0
        self.report(f"piece {name} is fetched here: process {pid}, which fetched it, does not run")
        return True
