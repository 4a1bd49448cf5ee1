"""A clock for code that also uses gRPC's thread."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.internet.task import Clock

__all__ = ["ClockReactor"]


class ClockReactor(Clock):
    """A clock that the test moves, with the real reactor's threads."""

    callFromThread = staticmethod(IReactorFromThreads(reactor).callFromThread)
    addSystemEventTrigger = staticmethod(IReactorCore(reactor).addSystemEventTrigger)
    removeSystemEventTrigger = staticmethod(IReactorCore(reactor).removeSystemEventTrigger)
