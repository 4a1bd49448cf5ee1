"""What the callers of a download want of its content: all of it, or ranges. No I/O, clock or reactor."""

from __future__ import annotations

from collections.abc import Sequence

from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.model import ByteRange

__all__ = ["Wanted"]


class Wanted:
    """The part of a task that is wanted first, or alone. At the beginning all is wanted, and nothing first."""

    def __init__(self) -> None:
        self.ranges: Sequence[ByteRange] = ()
        """What is wanted first."""
        self.is_all = True
        """Whether the rest is wanted, too."""
        self._cut: tuple[Sequence[ByteRange], int, int] = (), 0, 0  # what the numbers below were calculated from
        self._numbers: list[int] = []

    def numbers(self, content_length: int | None, piece_length: int | None) -> list[int] | None:
        """
        The numbers of the pieces that are wanted first, or alone, in order.

        :param content_length: bytes of the task; None while that is unknown.
        :param piece_length: bytes of each piece but the last; None while that is unknown.
        :returns: None where that is not known yet, or nothing is wanted before the rest. Of a content that has
            nothing of the ranges, the first piece. The same list as long as nothing has changed.
        """
        if not self.ranges or content_length is None or not piece_length:
            return None
        cut = (tuple(self.ranges), content_length, piece_length)
        if cut == self._cut:
            return self._numbers
        numbers: set[int] = set()
        for wanted in self.ranges:
            first, end = wanted.within(content_length)
            if first < end:
                numbers.update(range(first // piece_length, piece_count(end, piece_length)))
        # With a piece a caller hears how long the content is, and that it has no more.
        self._cut, self._numbers = cut, sorted(numbers) or [0]
        return self._numbers
