"""The best transport: which it is, what is remembered and said of it; and the downloaders' contract, by each way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from benchmarks.processes import free_port
from dragonfly_vortex.config import Config, DownloadConfig
from dragonfly_vortex.downloaders.auto import AutoDownloader
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.downloaders.failover import FIRST_WORDS, REST
from dragonfly_vortex.errors import (
    CertificateRejected,
    DigestMismatch,
    OtherProtocol,
    ParentFailed,
    ParentUnreachable,
    PieceLate,
    PieceNotFound,
    PieceTimeout,
    PieceTruncated,
    PoolClosed,
    SinkFailed,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.testing.contract_parent import Fault, Offer, VortexContractParent
from dragonfly_vortex.testing.downloader_contract import DownloaderContract
from dragonfly_vortex.testing.pieces import TASK_ID, SamplePiece, sample_piece
from dragonfly_vortex.wire import ErrorCode, PieceKind
from test.downloaders.played import PIECE, Played
from test.rpc.legacy_parent import LegacyParent

_PARENT = "grpc://192.0.2.1:4000"
_TCP = "192.0.2.1:4005"


class _AutoTests(SynchronousTestCase):
    """An :class:`AutoDownloader` over two that are played, on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.tcp, self.grpc = Played(), Played()
        self.made = 0
        self.said: list[str] = []
        self.auto = self.make()
        self.auto.learn(_PARENT, _TCP)

    def make(self, *names: str, piece_timeout: float = 360.0) -> AutoDownloader:
        """The downloader under test, for the transports of these names; none: for both."""
        builders: dict[str, Callable[[], IDownloader]] = {"tcp": lambda: self.tcp, "grpc": self.make_grpc}
        for other in {"tcp", "grpc"}.difference(names) if names else ():
            del builders[other]
        return AutoDownloader(self.clock, builders, piece_timeout=piece_timeout, say=self.said.append)

    def make_grpc(self) -> IDownloader:
        """Make the second downloader, and count how often."""
        self.made += 1
        return self.grpc

    def ask(self, parent: str = _PARENT) -> Deferred[DownloadPieceResponse]:
        """Ask for the piece."""
        return self.auto.download(parent, PIECE.request())

    def assert_piece(self, downloading: Deferred[DownloadPieceResponse]) -> None:
        """The whole piece has arrived."""
        self.assertEqual(self.successResultOf(downloading).content, PIECE.content)

    def fall_back(self, reason: str = "connection refused") -> None:
        """Have a piece fail over TCP and come over gRPC."""
        downloading = self.ask()
        self.tcp.take().fail(reason=reason)
        self.grpc.take().succeed()
        self.assert_piece(downloading)

    def over_tcp(self) -> None:
        """Have a piece asked for over TCP, and come."""
        self.over(self.tcp, self.grpc)

    def over_grpc(self) -> None:
        """Have a piece asked for over gRPC, and come."""
        self.over(self.grpc, self.tcp)

    def over(self, expected: Played, other: Played) -> None:
        """Have a piece asked for over the expected transport, and come."""
        before = len(expected.asked), len(other.asked)
        downloading = self.ask()
        self.assertEqual((len(expected.asked), len(other.asked)), (before[0] + 1, before[1]))
        expected.asked.pop().succeed()
        self.assert_piece(downloading)


