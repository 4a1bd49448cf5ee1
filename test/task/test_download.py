"""Tests of downloads: real files, parents played in memory, and real threads where threads are the point."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import (
    EndUnknown,
    NoParentLeft,
    OutputError,
    ParentUnreachable,
    PieceTimeout,
    PoolClosed,
    SinkFailed,
    TaskChanged,
    TaskDigestMismatch,
    TaskNotFound,
)
from dragonfly_vortex.events import DigestMismatched, DownloadedTask, DownloadEvent, ParentShare, PieceKept
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IPieceAnnouncer
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.wire import PieceKind
from test.task.announcer import PlayedAnnouncer
from test.task.downloading import CONTENT, MIB, DownloadTestCase, at_once, sha256
from test.task.parents import Asked, PlayedDownloader, PlayedParent
from test.task.test_file_hash import HeldThreads

_T = TypeVar("_T")


class PlayedTests(SynchronousTestCase):
    """The parents that these tests play."""

    def test_provides(self) -> None:
        """They are reached by an IDownloader."""
        self.assertTrue(verifyObject(IDownloader, PlayedDownloader({})))
        self.assertTrue(verifyObject(IPieceAnnouncer, PlayedAnnouncer()))


class SuccessTests(DownloadTestCase):
    """Downloads that end well."""

    def test_lengths(self) -> None:
        """Content of any length arrives whole: none, one byte, a piece, several, and one byte more or less."""
        for length in (0, 1, 99, 100, 101, 399, 400, 401, 1000):
            for concurrency in (1, 4):
                content = CONTENT[:length]
                self.play(a=PlayedParent(content=content, piece_length=100))
                done = self.assert_complete(self.download(content, overwrite=True, concurrency=concurrency), content)
                self.assertEqual(done.piece_count, max(1, -(-length // 100)))

    def test_summary(self) -> None:
        """The summary tells what was done, and by which parents."""
        parent = PlayedParent(content=CONTENT[:950], piece_length=100)
        self.play(a=parent, b=parent, is_held=True)
        started = self.download(CONTENT[:950])
        while self.downloader.waiting:
            self.clock.advance(0.5)
            self.downloader.give(self.downloader.waiting[0])
        done = self.assert_complete(started, CONTENT[:950])
        self.assertEqual(sum(share.piece_count for share in done.shares), 10)
        self.assertEqual(sum(share.content_length for share in done.shares), 950)
        self.assertEqual(
            done,
            DownloadedTask(
                task_id=sha256(CONTENT[:950]),
                content_length=950,
                piece_length=100,
                piece_count=10,
                seconds=self.clock.seconds(),
                left_to_hash=0,
                shares=done.shares,
                digest=f"sha256:{sha256(CONTENT[:950])}",
            ),
        )
        self.assertEqual([share.parent for share in done.shares], ["a", "b"])

    def test_shares(self) -> None:
        """Work is spread, and a parent that gives nothing has a share of nothing."""
        parent = PlayedParent(content=CONTENT, piece_length=100)
        self.play(a=parent, b=parent, c=PlayedParent(content=CONTENT, piece_length=100, faults=[PieceTimeout]))
        done = self.assert_complete(self.download(concurrency=1))
        self.assertEqual(done.shares[0], ParentShare(parent="a", piece_count=5, content_length=500))
        self.assertEqual(done.shares[2], ParentShare(parent="c", piece_count=0, content_length=0))

    def test_progress(self) -> None:
        """Every piece is reported, and the whole length as soon as it is known."""
        self.play(a=PlayedParent(content=CONTENT[:250], piece_length=100))
        self.assert_complete(self.download(CONTENT[:250]), CONTENT[:250])
        self.assertEqual(
            [(piece.kept_bytes, piece.kept_pieces, piece.content_length) for piece in self.kept],
            [(100, 1, None), (200, 2, None), (250, 3, 250)],
        )

    def test_superfluous(self) -> None:
        """What is under way beyond the end is cancelled when all is there."""
        self.play(a=PlayedParent(content=CONTENT[:150], piece_length=100), is_held=True)
        started = self.download(CONTENT[:150])
        self.downloader.give(self.downloader.asked[0])
        self.assertEqual(self.downloader.numbers, [0, 1, 2, 3, 4])
        self.downloader.give(self.downloader.asked[1])
        self.assert_complete(started, CONTENT[:150])
        self.assertEqual([asked.is_cancelled for asked in self.downloader.asked], [False, False, True, True, True])

    def test_kind(self) -> None:
        """The kind and the task are asked for as they were given."""
        self.play(a=PlayedParent(content=b"x", piece_length=1))
        self.assert_complete(self.download(b"x"), b"x")
        request = self.downloader.asked[0].request
        self.assertEqual((request.kind, request.task_id), (PieceKind.STANDARD, sha256(b"x")))

    def test_each_piece_once(self) -> None:
        """Faults cost the requests that they answer: a verified piece is never asked for again."""
        faults = [None, ParentUnreachable, None, None, ParentUnreachable]
        self.play(
            a=PlayedParent(content=CONTENT, piece_length=100, faults=list(faults), lacks={7}),
            b=PlayedParent(content=CONTENT, piece_length=100, spoils={4, 5, 6}),
            c=PlayedParent(content=CONTENT, piece_length=100),
        )
        self.assert_complete(self.download())
        given = [a.request.number for a in self.downloader.asked if a.answer.called and not a.is_cancelled]
        self.assertEqual(set(given) & set(range(10)), set(range(10)))
        self.assertLessEqual(len([number for number in given if number < 10]), 10 + 2 + 1 + 1)

    def test_overwrite(self) -> None:
        """A file at the target is replaced where that was asked for."""
        self.target.write_bytes(b"mine")
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        self.assert_complete(self.download(overwrite=True))


class FailureTests(DownloadTestCase):
    """Downloads that fail at once, say why, and leave nothing."""

    def test_existing_output(self) -> None:
        """A file at the target is left alone, and no parent is asked."""
        self.target.write_bytes(b"mine")
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        self.failureResultOf(self.download(), OutputError)
        self.assertEqual((self.names(), self.target.read_bytes()), (["file"], b"mine"))
        self.assertEqual(self.downloader.asked, [])

    def test_output_by_then(self) -> None:
        """A file that was made at the target meanwhile is left alone, too."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=1000), is_held=True)
        started = self.download()
        self.target.write_bytes(b"mine")
        for _ in range(2):
            self.downloader.give(self.downloader.waiting[0])
        self.failureResultOf(started, OutputError)
        self.assertEqual((self.names(), self.target.read_bytes()), (["file"], b"mine"))

    def test_no_directory(self) -> None:
        """A directory that is not there is an output error."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        self.target = self.directory / "none" / "file"
        self.assert_failed(self.download(), OutputError, str(self.target))

    def test_not_found(self) -> None:
        """A task that no parent has is not found."""
        lacking = PlayedParent(content=CONTENT, piece_length=100, lacks={0})
        self.play(a=lacking, b=lacking)
        self.assert_failed(self.download(), TaskNotFound, "a, b")
        self.assertEqual(self.downloader.numbers, [0, 0])

    def test_unreachable(self) -> None:
        """Unreachable parents are each asked once more; the last failure is raised, with parent and piece, at once."""
        faults = [ParentUnreachable, ParentUnreachable, ParentUnreachable]
        self.play(
            a=PlayedParent(content=CONTENT, piece_length=100, faults=list(faults)),
            b=PlayedParent(content=CONTENT, piece_length=100, faults=list(faults)),
        )
        piece = "piece 0 from parent "
        error = self.assert_failed(self.download(), NoParentLeft, piece, "expected a piece, got a fault")
        self.assertIsInstance(error, NoParentLeft)
        self.assertEqual(len(self.downloader.asked), 4)

    def test_liar(self) -> None:
        """A wrong offset is refused before a byte is written, and told with what was expected and got."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100, shift=7))
        self.assert_failed(self.download(), NoParentLeft, "from parent a: expected offset 0, got 7")
        self.assertEqual(len(self.downloader.asked), 1)

    def test_cancels_others(self) -> None:
        """When it is certain that it fails, what is under way elsewhere is cancelled."""
        parent = PlayedParent(content=CONTENT, piece_length=100)
        self.play(a=parent, is_held=True)
        started = self.download()
        self.downloader.give(self.downloader.asked[0])
        parent.faults = [PieceTimeout]
        self.downloader.give(self.downloader.asked[1])
        self.assert_failed(started, NoParentLeft)
        self.assertEqual([asked.is_cancelled for asked in self.downloader.asked[2:]], [True] * 3)

    def test_stranger(self) -> None:
        """A failure that is no parent's ends the download as it is."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download()
        self.downloader.asked[0].answer.errback(PoolClosed("the pool is closed"))
        self.assert_failed(started, PoolClosed)

    def test_hook(self) -> None:
        """So does a listener that fails."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))

        def fail(event: DownloadEvent) -> None:
            if isinstance(event, PieceKept):
                raise ZeroDivisionError("the listener's own fault")

        self.on_event = fail
        self.assert_failed(self.download(), ZeroDivisionError)

    def test_disk_full(self) -> None:
        """A write that the system refuses ends the download at once, with what the system said."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download()
        self.downloader.give(self.downloader.asked[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
        self.downloader.give(self.downloader.asked[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        error = self.assert_failed(started, OutputError, str(self.target), "File too large")
        self.assertIsInstance(error.__cause__, SinkFailed)

    def test_read_back(self) -> None:
        """A temporary that cannot be read back ends the download."""
        threads = HeldThreads()
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download(in_thread=threads)
        threads.run_one()
        self.downloader.give(self.downloader.asked[0])
        os.truncate(self.directory / self.names()[0], 10)
        threads.run_one()
        threads.run_one()
        self.assert_failed(started, OutputError, "cannot be read back: [Errno 5] expected 100 bytes at 0, got 10")


class DigestTests(DownloadTestCase):
    """The task's ID is the SHA-256 of its content, and decides."""

    def test_refused(self) -> None:
        """Content whose pieces have their digests but that is not the task's is refused; nothing is left of it."""
        self.play(a=PlayedParent(content=CONTENT[::-1], piece_length=100))
        got = f"expected sha256:{sha256(CONTENT)}, got sha256:{sha256(CONTENT[::-1])}"
        self.assert_failed(self.download(), TaskDigestMismatch, got, "from a")
        mismatches = [event for event in self.events if isinstance(event, DigestMismatched)]
        self.assertEqual(mismatches[0], DigestMismatched(number=None, reason=got))

    def test_reported(self) -> None:
        """A piece without its digest is reported with its parent."""
        self.play(
            a=PlayedParent(content=CONTENT, piece_length=100, spoils={0}),
            b=PlayedParent(content=CONTENT, piece_length=100),
        )
        self.assert_complete(self.download(concurrency=1))
        (mismatch,) = [event for event in self.events if isinstance(event, DigestMismatched)]
        self.assertEqual((mismatch.number, mismatch.parent), (0, "a"))
        self.assertIn("got crc32:0", mismatch.reason)

    def test_from_another(self) -> None:
        """If all of it came from one parent, all is fetched again from another, even with another piece length."""
        self.play(
            a=PlayedParent(content=CONTENT[::-1], piece_length=1000),
            b=PlayedParent(content=CONTENT, piece_length=100, faults=[ParentUnreachable]),
        )
        done = self.assert_complete(self.download(concurrency=1))
        self.assertEqual([share.piece_count for share in done.shares], [0, 10])

    def test_given(self) -> None:
        """A digest that is given decides in the place of the task's ID, by each algorithm."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        for digest in (
            f"sha256:{sha256(CONTENT)}",
            f"sha512:{hashlib.sha512(CONTENT).hexdigest()}",
            f"crc32:{zlib.crc32(CONTENT)}",
        ):
            done = self.assert_complete(self.download(task_id="ab" * 32, digest=digest, overwrite=True))
            self.assertEqual((done.task_id, done.digest), ("ab" * 32, digest))
        self.target.unlink()
        for digest in (f"sha512:{'0' * 128}", "crc32:1"):
            got = f"expected {digest}, got {digest[:6]}"
            self.assert_failed(self.download(digest=digest), TaskDigestMismatch, got, "from a")
        self.assertRaises(ValueError, self.download, digest="sha256:ab")

    def test_of_nothing(self) -> None:
        """A task that has the SHA-256 or the SHA-512 of nothing is empty: no parent is asked for anything."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100, lacks={0}))
        for digest in (None, f"sha512:{hashlib.sha512().hexdigest()}"):
            self.assert_complete(self.download(b"", digest=digest, overwrite=True), b"")
        self.assertEqual(self.downloader.asked, [])

    def test_hashed_late(self) -> None:
        """It goes on from another when the wrong digest is found long after the last piece has arrived."""
        threads = HeldThreads()
        self.play(
            a=PlayedParent(content=CONTENT[::-1], piece_length=1000),
            b=PlayedParent(content=CONTENT, piece_length=100, faults=[ParentUnreachable]),
        )
        started = self.download(concurrency=1, in_thread=threads)
        while threads.calls:
            threads.run_one()
        self.assert_complete(started)

    def test_longer_before(self) -> None:
        """What a liar wrote beyond the true end is cut off."""
        self.play(
            a=PlayedParent(content=CONTENT, piece_length=1000),
            b=PlayedParent(content=CONTENT[:10], piece_length=100),
        )
        self.downloader.parents["b"].faults = [ParentUnreachable]
        done = self.assert_complete(self.download(CONTENT[:10], concurrency=1), CONTENT[:10])
        self.assertEqual([share.piece_count for share in done.shares], [0, 1])

    def test_liars_piece(self) -> None:
        """A piece that a liar has sent is compared with what another has, and fetched from there; no other piece is."""
        wrong = bytearray(CONTENT)
        wrong[100:200] = bytes(100)
        self.play(
            a=PlayedParent(content=CONTENT, piece_length=100),
            b=PlayedParent(content=bytes(wrong), piece_length=100, spoils={3}),
        )
        self.assert_complete(self.download(concurrency=1))
        self.assertEqual(
            [n for n in self.downloader.numbers if self.downloader.numbers.count(n) > 1 and n < 10], [1, 3, 3, 1, 1]
        )

    def test_mismatch_for_good(self) -> None:
        """It is a mismatch if what is fetched again cannot be had."""
        self.play(
            a=PlayedParent(content=CONTENT[::-1], piece_length=1000),
            b=PlayedParent(content=CONTENT, piece_length=100, faults=[ParentUnreachable, PieceTimeout]),
        )
        self.assert_failed(self.download(concurrency=1), TaskDigestMismatch)


