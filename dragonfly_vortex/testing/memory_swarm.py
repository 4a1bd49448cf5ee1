"""
A swarm in memory, on a ``twisted.internet.task.Clock``: peers that have tasks, with or without a fault, and downloads
that are the real :class:`~dragonfly_vortex.task.download.TaskDownload`. There is no socket, no file on a disk and no
thread: a test advances the clock, and the same test does the same each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred, execute, fail, succeed
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from dragonfly_vortex.downloaders.by_kind import ByKind
from dragonfly_vortex.errors import (
    ParentFailed,
    ParentUnreachable,
    PieceNotFound,
    PieceTimeout,
    PoolClosed,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import (
    DownloadPieceRequest,
    IDownloader,
    InThread,
    IPieceAnnouncer,
    IPieceSink,
)
from dragonfly_vortex.model import DownloadPieceResponse, piece_id
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.testing.contract_parent import Fault
from dragonfly_vortex.testing.memory_store import MemoryChild, MemoryPeer, MemoryTarget, pieces_of
from dragonfly_vortex.transport.receiver import PieceReceiver
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import ErrorCode, PieceKind

__all__ = ["MemorySwarm"]

_STEPS = 4
"""In how many parts a piece arrives."""


class MemorySwarm:
    """
    Peers, and one task.

    :param content: of the task.
    :param piece_length: bytes of every piece but the last.
    :param clock: None for one of its own.
    :param delay: seconds from a request to its piece.
    :param rate: bytes per second at which each piece arrives.
    :param piece_timeout: seconds without a byte after which a request fails.
    """

    def __init__(
        self,
        content: bytes,
        piece_length: int,
        *,
        clock: Clock | None = None,
        delay: float = 0.01,
        rate: float = 10e6,
        piece_timeout: float = 10.0,
    ) -> None:
        self.clock = clock or Clock()
        self.content = content
        self.piece_length = piece_length
        self.task_id = hashlib.sha256(content).hexdigest()
        self.peers: dict[str, MemoryPeer] = {}
        self.delay = delay
        self.rate = rate
        self.piece_timeout = piece_timeout
        self.downloader = MemoryDownloader(self)
        """Asks the peers for pieces; an :class:`~dragonfly_vortex.interfaces.IDownloader` for downloads of yours."""

    def add_seed(
        self,
        name: str,
        *,
        fault: Fault = Fault.NONE,
        faults: Mapping[int, Fault] | None = None,
        content: bytes | None = None,
        numbers: Sequence[int] | None = None,
    ) -> MemoryPeer:
        """
        Add a peer that has the task.

        :param name: its address.
        :param fault: what is wrong with all of its pieces.
        :param faults: what is wrong with single ones.
        :param content: another content, that of a liar; its pieces fit the digests that it names.
        :param numbers: the pieces that it has; None for all.
        """
        peer = self.peers[name] = MemoryPeer(name)
        peer.fault, peer.faults = fault, dict(faults or {})
        whole = self.content if content is None else content
        peer.content_length, peer.piece_length = len(whole), self.piece_length
        for metadata in pieces_of(whole, self.piece_length):
            if numbers is None or metadata.number in numbers:
                peer.add(metadata, whole[metadata.offset : metadata.offset + metadata.length])
        peer.complete()
        return peer

    def add_child(self, name: str, parents: Sequence[str], *, announces: bool = True, **options: Any) -> MemoryChild:
        """
        Add a peer that downloads the task, from now on.

        :param name: its address.
        :param parents: the names of the peers that it asks.
        :param announces: whether they say what they have; otherwise they are asked for anything.
        :param options: further parameters of :class:`~dragonfly_vortex.task.download.TaskDownload`.
        """
        child = MemoryChild(name)
        self.peers[name] = child
        target = MemoryTarget(child)
        child.task = TaskDownload(
            self.clock,
            cast(InThread, execute),
            self.downloader,
            kind=PieceKind.STANDARD,
            task_id=self.task_id,
            parents=parents,
            target=target,
            announcers={parent: MemoryAnnouncer(self, parent) for parent in parents} if announces else None,
            on_event=child.events.append,
            **options,
        )
        child.done = child.task.start()
        return child

    def run(self, *children: MemoryChild, seconds: float = 600.0) -> None:
        """
        Advance the clock until downloads have ended.

        :param seconds: how long, at the most.
        :raises TimeoutError: that was not long enough.
        """
        until = self.clock.seconds() + seconds
        while not all(child.done.called for child in children):
            calls = self.clock.getDelayedCalls()
            if not calls or self.clock.seconds() > until:
                raise TimeoutError(f"expected the downloads to end within {seconds:g} s")
            self.clock.advance(max(0.0, min(call.getTime() for call in calls) - self.clock.seconds()))


@implementer(IDownloader)
class MemoryDownloader(ByKind):
    """Fetches pieces from the peers of a swarm."""

    def __init__(self, swarm: MemorySwarm) -> None:
        self._swarm = swarm
        self._under_way: set[Deferred[DownloadPieceResponse]] = set()
        self._is_stopped = False

    def download(self, addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        if self._is_stopped:
            return fail(PoolClosed("the downloader has been stopped"))
        coming = Deferred.fromCoroutine(self._download(addr, request))
        self._under_way.add(coming)

        def ended(result: Any) -> Any:
            self._under_way.discard(coming)
            return result

        return coming.addBoth(ended)

    def stop(self) -> Deferred[None]:
        self._is_stopped = True
        for coming in list(self._under_way):
            coming.cancel()
        return succeed(None)

    async def _download(self, addr: str, request: DownloadPieceRequest) -> DownloadPieceResponse:
        swarm, name = self._swarm, piece_id(request.task_id, request.number)
        await self._rest(swarm.delay)
        peer = swarm.peers.get(addr)
        if peer is None or peer.is_away:
            raise ParentUnreachable(addr, name, "connection refused")
        peer.asked.append(request.number)
        fault = peer.faults.get(request.number, peer.fault)
        there = peer.pieces.get(request.number) if request.task_id == swarm.task_id else None
        if there is None or fault is Fault.NOT_FOUND:
            raise PieceNotFound(addr, name, "expected the piece, got not found")
        if fault in _CODES:
            raise ParentFailed(addr, name, f"told to say {_CODES[fault].name}", _CODES[fault])
        metadata, content = there
        if fault is Fault.WRONG_NUMBER:
            raise UnexpectedPiece(addr, name, f"expected piece number {request.number}, got {request.number + 1}")
        if fault is Fault.SILENT:
            raise await self._timeout(addr, name)
        if fault is Fault.NO_DIGEST:
            metadata = replace(metadata, digest="")
        if fault is Fault.WRONG_BYTE and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        sink: IPieceSink = request.sink or MemorySink()
        receiver = PieceReceiver(addr, request.task_id, metadata, sink, allow_empty_digest=request.is_whole_verified)
        receiver.begin()
        try:
            step = max(1, -(-len(content) // _STEPS))
            for start in range(0, len(content), step):
                if fault in (Fault.TRUNCATED, Fault.STALLED) and 2 * start >= len(content):
                    if fault is Fault.STALLED:
                        raise await self._timeout(addr, name)
                    raise ParentUnreachable(addr, name, f"the connection ended after {start} bytes")
                part = content[start : start + step]
                await self._rest(len(part) / (peer.rate or swarm.rate))
                if peer.is_away:
                    raise ParentUnreachable(addr, name, f"the connection ended after {start} bytes")
                receiver.write(part)
            return DownloadPieceResponse(metadata=metadata, content=receiver.finish(), transport="memory")
        except BaseException:
            receiver.fail()
            raise

    async def _timeout(self, addr: str, name: str) -> PieceTimeout:
        await self._rest(self._swarm.piece_timeout)
        return PieceTimeout(addr, name, f"expected a byte within {self._swarm.piece_timeout:g} s, got none")

    async def _rest(self, seconds: float) -> None:
        try:
            await deferLater(self._swarm.clock, seconds)
        except CancelledError:
            if self._is_stopped:
                raise PoolClosed("the downloader has been stopped") from None
            raise


_CODES = {Fault.INVALID_ARGUMENT: ErrorCode.INVALID_ARGUMENT, Fault.INTERNAL: ErrorCode.INTERNAL}


@implementer(IPieceAnnouncer)
class MemoryAnnouncer:
    """
    Says what a peer of a swarm has, as it comes.

    :param parent: its name.
    """

    def __init__(self, swarm: MemorySwarm, parent: str) -> None:
        self._swarm = swarm
        self._parent = parent

    def start(
        self,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        told: set[int] = set()
        state = {"is_over": False, "knows_layout": False}
        peer = self._swarm.peers.get(self._parent)

        def tell() -> None:
            """Report what is new, later: nothing is called before this has returned."""
            self._swarm.clock.callLater(self._swarm.delay, tell_now)

        def tell_now() -> None:
            if state["is_over"]:
                return
            if peer is None or peer.is_away:
                end()
                on_end(False)
                return
            if not state["knows_layout"] and peer.piece_length is not None:
                state["knows_layout"] = True
                on_layout(peer.content_length, peer.piece_length)
            for number in sorted(peer.pieces.keys() - told):
                told.add(number)
                metadata, _ = peer.pieces[number]
                on_piece(number, metadata.offset, metadata.length)
            if peer.is_complete and not state["is_over"]:
                end()
                on_end(True)

        def end() -> None:
            state["is_over"] = True
            if peer is not None and tell in peer.listeners:
                peer.listeners.remove(tell)

        if peer is not None:
            peer.listeners.append(tell)
        tell()
        return end