class ChoiceTests(_AutoTests):
    """Which transport a piece is asked over."""

    def test_provides_the_interface(self) -> None:
        """It has the interface's methods."""
        verifyObject(IDownloader, self.auto)

    def test_tcp_first(self) -> None:
        """A parent that offers TCP is asked over TCP, at the address that it offers; nothing is made for gRPC."""
        downloading = self.ask()
        asked = self.tcp.take()
        self.assertEqual((asked.address, asked.request), (_TCP, PIECE.request()))
        asked.succeed()
        self.assert_piece(downloading)
        self.assertEqual((self.made, self.said, dict(self.auto.carried)), (0, [], {"TCP": 1}))

    def test_unknown_parent(self) -> None:
        """A parent of which nothing is known is asked over TCP where it is, and a failure there is the failure."""
        downloading = self.ask("192.0.2.7:1")
        asked = self.tcp.take()
        self.assertEqual(asked.address, "192.0.2.7:1")
        asked.fail()
        self.failureResultOf(downloading, ParentUnreachable)
        self.assertEqual((self.made, self.said), (0, []))

    def test_grpc_address(self) -> None:
        """A parent whose address says that it is a gRPC address needs no introduction."""
        for scheme in ("grpc", "grpcs"):
            address = f"{scheme}://192.0.2.7:4000"
            downloading = self.ask(address)
            asked = self.grpc.take()
            self.assertEqual(asked.address, address)
            asked.succeed()
            self.assert_piece(downloading)

    def test_no_tcp(self) -> None:
        """A parent that offers no TCP is asked over gRPC, which is nothing to speak of."""
        self.auto.learn(_PARENT)
        downloading = self.ask()
        self.assertEqual(self.grpc.asked[0].address, _PARENT)
        self.grpc.take().succeed()
        self.assert_piece(downloading)
        self.over_grpc()
        self.assertEqual((self.made, self.said, dict(self.auto.carried)), (1, [], {"gRPC": 2}))

    def test_tcp_learnt_later(self) -> None:
        """A TCP address that is learnt on the way is used from then on, without a word."""
        self.auto.learn(_PARENT)
        self.over_grpc()
        self.auto.learn(_PARENT, _TCP)
        self.over_tcp()
        self.assertEqual(self.said, [])

    def test_tcp_alone(self) -> None:
        """Where content goes over TCP alone, a parent that does not offer it, or does not answer, is unreachable."""
        self.auto = self.make("tcp")
        self.auto.learn(_PARENT)
        self.assertIn("offers no TCP port", str(self.failureResultOf(self.ask(), ParentUnreachable).value))
        self.auto.learn(_PARENT, _TCP)
        downloading = self.ask()
        self.tcp.take().fail()
        self.failureResultOf(downloading, ParentUnreachable)
        self.over_tcp()
        self.assertEqual(self.said, [])


