"""What the status page shows: throughput and children by a clock, the storage by a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.status import PeerStatus, ServingView
from dragonfly_vortex.daemon.transfers import Transfers
from dragonfly_vortex.events import LayoutFound, PieceKept
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.model import TaskRequest
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind

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
