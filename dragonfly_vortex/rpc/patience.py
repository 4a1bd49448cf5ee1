"""
When a parent is asked again whose list of pieces has ended early, and when it is taken at its word: there will be no
more. One that has more to come keeps the stream open.
"""

from __future__ import annotations

__all__ = ["Patience"]

_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a list is asked for again: the first time, the second, and so on. News begin anew."""

_MOST_FRUITLESS = 3
"""How often a parent may answer at once and tell nothing new."""

_AT_ONCE = 2.0
"""Seconds within which an answer is given at once."""


class Patience:
    """The patience with one parent, about one task."""

    def __init__(self) -> None:
        self._pauses = 0
        self._fruitless = 0

    def pause(self, *, is_new: bool, seconds: float) -> float | None:
        """
        A list has ended early.

        :param is_new: whether it has told anything new.
        :param seconds: that it has taken, from the question to its end.
        :returns: seconds to wait before it is asked for again; None for never.
        """
        if is_new:
            self._pauses = self._fruitless = 0
        elif seconds >= _AT_ONCE:
            self._fruitless = 0
        else:
            self._fruitless += 1
        if self._fruitless >= _MOST_FRUITLESS:
            return None
        pause = _PAUSES[min(self._pauses, len(_PAUSES) - 1)]
        self._pauses += 1
        return pause
