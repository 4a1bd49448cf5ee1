"""The way in by several processes: a real one, with two workers under TLS, and what it does where there is none."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.config import Config, StorageConfig, StorageServerConfig, StorageTCPConfig, TLSConfig
from dragonfly_vortex.daemon import supervisor
from dragonfly_vortex.daemon.supervisor import ISupervisingReactor
from dragonfly_vortex.daemon.workers_server import WorkersServer
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
        self.patch(supervisor, "_GRACE", 0.1)
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
