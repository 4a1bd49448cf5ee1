"""A peer as a part of a program: where it listens, and which parents it asks."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import deferLater
from zope.interface import implementer

from dragonfly_vortex import VortexPeer
from dragonfly_vortex.config import (
    Config,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    TLSIdentity,
    UploadClientConfig,
    UploadConfig,
    default_config,
)
from dragonfly_vortex.errors import CannotServe, CertificateUnusable, NoParentLeft, UsageError
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.vortex import endpoint_server
from dragonfly_vortex.wire import PieceKind, PieceRequest
from test.certificates import Authority
from test.daemon.peers import COUNT, PIECE, REACTOR, PeerTestCase, address_of

_UNDER_SYSTEMD = """
import os, sys
os.dup2({descriptor}, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="vortex")
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from dragonfly_vortex import VortexPeer

async def main(reactor):
    peer = VortexPeer(reactor, storage={storage!r}, listen=["systemd:domain=INET:name=vortex"])
    peer.startService()
    await peer.ready()
    print("ready", flush=True)
    await deferToThread(sys.stdin.read)
    await peer.stopService()

react(main)
"""


class ListeningTests(PeerTestCase):
    """Endpoints, as strings and as objects."""

    async def assert_serves(self, child: VortexPeer, *parents: str) -> None:
        """Assert that a child gets the task."""
        done = await child.download(self.task_id, parents=parents).done
        self.assertEqual((done.content_length, done.piece_count), (len(self.content), COUNT))

    async def test_tcp(self) -> None:
        """A peer serves at an endpoint of TCP; a child that listens nowhere downloads from it."""
        parent = await self.parent()
        child = self.peer("child", parents=[address_of(parent)])
        self.assertIsNone(child.address)
        await self.assert_serves(child)

    async def test_tcp6(self) -> None:
        """So by IPv6."""
        parent = await self.parent("tcp6:0:interface=\\:\\:1")
        port = cast(IPv4Address, parent.address).port
        await self.assert_serves(self.peer("child"), f"[::1]:{port}")

    async def test_unix(self) -> None:
        """So at a Unix socket, which the child's endpoints lead to."""
        path = self.directory / "socket"
        await self.parent(f"unix:{path}")
        dialled: list[str] = []

        def dial(address: str) -> Any:
            dialled.append(address)
            return clientFromString(reactor, f"unix:{path}")

        await self.assert_serves(self.peer("child", dial=dial), "anywhere:4005")
        self.assertEqual(set(dialled), {"anywhere:4005"})

    async def test_mtls(self) -> None:
        """Under TLS children show a certificate; a stranger without one gets nothing."""
        authority = Authority(self.directory)
        own = authority.issue()
        files = f"certificate={own.certificate}:privateKey={own.key}:trustRoots={authority.file}"
        parent = await self.parent(f"mtls:0:interface=127.0.0.1:{files}")
        address = f"tls://{address_of(parent)}"
        await self.assert_serves(self.child_under_tls("child", own.identity(authority.file)), address)
        stranger = self.child_under_tls("stranger", TLSIdentity(authority=authority.file))
        error = await self.assertFailure(stranger.download(self.task_id, parents=[address]).done, NoParentLeft)
        self.assertIn("certificate", str(error))

    async def test_tls(self) -> None:
        """So at Twisted's own endpoint of TLS, which takes a directory of certificates, and asks for none."""
        authority = Authority(self.directory)
        own = authority.issue()
        certificates = self.directory / "certificates"
        certificates.mkdir()
        (certificates / "localhost.pem").write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
        parent = await self.parent(f"tls:{certificates}:port=0:interface=\\:\\:ffff\\:127.0.0.1")
        child = self.child_under_tls("child", TLSIdentity(authority=authority.file))
        await self.assert_serves(child, f"tls://localhost:{cast(IPv4Address, parent.address).port}")

    def child_under_tls(self, name: str, identity: TLSIdentity) -> VortexPeer:
        """A peer that shows and trusts certificates as a child."""
        client = UploadClientConfig(cert=identity.certificate, key=identity.key, ca_cert=identity.authority)
        config = replace(default_config(), upload=UploadConfig(client=client), metrics=MetricsConfig(enable=False))
        server = replace(config.storage.server, protocol="tcp")
        config = replace(config, storage=StorageConfig(server=server))
        return self.peer(name, config=config, listen=[])

    def test_systemd(self) -> None:
        """So at a socket that systemd has opened: a process is started as systemd starts one."""
        import_file(self.path, self.directory / "parent", PieceKind.STANDARD, PIECE)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            place = listening.getsockname()
            script = _UNDER_SYSTEMD.format(descriptor=listening.fileno(), storage=str(self.directory / "parent"))
            process = subprocess.Popen(
                [sys.executable, "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=[listening.fileno()],
            )
        with process:
            ready = process.stdout.readline() if process.stdout is not None else ""
            self.assertIn("ready", ready)
            request = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id=self.task_id, number=0)
            with socket.create_connection(place, 60) as child:
                child.sendall(request.to_bytes())
                self.assertEqual(child.recv(1, socket.MSG_WAITALL), b"\x01")
            process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)

    async def test_several(self) -> None:
        """It serves at several endpoints at once, and at none of them any more when it has stopped."""
        path = self.directory / "socket"
        parent = self.peer("parent", listen=["tcp:0:interface=127.0.0.1", f"unix:{path}"])
        await parent.ready()
        self.assertTrue(path.exists())
        await parent.stopService()
        self.assertFalse(path.exists())
        self.assertIsNone(parent.address)

    async def test_taken(self) -> None:
        """A port that is taken fails the start, and nothing is left open."""
        parent = await self.parent()
        port = cast(IPv4Address, parent.address).port
        path = self.directory / "socket"
        again = VortexPeer(
            REACTOR, storage=self.directory / "again", listen=[f"unix:{path}", f"tcp:{port}:interface=127.0.0.1"]
        )
        self.assertRaises(CannotListenError, again.startService)
        await deferLater(REACTOR, 0)
        self.assertFalse(path.exists())

    async def test_never_listens(self) -> None:
        """A peer that waits for an endpoint which never listens says so, and when it is stopped meanwhile."""

        @implementer(IStreamServerEndpoint)
        class Endpoint:
            """Never listens."""

            def listen(self, protocolFactory: object) -> Deferred[Any]:
                """Say nothing."""
                return Deferred()

        peer = self.peer("peer", listen=[Endpoint()])
        ready = Deferred.fromCoroutine(peer.ready())
        await peer.stopService()
        await self.assertFailure(ready, CannotServe)
        self.patch(endpoint_server, "LISTEN_TIMEOUT", 0.1)
        peer = self.peer("peer", listen=[Endpoint()])
        with self.assertRaises(CannotServe) as raised:
            await peer.ready()
        self.assertRegex(str(raised.exception), "the TCP door is not open: expected the endpoint <.*Endpoint object at")
        self.assertEqual(peer.missing(), ["the TCP door is not open"])

    def test_refused(self) -> None:
        """A description that is none, files that are not there, and workers are refused at the start."""
        for listen, error in (
            ("nonsense", ValueError),
            ("mtls:0:certificate=/none:trustRoots=/none", CertificateUnusable),
        ):
            peer = VortexPeer(REACTOR, storage=self.directory / "peer", listen=[listen])
            self.assertRaises(error, peer.startService)
        config = Config(storage=StorageConfig(server=StorageServerConfig(workers=2)))
        peer = VortexPeer(REACTOR, config, storage=self.directory / "peer", listen=["tcp:0"])
        self.assertRaises(UsageError, peer.startService)
