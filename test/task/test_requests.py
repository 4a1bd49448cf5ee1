"""Tests of the requests that are under way, with a clock and answers of the tests' own; and of their sinks."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, execute, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import ParentUnreachable, PieceRefused
from dragonfly_vortex.events import PieceUnderWay
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IFileSink
from dragonfly_vortex.model import Claim, DownloadPieceResponse, FilePlace
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.task.requests import Answer, OutputSink, Requests
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.task.parents import PlayedDownloader, PlayedParent

OTHERS = Claim(is_ours=False)


def metadata(offset: int) -> PieceMetadata:
    """A piece that starts there."""
    return PieceMetadata(number=0, offset=offset, length=3, digest="")


class Place:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


class RequestsTests(SynchronousTestCase):
    """Two requests."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5)
        self.answers: list[Answer] = []
        self.target = OutputTarget(Path(self.mktemp()), execute)
        self.requests = self.requests_of(PlayedDownloader({}))
        self.coming: list[Deferred[DownloadPieceResponse | Claim]] = []
        self.asked: list[Request] = []
        descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        self.sinks = [OutputSink(Place(descriptor), lambda _: None) for _ in range(2)]
        for number, sink in enumerate(self.sinks):
            self.coming.append(Deferred())
            self.asked.append(Request(parent="h:1", number=number, round=0))
            self.requests.add(self.asked[number], self.coming[number], sink)

    def requests_of(self, downloader: IDownloader) -> Requests:
        """Requests that a downloader answers."""
        return Requests(
            self.clock,
            execute,
            downloader,
            self.target,
            PieceKind.STANDARD,
            "ab" * 32,
            self.answers.append,
            is_whole_verified=True,
        )

    def test_answered(self) -> None:
        """Each answer comes with its request, and how long it took."""
        self.clock.advance(3)
        self.coming[1].callback(OTHERS)
        self.assertEqual(self.answers, [Answer(request=self.asked[1], result=OTHERS, is_given_up=False, seconds=3.0)])

    def test_announced_length(self) -> None:
        """A downloader gets the length that a parent has announced."""
        wanted: list[DownloadPieceRequest] = []

        class _Downloader(PlayedDownloader):
            """Writes down what it is asked for."""

            def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
                wanted.append(request)
                return Deferred()

        requests = self.requests_of(_Downloader({}))
        request = Request(parent="h:1", number=3, round=0, is_comparison=True, announced_length=7)
        requests.ask(request, lambda _: None, needs_claim=False)
        self.assertEqual(
            [(each.number, each.announced_length, each.is_whole_verified) for each in wanted], [(3, 7, True)]
        )

    def test_downloader_raises(self) -> None:
        """A downloader that raises has failed to give the piece, claimed or to be compared."""

        class _Downloader(PlayedDownloader):
            """Raises, where a Deferred that fails is expected."""

            def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
                raise ParentUnreachable(addr, str(request.number), "no way")

        requests = self.requests_of(_Downloader({}))
        for number, needs_claim in enumerate((True, False)):
            request = Request(parent="h:1", number=number, round=0, is_comparison=not needs_claim)
            requests.ask(request, lambda _: None, needs_claim=needs_claim)
            answer = self.answers.pop()
            self.assertIs(answer.request, request)
            self.assertIsInstance(cast(Failure, answer.result).value, ParentUnreachable)

    def test_under_way(self) -> None:
        """The requests without an answer can be seen, with what has arrived; one that is given up is none of them."""
        self.sinks[1].wrote(70)
        expected = [
            PieceUnderWay(number=number, parent="h:1", received=received) for number, received in ((0, 0), (1, 70))
        ]
        self.assertEqual(self.requests.under_way(), expected)
        self.requests.give_up(self.asked[0])
        self.assertEqual(self.requests.under_way(), expected[1:])
        self.coming[1].callback(OTHERS)
        self.assertEqual(self.requests.under_way(), [])

    def test_given_up(self) -> None:
        """A request that is given up is cancelled, once, its sink is taken away, and its answer says so."""
        self.requests.give_up(self.asked[0])
        self.assertEqual([sink.is_revoked for sink in self.sinks], [True, False])
        (answer,) = self.answers
        self.assertEqual((answer.request, answer.is_given_up), (self.asked[0], True))
        self.assertIsInstance(getattr(answer.result, "value", None), CancelledError)

    def test_given_up_twice(self) -> None:
        """One that does not end when it is given up is not cancelled again."""
        cancelled: list[Deferred[Claim]] = []
        hanging: Deferred[Claim] = Deferred(cancelled.append)
        request = Request(parent="h:1", number=2, round=0)
        coming: Deferred[DownloadPieceResponse | Claim] = Deferred()
        coming.addErrback(lambda _: hanging)
        self.requests.add(request, coming, OutputSink(Place(-1), lambda _: None))
        for _ in range(2):
            self.requests.give_up(request)
        self.assertEqual((cancelled, self.answers), ([], []))

    def test_lost(self) -> None:
        """A request whose piece another download has taken over is cancelled, once, and is not given up."""
        self.sinks[0].is_held = bool
        for _ in range(2):
            self.requests.look_at_claims()
        (answer,) = self.answers
        self.assertEqual((answer.request, answer.is_given_up), (self.asked[0], False))

    def test_lost_once(self) -> None:
        """One that does not end at once is not cancelled again."""
        cancelled: list[Deferred[Claim]] = []
        coming: Deferred[DownloadPieceResponse | Claim] = Deferred()
        coming.addErrback(lambda _: Deferred(cancelled.append))
        sink = OutputSink(Place(-1), lambda _: None)
        sink.is_held = bool
        self.requests.add(Request(parent="h:1", number=2, round=0), coming, sink)
        for _ in range(2):
            self.requests.look_at_claims()
        self.assertEqual((cancelled, self.answers), ([], []))

    def test_lost_while_looking(self) -> None:
        """One that has its answer when its claim is lost is not cancelled while it looks who has the piece."""
        held = [True]
        claims: list[Deferred[Claim]] = [succeed(Claim(is_ours=True, is_held=lambda: held[0])), Deferred()]
        coming: Deferred[DownloadPieceResponse] = Deferred()

        class _Target(OutputTarget):
            """Another download takes the piece over."""

            def claim(self, number: int) -> Deferred[Claim]:
                return claims.pop(0)

        class _Downloader(PlayedDownloader):
            """Answers when the test says so."""

            def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
                return coming

        looking = claims[1]
        requests = Requests(
            self.clock,
            execute,
            _Downloader({}),
            _Target(Path(self.mktemp()), execute),
            PieceKind.STANDARD,
            "ab" * 32,
            self.answers.append,
            is_whole_verified=True,
        )
        requests.ask(Request(parent="h:1", number=2, round=0), lambda _: None)
        held[0] = False
        coming.errback(ConnectionLost())
        requests.look_at_claims()
        self.assertEqual(self.answers, [])
        looking.callback(OTHERS)
        self.assertEqual([(answer.result, answer.is_given_up) for answer in self.answers], [(OTHERS, False)])

    def test_all(self) -> None:
        """All are given up at once."""
        self.requests.give_up_all()
        self.assertEqual([answer.is_given_up for answer in self.answers], [True, True])

    def test_stop(self) -> None:
        """Stopped, it fires when all have ended, and leaves no call behind."""
        ending: Deferred[Claim] = Deferred(lambda _: None)
        coming: Deferred[DownloadPieceResponse | Claim] = Deferred()
        coming.addErrback(lambda _: ending)
        self.requests.add(Request(parent="h:1", number=2, round=0), coming, OutputSink(Place(-1), lambda _: None))
        stopped = self.requests.stop()
        self.assertNoResult(stopped)
        ending.callback(OTHERS)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual((len(self.answers), self.clock.getDelayedCalls()), (3, []))
        self.assertIsNone(self.successResultOf(self.requests.stop()))

    def test_patience(self) -> None:
        """One that does not end is left behind after two seconds, with a warning."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        coming: Deferred[DownloadPieceResponse | Claim] = Deferred()
        coming.addErrback(lambda _: Deferred())
        self.requests.add(Request(parent="slow:1", number=2, round=0), coming, OutputSink(Place(-1), lambda _: None))
        stopped = self.requests.stop()
        self.clock.advance(1.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.2)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual([event.get("parent") for event in events if "parent" in event], ["slow:1"])


class CopyTests(SynchronousTestCase):
    """Second copies of a piece, whose copying to its place takes as long as the test wants."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.answers: list[Answer] = []
        self.copying: list[Callable[[], object]] = []  # each does what a thread is at work on
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        target = OutputTarget(self.directory / "file", execute)
        self.successResultOf(target.open())
        self.addCleanup(target.close)
        self.descriptor = target.descriptor
        parents = {name: PlayedParent(content=name.encode(), piece_length=4) for name in ("a:01", "b:02")}
        self.downloader = PlayedDownloader(parents)
        self.requests = Requests(
            self.clock,
            self.in_thread,
            self.downloader,
            target,
            PieceKind.STANDARD,
            "ab" * 32,
            self.answers.append,
            is_whole_verified=True,
        )

    def in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """Do some work at once; hold back a copy to the place of a piece."""
        if not isinstance(work, partial):
            return execute(work, *arguments)
        done: Deferred[Any] = Deferred()
        self.copying.append(lambda: execute(work).chainDeferred(done))
        return done

    def ask(self, parent: str) -> Request:
        """Ask for the piece a second time; it comes at once."""
        request = Request(parent=parent, number=0, round=0, is_spare=True)
        self.requests.ask(request, lambda _: None)
        return request

    def test_stopped_while_copying(self) -> None:
        """What is being copied to its place is waited for, however long: its file is closed next."""
        self.ask("a:01")
        stopped = self.requests.stop()
        self.clock.advance(60)
        self.assertNoResult(stopped)
        (copy,) = self.copying
        copy()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(os.pread(self.descriptor, 4, 0), b"a:01")
        self.assertEqual(([answer.is_given_up for answer in self.answers], self.clock.getDelayedCalls()), ([True], []))

    def test_one_after_the_other(self) -> None:
        """A copy is not begun before one of the same piece that was given up has ended."""
        first, second = self.ask("a:01"), self.ask("b:02")
        self.assertEqual(len(self.copying), 1)
        self.copying.pop()()
        (copy,) = self.copying
        copy()
        self.assertEqual(
            [(answer.request, answer.is_given_up) for answer in self.answers], [(first, True), (second, False)]
        )
        self.assertEqual(os.pread(self.descriptor, 4, 0), b"b:02")


