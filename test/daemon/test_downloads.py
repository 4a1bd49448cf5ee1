"""The downloads of a running peer, from a real parent over loopback, into a real storage."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Port
from twisted.trial.unittest import TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.errors import NoParentKnown, PoolClosed, StorageFailure, TaskDigestMismatch, TaskError
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.task_metrics import PREFIX
from dragonfly_vortex.model import ArrivedPiece, Origin, TaskRequest
from dragonfly_vortex.source.policy import SourcePolicy
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from dragonfly_vortex.storage.room import Room
from dragonfly_vortex.task.source_choice import REASONS
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, hang
from dragonfly_vortex.wire import PieceKind
from test.metrics.page import values_of
from test.storage.contents import files_in

peer_reactor = cast(IPeerReactor, reactor)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true; the test's timeout bounds this."""
    while not condition():
        await deferLater(peer_reactor, 0.01)


LENGTH = 100_000
PIECES = 25


class _Parent(VortexService):
    """A parent with one task of 25 pieces, over TCP."""

    def __init__(self, directory: Path, content: bytes) -> None:
        tcp = StorageServerConfig(protocol="tcp", ip="127.0.0.1", tcp=StorageTCPConfig(port=0))
        storage = StorageConfig(dir=directory / "parent", server=tcp)
        self.tally = Tally()
        config = Config(storage=storage, metrics=MetricsConfig(enable=False))
        super().__init__(config, peer_reactor, tally=self.tally)
        directory.joinpath("file").write_bytes(content)
        task = import_file(directory / "file", storage.dir, PieceKind.STANDARD, piece_length=4096)
        self.request = TaskRequest(kind=PieceKind.STANDARD, task_id=task.task_id)


