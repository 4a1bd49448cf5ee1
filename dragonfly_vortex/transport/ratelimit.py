"""
A limit on bytes per second, shared by many connections.

A :class:`TokenBucket` goes into debt rather than refuse, and each caller waits for all earlier debts: so the sum is the
limit, however many connections there are and however short they live. A receiver reports the bytes that arrived, and
rests then. A sender asks the :class:`UploadLimiter` first, for at most :attr:`TokenBucket.step` bytes. Those that have
to wait are served in the order of :mod:`dragonfly_vortex.transport.serving_order`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dragonfly_vortex.transport.serving_order import ServingOrder, Turn

__all__ = ["OUT_OF_REACH", "STEPS_PER_SECOND", "TokenBucket", "UploadLimiter"]

OUT_OF_REACH = 20_000_000_000
"""Bytes per second that no process receives, because copying them takes longer: from here on a limit is none."""

STEPS_PER_SECOND = 100

_MAX_STEP = 2 * 1024 * 1024
"""
Bytes that a connection may move in one turn of the reactor, whatever the limit: others want their turn. A turn has its
price, and a socket with a slower reader takes less anyway (measured: docs/tuning.md, "Fair shares").
"""

_BURST_SECONDS = 0.05
"""What may be saved up while nothing moves: enough to make up for a late timer, too little to be seen."""


class TokenBucket:
    """
    A token bucket: it takes the bytes that were moved and returns the seconds to wait.

    :param rate: bytes per second.
    :param clock: the clock; nothing is scheduled on it.
    """

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        if rate < 1:
            raise ValueError(f"expected a rate of at least 1 byte per second, got {rate}")
        self._clock = clock
        self._free_at = float("-inf")  # when all debts will have been paid
        self.change_rate(rate)

    def change_rate(self, rate: int) -> None:
        """
        Go on at another rate. A debt takes the time that it would have taken.

        :param rate: bytes per second.
        """
        self.rate = rate
        self.step = max(1, min(_MAX_STEP, rate // STEPS_PER_SECOND))

    @property
    def debt(self) -> float:
        """Seconds until all that has been moved or reserved is paid for; 0.0 for no debt."""
        return max(0.0, self._free_at - self._clock.seconds())

    @property
    def saved(self) -> int:
        """Bytes that can be moved now without a debt, because a timer was late, say."""
        idle = min(self._clock.seconds() - self._free_at, _BURST_SECONDS)
        return max(0, min(_MAX_STEP, int(idle * self.rate)))

    def spend(self, length: int) -> float:
        """
        Count bytes that have been moved.

        :param length: how many bytes.
        :returns: seconds to rest before more are moved; 0.0 for none.
        """
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + length / self.rate
        return self.debt

    def reserve(self, length: int) -> float:
        """
        Count bytes before they are moved.

        :param length: how many bytes. They count as moved from now on; :meth:`give_back` what is not.
        :returns: seconds to wait until they may be moved; 0.0 for none.
        """
        wait = self.debt
        self.spend(length)
        return wait

    def give_back(self, length: int) -> None:
        """
        Give back bytes that were reserved and will not be moved.

        :param length: how many bytes.
        """
        self._free_at -= length / self.rate


class UploadLimiter(TokenBucket):
    """
    A limit for what a parent sends. Replies that have to wait for it are served in a :class:`ServingOrder`.

    :param rate: bytes per second.
    :param clock: the clock, on which the next reply is scheduled.
    :param waited: called with the seconds for which a reply has waited for the limit.
    """

    def __init__(self, rate: int, clock: IReactorTime, waited: Callable[[float], None] = lambda seconds: None) -> None:
        super().__init__(rate, clock)
        self._waited = waited
        self._since: dict[Turn, float] = {}  # when each began to wait
        self._order = ServingOrder(clock.seconds)
        self._grants: dict[Turn, Callable[[int], None]] = {}
        self._serving: IDelayedCall | None = None

    def try_spend(self, length: int) -> bool:
        """
        Whether bytes may be sent now. They count as sent then; :meth:`give_back` what is not.

        :param length: how many bytes.
        """
        now = self._clock.seconds()
        if self._grants or self._free_at > now:
            return False
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + length / self.rate
        return True

    def give_back(self, length: int) -> None:
        super().give_back(length)
        if self._serving is not None:
            self._serving.reset(self.debt)

    def enter(self, piece: Hashable, left: int, *, is_begun: bool) -> Turn:
        """See :meth:`ServingOrder.enter`."""
        return self._order.enter(piece, left, is_begun=is_begun)

    def wait(self, turn: Turn, grant: Callable[[int], None]) -> None:
        """
        Wait for a reply's next step.

        :param turn: with the number of bytes that are left.
        :param grant: called with the number of bytes that may be sent. They count as sent; :meth:`give_back` what is
            not.
        """
        self._grants[turn] = grant
        self._since[turn] = self._clock.seconds()
        self._order.wait(turn)
        self._serve_later()

    def leave(self, turn: Turn, *, is_whole: bool) -> None:
        """See :meth:`ServingOrder.leave`."""
        self._order.leave(turn, is_whole=is_whole)
        self._count_wait(turn)
        if self._grants.pop(turn, None) is not None and not self._grants and self._serving is not None:
            self._serving.cancel()
            self._serving = None

    def spend_in_turn(self, piece: Hashable, length: int) -> Deferred[None]:
        """
        Wait for the turn of a reply that is sent at once. A long one waits until its bytes are paid for, step by step,
        but for those of the last twentieth of a second: else all other replies would wait until its debt is paid.
        Cancelling the Deferred ends the waiting.

        :param piece: identifies the piece.
        :param length: bytes of the reply. They count as sent when the Deferred fires.
        :returns: fires when the reply may be sent.
        """
        if length <= self.rate * _BURST_SECONDS and self.try_spend(length):
            self.sent(piece)
            return succeed(None)
        turn = self.enter(piece, length, is_begun=False)

        def grant(granted: int) -> None:
            turn.left -= granted
            if turn.left > self.rate * _BURST_SECONDS:
                self.wait(turn, grant)
                return
            self.spend(turn.left)
            self.leave(turn, is_whole=True)
            done.callback(None)

        def cancel(_: Deferred[None]) -> None:
            self.leave(turn, is_whole=False)
            self.give_back(length - turn.left)

        done: Deferred[None] = Deferred(cancel)
        self.wait(turn, grant)
        return done

    def sent(self, piece: Hashable) -> None:
        """See :meth:`ServingOrder.sent`."""
        self._order.sent(piece)

    def _serve_later(self) -> None:
        if self._serving is None and self._grants:
            self._serving = self._clock.callLater(self.debt, self._serve)

    def _serve(self) -> None:
        self._serving = None
        while not self.debt and (turn := self._order.next()) is not None:
            length = min(turn.left, max(self.step, self.saved))
            self.spend(length)
            self._count_wait(turn)
            self._grants.pop(turn)(length)
        self._serve_later()

    def _count_wait(self, turn: Turn) -> None:
        """Count the time for which a reply has waited, if it has."""
        since = self._since.pop(turn, None)
        if since is not None:
            self._waited(self._clock.seconds() - since)