class FallbackTests(_AutoTests):
    """A transport that fails, and the other one."""

    def test_refused(self) -> None:
        """A port that refuses costs nothing but the attempt: the piece comes over gRPC, and that is said."""
        self.fall_back()
        line = f"parent {_PARENT}: TCP port 4005 does not answer (connection refused), using gRPC"
        self.assertEqual(self.said, [line])

    def test_certificate_rejected(self) -> None:
        """A parent is refused where each way to it is; where another one may come back, it is only unreachable."""
        for over_tcp, over_grpc, expected in (
            (CertificateRejected, CertificateRejected, CertificateRejected),
            (CertificateRejected, ParentUnreachable, ParentUnreachable),
            (ParentUnreachable, CertificateRejected, ParentUnreachable),
            (OtherProtocol, OtherProtocol, OtherProtocol),
            (OtherProtocol, ParentUnreachable, ParentUnreachable),
        ):
            downloading = self.ask()
            self.tcp.take().fail(over_tcp)
            self.grpc.take().fail(over_grpc)
            self.assertIs(self.failureResultOf(downloading, ParentUnreachable).type, expected)

    def test_remembered(self) -> None:
        """What failed is left alone for a while, and what worked is used; it is said once."""
        self.fall_back()
        for _ in range(3):
            self.clock.advance(REST / 4)
            self.over_grpc()
        self.assertEqual(len(self.said), 1)
        self.assertEqual(dict(self.auto.carried), {"gRPC": 4})

    def test_each_parent_by_itself(self) -> None:
        """What failed at one parent is tried at another."""
        self.fall_back()
        self.auto.learn("grpc://192.0.2.2:4000", "192.0.2.2:4005")
        downloading = self.ask("grpc://192.0.2.2:4000")
        self.tcp.take().succeed()
        self.assert_piece(downloading)

    def test_middle_of_a_piece(self) -> None:
        """A connection that ends in the middle of a piece fails the attempt, and the piece comes whole."""
        downloading = self.ask()
        asked = self.tcp.take()
        asked.begin()
        asked.sink.fail()
        asked.fail(PieceTruncated, "lost after 500 of 1000 bytes")
        self.grpc.take().succeed()
        self.assert_piece(downloading)
        self.assertIn("(lost after 500 of 1000 bytes), using gRPC", self.said[0])

    def test_tried_again(self) -> None:
        """After a while one piece tries TCP again, and only one; when it comes, all use TCP, which is said."""
        self.fall_back()
        self.clock.advance(REST)
        trying = self.ask()
        self.over_grpc()
        self.tcp.take().succeed()
        self.assert_piece(trying)
        self.over_tcp()
        self.assertEqual(self.said[1:], [f"parent {_PARENT}: TCP answers again, using TCP"])

    def test_tried_again_in_vain(self) -> None:
        """A transport that still fails rests again, and nothing new is said."""
        self.fall_back()
        for _ in range(3):
            self.clock.advance(REST)
            self.fall_back()
            self.over_grpc()
        self.assertEqual(len(self.said), 1)

    def test_fails_once_more(self) -> None:
        """Each change is said: away from TCP, back to it, and away again."""
        self.fall_back()
        self.clock.advance(REST)
        self.over_tcp()
        self.fall_back("closed before a reply")
        self.assertEqual(len(self.said), 3)
        self.assertIn("closed before a reply", self.said[2])

    def test_under_way_together(self) -> None:
        """Of pieces that are under way when TCP fails, those that come anyway change nothing, nor do failures."""
        one, two, three = self.ask(), self.ask(), self.ask()
        first, second, third = self.tcp.take(), self.tcp.take(), self.tcp.take()
        first.fail()
        self.grpc.take().succeed()
        second.succeed()
        third.fail()
        self.grpc.take().succeed()
        for downloading in (one, two, three):
            self.assert_piece(downloading)
        self.over_grpc()
        self.assertEqual(len(self.said), 1)

    def test_late_failure(self) -> None:
        """A piece that began before TCP failed, and fails after TCP works again, does not put it to rest."""
        late = self.ask()
        asked = self.tcp.take()
        asked.begin()
        self.fall_back()
        for _ in range(10):
            self.clock.advance(REST / 10)
            asked.sink.write(b"")
        self.over_tcp()
        asked.fail()
        self.grpc.take().succeed()
        self.assert_piece(late)
        self.over_tcp()
        self.assertEqual(len(self.said), 2)

    def test_grpc_fails(self) -> None:
        """While TCP rests gRPC may fail, too: then TCP is tried at once, and used when it answers."""
        self.fall_back()
        downloading = self.ask()
        self.grpc.take().fail(reason="gone")
        self.tcp.take().succeed()
        self.assert_piece(downloading)
        self.over_tcp()
        self.assertEqual(self.said[1:], [f"parent {_PARENT}: gRPC does not answer (gone), using TCP"])

    def test_both_fail(self) -> None:
        """A parent that answers on neither is unreachable; the error names it and says what came of each."""
        downloading = self.ask()
        self.tcp.take().fail()
        self.grpc.take().fail(reason="gone")
        error = self.failureResultOf(downloading, ParentUnreachable).value
        self.assertIsInstance(error, ParentUnreachable)
        said = f"piece {PIECE.piece_id} from parent {_PARENT}: over TCP at {_TCP}: connection refused;"
        self.assertEqual(str(error), f"{said} over gRPC at {_PARENT}: gone")
        self.assertEqual(self.said, [])
        again = self.ask()
        self.tcp.take().fail()
        self.grpc.take().fail()
        self.failureResultOf(again, ParentUnreachable)

    def test_back_together(self) -> None:
        """A parent that answered on neither, and comes back, is used by its first transport, without a word."""
        downloading = self.ask()
        self.tcp.take().fail()
        self.grpc.take().fail()
        self.failureResultOf(downloading, ParentUnreachable)
        self.clock.advance(REST)
        self.over_tcp()
        self.assertEqual(self.said, [])

    def test_another_port(self) -> None:
        """A parent that comes back with another port is asked there at once."""
        self.fall_back()
        self.auto.learn(_PARENT, "192.0.2.1:4007")
        downloading = self.ask()
        asked = self.tcp.take()
        self.assertEqual(asked.address, "192.0.2.1:4007")
        asked.succeed()
        self.assert_piece(downloading)

    def test_the_same_again(self) -> None:
        """A parent that says again what it said before is none the less remembered."""
        self.fall_back()
        self.auto.learn(_PARENT, _TCP)
        self.over_grpc()
        self.assertEqual(len(self.said), 1)


