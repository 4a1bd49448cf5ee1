"""
Pieces that are asked for again and again, handed out from memory: no thread, no query, no opening of a file.

What is remembered is what the catalog says, or it is not used. Rows and files are remembered under a version of the
catalog (:mod:`~dragonfly_vortex.storage.reactor.version`) that was taken *before* they were read, and are used only
while that is the current version, which is asked for each piece. Then nothing has been committed since before they were
read, so that whoever reads the catalog now reads the same rows. And where they offer a piece, the file is the one that
they tell of: a range is written only when a commit has taken back its row, a file is removed only when a commit has
removed its rows, and what an import puts in its place before its rows are written has the same bytes, since the task's
ID is their SHA-256. So a piece from memory is as good as one whose row was read and whose file was opened at this
moment.

A commit forgets everything, whatever it changed. That is simple, and mostly cheap: the next question of each page of
pieces is asked of the catalog, which takes some 0.4 ms instead of 0.01. Who reads one piece after the other hardly sees
it, since a page is 32 of them; where many children are served, each from a page of its own, while others commit some
hundred times a second, it is as if nothing was remembered. A counter of changes to each task would tell more. But
triggers would have to keep it, for programs of an older version that write to the same file; it would have to outlive
its task, so that one that is removed and comes again is not taken for the old one; and to read it may wait for the
disk, so that it is asked for in another thread all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.model import StoredPiece
from dragonfly_vortex.storage.reactor.open_files import OpenFiles
from dragonfly_vortex.storage.reactor.rows import PiecePages
from dragonfly_vortex.storage.reactor.version import CatalogVersion
from dragonfly_vortex.wire import PieceKind

__all__ = ["LOOK_INTERVAL", "HotPieces"]

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the files that are kept open: so soon the space of a removed task is free."""


class HotPieces:
    """
    What is remembered of the pieces that were asked for last. All of it belongs to the reactor's thread.

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
        self._remembered_at: int | None = None  # the version
        self._seen = object()  # stands for this version in this life; one number could come again in the next
        self._looking: IDelayedCall | None = None

    def follow(self, version: CatalogVersion) -> CatalogVersion:
        """
        Forget everything, and ask another version from now on.

        :param version: of a catalog that has been opened anew.
        :returns: the one that was asked until now.
        """
        former, self._version = self._version, version
        self._forget()
        self._remembered_at = None
        return former

    def refresh(self) -> object:
        """
        Forget what may not be true any more.

        :returns: what has been seen of the catalog: to be told to :meth:`remember` with what is read from now on.
        """
        version = self._version.current()
        if version is None or version != self._remembered_at:
            self._forget()
            self._remembered_at = version
        return self._seen

    def find(self, kind: PieceKind, task_id: str, number: int) -> Mapping[int, StoredPiece] | None:
        """
        The rows of the page that a piece is in. :meth:`refresh` first.

        :returns: by number, a piece that is not there has none; None where it is to be asked of the catalog.
        """
        return self._pages.find(kind, task_id, number)

    def open(self, kind: PieceKind, task_id: str) -> int | None:
        """
        The file of a task. :meth:`refresh` first.

        :returns: a descriptor of the caller's own; None where the file is to be opened.
        """
        try:
            return self._files.open(kind, task_id)
        except OSError:  # there are no descriptors left, and here are some that can be done without
            self._close(self._files.clear())
            return None

    def remember(
        self,
        seen: object,
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
        if self._remembered_at is None or seen is not self._seen:
            return
        self._pages.keep(kind, task_id, number, rows)
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
        self._remembered_at = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        """Close files that nobody needs, even if nobody asks for anything."""
        self._looking = None
        self.refresh()
        if given_up := self._files.look():
            self._close(given_up)
        if self._files:
            self._looking = self._clock.callLater(LOOK_INTERVAL, self._look)

    def _forget(self) -> None:
        self._seen = object()
        self._pages.clear()
        if descriptors := self._files.clear():
            self._close(descriptors)
