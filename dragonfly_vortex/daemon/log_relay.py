"""
Relays a worker's log through the main process: the worker writes events as lines of JSON, the main process logs them.
"""

from __future__ import annotations

import json
from typing import ClassVar

from twisted.logger import InvalidLogLevelError, LogEvent, Logger, LogLevel, eventAsText

__all__ = ["RelayedLog", "event_line"]


def event_line(event: LogEvent) -> str:
    """
    Write an event as a line, its text as a log would show it, with a traceback where it has one.

    :param event: of Twisted's log.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:  # nothing that a log would show
        return ""
    level = event.get("log_level", LogLevel.info).name
    return json.dumps({"level": level, "namespace": event.get("log_namespace", "-"), "text": text}) + "\n"


class RelayedLog:
    """
    Puts what a worker has written into this process's log, and says with each line whose it is.

    :param number: the worker's.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, number: int) -> None:
        self._number = number
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Take what the worker has written, cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._relay(line)

    def ended(self) -> None:
        """The worker writes nothing more."""
        if self._rest:
            self.data_received(b"\n")

    def _relay(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            level, namespace, text = LogLevel.levelWithName(event["level"]), event["namespace"], event["text"]
        except (ValueError, TypeError, KeyError, InvalidLogLevelError):
            # The interpreter's own, before the worker has a log, or with its last breath.
            level, namespace, text = LogLevel.error, "stderr", line.decode(errors="replace")
        system = f"worker {self._number}: {namespace}#{level.name}"
        Logger(namespace).emit(level, "{text}", text=text, worker=self._number, log_system=system)
