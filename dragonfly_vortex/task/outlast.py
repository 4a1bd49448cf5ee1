"""Waiting that is not given up: what has been begun in a thread goes on to its end, whoever cancels the waiting."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

__all__ = ["outlast"]

_T = TypeVar("_T")


async def outlast(deferred: Deferred[_T], *, forget_cancellation: bool = False) -> _T:
    """
    Wait for a Deferred to its end even if the waiting is cancelled: a thread, for one, goes on all the same.

    :param forget_cancellation: whether a cancellation is then forgotten, and not raised.
    :raises CancelledError: it was cancelled, and has come to a good end.
    """
    outcome: list[_T | Failure] = []
    sleeper: Deferred[None] = Deferred()

    def wake(result: _T | Failure) -> None:
        # The outcome is taken here: while its callbacks run a Deferred that has failed cannot be awaited.
        outcome.append(result)
        if not sleeper.called:
            sleeper.callback(None)

    deferred.addBoth(wake)
    is_cancelled = False
    while not outcome:
        try:
            await sleeper
        except CancelledError:
            is_cancelled = True
            sleeper = Deferred()
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    if is_cancelled and not forget_cancellation:
        raise CancelledError
    return result
