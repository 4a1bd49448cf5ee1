"""
Allocates room on the disk for what will be written to a file, writes what was written to the disk, and keeps the
ballast of a storage. Everything here blocks.

A file's bytes are written to memory first. Left alone, the kernel begins late to bring them to the disk. When too many
bytes wait there it stops every writer: for seconds where the disk is slow, and a reactor with all that it does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from dragonfly_vortex.storage.directories import open_file
from dragonfly_vortex.system_calls import fallocate, is_refused, sync_file_range

__all__ = [
    "BALLAST_LENGTH",
    "BLOCK",
    "MOST_UNWRITTEN",
    "allocate",
    "boot_id",
    "drop_ballast",
    "free_at",
    "free_run",
    "keep_ballast",
    "reserve",
    "space_at",
    "trim",
    "write_back",
]

MOST_UNWRITTEN = 128 * 1024 * 1024
"""Bytes of verified pieces that may wait for the disk before no more is asked for."""


_KEEP_SIZE = 1
"""The flag of fallocate(2), from ``include/uapi/linux/falloc.h``: the file does not become longer."""


def allocate(descriptor: int, start: int, end: int) -> None:
    """
    Have the file system set room aside for a range of a file. The file is as long as before, what it holds does not
    change, and room that is behind its end goes when it is truncated. Blocks.

    :param descriptor: the file, open for writing.
    :param start: of the range, in bytes.
    :param end: behind it.
    :raises OSError: there is none, or not as much again for others, or the system does not do it.
    """
    call = fallocate()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    disk = os.fstatvfs(descriptor)
    # Where there is too little, ext4 gives the file all that there is before it says so: others could write nothing.
    if disk.f_bavail * disk.f_frsize < 2 * (end - start):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    call(descriptor, _KEEP_SIZE, start, end - start)


BLOCK = 512
"""Bytes of a block, as stat(2) counts them, whatever the file system's own are."""

_ROOM = 1024 * 1024
"""Bytes more on the disk than in the file that need no truncating: the file system's own tables."""


def trim(descriptor: int, length: int | None = None) -> None:
    """
    Cut a file off, and give back the room behind its end. A file with another name, which is a user's own, is left as
    it is.

    :param descriptor: the file, open for writing.
    :param length: bytes that are kept, and where nothing is behind them nothing is done; None for all.
    :raises OSError: it cannot be done.
    """
    status = os.fstat(descriptor)
    if length is not None and status.st_size <= length and status.st_blocks * BLOCK - length <= _ROOM:
        return
    if status.st_nlink == 1:
        os.ftruncate(descriptor, status.st_size if length is None else length)


_RESERVED_AT_ONCE = 128 * 1024 * 1024
"""Bytes that are allocated by one call; and what a disk has left for others, unless the content is shorter."""


def reserve(descriptor: int, content_length: int, find_room: Callable[[int], int] | None = None) -> None:
    """
    Reserve room for a file whose length is known: a disk that is too full is reported at once, and not when half of the
    content has arrived. What is reserved is allocated by the file system, so that each process sees it, and ends with
    the file.

    :param descriptor: the file, open for writing; it stays as long as it is.
    :param content_length: bytes that it is going to have.
    :param find_room: returns how many bytes it may take, and is given how many it needs; None for all of its disk.
    :raises OSError: ``ENOSPC``, with the numbers, where there is too little.
    """
    needed = content_length - os.fstat(descriptor).st_blocks * BLOCK
    if needed <= 0:
        return
    room = needed if find_room is None else find_room(needed)
    free = min(room, free_at(os.fstatvfs(descriptor)) - min(needed, _RESERVED_AT_ONCE))  # once room has been made
    if free < needed:
        raise OSError(errno.ENOSPC, f"expected room for {needed} more bytes, got {max(0, free)}")
    for start in range(0, content_length, _RESERVED_AT_ONCE):
        try:
            allocate(descriptor, start, min(start + _RESERVED_AT_ONCE, content_length))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return  # this file system allocates nothing in advance


def free_at(disk: os.statvfs_result) -> int:
    """
    Bytes that are free on a disk, for users that are not root.

    :param disk: what ``statvfs`` says of it.
    """
    return disk.f_bavail * disk.f_frsize


