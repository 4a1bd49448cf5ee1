"""
The pipes between the main process and a worker. One carries the worker's settings: other users could read arguments or
an environment. Another carries the worker's log: it writes events as lines of JSON, and the main process logs them.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import BinaryIO, ClassVar

from msgspec import Struct
from twisted.logger import InvalidLogLevelError, LogEvent, Logger, LogLevel, eventAsText

from dragonfly_vortex.config import Config, beside, worker_share

__all__ = ["COUNTS", "LISTENING", "TALLIES", "Order", "RelayedLog", "event_line", "orders"]

LISTENING = 3
"""The descriptor of the listening socket in a worker."""

COUNTS = 4
"""The descriptor of the memory by which the workers know whose turn it is to accept."""

TALLIES = 5
"""The descriptor of the memory in which the workers count what they send."""


class Order(Struct, frozen=True, kw_only=True):
    """
    The settings of one worker.

    :param number: of the worker, from 1.
    :param config: what it has of the peer's; see :func:`~dragonfly_vortex.config.worker_share`.
    """

    number: int
    config: Config

    def to_bytes(self) -> bytes:
        """
        Encode the settings for a process that runs the same code. These are values and not the file that they came
        from, which may have changed when a worker is started again.
        """
        return pickle.dumps(self)

    @classmethod
    def read(cls, pipe: BinaryIO) -> Order:
        """
        Read an order, and nothing behind it.

        :raises EOFError: the main process ended before it wrote one.
        """
        order: Order = pickle.load(pipe)  # the other end is the process that started this one
        return order


def orders(config: Config, directory: Path) -> list[Order]:
    """
    The settings of all workers of a peer.

    :param config: the peer's.
    :param directory: what its paths are relative to, where they are. A program may change its working directory before
        a worker is started again.
    """
    absolute = beside(directory, config)
    numbers = range(1, config.storage.server.workers + 1)
    return [Order(number=number, config=worker_share(absolute, number)) for number in numbers]


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
        """Log the last line, which has no end, after the worker's last bytes."""
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
