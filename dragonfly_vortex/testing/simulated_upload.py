"""The upload of a simulated peer: the steps of a limited rate, in the order of the real :class:`ServingOrder`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dragonfly_vortex.task.scheduler import Request
from dragonfly_vortex.transport.serving_order import ServingOrder, Turn

__all__ = ["Transfer", "Upload"]

_STEPS_PER_SECOND = 100
"""As in :mod:`dragonfly_vortex.transport.ratelimit`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Transfer:
    """
    A piece that a child has asked of a parent.

    :param child: the number of the child.
    :param number: the number of the piece.
    :param length: bytes of it.
    :param until: bytes after which the parent sends no more; all of them as a rule.
    :param sent: bytes that have left.
    :param is_over: whether the child has its answer, or has given it up.
    """

    child: int
    number: int
    length: int
    request: Request
    until: int = -1
    sent: int = 0
    is_over: bool = False

    def __post_init__(self) -> None:
        if self.until < 0:
            self.until = self.length


class Upload:
    """
    The link of one parent. Its rate goes to one step after the other.

    :param rate: bytes per second.
    :param clock: the time in seconds.
    :param later: has something called, after seconds.
    :param on_end: called with each piece that has left, as far as it is sent.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
        on_end: Callable[[Transfer], None],
    ) -> None:
        self._rate = rate
        self._order = ServingOrder(clock)
        self._later = later
        self._on_end = on_end
        self._turns: dict[Transfer, Turn] = {}
        self._transfers: dict[Turn, Transfer] = {}
        self._is_busy = False

    @property
    def transfers(self) -> list[Transfer]:
        """The pieces that have not left, in the order of the requests."""
        return list(self._turns)

    def add(self, transfer: Transfer) -> None:
        """A piece is asked for."""
        turn = self._order.enter(transfer.number, transfer.until)
        self._turns[transfer], self._transfers[turn] = turn, transfer
        self._order.wait(turn)
        self._serve()

    def remove(self, transfer: Transfer) -> None:
        """A piece is not wanted any more."""
        turn = self._turns.pop(transfer, None)
        if turn is not None:
            del self._transfers[turn]
            self._order.leave(turn, is_whole=False)

    def _serve(self) -> None:
        """Send the next step, when the one before has left."""
        if self._is_busy or (turn := self._order.next()) is None:
            return
        self._is_busy = True
        length = min(turn.left, max(1, int(self._rate / _STEPS_PER_SECOND)))
        self._later(length / self._rate, partial(self._sent, turn, length))

    def _sent(self, turn: Turn, length: int) -> None:
        """A step has left; that of a piece which is not wanted any more has left in vain."""
        self._is_busy = False
        transfer = self._transfers.get(turn)
        if transfer is not None:
            turn.left -= length
            transfer.sent += length
            if turn.left:
                self._order.wait(turn)
            else:
                del self._turns[transfer], self._transfers[turn]
                self._order.leave(turn, is_whole=True)
                self._on_end(transfer)
        self._serve()
