"""An announcer played in memory: a test says what its parent says."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from zope.interface import implementer

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.wire import PieceKind

__all__ = ["PlayedAnnouncer"]


@implementer(IPieceAnnouncer)
class PlayedAnnouncer:
    """
    Tells what the test calls, from :meth:`start` until it is stopped.

    :param clock: the reactor's: the turn in which something is told ends at once. None where the test ends it.
    :ivar tell_layout: tells content length and piece length, in bytes.
    :ivar tell_piece: tells number, offset and length of a piece.
    :ivar tell_end: reports the end, and whether all has been announced.
    :ivar asked: the kind and the task that it was asked for.
    :ivar is_stopped: whether the subscription has ended.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock
        """Which a test may take away, to tell several things in one turn."""
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

        def tell_layout(content_length: int | None, piece_length: int | None) -> None:
            on_layout(content_length, piece_length)
            self._end_turn()

        def tell_piece(number: int, offset: int, length: int) -> None:
            on_piece(number, offset, length)
            self._end_turn()

        def tell_end(finished: bool) -> None:
            on_end(finished)
            self._end_turn()

        self.tell_layout, self.tell_piece, self.tell_end = tell_layout, tell_piece, tell_end
        return self.stop

    def _end_turn(self) -> None:
        """End the turn of the reactor."""
        if self.clock is not None:
            self.clock.advance(0)

    def stop(self) -> None:
        """Listen no more."""
        self.is_stopped = True
