"""
What does the hash of the whole file cost, and could it cost less? ``python -m benchmarks.file_hash`` measures it.

Twice: a file whose pages are in memory is read and hashed in other ways than the product's, with nobody else in the
process and beside a thread that is as busy as a reactor that receives; and a download is made with the hash and without
it, which no switch of the product does.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.embedded import carry_out, order_of_zeros
from benchmarks.markdown import head, row
from benchmarks.measurement import Measurement
from benchmarks.servers import DidNotWork
from dragonfly_vortex.storage.digest import crc32
from dragonfly_vortex.task.hashing import SharedHash

__all__ = ["MEASUREMENT", "Sample"]

_KIB, _MIB = 1 << 10, 1 << 20
_LENGTH, _FILE_LENGTH, _ROUNDS = 2 * 10**9, 256 * _MIB, 5
_QUICK_LENGTH, _QUICK_FILE_LENGTH, _QUICK_ROUNDS = 64 * 10**6, 32 * _MIB, 1
_MAPPED = 4 * _MIB  # bytes of a window that is mapped
_CHUNK = 256 * _KIB  # bytes that the busy reactor takes at once
_THOUGHT = 300  # steps of Python that it makes for each of them
_OFTEN = 0.0005  # seconds between two switches of threads; Python's own are 0.005
_TO_FETCH = 120.0  # seconds that a child has

_Way = Callable[[int, int], str]
"""Hashes that many bytes of an open file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    A file that was hashed, or a download.

    :param what: how it was hashed; for a download, with what.
    :param beside: who else was busy in the process, or that it was a download.
    :param length: bytes of it.
    :param seconds: how long that took.
    :param processor_seconds: of the thread that hashes; of a download, of the whole child.
    """

    what: str
    beside: str
    length: int
    seconds: float
    processor_seconds: float


# -- ways to read and hash ---------------------------------------------------------------------------------------------


def _pread(window: int, descriptor: int, length: int) -> str:
    """A new buffer for each window."""
    digest = hashlib.sha256()
    for start in range(0, length, window):
        digest.update(os.pread(descriptor, window, start))
    return digest.hexdigest()


def _preadv(window: int, descriptor: int, length: int) -> str:
    """One buffer for all windows."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(window))
    for start in range(0, length, window):
        digest.update(buffer[: os.preadv(descriptor, [buffer], start)])
    return digest.hexdigest()


def _mapped(descriptor: int, length: int) -> str:
    """No copy: windows of the file's own pages."""
    digest = hashlib.sha256()
    for start in range(0, length, _MAPPED):
        with mmap.mmap(descriptor, min(_MAPPED, length - start), prot=mmap.PROT_READ, offset=start) as window:
            digest.update(window)
    return digest.hexdigest()


def _not_read(descriptor: int, length: int) -> str:
    """The hash alone: of one window, again and again."""
    digest = hashlib.sha256()
    window = os.pread(descriptor, 256 * _KIB, 0)
    for _ in range(0, length, len(window)):
        digest.update(window)
    return digest.hexdigest()


def _of_product(descriptor: int, length: int) -> str:
    """As it is done, but by one thread alone."""
    shared = SharedHash(descriptor)
    shared.grow(length)
    while shared.untaken:
        shared.work()
    return shared.text().partition(":")[2]


_PRODUCT = "the product"
_HASH_ALONE = "nothing is read: the hash alone"
_WAYS: Mapping[str, _Way] = {
    _HASH_ALONE: _not_read,
    **{f"`pread`, {window // _KIB} KiB": partial(_pread, window) for window in (64 * _KIB, 256 * _KIB, _MIB)},
    **{
        f"`preadv`, one buffer, {window // _KIB} KiB": partial(_preadv, window)
        for window in (64 * _KIB, 256 * _KIB, _MIB)
    },
    "mapped, 4 MiB": _mapped,
    _PRODUCT: _of_product,
}

_NOBODY, _BUSY, _OFTEN_SWITCHED = "nobody", "a busy reactor", "the same, threads switched every 0.5 ms"
_CASES = [(way, beside) for way in _WAYS for beside in (_NOBODY, _BUSY)] + [(_PRODUCT, _OFTEN_SWITCHED)]
_DOWNLOAD = "a download"
_WHATS = "with the hash", "without the hash", "with it, threads switched every 0.5 ms"
_WITH, _WITHOUT, _WITH_OFTEN = _WHATS


