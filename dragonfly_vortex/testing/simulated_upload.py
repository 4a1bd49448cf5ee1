"""
The upload of a simulated peer: which of the pieces that are asked for are served at the same time, and how far each is.

The pieces that are served share the peer's rate in equal parts. The time of such a link can be counted in turns: in a
turn each piece that is served gets one byte more, so a piece ends at the turn of its beginning plus its length,
whatever comes and goes meanwhile. So nothing but the next end has to be calculated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from dragonfly_vortex.task.scheduler import Request

__all__ = ["AllAtOnce", "InTurn", "ServingOrder", "Transfer", "Upload"]


@dataclass(slots=True, kw_only=True, eq=False)
class Transfer:
    """
    A piece that a child has asked of a parent.

    :param child: the number of the child.
    :param number: the number of the piece.
    :param length: bytes of it.
    :param until: the turn of the upload at which all of it has left; None while it waits, and when it has left.
    :param is_over: whether the child has its answer, or has given it up.
    """

    child: int
    number: int
    length: int
    request: Request
    until: float | None = None
    is_over: bool = False


class ServingOrder(Protocol):
    """Which of the pieces that were asked of a parent are served now."""

    def add(self, transfer: Transfer) -> None:
        """A piece has been asked for."""

    def remove(self, transfer: Transfer) -> None:
        """A piece has been sent, or is not wanted any more."""

    def next(self) -> Transfer | None:
        """A piece to be served from now on beside those that are; None for no more."""


class AllAtOnce:
    """Serve everything as soon as it is asked for."""

    def __init__(self) -> None:
        self._waiting: list[Transfer] = []

    def add(self, transfer: Transfer) -> None:
        """See :class:`ServingOrder`."""
        self._waiting.append(transfer)

    def remove(self, transfer: Transfer) -> None:
        """See :class:`ServingOrder`."""

    def next(self) -> Transfer | None:
        """See :class:`ServingOrder`."""
        return self._waiting.pop() if self._waiting else None


class InTurn:
    """
    Serve few pieces at a time: first those that have left least often, and of these in the order of the requests.

    :param slots: how many pieces are served at the same time.
    """

    def __init__(self, slots: int = 2) -> None:
        self._slots = slots
        self._waiting: list[Transfer] = []
        self._served: set[Transfer] = set()
        self._left: Counter[int] = Counter()

    def add(self, transfer: Transfer) -> None:
        """See :class:`ServingOrder`."""
        self._waiting.append(transfer)

    def remove(self, transfer: Transfer) -> None:
        """See :class:`ServingOrder`."""
        self._served.discard(transfer)
        if transfer in self._waiting:
            self._waiting.remove(transfer)

    def next(self) -> Transfer | None:
        """See :class:`ServingOrder`."""
        if not self._waiting or len(self._served) >= self._slots:
            return None
        transfer = min(self._waiting, key=lambda each: self._left[each.number])
        self._waiting.remove(transfer)
        self._served.add(transfer)
        self._left[transfer.number] += 1
        return transfer


class Upload:
    """
    The link of one parent.

    :param order: which pieces are served.
    :param rate: bytes per second.
    :param clock: tells the time, in seconds.
    :param later: has something called, after seconds.
    :param on_begin: called with each piece that is served from now on.
    :param on_end: called with each piece that has left.
    """

    def __init__(
        self,
        order: ServingOrder,
        rate: float,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
        on_begin: Callable[[Transfer], None],
        on_end: Callable[[Transfer], None],
    ) -> None:
        self._order = order
        self._rate = rate
        self._clock = clock
        self._later = later
        self._on_begin = on_begin
        self._on_end = on_end
        self._waiting: dict[Transfer, None] = {}  # in their order
        self._served: dict[Transfer, None] = {}
        self._turn = 0.0
        self._turn_at = 0.0
        self._changes = 0

    @property
    def transfers(self) -> list[Transfer]:
        """The pieces that are served or wait."""
        return [*self._served, *self._waiting]

    def add(self, transfer: Transfer) -> None:
        """A piece is asked for."""
        self._waiting[transfer] = None
        self._order.add(transfer)
        self._change()

    def remove(self, transfer: Transfer) -> int:
        """A piece is not wanted any more. The bytes of it that have left."""
        if transfer not in self._served and transfer not in self._waiting:
            return 0
        sent = self.sent(transfer)
        self._advance()
        self._served.pop(transfer, None)
        self._waiting.pop(transfer, None)
        self._order.remove(transfer)
        self._change()
        return sent

    def sent(self, transfer: Transfer) -> int:
        """The bytes of a piece that have left by now."""
        if transfer not in self._served or transfer.until is None:
            return 0
        self._advance()
        return max(0, transfer.length - round(transfer.until - self._turn))

    def _advance(self) -> None:
        """See which turn it is."""
        now = self._clock()
        if self._served:
            self._turn += (now - self._turn_at) * self._rate / len(self._served)
        self._turn_at = now

    def _change(self) -> None:
        """Serve what can be served, and see when the next piece will have left."""
        self._advance()
        while (transfer := self._order.next()) is not None:
            del self._waiting[transfer]
            self._served[transfer] = None
            transfer.until = self._turn + transfer.length
            self._on_begin(transfer)
        self._changes += 1
        if self._served:
            first = min(self._served, key=lambda each: each.until or 0.0)
            seconds = ((first.until or 0.0) - self._turn) * len(self._served) / self._rate
            self._later(max(0.0, seconds), partial(self._end, first, self._changes))

    def _end(self, transfer: Transfer, changes: int) -> None:
        """A piece has left, unless something has changed since that was calculated."""
        if changes != self._changes:
            return
        self._advance()
        del self._served[transfer]
        transfer.until = None
        self._order.remove(transfer)
        self._on_end(transfer)
        self._change()
