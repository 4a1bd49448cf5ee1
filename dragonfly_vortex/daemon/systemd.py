"""
systemd's side of a daemon: it hands over listening sockets (sd_listen_fds(3)), and hears when the daemon serves, goes
on serving, and ends (sd_notify(3)). Where systemd does not run, nothing of this does anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.systemd import ListenFDs

__all__ = ["Notifier", "inherited_sockets"]

_FIRST = 3
"""The first descriptor that is given."""

_LOOK = 0.1
"""Seconds after which it is seen again whether the peer serves."""


def inherited_sockets() -> dict[int, socket.socket]:
    """
    The listening TCP sockets that this process was given, by their ports. They are not inherited further.

    :returns: none where it was given none, and at a second call.
    """
    found = {}
    for descriptor in _inherited_descriptors():
        try:
            os.set_inheritable(descriptor, False)
            own = os.dup(descriptor)
        except OSError:  # it is closed
            continue
        try:
            given = socket.socket(fileno=own)
        except OSError:  # it is no socket
            os.close(own)
            continue
        if _listens(given):
            given.setblocking(False)
            found[int(given.getsockname()[1])] = given
        else:
            given.close()
    return found


def _listens(given: socket.socket) -> bool:
    """Whether it is a TCP socket that listens. At another one the reactor would wait for connections without end."""
    is_tcp = given.family in (socket.AF_INET, socket.AF_INET6) and given.type == socket.SOCK_STREAM
    return is_tcp and bool(given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _inherited_descriptors() -> list[int]:
    """
    The numbers of what this process was given.

    Twisted's ``ListenFDs`` takes two of the three variables out of the environment, and importing Twisted's endpoints
    makes one (26.10). The third one, with a name for each descriptor, is left, and says the same then.
    """
    given = ListenFDs.fromEnvironment().inheritedDescriptors()
    names = os.environ.pop("LISTEN_FDNAMES", "")
    if given or not names or "LISTEN_FDS" in os.environ:  # for another process
        return given
    return list(range(_FIRST, _FIRST + len(names.split(":"))))


class Notifier(Service):
    """
    Reports to systemd that the peer serves, that it goes on doing so (``WatchdogSec=``), and that it ends.

    :param clock: for the next look.
    :param serves: whether the peer serves now.
    :param environment: with the variables of systemd, which are removed: no process that this one starts is meant.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, serves: Callable[[], bool], environment: MutableMapping[str, str] = os.environ
    ) -> None:
        self._serves = serves
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watchdog, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_watched = watchdog.isdigit() and pid in ("", str(os.getpid()))
        self._interval = int(watchdog) / 2 / 1_000_000 if is_watched else None
        self._clock = clock
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        Service.startService(self)
        if self._address:
            self._next = self._clock.callLater(_LOOK, self._look)

    def stopService(self) -> None:
        Service.stopService(self)
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._send("STOPPING=1")

    def _look(self) -> None:
        """Check whether the peer serves."""
        if not self._serves():
            self._next = self._clock.callLater(_LOOK, self._look)
            return
        self._send("READY=1")
        self._go_on()

    def _go_on(self) -> None:
        """Say later that the peer goes on, if systemd wants to know, and so on."""
        if self._interval is not None:
            self._next = self._clock.callLater(self._interval, self._still_there)

    def _still_there(self) -> None:
        self._send("WATCHDOG=1")
        self._go_on()

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifying:
                notifying.setblocking(False)
                notifying.sendto(state.encode(), address)
        except OSError as error:
            self.log.warn("the state {state} cannot be sent to systemd: {reason}", state=state, reason=error.strerror)
