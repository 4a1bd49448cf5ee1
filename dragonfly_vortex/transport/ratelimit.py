"""
A limit on bytes per second, shared by many connections.

A sender asks first, for at most :attr:`TokenBucket.step` bytes, and waits for as long as the bucket says. A receiver
reports the bytes that arrived, and rests then. The bucket goes into debt rather than refuse, and each caller waits for
all earlier debts: so connections take turns in the order in which they asked, none starves, and the sum is
the limit, however many connections there are and however short they live.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

__all__ = ["TokenBucket"]

_STEPS_PER_SECOND = 100

_MAX_STEP = 2 * 1024 * 1024
"""
Bytes that a connection may move in one turn of the reactor, whatever the limit: others want their turn. A turn has its
price, and a socket with a slower reader takes less anyway (measured: docs/tuning.md, "Fair shares").
"""

_BURST_SECONDS = 0.05
"""What may be saved up while nothing moves: enough to make up for a late timer, too little to be seen."""


class TokenBucket:
    """
    Spend bytes, get seconds to wait.

    :param rate: bytes per second.
    :param clock: tells the time; nothing is scheduled on it.
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
        self.step = max(1, min(_MAX_STEP, rate // _STEPS_PER_SECOND))

    @property
    def debt(self) -> float:
        """Seconds until all that has been moved or reserved is paid for; 0.0 for no debt."""
        return max(0.0, self._free_at - self._clock.seconds())

    def spend(self, length: int) -> float:
        """
        Tell of bytes that have been moved.

        :param length: how many bytes.
        :returns: seconds to rest before more are moved; 0.0 for none.
        """
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + length / self.rate
        return self.debt

    def reserve(self, length: int) -> float:
        """
        Ask for bytes before they are moved.

        :param length: how many bytes. They count as moved from now on; :meth:`give_back` what is not.
        :returns: seconds to wait until they may be moved; 0.0 for none.
        """
        wait = self.debt
        self.spend(length)
        return wait

    def give_back(self, length: int) -> None:
        """
        Tell of bytes that were reserved and will not be moved.

        :param length: how many bytes.
        """
        self._free_at -= length / self.rate
