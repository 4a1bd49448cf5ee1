"""grpcio's credentials are made of the files that Vortex has, and work with the gRPC server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import grpc
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorFromThreads, IReactorTCP, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.rpc.credentials import channel_credentials
from dragonfly_vortex.rpc.event_loop import EventLoopThread
from dragonfly_vortex.rpc.http2_server import GRPCServerFactory
from dragonfly_vortex.transport.tls import ServerTLS, TLSServerFactory, server_tls_from
from test.certificates import Authority

METHOD = "/test.Echo/Say"


async def echo(request: bytes, context: object) -> bytes:
    """The request."""
    return request


class CredentialsTests(TestCase):
    """A server that sends given bytes, over TLS."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.peer = self.authority.issue()
        self.thread = EventLoopThread(IReactorFromThreads(reactor), "echo")
        self.thread.start()
        self.addCleanup(self.thread.stop)

    def serve(self, tls: ServerTLS) -> int:
        """Serve until the test ends; the port."""
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Say": grpc.unary_unary_rpc_method_handler(echo)}
        handlers = (grpc.method_handlers_generic_handler("test.Echo", methods),)
        clock = IReactorTime(reactor)
        factory = GRPCServerFactory(self.thread, handlers, clock, max_calls=10, max_request=100)
        served = TLSServerFactory(tls, factory, lambda _: b"", clock)
        port = IReactorTCP(reactor).listenTCP(0, cast(Any, served), interface="127.0.0.1")
        self.addCleanup(factory.drain, 0.0)
        self.addCleanup(port.stopListening)
        return cast(IPv4Address, port.getHost()).port

    async def say(self, port: int, identity: TLSIdentity, host: str = "127.0.0.1") -> bytes:
        """Call the server."""

        def call() -> bytes:
            options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.secure_channel(f"{host}:{port}", channel_credentials(identity), options) as channel:
                method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
                return method(b"hello", timeout=120)

        return await deferToThread(call)

    async def assert_refused(self, port: int, identity: TLSIdentity, host: str = "127.0.0.1") -> None:
        """Assert that nothing is served."""
        try:
            await self.say(port, identity, host)
        except grpc.RpcError as error:
            self.assertEqual(cast(grpc.Call, error).code(), grpc.StatusCode.UNAVAILABLE)
        else:
            self.fail("expected the connection to be refused")

    async def test_load(self) -> None:
        """A running server shows what was loaded last."""
        tls = server_tls_from(self.peer.identity())
        port = self.serve(tls)
        other = Authority(self.directory, "other")
        trusting, trusting_other = TLSIdentity(authority=self.authority.file), TLSIdentity(authority=other.file)
        self.assertEqual(await self.say(port, trusting), b"hello")
        tls.become(server_tls_from(other.issue("another").identity()))
        self.assertEqual(await self.say(port, trusting_other), b"hello")
        await self.assert_refused(port, trusting)

    async def test_server_alone(self) -> None:
        """Without an authority the server asks for no certificate; the client verifies its, and its name."""
        port = self.serve(server_tls_from(self.peer.identity()))
        trusting = TLSIdentity(authority=self.authority.file)
        for host in ("127.0.0.1", "localhost"):
            self.assertEqual(await self.say(port, trusting, host), b"hello")
        await self.assert_refused(port, TLSIdentity())
        await self.assert_refused(port, TLSIdentity(authority=Authority(self.directory, "other").file))
        wrong = self.serve(server_tls_from(self.authority.issue("wrong", hosts=("example.org",)).identity()))
        await self.assert_refused(wrong, trusting)

    async def test_mutual(self) -> None:
        """With an authority the server serves only clients whose certificates it has signed."""
        port = self.serve(server_tls_from(self.peer.identity(self.authority.file)))
        self.assertEqual(await self.say(port, self.peer.identity(self.authority.file)), b"hello")
        await self.assert_refused(port, TLSIdentity(authority=self.authority.file))
        alien = Authority(self.directory, "other").issue("alien")
        await self.assert_refused(port, alien.identity(self.authority.file))

    async def test_as_vortex(self) -> None:
        """What Vortex takes grpcio takes, too: odd names, odd forms of PEM, and authorities that are no roots."""
        below = Authority(self.directory, "below", above=self.authority)
        odd = below.issue("odd", hosts=("*", "localhost", "127.0.0.1"))
        odd.certificate.write_bytes(b"\xef\xbb\xbf" + odd.certificate.read_bytes().replace(b"-\n-", b"--"))
        odd.key.write_bytes(b"\xef\xbb\xbf" + odd.key.read_bytes())
        port = self.serve(server_tls_from(odd.identity(self.authority.file)))
        for authority in (self.authority.file, below.file, odd.certificate):
            self.assertEqual(await self.say(port, odd.identity(authority)), b"hello", authority)


class FileTests(SynchronousTestCase):
    """The files."""

    def test_unusable(self) -> None:
        """The error for a file that cannot be used is that of Vortex; grpcio would give none."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        identity = TLSIdentity(certificate=authority.issue().certificate, key=authority.issue("other").key)
        error = self.assertRaises(CertificateUnusable, channel_credentials, identity)
        self.assertEqual(error.file, str(identity.key))

    def test_import(self) -> None:
        """Importing the module imports no grpc."""
        code = "import sys, dragonfly_vortex.rpc.credentials; print('grpc' in sys.modules)"
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(printed.stdout, "False\n")
