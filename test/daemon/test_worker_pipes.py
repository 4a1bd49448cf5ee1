"""A worker's order and the pipe that carries it; its log as lines, and in the main process's log again."""

from __future__ import annotations

import io
from pathlib import Path
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
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.config import Config, StorageConfig, StorageServerConfig, StorageTCPConfig, TLSConfig
from dragonfly_vortex.daemon.worker_pipes import Order, RelayedLog, event_line, orders


class OrderTests(SynchronousTestCase):
    """Orders as bytes, and as orders again."""

    def test_way(self) -> None:
        """What is read is what was written, and what stands behind it stays there."""
        tcp = StorageTCPConfig(max_connections=17, congestion_control="reno")
        config = Config(
            storage=StorageConfig(dir=Path("/data"), server=StorageServerConfig(protocol="tcp", tcp=tcp)),
            tls=TLSConfig(cert=Path("/peer.crt"), key=Path("/peer.key")),
        )
        order = Order(number=3, config=config)
        pipe = io.BytesIO(order.to_bytes() + b"behind")
        self.assertEqual(Order.read(pipe), order)
        self.assertEqual(pipe.read(), b"behind")

    def test_nothing(self) -> None:
        """A pipe that ends before an order raises an error."""
        self.assertRaises(EOFError, Order.read, io.BytesIO())

    def test_all(self) -> None:
        """Each worker has a number, its part of the limits, and paths that mean the same wherever it is started."""
        server = StorageServerConfig(workers=2, tcp=StorageTCPConfig(max_connections=3))
        config = Config(storage=StorageConfig(dir=Path("data"), server=server), tls=TLSConfig(key=Path("/peer.key")))
        made = orders(config, Path("/home/peer"))
        self.assertEqual([order.number for order in made], [1, 2])
        self.assertEqual([order.config.storage.server.tcp.max_connections for order in made], [2, 1])
        self.assertEqual({order.config.storage.dir for order in made}, {Path("/home/peer/data")})
        self.assertEqual({order.config.tls.key for order in made}, {Path("/peer.key")})


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
