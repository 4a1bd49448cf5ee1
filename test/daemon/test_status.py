"""What the status page shows: throughput and children by a clock, the storage by a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.status import PeerStatus, ServingView
from dragonfly_vortex.daemon.transfers import Transfers
from dragonfly_vortex.events import LayoutFound, PieceKept
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.model import Origin, StoredTask, TaskRequest
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind, PieceMetadata

peer_reactor = cast(IPeerReactor, reactor)


class Peer:
    """
    A peer with two doors, whose time is a clock's.

    :param directory: of its storage.
    """

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = PieceStore(directory, peer_reactor)
        self.transfers = Transfers()
        self.tallies = [Tally(), Tally()]
        self.workers = 0
        self.missing: list[str] = []
        self.status = PeerStatus(
            self.clock, "here", self.store, self.transfers, self.serving, lambda: self.missing
        )  # fmt: skip

    def serving(self) -> list[ServingView]:
        """The doors."""
        vortex, grpc = self.tallies
        return [
            ServingView(
                label="TCP", address=IPv4Address("TCP", "0.0.0.0", 4005), tallies=[vortex], workers=self.workers
            ),
            ServingView(label="gRPC", address=IPv6Address("TCP", "::", 4000), tallies=[grpc], workers=0),
        ]

    def sections(self) -> dict[str, Any]:
        """The sections, as a browser has them."""
        return {name: msgspec.json.decode(msgspec.json.encode(each)) for name, each in self.shown().items()}

    def shown(self) -> Mapping[str, object]:
        """The sections as they are."""
        return self.status.sections()


class StatusTests(SynchronousTestCase):
    """A status without a look at the storage."""

    def setUp(self) -> None:
        self.peer = Peer(Path(self.mktemp()))

    def test_peer(self) -> None:
        """The peer is named, with its doors and what it lacks."""
        self.peer.missing = ["the storage is not open"]
        shown = self.peer.sections()["peer"]
        self.assertEqual(shown["hostname"], "here")
        self.assertEqual(shown["doors"], ["TCP on 0.0.0.0:4005", "gRPC on [::]:4000"])
        self.assertEqual((shown["missing"], shown["limits"]), (["the storage is not open"], []))

    def test_workers(self) -> None:
        """What a page cannot show of workers is said."""
        self.peer.workers = 3
        (limit,) = self.peer.sections()["peer"]["limits"]
        self.assertIn("The children of 3 workers are not shown", limit)

    def test_many_downloads(self) -> None:
        """How many downloads are not shown is said; the last event of a browser has not all of them."""
        for number in range(500):
            self.peer.transfers.begin(TaskRequest(kind=PieceKind.STANDARD, task_id=f"{number:064x}"))
        sections = self.peer.sections()
        self.assertIn("476 more downloads are not shown.", sections["peer"]["limits"])
        self.assertEqual(len([name for name in sections if name.startswith("task/")]), 24)

    def test_size(self) -> None:
        """A task of 100,000 pieces takes a few kilobytes of an event."""
        transfer = self.peer.transfers.begin(TaskRequest(kind=PieceKind.STANDARD, task_id="ab" * 32))
        transfer.follow(list, "")
        transfer.hear(LayoutFound(content_length=100_000 * 4096, piece_length=4096))
        for number in range(0, 100_000, 2):
            transfer.hear(
                PieceKept(
                    number=number, offset=0, length=4096, parent=f"peer-{number % 9}:4005", transport="tcp",
                    kept_bytes=0, kept_pieces=0, content_length=None,
                ),
            )  # fmt: skip
        task = self.peer.shown()["task/1"]
        self.assertLess(len(msgspec.json.encode(task)), 6000)

    def test_throughput(self) -> None:
        """Each second is a sample: what came from parents, and what went to children by all doors."""
        self.peer.sections()
        for second in range(1, 4):
            self.peer.tallies[0].sent(1000)
            self.peer.tallies[1].sent(500 * second)
            self.peer.clock.advance(0.5)
            self.peer.sections()
            self.peer.clock.advance(0.5)
            sections = self.peer.sections()
        self.assertEqual(sections["history/0"]["sent"], [1500, 2000, 2500])
        self.assertEqual(sections["history/0"]["received"], [0, 0, 0])
        self.assertEqual((sections["now"]["sent"], sections["now"]["sent_rate"]), (6000, 2000))

    def test_gap(self) -> None:
        """The time in which no browser watched has no sample, and the samples before it stay."""
        self.peer.sections()
        self.peer.clock.advance(1)
        self.peer.sections()
        self.peer.tallies[0].sent(10**9)
        self.peer.clock.advance(3600)
        self.peer.sections()
        self.peer.clock.advance(1)
        self.assertEqual(self.peer.sections()["history/0"]["sent"], [0, 0])

    def test_length_of_the_history(self) -> None:
        """Five minutes are kept, in sections of which only the newest changes."""
        for _ in range(1000):
            self.peer.sections()
            self.peer.clock.advance(1)
        before = self.peer.sections()
        self.peer.clock.advance(1)
        after = self.peer.sections()
        histories = [name for name in after if name.startswith("history/")]
        self.assertGreaterEqual(sum(len(after[name]["sent"]) for name in histories), 300)
        changed = [name for name in histories if before.get(name) != after[name]]
        self.assertLessEqual(len(changed), 2)  # the oldest loses a sample

    def test_children(self) -> None:
        """Each host that takes something is named with its rate; one that only connects is not."""
        vortex, grpc = (tally.children for tally in self.peer.tallies)
        vortex.of("10.0.0.9")
        child = vortex.of("10.0.0.1")
        child.task_id = "ab" * 32
        child.sent += 100
        grpc.of("10.0.0.2").sent += 7
        self.peer.sections()
        child.sent += 300
        self.peer.clock.advance(2)
        first, second = self.peer.sections()["children"]
        self.assertEqual((first["name"], first["transport"], first["sent"]), ("10.0.0.1", "TCP", 400))
        self.assertEqual((first["rate"], first["state"], first["task"]), (150, "takes", "ab" * 32))
        self.assertEqual((second["name"], second["transport"], second["rate"]), ("10.0.0.2", "gRPC", 0))

    def test_many_children(self) -> None:
        """Of many children the last ones are shown."""
        for number in range(1000):
            self.peer.tallies[0].children.of(f"10.0.{number // 256}.{number % 256}").sent += 1
        self.assertEqual(len(self.peer.sections()["children"]), 32)


class StoredTests(TestCase):
    """A real storage."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.directory = Path(self.mktemp())
        self.peer = Peer(self.directory)
        await self.peer.store.start()
        self.addCleanup(self.peer.store.stop)
        self.catalog = Catalog(self.directory)
        self.catalog.open()
        self.addCleanup(self.catalog.close)

    def put(self, number: int, pieces: int) -> StoredTask:
        """Write a task of three pieces, some of which are there."""
        task = StoredTask(
            kind=PieceKind.STANDARD,
            task_id=f"{number:064x}",
            content_length=30,
            piece_length=10,
            created_at=1_700_000_000 + number,
            origin=Origin(url="https://origin.example/model?token=secret"),
        )
        rows = [PieceMetadata(number=each, offset=10 * each, length=10, digest="crc32:7") for each in range(pieces)]
        self.catalog.put_task(task, rows)
        return task

    async def until_pieces(self, *expected: int) -> dict[str, Any]:
        """Wait until the newest tasks have so many pieces; the section."""
        while True:
            shown = self.peer.sections().get("stored")
            if shown is not None and tuple(task["pieces"] for task in shown["tasks"]) == expected:
                return cast("dict[str, Any]", shown)
            await deferLater(peer_reactor, 0.01)
            self.peer.clock.advance(0.5)

    async def test_tasks(self) -> None:
        """The newest tasks come first, with what is there of them and what the disk has."""
        self.put(1, 3)
        self.put(2, 1)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        shown = await self.until_pieces(1, 3)
        self.assertEqual((shown["count"], shown["bytes"]), (2, 60))
        newest, _ = shown["tasks"]
        self.assertEqual((newest["id"], newest["piece_count"]), (f"{2:064x}", 3))
        self.assertEqual(newest["name"], "https://origin.example/model?...")
        self.assertGreater(shown["disk_total"], shown["disk_free"])

    async def test_another_process(self) -> None:
        """Pieces that another process adds, and tasks that it removes, are seen."""
        self.put(1, 1)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        await self.until_pieces(1)
        task = self.put(2, 2)
        await self.until_pieces(2, 1)
        self.catalog.remove_task(task.kind, task.task_id)
        await self.until_pieces(1)

    async def test_many(self) -> None:
        """Of many tasks the newest are shown, and all are counted."""
        for number in range(60):
            self.put(number, 0)
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        shown = await self.until_pieces(*[0] * 40)
        self.assertEqual(shown["count"], 60)

    async def test_end(self) -> None:
        """Nothing of the storage is watched after the end, though a look was under way."""
        self.put(1, 1)
        self.peer.status.begin()
        self.peer.sections()
        self.peer.status.end()
        self.peer.status.begin()
        await self.until_pieces(1)
        self.peer.status.end()

    async def test_storage_that_cannot_be_read(self) -> None:
        """A storage that does not answer leaves the rest of the page as it is."""
        self.peer.status.begin()
        self.addCleanup(self.peer.status.end)
        await self.peer.store.stop()
        for _ in range(5):
            self.peer.clock.advance(3)
            self.assertIn("now", self.peer.sections())
            await deferLater(peer_reactor, 0.01)
        await self.peer.store.start()
