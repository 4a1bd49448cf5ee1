"""The downloader of the third transport: it reads pieces from the store of a peer in this process."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTCP
from zope.interface import implementer

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config
from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.errors import NotStored, ParentUnreachable, PieceNotFound
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.sinks import MemorySink
from test.memory_transport.door import OPEN_DOORS

__all__ = ["MemoryDownloader", "build"]


@implementer(IDownloader)
class MemoryDownloader(ByKind):
    """Fetch pieces from any peer in this process."""

    def __init__(self) -> None:
        self.is_stopped = False

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        return Deferred.fromCoroutine(self._download(addr, request))

    def stop(self) -> Deferred[None]:
        self.is_stopped = True
        return succeed(None)

    async def _download(self, address: str, request: DownloadPieceRequest) -> DownloadPieceResponse:
        name = piece_id(request.task_id, request.number)
        door = OPEN_DOORS.get(ParentAddress.from_text(address).host_and_port)
        if door is None:
            raise ParentUnreachable(address, name, "no door is open there")
        try:
            opened = await door.store.open_piece(request.kind, request.task_id, request.number)
        except NotStored as error:
            raise PieceNotFound(address, name, "it does not have it") from error
        try:
            content = os.pread(opened.range.descriptor, opened.range.length, opened.range.offset)
        finally:
            os.close(opened.range.descriptor)
        sink = request.sink or MemorySink()
        sink.begin(opened.metadata)
        sink.write(content)
        door.tally.sent(len(content))
        return DownloadPieceResponse(metadata=opened.metadata, content=sink.finish())


def build(config: Config, reactor: IReactorTCP, limiter: TokenBucket, dial: Dial | None = None) -> MemoryDownloader:
    """What the row names."""
    return MemoryDownloader()
