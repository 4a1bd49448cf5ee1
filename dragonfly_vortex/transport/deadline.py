"""A time-out that counts from the last progress: what goes on, however slowly, is not cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["add_deadline"]

_T = TypeVar("_T")

_LOOK_INTERVAL = 1.0
"""Seconds between two looks at the progress at the most."""


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
    :param since: tells when there was progress last, or when there can have been any at the earliest.
    :param too_late: makes what it fails with then, of what it would have fired with.
    :param look: called about once a second, before ``since``: see whether there is progress.
    :returns: the same Deferred.
    """
    is_late = False
    checking: IDelayedCall

    def check() -> None:
        nonlocal is_late, checking
        look()
        left = since() + timeout - clock.seconds()
        if left > 0:
            checking = clock.callLater(min(left, _LOOK_INTERVAL), check)
        else:
            is_late = True
            deferred.cancel()

    def ended(outcome: _T | Failure) -> _T | Failure:
        if checking.active():
            checking.cancel()
        return too_late(outcome) if is_late else outcome

    checking = clock.callLater(min(timeout, _LOOK_INTERVAL), check)
    return deferred.addBoth(ended)
