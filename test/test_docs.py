"""Tests of the documents: their links exist, and their Python code does what they say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.errors import PieceNotFound
from dragonfly_vortex.interfaces import IPieceStore
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server_protocol import VortexServerFactory
from dragonfly_vortex.wire import PieceKind, Vortex

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks(document: Path) -> Iterator[str]:
    """The Python code of a document, block by block."""
    yield from re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(document: Path) -> dict[str, Any]:
    """Run the Python code of a document, and give the names that it defines."""
    names: dict[str, Any] = {"__name__": "document"}
    for block in python_blocks(document):
        exec(compile(block, str(document), "exec"), names)
    return names


class LinkTests(SynchronousTestCase):
    """Links between the documents."""

    def test_every_link_to_a_file_leads_to_one(self) -> None:
        """A relative link names a file that is there."""
        broken = [
            f"{document.name}: {target}"
            for document in DOCUMENTS
            for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
            if "://" not in target and not (document.parent / target).exists()
        ]
        self.assertEqual(broken, [])

    def test_every_document_is_linked_from_the_readme_or_another_document(self) -> None:
        """Every document can be reached by links, but for the fragments of the changelog."""
        linked = {
            (document.parent / target).resolve()
            for document in DOCUMENTS
            for target in re.findall(r"\]\(([^)#]+\.md)", document.read_text(encoding="utf-8"))
        }
        lonely = [
            document.name
            for document in DOCUMENTS
            if document not in linked and document.name != "README.md" and document.parent.name != "changes"
        ]
        self.assertEqual(lonely, [])


class ArchitectureTests(SynchronousTestCase):
    """The tree in ``docs/architecture.md``."""

    def test_every_module_is_in_the_tree(self) -> None:
        """A newcomer finds each module there, and so what it belongs to."""
        tree = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
        modules = {path.stem for path in (ROOT / "dragonfly_vortex").rglob("*.py") if not path.stem.startswith("__")}
        self.assertEqual(modules - set(re.findall(r"[a-z_]+", tree)), set())


class NamedTests(SynchronousTestCase):
    """The tests that documents name as their evidence."""

    def test_every_test_that_is_named_exists(self) -> None:
        """A name like ``test.wire.test_reader.ReaderTests`` is that of a module, a class or a test."""
        for document in DOCUMENTS:
            for name in set(re.findall(r"`(test(?:\.\w+)+)", document.read_text(encoding="utf-8"))):
                self.assertIsNotNone(namedAny(name), f"{document.name}: {name}")


class EmbeddingTests(TestCase):
    """The code of ``docs/embedding.md``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.names = run_blocks(ROOT / "docs" / "embedding.md")
        self.content = os.urandom(100_000)
        (self.directory / "file").write_bytes(self.content)
        self.task = import_file(self.directory / "file", self.directory / "storage", PieceKind.STANDARD, 65536)

    def test_a_server_and_a_fetch_into_a_file(self) -> Deferred[None]:
        """What ``serve`` serves, ``fetch_into`` writes."""
        return Deferred.fromCoroutine(self.serve_and_fetch())

    async def serve_and_fetch(self) -> None:
        """Serve the storage, and fetch the task's second piece from it."""
        port = await self.names["serve"](reactor, self.directory / "storage", 0)
        self.addCleanup(port.factory.store.stop)
        self.addCleanup(port.stopListening)
        downloader = DownloaderFactory("tcp", default_config(), reactor=reactor).build()
        self.addCleanup(downloader.stop)
        address = f"127.0.0.1:{port.getHost().port}"
        target = self.directory / "piece"
        length = await self.names["fetch_into"](downloader, address, self.task.task_id, 1, str(target))
        self.assertEqual(length, 100_000 - 65536)
        self.assertEqual(target.read_bytes(), self.content[65536:])

    async def test_a_store_of_two_methods(self) -> None:
        """A server serves the file of the store ``OneFile``, and answers "not found" for any other piece."""
        store = self.names["OneFile"](self.directory / "file", self.task.task_id)
        verifyObject(IPieceStore, store)
        factory = VortexServerFactory(
            store,
            ServerSettings(clock=reactor, limiter=UploadLimiter(10**9, reactor)),
            ConnectionRegistry(reactor),
        )
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        downloader = DownloaderFactory("tcp", default_config(), reactor=reactor).build()
        self.addCleanup(downloader.stop)
        address = f"127.0.0.1:{port.getHost().port}"
        piece = await downloader.download_piece(address, 0, "", self.task.task_id)
        self.assertEqual(piece.content, self.content)
        with self.assertRaises(PieceNotFound):
            await downloader.download_piece(address, 1, "", self.task.task_id)

    def test_a_whole_peer(self) -> Deferred[None]:
        """What ``add_peer`` adds listens once it is started, and stops."""
        return Deferred.fromCoroutine(self.start_and_stop_a_peer())

    async def start_and_stop_a_peer(self) -> None:
        """Add a peer by the document's code, start it, and stop it."""
        (self.directory / "tap.yaml").write_text(
            "storage: {dir: storage, server: {ip: 127.0.0.1, tcp: {port: 0}}}\n"
            "upload: {server: {port: 0}}\nmetrics: {server: {port: 0}}\n"
        )
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.directory)
        services = MultiService()
        peer = self.names["add_peer"](reactor, services)
        services.startService()
        self.assertEqual(peer.address.host, "127.0.0.1")
        await services.stopService()
        self.assertIsNone(peer.address)

    def test_the_wire_alone(self) -> None:
        """The request that the document makes is one."""
        request = Vortex.from_bytes(self.names["request"])
        self.assertEqual(request, Vortex.from_bytes(request.to_bytes()))
        self.assertEqual(request.packet_id, 1)
