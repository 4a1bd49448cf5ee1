"""The questions to the catalog of a storage. Everything here blocks, and belongs to one thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dragonfly_vortex.errors import NotStored, StorageError, TaskChanged
from dragonfly_vortex.geometry import MAX_PIECE_COUNT, piece_count
from dragonfly_vortex.model import StoredPiece, StoredTask, piece_id
from dragonfly_vortex.storage.content import is_task_id
from dragonfly_vortex.storage.database import Access, Database
from dragonfly_vortex.storage.reading import Place
from dragonfly_vortex.storage.tables import (
    PIECE_COLUMNS,
    SOUND,
    TASK_COLUMNS,
    UNSYNCED,
    piece_of,
    signed,
    task_key,
    task_of,
)
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind

__all__ = ["CatalogQueries"]


class CatalogQueries:
    """
    A catalog that is opened, read and closed.

    :param directory: the storage's directory.
    :param access: what it is opened for.
    """

    def __init__(self, directory: Path, access: Access) -> None:
        self.path = directory / "catalog.sqlite3"
        self._database = Database(self.path, access)

    @property
    def read_only(self) -> str:
        """The reason why nothing can be written, if that was wanted; else empty."""
        return self._database.read_only

    @property
    def generation(self) -> int:
        """A number that changes each time the catalog is opened or closed."""
        return self._database.generation

    @property
    def place(self) -> Place | None:
        """Directory and file that are open; None where it is closed."""
        return self._database.place

    def refresh(self) -> None:
        """
        Open the catalog again, if it was opened with :attr:`Access.SERVE` and its path leads to another one by now, or
        to none.

        :raises StorageFailure: what is there now cannot be opened.
        """
        self._database.refresh()

    def version(self) -> CatalogVersion:
        """
        The :class:`CatalogVersion` of the open catalog; a closed one if the catalog is closed.

        :raises StorageFailure: it cannot be opened.
        """
        version = CatalogVersion(self.path, self._database.snapshot, read_only=bool(self.read_only))
        if self.place is not None:
            version.open()
        return version

    def open(self) -> None:
        """
        Open the database. To be written to, it and the directory are made where they are not there.

        :raises StorageFailure: it cannot be opened, is no catalog, or is one that a newer version of this package made.
        """
        self._database.open()

    def close(self) -> None:
        """
        Close the database, if it is open.

        :raises StorageFailure: what was left to do cannot be done; it is closed anyway.
        """
        self._database.close()

    # -- questions ---------------------------------------------------------------------------------------------------

    def list_tasks(self) -> list[StoredTask]:
        """
        All tasks, the oldest first.

        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {TASK_COLUMNS} FROM task ORDER BY created_at, task_id, kind"
        return [task_of(row) for row in self._database.select(query)]

    def sums(self) -> dict[PieceKind, tuple[int, int]]:
        """
        How many tasks of each kind have pieces, and the bytes of these. Reads the rows of all pieces.

        :raises StorageFailure: the database cannot be read.
        """
        query = "SELECT kind, COUNT(DISTINCT task_id), SUM(length) FROM piece GROUP BY kind"
        rows = self._database.select(query)
        return {PieceKind.from_label(str(kind)): (int(tasks), int(length)) for kind, tasks, length in rows}

    def newest_tasks(self, most: int) -> tuple[list[StoredTask], int, int]:
        """
        The tasks that were added last, the newest first; how many tasks there are; and the bytes of all of them, as far
        as their lengths are known.

        :param most: how many are returned at most.
        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {TASK_COLUMNS} FROM task ORDER BY created_at DESC, task_id, kind LIMIT ?"
        tasks = [task_of(row) for row in self._database.select(query, most)]
        ((count, length),) = self._database.select("SELECT COUNT(*), COALESCE(SUM(content_length), 0) FROM task")
        return tasks, int(count), int(length)

    def count_pieces(self, kind: PieceKind, task_id: str) -> int:
        """
        How many pieces of a task are there, damaged ones too; 0 also where there is no such task.

        :raises StorageFailure: the database cannot be read.
        """
        query = "SELECT COUNT(*) FROM piece WHERE kind = ? AND task_id = ?"
        ((count,),) = self._database.select(query, *task_key(kind, task_id))
        return int(count)

    def find_tasks(self, task_id: str) -> list[StoredTask]:
        """
        The tasks of that ID: none, or one of each kind at the most.

        :raises StorageFailure: the database cannot be read.
        """
        if not is_task_id(task_id):
            return []
        query = f"SELECT {TASK_COLUMNS} FROM task WHERE task_id = ? ORDER BY kind"
        return [task_of(row) for row in self._database.select(query, task_id)]

    def get_task(self, kind: PieceKind, task_id: str) -> StoredTask:
        """
        A task's row.

        :raises NotStored: there is no such task.
        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {TASK_COLUMNS} FROM task WHERE kind = ? AND task_id = ?"
        rows = self._database.select(query, *task_key(kind, task_id))
        if not rows:
            raise NotStored(f"task {task_id} not found")
        return task_of(rows[0])

    def get_pieces(self, kind: PieceKind, task_id: str, first: int = 0) -> list[StoredPiece]:
        """
        The rows of a task's pieces from a number on, damaged ones too, by number.

        :param first: the lowest number that is asked for.
        :raises NotStored: there is no such task.
        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {PIECE_COLUMNS} FROM piece WHERE kind = ? AND task_id = ? AND number >= ? ORDER BY number"
        rows = self._database.select(query, *task_key(kind, task_id), signed(first))
        pieces = [piece_of(kind, task_id, row) for row in rows]
        if not pieces:
            self.get_task(kind, task_id)
        return pieces

    def get_piece(self, kind: PieceKind, task_id: str, number: int) -> StoredPiece:
        """
        A piece's row, damaged or not.

        :raises NotStored: there is no such piece.
        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {PIECE_COLUMNS} FROM piece WHERE kind = ? AND task_id = ? AND number = ?"
        rows = self._database.select(query, kind.label, task_id, signed(number)) if is_task_id(task_id) else []
        if not rows:
            raise NotStored(f"piece {piece_id(task_id, number)} not found")
        return piece_of(kind, task_id, rows[0])

    def find_pieces(self, kind: PieceKind, task_id: str, numbers: range) -> list[StoredPiece]:
        """
        The rows of those pieces that are there, damaged or not, by number.

        :param numbers: one after the other.
        :raises StorageFailure: the database cannot be read.
        """
        if not is_task_id(task_id):
            return []
        where = "kind = ? AND task_id = ? AND number BETWEEN ? AND ?"
        query = f"SELECT {PIECE_COLUMNS} FROM piece WHERE {where} ORDER BY number"
        span = (signed(numbers[0]), signed(numbers[-1]))
        return [piece_of(kind, task_id, row) for row in self._database.select(query, kind.label, task_id, *span)]

    def unsynced_tasks(self) -> list[tuple[PieceKind, str]]:
        """
        The tasks of which some pieces may not be on the disk.

        :raises StorageFailure: the database cannot be read.
        """
        query = "SELECT DISTINCT kind, task_id FROM piece WHERE damage <> '' AND substr(damage, 1, ?) = ?"
        rows = self._database.select(query, len(UNSYNCED), UNSYNCED)
        return [(PieceKind.from_label(str(kind)), str(task_id)) for kind, task_id in rows]

    def unsynced_pieces(self, kind: PieceKind, task_id: str) -> list[StoredPiece]:
        """
        The pieces of a task that may not be on the disk; those that were written before the kernel started are damaged.

        :raises StorageFailure: the database cannot be read.
        """
        query = f"SELECT {PIECE_COLUMNS} FROM piece WHERE kind = ? AND task_id = ? AND substr(damage, 1, ?) = ?"
        rows = self._database.select(query, *task_key(kind, task_id), len(UNSYNCED), UNSYNCED)
        return [piece_of(kind, task_id, row) for row in rows]

    def find_task(self, kind: PieceKind, task_id: str) -> StoredTask | None:
        """
        A task's row; None where there is none.

        :raises StorageFailure: the database cannot be read.
        """
        try:
            return self.get_task(kind, task_id)
        except NotStored:
            return None

    def sound_digests(self, kind: PieceKind, task_id: str) -> dict[int, str]:
        """
        The digests of all pieces of a task that are not damaged, by number; none where there is no task.

        :raises StorageFailure: the database cannot be read.
        """
        pieces = self.find_pieces(kind, task_id, range(MAX_PIECE_COUNT))
        return {piece.metadata.number: piece.metadata.digest for piece in pieces if piece.damage in SOUND}

    def digests_of_whole(self, kind: PieceKind, task_id: str) -> dict[int, str] | None:
        """
        The digests of all pieces of a task by number, if all are there, and nothing else is; else None.

        :raises StorageFailure: the database cannot be read.
        """
        task = self.find_task(kind, task_id)
        if task is None or task.content_length is None:
            return None
        digests = self.sound_digests(kind, task_id)
        return digests if digests.keys() == {*range(piece_count(task.content_length, task.piece_length))} else None

    def check_pieces(self, kind: PieceKind, task_id: str, numbers: Iterable[int], digests: Mapping[int, str]) -> None:
        """
        Check that the pieces are still those that a download has verified.

        :param numbers: the pieces that have to be there, and sound.
        :param digests: what the download knows of them, by number.
        :raises TaskChanged: one is not there, or has another digest.
        :raises StorageFailure: the database cannot be read.
        """
        rows = self.sound_digests(kind, task_id)
        for number in numbers:
            if number not in rows or rows[number] != digests.get(number, rows[number]):
                got = "another" if number in rows else "none"
                raise TaskChanged(
                    f"task {task_id}, piece {number}: expected the one that was verified, got {got}:"
                    " another process downloads the task, too"
                )

    def check_digest(self, kind: PieceKind, task_id: str, digest: str) -> None:
        """
        Refuse a digest of the whole that contradicts the one that the storage knows.

        :param digest: empty where none is known.
        :raises StorageError: the storage has the task with another one.
        :raises StorageFailure: the database cannot be read.
        """
        task = self.find_task(kind, task_id)
        there = "" if task is None else task.digest
        is_comparable = there.partition(":")[0] == digest.partition(":")[0]
        if there and is_comparable and there != digest:
            raise StorageError(
                f"task {task_id}: expected the digest {digest}, the storage has it with {there};"
                " remove it there to download another content"
            )

    def check_kind(self, kind: PieceKind, task_id: str) -> None:
        """
        Refuse a task of which the storage has the ID in another kind. One ID is offered in one kind: Dragonfly's own
        peers keep the pieces of all kinds by task ID alone, and write zeros where they have one ID in two.

        :raises StorageError: there is such a task; the message names its kind.
        :raises StorageFailure: the database cannot be read.
        """
        for there in self._kinds(task_id):
            if there is not kind:
                raise StorageError(
                    f"task {task_id}: expected it in no other kind than {kind.label}, the storage has it as"
                    f" {there.label}; remove it there first (dfvortex remove --kind {there.label} {task_id})"
                )

    def check_offered(self, kind: PieceKind, task_id: str) -> None:
        """
        Refuse to offer a task in a second kind, as storages of earlier versions may have it: the oldest is offered.

        :raises NotStored: an older task has that ID; the message names its kind.
        :raises StorageFailure: the database cannot be read.
        """
        kinds = self._kinds(task_id)
        if kind in kinds[1:]:
            raise NotStored(f"task {task_id} is offered as {kinds[0].label}, not as {kind.label}")

    def _kinds(self, task_id: str) -> list[PieceKind]:
        """The kinds in which there are tasks of that ID, that of the oldest first."""
        # With the kinds named, each is looked up in the index, whose first column is the kind.
        query = "SELECT kind FROM task WHERE task_id = ? AND kind IN (?, ?, ?, ?) ORDER BY created_at, kind"
        rows = self._database.select(query, task_id, *(kind.label for kind in PieceKind)) if is_task_id(task_id) else []
        return [PieceKind.from_label(label) for (label,) in rows]
