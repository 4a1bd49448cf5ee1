"""An announcer played in memory: a test says what its parent says."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.wire import PieceKind

__all__ = ["PlayedAnnouncer"]


@implementer(IPieceAnnouncer)
class PlayedAnnouncer:
    """
    Tells what the test calls, from :meth:`start` until it is stopped.

    :ivar tell_layout: tells content length and piece length, in bytes.
    :ivar tell_piece: tells number, offset and length of a piece.
    :ivar tell_end: reports the end, and whether all has been announced.
    :ivar asked: the kind and the task that it was asked for.
    :ivar is_stopped: whether the subscription has ended.
    """

    def __init__(self) -> None:
        self.tell_layout: Callable[[int | None, int | None], None]
        self.tell_piece: Callable[[int, int, int], None]
        self.tell_end: Callable[[bool], None]
        self.asked: tuple[PieceKind, str] | None = None
        self.is_stopped = False

    def start(
        self,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        """Begin to listen to the test."""
        self.asked = kind, task_id
        self.tell_layout, self.tell_piece, self.tell_end = on_layout, on_piece, on_end
        return self.stop

    def stop(self) -> None:
        """Listen no more."""
        self.is_stopped = True
