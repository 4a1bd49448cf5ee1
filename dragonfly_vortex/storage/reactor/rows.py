"""
Rows of pieces in memory, a page of neighbours at a time: who asks for a piece asks for the next one soon.

Nothing here knows whether a row is still true.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from dragonfly_vortex.model import StoredPiece
from dragonfly_vortex.wire import PieceKind

__all__ = ["MAX_PAGES", "PAGE_LENGTH", "PiecePages", "page_of"]

PAGE_LENGTH = 32
"""Rows that a page can have. So many are read from the catalog at once, where one is wanted."""

MAX_PAGES = 256
"""Pages that are kept: 8192 rows, at some 500 bytes each about 4 MB in all."""


def page_of(number: int) -> range:
    """
    The numbers of the pieces in a page.

    :param number: one of them.
    """
    first = number - number % PAGE_LENGTH
    return range(first, first + PAGE_LENGTH)


class PiecePages:
    """The pages that were used last."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[PieceKind, str, int], Mapping[int, StoredPiece]] = OrderedDict()

    def keep(self, kind: PieceKind, task_id: str, number: int, rows: Mapping[int, StoredPiece]) -> None:
        """
        Keep a page, in place of the one that has not been used for the longest time.

        :param number: of any piece of the page.
        :param rows: all that there are of :func:`page_of` the number, by number. Where there is none, nothing is kept:
            nobody shall drive out what there is by asking for what there is not.
        """
        if not rows:
            return
        key = (kind, task_id, number // PAGE_LENGTH)
        self._pages[key] = rows
        self._pages.move_to_end(key)
        if len(self._pages) > MAX_PAGES:
            self._pages.popitem(last=False)

    def find(self, kind: PieceKind, task_id: str, number: int) -> Mapping[int, StoredPiece] | None:
        """The rows of the page that a piece is in, by number; None where the page is not kept."""
        key = (kind, task_id, number // PAGE_LENGTH)
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def clear(self) -> None:
        """Forget all."""
        self._pages.clear()
