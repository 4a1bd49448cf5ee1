"""Deferreds that fire when a condition of a test is true."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

__all__ = ["Conditions"]


class Conditions:
    """Waits for conditions; the code that changes one calls :meth:`look`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when the condition is true, now or later."""
        reached: Deferred[None] = Deferred()
        self._waiting.append((condition, reached))
        self.look()
        return reached

    def look(self) -> None:
        """Fire the Deferreds whose condition is true."""
        due = [waiting for waiting in self._waiting if waiting[0]()]
        for waiting in due:
            self._waiting.remove(waiting)
        for _, reached in due:
            reached.callback(None)
