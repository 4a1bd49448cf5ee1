"""
Finds and opens pieces. :func:`open_piece` asks the catalog, in the storage's thread. Pieces that are asked for
again are opened from memory, without a thread, a query or the opening of a file: :class:`PiecePages` keeps rows,
:class:`OpenFiles` keeps descriptors, and :class:`HotPieces` decides when they are used.

What is remembered is what the catalog says, or it is not used. With each piece the catalog is asked for its version
(:mod:`~dragonfly_vortex.storage.version`), and where that has changed, for the number of commits that have taken back
an offered piece. Rows and files are remembered under what was seen *before* they were read, and are used only while
that number is the same. Then no commit since before they were read has changed or deleted a row, or added a task, so
that a reader of the catalog now reads the same rows and perhaps more: a piece that has no row in memory is asked for
again where the version has changed. And where they offer a piece, the file is the one that
they tell of: a range is written only when a commit has taken back its row, a file is removed only when a commit has
removed its rows, and what an import puts in its place before its rows are written has the same bytes, since the task's
ID is their SHA-256. So a piece from memory is as good as one whose row was read and whose file was opened at this
moment.

A commit that takes back a piece forgets everything, whichever task it belongs to: that is rare. To ask the catalog
takes some 0.4 ms instead of 0.02. A commit that adds pieces, as a download does with each of them, forgets nothing.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.errors import NotStored, StorageError
from dragonfly_vortex.model import StoredPiece, piece_id
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = [
    "LOOK_INTERVAL",
    "MAX_FILES",
    "MAX_LOOKS",
    "MAX_PAGES",
    "PAGE_LENGTH",
    "HotPieces",
    "OpenFiles",
    "PiecePages",
    "Seen",
    "find_piece",
    "page_of",
]

PAGE_LENGTH = 32
"""Rows that a page can have. So many are read from the catalog at once, where one is wanted."""


def page_of(number: int) -> range:
    """
    The numbers of the pieces in a page.

    :param number: one of them.
    """
    first = number - number % PAGE_LENGTH
    return range(first, first + PAGE_LENGTH)


def find_piece(
    rows: Mapping[int, StoredPiece], task_id: str, number: int, start: int, length: int | None
) -> tuple[PieceMetadata, int, int]:
    """
    A piece among rows: its row, and which bytes of the file are asked for, from where and how many.

    :raises NotStored: it is not there, or is damaged.
    :raises StorageError: the range is not in the piece.
    """
    row = rows.get(number)
    if row is None or row.damage:
        raise NotStored(f"piece {piece_id(task_id, number)} not found")
    metadata = row.metadata
    if length is None:
        length = metadata.length - start
    if not 0 <= start <= start + length <= metadata.length:
        name = piece_id(task_id, number)
        raise StorageError(f"piece {name}: expected a range in {metadata.length} bytes, got {length} from {start}")
    return metadata, metadata.offset + start, length


MAX_PAGES = 256
"""Pages that are kept: 8192 rows, at some 500 bytes each about 4 MB in all."""


class PiecePages:
    """
    The pages of rows that were used last: a child that asks for a piece asks for the next one soon. Whether a row is
    still true is not known here.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[PieceKind, str, int], tuple[Mapping[int, StoredPiece], int]] = OrderedDict()

    def keep(
        self, kind: PieceKind, task_id: str, number: int, rows: Mapping[int, StoredPiece], version: int = 0
    ) -> None:
        """
        Keep a page, in place of the one that has not been used for the longest time.

        :param number: of any piece of the page.
        :param rows: all rows of the page, by number. An empty page is not kept: a child that asks for pieces that are
            not there must not drive out others.
        :param version: the catalog's, before they were read.
        """
        if not rows:
            return
        key = (kind, task_id, number // PAGE_LENGTH)
        self._pages[key] = rows, version
        self._pages.move_to_end(key)
        if len(self._pages) > MAX_PAGES:
            self._pages.popitem(last=False)

    def find(self, kind: PieceKind, task_id: str, number: int, version: int = 0) -> Mapping[int, StoredPiece] | None:
        """
        Find the page that a piece is in.

        :param version: the catalog's now.
        :returns: its rows, by number; None where it is not kept, or where the piece may have been added since.
        """
        key = (kind, task_id, number // PAGE_LENGTH)
        rows, read_at = self._pages.get(key, (None, 0))
        if rows is None or (number not in rows and read_at != version):
            return None
        self._pages.move_to_end(key)
        return rows

    def clear(self) -> None:
        """Forget all."""
        self._pages.clear()


MAX_FILES = 64
"""Files that are kept open."""

MAX_LOOKS = 10
"""Looks that a file stays open without having been used in between."""


class _File(Struct):
    """An open file, and how often it was looked at since it was used."""

    descriptor: int
    looks: int = 0


class OpenFiles:
    """
    The files that were used last. Whether a file is still the task's is not known here.

    Nothing is closed here: to close a file that has been deleted gives back its space, which can take the kernel long.
    A method returns the descriptors that are not kept any more, and the caller closes them.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[PieceKind, str], _File] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def keep(self, kind: PieceKind, task_id: str, descriptor: int) -> list[int]:
        """
        Keep a task's file open, in place of the one that it had.

        :param descriptor: ours from now on.
        :returns: the descriptors that are not kept any more.
        """
        key = (kind, task_id)
        dropped = []
        if (replaced := self._files.pop(key, None)) is not None:
            dropped.append(replaced.descriptor)
        self._files[key] = _File(descriptor)
        if len(self._files) > MAX_FILES:
            _, oldest = self._files.popitem(last=False)
            dropped.append(oldest.descriptor)
        return dropped

    def find(self, kind: PieceKind, task_id: str) -> int | None:
        """A task's file: its descriptor, which stays ours; None where the file is not kept open."""
        key = (kind, task_id)
        file = self._files.get(key)
        if file is None:
            return None
        self._files.move_to_end(key)
        file.looks = 0
        return file.descriptor

    def open(self, kind: PieceKind, task_id: str) -> int | None:
        """
        A task's file.

        :returns: a descriptor of the caller's own; None where the file is not kept open.
        :raises OSError: this process can have no more descriptors.
        """
        descriptor = self.find(kind, task_id)
        return None if descriptor is None else os.dup(descriptor)

    def look(self) -> list[int]:
        """
        Forget files that were not used for long, and files that have been deleted, which take their space on the disk
        for as long as they are open.

        :returns: their descriptors, for the caller to close.
        """
        given_up = []
        for key, file in list(self._files.items()):
            file.looks += 1
            if file.looks >= MAX_LOOKS or not os.fstat(file.descriptor).st_nlink:
                del self._files[key]
                given_up.append(file.descriptor)
        return given_up

    def clear(self) -> list[int]:
        """
        Forget all files.

        :returns: their descriptors, for the caller to close.
        """
        files, self._files = self._files, OrderedDict()
        return [file.descriptor for file in files.values()]


Seen = tuple[object, int | None]
"""A catalog at a moment: a mark of the time since all was forgotten, and the version; None where it is unknown."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the files that are kept open: so soon the space of a removed task is free."""


class HotPieces:
    """
    A cache of the pieces that were requested last. All of it belongs to the reactor's thread.

    :param version: the catalog's.
    :param clock: for the looks; nothing is scheduled while no file is open.
    :param close: closes descriptors where that may take its time.
    """

    def __init__(self, version: CatalogVersion, clock: IReactorTime, close: Callable[[Sequence[int]], None]) -> None:
        self._version = version
        self._clock = clock
        self._close = close
        self._pages = PiecePages()
        self._files = OpenFiles()
        self._version_seen: int | None = None
        self._taken_back: int | None = None
        self._life = object()  # what is read before all is forgotten is not remembered behind that
        self._looking: IDelayedCall | None = None

    def follow(self, version: CatalogVersion) -> CatalogVersion:
        """
        Forget everything, and ask another version from now on.

        :param version: of a catalog that has been opened anew.
        :returns: the one that was asked until now.
        """
        former, self._version = self._version, version
        self._forget()
        return former

    def refresh(self) -> Seen:
        """
        Forget what may not be true any more.

        :returns: what has been seen of the catalog: the argument of :meth:`remember` for what is read from now on.
        """
        version = self._version.current()
        if version is None:
            self._forget()
        elif version != self._version_seen:
            taken_back = self._version.taken_back()
            if taken_back is None or taken_back != self._taken_back:
                self._forget()
            self._version_seen, self._taken_back = version, taken_back
        return self._life, self._version_seen

    def find(self, kind: PieceKind, task_id: str, number: int) -> Mapping[int, StoredPiece] | None:
        """
        The rows of the page that a piece is in. :meth:`refresh` first.

        :returns: by number, a piece that is not there has none; None where it is to be asked of the catalog.
        """
        return self._pages.find(kind, task_id, number, self._version_seen or 0)

    def find_file(self, kind: PieceKind, task_id: str) -> int | None:
        """See :meth:`OpenFiles.find`. :meth:`refresh` first. It is open until the caller returns to the reactor."""
        return self._files.find(kind, task_id)

    def open(self, kind: PieceKind, task_id: str) -> int | None:
        """
        The file of a task. :meth:`refresh` first.

        :returns: a descriptor of the caller's own; None where the file is to be opened.
        """
        try:
            return self._files.open(kind, task_id)
        except OSError:  # there are no descriptors left
            self.close_files()
            return None

    def close_files(self) -> bool:
        """Give up the descriptors of all files that are kept open; False if there are none."""
        descriptors = self._files.clear()
        if descriptors:
            self._close(descriptors)
        return bool(descriptors)

    def remember(
        self,
        seen: Seen,
        kind: PieceKind,
        task_id: str,
        number: int,
        rows: Mapping[int, StoredPiece],
        descriptor: int,
    ) -> None:
        """
        Remember what has been read.

        :param seen: what :meth:`refresh` returned before it was read.
        :param number: of a piece of the page that was read.
        :param rows: all of the page that there are, by number.
        :param descriptor: the task's file, opened after the rows were read; it stays the caller's.
        """
        life, version = seen
        if version is None or life is not self._life:
            return
        self._pages.keep(kind, task_id, number, rows, version)
        try:
            kept = os.dup(descriptor)
        except OSError:  # there are no descriptors left
            return
        if dropped := self._files.keep(kind, task_id, kept):
            self._close(dropped)
        if self._looking is None:
            self._looking = self._clock.callLater(LOOK_INTERVAL, self._look)

    def stop(self) -> None:
        """Forget everything; nothing is scheduled any more."""
        self._forget()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        """Close unused files, even without any request."""
        self._looking = None
        self.refresh()
        if given_up := self._files.look():
            self._close(given_up)
        if self._files:
            self._looking = self._clock.callLater(LOOK_INTERVAL, self._look)

    def _forget(self) -> None:
        self._life = object()
        self._version_seen = self._taken_back = None
        self._pages.clear()
        self.close_files()
