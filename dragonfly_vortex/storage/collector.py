"""
Removes tasks from a storage: those whose time is over, and where room is needed those that have not been used for the
longest time. Files without a row, which killed processes have left, go too. Everything here blocks.

What is removed and in which order are the rules of the reference (``dragonfly-client`` 1.5.10, ``src/gc/mod.rs``), but
that bytes are counted as they are on the disk, and that nothing is removed that any process serves, reads or fetches:
the file of a task that is read is locked (:meth:`Content.open
<dragonfly_vortex.storage.content.Content.open>`), and one that is fetched has claims
(:mod:`~dragonfly_vortex.storage.piece_locks`).

A ``kill -9`` does no harm. Rows go before their file, in one transaction. A file that stays is one without a row, which
the next collection removes.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, field

from dragonfly_vortex.storage.claim_records import claims_path, is_claimed
from dragonfly_vortex.storage.content import Content, is_task_id
from dragonfly_vortex.storage.database import Access, Database
from dragonfly_vortex.storage.disk import BLOCK
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.locks import try_lock
from dragonfly_vortex.storage.piece_locks import sweep_claims
from dragonfly_vortex.storage.policy import Policy, ttl_key, usage
from dragonfly_vortex.wire import PieceKind

__all__ = ["Collected", "Collector", "Reason", "Removed", "own_bytes"]

_BATCH = 64
"""Tasks whose rows are deleted in one transaction."""

_MOST_PIECES = 10_000
"""Rows of pieces that are deleted in one transaction, so that other processes can commit in between."""

_NOT_OURS_TO_OPEN = frozenset({errno.EACCES, errno.ELOOP, errno.ENXIO})
"""
What opening a file says that no process of the storage's owner can use: a linked one from which its own owner has taken
the right, a symbolic link, a socket. Such a one must not keep the collection from all others.
"""

_UNCHANGED = "kind = ?1 AND task_id = ?2 AND max(used_at, created_at) = ?3"
"""Finds a task if it has not been used, or stored anew, since it was chosen."""

_Task = tuple[PieceKind, str, int]  # its kind, its ID, and when it was used last


class Reason(enum.Enum):
    """Why something is removed, in words."""

    EXPIRED = "its time is over"
    ROOM = "room is needed"
    STRAY = "a file without a row"


class Removed(NamedTuple):
    """
    A task that has been removed, or would be.

    :param rule: what decided: the key of the configuration, or a few words where it is none.
    :param freed: bytes that are free on the disk by that, once no process has the file open any more.
    :param is_linked: whether the file has another name, outside of the storage: nothing is free by removing this one.
    """

    kind: PieceKind
    task_id: str
    reason: Reason
    rule: str
    freed: int
    is_linked: bool


class Collected(Struct):
    """
    The result of a collection.

    :param removed: the tasks that are gone, in that order.
    :param in_use: how many tasks have been left because they are served, read or fetched, or cannot be removed.
    :param missing: bytes that should have been freed, too, and for which no further task could be removed.
    """

    removed: list[Removed] = field(default_factory=list)
    in_use: int = 0
    missing: int = 0

    @property
    def freed(self) -> int:
        """Bytes that are free by it."""
        return sum(each.freed for each in self.removed)


class Collector:
    """
    One collection of garbage in a storage.

    :param directory: the storage's directory.
    :param policy: the rules.
    :param room: bytes that are about to be needed. Tasks are removed so that the higher threshold is not passed by
        them, and only as many as are needed for that.
    :param is_dry: whether to remove nothing, and write nothing, but tell what would be removed.
    :param now: the time in Unix seconds.
    :param is_wanted: asked between two steps; once it says no, the rest is left as it is.
    """

    def __init__(
        self,
        directory: Path,
        policy: Policy,
        *,
        room: int = 0,
        is_dry: bool = False,
        now: Callable[[], float] = time.time,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._room = room
        self._is_dry = is_dry
        self._now = now
        self._is_wanted = is_wanted
        self._content = Content(directory)
        self._database = Database(directory / "catalog.sqlite3", Access.READ if is_dry else Access.WRITE)
        self._collected = Collected()
        self._in_use: set[tuple[PieceKind, str]] = set()
        self._own = 0  # bytes of content on the disk that has no name outside of the storage

    def run(self) -> Collected:
        """
        Remove the files and tasks that the policy names.

        :raises StorageFailure: the storage failed. What has been removed until then is gone.
        """
        if self._is_dry and not self._directory.exists():
            return self._collected
        with storage_failures(f"cannot collect the garbage of {self._directory}"), ExitStack() as stack:
            self._database.open()
            stack.callback(self._database.close)
            if not self._is_dry:
                self._content.sweep()
            for step in (self._remove_strays, self._remove_expired, self._make_room):
                for _ in step():
                    if not self._is_wanted():
                        return self._collected
        return self._collected

    # -- files without rows --------------------------------------------------------------------------------------------

    def _remove_strays(self) -> Iterator[None]:
        """Look at each file, one directory in a step: count its bytes, and remove it if it has no row."""
        for kind in PieceKind:
            for directory in _entries(self._content.directory / kind.directory):
                known = self._ids_with(kind, directory.name)
                for path in _entries(directory):
                    self._own += _blocks(path)[0]
                    is_in_place = is_task_id(path.name) and path.name.startswith(directory.name)
                    if is_in_place and path.name not in known:
                        self._remove_stray(kind, path.name)
                yield
            for path in [] if self._is_dry else _entries(claims_path(self._directory, kind, "")):
                if is_task_id(path.name) and not self._has_row(kind, path.name):
                    with self._content.lock():
                        sweep_claims(self._directory, kind, path.name)
                    yield

    def _remove_stray(self, kind: PieceKind, task_id: str) -> None:
        """Remove the file of a task, unless it has a row after all, or is in use."""
        with ExitStack() as stack:
            if not self._is_dry:
                stack.enter_context(self._content.lock())
            if not self._has_row(kind, task_id) and self._is_idle(stack, kind, task_id):
                self._remove_file(kind, task_id, Reason.STRAY, "no row")

    def _ids_with(self, kind: PieceKind, prefix: str) -> set[str]:
        """The IDs of a kind that begin so, as all in one directory do."""
        query = "SELECT task_id FROM task WHERE kind = ? AND task_id >= ? AND task_id < ?"
        return {task_id for (task_id,) in self._database.select(query, kind.label, prefix, f"{prefix}\x7f")}

    def _has_row(self, kind: PieceKind, task_id: str) -> bool:
        """Whether there is a task of that kind and ID."""
        query = "SELECT 1 FROM task WHERE kind = ? AND task_id = ?"
        return bool(self._database.select(query, kind.label, task_id))

    # -- tasks whose time is over --------------------------------------------------------------------------------------

    def _remove_expired(self) -> Iterator[None]:
        """Remove the tasks whose time is over, a few in a step."""
        now = int(self._now())
        for kind in PieceKind:
            since = "created_at" if kind.is_persistent else "max(used_at, created_at)"
            query = (
                "SELECT ttl IS NULL, task_id, max(used_at, created_at) FROM task"
                f" WHERE kind = ?1 AND ifnull(ttl, ?2) > 0 AND {since} + ifnull(ttl, ?2) < ?3 ORDER BY 1, 3"
            )
            rows = self._database.select(query, kind.label, self._policy.ttl_of(kind), now)
            for is_by_policy, grouped in groupby(rows, key=itemgetter(0)):
                rule = f"gc.policy.{ttl_key(kind)}" if is_by_policy else "its own TTL"
                tasks = [(kind, task_id, used_at) for _, task_id, used_at in grouped]
                for start in range(0, len(tasks), _BATCH):
                    yield from self._remove(tasks[start : start + _BATCH], Reason.EXPIRED, rule)

    # -- room ----------------------------------------------------------------------------------------------------------

    def _make_room(self) -> Iterator[None]:
        """Where too much of the room is used, remove what has not been used for the longest time."""
        needed = self._bytes_to_free()
        if needed <= 0:
            return
        target, rule = self._collected.freed + needed, self._policy.room_rule()
        gone = {(each.kind, each.task_id) for each in self._collected.removed}  # in a dry run they are there still
        for is_persistent in (False, True):
            kinds = [kind.label for kind in PieceKind if kind.is_persistent is is_persistent]
            query = (
                "SELECT kind, task_id, max(used_at, created_at) FROM task"
                " WHERE kind IN (?, ?) AND is_pinned = 0 ORDER BY 3, 2"
            )
            batch: list[tuple[PieceKind, str, int]] = []
            expected = 0
            for label, task_id, used_at in self._database.select(query, *kinds):
                if self._collected.freed >= target:
                    return
                kind = PieceKind.from_label(label)
                freed, is_linked = _blocks(self._content.path(kind, task_id))
                if is_linked or (kind, task_id) in gone:
                    continue
                batch.append((kind, task_id, used_at))
                expected += freed
                if len(batch) == _BATCH or self._collected.freed + expected >= target:
                    yield from self._remove(batch, Reason.ROOM, rule)
                    batch, expected = [], 0
            yield from self._remove(batch, Reason.ROOM, rule)
        self._collected.missing = max(0, target - self._collected.freed)

    def _bytes_to_free(self) -> int:
        """How many bytes are to be freed beside those that are free by now; 0 or less for none."""
        total, used = usage(self._directory, self._policy.disk_threshold, self._own)
        used += self._room
        if self._is_dry and not self._policy.disk_threshold:
            used -= self._collected.freed
        high = self._policy.disk_high_threshold_percent
        if used * 100 < high * total:
            return 0
        # For a download no more is removed than it needs.
        return used - (high if self._room else self._policy.disk_low_threshold_percent) * total // 100

    # -- removing ------------------------------------------------------------------------------------------------------

    def _remove(self, tasks: Sequence[_Task], reason: Reason, rule: str) -> Iterator[None]:
        """Remove tasks that no process uses, unless they have been used since; a step for each transaction."""
        if not self._is_dry:
            for task in tasks:
                while self._remove_some_pieces(task):
                    yield
        with ExitStack() as stack:
            if not self._is_dry:
                stack.enter_context(self._content.lock())
            idle = [task for task in tasks if self._is_idle(stack, task[0], task[1])]
            for kind, task_id in self._delete_rows(idle):
                self._remove_file(kind, task_id, reason, rule)
            for kind, task_id, _ in set(tasks).difference(idle):
                self._leave(kind, task_id)
        yield

    def _leave(self, kind: PieceKind, task_id: str) -> None:
        """Record that a task stays."""
        self._in_use.add((kind, task_id))
        self._collected.in_use = len(self._in_use)

    def _remove_some_pieces(self, task: _Task) -> bool:
        """Delete rows of a task that has very many pieces; False when few are left, or it is in use."""
        kind, task_id, used_at = task
        query = "SELECT 1 FROM piece WHERE kind = ? AND task_id = ? LIMIT 1 OFFSET ?"
        if not self._database.select(query, kind.label, task_id, _MOST_PIECES):
            return False
        delete = (
            f"DELETE FROM piece WHERE kind = ?1 AND task_id = ?2 AND EXISTS (SELECT 1 FROM task WHERE {_UNCHANGED})"
            " AND number IN (SELECT number FROM piece WHERE kind = ?1 AND task_id = ?2 LIMIT ?4)"
        )
        with ExitStack() as stack:
            stack.enter_context(self._content.lock())
            if not self._is_idle(stack, kind, task_id):
                return False
            with self._database.change() as connection:
                return connection.execute(delete, (kind.label, task_id, used_at, _MOST_PIECES)).rowcount > 0

    def _delete_rows(self, tasks: Sequence[_Task]) -> list[tuple[PieceKind, str]]:
        """Delete the rows of tasks that have not been used since; returns those that have none any more."""
        if self._is_dry or not tasks:
            return [(kind, task_id) for kind, task_id, _ in tasks]
        delete = f"DELETE FROM task WHERE {_UNCHANGED}"
        with self._database.change() as connection:
            return [
                (kind, task_id)
                for kind, task_id, used_at in tasks
                if connection.execute(delete, (kind.label, task_id, used_at)).rowcount
            ]

    def _remove_file(self, kind: PieceKind, task_id: str, reason: Reason, rule: str) -> None:
        """Delete the file of a task that has no rows, and record that."""
        freed, is_linked = _blocks(self._content.path(kind, task_id))
        if not self._is_dry:
            try:
                self._content.remove(kind, task_id)
            except PermissionError:  # the next collection tries it again
                self._leave(kind, task_id)
                return
        self._own -= freed
        self._collected.removed.append(Removed(kind, task_id, reason, rule, freed, is_linked))

    def _is_idle(self, stack: ExitStack, kind: PieceKind, task_id: str) -> bool:
        """
        Whether no process fetches, serves or reads a task, and it can be removed. Its file is locked until the stack is
        closed.

        :raises OSError: that cannot be found out.
        """
        if is_claimed(self._directory, kind, task_id):
            return False
        try:
            descriptor = _open_to_lock(self._content.path(kind, task_id))
        except OSError as error:
            if error.errno not in _NOT_OURS_TO_OPEN:
                raise
            return True
        if descriptor is None:
            return True  # there is no file
        stack.callback(os.close, descriptor)
        return not stat.S_ISDIR(os.fstat(descriptor).st_mode) and try_lock(descriptor)


def own_bytes(directory: Path) -> int:
    """
    Bytes that the content of a storage has on the disk, but for what has another name elsewhere.

    :param directory: the storage's directory.
    :raises OSError: it cannot be read.
    """
    place = Content(directory).directory
    return sum(
        _blocks(path)[0] for kind in PieceKind for part in _entries(place / kind.directory) for path in _entries(part)
    )


def _entries(directory: Path) -> list[Path]:
    """What there is in a directory, sorted; nothing where it is none."""
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _blocks(path: Path) -> tuple[int, bool]:
    """Bytes on the disk that are free when a file is removed, and whether it has another name, so that none are."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0, False
    is_linked = status.st_nlink > 1
    return 0 if is_linked else status.st_blocks * BLOCK, is_linked


def _open_to_lock(path: Path) -> int | None:
    """
    A descriptor of a file, for its lock. One kind of lock needs the right to write, which a linked file may not give.

    :returns: None where there is no file.
    :raises OSError: it cannot be opened.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags)
    except FileNotFoundError:
        return None
    except OSError:
        return os.open(path, os.O_RDONLY | flags)