class PieceErrorTests(_AutoTests):
    """What is wrong with a piece is no fault of the transport."""

    def test_answers(self) -> None:
        """Not found, failed, lied: the answer is passed on, under the parent's own name, and TCP stays in use."""
        for kind in (PieceNotFound, DigestMismatch):
            downloading = self.ask()
            self.tcp.take().fail(kind, "said so")
            error = self.failureResultOf(downloading, kind).value
            said = f"over TCP at {_TCP}: said so"
            self.assertEqual(str(error), f"piece {PIECE.piece_id} from parent {_PARENT}: {said}")
        downloading = self.ask()
        asked = self.tcp.take()
        asked.result.errback(ParentFailed(_TCP, PIECE.piece_id, "disk", ErrorCode.INTERNAL))
        failed = self.failureResultOf(downloading, ParentFailed).value
        self.assertEqual((failed.parent, failed.code), (_PARENT, ErrorCode.INTERNAL))
        self.over_tcp()
        self.assertEqual((self.made, self.said), (0, []))

    def test_an_answer_is_an_answer(self) -> None:
        """A transport that says "not found" works: what it took the place of rests, and that is said."""
        downloading = self.ask()
        self.tcp.take().fail()
        self.grpc.take().fail(PieceNotFound, "no")
        self.failureResultOf(downloading, PieceNotFound)
        self.assertEqual(len(self.said), 1)
        self.over_grpc()

    def test_own_failure(self) -> None:
        """A sink that fails is this side's failure: nothing else is tried."""
        downloading = self.ask()
        self.tcp.take().result.errback(SinkFailed("full"))
        self.failureResultOf(downloading, SinkFailed)
        self.over_tcp()

    def test_host_and_task(self) -> None:
        """What a piece is asked for with reaches each transport."""
        downloading = self.auto.download_persistent_piece(_PARENT, 3, "host", "task")
        asked = self.tcp.take()
        asked.fail()
        other = self.grpc.take()
        expected = DownloadPieceRequest(kind=PieceKind.PERSISTENT, number=3, host_id="host", task_id="task")
        self.assertEqual([asked.request, other.request], [expected, expected])
        other.succeed()
        self.assertEqual(self.successResultOf(downloading).content, PIECE.content)


