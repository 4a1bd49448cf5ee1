"""
The log of a daemon: lines of text or of JSON, the least level of each namespace, and the ID of the transfer that a line
is about. Twisted's logger does the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import IO, Any, ClassVar
from uuid import uuid4

from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEventAsClassicLogText,
)
from zope.interface import implementer

from dragonfly_vortex.config import LogConfig, LogFormat
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.model import TaskRequest
from dragonfly_vortex.wire import PieceKind

__all__ = ["DaemonLog", "TransferLog", "json_line", "text_line"]

_LEVELS = {"trace": LogLevel.debug, "off": LogLevel.critical, **{each.name: each for each in LogLevel.iterconstants()}}
"""Levels by their names; ``trace`` and ``off`` are the reference's."""

_LEGACY = frozenset({"system", "isError", "format"})
"""Fields that Twisted's former logger writes for itself."""

_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What a text, which may be a stranger's, must not have in a log: characters that steer a terminal or end a line, and
halves of characters, which UTF-8 cannot write."""

TRANSFER = "transfer"
"""The field of an event with the ID of the transfer that it is about."""


class DaemonLog:
    """
    The format and the least levels of a daemon's log.

    :param config: the format, and the least levels.
    """

    def __init__(self, config: LogConfig) -> None:
        self.transfer_of: Callable[[str], str] = lambda task_id: ""
        """Gives the ID of the transfer of a task that is under way; empty where there is none. Called in any thread."""
        self._levels = LogLevelFilterPredicate()
        self._line = json_line if config.format is LogFormat.JSON else text_line
        self.change_levels(config)

    def change_levels(self, config: LogConfig) -> None:
        """Set the least levels. The format stays."""
        default, *others = config.level.split(",")
        self._levels.clearLogLevels()
        self._levels.setLogLevelForNamespace("", _LEVELS[default.lower()])
        for each in others:
            namespace, _, level = each.partition("=")
            self._levels.setLogLevelForNamespace(namespace, _LEVELS[level.lower()])

    def observer(self, stream: IO[Any]) -> ILogObserver:
        """
        Make an observer for Twisted's log.

        :param stream: where the lines are written.
        """
        written = _WithTransfer(FileLogObserver(stream, self._line), lambda task_id: self.transfer_of(task_id))
        return FilteringLogObserver(written, [self._levels])


@implementer(ILogObserver)
class _WithTransfer:
    """
    Adds the ID of a transfer to the events about it: those that name its task in the field ``task_id``, or whose source
    does so in the attribute of that name.
    """

    def __init__(self, observer: ILogObserver, transfer_of: Callable[[str], str]) -> None:
        self._observer = observer
        self._transfer_of = transfer_of

    def __call__(self, event: LogEvent) -> None:
        if TRANSFER not in event:
            task_id = event.get("task_id") or getattr(event.get("log_source"), "task_id", "")
            transfer = self._transfer_of(str(task_id)) if task_id else ""
            if transfer:
                event = {**event, TRANSFER: transfer}
        self._observer(event)


def text_line(event: LogEvent) -> str | None:
    """An event as a line of text, as Twisted writes it, with the ID of its transfer behind its level."""
    transfer = event.get(TRANSFER)
    if transfer:
        level = getattr(event.get("log_level"), "name", "-")
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level}"
        event = {**event, "log_system": f"{system} {transfer}"}
    line = formatEventAsClassicLogText(event)
    return None if line is None else _printable(line)


def json_line(event: LogEvent) -> str | None:
    """
    An event as a line of JSON: ``time`` (UTC), ``level``, ``namespace``, ``text`` with a traceback where there is one,
    ``transfer`` if it has one, and the other fields of the event that are texts, numbers or booleans.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return None
    fields = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_") and name not in _LEGACY and isinstance(value, (str, int, float, bool))
    }
    line = {
        **fields,
        "time": datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc).isoformat(timespec="microseconds"),
        "level": getattr(event.get("log_level"), "name", "info"),
        "namespace": event.get("log_namespace", "-"),
        "text": text,
    }
    return _printable(json.dumps(line, ensure_ascii=False, default=str)) + "\n"


def _printable(line: str) -> str:
    """A line, or several, with escapes in place of what a log must not have: in JSON they mean the same."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class TransferLog:
    """
    The downloads of a peer in its log: each has an ID while it is under way, and a line at its beginning and its end.

    :param clock: for the limit of lines that strangers can cause.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._limited_log = LimitedLog(self.log, clock)
        self._ids: dict[tuple[str, PieceKind], str] = {}

    def id_of(self, task_id: str) -> str:
        """
        The ID of the download of a task that is under way; empty where there is none, or where tasks of two kinds have
        this ID and are under way: a line names the task's ID alone. For any thread.
        """
        found = [self._ids.get((task_id, kind), "") for kind in PieceKind]
        ids = [each for each in found if each]
        return ids[0] if len(ids) == 1 else ""

    @contextmanager
    def transfer(self, request: TaskRequest) -> Iterator[None]:
        """Log the beginning and the end of a download that runs inside the block."""
        log = self._limited_log if request.is_foreign else self.log
        task_id = request.task_id
        key = (task_id, request.kind)
        self._ids[key] = uuid4().hex[:8]
        try:
            log.info("task {task_id} is being downloaded", task_id=task_id)
            yield
            log.info("task {task_id} has been downloaded", task_id=task_id)
        except Exception as error:
            reason = str(error) or type(error).__name__
            log.warn("task {task_id} has not been downloaded: {reason}", task_id=task_id, reason=reason)
            raise
        finally:
            self._ids.pop(key, None)

    def close(self) -> None:
        """End the limit of lines, and log how many were left out."""
        self._limited_log.close()
