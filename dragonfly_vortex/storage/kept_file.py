"""
The file of a download to an output, kept beside it with a journal of its pieces where the download ended early. The
same download goes on with it.

Both have hidden names, which are made from the output's name and the task. The file is locked for as long as a download
writes to it. The journal is a JSON object a line: what it is of, then each piece whose bytes are in the file and have
their digest, each piece that was dropped, and at an orderly end the file's state on the disk. Where that is missing or
another one, after a ``kill -9`` or a power cut, each piece is read again before it counts. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dragonfly_vortex.digest import new_hash, parse_digest, verify
from dragonfly_vortex.files import read_exactly, write_all
from dragonfly_vortex.geometry import BLOCK_LENGTH
from dragonfly_vortex.model import Found, StoredTask
from dragonfly_vortex.storage.atomic_file import StagedFile, delete_if_dead, hidden_prefix, is_named
from dragonfly_vortex.storage.disk import trim
from dragonfly_vortex.storage.locks import try_lock
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["KEPT_SECONDS", "KeptFile", "sweep_kept"]

KEPT_SECONDS = 7 * 24 * 3600
"""Seconds after its last change for which a file is kept."""

_SUFFIX = ".dfvortex-kept"
_JOURNAL_SUFFIX = ".dfvortex-journal"
_VERSION = 1


class KeptFile:
    """
    The file that one download writes to, and its journal.

    :param staged: the file, locked.
    :param journal: the journal's descriptor.
    :param kind: the kind of the task's pieces.
    """

    def __init__(self, staged: StagedFile, journal: int, kind: PieceKind, task_id: str) -> None:
        self.staged = staged
        self._journal = journal
        self._kind = kind
        self._task_id = task_id
        self._pieces: dict[int, PieceMetadata] = {}
        self._lengths: tuple[int, int | None] = (0, None)  # of a piece, and of the whole
        self._source_version = ""
        self._is_recording = True

    @classmethod
    def open(cls, target: Path, kind: PieceKind, task_id: str) -> KeptFile | None:
        """
        Open the file for an output and a task, or make one. Files that have been kept for long are deleted.

        :param target: where the output is to be.
        :returns: None where no file can be kept there: another download of the task to this output is running, there
            are no locks, or a file of that name belongs to another user.
        """
        sweep_kept(target.parent)
        key = hashlib.sha256(f"{kind.label} {task_id}".encode()).hexdigest()[:16]
        path = target.parent / f"{hidden_prefix(target.name)}{key}{_SUFFIX}"
        with contextlib.ExitStack() as stack:
            try:
                descriptor = _open_own(path)
                stack.callback(os.close, descriptor)
                if not _lock(descriptor, path) or not is_named(descriptor, path):
                    return None
                journal = _open_own(_journal_of(path))
                stack.callback(os.close, journal)
            except OSError:
                return None
            kept = cls(StagedFile(descriptor, path), journal, kind, task_id)
            kept._read()
            stack.pop_all()
            return kept

    @property
    def found(self) -> Found:
        """The pieces of the task that are in the file."""
        if not self._pieces:
            return Found()
        piece_length, content_length = self._lengths
        task = StoredTask(
            kind=self._kind,
            task_id=self._task_id,
            content_length=content_length,
            piece_length=piece_length,
            created_at=0,
            source_version=self._source_version,
        )
        return Found(task=task, pieces=[self._pieces[number] for number in sorted(self._pieces)])

    def commit(self, piece: PieceMetadata, piece_length: int, content_length: int | None) -> None:
        """
        Record a piece whose bytes are in the file and have its digest. This can be called in the reactor's thread: it
        writes one line to the system's memory. A piece without a digest is not recorded, since it could not be checked.

        :param piece_length: bytes of every piece but the last.
        :param content_length: bytes of the whole; None where that is not known.
        """
        if piece.digest:
            entry = {
                "piece": [piece.number, piece.offset, piece.length, piece.digest],
                "lengths": [piece_length, content_length],
            }
            self._take(entry)
            self._write_line(msgspec.json.encode(entry))  # json takes ten times as long, for each piece

    def drop(self, numbers: Iterable[int]) -> None:
        """Record that pieces are no good, before their places are written again."""
        dropped = [number for number in numbers if self._pieces.pop(number, None) is not None]
        if dropped:
            self._write({"dropped": dropped})

    def keep_source_version(self, version: str) -> None:
        """Record the version of the source that pieces are fetched from."""
        if version != self._source_version:
            self._source_version = version
            self._write({"source_version": version})

    def publish(self, target: Path, *, overwrite: bool, sync: bool) -> None:
        """
        Give the file its place, as :meth:`StagedFile.publish`, and delete the journal.

        :raises OSError: it could not be done; the file is still there.
        """
        self.staged.publish(target, overwrite=overwrite, sync=sync)
        self._end_journal(delete=True)

    def close(self, *, sync: bool) -> None:
        """
        Close the file. It is kept if there is a piece in it.

        :param sync: whether to wait until its bytes are on the disk, so that they need not be read again.
        :raises OSError: they could not be written there.
        """
        if not self._pieces or not self._is_recording:
            self.discard()
            return
        try:
            trim(self.staged.descriptor)
            if sync:
                os.fdatasync(self.staged.descriptor)
                self._write({"closed": _state_of(self.staged.descriptor)})
        finally:
            self._end_journal(delete=False)
            self.staged.keep()

    def discard(self) -> None:
        """Delete the file and its journal."""
        self._end_journal(delete=True)
        self.staged.discard()

    # -- the journal ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Take what the journal says, as far as it is whole, and what is in the file."""
        header = {"version": _VERSION, "kind": self._kind.label, "task_id": self._task_id}
        lines = _read_all(self._journal).split(b"\n")
        length, is_clean, is_first = 0, False, True
        for line in lines[:-1]:  # behind the last end of a line there is nothing, or a line that was cut off
            try:
                entry = json.loads(line)
                if is_first and entry != header:
                    break
                is_first = False
                is_clean = entry.get("closed") == _state_of(self.staged.descriptor)
                self._take(entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                is_clean = False
                break
            length += len(line) + 1
        os.ftruncate(self._journal, length)
        if is_first:
            os.ftruncate(self.staged.descriptor, 0)
            self._write(header)
        elif not is_clean:
            self.drop([piece.number for piece in self._pieces.values() if not self._is_sound(piece)])

    def _take(self, entry: Mapping[str, Any]) -> None:
        """
        Take one line of the journal.

        :raises ValueError: it is none.
        :raises TypeError: it is none.
        """
        if "piece" in entry:
            number, offset, length, digest = entry["piece"]
            piece_length, content_length = entry["lengths"]
            self._pieces[number] = PieceMetadata(number=number, offset=offset, length=length, digest=digest)
            self._lengths = piece_length, content_length
        for number in entry.get("dropped", ()):
            self._pieces.pop(number, None)
        self._source_version = str(entry.get("source_version", self._source_version))

    def _is_sound(self, piece: PieceMetadata) -> bool:
        """Whether a piece is in the file."""
        try:
            hasher = new_hash(parse_digest(piece.digest)[0])
            block = memoryview(bytearray(min(BLOCK_LENGTH, piece.length)))
            for start in range(0, piece.length, BLOCK_LENGTH):
                part = block[: piece.length - start]
                read_exactly(self.staged.descriptor, part, piece.offset + start)
                hasher.update(part)
        except (OSError, ValueError):  # a ValueError for a digest that is none
            return False
        return verify(hasher, piece.digest)

    def _write(self, entry: object) -> None:
        """Add an entry, see :meth:`_write_line`."""
        self._write_line(json.dumps(entry).encode())

    def _write_line(self, line: bytes) -> None:
        """Add a line. A journal that cannot be written ends there: the file is not kept then."""
        if self._is_recording:
            try:
                write_all(self._journal, line + b"\n")
            except OSError:
                self._is_recording = False

    def _end_journal(self, *, delete: bool) -> None:
        """Close the journal."""
        journal, self._journal = self._journal, -1
        if journal >= 0:
            if delete:
                with contextlib.suppress(OSError):
                    os.unlink(_journal_of(self.staged.path))
            os.close(journal)


def sweep_kept(directory: Path) -> None:
    """Delete the kept files of a directory, of any output, that have not changed for :data:`KEPT_SECONDS`."""
    kept: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        kept = [Path(entry.path) for entry in entries if entry.name.endswith((_SUFFIX, _JOURNAL_SUFFIX))]
    for path in sorted(kept, key=lambda path: path.suffix == _JOURNAL_SUFFIX):  # a journal behind its file
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(path).st_mtime < KEPT_SECONDS:
                continue
            if path.name.endswith(_SUFFIX):
                delete_if_dead(path)
            elif not path.with_name(path.name.removesuffix(_JOURNAL_SUFFIX) + _SUFFIX).exists():
                os.unlink(path)


def _journal_of(path: Path) -> Path:
    """Where the journal of a file is."""
    return path.with_name(path.name.removesuffix(_SUFFIX) + _JOURNAL_SUFFIX)


def _open_own(path: Path) -> int:
    """
    Open a regular file of this user that has no other name, or make one.

    :raises OSError: it cannot be opened or made, or is none of this user's: another could change it later.
    """
    flags = os.O_RDWR | os.O_APPEND * path.name.endswith(_JOURNAL_SUFFIX) | os.O_CREAT
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
        os.close(descriptor)
        raise PermissionError(f"{path}: expected a file of this user with one name, got another one")
    return descriptor


def _lock(descriptor: int, path: Path) -> bool:
    """
    Lock a file that is kept; False if another download has it.

    :raises OSError: there are no locks. A file that has just been made for one is deleted.
    """
    try:
        return try_lock(descriptor)
    except OSError:
        if not os.fstat(descriptor).st_size:
            os.unlink(path)
        raise


def _state_of(descriptor: int) -> list[int]:
    """What shows that a file has been written to: its length in bytes, and when, in nanoseconds."""
    status = os.fstat(descriptor)
    return [status.st_size, status.st_mtime_ns]


def _read_all(descriptor: int) -> bytes:
    """All bytes of a file."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()
