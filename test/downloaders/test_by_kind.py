"""The methods with a kind in their names ask for that kind."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceKind, PieceMetadata


class _Noting(ByKind):
    """A downloader that gives the same piece for every request."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, DownloadPieceRequest]] = []

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        self.asked.append((addr, request))
        metadata = PieceMetadata(number=request.number, offset=70, length=3, digest="crc32:1")
        return succeed(DownloadPieceResponse(metadata=metadata, content=b"abc"))


class ByKindTests(SynchronousTestCase):
    """A method's arguments become a request, and the response becomes content, offset and digest."""

    def test_arguments(self) -> None:
        """Each method asks for its own kind, and passes everything else on."""
        noting, sink = _Noting(), MemorySink()
        for kind, method in (
            (PieceKind.STANDARD, noting.download_piece),
            (PieceKind.PERSISTENT, noting.download_persistent_piece),
            (PieceKind.PERSISTENT_CACHE, noting.download_persistent_cache_piece),
        ):
            got = self.successResultOf(method("192.0.2.1:4000", 7, "host", "task", sink))
            self.assertEqual(got, (b"abc", 70, "crc32:1"))
            address, request = noting.asked.pop()
            expected = DownloadPieceRequest(kind=kind, task_id="task", number=7, host_id="host")
            self.assertEqual((address, request), ("192.0.2.1:4000", expected))
            self.assertIs(request.sink, sink)

    def test_nothing_by_itself(self) -> None:
        """What fetches a piece is the downloader's own."""
        request = DownloadPieceRequest(kind=PieceKind.CACHE, task_id="task", number=0)
        self.assertRaises(NotImplementedError, ByKind().download, "192.0.2.1:4000", request)
