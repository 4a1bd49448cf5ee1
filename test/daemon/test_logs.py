"""The log of a daemon: its lines, levels, and the transfers that lines are about."""

from __future__ import annotations

import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import Logger, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import LogConfig, LogFormat
from dragonfly_vortex.daemon.logs import DaemonLog, TransferLog
from dragonfly_vortex.model import Origin, TaskRequest
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin
from dragonfly_vortex.wire import PieceKind
from test.daemon.test_downloads import DownloadsTestCase, peer_reactor
from test.processes import Daemon, write_config

JSON = LogConfig(format=LogFormat.JSON)


class Source:
    """What logs about a task."""

    task_id = "a" * 64


class LinesTests(SynchronousTestCase):
    """A log in memory."""

    def written(self, config: LogConfig) -> tuple[DaemonLog, Logger, io.StringIO]:
        """A log, a logger that writes to it, and what is written."""
        log, stream = DaemonLog(config), io.StringIO()
        log.transfer_of = {"a" * 64: "1f2e3d4c"}.get  # type: ignore[assignment]  # it gives None where a real one gives ""
        publisher = LogPublisher(log.observer(stream))
        return log, Logger("dragonfly_vortex.task.download", Source(), publisher), stream

    def test_text(self) -> None:
        """A line of text is Twisted's, with the ID of its transfer behind the level."""
        _, logger, stream = self.written(LogConfig())
        logger.warn("parent {parent} has lied", parent="p:1")
        logger.warn("{task_id}", task_id="another")
        first, second = stream.getvalue().splitlines()
        self.assertRegex(first, r"^\S+ \[dragonfly_vortex\.task\.download#warn 1f2e3d4c\] parent p:1 has lied$")
        self.assertRegex(second, r"download#warn\] another$")

    def test_json(self) -> None:
        """A line of JSON has the text, its fields, and the ID; a line feed in it is none of the log."""
        _, logger, stream = self.written(JSON)
        logger.info("parent {parent} says\n{count} \N{SNOWMAN}", parent="p:1", count=3, value=object())
        (line,) = stream.getvalue().splitlines()
        read = json.loads(line)
        self.assertRegex(read.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")
        self.assertEqual(
            read,
            {
                "level": "info",
                "namespace": "dragonfly_vortex.task.download",
                "text": "parent p:1 says\n3 \N{SNOWMAN}",
                "transfer": "1f2e3d4c",
                "parent": "p:1",
                "count": 3,
            },
        )

    def test_strange(self) -> None:
        """A text cannot steer a terminal, begin a line of its own, or have a line lost that UTF-8 cannot write."""
        text = "a\x1b]0;b\x07\x9b2J\r\n\x85c\x7f\udc80"
        for config in (JSON, LogConfig()):
            _, logger, stream = self.written(config)
            logger.info("{text}", text=text)
            stream.getvalue().encode()
            (line, *rest) = stream.getvalue().split("\n")
            self.assertEqual([each for each in line if not each.isprintable()], [])
            if config is JSON:
                self.assertEqual((json.loads(line)["text"], rest), (text, [""]))
            else:
                self.assertTrue(line.endswith("a\\u001b]0;b\\u0007\\u009b2J\\u000d"), line)
                self.assertEqual(rest, ["\t\\u0085c\\u007f\\udc80", ""])

    def test_failure(self) -> None:
        """A failure is one line with its traceback, as JSON; in text the traceback follows."""
        for config in (JSON, LogConfig()):
            _, logger, stream = self.written(config)
            logger.failure("it failed", Failure(OSError("of the disk")))
            lines = stream.getvalue().splitlines()
            self.assertEqual(len(lines) == 1, config is JSON, lines)
            self.assertIn("OSError: of the disk", stream.getvalue())
            self.assertIn("Traceback", stream.getvalue())

    def test_levels(self) -> None:
        """Less than the least level of a namespace is left out; levels can change, and have the reference's names."""
        config = LogConfig(level="WARN,dragonfly_vortex.task=Debug")
        log, logger, stream = self.written(config)
        other = Logger("dragonfly_vortex.rpc", None, logger.observer)
        logger.debug("1")
        other.info("2")
        other.warn("3")
        log.change_levels(replace(config, level="trace,dragonfly_vortex.task=off"))
        logger.error("4")
        other.debug("5")
        self.assertEqual([line[-1] for line in stream.getvalue().splitlines()], ["1", "3", "5"])


class TransferLogTests(SynchronousTestCase):
    """Transfers that are logged."""

    def setUp(self) -> None:
        self.log = TransferLog(Clock())
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.request = TaskRequest(kind=PieceKind.STANDARD, task_id="b" * 64)

    def said(self) -> list[tuple[str, str]]:
        """Level and format of each line."""
        return [(event["log_level"].name, event["log_format"]) for event in self.observer]

    def test_ids(self) -> None:
        """A transfer has an ID while it is under way, and the next one of its task another one."""
        ids = set()
        for _ in range(2):
            with self.log.transfer(self.request):
                ids.add(self.log.id_of("b" * 64))
        self.assertEqual((len(ids), {len(each) for each in ids}), (2, {8}))
        self.assertEqual(self.log.id_of("b" * 64), "")

    def test_two_kinds(self) -> None:
        """While tasks of two kinds with one ID are under way, a line with the ID alone is of neither."""
        other = structs.replace(self.request, kind=PieceKind.PERSISTENT)
        with self.log.transfer(self.request):
            first = self.log.id_of("b" * 64)
            with self.log.transfer(other):
                self.assertEqual(self.log.id_of("b" * 64), "")
            self.assertEqual(self.log.id_of("b" * 64), first)
        self.assertEqual(self.log.id_of("b" * 64), "")

    def test_failed(self) -> None:
        """A transfer that fails is a warning."""
        with self.assertRaises(OSError), self.log.transfer(self.request):
            raise OSError("of the disk")
        self.assertEqual([level for level, _ in self.said()], ["info", "warn"])
        self.assertEqual(list(self.observer)[-1]["reason"], "of the disk")

    def test_strangers(self) -> None:
        """Requests of strangers do not fill the log."""
        for _ in range(50):
            with self.log.transfer(structs.replace(self.request, is_foreign=True)):
                pass
        self.assertEqual(len(self.said()), 40)
        self.log.close()
        self.assertEqual([level for level, _ in self.said()[40:]], ["warn", "warn"])


class DownloadTests(DownloadsTestCase):
    """The log of a download."""

    async def test_one_id(self) -> None:
        """All lines about a download have its ID, from the first to the last."""
        origin = ScriptedOrigin(self.content)
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        downloads = self.downloads()
        log, stream = DaemonLog(JSON), io.StringIO()
        log.transfer_of = downloads.transfer_log.id_of
        observer = log.observer(stream)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        await downloads.download(structs.replace(self.request, origin=Origin(url=origin.url(), piece_length=4096)))
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        about = [line for line in lines if self.request.task_id in line["text"]]
        self.assertRegex(about[0]["text"], "is being downloaded$")
        self.assertRegex(about[-1]["text"], "has been downloaded$")
        self.assertEqual(len({line.get("transfer") for line in about}), 1)
        self.assertRegex(about[0]["transfer"], "^[0-9a-f]{8}$")


class DaemonTests(SynchronousTestCase):
    """A daemon whose log is JSON."""

    def test_daemon(self) -> None:
        """Every line is JSON, also those of Twisted; SIGHUP takes another level, and the format waits for a restart."""
        directory = Path(self.mktemp()).absolute()
        write_config(directory, more="log: {format: json}\n")
        with Daemon(directory) as daemon:
            write_config(directory, more="log: {format: text, level: 'warn,dragonfly_vortex.daemon.signals=info'}\n")
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for("have been read again")
            daemon.wait_for("needs a restart: log.format")
            self.assertEqual(daemon.stop(), 0)
        lines: list[dict[str, Any]] = [json.loads(line) for line in daemon.log.splitlines()]
        self.assertGreater(len({line["namespace"].partition(".")[0] for line in lines}), 1)
        after = lines[[line["text"].endswith("have been read again") for line in lines].index(True) :]
        self.assertEqual({line["namespace"].rpartition(".")[0] for line in after}, {"dragonfly_vortex.daemon.signals"})
