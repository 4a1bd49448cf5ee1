"""How the local door begins and ends, and its health."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.rpc.local_server import LocalService, SocketPlace
from dragonfly_vortex.rpc.methods import LOCAL_SERVICE
from test.rpc.local_peer import LocalPeerTestCase, peer_reactor


class LocalServiceTests(LocalPeerTestCase):
    """A local door of a whole peer."""

    async def test_socket(self) -> None:
        """The socket has the mode that is configured, and is gone when the peer has ended."""
        path = self.directory / "peer.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        await self.peer.stopService()
        self.assertEqual(sorted(entry.name for entry in self.directory.iterdir()), ["file", "parent", "storage"])
        self.assertIsNone(self.peer.local_address)

    async def test_mode(self) -> None:
        """Another mode gives others access."""
        await self.peer.stopService()
        download = self.config.download
        server = replace(download.server, socket_mode=0o660)
        self.config = replace(self.config, download=replace(download, server=server))
        await self.start()
        self.assertEqual(stat.S_IMODE(self.directory.joinpath("peer.sock").stat().st_mode), 0o660)

    async def test_second_peer(self) -> None:
        """A peer does not start where another one listens, and leaves nothing behind."""
        storage = replace(self.config.storage, dir=self.directory / "second")
        second = VortexService(replace(self.config, storage=storage), peer_reactor)
        error = self.assertRaises(CannotListenError, second.startService)
        self.assertIn("another process listens there", str(error))
        self.assertIn("peer.sock", str(error))
        await self.export()  # the first one serves on

    async def test_health(self) -> None:
        """The server and its service serve; another service is unknown."""
        path = "/grpc.health.v1.Health/Check"
        request, reply = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        check: Any = self.channel.unary_unary(path, request.SerializeToString, reply.FromString)
        for name in ("", LOCAL_SERVICE):
            answer = await self.in_thread(partial(check, request(service=name), timeout=120))
            self.assertEqual(answer.status, reply.SERVING)
        unknown = self.in_thread(lambda: check(request(service="dfdaemon.v2.DfdaemonUpload"), timeout=120))
        code, _ = await self.refusal(unknown)
        self.assertEqual(code, grpc.StatusCode.NOT_FOUND)


class SocketPlaceTests(SynchronousTestCase):
    """A place in a directory of its own, with a short path."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="dfs")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.path = self.directory / "peer.sock"

    def listen(self, path: Path) -> None:
        """Bind a socket that is open until the test ends."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.socket.close)
        self.socket.bind(os.fspath(path))
        self.socket.listen()

    def connect(self) -> None:
        """Connect to the path."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(self.path))

    def refusal(self, place: SocketPlace) -> int | None:
        """Why a place cannot be had, both when it is looked at and when it is taken."""
        seen: OSError = self.assertRaises(OSError, place.check)
        self.assertEqual(self.assertRaises(OSError, place.bind, self.listen).errno, seen.errno)
        self.assertEqual([entry.name for entry in self.directory.iterdir()], ["peer.sock"])
        return seen.errno

    def test_rights(self) -> None:
        """The socket has the mode and the group that are asked for, whatever the umask is, and takes connections."""
        self.addCleanup(os.umask, os.umask(0))
        SocketPlace(self.path, 0o660, str(os.getgid())).bind(self.listen)
        status = self.path.lstat()
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_gid), (0o660, os.getgid()))
        self.connect()

    def test_closed_while_bound(self) -> None:
        """Until it has its rights, the socket is in a directory that no other user can enter."""
        modes: list[int] = []

        def listen(path: Path) -> None:
            self.listen(path)
            modes.append(stat.S_IMODE(path.parent.stat().st_mode))

        SocketPlace(self.path, 0o600).bind(listen)
        self.assertEqual(modes, [0o700])

    def test_missing_directory(self) -> None:
        """The directory of the socket is made."""
        self.path = self.directory / "run" / "peer.sock"
        SocketPlace(self.path, 0o600).bind(self.listen)
        self.connect()

    def test_dead(self) -> None:
        """A socket of a process that has gone is replaced."""
        self.listen(self.path)
        self.socket.close()
        SocketPlace(self.path, 0o600).check()
        SocketPlace(self.path, 0o600).bind(self.listen)
        self.connect()

    def test_alive(self) -> None:
        """A socket at which another process listens is left alone, also where it does not accept connections."""
        self.listen(self.path)
        self.socket.listen(0)
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(os.fspath(self.path))
        self.assertEqual(self.refusal(SocketPlace(self.path, 0o600)), errno.EADDRINUSE)

    def test_no_socket(self) -> None:
        """A file, or a link to a socket elsewhere, is left alone."""
        self.path.write_text("mine")
        self.assertEqual(self.refusal(SocketPlace(self.path, 0o600)), errno.EEXIST)
        self.assertEqual(self.path.read_text(), "mine")
        self.path.unlink()
        self.path.symlink_to("/nowhere")
        self.assertEqual(self.refusal(SocketPlace(self.path, 0o600)), errno.EEXIST)

    def test_remove(self) -> None:
        """Its own socket is deleted in the end, and one that came after it is not."""
        place = SocketPlace(self.path, 0o600)
        place.bind(self.listen)
        place.remove()
        self.assertFalse(self.path.exists())
        place.bind(self.listen)
        self.path.unlink()
        self.listen(self.path)
        place.remove()
        self.assertTrue(self.path.exists())
        place.remove()  # once is enough

    def test_impossible(self) -> None:
        """A path that no client can connect to, and a group that does not exist, are refused."""
        for place in (SocketPlace(self.directory / ("n" * 100), 0o600), SocketPlace(self.path, 0o600, "no-such-group")):
            self.assertRaises(ValueError, place.check)
            self.assertRaises(ValueError, place.bind, self.listen)


class SocketTests(TestCase):
    """A door without a peer."""

    timeout = 120

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="dfl")
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "peer.sock")

    def door(self) -> LocalService:
        """A door at the path."""
        return LocalService(cast(LocalTasks, None), peer_reactor, SocketPlace(self.path, 0o600))

    async def test_start(self) -> None:
        """Opening it leaves nothing; once it has started it listens, and no more when it has stopped."""
        door = self.door()
        door.check()
        self.assertFalse(self.path.exists())
        await door.startService()
        self.assertIsNotNone(door.address)
        self.assertRaises(CannotListenError, self.door().check)
        await door.stop(0.0)
        self.assertIsNone(door.address)
        self.assertFalse(self.path.exists())

    def test_import(self) -> None:
        """Importing the module imports no grpc."""
        code = "import sys, dragonfly_vortex.rpc.local_server; print('grpc' in sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout, "False\n")
