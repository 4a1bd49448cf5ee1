"""
Runs the reactor for one piece of work, for commands that need it.

Names are looked up in daemon threads, for which the process does not wait at its end. The system gives a name server
half a minute, and cannot be interrupted. Twisted resolves in the reactor's pool, whose threads are all waited for in
the end: a command would have failed, or have its file, and not end.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, TypeVar, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.cli.exit_status import STATUS_OF_SIGNAL, ExitStatus, on_signals
from dragonfly_vortex.clock import use_monotonic_clock
from dragonfly_vortex.errors import TimedOut

if TYPE_CHECKING:
    from dragonfly_vortex.daemon.door import IPeerReactor

__all__ = ["UnawaitedResolver", "load_reactor", "run_reactor"]

_T = TypeVar("_T")

_PATIENCE = 5.0
"""
Seconds that a command has to tidy up after a signal or its time. A storage may wait for the lock of a process that is
frozen.
"""


def load_reactor(*, needs_tls: bool) -> IPeerReactor:
    """
    Twisted's reactor, with a clock that does not jump. Without TLS it is loaded as it is where pyOpenSSL, which Twisted
    can do without, is not installed: that takes two thirds of the time.

    :param needs_tls: whether the command may need TLS later.
    """
    if not needs_tls and "OpenSSL" not in sys.modules:
        sys.modules["OpenSSL"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        from twisted.internet import endpoints, reactor  # noqa: F401  # the former looks for OpenSSL, too
    finally:
        if sys.modules.get("OpenSSL", True) is None:
            del sys.modules["OpenSSL"]
    loaded = cast("IPeerReactor", reactor)
    use_monotonic_clock(loaded)
    IReactorPluggableNameResolver(loaded).installNameResolver(UnawaitedResolver(loaded))
    return loaded


def run_reactor(reactor: IPeerReactor, work: Callable[[], Deferred[_T]], timeout: float | None) -> _T | ExitStatus:
    """
    Run the reactor until the work is done. A signal cancels it, and it has :data:`_PATIENCE` to tidy up.

    :param timeout: seconds after which it is cancelled, too; None for no limit.
    :returns: what the work gave, or the status for the signal that ended it.
    :raises TimedOut: it took too long.
    :raises Exception: what the work failed with.
    """
    outcomes: list[_T | Failure] = []
    causes: list[ExitStatus | TimedOut] = []  # why it was cancelled

    def begin() -> None:
        working = work()

        def cancel(cause: ExitStatus | TimedOut) -> None:
            causes.append(cause)
            reactor.callLater(_PATIENCE, stop)
            working.cancel()

        def interrupt(number: int, frame: FrameType | None) -> None:
            reactor.callFromThread(cancel, STATUS_OF_SIGNAL[signal.Signals(number)])

        # Not earlier: a reactor sets its own handlers when it starts to run.
        on_signals(interrupt, *STATUS_OF_SIGNAL)
        working.addBoth(outcomes.append)
        working.addBoth(stop)
        if timeout is not None and not outcomes:
            reactor.callLater(timeout, cancel, TimedOut(timeout))

    def stop(_: object = None) -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    for outcome in outcomes:
        if not isinstance(outcome, Failure):
            return outcome
        if not causes or not outcome.check(CancelledError):
            outcome.raiseException()
    # It was cancelled, or not done in time; or a signal came after the reactor's handlers and before ours.
    cause = causes[0] if causes else ExitStatus.INTERRUPTED
    if isinstance(cause, TimedOut):
        raise cause
    return cause


_FAMILIES: dict[int, type[IPv4Address] | type[IPv6Address]] = {
    socket.AF_INET: IPv4Address,
    socket.AF_INET6: IPv6Address,
}


@implementer(IHostResolution)
class _Resolution:
    """
    A name that is being resolved.

    :param name: the name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_cancelled = False

    def cancel(self) -> None:
        """Drop the result."""
        self.is_cancelled = True


@implementer(IHostnameResolver)
class UnawaitedResolver:
    """
    Resolves names by the system, in a daemon thread for each name, so that the process can end before the answer.

    :param reactor: receives the addresses in its thread.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See :meth:`twisted.internet.interfaces.IHostnameResolver.resolveHostName`. All is for TCP here."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(hostName, portNumber, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):  # no host has that name, or it is no valid name
                found = []
            addresses = [_FAMILIES[family]("TCP", *place) for family, _, _, _, place in found if family in _FAMILIES]
            self._reactor.callFromThread(deliver, addresses)

        def deliver(addresses: Sequence[IPv4Address | IPv6Address]) -> None:
            if resolution.is_cancelled:
                return
            for address in addresses:
                if addressTypes is None or isinstance(address, tuple(addressTypes)):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        Thread(target=look_up, name=f"resolving {hostName}", daemon=True).start()
        return resolution
