"""
The map of a task's pieces: which are there, and where each came from. Its picture has a limited number of cells,
however many pieces there are. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CELLS", "MOST_OWNERS", "MOST_PIECES", "PieceMap", "cells_of"]

CELLS = 1024
"""The cells of a map at most. A task with more pieces has several of them in each cell."""

MOST_PIECES = 4 * 1024 * 1024
"""Pieces of a task from which on it has no map: a byte is kept for each."""

MOST_OWNERS = 35
"""Owners that a map distinguishes."""

_OWNERS = "." + "0123456789abcdefghijklmnopqrstuvwxyz"
_FILLED = bytes([ord("0")] + 255 * [ord("9")])
_OWNED = bytes(ord(_OWNERS[min(number, len(_OWNERS) - 1)]) for number in range(256))


class PieceMap:
    """The map of a task's pieces: a byte for each says where it came from, 0 for one that is not there."""

    def __init__(self) -> None:
        self._owners = bytearray()

    def put(self, number: int, owner: int) -> int:
        """
        Record a piece, or that it is not there any more.

        :param owner: from 1 to 255, or 0.
        :returns: the owner before.
        """
        if number >= len(self._owners):
            self._owners.extend(bytes(number + 1 - len(self._owners)))
        before = self._owners[number]
        self._owners[number] = owner
        return before

    def owner(self, number: int) -> int:
        """Where a piece came from; 0 for one that is not there."""
        return self._owners[number] if number < len(self._owners) else 0

    def cells(self, count: int | None) -> tuple[str, str]:
        """
        Return how full each cell is, and who owns it.

        :param count: pieces of the task; None while that is not known.
        :returns: for each cell how full it is, from 0 to 9; and for each the owner, from which 1 is taken, as a digit
            of base 36, or a dot for none. Two empty texts for a task that has too many pieces.
        """
        count = len(self._owners) if count is None else count
        if count > MOST_PIECES:
            return "", ""
        owners = bytes(self._owners[:count]).ljust(count, b"\0")
        if count <= CELLS:
            return owners.translate(_FILLED).decode(), owners.translate(_OWNED).decode()
        fill, owned = [], []
        for cell in range(CELLS):
            part = owners[-(-cell * count // CELLS) : -(-(cell + 1) * count // CELLS)]
            there = part.replace(b"\0", b"")
            # Only a cell without a gap is full, and only one without a piece is empty.
            fill.append(str(9 if len(there) == len(part) else -(-8 * len(there) // len(part))))
            owned.append(chr(_OWNED[there[len(there) // 2]]) if there else _OWNERS[0])
        return "".join(fill), "".join(owned)


def cells_of(numbers: Iterable[int], count: int | None) -> tuple[int, ...]:
    """The cells in which pieces lie, of a task with so many pieces; None for an unknown number."""
    if count is None or count <= CELLS:
        return tuple(sorted(set(numbers)))
    return tuple(sorted({number * CELLS // count for number in numbers}))
