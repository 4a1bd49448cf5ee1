"""What is fetched: a file of random bytes, and storages that have it in pieces of one length or another."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installed import PROGRAMS
from benchmarks.processes import run_to_end
from benchmarks.servers import DidNotWork

__all__ = ["Task", "import_file", "import_zeros", "is_same", "make_file", "read_all", "read_through"]

_STEP = 2**20

_TO_IMPORT = 120.0
"""Seconds that an import has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    A file in a storage.

    :param task_id: its ID.
    :param source: the file.
    :param storage: the storage's directory.
    """

    task_id: str
    source: Path
    storage: Path


def make_file(path: Path, length: int) -> None:
    """
    Write a file of random bytes, on the disk and in the page cache.

    :param length: in bytes.
    """
    with path.open("xb") as file:
        for start in range(0, length, _STEP):
            file.write(os.urandom(min(_STEP, length - start)))
        file.flush()
        os.fsync(file.fileno())  # or it would be written while something is measured


def import_file(source: Path, piece_length: int, storage: Path) -> Task:
    """
    Import a file by ``dfvortex import``, as a link: all storages have their bytes in the same pages.

    :param piece_length: bytes of a piece.
    :param storage: the storage's directory; it is made.
    :raises DidNotWork: it failed.
    """
    config = storage.with_suffix(".yaml")
    config.write_text(f"storage: {{dir: {storage}}}\n", encoding="utf-8")
    ran = run_to_end(
        [
            *(PROGRAMS / "dfvortex", "import", "--link", "--config", config),
            *("--piece-length", str(piece_length), source),
        ],
        storage.parent,
        _TO_IMPORT,
    )
    if ran.status:
        raise DidNotWork(f"import exited with {ran.status}, expected 0: {ran.output}")
    return Task(task_id=ran.output.splitlines()[-1], source=source, storage=storage)


def import_zeros(length: int, piece_length: int, storage: Path) -> Task:
    """
    Import a file of zeros, for what does not depend on the bytes: it is sparse, which its content does not tell.

    :param length: bytes of it.
    :param piece_length: bytes of a piece.
    :param storage: the storage's directory, beside which the file is made; it may have other tasks.
    :raises DidNotWork: it failed.
    """
    source = storage.with_name(f"zeros-{length}")
    with source.open("ab") as file:
        file.truncate(length)
    return import_file(source, piece_length, storage)


def read_all(directory: Path) -> None:
    """
    Read every file below a directory, once whatever number of names it has: what nobody reads for a while may leave the
    page cache, on a machine that looks for such pages.
    """
    seen = set()
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a database's, whose owner has just deleted it
            if path.is_file() and (number := path.stat().st_ino) not in seen:
                seen.add(number)
                read_through(path)


def read_through(path: Path) -> None:
    """Read a file, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(_STEP):
            pass


def is_same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    with one.open("rb", buffering=0) as file, other.open("rb", buffering=0) as other_file:
        while data := file.read(_STEP):
            if data != other_file.read(_STEP):
                return False
        return not other_file.read(1)
