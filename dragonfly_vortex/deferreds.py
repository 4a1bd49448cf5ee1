"""
Helpers that wait for Deferreds: until a count is zero, until all have fired, to the end in spite of a cancellation,
only as long as there is progress, with a call where it takes too long, or for a lock that many wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["LOOK_INTERVAL", "Ending", "FlatLock", "add_deadline", "call_if_late", "failures_of", "outlast"]

_T = TypeVar("_T")

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the progress at the most."""


class Ending:
    """
    Fires Deferreds when a count is zero, such as that of threads at work or of open connections. The count may rise
    again later, and reach zero again.

    :param is_over: returns whether nothing is left.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._waiting: list[Deferred[None]] = []

    @property
    def is_awaited(self) -> bool:
        """Whether a Deferred of :meth:`wait` has not fired yet."""
        return bool(self._waiting)

    def wait(self) -> Deferred[None]:
        """Fires when the count is zero, which may be at once."""
        over: Deferred[None] = Deferred()
        self._waiting.append(over)
        self.look()
        return over

    def look(self) -> None:
        """
        Fire the Deferreds if the count is zero. Call this when something has ended, and its consequences are done.
        """
        if self._waiting and self._is_over():
            waiting, self._waiting = self._waiting, []
            for over in waiting:
                over.callback(None)


class FlatLock(DeferredLock):
    """
    A lock for any number of holders that release at once. Twisted's :meth:`release` calls the next holder from inside
    itself: some hundred that do not wait for anything then exceed Python's depth of calls, and nothing is released any
    more.
    """

    _releases = 0

    def release(self) -> None:
        """Release. Inside the release of the holder before, that is done when this one has returned."""
        self._releases += 1
        if self._releases > 1:
            return
        while self._releases:
            super().release()
            self._releases -= 1


async def failures_of(deferreds: Iterable[Deferred[Any]]) -> list[Failure]:
    """
    Wait until all Deferreds have fired, also where some fail.

    :returns: what has failed, in the order of the Deferreds.
    """
    results = await DeferredList(deferreds, consumeErrors=True)
    return [result for is_success, result in results if not is_success]


async def outlast(
    deferred: Deferred[_T], *, forget_cancellation: bool = False, cancelled: Callable[[], None] = lambda: None
) -> _T:
    """
    Wait for a Deferred to its end even if the wait is cancelled: a thread, for example, cannot be stopped.

    :param forget_cancellation: whether a cancellation is then forgotten, and not raised.
    :param cancelled: called at a cancellation.
    :raises CancelledError: it was cancelled, and the wait then ended without an error.
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
            cancelled()
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    if is_cancelled and not forget_cancellation:
        raise CancelledError
    return result


def add_deadline(
    deferred: Deferred[_T],
    clock: IReactorTime,
    timeout: float,
    *,
    since: Callable[[], float],
    too_late: Callable[[_T | Failure], Failure],
    look: Callable[[], None] = lambda: None,
) -> Deferred[_T]:
    """
    Cancel a Deferred when there has been no progress for too long.

    :param timeout: seconds without progress.
    :param since: says when there was progress last, or when there can have been any at the earliest.
    :param too_late: makes what it fails with then, of what it would have fired with.
    :param look: called about once a second, before ``since``: see whether there is progress. The Deferred may fire
        because of it.
    :returns: the same Deferred.
    """
    is_late = is_over = False
    checking: IDelayedCall

    def check() -> None:
        nonlocal is_late, checking
        look()
        if is_over:
            return
        left = since() + timeout - clock.seconds()
        if left > 0:
            checking = clock.callLater(min(left, LOOK_INTERVAL), check)
        else:
            is_late = True
            deferred.cancel()

    def ended(outcome: _T | Failure) -> _T | Failure:
        nonlocal is_over
        is_over = True
        if checking.active():
            checking.cancel()
        return too_late(outcome) if is_late else outcome

    checking = clock.callLater(min(timeout, LOOK_INTERVAL), check)
    return deferred.addBoth(ended)


def call_if_late(
    deferred: Deferred[_T], clock: IReactorTime, timeout: float, too_late: Callable[[], object]
) -> Deferred[_T]:
    """
    Call a function if a Deferred has not fired in time. The Deferred is not cancelled.

    :param timeout: seconds.
    :returns: the same Deferred.
    """
    late = clock.callLater(timeout, too_late)

    def ended(outcome: _T | Failure) -> _T | Failure:
        if late.active():
            late.cancel()
        return outcome

    return deferred.addBoth(ended)