class OutputSinkTests(SynchronousTestCase):
    """The place of a piece."""

    def setUp(self) -> None:
        descriptor = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        self.output = Place(descriptor)

    def test_provides(self) -> None:
        """It is an IFileSink."""
        self.assertTrue(verifyObject(IFileSink, OutputSink(self.output, lambda _: None)))

    def test_writes(self) -> None:
        """Bytes go to the piece's place, one after the other; begun again, from its start."""
        sink = OutputSink(self.output, lambda _: None)
        sink.begin(metadata(4))
        sink.write(b"xx")
        sink.fail()
        sink.begin(metadata(4))
        sink.write(b"ab")
        sink.write(memoryview(b"c"))
        sink.write(b"")
        self.assertEqual(sink.finish(), 3)
        self.assertEqual(os.pread(self.output.descriptor, 99, 0), b"\0\0\0\0abc")

    def test_written_by_others(self) -> None:
        """The client learns where the next byte goes, and its bytes count like written ones."""
        sink = OutputSink(self.output, lambda _: None)
        sink.begin(metadata(4))
        sink.write(b"a")
        self.assertEqual(sink.place(), FilePlace(self.output.descriptor, 5))
        os.pwrite(self.output.descriptor, b"bc", 5)
        sink.wrote(2)
        sink.write(b"d")
        self.assertEqual(sink.finish(), 4)
        self.assertEqual(os.pread(self.output.descriptor, 99, 0), b"\0\0\0\0abcd")

    def test_judged(self) -> None:
        """A piece that cannot be is refused."""

        def refuse(_: PieceMetadata) -> None:
            raise PieceRefused("no")

        self.assertRaises(PieceRefused, OutputSink(self.output, refuse).begin, metadata(0))

    def test_revoked(self) -> None:
        """When its place is taken away, nothing is written any more."""
        sink = OutputSink(self.output, lambda _: None)
        sink.begin(metadata(0))
        sink.revoke()
        self.assertRaises(OSError, sink.write, b"abc")
        self.assertRaises(OSError, sink.place)
        self.assertEqual(os.fstat(self.output.descriptor).st_size, 0)

    def test_lost(self) -> None:
        """A piece that another download has taken over is not written, and one lost meanwhile is not counted on."""
        sink = OutputSink(self.output, lambda _: None)
        sink.begin(metadata(0))
        for held, written in (([False], b""), ([True, False], b"abc")):
            sink.is_held = partial(held.pop, 0)
            self.assertRaises(OSError, sink.write, b"abc")
            self.assertEqual(os.pread(self.output.descriptor, 99, 0), written)
        sink.is_held = bool
        self.assertRaises(OSError, sink.place)
        self.assertRaises(OSError, sink.wrote, 1)

    def test_full(self) -> None:
        """A write that the system refuses is its error."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        sink = OutputSink(self.output, lambda _: None)
        sink.begin(metadata(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2, hard))
        self.assertRaises(OSError, sink.write, b"abc")