class DownloadsTestCase(TestCase):
    """A storage, and a parent that is not started."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.content = os.urandom(LENGTH)
        self.parent = _Parent(self.directory, self.content)
        self.request = self.parent.request
        self.store = PieceStore(self.directory / "child", peer_reactor)
        await self.store.start()
        self.addCleanup(self.store.stop)

    def downloads(self, *parents: str, tasks: int = 100) -> Downloads:
        """Downloads from parents."""
        addresses = tuple(map(ParentAddress.from_text, parents))
        config = Config(download=DownloadConfig(parents=addresses, concurrent_task_count=tasks))
        downloads = Downloads(config, peer_reactor, self.store)
        self.addCleanup(lambda: Deferred.fromCoroutine(downloads.stop()))
        return downloads

    def start_parent(self) -> str:
        """Start the parent. Returns its address."""
        self.parent.startService()
        self.addCleanup(self.parent.stopService)
        return f"127.0.0.1:{getattr(self.parent.address, 'port', 0)}"

    def silent_parent(self) -> tuple[str, list[Protocol]]:
        """A parent that says nothing: its address, and the connections to it."""
        connections: list[Protocol] = []

        class Silent(Protocol):
            """A connection that is only remembered."""

            def connectionMade(self) -> None:
                connections.append(self)

        def close() -> None:
            for each in connections:
                if each.transport is not None:
                    each.transport.loseConnection()

        factory = cast(ServerFactory, Factory.forProtocol(Silent))
        port = cast(Port, peer_reactor.listenTCP(0, factory, interface="127.0.0.1"))
        self.addCleanup(close)
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{port.getHost().port}", connections


class ParentTests(DownloadsTestCase):
    """Downloads from a parent that has the task."""

    async def test_download(self) -> None:
        """A task is in the storage when it is downloaded, and each of its pieces was reported by then."""
        told: list[ArrivedPiece] = []
        task = await self.downloads(self.start_parent()).download(self.request, told.append)
        self.assertEqual((task.task_id, task.content_length), (self.request.task_id, LENGTH))
        self.assertEqual(sorted(piece.metadata.number for piece in told), list(range(PIECES)))
        self.assertEqual({piece.piece_length for piece in told}, {4096})
        with Catalog(self.directory / "child") as catalog:
            self.assertEqual(len(catalog.get_pieces(PieceKind.STANDARD, task.task_id)), PIECES)

    async def test_stored(self) -> None:
        """A complete task is answered from the storage: no parent is needed."""
        await self.downloads(self.start_parent()).download(self.request)
        told: list[ArrivedPiece] = []
        await self.downloads().download(self.request, told.append)
        self.assertEqual([piece.metadata.number for piece in told], list(range(PIECES)))
        self.assertEqual({piece.content_length for piece in told}, {LENGTH})

    async def test_used(self) -> None:
        """A task is used when a request gets it, so that it is not collected next, however old its first piece is."""
        storage = self.directory / "child"

        def uses() -> list[int]:
            with closing(sqlite3.connect(storage / "catalog.sqlite3")) as catalog:
                return [used for (used,) in catalog.execute("SELECT used_at FROM task")]

        for parent in (self.start_parent(), None):
            store = PieceStore(storage, peer_reactor)
            await store.start()
            self.store = store
            await self.downloads(*([parent] if parent else [])).download(self.request)
            await store.stop()
            self.assertEqual([used > 0 for used in uses()], [True])
            with closing(sqlite3.connect(storage / "catalog.sqlite3")) as catalog, catalog:
                catalog.execute("UPDATE task SET used_at = 0")

    async def test_many_stored(self) -> None:
        """A complete task's pieces are announced in steps: the reactor does other things between them."""
        file = self.directory / "file"
        task = import_file(file, self.directory / "child", PieceKind.STANDARD, piece_length=LENGTH // 1000)
        told: list[ArrivedPiece] = []
        meanwhile: list[int] = []

        def on_piece(piece: ArrivedPiece) -> None:
            if not told:
                peer_reactor.callLater(0, lambda: meanwhile.append(len(told)))
            told.append(piece)

        await self.downloads().download(replace(self.request, task_id=task.task_id), on_piece)
        self.assertGreaterEqual(len(told), 1000)
        self.assertEqual(meanwhile, [256])

    async def test_twice_at_once(self) -> None:
        """Two requests for one task at the same time are one download; both get all pieces."""
        downloads = self.downloads(self.start_parent())
        told: tuple[list[ArrivedPiece], ...] = ([], [])
        both = [downloads.download(self.request, pieces.append) for pieces in told]
        tasks = [await each for each in both]
        self.assertEqual(tasks[0], tasks[1])
        for pieces in told:
            self.assertEqual(sorted(piece.metadata.number for piece in pieces), list(range(PIECES)))
        self.assertEqual(self.parent.tally.bytes_sent, LENGTH)

    async def test_two_digests(self) -> None:
        """A request that wants a digest that the content does not have fails alone."""
        downloads = self.downloads(self.start_parent())
        wrong = downloads.download(replace(self.request, digest="sha256:" + "0" * 64))
        right = downloads.download(self.request)
        await self.assertFailure(wrong, TaskDigestMismatch)
        self.assertEqual((await right).content_length, LENGTH)
        values, labels = values_of(downloads.metrics.families()), "{app=,priority=6,tag=,type=0}"
        names = ("download_task_total", "download_task_failure_total", "concurrent_download_task_total")
        self.assertEqual([values[PREFIX + name + labels] for name in names], [2, 1, 0])
        self.assertEqual(values[PREFIX + "download_traffic{type=REMOTE_PEER}"], 2 * LENGTH)  # each fetched all
        took = PREFIX + "download_task_duration_milliseconds_count{task_size_level=1,task_type=0}"
        self.assertEqual(values[took], 1)

    async def test_again(self) -> None:
        """After a failure the task can be asked for again."""
        downloads = self.downloads(self.start_parent())
        await self.assertFailure(downloads.download(TaskRequest(kind=PieceKind.STANDARD, task_id="0" * 64)), TaskError)
        self.assertEqual(len(downloads), 0)
        await downloads.download(self.request)


class SourceTests(DownloadsTestCase):
    """Downloads from a source."""

    async def test_counted(self) -> None:
        """Each piece that was asked of the source is counted by the reason; the other counts stay 0."""
        origin = ScriptedOrigin(self.content)
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        downloads = self.downloads()
        await downloads.download(replace(self.request, origin=Origin(url=origin.url(), piece_length=4096)))
        self.assertEqual(downloads.from_source["no_parent"], PIECES)
        self.assertEqual(set(downloads.from_source), set(REASONS))
        self.assertEqual(sum(downloads.from_source.values()), PIECES)
        values = values_of(downloads.metrics.families())
        requests = {
            each: values[f"{PREFIX}backend_request_total{{method={each},scheme=http}}"] for each in ("HEAD", "GET")
        }
        self.assertEqual(requests, {"HEAD": 1, "GET": PIECES})
        self.assertEqual(
            values[f"{PREFIX}backend_request_duration_milliseconds_count{{method=GET,scheme=http}}"], PIECES
        )

    async def test_no_room(self) -> None:
        """Without room for its content a download fails at once, and nothing is left of it."""
        origin = ScriptedOrigin(os.urandom(3 << 20))
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        for is_foreign, threshold in ((False, 2 << 20), (True, 3_500_000)):
            self.store.room = Room(self.directory / "child", Policy(disk_threshold=threshold), is_made=True)
            request = replace(
                self.request, origin=Origin(url=origin.url()), must_ask_source=True, is_foreign=is_foreign
            )
            downloads = self.downloads()
            downloads.sources._policy = SourcePolicy(("127.0.0.1",))
            # What arrived before the room was counted needs no more.
            with self.assertRaisesRegex(StorageFailure, r"expected room for \d+ more bytes, got "):
                await downloads.download(request)
            self.assertEqual(files_in(self.directory / "child"), [])

    async def test_again_at_once(self) -> None:
        """A download that is begun while an earlier one of its task is ending succeeds."""
        origin = ScriptedOrigin(self.content, script=[None, hang])
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        downloads = self.downloads()
        request = replace(self.request, origin=Origin(url=origin.url()))
        write_task, disk = self.store.write_task, Deferred[None]()

        def write_slowly(*which: Any, **how: Any) -> StoredTarget:
            target = write_task(*which, **how)
            close = target.close
            self.patch(target, "close", lambda: disk.addCallback(lambda _: close()))
            return target

        slow = self.patch(self.store, "write_task", write_slowly)
        first = downloads.download(request)
        await origin.until_asked(2)
        slow.restore()
        first.cancel()
        second = downloads.download(request)
        await self.assertFailure(first, CancelledError)
        await until(lambda: len(downloads) == 1)
        disk.callback(None)
        self.assertEqual((await second).content_length, LENGTH)
        self.assertEqual((downloads.from_source.total(), downloads._locks), (2, {}))
        await until(lambda: not downloads._ending)


class SilentTests(DownloadsTestCase):
    """Downloads that do not end by themselves."""

    async def test_no_parent(self) -> None:
        """Without a parent a download fails at once, and says why."""
        failure: Deferred[Any] = self.downloads().download(self.request)
        self.assertIn("no", str(await self.assertFailure(failure, NoParentKnown)))

    async def test_last_one_leaves(self) -> None:
        """One who goes leaves the download to the other; when the last one goes it ends, and can begin again."""
        address, connections = self.silent_parent()
        downloads = self.downloads(address)
        first, second = downloads.download(self.request), downloads.download(self.request)
        await until(lambda: connections)
        first.cancel()
        await self.assertFailure(first, CancelledError)
        self.assertEqual(len(downloads), 1)
        second.cancel()
        await self.assertFailure(second, CancelledError)
        self.assertEqual(len(downloads), 0)
        third = downloads.download(self.request)
        await until(lambda: len(downloads) == 1)
        third.cancel()
        await self.assertFailure(third, CancelledError)

    async def test_slots(self) -> None:
        """Further tasks wait while as many are downloaded as may be; one that waits can be given up."""
        address, connections = self.silent_parent()
        downloads = self.downloads(address, tasks=1)
        first = downloads.download(self.request)
        await until(lambda: connections)
        begun = len(connections)
        waiting = downloads.download(TaskRequest(kind=PieceKind.STANDARD, task_id="1" * 64))
        await until(lambda: len(downloads) == 2)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assertEqual(len(connections), begun)
        first.cancel()
        await self.assertFailure(first, CancelledError)

    async def test_many_fail_at_once(self) -> None:
        """Hundreds that wait for a slot and fail in it at once fail one after the other; the next one is downloaded."""
        address, connections = self.silent_parent()
        downloads = self.downloads(tasks=1)
        first = downloads.download(TaskRequest(kind=PieceKind.STANDARD, task_id="1" * 64, parents=(address,)))
        await until(lambda: connections)
        others = [
            downloads.download(TaskRequest(kind=PieceKind.STANDARD, task_id=f"{number:064x}"))
            for number in range(16, 416)
        ]
        await until(lambda: len(downloads._slots.waiting) == len(others))
        first.cancel()
        await self.assertFailure(first, CancelledError)
        for each in others:
            await self.assertFailure(each, NoParentKnown)
        self.assertEqual(downloads._slots.tokens, 1)

    async def test_stop(self) -> None:
        """When the peer ends, all downloads do, and nothing begins any more."""
        address, connections = self.silent_parent()
        downloads = self.downloads(address)
        running = downloads.download(self.request)
        await until(lambda: connections)
        await downloads.stop()
        await self.assertFailure(running, CancelledError)
        await self.assertFailure(downloads.download(self.request), PoolClosed)
