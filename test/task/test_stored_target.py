"""Tests of downloads into a storage: a real storage, its real threads, and parents played in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyClass

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import NotStored, StorageError, StorageFailure, TaskDigestMismatch
from dragonfly_vortex.events import DownloadedTask
from dragonfly_vortex.storage import piece_locks
from dragonfly_vortex.storage.claim_records import claims_path
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor import stored_target
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.storage.verifier import verify_task
from dragonfly_vortex.task import commits, download
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.storage.contents import content_of, files_in, wrong_pieces
from test.task.parents import PlayedDownloader, PlayedParent

KIND = PieceKind.STANDARD
CONTENT = content_of(950)
TASK_ID = hashlib.sha256(CONTENT).hexdigest()


class StoredTargetTests(TestCase):
    """Downloads of one task of ten pieces into one storage."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.store = PieceStore(self.directory, IReactorFromThreads(reactor))
        self.addCleanup(self.store.stop)
        self.started = self.store.start()
        self.pool = ThreadPool(0, 2)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.path = Content(self.directory).path(KIND, TASK_ID)

    def play(self, *, is_held: bool = False, **parents: PlayedParent) -> PlayedDownloader:
        """Parents by their names; a honest one where none is given."""
        honest = PlayedParent(content=CONTENT, piece_length=100)
        return PlayedDownloader(parents or {"honest": honest}, is_held=is_held)

    def download(
        self,
        downloader: PlayedDownloader,
        concurrency: int = 4,
        target: StoredTarget | None = None,
        retry: float = 30.0,
        task_id: str = TASK_ID,
    ) -> Deferred[DownloadedTask]:
        """Start a download from all parents of a downloader."""
        started = TaskDownload(
            IReactorTime(reactor),
            partial(deferToThreadPool, IReactorFromThreads(reactor), self.pool),
            downloader,
            kind=KIND,
            task_id=task_id,
            parents=list(downloader.parents),
            target=target or self.store.write_task(KIND, TASK_ID),
            concurrent_piece_count=concurrency,
            retry=retry,
        ).start()
        self.addCleanup(self.give_up, started)
        return started

    async def give_up(self, started: Deferred[DownloadedTask]) -> None:
        """End a download also in a test that fails: its threads are to be stopped."""
        if not started.called:
            started.cancel()
            with contextlib.suppress(CancelledError):
                await started

    async def numbers(self) -> list[int]:
        """The pieces that are offered."""
        try:
            pieces = await self.store.get_pieces(KIND, TASK_ID)
        except NotStored:
            return []
        return [piece.metadata.number for piece in pieces if not piece.damage]

    async def test_empty(self) -> None:
        """An empty task is stored with its one piece of no bytes, as an import stores it, although no parent has it."""
        await self.started
        task_id = hashlib.sha256().hexdigest()
        target = self.store.write_task(KIND, task_id)
        downloader = self.play(a=PlayedParent(content=b"", piece_length=1, lacks={0}))
        await self.download(downloader, target=target, task_id=task_id)
        task = await self.store.get_task(KIND, task_id)
        self.assertEqual((task.content_length, task.digest), (0, f"sha256:{task_id}"))
        (piece,) = await self.store.get_pieces(KIND, task_id)
        self.assertEqual((piece.metadata.length, piece.metadata.digest), (0, "crc32:0"))
        self.assertTrue(verify_task(self.directory, KIND, task_id).is_sound)
        self.assertEqual(downloader.asked, [])

    def hold_drops(self, target: StoredTarget) -> list[Deferred[None]]:
        """Have a target drop pieces when the test says so; gives what is to be fired for that."""
        held: list[Deferred[None]] = []
        drop = target.drop

        def wait(numbers: Sequence[int]) -> Deferred[None]:
            held.append(Deferred())
            return held[-1].addCallback(lambda _: drop(numbers))

        self.patch(target, "drop", wait)
        return held

    def hold_commit(self, target: StoredTarget, number: int) -> list[Deferred[None]]:
        """Have a target commit a piece, the first time, when the test says so."""
        held: list[Deferred[None]] = []
        commit = target.commit

        def wait(metadata: PieceMetadata, piece_length: int, content_length: int | None) -> Deferred[None]:
            if metadata.number != number or held:
                return commit(metadata, piece_length, content_length)
            held.append(Deferred())
            return held[-1].addCallback(lambda _: commit(metadata, piece_length, content_length))

        self.patch(target, "commit", wait)
        return held

    async def until(self, downloader: PlayedDownloader, *, asked: int) -> None:
        """Wait until so many requests have been made in all."""
        while len(downloader.asked) < asked:
            await deferLater(IReactorTime(reactor), 0.01)

    async def give(self, downloader: PlayedDownloader, *numbers: int) -> None:
        """Have pieces come, and wait until they are offered."""
        for number in numbers:
            while number not in [asked.request.number for asked in downloader.waiting]:
                await deferLater(IReactorTime(reactor), 0.01)
            downloader.give(next(asked for asked in downloader.waiting if asked.request.number == number))
        while not {*numbers} <= {*await self.numbers()}:
            await deferLater(IReactorTime(reactor), 0.01)

    async def assert_complete(self) -> None:
        """Assert that the task is there, whole and finished."""
        self.assertEqual((self.path.read_bytes(), wrong_pieces(self.directory)), (CONTENT, []))
        task = await self.store.get_task(KIND, TASK_ID)
        self.assertEqual((task.content_length, task.piece_length, await self.numbers()), (950, 100, [*range(10)]))
        self.assertEqual(list((self.directory / "claims").rglob(TASK_ID)), [])

    async def test_whole(self) -> None:
        """
        Each piece is offered as soon as it has arrived; then the task is finished, with rows that name its sender.
        """
        downloader = self.play(is_held=True)
        self.assertTrue(verifyClass(IDownloadTarget, StoredTarget))
        started = self.download(downloader)
        await self.give(downloader, 0, 3)
        self.assertEqual(await self.numbers(), [0, 3])
        self.assertIsNone((await self.store.get_task(KIND, TASK_ID)).content_length)
        await self.give(downloader, 1, 2, 4, 5, 6, 7, 9)
        while (await self.store.get_task(KIND, TASK_ID)).content_length != 950:
            await deferLater(IReactorTime(reactor), 0.01)
        await self.give(downloader, 8)
        done = await started
        self.assertEqual((done.piece_count, done.content_length, done.found_piece_count), (10, 950, 0))
        await self.assert_complete()
        pieces = await self.store.get_pieces(KIND, TASK_ID)
        self.assertEqual({piece.metadata.parent_id for piece in pieces}, {"honest"})

    async def test_behind(self) -> None:
        """It is behind while more bytes than may wait to be offered."""
        target = self.store.write_task(KIND, TASK_ID)
        await target.open()
        self.addCleanup(target.close)
        os.pwrite(target.descriptor, CONTENT[:200], 0)
        row = PieceMetadata(number=0, offset=0, length=100, digest="")
        for number, most, is_behind in ((0, 100, False), (1, 99, True)):
            self.patch(stored_target, "MOST_UNWRITTEN", most)
            await target.claim(number)
            committed = target.commit(replace(row, number=number, offset=number * 100), 100, None)
            self.assertEqual(target.is_behind, is_behind)
            await committed
            self.assertFalse(target.is_behind)

    async def test_lengths(self) -> None:
        """Tasks of no byte, of one piece and of exactly several can be stored, too, and downloaded again."""
        for content in (b"", b"x", CONTENT[:100], CONTENT[:300]):
            for found in (0, max(1, len(content) // 100)):
                downloader = self.play(a=PlayedParent(content=content, piece_length=100))
                task_id = hashlib.sha256(content).hexdigest()
                done = await TaskDownload(
                    IReactorTime(reactor),
                    partial(deferToThreadPool, IReactorFromThreads(reactor), self.pool),
                    downloader,
                    kind=KIND,
                    task_id=task_id,
                    parents=["a"],
                    target=self.store.write_task(KIND, task_id),
                ).start()
                # The piece of an empty task is there without a parent having sent it.
                expected = found if content else 1
                self.assertEqual((done.content_length, done.found_piece_count), (len(content), expected))
                self.assertEqual((await self.store.get_task(KIND, task_id)).content_length, len(content))

    async def test_resumes(self) -> None:
        """What was there when a download was given up is not fetched again, and yet hashed."""
        downloader = self.play(is_held=True)
        started = self.download(downloader)
        await self.give(downloader, 0, 2, 4)
        started.cancel()
        with self.assertRaises(CancelledError):
            await started
        self.assertEqual(await self.numbers(), [0, 2, 4])
        again = self.play()
        done = await self.download(again)
        self.assertEqual(sorted(set(again.numbers) & set(range(10))), [1, 3, 5, 6, 7, 8, 9])
        self.assertEqual((done.found_piece_count, done.shares[0].piece_count), (3, 7))
        await self.assert_complete()

    async def test_finished(self) -> None:
        """A task that is complete in the storage needs no request."""
        await self.download(self.play())
        downloader = self.play()
        done = await self.download(downloader)
        self.assertEqual((downloader.asked, done.found_piece_count), ([], 10))

    async def test_two_at_once(self) -> None:
        """Two downloads at once fetch every piece once in sum, and each ends with all of them."""
        first, second = self.play(is_held=True), self.play(is_held=True)
        both = [self.download(first), self.download(second)]
        await self.until(first, asked=1)
        given: list[int] = []
        while not all(started.called for started in both):
            for downloader in (first, second):
                for asked in downloader.waiting[:1]:
                    given.append(asked.request.number)
                    downloader.give(asked)
            await deferLater(IReactorTime(reactor), 0.005)
        done = await gatherResults(both)
        self.assertEqual(sorted(number for number in given if number < 10), [*range(10)])
        self.assertEqual([each.piece_count for each in done], [10, 10])
        self.assertEqual(sum(share.piece_count for each in done for share in each.shares), 10)
        await self.assert_complete()

    async def test_takes_over(self) -> None:
        """What one download has claimed is fetched by the other when the first one has ended."""
        stalled, second = self.play(is_held=True), self.play()
        first = self.download(stalled)
        await self.until(stalled, asked=1)
        started = self.download(second)
        await deferLater(IReactorTime(reactor), 0.2)
        self.assertEqual(second.asked, [])
        first.cancel()
        with self.assertRaises(CancelledError):
            await first
        await started
        await self.assert_complete()

    async def test_frozen(self) -> None:
        """
        A process that has claimed a piece and is frozen is waited for as long as for a parent, and named, if that time
        is over before the piece may be taken over.
        """
        frozen = piece_locks.Claims(claims_path(self.directory, KIND, TASK_ID))
        await self.started
        frozen.open()
        self.addCleanup(frozen.close)
        frozen.claim(3)
        with self.assertRaisesRegex(StorageFailure, f"piece 3 is being fetched by process {os.getpid()}, which has"):
            await self.download(self.play(), retry=0.5)
        self.assertEqual([number for number in range(10) if number not in await self.numbers()], [3])

    async def test_taken_over(self) -> None:
        """
        What a frozen process has claimed is fetched after a while; a download that has lost a piece asks no more for
        it, and ends with what the other has fetched.
        """
        self.patch(piece_locks, "TAKE_OVER_AFTER", 0.0)
        frozen = self.play(is_held=True)
        first = self.download(frozen, concurrency=1)
        await self.until(frozen, asked=1)
        self.assertEqual((await self.download(self.play())).piece_count, 10)
        self.assertEqual((await first).piece_count, 10)
        self.assertEqual(frozen.numbers, [0])
        await self.assert_complete()

    async def test_lost_in_the_end(self) -> None:
        """A piece that is verified when it turns out to be lost is fetched again, or found."""
        self.patch(piece_locks, "TAKE_OVER_AFTER", 0.0)
        await self.started
        taker = piece_locks.Claims(claims_path(self.directory, KIND, TASK_ID))
        taker.open()
        self.addCleanup(taker.close)
        downloader = self.play()
        target = self.store.write_task(KIND, TASK_ID)
        held = self.hold_commit(target, 3)
        started = self.download(downloader, target=target)
        while not held:
            await deferLater(IReactorTime(reactor), 0.01)
        self.assertTrue(taker.is_frozen(3) and taker.take_over(3))
        taker.close()
        held[0].callback(None)
        self.assertEqual((await started).piece_count, 10)
        self.assertEqual(downloader.numbers.count(3), 2)
        await self.assert_complete()

    async def test_whole_claims(self) -> None:
        """Where pieces cannot be claimed one by one, a second download waits for the first, and has all of it then."""
        self.patch(piece_locks, "HAS_RANGES", False)
        held, second = self.play(is_held=True), self.play()
        first = self.download(held)
        await self.give(held, 0, 1)
        started = self.download(second)
        await self.give(held, *range(2, 10))
        done = await gatherResults([first, started])
        self.assertEqual([number for number in second.numbers if number < 10], [])
        self.assertEqual(done[1].found_piece_count, 10)

    async def test_wrong(self) -> None:
        """Content that is not the task's is dropped again: nothing of it is offered, nothing is left."""
        with self.assertRaises(TaskDigestMismatch):
            await self.download(self.play(liar=PlayedParent(content=CONTENT[::-1], piece_length=100)))
        self.assertEqual((await self.numbers(), files_in(self.directory)), ([], []))

    async def test_wrong_from_several(self) -> None:
        """Of what came from several parents all is kept but the pieces about which they disagree."""
        contents = [bytearray(CONTENT) for _ in range(3)]
        for number, content in enumerate(contents):
            content[150] ^= 1
            content[number * 300 + 50] ^= 1
        a, b, c = (PlayedParent(content=bytes(content), piece_length=100) for content in contents)
        downloader = self.play(a=a, b=b, c=c)
        with self.assertRaises(TaskDigestMismatch):
            await self.download(downloader)
        self.assertEqual(await self.numbers(), [1, 2, 4, 5, 7, 8, 9])
        honest = self.play()
        done = await self.download(honest)
        self.assertEqual(done.found_piece_count, 6)
        await self.assert_complete()

    async def test_one_honest_parent(self) -> None:
        """With an honest parent among liars it succeeds, and what the liars sent rightly is kept."""
        wrong = bytearray(CONTENT)
        wrong[450] ^= 1
        wrong[550] ^= 1
        liar = PlayedParent(content=bytes(wrong), piece_length=100)
        downloader = self.play(liar=liar, honest=PlayedParent(content=CONTENT, piece_length=100))
        done = await self.download(downloader, concurrency=1)
        self.assertEqual(set(done.lies), {"liar"})
        self.assertIn("with other content", done.lies["liar"])
        self.assertGreater(done.shares[0].piece_count, 0)
        await self.assert_complete()

    async def test_dropped_first(self) -> None:
        """Nothing is asked for again before it has been dropped: it would be written to a place that is offered."""
        downloader = self.play(
            liar=PlayedParent(content=CONTENT[::-1], piece_length=1000),
            honest=PlayedParent(content=CONTENT, piece_length=100),
        )
        target = self.store.write_task(KIND, TASK_ID)
        held = self.hold_drops(target)
        started = self.download(downloader, concurrency=1, target=target)
        while not held:
            await deferLater(IReactorTime(reactor), 0.01)
        asked = len(downloader.asked)
        await deferLater(IReactorTime(reactor), 0.1)
        self.assertEqual(len(downloader.asked), asked)
        held[0].callback(None)
        await started
        await self.assert_complete()

    async def test_all_dropped_first(self) -> None:
        """So it is when several are dropped one by one: none is asked for before the last has been dropped."""
        wrong = bytes(byte ^ 1 for byte in CONTENT[:950]) + CONTENT[950:]
        downloader = self.play(
            is_held=True,
            liar=PlayedParent(content=wrong, piece_length=100),
            honest=PlayedParent(content=CONTENT, piece_length=100),
        )
        target = self.store.write_task(KIND, TASK_ID)
        held = self.hold_drops(target)
        started = self.download(downloader, concurrency=2, target=target)
        while not started.called:
            await deferLater(IReactorTime(reactor), 0.01)
            for waiting in downloader.waiting:
                if not waiting.answer.called:
                    downloader.give(waiting)
            if held:
                asked = len(downloader.asked)
                held.pop(0).callback(None)
                if any(not drop.called for drop in held):
                    self.assertEqual(len(downloader.asked), asked)
        await started
        await self.assert_complete()

    async def test_as_far_as_it_goes(self) -> None:
        """What comes from a parent that does not have all of it is a wrong whole, and stays for the next download."""
        part = PlayedParent(content=CONTENT, piece_length=100, lacks={*range(4, 10)})
        for _ in range(2):
            with self.assertRaisesRegex(TaskDigestMismatch, "no parent has piece 4, but the task may have it"):
                await self.download(self.play(part=part))
            self.assertEqual(await self.numbers(), [0, 1, 2, 3])
            self.assertIsNone((await self.store.get_task(KIND, TASK_ID)).content_length)
        downloader = self.play()
        done = await self.download(downloader)
        self.assertEqual((done.found_piece_count, min(downloader.numbers)), (4, 4))
        await self.assert_complete()

    async def test_wrong_from_one(self) -> None:
        """If all of it came from one parent, its rows give way to those of another with another piece length."""
        await self.download(
            self.play(
                liar=PlayedParent(content=CONTENT[::-1], piece_length=1000),
                honest=PlayedParent(content=CONTENT, piece_length=100),
            ),
            concurrency=1,
        )
        await self.assert_complete()

    async def test_left_by_a_liar(self) -> None:
        """What a liar's pieces were left behind is found out: by other pieces' places, and by the whole."""
        for piece_length in (70, 100):
            liar = self.play(is_held=True, liar=PlayedParent(content=CONTENT[::-1], piece_length=piece_length))
            given_up = self.download(liar)
            await self.give(liar, 0, 1)
            given_up.cancel()
            with self.assertRaises(CancelledError):
                await given_up
            await self.download(self.play())
            await self.assert_complete()
            os.unlink(self.path)

    async def test_rotten(self) -> None:
        """Bytes that have changed on the disk are found by the whole's digest, and all is fetched anew."""
        source = Path(self.mktemp())
        source.write_bytes(CONTENT)
        await self.started
        import_file(source, self.directory, KIND, 100)
        with self.path.open("r+b") as file:
            file.write(b"rotten")
        downloader = self.play()
        await self.download(downloader)
        self.assertEqual(len(set(downloader.numbers)), 10)
        await self.assert_complete()

    async def test_damaged(self) -> None:
        """A damaged piece, and no other, is fetched anew; the piece length of a single piece stays as it was."""
        for content, piece_length in ((CONTENT, 100), (b"one piece", 1 << 22)):
            source = Path(self.mktemp())
            source.write_bytes(content)
            await self.started
            task = import_file(source, self.directory, KIND, piece_length)
            number = len(content) // 300
            await self.store.mark_damaged(KIND, task.task_id, number, "rotten")
            downloader = self.play(a=PlayedParent(content=content, piece_length=piece_length))
            await TaskDownload(
                IReactorTime(reactor),
                partial(deferToThreadPool, IReactorFromThreads(reactor), self.pool),
                downloader,
                kind=KIND,
                task_id=task.task_id,
                parents=["a"],
                target=self.store.write_task(KIND, task.task_id),
            ).start()
            self.assertEqual(downloader.numbers, [number])
            self.assertEqual((await self.store.get_task(KIND, task.task_id)).piece_length, piece_length)
            self.assertEqual([p.damage for p in await self.store.get_pieces(KIND, task.task_id) if p.damage], [])

    async def test_removed(self) -> None:
        """A task that is imported meanwhile ends the download with an error, and stays as it was imported."""
        downloader = self.play(is_held=True)
        started = self.download(downloader)
        await self.give(downloader, 0)
        source = Path(self.mktemp())
        source.write_bytes(CONTENT)
        import_file(source, self.directory, KIND, 100)
        for asked in list(downloader.waiting):
            downloader.give(asked)
        with self.assertRaisesRegex(StorageError, "imported anew or removed"):
            await started
        await self.assert_complete()

    async def test_closed(self) -> None:
        """A target that is not open has no file."""
        target = self.store.write_task(KIND, TASK_ID)
        with self.assertRaises(StorageFailure):
            _ = target.descriptor
        await target.close()
        self.assertIn(TASK_ID, str(target.failure("it is full")))

    async def test_one_piece_and_a_longer_lie(self) -> None:
        """A task of one piece, of which a liar sends more than there is, has its own piece length in the end."""
        liar = PlayedParent(content=CONTENT + bytes(2000), piece_length=1000)
        honest = PlayedParent(content=CONTENT, piece_length=1000)
        for downloader in (self.play(liar=liar, honest=honest), self.play(honest=honest, liar=liar)):
            done = await self.download(downloader, concurrency=1)
            self.assertEqual(done.content_length, 950)
            self.assertEqual((self.path.read_bytes(), await self.numbers()), (CONTENT, [0]))
            await deferToThread(remove_task, self.directory, KIND, TASK_ID)

    async def test_of_liars_beside_a_finished_one(self) -> None:
        """A download that knows liars alone finds what another one has finished meanwhile, and leaves it as it is."""
        self.patch(commits, "LOOK_AGAIN", 0.01)
        self.patch(download, "LOOK_AGAIN", 0.01)
        wrong = bytearray(CONTENT)
        wrong[150] ^= 1
        wrong[450] ^= 1
        misled = self.store.write_task(KIND, TASK_ID)
        held: list[Deferred[None]] = []
        hold = misled.hold

        def wait() -> Deferred[bool]:
            held.append(Deferred())
            return held[-1].addCallback(lambda _: hold())

        self.patch(misled, "hold", wait)
        liar = PlayedParent(content=bytes(wrong), piece_length=100)
        started = self.download(self.play(liar=liar), concurrency=1, target=misled)
        while not held:
            await deferLater(IReactorTime(reactor), 0.01)
        await self.download(self.play())
        await self.assert_finished()
        held.pop().callback(None)
        self.assertEqual((await started).found_piece_count, 10)
        await self.assert_finished()

    async def test_beside_one_of_liars(self) -> None:
        """
        Of two downloads at once whose parents disagree the one with an honest parent always succeeds, and does not
        name that parent; the other one fails, or has what the first one has fetched.
        """
        self.patch(commits, "LOOK_AGAIN", 0.01)
        self.patch(download, "LOOK_AGAIN", 0.01)
        wrong = bytes(byte ^ (number % 100 == 5) for number, byte in enumerate(CONTENT))
        for seed in range(6):
            chance = random.Random(seed)
            played = (
                self.play(is_held=True, honest=PlayedParent(content=CONTENT, piece_length=100)),
                self.play(is_held=True, liar=PlayedParent(content=wrong, piece_length=100)),
            )
            both = [self.download(downloader, concurrency=3) for downloader in played]
            ended = DeferredList(both, consumeErrors=True)
            while not ended.called:
                for downloader in played:
                    waiting = [asked for asked in downloader.waiting if not asked.answer.called]
                    if waiting and chance.random() < 0.5:
                        downloader.give(chance.choice(waiting))
                await deferLater(IReactorTime(reactor), 0)
            (is_done, done), (_, other) = await ended
            self.assertEqual((is_done, getattr(done, "lies", done)), (True, {}), f"seed {seed}")
            if isinstance(other, Failure):
                self.assertTrue(other.check(TaskDigestMismatch), other)
            await self.assert_complete()
            await deferToThread(remove_task, self.directory, KIND, TASK_ID)

    async def assert_finished(self) -> None:
        """Assert that the task is there, whole, with or without others that have it open."""
        self.assertEqual((self.path.read_bytes(), wrong_pieces(self.directory)), (CONTENT, []))
        task = await self.store.get_task(KIND, TASK_ID)
        self.assertEqual((task.content_length, await self.numbers()), (950, [*range(10)]))
