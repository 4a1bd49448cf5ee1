"""
Reads the storage's content and verifies each piece by its digest, and each whole by its own, where one is known.
Everything here blocks.

A peer may serve, a download write and an import replace what is read. So a piece that does not fit its row is verified
a second time, under the lock for changes of rows, before it is marked.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, field

from dragonfly_vortex.digest import new_hash, parse_digest, verify
from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.files import read_at
from dragonfly_vortex.geometry import BLOCK_LENGTH, Progress, piece_count
from dragonfly_vortex.model import StoredPiece, StoredTask, piece_id
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.tables import SOUND
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = [
    "Damage",
    "Pace",
    "Verdict",
    "WholeHash",
    "check_piece",
    "checked_blocks",
    "damage_of",
    "mark_if_damaged",
    "verify_task",
]

_Reader = Callable[[int, memoryview, int], int]


class Damage(Exception):
    """
    A piece is not as its row says.

    :param number: the piece's.
    :param reason: what was expected and what was found.
    """

    def __init__(self, number: int, reason: str) -> None:
        self.number = number
        self.reason = reason
        super().__init__(reason)


class Verdict(Struct, frozen=True, kw_only=True):
    """
    The result of verifying a task.

    :param task: its row.
    :param piece_count: how many pieces of it the storage has, damaged ones too.
    :param damaged: what is wrong, for each damaged piece by its number.
    :param mismatch: what is wrong with the whole, where every piece fits its digest; else empty.
    """

    task: StoredTask
    piece_count: int
    damaged: Mapping[int, str] = field(default_factory=dict)
    mismatch: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether everything that is there is right."""
        return not self.damaged and not self.mismatch


