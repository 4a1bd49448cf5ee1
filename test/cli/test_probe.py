"""``dfvortex probe``: peers of ours, scripted ones, and ports that speak something else."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterable
from concurrent import futures
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.testing.scripted_parent import End, ScriptedParent, Send, Step
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceKind, PieceRequest
from test.certificates import Authority
from test.processes import Daemon, dfvortex, import_file, write_config


def not_found(request: PieceRequest) -> Send:
    """The reply of a peer that does not have the task."""
    return Send(ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text="no such task").to_bytes())


class SilentHandler(SimpleHTTPRequestHandler):
    """Serves files, and writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class SilentServer(ThreadingHTTPServer):
    """A web server that writes nothing of a connection that ends."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class ScriptedTests(TestCase):
    """Peers that answer in their own ways."""

    timeout = 120

    def probe(
        self, answer: Iterable[Step] | None, *kinds: PieceKind, timeout: str = "1m"
    ) -> Deferred[subprocess.CompletedProcess[str]]:
        """
        Probe a parent.

        :param answer: what it does in place of an answer; None to answer, and keep the connection.
        :param kinds: the kinds of pieces for which it does so; it closes the connection for others.
        """
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()

        def reply(request: PieceRequest) -> Iterable[Step]:
            if request.kind not in kinds:
                return [End()]
            return [not_found(request)] if answer is None else answer

        self.parent = ScriptedParent(IReactorTCP(reactor), reply)
        self.parent.start()
        self.addCleanup(self.parent.stop)
        return deferToThread(dfvortex, "probe", self.parent.address, "--timeout", timeout, directory=directory)

    async def test_kept(self) -> None:
        """A peer that answers all kinds on one connection is asked on one, once for each kind and once more."""
        ran = await self.probe(None, *PieceKind)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertRegex(
            ran.stdout,
            rf"\A{self.parent.address}: a Vortex peer\nconnected in: +\d+\.\d ms\nanswered in: +\d+\.\d ms\n"
            r"kinds: +standard, persistent, persistent-cache, cache\nconnections: +kept for the next request\n\Z",
        )
        self.assertEqual(len(self.parent.requests), 5)

    async def test_some_kinds(self) -> None:
        """A peer that closes the connection for a kind, as a dfdaemon does for cache pieces, lacks that kind."""
        ran = await self.probe(None, PieceKind.STANDARD, PieceKind.PERSISTENT)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("standard, persistent; not persistent-cache, cache\n", ran.stdout)

    async def test_closed(self) -> None:
        """A peer that closes after each reply, as dfdaemon 1.5.1 does, is a peer that keeps no connection."""
        reply = ErrorReply(packet_id=0, code=ErrorCode.NOT_FOUND, text="").to_bytes()
        ran = await self.probe([Send(reply), End()], *PieceKind)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("persistent-cache, cache\nconnections:   closed after each reply\n", ran.stdout)

    async def test_strangers(self) -> None:
        """What is no peer is one line with what it seems to be, and status 5; a silent port, too."""
        strangers: tuple[tuple[list[Step], str], ...] = (
            ([Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), End()], "got what a web server sends"),
            ([Send(b"SSH-2.0-OpenSSH_9.2\r\n")], "got what an SSH server sends"),
            ([Send(b"\x15\x03\x01\0\x02\x02\x46"), End()], "got what a port with TLS sends: is it a tls:// or"),
            ([Send(b"-ERR unknown command\r\n")], r"got another answer, which begins with '-ERR unkn'$"),
            ([Send(b"\xff" * 40), End()], r"got another answer, which begins with '\\xff"),
            ([], r"got no answer within 0\.2 s$"),
            ([End()], r"got a connection that was closed without an answer$"),
        )
        for answer, words in strangers:
            ran = await self.probe(answer, *PieceKind, timeout="1m" if answer else "200ms")
            self.assertEqual((ran.returncode, ran.stdout), (5, ""), ran)
            self.assertRegex(ran.stderr, rf"\Adfvortex: {self.parent.address}: expected a Vortex peer, {words}")
            self.assertEqual(ran.stderr.count("\n"), 1)
            self.flushLoggedErrors(RemoteProtocolError)  # the parent understands no HTTP/2


class DaemonTests(SynchronousTestCase):
    """A peer of ours, with all its ports."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    def probe(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Probe."""
        return dfvortex("probe", *arguments, directory=self.directory)

    def test_peer(self) -> None:
        """The Vortex port has all kinds and a rate; the other ports are named, and so is a task that is not there."""
        write_config(self.directory)
        path = self.directory / "file"
        path.write_bytes(os.urandom(2_500_000))
        task_id = import_file(path, directory=self.directory, piece_length=1_000_000)
        with Daemon(self.directory) as daemon:
            ran = self.probe(f"127.0.0.1:{daemon.port}", "--task", task_id)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertIn("kinds:         standard, persistent, persistent-cache, cache\n", ran.stdout)
            rate = r"rate: +2500000 bytes in 3 pieces in \d+\.\d\d s, \d+\.\d MB/s over one connection\n\Z"
            self.assertRegex(ran.stdout, rate)
            ran = self.probe(f"localhost:{daemon.port}", "--task", "0" * 64)
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count("\n")), (3, "", 1))
            ran = self.probe(f"127.0.0.1:{daemon.grpc_port}")
            self.assertEqual((ran.returncode, ran.stdout), (5, ""))
            self.assertIn("got what a gRPC port sends (HTTP/2): is it a grpc://", ran.stderr)
            ran = self.probe(f"grpc://127.0.0.1:{daemon.grpc_port}")
            self.assertEqual((ran.returncode, ran.stdout), (2, ""))
            self.assertIn("expected HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT, got grpc://", ran.stderr)

    def test_refused(self) -> None:
        """A port without a listener is unreachable."""
        self.directory.mkdir()
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            ran = self.probe(f"127.0.0.1:{bound_only.getsockname()[1]}")
        self.assertEqual((ran.returncode, ran.stdout), (5, ""))
        self.assertRegex(ran.stderr, r"expected a Vortex peer, got connection refused\n\Z")

    def test_tls(self) -> None:
        """A peer with TLS is probed with TLS, by the authority of the configuration; without TLS the error says so."""
        self.directory.mkdir()
        authority = Authority(self.directory)
        issued = authority.issue()
        write_config(self.directory, more=f"tls: {{cert: {issued.certificate}, key: {issued.key}}}\n")
        self.directory.joinpath("child.yaml").write_text(f"tls: {{ca_cert: {authority.file}}}\n")
        with Daemon(self.directory) as daemon:
            ran = self.probe(f"tls://127.0.0.1:{daemon.port}", "--config", "child.yaml")
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertIn("a Vortex peer\n", ran.stdout)
            ran = self.probe(f"127.0.0.1:{daemon.port}")
            self.assertEqual((ran.returncode, ran.stdout), (5, ""))
            self.assertIn("expected a Vortex peer, got error 1: expected TLS (tls://)", ran.stderr)


