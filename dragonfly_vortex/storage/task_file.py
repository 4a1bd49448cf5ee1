"""
A task's file in the storage during a download: opens it, claims its pieces, and commits them to the catalog. Everything
here blocks, and belongs to the storage's thread.

The file is at its place from the beginning, sparse, so that a daemon serves each piece as soon as it has a row. One
rule keeps what is being sent as it is: a range is written only while no row offers it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from dragonfly_vortex.digest import digest_of_id
from dragonfly_vortex.errors import NotStored, StorageError, TaskChanged
from dragonfly_vortex.geometry import MAX_PIECE_COUNT, check_lengths, piece_count
from dragonfly_vortex.model import Claim, Found, Origin, StoredPiece, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.claim_records import WHOLE
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.disk import reserve, trim
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.tables import SOUND
from dragonfly_vortex.storage.task_claims import TaskClaims
from dragonfly_vortex.storage.unsynced import note_unsynced
from dragonfly_vortex.storage.verifier import damage_of
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["TaskFile"]


class TaskFile:
    """
    A task that is open for one download.

    Every method raises :class:`~dragonfly_vortex.errors.StorageFailure` where the storage failed. Those that claim or
    change pieces raise :class:`~dragonfly_vortex.errors.StorageError` where the task has been imported anew or removed
    since it was opened.

    :param directory: the storage's directory.
    :param catalog: its rows.
    :param digest: the digest that the whole must have; empty where none is known. None for the SHA-256 that the ID is.
    :param origin: what the task was made from; None where that is not known.
    :param ttl: seconds for which it is to be kept; None where that is not said.
    :param is_pinned: whether it is to be kept for that time however full the disk is.
    :param sync: whether a new file's name is to be on the disk before the task has rows; for pieces that are committed
        as unsynced it need not be.
    :param reserve: reserves room for the file, given its descriptor and the length of the content.
    """

    def __init__(
        self,
        directory: Path,
        catalog: Catalog,
        kind: PieceKind,
        task_id: str,
        digest: str | None = None,
        origin: Origin | None = None,
        *,
        ttl: int | None = None,
        is_pinned: bool = False,
        sync: bool = True,
        reserve: Callable[[int, int], None] = reserve,
    ) -> None:
        self._sync = sync
        self.kind = kind
        self.task_id = task_id
        self._digest = digest_of_id(task_id) if digest is None else digest
        self.source_version = ""
        """What is kept of the version of the source, where that is not known yet."""
        self._origin = origin
        self._ttl = ttl
        self._is_pinned = is_pinned
        self._reserve = reserve
        self.descriptor = -1
        self.directory = directory
        self._doing = f"cannot write task {task_id}"
        self._catalog = catalog
        self._content = Content(directory)
        self.claims = TaskClaims(directory, kind, task_id)
        """Whose ``report`` is called with a line for the log, in the thread that calls the methods."""
        self._locks = self.claims.locks
        self._digests: dict[int, str] = {}
        self._content_length: int | None = None  # as this download has found or written it
        self._may_have_room = False  # behind its end, made here for pieces that were to come

    def open(self) -> Found:
        """
        Open the file, or make one.

        :returns: what its rows tell of it, as far as that can be true.
        :raises StorageError: that is no ID that a task can have, or the task is there with another digest or kind.
        """
        self._content.path(self.kind, self.task_id)  # refuses an ID that would be no file's name
        with storage_failures(self._doing), self._content.lock():
            if not self._sync:
                note_unsynced(self.directory)
            self._catalog.check_kind(self.kind, self.task_id)
            self._catalog.check_digest(self.kind, self.task_id, self._digest)
            self._locks.open()
            try:
                found = self._open_content()
            except BaseException:
                self._locks.close()
                raise
        self._digests = {piece.number: piece.digest for piece in found.pieces}
        self._content_length = None if found.task is None else found.task.content_length
        return found

    def reserve(self, content_length: int) -> None:
        """Reserve room for the whole content. This can be called in another thread than the storage's."""
        self._may_have_room = True
        with storage_failures(self._doing):
            self._reserve(self.descriptor, content_length)

    def claim(self, number: int) -> Claim:
        """Claim a piece, unless it is there or another has claimed it."""
        with storage_failures(self._doing):
            others = self.claims.take(number)
            if others is not None:
                return others
            self._check_current()
            # With the lock held: the previous owner has written the row by now.
            rows = self._catalog.find_pieces(self.kind, self.task_id, range(number, number + 1))
            if not rows or rows[0].damage not in SOUND:
                self._may_have_room = True  # behind what is written, for pieces that are to come
                return self.claims.claim_of(number)
            self.claims.release(number)
        self._digests[number] = rows[0].metadata.digest
        return Claim(is_ours=False, piece=rows[0].metadata)

    def release(self, number: int) -> None:
        """Give up a claim, if there is one. After a lost one the piece is read, and marked if it is damaged."""
        with storage_failures(self._doing):
            self.claims.release(number)

    def renew(self) -> None:
        """
        Show that this process runs, for what it has claimed. This can be called in the reactor's thread: it writes a
        few bytes, as a sink does, and does not wait for what the storage's thread is doing.
        """
        with storage_failures(self._doing):
            self._locks.renew()

    def commit(
        self,
        pieces: Sequence[PieceMetadata],
        piece_length: int,
        content_length: int | None = None,
        *,
        is_synced: bool = True,
    ) -> set[int]:
        """
        Write rows of pieces, and give up their claims.

        :param piece_length: bytes of every piece of the task but the last.
        :param content_length: bytes of the whole task; None while that is not known, or not known any more. It is
            written when it is another than this download has found or written.
        :param is_synced: whether the bytes of the pieces are on the disk; otherwise :meth:`mark_synced` says so later.
        :returns: the numbers of those for which that was not possible, as another download has taken them over, has
            written in their places, or holds the task.
        :raises StorageError: the task is not what it was when it was opened, or they do not fit into it.
        """
        check_lengths(content_length, piece_length)
        with storage_failures(self._doing), self._content.lock():
            self._check_current()
            is_held = self._locks.is_whole_claimed()
            kept = [piece for piece in pieces if not is_held and self.claims.may_commit(piece, self.descriptor)]
            if kept:
                self._commit_rows(kept, piece_length, content_length, is_synced=is_synced)
            for piece in kept:
                self._digests[piece.number] = piece.digest
                self._locks.release(piece.number)
        lost = {piece.number for piece in pieces} - {piece.number for piece in kept}
        for number in lost:
            self.release(number)
        return lost

    def hold(self) -> bool:
        """
        Keep all other downloads from changing the task until it is closed; False while another one does so.

        :raises TaskChanged: the pieces are not those that this download knows.
        """
        with storage_failures(self._doing), self._content.lock():
            self._check_current()
            if not self._locks.claim(WHOLE) and not self._locks.is_frozen(WHOLE):
                return False
            self._catalog.check_pieces(self.kind, self.task_id, self._digests, self._digests)
        return True

    def drop(self, numbers: Sequence[int]) -> None:
        """
        Delete the rows of pieces that are known here. Where the task is whole by now, its content is hashed before.

        :raises TaskChanged: another download holds the task; or it is complete and right, as another one may have made
            it, however wrong it was when this download hashed it.
        :raises StorageError: the task is not what it was when it was opened, or its file is another name of a file of
            the user's, in which nothing can be written in their place.
        """
        digests = {number: self._digests[number] for number in numbers if number in self._digests}
        wrong: dict[int, str] | None = None
        with storage_failures(self._doing):
            while not self._drop(digests, wrong):
                wrong = self._catalog.digests_of_whole(self.kind, self.task_id)
                if wrong is not None and self._is_right():
                    raise TaskChanged(
                        f"task {self.task_id}: it is complete by now and has its digest,"
                        " another process has downloaded it meanwhile"
                    )

    def _drop(self, digests: Mapping[int, str], wrong: Mapping[int, str] | None) -> bool:
        """
        Delete the rows of pieces.

        :param wrong: the digests of all pieces, with which the whole is known to be wrong.
        :returns: False if the task is whole, and not known to be wrong: nothing has been done then.
        """
        with self._content.lock():
            self._check_current()
            if self._locks.is_whole_claimed():
                raise TaskChanged(f"task {self.task_id}: another download of it tries its parents one by one")
            if os.fstat(self.descriptor).st_nlink > 1:
                raise StorageError(
                    f"task {self.task_id}: its file was linked into the storage and has changed since; remove the task"
                )
            rows = self._catalog.digests_of_whole(self.kind, self.task_id)
            if rows is not None and rows != wrong:
                return False
            self._catalog.drop_pieces(self.kind, self.task_id, digests)
            self._digests = {number: digest for number, digest in self._digests.items() if number not in digests}
            self._content_length = None
        return True

    def publish(self, content_length: int, *, is_synced: bool = True) -> None:
        """
        Write down the length of a task that is complete and right, and cut off what lies behind it, and the room that
        was made there.

        :param is_synced: whether all of it is on the disk, and what is written here is to be.
        :raises TaskChanged: another process has dropped or replaced a piece since this one has verified it.
        """
        with storage_failures(self._doing), self._content.lock():
            self._check_current()
            task = self._task()
            if task is None:
                raise TaskChanged(f"task {self.task_id}: another process has dropped all of its pieces")
            numbers = range(piece_count(content_length, task.piece_length))
            self._catalog.check_pieces(self.kind, self.task_id, numbers, self._digests)
            # A task that is finished is not written to: not even by a change that changes nothing.
            if any(piece.damage for piece in self._pieces()):
                os.fdatasync(self.descriptor)  # a piece in doubt may not be on the disk; this is rare
                self._catalog.settle_task(self.kind, self.task_id)
            done = replace(
                task,
                content_length=content_length,
                digest=task.digest or self._digest,
                origin=task.origin or self._origin,
                ttl=task.ttl if self._ttl is None else self._ttl,
                is_pinned=task.is_pinned or self._is_pinned,
            )
            if done != task:
                self._catalog.commit_pieces(done, (), is_synced=is_synced)
            trim(self.descriptor, content_length)
            self._may_have_room = False

    def mark_synced(self, descriptor: int, digests: Mapping[int, str], *, is_durable: bool = True) -> None:
        """
        Write down that the bytes of committed pieces are on the disk. This can be called when it is closed, too.

        :param descriptor: the file that they are in: where it is not the task's any more, nothing is done.
        :param digests: the digest of each, by number.
        :param is_durable: whether to wait until that is on the disk, too.
        """
        with storage_failures(self._doing), self._content.lock():
            if self._content.is_current(descriptor, self.kind, self.task_id):
                self._catalog.mark_synced(self.kind, self.task_id, digests, is_durable=is_durable)

    def mark_lost(self, descriptor: int, numbers: Iterable[int], reason: str) -> None:
        """
        Write down that committed pieces cannot be brought to the disk. As :meth:`mark_synced`.

        :param reason: what the disk said.
        """
        with storage_failures(self._doing), self._content.lock():
            for number in numbers if self._content.is_current(descriptor, self.kind, self.task_id) else ():
                with suppress(NotStored):
                    self._catalog.mark_damaged(self.kind, self.task_id, number, reason)

    def close(self) -> None:
        """
        Give up all claims. If no other download writes to the file, it is deleted if there is nothing in it, and
        otherwise the room behind its end is given back. Nothing is done for a task that is not open.

        :raises StorageFailure: the storage failed; it is closed anyway.
        """
        if self.descriptor < 0:
            return
        with storage_failures(self._doing):
            self.claims.release_lost()
        with storage_failures(self._doing), self._content.lock():
            try:
                if self._locks.is_alone():
                    if self._task() is None and self._locks.is_only() and self._is_current():
                        self._content.remove(self.kind, self.task_id)
                    elif self._may_have_room:
                        trim(self.descriptor)
            finally:
                os.close(self.descriptor)
                self.descriptor = -1
                self._locks.close()

    # -- the file and its rows -----------------------------------------------------------------------------------------

    def _open_content(self) -> Found:
        """Open the file that is there, if it can be gone on with, or else a new one. Under the lock."""
        try:
            self.descriptor = self._content.open_for_writing(self.kind, self.task_id)
        except FileNotFoundError:
            return self._begin_anew()
        task, size = self._task(), os.fstat(self.descriptor).st_size
        offered = [piece.metadata for piece in self._pieces() if piece.damage in SOUND]
        sound = [piece for piece in offered if piece.offset + piece.length <= size]
        if not self._may_go_on(task, len(sound)):
            os.close(self.descriptor)
            return self._begin_anew()
        for piece in offered:
            if piece.offset + piece.length > size:
                reason = f"expected {piece.length} bytes at {piece.offset}, got {size} in all"
                self._catalog.mark_damaged(self.kind, self.task_id, piece.number, reason)
        return Found(task=task, pieces=sound)

    def _may_go_on(self, task: StoredTask | None, sound_count: int) -> bool:
        """Whether the file that is there can be written to, or need not be."""
        if os.fstat(self.descriptor).st_nlink > 1:
            # Another name of a user's own file, which is not ours to write to.
            length = None if task is None else task.content_length
            return task is not None and length is not None and sound_count == piece_count(length, task.piece_length)
        # Without a row it is what a process that was killed has left, unless another download has just begun with it.
        return task is not None or not self._locks.is_alone()

    def _task(self) -> StoredTask | None:
        """The task's row; None where there is none."""
        return self._catalog.find_task(self.kind, self.task_id)

    def _pieces(self) -> list[StoredPiece]:
        """The rows of all pieces; none where there is no task."""
        return self._catalog.find_pieces(self.kind, self.task_id, range(MAX_PIECE_COUNT))

    def _begin_anew(self) -> Found:
        """Make a new file, and delete the rows of the old one. Under the lock."""
        self._catalog.remove_task(self.kind, self.task_id)
        self._content.create(self.kind, self.task_id, sync=self._sync)
        self.descriptor = self._content.open_for_writing(self.kind, self.task_id)
        return Found()

    def _commit_rows(
        self, pieces: Sequence[PieceMetadata], piece_length: int, content_length: int | None, *, is_synced: bool
    ) -> None:
        """Write the rows of pieces that are kept, and the task's with them. Under the lock."""
        there = self._task()
        row_length = content_length
        if there is not None and content_length == self._content_length:
            row_length = there.content_length  # another download may have written it meanwhile
        task = StoredTask(
            kind=self.kind,
            task_id=self.task_id,
            content_length=row_length,
            piece_length=piece_length,
            created_at=int(time.time()),
            # A digest that a user has given may be a wrong one until the whole has it: see publish().
            digest=self._digest if self._digest == digest_of_id(self.task_id) else "",
            origin=self._origin,
            source_version=self.source_version,
            ttl=self._ttl,
            is_pinned=self._is_pinned,
        )
        self._catalog.commit_pieces(task, pieces, is_synced=is_synced)
        self._content_length = content_length

    def _is_right(self) -> bool:
        """Whether the content, as long as the task's row says, has the digest that is known of the whole."""
        task = self._catalog.get_task(self.kind, self.task_id)
        whole = PieceMetadata(number=0, offset=0, length=task.content_length or 0, digest=task.digest or self._digest)
        return bool(whole.digest) and not damage_of(self.descriptor, whole)

    def _is_current(self) -> bool:
        """Whether the open file is the task's still."""
        return self._content.is_current(self.descriptor, self.kind, self.task_id)

    def _check_current(self) -> None:
        """Refuse to go on with a file that has lost its place."""
        if not self._is_current():
            raise StorageError(f"task {self.task_id}: it has been imported anew or removed while it was downloaded")
