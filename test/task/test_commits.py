"""Tests of what a download commits to its target."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from dragonfly_vortex.errors import OutputError, PieceTakenOver
from dragonfly_vortex.events import DownloadedTask
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.wire import PieceKind, PieceMetadata, TrafficType
from test.task.downloading import CONTENT, DownloadTestCase, at_once, sha256
from test.task.parents import PlayedParent


class SlowTarget(OutputTarget):
    """A file whose commits are done later, or fail."""

    rows: list[PieceMetadata]
    held: list[Deferred[None]]
    failures: list[Exception]

    def commit(self, metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
        """Commit a piece when the test says so."""
        self.rows.append(metadata)
        if self.failures:
            return fail(self.failures.pop(0))
        held: Deferred[None] = Deferred()
        self.held.append(held)
        commit = super().commit
        return held.addCallback(lambda _: commit(metadata, piece_length, content_length))


class CountingClock(Clock):
    """A clock that counts how often it is asked: twice in each pass over what has changed, and a few times a piece."""

    count = 0

    def seconds(self) -> float:
        """The time."""
        self.count += 1
        return super().seconds()


class CommitTests(DownloadTestCase):
    """Pieces that a parent has sent, and that are committed later."""

    def start(self, *failures: Exception) -> Deferred[DownloadedTask]:
        """Start a download of ten pieces, of whose commits the first ones fail."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        self.slow = SlowTarget(self.target, at_once)
        self.slow.rows, self.slow.held, self.slow.failures = [], [], list(failures)
        return TaskDownload(
            self.clock,
            at_once,
            self.downloader,
            kind=PieceKind.STANDARD,
            task_id=sha256(CONTENT),
            parents=["a"],
            target=self.slow,
            on_event=self.on_event,
        ).start()

    def test_waited_for(self) -> None:
        """A piece is reported when it is committed, and the download ends when all pieces are."""
        started = self.start()
        self.assertEqual(([row.number for row in self.slow.rows], self.kept), (list(range(10)), []))
        for number, held in enumerate(list(self.slow.held)):
            self.assertNoResult(started)
            held.callback(None)
            self.assertEqual(len(self.kept), number + 1)
        self.assert_complete(started)

    def test_row(self) -> None:
        """A row names the parent that has sent the piece, and the way that it came."""
        started = self.start()
        row = self.slow.rows[0]
        self.assertEqual((row.parent_id, row.traffic_type), ("a", TrafficType.REMOTE_PEER))
        for held in self.slow.held:
            held.callback(None)
        self.assert_complete(started)

    def test_taken_over(self) -> None:
        """A piece that another download has taken over meanwhile is asked for again."""
        started = self.start(PieceTakenOver("piece 0"))
        for held in self.slow.held:
            held.callback(None)
        self.assertEqual((self.downloader.numbers.count(0), self.downloader.numbers.count(1)), (2, 1))
        self.assert_complete(started)

    def test_failed(self) -> None:
        """A download fails with a commit that fails."""
        started = self.start(OutputError("the disk is full"))
        self.assert_failed(started, OutputError, "the disk is full")

    def test_at_once(self) -> None:
        """A commit that is done at once brings no pass of its own over what has changed."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        clock = CountingClock()
        started = TaskDownload(
            clock,
            at_once,
            self.downloader,
            kind=PieceKind.STANDARD,
            task_id=sha256(CONTENT),
            parents=["a"],
            target=OutputTarget(self.target, at_once),
        ).start()
        self.assert_complete(started)
        self.assertLessEqual(clock.count, 9 * 10)  # 10 a piece where it does