@contextmanager
def _busy_reactor(path: Path, interval: float) -> Iterator[None]:
    """A thread that does what a reactor's does while it receives: some Python, a checksum, a write; and again."""
    is_over = False
    data = os.urandom(_CHUNK)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)

    def receive() -> None:
        while not is_over:
            sum(step for step in range(_THOUGHT))
            crc32(data)
            os.pwrite(descriptor, data, 0)

    thread = threading.Thread(target=receive)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    thread.start()
    try:
        yield
    finally:
        is_over = True
        thread.join()
        sys.setswitchinterval(usual)
        os.close(descriptor)


# -- what is measured --------------------------------------------------------------------------------------------------


def measure(directory: Path, quick: bool, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Both halves, each in shuffled turns."""
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    yield from _hashes(directory, _QUICK_FILE_LENGTH if quick else _FILE_LENGTH, rounds, tell)
    yield from _downloads(directory, _QUICK_LENGTH if quick else _LENGTH, rounds, tell)


def _hashes(directory: Path, length: int, rounds: int, tell: Callable[[str], None]) -> Iterator[Sample]:
    """A file in memory, hashed in all ways."""
    path = directory / "hashed"
    path.write_bytes(random.Random(0).randbytes(_MIB) * (length // _MIB))
    turns = _CASES * rounds
    random.Random(0).shuffle(turns)
    tell(f"{len(turns)} times the hash of {length} bytes")
    digests = set()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for way, beside in turns:
            interval = _OFTEN if beside == _OFTEN_SWITCHED else sys.getswitchinterval()
            with nullcontext() if beside == _NOBODY else _busy_reactor(directory / "received", interval):
                began, processor = time.monotonic(), time.thread_time()
                digest = _WAYS[way](descriptor, length)
                seconds, used = time.monotonic() - began, time.thread_time() - processor
            if way != _HASH_ALONE:
                digests.add(digest)
            yield Sample(what=way, beside=beside, length=length, seconds=seconds, processor_seconds=used)
    finally:
        os.close(descriptor)
    if len(digests) != 1:
        raise DidNotWork(f"expected one digest of one file, got {sorted(digests)}")
    path.unlink()


def _downloads(directory: Path, length: int, rounds: int, tell: Callable[[str], None]) -> Iterator[Sample]:
    """A download with the hash and without it; nothing is brought to the disk in any of them."""
    place = directory / "output"
    turns = list(_WHATS) * rounds
    random.Random(1).shuffle(turns)
    tell(f"{len(turns)} downloads of {length} bytes")
    with order_of_zeros(directory, length, place) as usual:
        for what in turns:
            order = replace(
                usual,
                is_hashed=what != _WITHOUT,
                sync=False,
                writes_early=False,
                switch_interval=_OFTEN if what == _WITH_OFTEN else None,
            )
            done = carry_out(order, _TO_FETCH)
            if place.stat().st_size != length:
                raise DidNotWork(f"expected {length} bytes, got {place.stat().st_size}")
            place.unlink()
            yield Sample(
                what=what,
                beside=_DOWNLOAD,
                length=length,
                seconds=done.seconds,
                processor_seconds=done.processor_seconds,
            )


# -- the tables --------------------------------------------------------------------------------------------------------


def draw(samples: Sequence[Sample]) -> str:
    """Two tables: ways to hash, and downloads. All in seconds for a gigabyte."""
    lines = [
        *head("a file in memory is read by", "beside", "s/GB: least, median", "processor s/GB: least, median"),
        *(_row(samples, way, beside) for way, beside in _CASES),
        "",
        *head("a download", "s/GB: least, median", "child, processor s/GB: least, median"),
        *(_row(samples, what, _DOWNLOAD) for what in _WHATS),
    ]
    return "\n".join(lines)


def _row(samples: Sequence[Sample], what: str, beside: str) -> str:
    """A line of a table."""
    chosen = [sample for sample in samples if (sample.what, sample.beside) == (what, beside)]
    cells = [what] if beside == _DOWNLOAD else [what, beside]
    for values in (
        [sample.seconds / sample.length * 1e9 for sample in chosen],
        [sample.processor_seconds / sample.length * 1e9 for sample in chosen],
    ):
        cells.append(f"{min(values):.2f}, {statistics.median(values):.2f}")
    return row(*cells)


MEASUREMENT = Measurement(name="file_hash", sample=Sample, measure=measure, draw=draw)

if __name__ == "__main__":
    sys.exit(MEASUREMENT.main())