class OtherServerTests(SynchronousTestCase):
    """Servers of other protocols, as they are."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        issued = Authority(self.directory).issue()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(issued.certificate, issued.key)
        self.credentials = grpc.ssl_server_credentials([(issued.key.read_bytes(), issued.certificate.read_bytes())])

    def assert_told(self, address: str, words: str, *, timeout: str = "5s") -> None:
        """Assert that a probe ends with status 5, and says in one line what was expected and what came."""
        ran = dfvortex("probe", address, "--timeout", timeout, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout), (5, ""), ran)
        self.assertEqual(ran.stderr, f"dfvortex: {address}: expected a Vortex peer, got {words}\n")

    def web_port(self, *, is_secure: bool) -> int:
        """The port of a web server."""
        server = SilentServer(("127.0.0.1", 0), SilentHandler)
        if is_secure:
            server.socket = self.context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_port

    def grpc_port(self, *, is_secure: bool) -> int:
        """The port of a gRPC server."""
        server = grpc.server(futures.ThreadPoolExecutor(1))
        where = "127.0.0.1:0"
        port = server.add_secure_port(where, self.credentials) if is_secure else server.add_insecure_port(where)
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        return port

    def test_plain(self) -> None:
        """Ports without TLS, asked with and without it."""
        web, rpc = self.web_port(is_secure=False), self.grpc_port(is_secure=False)
        self.assert_told(f"127.0.0.1:{web}", "what a web server sends (HTTP/0.9)")
        self.assert_told(f"127.0.0.1:{rpc}", "what a gRPC port sends (HTTP/2): is it a grpc:// or grpcs:// address?")
        for port in (web, rpc):
            no_tls = "a failure of TLS: expected TLS, got something else: the other side speaks none here"
            self.assert_told(f"tls://127.0.0.1:{port}", no_tls)

    def test_tls(self) -> None:
        """Ports with TLS, asked without it and by a child that does not know the authority."""
        for port in (self.web_port(is_secure=True), self.grpc_port(is_secure=True)):
            words = "what a port with TLS sends: is it a tls:// or grpcs:// address?"
            self.assert_told(f"127.0.0.1:{port}", words)
            untrusted = "a failure of TLS: the certificate was not signed by an authority that is trusted here"
            self.assert_told(f"tls://127.0.0.1:{port}", untrusted)

    def test_none(self) -> None:
        """A port that accepts and is silent, one that accepts no more, and a name that does not resolve."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            self.assert_told(f"127.0.0.1:{port}", "no answer within 0.2 s", timeout="200ms")
            self.assert_told(f"tls://127.0.0.1:{port}", "no connection within 2 s", timeout="200ms")
            self.assert_told(f"tls://127.0.0.1:{port}", "no connection within 2.2 s", timeout="2200ms")
        self.assert_told("no-such-host.invalid:4005", "the name cannot be resolved")
