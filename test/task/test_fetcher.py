"""Tests of how a download follows its plan: what it asks when, and what waits for hash, disk and slow parents."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, execute

from dragonfly_vortex.errors import (
    NoParentLeft,
    OutputError,
    ParentUnreachable,
    TaskNotFound,
)
from dragonfly_vortex.events import DownloadedTask
from dragonfly_vortex.task import output
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.wire import PieceKind
from test.task.announcer import PlayedAnnouncer
from test.task.downloading import CONTENT, MIB, DownloadTestCase, at_once, sha256
from test.task.parents import Asked, PlayedDownloader, PlayedParent
from test.task.test_file_hash import HeldThreads

_T = TypeVar("_T")


class HeldCopies:
    """Threads that wait before they write another copy of a piece to its place; other work is done at once."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def __call__(self, function: Callable[[], _T], /) -> Deferred[_T]:
        """Have work done."""
        if getattr(getattr(function, "func", None), "__name__", "") != "copy":
            return execute(function)
        done: Deferred[_T] = Deferred()
        self.waiting.append(lambda: execute(function).chainDeferred(done))
        return done

    def go_on(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class RoomTests(DownloadTestCase):
    """Room on the disk."""

    def test_not_published_before(self) -> None:
        """The file is not published while room is made for it: what is too much of that goes when it is."""
        content = bytes(8 * MIB)
        threads = HeldThreads()
        self.play(a=PlayedParent(content=content, piece_length=4 * MIB))
        started = self.download(content, in_thread=threads, concurrency=1)
        room: list[tuple[Callable[[], object], Deferred[object]]] = []
        while threads.calls:
            if "Allocation" in threads.calls[0][0].__qualname__:
                room.append(threads.calls.pop(0))
            else:
                threads.run_one()
        self.assertEqual(len(room), 1)
        self.assertNoResult(started)
        self.assertNotIn("file", self.names())
        threads.calls += room
        while threads.calls:
            threads.run_one()
        self.assert_complete(started, content)


class HeldBackTests(DownloadTestCase):
    """Hashing keeps up."""

    def test_held_back(self) -> None:
        """
        No more is asked for while more than 32 MiB wait to be hashed, and so at most 64 MiB are left to be hashed at
        the end.
        """
        content = bytes(80 * MIB)
        threads = HeldThreads()
        self.play(a=PlayedParent(content=content, piece_length=4 * MIB))
        started = self.download(content, in_thread=threads, concurrency=8)
        threads.run_one()
        self.assertEqual(max(self.downloader.numbers), 8)
        for _ in ("room", "write back", "hash"):
            threads.run_one()
        self.assertGreater(max(self.downloader.numbers), 8)
        while threads.calls:
            threads.run_one()
        done = self.assert_complete(started, content)
        self.assertGreater(done.left_to_hash, 0)
        self.assertLessEqual(done.left_to_hash, 64 * MIB)

    def test_slow_disk(self) -> None:
        """No more is asked for while more waits for the disk than may, and it goes on when that has been written."""
        content = os.urandom(16 * MIB)
        disk = HeldThreads()
        self.patch(output, "MOST_UNWRITTEN", 2 * MIB)
        self.play(a=PlayedParent(content=content, piece_length=MIB))
        started = TaskDownload(
            self.clock,
            at_once,
            self.downloader,
            kind=PieceKind.STANDARD,
            task_id=sha256(content),
            parents=["a"],
            target=OutputTarget(self.target, disk),
            concurrent_piece_count=1,
        ).start()
        disk.run_one()
        self.assertEqual(max(self.downloader.numbers), 2)
        disk.run_one()
        self.assertEqual(max(self.downloader.numbers), 3)
        while disk.calls:
            disk.run_one()
        self.assert_complete(started, content)

    def test_own_disk_is_waited_for(self) -> None:
        """While nothing is asked for because this side is behind, no parent is reported as one that is waited for."""
        content = os.urandom(8 * MIB)
        disk, announcer = HeldThreads(), PlayedAnnouncer(self.clock)
        self.patch(output, "MOST_UNWRITTEN", 2 * MIB)
        self.play(a=PlayedParent(content=content, piece_length=MIB))
        started = TaskDownload(
            self.clock,
            at_once,
            self.downloader,
            kind=PieceKind.STANDARD,
            task_id=sha256(content),
            parents=["a"],
            target=OutputTarget(self.target, disk),
            announcers={"a": announcer},
            concurrent_piece_count=1,
            retry=10.0,
            on_event=self.on_event,
        ).start()
        disk.run_one()
        for number in range(4):
            announcer.tell_piece(number, number * MIB, MIB)
        self.assertEqual(max(self.downloader.numbers), 2)
        self.clock.pump([0.5] * 60)
        self.assertEqual(self.waits, [])
        while disk.calls:
            disk.run_one()
        self.assertEqual(max(self.downloader.numbers), 3)
        announcer.tell_layout(8 * MIB, MIB)
        for number in range(4, 8):
            announcer.tell_piece(number, number * MIB, MIB)
        while disk.calls:
            disk.run_one()
        self.assert_complete(started, content)


class SlowParentTests(DownloadTestCase):
    """Parents that take their time: what they owe comes from others, and those that are away come back."""

    def pass_time(self, seconds: float) -> None:
        """Let time go by, step by step."""
        self.clock.pump([0.5] * int(seconds * 2))

    def asked_of(self, parent: str) -> list[Asked]:
        """The requests that a parent has and has not answered."""
        return [asked for asked in self.downloader.waiting if asked.addr == parent]

    def test_first_good_copy(self) -> None:
        """
        A bad copy never spoils a good one: a liar begins a piece and stops, an honest parent gives it, and what the
        liar goes on to write goes nowhere.
        """
        liar = PlayedParent(content=bytes(1000), piece_length=1000)
        self.play(a=liar, b=PlayedParent(content=CONTENT, piece_length=1000), is_held=True)
        started = self.download()
        (bad,) = self.asked_of("a")
        sink = self.downloader.begin(bad)
        sink.write(bytes(400))
        self.pass_time(4)
        (good,) = self.asked_of("b")
        copy = self.downloader.begin(good)
        copy.write(CONTENT[:700])
        sink.write(bytes(400))
        self.downloader.give(good)
        self.assertTrue(bad.is_cancelled)
        self.assertRaises(OSError, sink.write, bytes(200))
        while self.downloader.waiting:
            self.downloader.give(self.downloader.waiting[0])
        self.assertEqual(self.assert_complete(started).fetched_twice, 800)

    def test_one_writer_at_a_place(self) -> None:
        """
        While a liar's copy is written to its place, by a disk that takes seconds for it, no other request writes there:
        what is published is what was hashed.
        """
        honest = PlayedParent(content=CONTENT, piece_length=1000)
        liar = PlayedParent(content=bytes(1000), piece_length=1000)
        self.play(a=honest, b=liar, c=honest, is_held=True)
        held = HeldCopies()
        started = self.download(in_thread=held)
        self.pass_time(4)
        self.downloader.give(self.asked_of("b")[0])
        self.assertEqual(len(held.waiting), 1)
        self.pass_time(4)
        self.downloader.give(self.asked_of("c")[0])
        while held.waiting or self.downloader.waiting:
            held.go_on()
            for asked in self.downloader.waiting:
                self.downloader.give(asked)
        self.assert_complete(started)

    def test_copy_is_spoiled(self) -> None:
        """Where the other copy is the liar's, the slow one is what counts."""
        liar = PlayedParent(content=bytes(1000), piece_length=1000, spoils={0})
        self.play(a=PlayedParent(content=CONTENT, piece_length=1000), b=liar, is_held=True)
        started = self.download()
        (slow,) = self.asked_of("a")
        self.downloader.begin(slow).write(CONTENT[:10])
        self.pass_time(4)
        self.downloader.give(self.asked_of("b")[0])
        self.downloader.give(slow)
        self.downloader.give(self.asked_of("a")[0])
        self.assert_complete(started)

    def test_cancelled_with_a_copy(self) -> None:
        """A download that is given up while two copies are under way leaves nothing."""
        honest = PlayedParent(content=CONTENT, piece_length=1000)
        self.play(a=honest, b=honest, is_held=True)
        started = self.download()
        self.pass_time(4)
        self.assertEqual(len(self.downloader.waiting), 2)
        started.cancel()
        self.assert_failed(started, CancelledError)

    def test_no_room_for_a_copy(self) -> None:
        """Where there is no place for another copy, the download ends with what the system says."""
        honest = PlayedParent(content=CONTENT, piece_length=1000)
        self.play(a=honest, b=honest, is_held=True)
        started = self.download()

        def fail(**_: object) -> None:
            raise OSError("no room")

        self.patch(tempfile, "TemporaryFile", fail)
        self.pass_time(4)
        self.assert_failed(started, OutputError, "no room")

    def test_told(self) -> None:
        """A line names the parent that is waited for."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=1000), is_held=True)
        started = self.download()
        self.pass_time(9)
        self.assertEqual(self.waits, ["parent a has sent nothing for 7 s; waiting for it"])
        started.cancel()
        self.assert_failed(started, CancelledError)

    def test_own_standstill(self) -> None:
        """What comes late because this process did not run is not asked of another parent."""
        honest = PlayedParent(content=CONTENT, piece_length=1000)
        self.play(a=honest, b=honest, is_held=True)
        started = self.download()
        self.clock.advance(20)
        self.assertEqual(len(self.downloader.asked), 1)
        started.cancel()
        self.assert_failed(started, CancelledError)

    def test_comes_back(self) -> None:
        """The only parent is away for some seconds, in the middle: the pieces stay, and the rest comes then."""
        parent = PlayedParent(content=CONTENT, piece_length=100)
        parent.faults = [None, None, None, *[ParentUnreachable] * 5]
        self.play(a=parent)
        started = self.download(retry=30.0)
        self.assertNoResult(started)
        self.pass_time(20)
        self.assert_complete(started)
        self.assertEqual(min(self.downloader.numbers[8:]), 3)
        self.assertEqual(
            self.waits,
            ["parent a failed (expected a piece, got a fault); asking it again for up to 30 s without progress"],
        )

    def test_stays_away(self) -> None:
        """It fails when nothing has arrived for that long."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100, faults=[ParentUnreachable] * 100))
        started = self.download(retry=5.0)
        self.pass_time(4.5)
        self.assertNoResult(started)
        self.pass_time(2)
        self.assert_failed(started, NoParentLeft, "from parent a")


class AnnouncedTests(DownloadTestCase):
    """Parents that announce what they have."""

    def announced(self, *, retry: float = 0.0, **parents: PlayedParent) -> Deferred[DownloadedTask]:
        """Start a download from parents each of which has an announcer."""
        self.downloader = PlayedDownloader(parents)
        self.announcers = {name: PlayedAnnouncer(self.clock) for name in parents}
        return self.download(announcers=self.announcers, retry=retry)

    def tell(self, parent: str, *numbers: int) -> None:
        """A parent announces pieces."""
        for number in numbers:
            self.announcers[parent].tell_piece(number, number * 100, 100)

    def test_chain(self) -> None:
        """Two parents, each with a half that grows, are asked for what they have, as soon as they have it."""
        honest = PlayedParent(content=CONTENT, piece_length=100)
        started = self.announced(a=honest, b=honest)
        self.assertEqual(self.announcers["a"].asked, (PieceKind.STANDARD, sha256(CONTENT)))
        self.assertEqual(self.downloader.asked, [])
        self.announcers["a"].tell_layout(1000, 100)
        self.tell("b", 5, 6, 7, 8)
        self.assertEqual(self.downloader.numbers, [5, 6, 7, 8])
        self.tell("a", 0, 1, 2, 3)
        self.announcers["b"].tell_end(True)
        self.tell("a", 4)
        self.assertNoResult(started)
        self.tell("a", 9)
        done = self.assert_complete(started)
        self.assertEqual([share.piece_count for share in done.shares], [6, 4])
        self.assertEqual(len(self.downloader.asked), 10)
        self.assertTrue(all(announcer.is_stopped for announcer in self.announcers.values()))

    def test_one_step_a_turn(self) -> None:
        """What parents announce in one turn of the reactor is known before any of it is asked for."""
        honest = PlayedParent(content=CONTENT, piece_length=100)
        started = self.announced(a=honest, b=honest)
        a, b = (self.announcers[name] for name in "ab")
        a.clock = b.clock = None
        a.tell_layout(1000, 100)
        self.tell("b", 5)
        self.tell("a", *range(10))
        self.assertEqual(self.downloader.asked, [])
        self.clock.advance(0)
        self.assert_complete(started)

    def test_does_not_have_it_yet(self) -> None:
        """A parent that does not have the task yet is asked again what it has, and gives what it has by then."""
        started = self.announced(a=PlayedParent(content=CONTENT, piece_length=100), retry=30.0)
        announcer = self.announcers["a"]
        announcer.tell_end(True)
        announcer.asked = None
        self.clock.pump([0.5] * 2)
        self.assertIsNotNone(announcer.asked)
        announcer.tell_layout(1000, 100)
        self.tell("a", *range(10))
        self.assert_complete(started)

    def test_impossible_place(self) -> None:
        """A parent that announces a piece where no file can have one does not end the download."""
        far = (1 << 62) - 100
        started = self.announced(
            a=PlayedParent(content=CONTENT[:110], piece_length=100, shift=far),
            b=PlayedParent(content=CONTENT, piece_length=100),
        )
        self.announcers["a"].tell_piece(1, 1 << 62, 10)
        self.announcers["b"].tell_layout(1000, 100)
        self.tell("b", *range(10))
        done = self.assert_complete(started)
        self.assertEqual([share.piece_count for share in done.shares], [0, 10])

    def test_trial(self) -> None:
        """When the whole is wrong, each parent that is tried is asked anew what it has, and only that one is heard."""
        wrong = bytearray(CONTENT)
        wrong[0::100] = bytes(byte ^ 1 for byte in wrong[0::100])  # another byte, whatever the random one is
        started = self.announced(
            a=PlayedParent(content=bytes(wrong), piece_length=100), b=PlayedParent(content=CONTENT, piece_length=100)
        )
        self.announcers["a"].tell_layout(1000, 100)
        self.tell("b", *range(0, 10, 2))
        self.tell("a", *range(1, 10, 2))
        for parent in ("a", "b"):
            self.announcers[parent].tell_layout(1000, 100)
            self.tell(parent, *range(10))
            self.announcers[parent].tell_end(True)
        done = self.assert_complete(started)
        self.assertEqual([share.piece_count for share in done.shares], [0, 10])
        self.assertEqual(list(done.lies), ["a"])

    def test_verified_against(self) -> None:
        """A piece that is not as its parent announced it is refused, and the error says so."""
        started = self.announced(a=PlayedParent(content=CONTENT, piece_length=100))
        self.announcers["a"].tell_piece(0, 0, 99)
        said = "from parent a: expected 99 bytes at 0, as it has announced, got 100 at 0"
        self.assert_failed(started, NoParentLeft, said)

    def test_nothing(self) -> None:
        """When nothing was announced and nothing will be, the task is not found."""
        started = self.announced(a=PlayedParent(content=CONTENT, piece_length=100))
        self.assertNoResult(started)
        self.announcers["a"].tell_end(True)
        self.assert_failed(started, TaskNotFound)

    def test_broken_off(self) -> None:
        """A parent whose announcements break off gives the rest without."""
        started = self.announced(a=PlayedParent(content=CONTENT, piece_length=100))
        self.tell("a", 0, 1)
        self.announcers["a"].tell_end(False)
        self.assert_complete(started)

    def test_cancelled(self) -> None:
        """A download that is given up listens no more."""
        started = self.announced(a=PlayedParent(content=CONTENT, piece_length=100))
        started.cancel()
        self.assert_failed(started, CancelledError)
        self.assertTrue(self.announcers["a"].is_stopped)
