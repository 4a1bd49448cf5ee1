"""
A logger for lines that strangers can cause: it writes a limited number of each kind in a minute, and counts the rest.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

__all__ = ["LINES", "SECONDS", "LimitedLog"]

LINES = 20
"""Lines of one kind that are logged in one period."""

SECONDS = 60.0
"""How long a period is. It begins with the first line of its kind."""


class _Period(Struct):
    """The lines of one kind that were logged in a period, and those left out."""

    began: float
    logged: int = 0
    left_out: int = 0
    ending: IDelayedCall | None = None


class LimitedLog:
    """
    Logs at most :data:`LINES` lines of a kind in :data:`SECONDS` seconds. When they are over, one more line says how
    many were left out, if any were. Lines are of one kind if they have the same format. To be used in the reactor's
    thread.

    :param log: where the lines go.
    :param clock: for the periods; nothing is scheduled on it until a line is left out.
    """

    def __init__(self, log: Logger, clock: IReactorTime) -> None:
        self._log = log
        self._clock = clock
        self._periods: dict[str, _Period] = {}

    def info(self, format: str, **fields: Any) -> None:
        """Log as :meth:`twisted.logger.Logger.info` does."""
        if self._admits(format):
            self._log.emit(LogLevel.info, format, **fields)

    def warn(self, format: str, **fields: Any) -> None:
        """Log as :meth:`twisted.logger.Logger.warn` does."""
        if self._admits(format):
            self._log.emit(LogLevel.warn, format, **fields)

    def error(self, format: str, **fields: Any) -> None:
        """Log as :meth:`twisted.logger.Logger.error` does."""
        if self._admits(format):
            self._log.emit(LogLevel.error, format, **fields)

    def failure(self, format: str, failure: Failure | None = None, **fields: Any) -> None:
        """Log as :meth:`twisted.logger.Logger.failure` does."""
        if self._admits(format):
            self._log.failure(format, failure, **fields)

    def _admits(self, format: str) -> bool:
        """Count a line, and return whether it is to be logged."""
        now = self._clock.seconds()
        period = self._periods.get(format)
        if period is None or (period.ending is None and now - period.began >= SECONDS):
            period = self._periods[format] = _Period(now)
        if period.logged < LINES:
            period.logged += 1
            return True
        if period.ending is None:
            period.ending = self._clock.callLater(max(0.0, period.began + SECONDS - now), self._end, format, period)
        period.left_out += 1
        return False

    def close(self) -> None:
        """End all periods now: say what was left out. Nothing is scheduled afterwards."""
        for format, period in list(self._periods.items()):
            if period.ending is not None:
                period.ending.cancel()
                self._end(format, period)

    def _end(self, format: str, period: _Period) -> None:
        """Say how many lines a period has left out."""
        del self._periods[format]
        self._log.warn("{count} more lines of this kind were left out: {kind}", count=period.left_out, kind=format)
