"""The way in by several processes: a real one, with two workers under TLS, and what it does where there is none."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.config import (
    Config,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    TLSConfig,
    default_config,
)
from dragonfly_vortex.daemon import workers_server
from dragonfly_vortex.daemon.worker_pipes import Order
from dragonfly_vortex.daemon.workers_server import ISupervisingReactor, Worker, WorkersServer
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind
from test.certificates import Authority

REACTOR = cast(ISupervisingReactor, reactor)


class WorkersServerTests(TestCase):
    """A server with workers, in this process."""

    timeout = 120

    def setUp(self) -> None:
        # Relative, as a program may give it that is no daemon.
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def server(self, port: int = 0, tls: TLSConfig | None = None) -> WorkersServer:
        """A server that is stopped in the end."""
        tcp = StorageTCPConfig(port=port)
        vortex = StorageServerConfig(ip="127.0.0.1", protocol="tcp", workers=2, tcp=tcp)
        config = Config(storage=StorageConfig(dir=self.directory / "data", server=vortex), tls=tls or TLSConfig())
        server = WorkersServer(REACTOR, config)
        self.addCleanup(server.stop, 0.0)
        return server

    def test_interface(self) -> None:
        """It is a server."""
        self.assertTrue(verifyObject(IServer, self.server()))

    async def test_address_taken(self) -> None:
        """An address that is taken cannot be had, and there is no worker."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            server = self.server(other.getsockname()[1])
            self.assertRaises(CannotListenError, server.start)
        self.assertEqual((server.address, server.pids), (None, []))
        await server.stop(0.0)

    async def test_serves_until_it_is_stopped(self) -> None:
        """
        Its workers serve, under TLS too, where it says; a worker that is stopped, as by a debugger, is killed when the
        pieces of others have had their time, and no process is left.
        """
        self.patch(workers_server, "_GRACE", 0.1)
        content = os.urandom(100_000)
        self.directory.joinpath("file").write_bytes(content)
        task_id = import_file(self.directory / "file", self.directory / "data", PieceKind.STANDARD).task_id
        authority = Authority(self.directory)
        issued = authority.issue()
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        server = self.server(tls=TLSConfig(cert=issued.certificate, key=issued.key))
        address = cast(IPv4Address, server.start())
        self.assertEqual(server.address, address)
        pids = [pid for pid in server.pids if pid is not None]
        self.assertEqual(len(pids), 2)

        while sum("it speaks TLS" in formatEvent(event) for event in observer) < 2:
            await deferLater(REACTOR, 0.01)
        child = Config(tls=TLSConfig(ca_cert=authority.file))
        downloader = DownloaderFactory("tcp", child, reactor=IReactorTCP(REACTOR)).build()
        piece = await downloader.download_piece(f"tls://127.0.0.1:{address.port}", 0, "", task_id)
        self.assertTrue(piece.content == content)
        await downloader.stop()
        os.kill(pids[1], signal.SIGSTOP)
        await server.stop(0.3)
        said = [formatEvent(event) for event in observer]
        self.assertIn("worker 2 does not end, and is killed", said)
        self.assertEqual([line for line in said if "started again" in line], [])
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.assertIsNone(server.address)
        refused = await deferToThread(socket.socket().connect_ex, ("127.0.0.1", address.port))
        self.assertNotEqual(refused, 0)


REACTOR = cast(ISupervisingReactor, reactor)


