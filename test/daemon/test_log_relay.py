"""A worker's log as lines, and in the main process's log again."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import (
    FileLogObserver,
    Logger,
    LogLevel,
    LogPublisher,
    formatEventAsClassicLogText,
    globalLogPublisher,
)
from twisted.trial.unittest import TestCase

from dragonfly_vortex.daemon.log_relay import RelayedLog, event_line


class RelayTests(TestCase):
    """From one log into another."""

    def setUp(self) -> None:
        self.observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.pipe = io.StringIO()
        publisher = LogPublisher(FileLogObserver(self.pipe, event_line))
        self.worker_log = Logger(namespace="some.module", observer=publisher)

    def relay(self, data: bytes, size: int = 1 << 20) -> list[dict[str, Any]]:
        """This process's log when a worker's data arrive in parts of that size."""
        relayed = RelayedLog(7)
        for start in range(0, len(data), size):
            relayed.data_received(data[start : start + size])
        relayed.ended()
        return list(self.observer)

    def written(self) -> bytes:
        """What the worker has written."""
        return self.pipe.getvalue().encode()

    def test_line(self) -> None:
        """A line says what it said, on its level, and whose it is."""
        self.worker_log.warn("asked for {count} {{of}} them", count="{3}")
        (event,) = self.relay(self.written())
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertEqual(event["worker"], 7)
        shown = formatEventAsClassicLogText(event, lambda time: "now")
        self.assertEqual(shown, "now [worker 7: some.module#warn] asked for {3} {of} them\n")

    def test_cut_anywhere(self) -> None:
        """It does not matter how the lines are cut on their way."""
        for text in ("first", "sec\nond", "dritté"):
            self.worker_log.info("{text}", text=text)
        events = self.relay(self.written(), size=3)
        self.assertEqual([event["text"] for event in events], ["first", "sec\nond", "dritté"])

    def test_failure(self) -> None:
        """A failure comes with its traceback."""
        try:
            raise ValueError("a defect")
        except ValueError:
            self.worker_log.failure("it failed")
        (event,) = self.relay(self.written())
        self.assertEqual(event["log_level"], LogLevel.critical)
        self.assertRegex(event["text"], r"(?s)\Ait failed\nTraceback .*ValueError: a defect")

    def test_nothing_to_show(self) -> None:
        """An event that a log would not show is no line."""
        self.assertEqual(event_line({"log_level": LogLevel.info}), "")

    def test_not_the_log(self) -> None:
        """What is no event, such as a traceback of the interpreter's, is logged as an error, as it is."""
        for line in (b"Traceback", b'"text"', b"{}", b'{"level": "loud", "namespace": "n", "text": "t"}', b"\xff"):
            relayed = self.relay(line)
            self.assertEqual(relayed[-1]["log_level"], LogLevel.error)
            self.assertEqual(relayed[-1]["text"], line.decode(errors="replace"))
