"""
Who waits until nothing of something is left: threads at work, open connections.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

__all__ = ["Ending"]


class Ending:
    """
    Tells those who wait for the end that it has come. It may come more than once.

    :param is_over: whether nothing is left.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._waiting: list[Deferred[None]] = []

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for it."""
        return bool(self._waiting)

    def wait(self) -> Deferred[None]:
        """Fires when nothing is left, which may be at once."""
        over: Deferred[None] = Deferred()
        self._waiting.append(over)
        self.look()
        return over

    def look(self) -> None:
        """See whether it has come: to be called when something has ended, after all else that this is the cause of."""
        if self._waiting and self._is_over():
            waiting, self._waiting = self._waiting, []
            for over in waiting:
                over.callback(None)
