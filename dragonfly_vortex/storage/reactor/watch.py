"""
Watches the catalog for changes by any process.

Every change touches the catalog's file when it can be read by others
(:class:`~dragonfly_vortex.storage.catalog.Catalog`), which Linux reports by inotify. SQLite's own writes would not
do: they come before the change is on the disk and visible, and nothing comes after it. A process that is killed between
its commit and its touch closes its files with that, which is reported, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath

__all__ = ["INTERVAL", "POLL_INTERVAL", "CatalogWatch"]

INTERVAL = 0.02
"""Seconds between two calls of a subscriber at the least: changes in between are reported in one."""

POLL_INTERVAL = 0.1
"""Seconds between two looks at the catalog's file, where the system reports no changes."""


class CatalogWatch:
    """
    Calls its subscribers after changes. Nothing is watched without a subscriber.

    :param catalog: the catalog's file. SQLite's other files beside it have names that begin with its name.
    :param reactor: where subscribers are called; where it reads descriptors, there is no polling.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, catalog: Path, reactor: IReactorTime) -> None:
        self._catalog = catalog
        self._reactor = reactor
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._stop_watching: Callable[[], None] | None = None
        self._telling: IDelayedCall | None = None
        self._told_at = float("-inf")

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """
        See :meth:`~dragonfly_vortex.interfaces.ITaskStore.subscribe`.

        :param changed: called soon after any row has changed, once for all changes in :data:`INTERVAL`.
        :returns: ends the subscription; it may be called again, for nothing.
        """
        subscription = object()
        self._subscribers[subscription] = changed
        if self._stop_watching is None:
            self._stop_watching = self._watch()

        def unsubscribe() -> None:
            self._subscribers.pop(subscription, None)
            if not self._subscribers:
                self._stop()

        return unsubscribe

    def renew(self) -> None:
        """Follow the catalog's path, which leads to another file or to none, and notify the subscribers."""
        if self._stop_watching is not None:
            self._stop_watching()
            self._stop_watching = self._watch()
            self._changed()

    def _watch(self) -> Callable[[], None]:
        """Begin to watch; returns what ends it."""
        try:
            return self._watch_events()
        except Exception as error:  # no inotify, none left, or no directory yet: each has an error of its own
            self.log.info("changes of the storage are polled for: {reason}", reason=str(error))
            return self._watch_times()

    def _watch_events(self) -> Callable[[], None]:
        """Watch the catalog's directory by inotify."""
        # Importable on Linux only.
        from twisted.internet.inotify import IN_ATTRIB, IN_CLOSE_WRITE, INotify

        name = self._catalog.name.encode()

        def happened(_: object, path: FilePath[bytes], mask: int) -> None:
            if path.basename().startswith(name):
                self._changed()

        notifier = INotify(self._reactor)

        def stop() -> None:
            notifier.stopReading()
            notifier.connectionLost(Failure(ConnectionDone()))

        try:
            notifier.watch(FilePath(str(self._catalog.parent)), mask=IN_ATTRIB | IN_CLOSE_WRITE, callbacks=[happened])
        except BaseException:
            stop()
            raise
        notifier.startReading()
        return stop

    def _watch_times(self) -> Callable[[], None]:
        """Look at the time of the catalog's file again and again."""
        last = self._touched_at()

        def look() -> None:
            nonlocal last
            now = self._touched_at()
            if now != last:
                last = now
                self._changed()

        polling = LoopingCall(look)
        polling.clock = self._reactor
        polling.start(POLL_INTERVAL, now=False)
        return polling.stop

    def _touched_at(self) -> int | None:
        """When the catalog's file was touched, in nanoseconds; None where there is none."""
        try:
            return self._catalog.stat().st_mtime_ns
        except OSError:
            return None

    def _changed(self) -> None:
        """Notify the subscribers of a change, not more often than allowed."""
        if self._telling is None:
            wait = max(0.0, self._told_at + INTERVAL - self._reactor.seconds())
            self._telling = self._reactor.callLater(wait, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._told_at = self._reactor.seconds()
        for changed in list(self._subscribers.values()):
            changed()

    def _stop(self) -> None:
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
        stop_watching, self._stop_watching = self._stop_watching, None
        if stop_watching is not None:
            stop_watching()
