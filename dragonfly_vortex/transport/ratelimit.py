"""
A limit on bytes per second, shared by many connections.

Whoever moves bytes moves at most :attr:`TokenBucket.step` of them, tells the bucket, and rests for as long as it
says. The bucket goes into debt rather than refuse, and every debtor waits for all debts before its own: so
connections take turns in the order in which they came, none starves, and the sum is the limit.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

__all__ = ["TokenBucket"]

_STEPS_PER_SECOND = 100
_MAX_STEP = (
    512 * 1024
)  # bytes a connection may move in one turn of the reactor, whatever the limit: others want their turn
_BURST_SECONDS = (
    0.05  # what may be saved up while nothing moves: enough to make up for a late timer, too little to be seen
)


class TokenBucket:
    """
    Spend bytes, get seconds to wait.

    :param rate: bytes per second.
    :param clock: tells the time; nothing is scheduled on it.
    """

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        if rate < 1:
            raise ValueError(f"expected a rate of at least 1 byte per second, got {rate}")
        self.rate = rate
        self.step = max(1, min(_MAX_STEP, rate // _STEPS_PER_SECOND))
        self._clock = clock
        self._free_at = float("-inf")  # when all debts will have been paid

    def spend(self, length: int) -> float:
        """
        Tell of bytes that have been moved.

        :param length: how many bytes.
        :returns: seconds to rest before more are moved; 0.0 for none.
        """
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + length / self.rate
        return max(0.0, self._free_at - now)
