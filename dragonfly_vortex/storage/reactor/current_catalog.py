"""
The catalog that is at the storage's path now, for the storage's thread.

The storage may be replaced while it is served: deleted and made anew, restored, mounted over. Before each question to
the catalog a look at its path shows whether that still leads to it, so what has been imported into the new storage is
there at once. A piece that is not remembered is read from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.model import FileRange, OpenPiece, StoredPiece, piece_id
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.claim_records import forget_killed_holder, killed_holders
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.disk import keep_ballast
from dragonfly_vortex.storage.failures import storage_failures
from dragonfly_vortex.storage.reactor.piece_cache import find_piece, page_of
from dragonfly_vortex.storage.reading import Place
from dragonfly_vortex.storage.unsynced import has_unsynced
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind

__all__ = ["CurrentCatalog", "OpenedPiece", "open_piece"]

_T = TypeVar("_T")


class CurrentCatalog:
    """
    Opens, follows and closes the catalog of a storage. All methods are called in the storage's thread.

    :param directory: the storage's directory.
    :param catalog: its catalog, which is opened by :meth:`open`.
    :param content: its files.
    :param switched: called with the version of the catalog when another one has been opened or closed, and with what
        has become of the storage, as the end of a sentence; empty for the first time.
    """

    def __init__(
        self,
        directory: Path,
        catalog: Catalog,
        content: Content,
        switched: Callable[[CatalogVersion, str], object],
    ) -> None:
        self.may_be_unsynced = False
        """Whether an earlier process may have offered pieces that are not on the disk."""
        self._directory = directory
        self._catalog = catalog
        self._content = content
        self._switched = switched
        self._generation = 0  # of the catalog, whose version the reactor has
        self._place: Place | None = None
        self._read_only = ""

    def open(self) -> None:
        """Open the database, and tidy up."""
        self._catalog.open()
        if not self._catalog.read_only:
            self._content.sweep()
            keep_ballast(self._directory)
            self.may_be_unsynced = has_unsynced(self._directory)
            self.doubt_what_was_held()

    def offered(self, kind: PieceKind, task_id: str) -> Catalog:
        """Return the catalog, if the task is offered in that kind."""
        self._catalog.check_offered(kind, task_id)
        return self._catalog

    def doubt_what_was_held(self) -> None:
        """Stop offering tasks of which a download that was killed had not yet found the wrong pieces."""
        if self._catalog.read_only:
            return
        with suppress(OSError, StorageFailure):  # the next look may succeed
            for kind, task_id in killed_holders(self._directory):
                self._catalog.doubt_task(kind, task_id)
                forget_killed_holder(self._directory, kind, task_id)

    def follow(self, work: Callable[[], _T]) -> _T:
        """
        Work on the catalog that is there now. Where that is another one, the reactor hears of it before it gets the
        result: so nothing of the new one is remembered under the version of the old one.
        """
        try:
            if self._generation:
                self._catalog.refresh()
            return work()
        finally:
            if self._generation != self._catalog.generation:
                self._tell_version()

    def _tell_version(self) -> None:
        """Have the reactor's thread ask the version of what is open now, and say what has become of the storage."""
        place, read_only = self._catalog.place, self._catalog.read_only
        text = ""
        if self._generation and place is not None:
            if place.file is None:
                text = "was deleted: nothing is served until it exists again"
            elif place != self._place or read_only != self._read_only:
                text = "has been replaced: what is there now is served" * (place != self._place)
                text = f"can only be read: {read_only}" if read_only else text or "can be written again"
        version = self._catalog.version()
        self._generation, self._place, self._read_only = self._catalog.generation, place or self._place, read_only
        self._switched(version, text)

    def write_uses(self, used: Collection[tuple[PieceKind, str]]) -> None:
        """Write which tasks are used now, where the storage can be written."""
        if used and not self._catalog.read_only:
            self._catalog.record_uses(used, int(time.time()))

    def close(self, version: CatalogVersion, used: Collection[tuple[PieceKind, str]]) -> None:
        """Close the database."""
        with suppress(StorageFailure):  # a full disk
            self.write_uses(used)
        version.close()
        self._generation = 0
        self._catalog.close()


class OpenedPiece(NamedTuple):
    """
    The rows and the file that were read for a request.

    :param rows: of the whole page, by number.
    :param piece: what was asked for.
    """

    rows: Mapping[int, StoredPiece]
    piece: OpenPiece


def open_piece(
    catalog: Catalog, content: Content, kind: PieceKind, task_id: str, number: int, start: int, length: int | None
) -> OpenedPiece:
    """
    Read a piece's row, with its neighbours, and open the file. This blocks, and belongs to the storage's thread.

    :param start: the first byte of the piece that is wanted.
    :param length: bytes; None for all from there on.
    :raises NotStored: the piece is not there, is damaged, or is not offered in that kind.
    :raises PieceDamaged: the task has no file.
    :raises StorageError: the range is not in the piece.
    :raises StorageFailure: it cannot be read.
    """
    catalog.check_offered(kind, task_id)
    rows = {row.metadata.number: row for row in catalog.find_pieces(kind, task_id, page_of(number))}
    metadata, offset, length = find_piece(rows, task_id, number, start, length)
    name = piece_id(task_id, number)
    with storage_failures(f"cannot open piece {name}"):
        try:
            descriptor = content.open(kind, task_id)
        except FileNotFoundError as error:
            with suppress(StorageFailure):  # a storage that can only be read
                catalog.mark_damaged(kind, task_id, number, "expected a file, got none")
            raise PieceDamaged(f"piece {name}: expected a file, got none") from error
    return OpenedPiece(rows, OpenPiece(metadata=metadata, range=FileRange(descriptor, offset, length)))