class Stubborn(PlayedDownloader):
    """A downloader whose requests do not end when they are cancelled, and go on writing."""

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        """Ask, and hide the answer behind one that never comes."""
        return Deferred.fromCoroutine(self._ignore_cancellation(super().download(addr, request)))

    async def _ignore_cancellation(self, answer: Deferred[DownloadPieceResponse]) -> DownloadPieceResponse:
        """Wait; when that is cancelled, for ever."""
        try:
            return await answer
        except CancelledError:
            return await Deferred[DownloadPieceResponse](lambda _: None).addErrback(lambda _: Deferred())


class CancelTests(DownloadTestCase):
    """A download that is given up leaves nothing behind."""

    def test_under_way(self) -> None:
        """Requests are cancelled, the temporary is deleted, and then the download has failed."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download()
        self.downloader.give(self.downloader.asked[0])
        self.task.cancel()
        self.assert_failed(started, CancelledError)
        self.assertEqual([asked.is_cancelled for asked in self.downloader.asked[1:]], [True] * 4)

    def test_the_deferred(self) -> None:
        """Cancelling what start() gave is the same."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download()
        started.cancel()
        self.assert_failed(started, CancelledError)

    def test_before_the_start(self) -> None:
        """What has not been started has nothing to give up."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        TaskDownload(
            self.clock,
            at_once,
            self.downloader,
            kind=PieceKind.CACHE,
            task_id="",
            parents=["a"],
            target=OutputTarget(self.target, at_once),
        ).cancel()

    def test_while_opening(self) -> None:
        """
        A thread cannot be cancelled: the temporary that it makes anyway is deleted before the error is raised.
        """
        threads = HeldThreads()
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        started = self.download(in_thread=threads)
        self.task.cancel()
        self.task.cancel()
        self.assertNoResult(started)
        threads.run_one()
        self.assertEqual(len(self.names()), 1)
        self.task.cancel()
        threads.run_one()
        self.assert_failed(started, CancelledError)
        self.assertEqual(self.downloader.asked, [])

    def test_while_hashing(self) -> None:
        """The thread that hashes has ended before the file is closed."""
        threads = HeldThreads()
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download(in_thread=threads)
        threads.run_one()
        self.downloader.give(self.downloader.asked[0])
        self.task.cancel()
        self.assertEqual((len(threads.calls), len(self.names())), (1, 1))
        threads.run_one()
        threads.run_one()
        self.assert_failed(started, CancelledError)

    def test_while_publishing(self) -> None:
        """What is being published is published: that is a success, and told as one."""
        threads = HeldThreads()
        self.play(a=PlayedParent(content=CONTENT[:9], piece_length=100))
        started = self.download(CONTENT[:9], in_thread=threads)
        for _ in ("open", "hash"):
            threads.run_one()
        self.assertNotEqual(self.names(), ["file"])
        self.task.cancel()
        threads.run_one()
        self.assertEqual(self.names(), ["file"])
        threads.run_one()
        self.assert_complete(started, CONTENT[:9])

    def test_patience(self) -> None:
        """A request that does not end when it is cancelled is left behind after two seconds; it can write nowhere."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        stubborn = Stubborn(self.downloader.parents, is_held=True)
        started = self.download(downloader=stubborn)
        sink = stubborn.begin(stubborn.asked[0])
        self.task.cancel()
        self.clock.advance(1.9)
        self.assertNoResult(started)
        self.assertRaises(OSError, sink.write, b"late")
        self.clock.advance(0.1)
        self.assert_failed(started, CancelledError)


