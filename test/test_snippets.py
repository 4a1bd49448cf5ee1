"""The configurations and programs that the documents show: each is loaded, or run, as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.config import load_config
from test.certificates import Authority, Issued

DOCS = Path(__file__).resolve().parent.parent / "docs"

OF_OTHERS = {"livenessProbe", "readinessProbe", "scrape_configs"}
"""Keys of Kubernetes and of Prometheus."""


def blocks(document: Path, language: str) -> list[str]:
    """The blocks of a document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.M | re.S)


def run_block(text: str) -> dict[str, Any]:
    """Run a program, and return its names."""
    names: dict[str, Any] = {}
    exec(compile(text, "a document", "exec", dont_inherit=True), names)
    return names


class ConfigurationTests(SynchronousTestCase):
    """The blocks of YAML."""

    def test_load(self) -> None:
        """Each that is a configuration of a peer loads without a warning."""
        found = set()
        for document in sorted(DOCS.glob("*.md")):
            for block in blocks(document, "yaml"):
                if OF_OTHERS & yaml.safe_load(block).keys():
                    continue
                file = Path(self.mktemp())
                file.write_text(block, encoding="utf-8")
                self.assertEqual(load_config(file).warnings, (), document.name)
                found.add(document.name)
        self.assertLessEqual({"log.md", "metrics.md", "space.md"}, found)


class _Greeting(Protocol):
    """Sends a word, and closes the connection."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(b"hello")
        transport.loseConnection()


class ProgramTests(TestCase):
    """The blocks of Python that serve."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())  # a short path, for a socket
        self.addCleanup(shutil.rmtree, self.directory)

    async def test_send_file(self) -> None:
        """The protocol of the page about ``send_file`` sends its file to a client."""
        content = os.urandom(1_000_000)
        file = self.directory / "model.bin"
        file.write_bytes(content)
        (program,) = blocks(DOCS / "send-file.md", "python")
        protocol = run_block(program.replace("model.bin", str(file)))["SendsOneFile"]
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(protocol))
        self.addCleanup(port.stopListening)

        def fetch() -> bytes:
            with (
                socket.create_connection(("127.0.0.1", port.getHost().port), 60) as client,
                client.makefile("rb") as got,
            ):
                return got.read()

        self.assertEqual(await deferToThread(fetch), content)

    async def test_client_certificates(self) -> None:
        """The endpoints of the page about them serve a client that shows a certificate, and refuse one without."""
        authority = Authority(self.directory)
        peer = authority.issue()
        text = (DOCS / "client-certificates.md").read_text(encoding="utf-8")
        for name, path in (
            ("server.pem", peer.certificate),
            ("server.key", peer.key),
            ("clients.pem", authority.file),
            ("/run/peer.sock", self.directory / "peer.sock"),
        ):
            text = text.replace(name, str(path))
        (self.directory / "page.md").write_text(text)
        (program,) = blocks(self.directory / "page.md", "python")
        factory = Factory.forProtocol(_Greeting)
        listen = run_block(program.replace("reactor, 4433", "reactor, 0, interface='127.0.0.1'"))["listen"]
        ports = [await listen(reactor, factory)]
        for description in re.findall(r"^mtls:.+$", text, re.M):
            endpoint = serverFromString(reactor, description.replace("mtls:4433", "mtls:0"))
            ports.append(await endpoint.listen(factory))
        for port in ports:
            self.addCleanup(port.stopListening)
            self.assertEqual(await deferToThread(self.greeting, port.getHost(), authority, peer), b"hello")
            refused = deferToThread(self.greeting, port.getHost(), authority, None)
            await self.assertFailure(refused, ssl.SSLError)
        self.assertEqual(len(ports), 3)

    def greeting(self, place: IPv4Address | UNIXAddress, authority: Authority, identity: Issued | None) -> bytes:
        """What a client with this certificate, or without one, is sent. Blocks."""
        context = ssl.create_default_context(cafile=str(authority.file))
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        if isinstance(place, UNIXAddress):
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(60)
            plain.connect(str(self.directory / "peer.sock"))
        else:
            plain = socket.create_connection((place.host, place.port), 60)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            return client.recv(100)
