"""A swarm in memory does what one of sockets does, in simulated time."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import (
    DigestMismatch,
    NoParentLeft,
    ParentFailed,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceTimeout,
    PoolClosed,
    UnexpectedPiece,
)
from dragonfly_vortex.events import DownloadEvent, DownloadFailed, LayoutFound, ParentAdded, ParentDropped, PieceKept
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IPieceAnnouncer
from dragonfly_vortex.task.reporter import Reporter
from dragonfly_vortex.testing.contract_parent import Fault
from dragonfly_vortex.testing.memory_store import MemoryChild, MemoryTarget
from dragonfly_vortex.testing.memory_swarm import MemoryAnnouncer, MemorySwarm
from dragonfly_vortex.wire import PieceKind

COUNT = 20


class MemorySwarmTests(SynchronousTestCase):
    """A task of twenty pieces."""

    def setUp(self) -> None:
        self.content = os.urandom(COUNT * 1000 - 1)
        self.swarm = MemorySwarm(self.content, 1000)

    def assert_complete(self, *children: MemoryChild) -> None:
        """Assert that children get the task."""
        self.swarm.run(*children)
        for child in children:
            self.assertEqual(self.successResultOf(child.done).piece_count, COUNT)
            self.assertEqual(child.content, self.content)

    def test_interfaces(self) -> None:
        """Its parts are what a download uses."""
        verifyObject(IDownloader, self.swarm.downloader)
        verifyObject(IPieceAnnouncer, MemoryAnnouncer(self.swarm, "seed"))
        verifyObject(IDownloadTarget, MemoryTarget(MemoryChild("child")))

    def test_one(self) -> None:
        """A child gets the task from a seed, whether that announces its pieces or not; nothing is left on the clock."""
        self.swarm.add_seed("seed")
        self.assert_complete(self.swarm.add_child("a", ["seed"]), self.swarm.add_child("b", ["seed"], announces=False))
        self.assertEqual(self.swarm.clock.getDelayedCalls(), [])

    def test_crowd_beside_a_source(self) -> None:
        """
        Four peers have a source. One asks it, the others ask that one, and all ask each other in turn: the source is
        asked at once and for one copy, and the others get pieces from each other.
        """
        source = self.swarm.add_seed("source")
        names = ["a", "b", "c", "d"]
        options: dict[str, Any] = {"source": "source", "concurrent_piece_count": 4}
        children = [self.swarm.add_child("a", ["source"], **options)]
        children += [self.swarm.add_child(name, ["a", "source"], **options) for name in names[1:]]
        for child in children:
            child.rate = 5000.0
            for name in names:
                if name not in (child.name, "a"):
                    child.task.add_parent(name, MemoryAnnouncer(self.swarm, name), is_awaited=False)
        self.swarm.clock.pump([0.01] * 50)
        self.assertTrue(source.asked)
        self.assert_complete(*children)
        self.assertEqual(sorted(source.asked), list(range(COUNT)))
        for child in children[1:]:
            self.assertTrue({event.parent for event in child.events if isinstance(event, PieceKept)} - {"a"})

    def test_cancelled_at_event(self) -> None:
        """A listener may cancel the download at any event; its Deferred fires once, when nothing is left of it."""
        self.swarm.add_seed("seed")
        opens = MemoryTarget.open
        self.patch(MemoryTarget, "open", lambda target: deferLater(self.swarm.clock, 0.01, opens, target))
        for kind in (ParentAdded, LayoutFound, PieceKept):
            child = self.swarm.add_child(kind.__name__, ["seed"])
            events: list[DownloadEvent] = []

            def hear(
                event: DownloadEvent,
                child: MemoryChild = child,
                kind: type = kind,
                events: list[DownloadEvent] = events,
            ) -> None:
                events.append(event)
                if isinstance(event, kind):
                    child.done.cancel()

            child.task._reporter = Reporter(hear)
            self.swarm.run(child)
            self.swarm.clock.pump([0.01] * 20)  # a Deferred counts as called from its cancellation on
            self.assertIsInstance(events[-1], DownloadFailed)
            self.failureResultOf(child.done, CancelledError)
            self.assertEqual(self.swarm.clock.getDelayedCalls(), [])

    def test_chain(self) -> None:
        """A child gives what it has to another one while it downloads; each piece leaves the seed once."""
        seed = self.swarm.add_seed("seed")
        first = self.swarm.add_child("first", ["seed"])
        second = self.swarm.add_child("second", ["first"])
        self.assert_complete(first, second)
        self.assertEqual(sorted(seed.asked), list(range(COUNT)))
        kept = [event for event in second.events if isinstance(event, PieceKept)]
        self.assertEqual({event.parent for event in kept}, {"first"})

    def test_parts(self) -> None:
        """Two peers with a part each give the whole."""
        self.swarm.add_seed("a", numbers=range(12))
        self.swarm.add_seed("b", numbers=range(8, COUNT))
        self.assert_complete(self.swarm.add_child("child", ["a", "b"]))

    def test_faults(self) -> None:
        """Beside a faulty peer of each kind a child gets the task from an honest one."""
        self.swarm.add_seed("seed")
        for fault in Fault:
            if fault not in (Fault.NONE, Fault.NO_DIGEST):
                self.swarm.add_seed(fault.name, fault=fault)
                child = self.swarm.add_child(f"child of {fault.name}", [fault.name, "seed"])
                self.assert_complete(child)

    def test_liar(self) -> None:
        """A peer with another content, whose pieces fit its digests, is found out by the digest of the whole."""
        self.swarm.add_seed("liar", content=bytes(reversed(self.content)))
        self.swarm.add_seed("seed")
        child = self.swarm.add_child("child", ["liar", "seed"])
        self.assert_complete(child)
        self.assertIn("liar", {event.parent for event in child.events if isinstance(event, ParentDropped)})

    def test_away(self) -> None:
        """A peer that goes away is waited for, and one that stays away ends the download."""
        seed = self.swarm.add_seed("seed", faults={3: Fault.STALLED})
        child = self.swarm.add_child("child", ["seed"], announces=False, retry=5.0)
        self.swarm.clock.advance(0.001)
        seed.is_away = True
        self.swarm.run(child)
        self.failureResultOf(child.done, NoParentLeft)
        self.assertIsInstance(child.events[-1], DownloadFailed)
        seed.is_away, seed.faults = False, {}
        self.assert_complete(self.swarm.add_child("child", ["seed"], retry=5.0))

    def test_errors(self) -> None:
        """Each fault is the error that a real parent's is."""
        expected: dict[Fault, type[PieceError]] = {
            Fault.NOT_FOUND: PieceNotFound,
            Fault.INVALID_ARGUMENT: ParentFailed,
            Fault.INTERNAL: ParentFailed,
            Fault.WRONG_BYTE: DigestMismatch,
            Fault.NO_DIGEST: DigestMismatch,
            Fault.WRONG_NUMBER: UnexpectedPiece,
            Fault.TRUNCATED: ParentUnreachable,
            Fault.STALLED: PieceTimeout,
            Fault.SILENT: PieceTimeout,
        }
        for fault, error in expected.items():
            self.swarm.add_seed("peer", fault=fault)
            request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=self.swarm.task_id, number=0)
            coming = self.swarm.downloader.download("peer", request)
            self.swarm.clock.pump([0.001] * 20 + [20.0])
            self.failureResultOf(coming, error)

    def test_stop(self) -> None:
        """A stopped downloader fails what is under way, and later requests."""
        self.swarm.add_seed("seed")
        request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=self.swarm.task_id, number=0)
        coming = self.swarm.downloader.download("seed", request)
        self.successResultOf(self.swarm.downloader.stop())
        self.failureResultOf(coming, PoolClosed)
        self.failureResultOf(self.swarm.downloader.download("seed", request), PoolClosed)

    def test_no_end(self) -> None:
        """Where a download does not end, the test fails."""
        self.swarm.add_seed("seed", fault=Fault.SILENT)
        child = self.swarm.add_child("child", ["seed"], retry=1000.0)
        self.assertRaises(TimeoutError, self.swarm.run, child, seconds=5.0)
        child.done.cancel()
        self.failureResultOf(child.done)