class Pace:
    """
    Limits the rate of reading.

    :param rate: bytes per second; None for no limit.
    :param clock: the time in seconds; it never goes back.
    :param sleep: waits for as many seconds.
    """

    def __init__(
        self,
        rate: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    def spend(self, length: int) -> None:
        """
        Wait until so much may have been read.

        :param length: bytes that have just been read.
        """
        if self._rate is None:
            return
        now = self._clock()
        self._free_at = max(self._free_at, now) + length / self._rate
        self._sleep(self._free_at - now)


def verify_task(
    directory: Path,
    kind: PieceKind,
    task_id: str,
    *,
    pace: Pace | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Verdict:
    """
    Read all that the storage has of a task, and mark the pieces that are damaged, where the storage can be written.

    What is not in memory does not stay there, so that a peer's files do. Pieces that are marked already are not read.

    :param directory: the storage's directory.
    :param pace: how fast to read; as fast as the disk allows without it.
    :param progress: called after each step of at most 1 MiB, and with nothing done before the first.
    :raises NotStored: there is no such task.
    :raises StorageFailure: the storage failed.
    """
    with Catalog(directory, Access.READ) as catalog, storage_failures(f"cannot verify task {task_id}"):
        task = catalog.get_task(kind, task_id)
        pieces = catalog.get_pieces(kind, task_id)
        content = Content(directory)
        reading = _Reading(task, pieces, pace or Pace(), progress)
        damaged = {}
        for piece in pieces:
            number = piece.metadata.number
            is_marked = piece.damage not in SOUND
            reason = piece.damage if is_marked else reading.judge(content, piece)
            if reason and not is_marked:
                reason = mark_if_damaged(directory, kind, task_id, number)
            if reason:
                damaged[number] = reason
        mismatch = "" if damaged else reading.mismatch()
        if reading.is_right and any(piece.damage for piece in pieces):
            with contextlib.suppress(StorageFailure), Catalog(directory, Access.SERVE) as writable:
                writable.settle_task(kind, task_id)
    return Verdict(task=task, piece_count=len(pieces), damaged=damaged, mismatch=mismatch)


def check_piece(directory: Path, kind: PieceKind, task_id: str, number: int) -> str:
    """
    Read a piece, and mark it if it is damaged.

    :param directory: the storage's directory.
    :returns: what is wrong with it; nothing for a piece that is sound, has gone, or was marked before.
    :raises StorageFailure: the storage failed.
    """
    with Catalog(directory, Access.READ) as catalog, storage_failures(f"cannot check {piece_id(task_id, number)}"):
        try:
            piece = catalog.get_piece(kind, task_id, number)
        except NotStored:
            return ""
        if piece.damage or not _reason(Content(directory), piece):
            return ""
    return mark_if_damaged(directory, kind, task_id, number)


def mark_if_damaged(directory: Path, kind: PieceKind, task_id: str, number: int) -> str:
    """
    Judge a piece while no process can change it, and if it is damaged have it offered no more. In a storage that cannot
    be written it is only judged.

    :param directory: the storage's directory.
    :returns: what is wrong with it; nothing for a piece that is sound, or has gone.
    :raises StorageFailure: the storage failed.
    """
    content = Content(directory)
    with (
        Catalog(directory, Access.SERVE) as catalog,
        storage_failures(f"cannot verify task {task_id}"),
        content.lock(),
    ):
        try:
            piece = catalog.get_piece(kind, task_id, number)
        except NotStored:
            return ""
        if piece.damage not in SOUND:
            return piece.damage
        reason = _reason(content, piece)
        if reason:
            with contextlib.suppress(StorageFailure):
                catalog.mark_damaged(kind, task_id, number, reason)
        return reason


def damage_of(source: int, piece: PieceMetadata) -> str:
    """
    Describe what is wrong with the bytes in a piece's place; empty where they have its digest.

    :param source: the task's file.
    :raises OSError: the file cannot be read.
    """
    try:
        for _ in checked_blocks(source, piece):
            pass
    except (Damage, ValueError) as damage:  # a ValueError for a digest that is none
        return str(damage)
    return ""


def checked_blocks(source: int, piece: PieceMetadata, read: _Reader = read_at) -> Iterator[memoryview]:
    """
    A piece's bytes, block by block; each is good until the next is asked for.

    :param source: the task's file.
    :param read: reads a block.
    :raises Damage: once all blocks have been given: they do not fit the digest, or the file ends before.
    :raises OSError: the file cannot be read.
    """
    hasher = new_hash(parse_digest(piece.digest)[0])
    buffer = memoryview(bytearray(min(BLOCK_LENGTH, piece.length)))
    done = 0
    while done < piece.length:
        length = read(source, buffer[: piece.length - done], piece.offset + done)
        if not length:
            raise Damage(piece.number, f"expected {piece.length} bytes at {piece.offset}, got {done}")
        done += length
        hasher.update(buffer[:length])
        yield buffer[:length]
    if not verify(hasher, piece.digest):
        raise Damage(piece.number, f"expected the digest {piece.digest}, got {hasher.text()}")


class WholeHash:
    """
    Verifies a content as a whole while it is read in order.

    :param digest: the digest that it must have; empty where none is known, and then nothing is hashed.
    """

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._hasher = new_hash(parse_digest(digest)[0]) if digest else None

    def update(self, block: memoryview) -> None:
        """Take the next bytes."""
        if self._hasher is not None:
            self._hasher.update(block)

    def mismatch(self) -> str:
        """What is wrong with the bytes so far as the whole: nothing where no digest is known."""
        if self._hasher is None or verify(self._hasher, self._digest):
            return ""
        return f"expected a content with the digest {self._digest}, got one with {self._hasher.text()}"


class _Reading:
    """
    A task's pieces, read one after the other.

    :param pieces: all rows that there are.
    """

    def __init__(
        self,
        task: StoredTask,
        pieces: list[StoredPiece],
        pace: Pace,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._task = task
        self._pace = pace
        self._progress = progress
        self._whole = WholeHash(task.digest)
        self._count = len(pieces)
        self._length = sum(piece.metadata.length for piece in pieces)
        self._done = self._judged = 0
        self._is_whole = True
        self._report(0)

    def judge(self, content: Content, piece: StoredPiece) -> str:
        """Read a piece; gives what is wrong with it."""
        reason = _reason(content, piece, self._take)
        self._is_whole = self._is_whole and not reason
        self._judged += 1
        self._report(0)
        return reason

    @property
    def is_right(self) -> bool:
        """Whether all of the task was read, and nothing is known to be wrong with it."""
        return self._is_all_read() and not self._whole.mismatch()

    def mismatch(self) -> str:
        """What is wrong with the whole, if all of it was there when it was read, and every piece fitted its digest."""
        return self._whole.mismatch() if self._is_all_read() else ""

    def _is_all_read(self) -> bool:
        """Whether every piece of the task was there and fitted its digest."""
        length = self._task.content_length
        return self._is_whole and length is not None and self._judged == piece_count(length, self._task.piece_length)

    def _take(self, block: memoryview) -> None:
        self._whole.update(block)
        self._report(len(block))
        self._pace.spend(len(block))

    def _report(self, length: int) -> None:
        self._done += length
        if self._progress is not None:
            self._progress(Progress(self._done, self._length, self._judged, self._count))


def _reason(content: Content, piece: StoredPiece, take: Callable[[memoryview], object] = len) -> str:
    """
    What is wrong with a piece.

    :param take: called with each block that has been read.
    """
    try:
        source = content.open(piece.kind, piece.task_id)
        try:
            for block in checked_blocks(source, piece.metadata, _read_and_forget):
                take(block)
        finally:
            os.close(source)
    except Damage as damage:
        return damage.reason
    except FileNotFoundError:
        return "expected a file, got none"
    except OSError as error:  # a bad sector, say
        return f"cannot be read: {error.strerror}"
    return ""


def _read_and_forget(descriptor: int, buffer: memoryview, offset: int) -> int:
    """
    Read a block. If it was not in memory before, it is not afterwards: otherwise verifying a large storage would drive
    out what a peer's children ask for.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return read_at(descriptor, buffer, offset)
    try:
        # As many bytes as are in memory; none may also be the answer of Linux 5.9 and 5.10 for what is not.
        return os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT) or read_at(descriptor, buffer, offset)
    except BlockingIOError:
        pass
    except OSError:  # the file system does not tell what is in memory
        return read_at(descriptor, buffer, offset)
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # nothing behind the block is to be read
    length = read_at(descriptor, buffer, offset)
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
    return length