class PatienceTests(_AutoTests):
    """How long a transport may be silent, and a piece may take."""

    def test_first_words(self) -> None:
        """TCP that has never answered and says nothing is given up after a few seconds, for all pieces at once."""
        one, two = self.ask(), self.ask()
        self.clock.advance(FIRST_WORDS - 0.1)
        self.assertEqual((self.tcp.cancelled, self.made), (0, 0))
        self.clock.advance(0.1)
        self.assertEqual((self.tcp.cancelled, len(self.grpc.asked)), (2, 2))
        self.grpc.take().succeed()
        self.grpc.take().succeed()
        self.assert_piece(one)
        self.assert_piece(two)
        self.assertEqual(
            self.said, [f"parent {_PARENT}: TCP port 4005 does not answer (nothing came for 5 s), using gRPC"]
        )
        self.over_grpc()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_words_but_an_answer(self) -> None:
        """TCP that answers is not silent: an error, or another piece, is something."""
        waiting = self.ask()
        asked = self.tcp.take()
        self.clock.advance(FIRST_WORDS - 1)
        failing = self.ask()
        self.tcp.take().fail(PieceNotFound, "no")
        self.failureResultOf(failing, PieceNotFound)
        self.clock.advance(60)
        self.assertEqual(self.tcp.cancelled, 0)
        asked.succeed()
        self.assert_piece(waiting)

    def test_slow(self) -> None:
        """A piece that comes slowly, a little now and then, is waited for up to its time-out."""
        downloading = self.ask()
        asked = self.tcp.take()
        asked.begin()
        for _ in range(4):
            self.clock.advance(80)
            asked.sink.write(b"")
        asked.end()
        self.assert_piece(downloading)
        self.assertEqual(self.tcp.cancelled, 0)

    def test_falls_silent(self) -> None:
        """TCP that has worked and says nothing any more is given up after a share of the time, in a piece's middle."""
        self.over_tcp()
        downloading = self.ask()
        self.tcp.take().begin()
        self.clock.pump([1.0] * 89)
        self.assertEqual(self.tcp.cancelled, 0)
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.tcp.cancelled, 1)
        self.grpc.take().succeed()
        self.assert_piece(downloading)

    def test_silent_when_tried_again(self) -> None:
        """TCP that has failed has few seconds when it is tried again, though it has worked once."""
        self.over_tcp()
        self.fall_back()
        self.clock.advance(REST)
        downloading = self.ask()
        self.clock.advance(FIRST_WORDS)
        self.assertEqual(self.tcp.cancelled, 1)
        self.grpc.take().succeed()
        self.assert_piece(downloading)

    def test_timed_out_is_no_answer(self) -> None:
        """A transport on which a piece has timed out has not answered by that."""
        downloading = self.ask()
        self.tcp.take().fail(PieceTimeout, "expected the piece")
        self.failureResultOf(downloading, PieceTimeout)
        downloading = self.ask()
        self.clock.advance(FIRST_WORDS)
        self.assertEqual(self.tcp.cancelled, 1)
        self.grpc.take().succeed()
        self.assert_piece(downloading)

    def test_grpc_is_silent_by_nature(self) -> None:
        """Over gRPC nothing is heard of a piece before it is there: that is no reason to leave it."""
        self.fall_back()
        downloading = self.ask()
        self.clock.advance(300)
        self.assertEqual(self.grpc.cancelled, 0)
        self.grpc.take().succeed()
        self.assert_piece(downloading)

    def test_short_time(self) -> None:
        """Where a piece has little time, silence has a share of that."""
        self.auto = self.make(piece_timeout=2.0)
        self.auto.learn(_PARENT, _TCP)
        downloading = self.ask()
        self.clock.advance(0.5)
        self.grpc.take().succeed()
        self.assert_piece(downloading)

    def test_no_other_way(self) -> None:
        """What is the only way, or the last one, may take as long as a piece may."""
        self.auto = self.make("tcp")
        self.auto.learn(_PARENT, _TCP)
        downloading = self.ask()
        self.clock.advance(359)
        self.assertEqual(self.tcp.cancelled, 0)
        self.tcp.take().succeed()
        self.assert_piece(downloading)

    def test_time_out(self) -> None:
        """The last transport tells when the time is over; the error says what was tried before."""
        downloading = self.ask()
        self.clock.advance(FIRST_WORDS)
        self.clock.advance(1000)
        self.assertNoResult(downloading)
        self.grpc.take().fail(PieceLate, "expected the piece within 360 s")
        error = self.failureResultOf(downloading, PieceLate).value
        self.assertEqual((error.parent, error.piece_id), (_PARENT, piece_id(TASK_ID, 0)))
        self.assertIn("within 360 s", str(error))
        self.assertIn("over TCP", str(error))

    def test_time_out_of_a_transport(self) -> None:
        """A transport that says first that the time is over is believed, and nothing else is tried."""
        downloading = self.ask()
        self.tcp.take().fail(PieceTimeout, "expected the piece")
        self.assertIn(_PARENT, str(self.failureResultOf(downloading, PieceTimeout).value))
        self.assertEqual(self.made, 0)


class EndTests(_AutoTests):
    """Cancelling and stopping."""

    def test_cancel(self) -> None:
        """Cancelling cancels the transfer that is under way, and no other one begins."""
        downloading = self.ask()
        downloading.cancel()
        self.failureResultOf(downloading, CancelledError)
        self.assertEqual((self.tcp.cancelled, self.made), (1, 0))
        self.over_tcp()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel_while_trying_again(self) -> None:
        """A piece that tried TCP again and was cancelled lets the next one try."""
        self.fall_back()
        self.clock.advance(REST)
        trying = self.ask()
        trying.cancel()
        self.failureResultOf(trying, CancelledError)
        self.tcp.take()
        self.over_tcp()

    def test_stop(self) -> None:
        """Stopping stops both, fails what is under way, and refuses what comes later."""
        self.fall_back()
        downloading = self.ask()
        self.successResultOf(self.auto.stop())
        self.failureResultOf(downloading, PoolClosed)
        self.assertTrue(self.tcp.stopped and self.grpc.stopped)
        self.failureResultOf(self.ask(), PoolClosed)

    def test_stop_without_grpc(self) -> None:
        """Stopping makes nothing that was not needed before, not even for a piece that fails over TCP by it."""
        downloading = self.ask()
        asked = self.tcp.take()
        self.successResultOf(self.auto.stop())
        asked.fail()
        self.failureResultOf(downloading, PoolClosed)
        self.assertEqual(self.made, 0)


