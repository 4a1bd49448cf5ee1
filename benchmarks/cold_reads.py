"""
What becomes of everybody else while a parent sends pieces that are on its disk and not in its memory?
``python -m benchmarks.cold_reads`` measures it, with and without threads that wait for the disk, on the disk of the
temporary directory and on one that is held down to a slow disk's pace.

The file's pages are dropped before each turn, which is checked. The small piece that is asked for meanwhile is in
memory: how long it takes shows for how long the reactor stood still.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.bystander import Busy, bystander, paced_parent, slowest
from benchmarks.markdown import head, row
from benchmarks.material import Task, import_file, make_file, read_through
from benchmarks.measurement import Measurement
from benchmarks.servers import DidNotWork, Server
from benchmarks.slow_disk import slow_disk

__all__ = ["MEASUREMENT", "Sample", "draw", "resident_part"]

_KIB, _MIB = 2**10, 2**20
_SMALL, _PIECE, _CONNECTIONS, _ROUNDS = 64 * _KIB, 4 * _MIB, 8, 5

_LENGTH, _SLOW_LENGTH = 512 * _MIB, 96 * _MIB
_QUICK_LENGTH, _QUICK_SLOW_LENGTH = 64 * _MIB, 32 * _MIB
"""Bytes of the file, on the disk as it is and on the slow one."""

_PACE = 60 * 10**6
"""Bytes that the slow disk reads in a second: a rotating disk that is not left alone."""

_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device")

_DISKS = ("this disk", "slow disk", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What was seen in one turn.

    :param disk: where the large pieces were: one of ``this disk``, ``slow disk``, ``memory``.
    :param read_ahead: whether threads waited for the disk.
    :param length: bytes of large pieces.
    :param duration: seconds until they had all been fetched.
    :param seconds: that each small piece took meanwhile.
    """

    disk: str
    read_ahead: bool
    length: int
    duration: float
    seconds: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A disk, the tasks on it, and their parents with and without read-ahead."""

    small: Task
    large: Task
    parents: dict[bool, Server]


def resident_part(path: Path) -> float:
    """How much of a file is in memory, as a part of it; mincore(2)."""
    length = path.stat().st_size
    pages = -(-length // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(length), found):
                raise DidNotWork(f"mincore: {os.strerror(ctypes.get_errno())}")
        finally:
            del start  # nothing else holds the mapping open
    return sum(page & 1 for page in found) / pages


def _drop(path: Path) -> None:
    """Have a file on its disk alone."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    left = resident_part(path)
    if left:
        raise DidNotWork(f"expected nothing of a file in memory, got {left:.0%} of it")


def _measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """All disks with and without read-ahead, in shuffled turns."""
    rounds = 1 if quick else _ROUNDS
    with ExitStack() as stack:
        places = {"this disk": _place(directory, _QUICK_LENGTH if quick else _LENGTH, stack)}
        length = _QUICK_SLOW_LENGTH if quick else _SLOW_LENGTH
        below = directory / "slow"
        below.mkdir()
        try:
            disk = stack.enter_context(slow_disk(below, 2 * length + 64 * _MIB, 10**10))
            stack.enter_context(_slow_reading(disk, _PACE))
        except DidNotWork as error:
            tell(f"without a slow disk: {error}")
        else:
            places["slow disk"] = _place(disk, length, stack)
        places["memory"] = places["this disk"]
        for number in range(rounds):
            turns = [(disk, read_ahead) for disk in places for read_ahead in (False, True)]
            tell(f"round {number + 1} of {rounds}: {len(turns)} turns")
            Random(number).shuffle(turns)
            for name, read_ahead in turns:
                yield _take_turn(name, places[name], read_ahead)


def _place(directory: Path, length: int, stack: ExitStack) -> _Place:
    """Two tasks on a disk, and two parents until the stack ends."""
    storage = directory / "storage"
    make_file(directory / "small", _SMALL)
    make_file(directory / "large", length)
    small = import_file(directory / "small", _SMALL, storage)
    large = import_file(directory / "large", _PIECE, storage)
    options: dict[bool, Sequence[str]] = {True: (), False: ("--no-read-ahead",)}
    parents = {
        read_ahead: stack.enter_context(paced_parent(storage, directory / f"parent-{read_ahead}", *more))
        for read_ahead, more in options.items()
    }
    return _Place(small=small, large=large, parents=parents)


@contextmanager
def _slow_reading(disk: Path, pace: int) -> Iterator[None]:
    """Hold reading from a mounted disk down, inside the block."""
    if not _THROTTLE.exists():
        raise DidNotWork(f"expected {_THROTTLE}, which is a machine's own, and root's")
    device = disk.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        _THROTTLE.write_text(f"{number} {pace}", encoding="ascii")
        yield
    finally:
        _THROTTLE.write_text(f"{number} 0", encoding="ascii")


def _take_turn(disk: str, place: _Place, read_ahead: bool) -> Sample:
    """Fetch all large pieces once, and meanwhile a small one again and again."""
    parent, source = place.parents[read_ahead], place.large.source
    port, length = int(parent.said[1]), source.stat().st_size
    with bystander(port, place.small) as child:
        if disk == "memory":
            read_through(source)
        else:
            _drop(source)
        with Busy(port, place.large, length // _PIECE, _CONNECTIONS, endless=False) as busy:
            seconds = child.ask_while(lambda count: not count or not busy.is_over())
            fetched = busy.end()
    return Sample(
        disk=disk,
        read_ahead=read_ahead,
        length=length,
        duration=fetched.seconds,
        seconds=seconds,
    )


def draw(samples: Sequence[Sample]) -> str:
    """The table: how fast large pieces come from each disk, and how long the small ones take meanwhile."""
    lines = [
        *head(
            "large pieces from",
            "waits for the disk",
            "MB/s: most, median",
            "a 64 KiB piece from memory meanwhile, ms: median",
            "95 of 100 within",
            "all within, in the best round",
            "in the worst",
        )
    ]
    for disk in _DISKS:
        for read_ahead in (False, True):
            taken = [sample for sample in samples if (sample.disk, sample.read_ahead) == (disk, read_ahead)]
            if not taken:
                continue
            seconds = [each * 1e3 for sample in taken for each in sample.seconds]
            rates = [sample.length / sample.duration / 1e6 for sample in taken]
            worst = [max(sample.seconds) * 1e3 for sample in taken]
            cells = [disk, "a thread" if read_ahead else "the reactor"]
            cells += [f"{max(rates):,.0f}, {statistics.median(rates):,.0f}"]
            cells += [f"{statistics.median(seconds):.2f}", f"{slowest(seconds, 0.95):.2f}"]
            lines.append(row(*cells, f"{min(worst):.1f}", f"{max(worst):.1f}"))
    return "\n".join(lines)


MEASUREMENT = Measurement(name="cold_reads", sample=Sample, measure=_measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
