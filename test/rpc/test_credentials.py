"""grpcio's credentials are made of the files that Vortex has, and are as mutual."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import TLSIdentity
from dragonfly_vortex.errors import CertificateUnusable
from dragonfly_vortex.rpc.credentials import ServerCertificates, channel_credentials
from test.certificates import Authority

METHOD = "/test.Echo/Say"


class CredentialsTests(SynchronousTestCase):
    """A server that sends given bytes, over TLS."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.peer = self.authority.issue()

    def serve(self, identity: TLSIdentity, certificates: ServerCertificates | None = None) -> int:
        """Serve until the test ends; the port."""
        server = grpc.server(ThreadPoolExecutor(1))
        echo: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": echo}),))
        port: int = server.add_secure_port("127.0.0.1:0", (certificates or ServerCertificates(identity)).credentials())
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        return port

    def say(self, port: int, identity: TLSIdentity, host: str = "127.0.0.1") -> bytes:
        """Call the server."""
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"{host}:{port}", channel_credentials(identity), options) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            return call(b"hello", timeout=10)

    def assert_refused(self, port: int, identity: TLSIdentity, host: str = "127.0.0.1") -> None:
        """Assert that nothing is served."""
        error = self.assertRaises(grpc.RpcError, self.say, port, identity, host)
        self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)

    def test_load(self) -> None:
        """A running server shows what was loaded last; what cannot be used changes nothing."""
        certificates = ServerCertificates(self.peer.identity())
        port = self.serve(self.peer.identity(), certificates)
        other = Authority(self.directory, "other")
        trusting, trusting_other = TLSIdentity(authority=self.authority.file), TLSIdentity(authority=other.file)
        self.assertEqual(self.say(port, trusting), b"hello")
        certificates.load(other.issue("another").identity())
        self.assertEqual(self.say(port, trusting_other), b"hello")
        self.assert_refused(port, trusting)
        broken = TLSIdentity(certificate=self.directory / "missing.crt", key=self.directory / "missing.key")
        self.assertRaises(CertificateUnusable, certificates.load, broken)
        self.assertEqual(self.say(port, trusting_other), b"hello")

    def test_server_alone(self) -> None:
        """Without an authority the server asks for no certificate; the client verifies its, and its name."""
        port = self.serve(self.peer.identity())
        trusting = TLSIdentity(authority=self.authority.file)
        self.assertEqual([self.say(port, trusting, host) for host in ("127.0.0.1", "localhost")], [b"hello"] * 2)
        self.assert_refused(port, TLSIdentity())
        self.assert_refused(port, TLSIdentity(authority=Authority(self.directory, "other").file))
        wrong = self.serve(self.authority.issue("wrong", hosts=("example.org",)).identity())
        self.assert_refused(wrong, trusting)

    def test_mutual(self) -> None:
        """With an authority the server serves only clients whose certificates it has signed."""
        port = self.serve(self.peer.identity(self.authority.file))
        self.assertEqual(self.say(port, self.peer.identity(self.authority.file)), b"hello")
        self.assert_refused(port, TLSIdentity(authority=self.authority.file))
        alien = Authority(self.directory, "other").issue("alien")
        self.assert_refused(port, alien.identity(self.authority.file))

    def test_as_vortex(self) -> None:
        """What Vortex takes grpcio takes, too: odd names, odd forms of PEM, and authorities that are no roots."""
        below = Authority(self.directory, "below", above=self.authority)
        odd = below.issue("odd", hosts=("*", "localhost", "127.0.0.1"))
        odd.certificate.write_bytes(b"\xef\xbb\xbf" + odd.certificate.read_bytes().replace(b"-\n-", b"--"))
        odd.key.write_bytes(b"\xef\xbb\xbf" + odd.key.read_bytes())
        port = self.serve(odd.identity(self.authority.file))
        for authority in (self.authority.file, below.file, odd.certificate):
            self.assertEqual(self.say(port, odd.identity(authority)), b"hello", authority)

    def test_unusable_files(self) -> None:
        """The error for a file that cannot be used is that of Vortex; grpcio would give none."""
        identity = TLSIdentity(certificate=self.peer.certificate, key=self.authority.issue("other").key)
        for make in (ServerCertificates, channel_credentials):
            error = self.assertRaises(CertificateUnusable, make, identity)
            self.assertEqual(error.file, str(identity.key))

    def test_import(self) -> None:
        """Importing the module imports no grpc."""
        code = "import sys, dragonfly_vortex.rpc.credentials; print('grpc' in sys.modules)"
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(printed.stdout, "False\n")