class AgainTests(DownloadTestCase):
    """A download that begins again because another one has changed its task."""

    def test_again(self) -> None:
        """It is begun again after a pause, without the parents that were removed, and succeeds."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), b=PlayedParent(content=CONTENT, piece_length=100))
        publish = OutputTarget.publish
        failures = [TaskChanged("a piece is another one")]

        def publish_later(target: OutputTarget, content_length: int) -> Deferred[None]:
            if failures:
                asked.extend(self.downloader.asked)
                self.task.remove_parent("a")
                return fail(failures.pop())
            return publish(target, content_length)

        asked: list[Asked] = []
        self.patch(OutputTarget, "publish", publish_later)
        started = self.download()
        self.assertEqual({request.addr for request in asked}, {"a", "b"})
        self.assertNoResult(started)
        self.clock.advance(2.0)
        self.assert_complete(started)
        self.assertEqual({request.addr for request in self.downloader.asked[len(asked) :]}, {"b"})


class WithoutDigestTests(DownloadTestCase):
    """Tasks of whose whole no digest is known."""

    def right(self, content: bytes = CONTENT) -> PlayedParent:
        """A parent that has everything."""
        return PlayedParent(content=content, piece_length=100)

    def start(self, **parents: PlayedParent) -> Deferred[DownloadedTask]:
        """Start a download without a digest."""
        self.play(is_held=False, **parents)
        return self.download(digest="", concurrency=1)

    def test_short_last_piece(self) -> None:
        """Where the last piece shows the end, each piece is verified by its digest, and nothing is hashed."""
        content = CONTENT[:950]
        spoilt = PlayedParent(content=content, piece_length=100, spoils={3})
        done = self.assert_complete(self.start(a=spoilt, b=self.right(content)), content)
        self.assertEqual((done.digest, done.left_to_hash), ("", 0))

    def test_end_told(self) -> None:
        """Where a parent says how long the task is, that decides."""
        self.play(a=self.right())
        announcer = PlayedAnnouncer(self.clock)
        started = self.download(digest="", announcers={"a": announcer})
        announcer.tell_layout(len(CONTENT), 100)
        for number in range(10):
            announcer.tell_piece(number, number * 100, 100)
        self.assert_complete(started)

    def test_empty(self) -> None:
        """A task that is empty, as a parent says, is complete without a piece, which a dfdaemon does not have."""
        self.play(a=PlayedParent(content=b"", piece_length=100, lacks={0}))
        announcer = PlayedAnnouncer(self.clock)
        started = self.download(digest="", announcers={"a": announcer})
        announcer.tell_layout(0, 4 << 20)
        self.assert_complete(started, b"")
        self.assertEqual(self.downloader.asked, [])

    def test_end_unknown(self) -> None:
        """Where no parent says how long the task is, it may be longer than all that they have: it is refused."""
        said = "how long it is, as they do over gRPC, got 1000 bytes behind which no parent has a piece"
        self.assert_failed(self.start(a=self.right(), b=self.right()), EndUnknown, said)

    def test_lie(self) -> None:
        """A wrong piece with a fitting digest cannot be found; the result does not say that the whole was verified."""
        wrong = CONTENT[:100] + bytes(100) + CONTENT[200:950]
        done = self.assert_complete(self.start(a=self.right(wrong)), wrong)
        self.assertEqual((done.digest, done.lies), ("", {}))

    def test_no_trials(self) -> None:
        """No parent is tried alone: nothing would tell whether it is right."""
        a = PlayedParent(content=CONTENT[:950], piece_length=100, spoils={4})
        b = PlayedParent(content=CONTENT[:950], piece_length=50, spoils={4})
        self.assert_failed(self.start(a=a, b=b), NoParentLeft, "piece 4")
        self.assertLess(len(self.downloader.asked), 12)

    def test_contradiction(self) -> None:
        """A parent that contradicts what is known by another is named: which of them is right is not known."""
        other = PlayedParent(content=CONTENT[:950], piece_length=50)
        done = self.assert_complete(self.start(a=self.right(CONTENT[:950]), b=other), CONTENT[:950])
        self.assertEqual(list(done.lies), ["b"])


class ThreadTests(TestCase):
    """Downloads with real threads, and the real reactor."""

    def setUp(self) -> None:
        self.pool = ThreadPool(1, 1)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.hook_threads: set[int] = set()

    async def download(self, content: bytes, downloader: PlayedDownloader) -> DownloadedTask:
        """Download that content, each answer in a turn of its own."""
        in_thread = partial(deferToThreadPool, IReactorFromThreads(reactor), self.pool)
        return await TaskDownload(
            IReactorTime(reactor),
            in_thread,
            Slow(downloader.parents),
            kind=PieceKind.STANDARD,
            task_id=sha256(content),
            parents=tuple(downloader.parents),
            target=OutputTarget(self.directory / "file", in_thread),
            on_event=lambda _: self.hook_threads.add(threading.get_ident()),
        ).start()

    async def test_whole_task(self) -> None:
        """A task of many pieces arrives whole from several parents, some of which fail; this thread hears of it."""
        content = os.urandom(40 * MIB + 5)
        done = await self.download(
            content,
            PlayedDownloader(
                {
                    "a": PlayedParent(content=content, piece_length=MIB),
                    "b": PlayedParent(content=content, piece_length=MIB, faults=[None, ParentUnreachable, None]),
                    "c": PlayedParent(content=content, piece_length=MIB, spoils={9}),
                }
            ),
        )
        self.assertEqual(os.listdir(self.directory), ["file"])
        self.assertEqual(sha256((self.directory / "file").read_bytes()), sha256(content))
        self.assertEqual((done.piece_count, done.content_length), (41, len(content)))
        self.assertEqual(self.hook_threads, {threading.get_ident()})

    async def test_wrong(self) -> None:
        """A wrong content is found by the thread, and nothing is left."""
        wrong = PlayedParent(content=bytes(5 * MIB), piece_length=MIB)
        with self.assertRaises(TaskDigestMismatch):
            await self.download(b"right", PlayedDownloader({"a": wrong}))
        self.assertEqual(os.listdir(self.directory), [])


class Slow(PlayedDownloader):
    """Parents each of whose answers takes a turn of the reactor."""

    def __init__(self, parents: Mapping[str, PlayedParent]) -> None:
        super().__init__(parents, is_held=True)

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        """Ask, and answer a little later."""
        answer = super().download(addr, request)
        asked = self.asked[-1]
        later = deferLater(IReactorTime(reactor), 0.001, lambda: None)
        later.addCallback(lambda _: None if answer.called else self.give(asked))
        return answer
