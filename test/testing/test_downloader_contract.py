"""Tests of the contract: a downloader with one fault fails the tests for that fault."""

from __future__ import annotations

import unittest
from collections.abc import Iterable

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from dragonfly_vortex.config import Config, DownloadConfig
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IPieceSink
from dragonfly_vortex.model import DownloadedPiece, DownloadPieceResponse
from dragonfly_vortex.testing.contract_parent import Offer, VortexContractParent
from dragonfly_vortex.testing.downloader_contract import DownloaderContract
from dragonfly_vortex.wire import PieceKind


@implementer(IDownloader)
class Relaying:
    """A downloader that relays to a good one. What is changed in a subclass is what is wrong with it."""

    def __init__(self, good: IDownloader) -> None:
        self.good = good

    def download_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download(PieceKind.STANDARD, addr, number, task_id, sink)

    def download_persistent_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download(PieceKind.PERSISTENT, addr, number, task_id, sink)

    def download_persistent_cache_piece(
        self, addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        return self._download(PieceKind.PERSISTENT_CACHE, addr, number, task_id, sink)

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        return self.good.download(addr, self.change_request(request)).addCallback(self.change_response)

    def stop(self) -> Deferred[None]:
        return self.good.stop()

    def change_request(self, request: DownloadPieceRequest) -> DownloadPieceRequest:
        """What is really asked for."""
        return request

    def change_response(self, response: DownloadPieceResponse) -> DownloadPieceResponse:
        """What is really given."""
        return response

    def _download(
        self, kind: PieceKind, addr: str, number: int, task_id: str, sink: IPieceSink | None
    ) -> Deferred[DownloadedPiece]:
        request = DownloadPieceRequest(kind=kind, task_id=task_id, number=number, sink=sink)
        return self.download(addr, request).addCallback(
            lambda response: DownloadedPiece(response.content, response.metadata.offset, response.metadata.digest)
        )


class OneWrongByte(Relaying):
    """The last byte of a piece in memory is another one."""

    def change_response(self, response: DownloadPieceResponse) -> DownloadPieceResponse:
        content = response.content
        if isinstance(content, bytes) and content:
            return replace(response, content=content[:-1] + bytes([content[-1] ^ 1]))
        return response


class WrongOffset(Relaying):
    """A piece's offset is its number."""

    def change_response(self, response: DownloadPieceResponse) -> DownloadPieceResponse:
        return replace(response, metadata=replace(response.metadata, offset=response.metadata.number))


class OneKind(Relaying):
    """All pieces are of one kind."""

    def change_request(self, request: DownloadPieceRequest) -> DownloadPieceRequest:
        return replace(request, kind=PieceKind.STANDARD)


class NoSink(Relaying):
    """The sink is not used."""

    def change_request(self, request: DownloadPieceRequest) -> DownloadPieceRequest:
        return replace(request, sink=None)


class DeafToCancel(Relaying):
    """A cancelled download goes on."""

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        result: Deferred[DownloadPieceResponse] = Deferred()
        self.good.download(addr, request).addCallbacks(result.callback, result.errback)
        return result


class NeverStopped(Relaying):
    """Stopping does nothing, until the test is over."""

    def stop(self) -> Deferred[None]:
        return succeed(None)


class ContractTests(SynchronousTestCase):
    """The contract, run against downloaders that are wrong."""

    def failing(self, wrong: type[Relaying], *only: str, patience: float = 10.0) -> set[str]:
        """
        The names of the contract's tests that fail for a downloader.

        :param only: the names of the tests to run; all by default.
        :param patience: seconds to wait for what never comes.
        """

        class Concrete(DownloaderContract, TestCase):
            """The contract of that downloader. It is in a function, so that trial does not find it."""

            clock = IReactorTime(reactor)

            def setUp(self) -> None:
                self.patience = patience

            def make_downloader(self, piece_timeout: float) -> IDownloader:
                config = Config(download=DownloadConfig(piece_timeout=piece_timeout))
                good = DownloaderFactory("tcp", config, reactor=IReactorTCP(reactor)).build()
                self.addCleanup(good.stop)
                return wrong(good)

            def make_parent(self, offers: Iterable[Offer]) -> VortexContractParent:
                parent = VortexContractParent(IReactorTCP(reactor), offers)
                parent.start()
                self.addCleanup(parent.stop)
                return parent

        names = only or tuple(name for name in dir(Concrete) if name.startswith("test_"))
        result = unittest.TestResult()
        unittest.TestSuite(Concrete(name) for name in names).run(result)
        self.assertEqual(result.testsRun, len(names))
        return {test.id().rpartition(".")[2] for test, _ in [*result.failures, *result.errors]}

    def test_good(self) -> None:
        """A downloader that only relays to a good one passes."""
        self.assertEqual(self.failing(Relaying), set())

    def test_one_wrong_byte(self) -> None:
        """One wrong byte fails every test in which bytes arrive, those about lengths and kinds before all."""
        failing = self.failing(OneWrongByte)
        self.assertLessEqual({"test_lengths", "test_kinds", "test_digests", "test_several_at_once"}, failing)
        self.assertNotIn("test_unreachable", failing)

    def test_wrong_offset(self) -> None:
        """A wrong offset fails."""
        self.assertIn("test_lengths", self.failing(WrongOffset, "test_lengths"))

    def test_one_kind(self) -> None:
        """Kinds that are mixed up fail."""
        self.assertEqual(self.failing(OneKind, "test_kinds", "test_lengths"), {"test_kinds"})

    def test_no_sink(self) -> None:
        """A sink that is not used fails."""
        sinks = ("test_sink", "test_refused_by_the_sink", "test_failing_sink")
        self.assertEqual(self.failing(NoSink, *sinks, "test_lengths"), set(sinks))

    def test_deaf_to_cancel(self) -> None:
        """A transfer that goes on when it is cancelled fails."""
        cancelling = ("test_cancel_before_an_answer", "test_cancel_in_the_middle")
        failing = self.failing(DeafToCancel, *cancelling, "test_provides_the_interface", patience=0.3)
        self.assertEqual(failing, set(cancelling))

    def test_never_stopped(self) -> None:
        """A downloader that goes on when it is stopped fails."""
        self.assertEqual(
            self.failing(NeverStopped, "test_stop", "test_provides_the_interface", patience=0.3), {"test_stop"}
        )