def space_at(directory: Path) -> tuple[int, int]:
    """Bytes of a file system, and of these those that this process can use; both 0 where it does not say."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return 0, 0
    return disk.f_blocks * disk.f_frsize, free_at(disk)


_STEP = 8 * 1024 * 1024
"""Bytes that are begun or waited for by one call: it cannot be interrupted."""

_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
"""The flags of sync_file_range(2), from ``include/uapi/linux/fs.h``."""

_VMSTAT = Path("/proc/vmstat")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def write_back(
    descriptor: int, ranges: Iterable[tuple[int, int]], is_wanted: Callable[[], bool] = lambda: True
) -> None:
    """
    Have ranges of a file written to the disk, and wait until they are. Their pages stay in memory.

    It is no promise for a power cut: how long the file is, and where its bytes are on the disk, may be in memory still.
    Only ``fdatasync`` promises that, and has little left to do after this.

    That is why it is ``sync_file_range``, where the C library has it. ``posix_fadvise(DONTNEED)`` starts the same
    writing and waits for nothing, but drops the pages that are on the disk already, and those are read again soon: by
    processes that hash, serve or load the file. Where ``sync_file_range`` is refused, it is ``fdatasync``.

    :param ranges: start and end of each, in bytes.
    :param is_wanted: asked between two steps, from this thread; once it says no, the rest is left as it is.
    :raises OSError: the disk has failed. The kernel reports that only once.
    """
    steps = [step for start, end in _joined(ranges) for step in _steps(start, end)]
    try:
        _sync_ranges(descriptor, steps, is_wanted)
    except OSError as error:
        if not is_refused(error, errno.EINVAL, errno.ESPIPE):
            raise
        if steps and is_wanted():
            os.fdatasync(descriptor)


def _sync_ranges(descriptor: int, steps: Sequence[tuple[int, int]], is_wanted: Callable[[], bool]) -> None:
    """Have ranges written by ``sync_file_range``."""
    sync = sync_file_range()
    if sync is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # All are begun before the first is waited for: so the disk always has something to do.
    for flags in (_WRITE, _WAIT_BEFORE | _WRITE | _WAIT_AFTER):
        for start, end in steps:
            if not is_wanted():
                return
            sync(descriptor, start, end - start, flags)


@cache
def boot_id() -> str:
    """
    The name of this run of the kernel: what a process has written is there for others until the kernel ends, on the
    disk or not. Empty where the system does not name it.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def free_run() -> int:
    """
    How many bytes the kernel lets wait for the disk before it begins to write by itself, and long before it stops a
    writer: ``vm.dirty_background_ratio`` of the memory, as ``/proc/vmstat`` has it. Elsewhere 128 MiB.
    """
    try:
        lines = _VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return MOST_UNWRITTEN
    pages = dict(line.split() for line in lines).get("nr_dirty_background_threshold")
    return MOST_UNWRITTEN if pages is None else int(pages) * os.sysconf("SC_PAGESIZE")


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same bytes in as few ranges as can be, in order."""
    current: tuple[int, int] | None = None
    for start, end in sorted(ranges):
        if current is not None and start <= current[1]:
            current = current[0], max(current[1], end)
            continue
        if current is not None:
            yield current
        current = start, end
    if current is not None:
        yield current


def _steps(start: int, end: int) -> Iterator[tuple[int, int]]:
    """A range in parts."""
    for at in range(start, end, _STEP):
        yield at, min(end, at + _STEP)


# -- the ballast: a file that reserves a little room in a storage, and is deleted when the disk is full
#
# To delete a task's rows SQLite writes to its log first, and without a peer it makes that log and an index. A disk
# without any room would therefore never get some by ``remove``.


BALLAST_LENGTH = 256 * 1024
"""Bytes: SQLite's index has 32 KiB, and a page of 4 KiB in the log holds some 30 rows of pieces."""


_LEAST_BALLAST = 64 * 1024
"""Bytes that are enough for a task of few pieces."""


def keep_ballast(directory: Path) -> None:
    """
    Have a storage's ballast on the disk, or as much of it as there is room for.

    :param directory: the storage's directory, which is there.
    """
    path = _ballast_path(directory)
    with suppress(OSError):
        if path.exists() and path.stat().st_size == BALLAST_LENGTH:
            return
        descriptor = open_file(path)
        try:
            if not _allocate_ballast(descriptor):
                os.unlink(path)
        finally:
            os.close(descriptor)


def drop_ballast(directory: Path) -> None:
    """
    Give up a storage's ballast, if there is any.

    :param directory: the storage's directory.
    """
    with suppress(OSError):
        os.unlink(_ballast_path(directory))


def _allocate_ballast(descriptor: int) -> bool:
    """Make room for the ballast; False where there is not even a little."""
    length = BALLAST_LENGTH
    while length >= _LEAST_BALLAST:
        try:
            os.posix_fallocate(descriptor, 0, length)
        except OSError:
            length //= 2
        else:
            return True
    return False


def _ballast_path(directory: Path) -> Path:
    """Where the ballast is."""
    return directory / "ballast"
