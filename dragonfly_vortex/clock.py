"""
Makes a reactor use the monotonic clock. Twisted's reactors use the system's clock, which NTP, an administrator or a
resumed virtual machine may set forward or back, with all timers and limiters.
"""

from __future__ import annotations

import time

from twisted.internet.interfaces import IReactorTime

__all__ = ["use_monotonic_clock"]


def use_monotonic_clock(reactor: IReactorTime) -> None:
    """
    Make a reactor, and everything that uses its time, count by the monotonic clock.

    Call it before anything else uses the reactor. A call that is scheduled already keeps the seconds that it has left.
    Afterwards ``reactor.seconds()`` is no date: what is shown or stored takes ``time.time()``.

    :param reactor: any of Twisted's.
    """
    scheduled = [(call, call.getTime() - reactor.seconds()) for call in reactor.getDelayedCalls()]
    setattr(reactor, "seconds", time.monotonic)  # noqa: B010  # mypy takes it for a method
    for call, left in scheduled:
        setattr(call, "seconds", time.monotonic)  # noqa: B010  # of twisted.internet.base.DelayedCall
        call.reset(max(0.0, left))
