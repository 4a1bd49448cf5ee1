"""
What every :class:`~dragonfly_vortex.interfaces.IDownloader` must do, as tests to mix into a
``twisted.trial.unittest.TestCase`` that says how to make one, and a parent for it.

Everything goes over real sockets: a provider's results are those that a program would see.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import (
    DigestMismatch,
    ParentFailed,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceRefused,
    PieceTimeout,
    PoolClosed,
    SinkFailed,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IPieceSink
from dragonfly_vortex.model import DownloadedPiece
from dragonfly_vortex.testing.contract_parent import ContractParent, Fault, Offer
from dragonfly_vortex.testing.pieces import TASK_ID, SamplePiece, sample_piece
from dragonfly_vortex.transport.sinks import FileSink, MemorySink
from dragonfly_vortex.wire import ErrorCode, PieceKind, PieceMetadata

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:  # a mix-in: otherwise trial would run it by itself wherever it is imported
    TestCase = object

__all__ = ["DownloaderContract"]

_Error = TypeVar("_Error", bound=BaseException)
_Result = TypeVar("_Result")

_HOST_ID = "127.0.0.1-sample-parent"
_LENGTHS = (0, 1, 64 * 1024, 3 * 1024 * 1024 + 1)
_PATIENT = 100.0


class DownloaderContract(TestCase):
    """The contract of a downloader. A subclass has :attr:`clock`, :meth:`make_downloader` and :meth:`make_parent`."""

    timeout: float = 60.0

    patience: float = 60.0
    """Seconds after which what should happen at once has not happened."""

    clock: IReactorTime
    """The reactor."""

    def make_downloader(self, piece_timeout: float) -> IDownloader:
        """
        A new downloader, which the contract stops in the end.

        :param piece_timeout: seconds that one piece may take.
        """
        raise NotImplementedError

    def make_parent(self, offers: Iterable[Offer]) -> ContractParent:
        """
        A parent that listens already, and is stopped by a clean-up of the test.

        :param offers: what it has.
        """
        raise NotImplementedError

    # -- what the tests are made of

    def at_once(self, deferred: Deferred[_Result]) -> Deferred[_Result]:
        """Return a Deferred that fails if the given one does not fire soon. An endless wait would outlast the test."""
        return deferred.addTimeout(self.patience, self.clock)

    def downloader(self, piece_timeout: float = _PATIENT) -> IDownloader:
        """A downloader that is stopped in the end."""
        downloader = self.make_downloader(piece_timeout)
        self.addCleanup(downloader.stop)
        return downloader

    def offer(self, *pieces: SamplePiece, fault: Fault = Fault.NONE) -> ContractParent:
        """A parent that offers these pieces, all with the same fault."""
        return self.make_parent([Offer(piece=piece, fault=fault) for piece in pieces])

    def assert_piece(self, got: DownloadedPiece, piece: SamplePiece) -> None:
        """Assert that the content in memory is the piece."""
        self.assertTrue(got.content == piece.content, f"piece {piece.piece_id}: other bytes than expected")
        self.assertEqual((got.offset, got.digest), (piece.metadata.offset, piece.metadata.digest))

    async def failure_of(self, downloading: Deferred[Any], error: type[_Error]) -> _Error:
        """The error that a download fails with, which must be of that class."""
        try:
            await downloading
        except error as failure:
            return failure
        raise self.failureException(f"expected {error.__name__}, got the piece")

    async def assert_fails(
        self, fault: Fault, error: type[PieceError], *, piece_timeout: float = _PATIENT
    ) -> PieceError:
        """A piece with a fault fails with an error that names parent and piece; the next piece can be had."""
        faulty, sound = sample_piece(100_000, number=1), sample_piece(100, number=3)
        parent = self.make_parent([Offer(piece=faulty, fault=fault), Offer(piece=sound)])
        downloader = self.downloader(piece_timeout)
        failed = await self.failure_of(
            downloader.download_piece(parent.address, faulty.number, _HOST_ID, TASK_ID), error
        )
        self.assertEqual((failed.parent, failed.piece_id), (parent.address, faulty.piece_id))
        while True:
            try:
                got = await downloader.download_piece(parent.address, sound.number, _HOST_ID, TASK_ID)
            except PieceTimeout:  # a loaded machine may need more than a short time-out for this piece, too
                continue
            self.assert_piece(got, sound)
            return failed

    # -- what it does

    def test_provides_the_interface(self) -> None:
        """A downloader has the interface's methods, with their arguments."""
        verifyObject(IDownloader, self.downloader())

    async def test_lengths(self) -> None:
        """Pieces of no byte, of one, of a few and of many come as they are, with their offset and digest."""
        pieces = [sample_piece(length, number=number) for number, length in enumerate(_LENGTHS)]
        parent, downloader = self.offer(*pieces), self.downloader()
        for piece in pieces:
            self.assert_piece(await downloader.download_piece(parent.address, piece.number, _HOST_ID, TASK_ID), piece)

    async def test_kinds(self) -> None:
        """Each method asks for its own kind of piece, and ``download`` for any."""
        pieces = {kind: sample_piece(5_000_000, number=1, kind=kind) for kind in PieceKind}
        parent, downloader = self.offer(*pieces.values()), self.downloader()
        methods = {
            PieceKind.STANDARD: downloader.download_piece,
            PieceKind.PERSISTENT: downloader.download_persistent_piece,
            PieceKind.PERSISTENT_CACHE: downloader.download_persistent_cache_piece,
        }
        for kind, method in methods.items():
            self.assert_piece(await method(parent.address, 1, _HOST_ID, TASK_ID), pieces[kind])
        for piece in pieces.values():
            response = await downloader.download(parent.address, piece.request())
            self.assertTrue(response.content == piece.content, f"a {piece.kind.label} piece has other bytes")
            self.assertEqual(response.metadata.digest, piece.metadata.digest)

    async def test_digests(self) -> None:
        """A piece may be verified by any of the digests that there are."""
        for algorithm in ("crc32", "sha256", "sha512"):
            piece = sample_piece(1000, algorithm=algorithm)
            parent, downloader = self.offer(piece), self.downloader()
            self.assert_piece(await downloader.download_piece(parent.address, 0, "", TASK_ID), piece)

    async def test_sink(self) -> None:
        """The bytes go to the sink that is given, and nowhere else."""
        piece = sample_piece(3_000_000, number=2)
        parent, downloader = self.offer(piece), self.downloader()
        with tempfile.TemporaryFile() as file:
            file.write(b"before")
            file.flush()
            got = await downloader.download_piece(
                parent.address, 2, _HOST_ID, TASK_ID, sink=FileSink(file.fileno(), offset=6)
            )
            self.assertTrue(got.content is None, "the content came back, too")
            self.assertTrue(os.pread(file.fileno(), 6 + 3_000_000 + 1, 0) == b"before" + piece.content)

    async def test_several_at_once(self) -> None:
        """Pieces that are requested at once each arrive at their own request."""
        pieces = [sample_piece(200_000 + number, number=number) for number in range(12)]
        parent, downloader = self.offer(*pieces), self.downloader()
        got = await gatherResults(
            [downloader.download_piece(parent.address, piece.number, _HOST_ID, TASK_ID) for piece in pieces],
            consumeErrors=True,
        )
        for each, piece in zip(got, pieces, strict=True):
            self.assert_piece(each, piece)

    # -- what it refuses

    async def test_not_found(self) -> None:
        """A piece that the parent does not have is not found."""
        await self.assert_fails(Fault.NOT_FOUND, PieceNotFound)

    async def test_invalid_argument(self) -> None:
        """A parent that finds the request invalid has failed, with that code."""
        error = await self.assert_fails(Fault.INVALID_ARGUMENT, ParentFailed)
        self.assertEqual(getattr(error, "code", None), ErrorCode.INVALID_ARGUMENT)

    async def test_internal(self) -> None:
        """A parent with a failure of its own has failed, with that code."""
        error = await self.assert_fails(Fault.INTERNAL, ParentFailed)
        self.assertEqual(getattr(error, "code", None), ErrorCode.INTERNAL)

    async def test_wrong_byte(self) -> None:
        """Content that does not fit its digest is refused."""
        await self.assert_fails(Fault.WRONG_BYTE, DigestMismatch)

    async def test_no_digest(self) -> None:
        """
        A piece without a digest is refused, and the error says what allows it; it is taken where the whole task will be
        verified.
        """
        error = await self.assert_fails(Fault.NO_DIGEST, DigestMismatch)
        self.assertIn("download.allow_empty_digest", str(error))
        piece = sample_piece(1000)
        request = DownloadPieceRequest(kind=piece.kind, task_id=TASK_ID, number=piece.number, is_whole_verified=True)
        parent = self.make_parent([Offer(piece=piece, fault=Fault.NO_DIGEST)])
        response = await self.downloader(_PATIENT).download(parent.address, request)
        self.assertEqual((response.content, response.metadata.digest), (piece.content, ""))

    async def test_wrong_number(self) -> None:
        """Another piece than the one that was asked for is refused."""
        await self.assert_fails(Fault.WRONG_NUMBER, UnexpectedPiece)

    async def test_truncated(self) -> None:
        """A connection that ends in the middle of the content is the parent's failure, not a short piece."""
        await self.assert_fails(Fault.TRUNCATED, ParentUnreachable)

    async def test_timeout(self) -> None:
        """A piece that does not come in its time, or does not come to its end, has timed out."""
        await self.assert_fails(Fault.SILENT, PieceTimeout, piece_timeout=0.5)
        await self.assert_fails(Fault.STALLED, PieceTimeout, piece_timeout=0.5)

    async def test_unreachable(self) -> None:
        """A parent that does not listen is unreachable."""
        with socket.socket() as bound_only:
            bound_only.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound_only.getsockname()[1]}"
            await self.failure_of(self.downloader().download_piece(address, 0, _HOST_ID, TASK_ID), ParentUnreachable)

    async def test_refused_by_the_sink(self) -> None:
        """A sink can refuse a piece for its metadata; the parent is to blame then."""
        parent, downloader = self.offer(sample_piece(1000)), self.downloader()
        failing = downloader.download_piece(parent.address, 0, _HOST_ID, TASK_ID, sink=_Refusing())
        self.assertIn("another offset", str(await self.failure_of(failing, UnexpectedPiece)))

    async def test_failing_sink(self) -> None:
        """A sink that cannot write is this side's failure, and its ``fail`` is called."""
        parent, downloader, sink = self.offer(sample_piece(1000)), self.downloader(), _Full()
        failing = downloader.download_piece(parent.address, 0, _HOST_ID, TASK_ID, sink=sink)
        self.assertIsInstance((await self.failure_of(failing, SinkFailed)).__cause__, OSError)
        self.assertEqual(sink.failures, 1)

    # -- how it ends

    async def assert_cancelled(self, fault: Fault) -> None:
        """Cancelling a download from such a parent leaves nothing of it at the parent."""
        parent, downloader = self.offer(sample_piece(100_000), fault=fault), self.downloader()
        downloading = downloader.download_piece(parent.address, 0, _HOST_ID, TASK_ID)
        await parent.until_asked()
        downloading.cancel()
        await self.failure_of(downloading, CancelledError)
        await self.at_once(parent.until_deserted())

    async def test_cancel_before_an_answer(self) -> None:
        """A piece that has not been answered can be cancelled, which ends the transfer at once."""
        await self.assert_cancelled(Fault.SILENT)

    async def test_cancel_in_the_middle(self) -> None:
        """A piece that has arrived in part can be cancelled, which ends the transfer at once."""
        await self.assert_cancelled(Fault.STALLED)

    async def test_stop(self) -> None:
        """Stopping fails what is under way, leaves no connection, and refuses later requests."""
        parent = self.offer(sample_piece(100_000), fault=Fault.STALLED)
        other, downloader = self.offer(sample_piece(10)), self.make_downloader(_PATIENT)
        await downloader.download_piece(other.address, 0, _HOST_ID, TASK_ID)
        downloading = downloader.download_piece(parent.address, 0, _HOST_ID, TASK_ID)
        await parent.until_asked()
        stopped = downloader.stop()
        await self.failure_of(self.at_once(downloading), PoolClosed)
        await self.at_once(stopped)
        await self.at_once(parent.until_deserted())
        await self.at_once(other.until_deserted())
        await self.failure_of(downloader.download_piece(parent.address, 0, _HOST_ID, TASK_ID), PoolClosed)


@implementer(IPieceSink)
class _Refusing(MemorySink):
    """A sink that finds the piece's offset wrong."""

    def begin(self, metadata: PieceMetadata) -> None:
        raise PieceRefused("expected another offset")


@implementer(IPieceSink)
class _Full(MemorySink):
    """A sink that has no room, and counts the calls of its ``fail``."""

    failures = 0

    def write(self, data: bytes | memoryview) -> None:
        raise OSError("no room")

    def fail(self) -> None:
        self.failures += 1