class WorkerTests(TestCase):
    """Starting, starting again, and stopping."""

    timeout = 120

    def setUp(self) -> None:
        self.observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.ends: list[list[str]] = []
        """What was in the log at each report that a process had ended."""

    def worker(self, script: str, inherited: Mapping[int, int] | None = None) -> Worker:
        """Worker 5 of a peer whose workers run that script; it is stopped in the end."""
        program = Path(self.mktemp()).absolute()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        self.patch(sys, "executable", str(program))
        order = Order(number=5, config=default_config())
        self.failed: list[str] = []
        worker = Worker(
            REACTOR, order, inherited or {}, lambda: self.ends.append(self.said()), lambda how: self.failed.append(how)
        )
        self.addCleanup(worker.stop, 0.0)
        return worker

    def said(self) -> list[str]:
        """What is in the log."""
        return [formatEvent(event) for event in self.observer]

    def pause(self, seconds: float) -> Deferred[None]:
        """Let the reactor go on."""
        return deferLater(REACTOR, seconds)

    async def until_said(self, text: str) -> None:
        """Let the reactor go on until something is in the log."""
        while not any(text in line for line in self.said()):
            await self.pause(0.01)

    async def test_rests(self) -> None:
        """One that ends as soon as it starts is started again after rests that grow, which the log says."""
        worker = self.worker("kill -9 $$")
        worker.start()
        while len(self.said()) < 3:
            await self.pause(0.01)
        await worker.stop(120.0)
        for line, rest in zip(self.said(), ("0.1", "0.2", "0.4"), strict=False):
            self.assertRegex(line, rf"^worker 5 \(process \d+\) has ended: signal 9; started again in {rest} s$")

    async def test_rests_are_forgotten(self) -> None:
        """After one that has been there for a while the rests are as short as at first; they have a limit."""
        self.patch(workers_server, "_LONGEST_REST", 0.1)
        worker = self.worker("exit 0")
        worker.start()
        while len(self.said()) < 3:
            await self.pause(0.01)
        self.patch(workers_server, "_LONGEST_REST", 30.0)
        self.patch(workers_server, "_SETTLED", 0.0)
        while len(self.said()) < 5:
            await self.pause(0.01)
        self.assertEqual([line for line in self.said() if not line.endswith("again in 0.1 s")], [])

    async def test_no_program(self) -> None:
        """Where a process cannot be started again, that is tried once more in the same way."""
        worker = self.worker("kill -9 $$")
        worker.start()
        self.patch(sys, "executable", "/nonexistent/python")
        await self.until_said("No such file")
        self.assertEqual(
            self.said()[1], "worker 5 cannot be started: No such file or directory; started again in 0.2 s"
        )
        self.assertIsNone(worker.pid)
        self.assertEqual(self.failed, [])

    def test_no_program_at_first(self) -> None:
        """Where not even the first process can be started, the worker has failed."""
        worker = self.worker("")
        self.patch(sys, "executable", "/nonexistent/python")
        worker.start()
        self.assertEqual(self.said(), ["worker 5 cannot be started: No such file or directory"])
        self.assertEqual(self.failed, self.said())

    async def test_cannot_serve(self) -> None:
        """One that ends by an exit status other than 0 has failed, and is not started again."""
        worker = self.worker("exit 3")
        worker.start()
        await self.until_said("has ended")
        self.assertRegex(self.failed[0], r"^worker 5 \(process \d+\) has ended: exit status 3$")
        await self.pause(0.2)
        self.assertEqual(self.said(), self.failed)

    async def test_last_words(self) -> None:
        """What it says before it has a log is in the log."""
        worker = self.worker("echo 'no module' >&2; printf 'nothing'; kill -9 $$")
        worker.start()
        await self.until_said("has ended")
        self.assertEqual(sorted(self.said()[:2]), ["no module", "nothing"])
        self.assertIn("has ended: signal 9;", self.said()[2])

    async def test_end(self) -> None:
        """Each end of a process is reported before the next one is started."""
        worker = self.worker("echo started; kill -9 $$")
        worker.start()
        while len(self.ends) < 2:
            await self.pause(0.01)
        self.assertEqual([said.count("started") for said in self.ends], [1, 2])

    async def test_inherited(self) -> None:
        """It has the descriptors that it was given, by their numbers there, and no others of this process."""
        with open(self.mktemp(), "w+b") as one, open(self.mktemp(), "w+b") as other:
            script = "printf here >&7; echo /proc/self/fd/*; exec cat >/dev/null"
            worker = self.worker(script, {7: one.fileno()})
            worker.start()
            await self.until_said("fd/7")
            one.seek(0)
            self.assertEqual((one.read(), other.read()), (b"here", b""))
        there = {int(Path(name).name) for name in self.said()[0].split()}
        self.assertLessEqual({0, 1, 2, 7}, there)
        self.assertLessEqual(there, {0, 1, 2, 3, 7, 10})  # the shell's own: its script, and the directory

    async def test_stop_while_it_rests(self) -> None:
        """One that is to be started again and is stopped before is not started: no timer is left."""
        self.patch(workers_server, "_FIRST_REST", 600.0)
        worker = self.worker("exit 0")
        worker.start()
        await self.until_said("has ended")
        await worker.stop(1.0)
        self.assertEqual(len(self.said()), 1)

    async def test_stop(self) -> None:
        """Stopping it waits for its end, and is not told as one."""
        worker = self.worker("trap 'echo drained; exit 0' TERM; echo ready; read -r order; read -r more; exit 1")
        worker.start()
        await self.until_said("ready")
        await worker.stop(120.0)
        self.assertEqual(self.said(), ["ready", "drained"])
        self.assertIsNone(worker.pid)

    async def test_does_not_end(self) -> None:
        """One that does not end in time is killed."""
        self.patch(workers_server, "_GRACE", 0.1)
        worker = self.worker("trap '' TERM; echo ready; exec cat >/dev/null")
        worker.start()
        await self.until_said("ready")
        began = REACTOR.seconds()
        await worker.stop(0.2)
        self.assertGreater(REACTOR.seconds() - began, 0.25)
        self.assertEqual(self.said()[1:], ["worker 5 does not end, and is killed"])

    async def test_not_waited_for(self) -> None:
        """One that does not end in time is killed, too, when its end is not waited for any more."""
        self.patch(workers_server, "_GRACE", 0.1)
        worker = self.worker("trap '' TERM; echo ready; exec cat >/dev/null")
        worker.start()
        await self.until_said("ready")
        stopped = worker.stop(0.1)
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        await self.until_said("is killed")
        while worker.pid is not None:
            await self.pause(0.01)

    async def test_environment(self) -> None:
        """It finds the modules that this process has found, also those of a place that was put into the path later."""
        place = Path(self.mktemp()).absolute()
        self.patch(sys, "path", [*sys.path, str(place)])
        worker = self.worker('echo "$PYTHONPATH $*"; exec cat >/dev/null')
        worker.start()
        await self.until_said("dragonfly_vortex.daemon 5")
        self.assertIn(str(place), self.said()[0].partition(" ")[0].split(":"))