class BothParents:
    """
    A contract's parent with two doors, of which a child knows the gRPC address.

    :param tcp: its TCP door, None where it has none.
    """

    def __init__(self, tcp: VortexContractParent | None, grpc: LegacyParent) -> None:
        self.tcp = tcp
        self.grpc = grpc
        self.address = f"grpc://{grpc.address}"

    def until_asked(self, requests: int = 1) -> Deferred[None]:
        """Fires when that many requests have arrived over the transport in use."""
        return (self.tcp or self.grpc).until_asked(requests)

    def until_deserted(self) -> Deferred[None]:
        """Fires when no transfer is left."""
        doors = [self.grpc.until_deserted()]
        if self.tcp is not None:
            doors.append(self.tcp.until_deserted())
        return gatherResults(doors).addCallback(lambda _: None)


class ContractTests(DownloaderContract, TestCase):
    """The contract, with parents that are known by their TCP address."""

    clock = IReactorTime(reactor)

    def make_downloader(self, piece_timeout: float) -> IDownloader:
        config = Config(download=DownloadConfig(piece_timeout=piece_timeout))

        return DownloaderFactory("auto", config, reactor=IReactorTCP(reactor)).build()

    def make_parent(self, offers: Iterable[Offer]) -> VortexContractParent:
        return self.tcp_parent(offers)

    def tcp_parent(self, offers: Iterable[Offer]) -> VortexContractParent:
        """A TCP door."""
        parent = VortexContractParent(IReactorTCP(reactor), offers)
        parent.start()
        self.addCleanup(parent.stop)
        return parent


class GRPCContractTests(DownloaderContract, TestCase):
    """The contract, with parents that are known by their gRPC address, and whose TCP port refuses."""

    clock = IReactorTime(reactor)
    offers_tcp = False

    def setUp(self) -> None:
        self.parents: list[tuple[str, str]] = []
        self.downloaders: list[AutoDownloader] = []

    def make_downloader(self, piece_timeout: float) -> IDownloader:
        config = Config(download=DownloadConfig(piece_timeout=piece_timeout))

        downloader = cast(AutoDownloader, DownloaderFactory("auto", config, reactor=IReactorTCP(reactor)).build())
        self.downloaders.append(downloader)
        self.introduce()
        return downloader

    def make_parent(self, offers: Iterable[Offer]) -> BothParents:
        offers = list(offers)
        grpc = LegacyParent(reactor, offers)
        grpc.start()
        self.addCleanup(grpc.stop)
        tcp = None
        if self.offers_tcp:
            tcp = VortexContractParent(IReactorTCP(reactor), offers)
            tcp.start()
            self.addCleanup(tcp.stop)
        refusing = f"127.0.0.1:{free_port()}"
        self.parents.append((f"grpc://{grpc.address}", tcp.address if tcp is not None else refusing))
        self.introduce()
        return BothParents(tcp, grpc)

    def introduce(self) -> None:
        """Tell all downloaders of all parents."""
        for downloader in self.downloaders:
            for parent, tcp in self.parents:
                downloader.learn(parent, tcp)


class BothContractTests(GRPCContractTests):
    """The contract, with parents that are known by their gRPC address, and that have both transports."""

    offers_tcp = True

    async def test_carried(self) -> None:
        """All comes over TCP as long as that works; when the port is closed in a piece's middle, the rest over gRPC."""
        pieces = [sample_piece(500_000, number=number) for number in range(4)]
        parent = self.make_parent([Offer(piece=piece) for piece in pieces])
        downloader = self.make_downloader(30)
        self.addCleanup(downloader.stop)
        await self.fetch(downloader, parent, pieces[:2])
        if parent.tcp is None:
            raise self.failureException("expected a TCP door")
        truncated = [Offer(piece=piece, fault=Fault.TRUNCATED) for piece in pieces]
        parent.tcp.answer = VortexContractParent(IReactorTCP(reactor), truncated).answer
        await self.fetch(downloader, parent, pieces[2:])
        self.assertEqual(dict(self.downloaders[0].carried), {"TCP": 2, "gRPC": 2})
        self.assertEqual([request.number for request in parent.tcp.requests], [0, 1, 2])
        self.assertEqual([fields.get(3, 0) for fields in parent.grpc.requests], [2, 3])

    async def fetch(self, downloader: IDownloader, parent: BothParents, pieces: Iterable[SamplePiece]) -> None:
        """Fetch pieces, one after the other."""
        for piece in pieces:
            self.assert_piece(await downloader.download_piece(parent.address, piece.number, "", TASK_ID), piece)
