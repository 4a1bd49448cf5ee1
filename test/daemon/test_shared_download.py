"""One download with several callers, without a network; ``test_downloads`` has it with one."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon import shared_download
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.shared_download import ArrivedPieces, SharedDownload, SharedParents, Wishes
from dragonfly_vortex.model import ArrivedPiece, ByteRange, StoredTask, TaskRequest
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.wire import PieceKind

TASK = StoredTask(kind=PieceKind.STANDARD, task_id="a" * 64, content_length=5, piece_length=5, created_at=0)


class ArrivedPiecesTests(SynchronousTestCase):
    """The pieces that are there, and those that come."""

    def test_from_the_first_one_on(self) -> None:
        """A listener gets what is there and what comes, and not what was dropped before."""
        arrived, got = ArrivedPieces(Clock()), list[ArrivedPiece]()
        rows = [sample_piece(10, number=number).metadata for number in range(3)]
        arrived.add(rows[0], 10, None)
        arrived.add(rows[1], 10, None)
        arrived.forget([0])
        arrived.listen(got.append)
        arrived.add(rows[2], None, 30)
        self.assertEqual(got, [ArrivedPiece(rows[1], 10, None), ArrivedPiece(rows[2], 10, 30)])

    def test_many(self) -> None:
        """A listener hears of 256 pieces in a turn of the reactor, in order, and not of what was dropped meanwhile."""
        clock, got = Clock(), list[int]()
        arrived = ArrivedPieces(clock)
        rows = [sample_piece(10, number=number).metadata for number in range(601)]
        for row in rows[:300]:
            arrived.add(row, 10, None)
        arrived.listen(lambda piece: got.append(piece.metadata.number))
        for row in rows[300:]:
            arrived.add(row, 10, None)
        self.assertEqual(got, list(range(256)))
        arrived.forget([599])
        clock.callLater(0, lambda: self.assertEqual(got, list(range(512))))  # in the turn in which it hears of more
        clock.advance(0)
        self.assertEqual(got, [*range(599), 600])

    def test_stopped_by_another(self) -> None:
        """A listener that another one stops in the same turn, or that stops itself, hears no more and has no timer."""
        clock, got = Clock(), list[int]()
        arrived = ArrivedPieces(clock)

        def hear(piece: ArrivedPiece) -> None:
            if piece.metadata.number == 255:
                for listener in (first, second):
                    listener.stop()
                    arrived.listeners.remove(listener)

        first = arrived.listen(hear)
        second = arrived.listen(lambda piece: got.append(piece.metadata.number))
        for number in range(300):
            arrived.add(sample_piece(10, number=number).metadata, 10, None)
        self.assertEqual(got, list(range(255)))
        self.assertEqual(clock.getDelayedCalls(), [])


class SharedDownloadTests(SynchronousTestCase):
    """A download that this test ends."""

    def setUp(self) -> None:
        self.work: Deferred[StoredTask] = Deferred()
        self.ends: list[str] = []
        self.clock = Clock()
        request = TaskRequest(kind=PieceKind.STANDARD, task_id=TASK.task_id)
        self.download = SharedDownload(request, lambda: self.ends.append("over"), self.clock)

        async def fetch() -> StoredTask:
            return await self.work

        self.over = self.download.run(fetch)

    def join(self) -> Deferred[Any]:
        """One more caller."""
        return self.download.join(lambda piece: None)

    def test_over_when_told(self) -> None:
        """It is over when its callers have heard of all pieces, or have gone: what ends it has not to wait for them."""
        for is_cancelled in (False, True):
            self.setUp()
            for number in range(600):
                self.download.arrived.add(sample_piece(10, number=number).metadata, 10, None)
            caller = self.join()
            self.work.callback(TASK)
            self.assertNoResult(caller)
            self.assertNoResult(self.over)
            if is_cancelled:
                caller.cancel()
                self.failureResultOf(caller, CancelledError)
            else:
                self.clock.pump([0.0] * 3)
                self.assertEqual(self.successResultOf(caller), TASK)
            self.assertIsNone(self.successResultOf(self.over))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_success(self) -> None:
        """All callers get the task, also one that comes when it is there."""
        first, second = self.join(), self.join()
        self.work.callback(TASK)
        for each in (first, second, self.join()):
            self.assertEqual(self.successResultOf(each), TASK)
        self.successResultOf(self.over)

    def arrive(self, count: int) -> None:
        """Pieces are there."""
        for number in range(count):
            self.download.arrived.add(sample_piece(10, number=number).metadata, 10, 10 * count)

    def test_success_with_many_pieces(self) -> None:
        """A caller gets the task when it has heard of all pieces."""
        self.arrive(300)
        got: list[ArrivedPiece] = []
        caller = self.download.join(got.append)
        self.work.callback(TASK)
        self.assertNoResult(caller)
        self.assertEqual(self.ends, ["over"])
        self.clock.advance(0)
        self.assertEqual((self.successResultOf(caller), len(got)), (TASK, 300))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leaves_with_many_pieces(self) -> None:
        """A caller that goes before it has heard of all pieces, and one whose download fails then, hear no more."""
        self.arrive(300)
        got: list[ArrivedPiece] = []
        staying, leaving = self.download.join(got.append), self.download.join(got.append)
        self.failureResultOf(self.cancelled(leaving), CancelledError)
        self.work.errback(ValueError("expected"))
        self.failureResultOf(staying, ValueError)
        self.assertEqual((len(got), self.clock.getDelayedCalls()), (512, []))
        self.successResultOf(self.over)

    def test_leaves_after_success(self) -> None:
        """A caller that goes while it hears of the last pieces of a complete task ends nothing."""
        self.arrive(300)
        caller = self.download.join(lambda piece: None)
        self.work.callback(TASK)
        self.failureResultOf(self.cancelled(caller), CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """All callers get the failure, and the download itself is over without one."""
        first, second = self.join(), self.join()
        self.work.errback(ValueError("expected"))
        for each in (first, second, self.join()):
            self.failureResultOf(each, ValueError)
        self.successResultOf(self.over)

    def test_last_caller(self) -> None:
        """The download ends with its last caller, and not before."""
        first, second = self.join(), self.join()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertNoResult(self.over)
        self.assertEqual(self.ends, [])
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.successResultOf(self.over)
        self.assertNotEqual(self.ends, [])

    def test_what_is_wanted(self) -> None:
        """The download follows what its callers want, as they come and go."""
        some, other = ByteRange(start=5, length=1), ByteRange(length=9)
        told: list[tuple[object, bool]] = []
        first = self.download.join(lambda piece: None, Wishes((some,), is_all=False))
        self.download.follow_wanted(lambda ranges, is_all: told.append((ranges, is_all)))
        for caller in (
            self.download.join(lambda piece: None, Wishes((other,), is_all=False)),
            self.download.join(lambda piece: None),
        ):
            caller.addErrback(lambda _: None)
            self.addCleanup(caller.cancel)
        self.failureResultOf(self.cancelled(first), CancelledError)
        both = (some, other)
        self.assertEqual(told, [((some,), False), (both, False), (both, True), ((other,), True)])

    def cancelled(self, caller: Deferred[Any]) -> Deferred[Any]:
        """A caller that has gone."""
        caller.cancel()
        return caller


class SharedParentsTests(TestCase):
    """How long connections to parents stay."""

    timeout = 120

    async def test_retire(self) -> None:
        """The connections are closed when the last download that uses them is over."""
        parents = SharedParents(Config(), cast(IPeerReactor, reactor))
        with parents:
            with parents:
                retired = parents.retire()
            self.assertNoResult(retired)
        await retired

    async def test_full(self) -> None:
        """What is known of parents is to be replaced when there are very many."""
        self.patch(shared_download, "_MOST_PARENTS", 1)
        parents = SharedParents(Config(), cast(IPeerReactor, reactor))
        for port in (1, 2):
            self.assertFalse(parents.is_full)
            parents.negotiation.add(ParentAddress.from_text(f"grpc://127.0.0.1:{port}"))
        self.assertTrue(parents.is_full)
        await parents.retire()
