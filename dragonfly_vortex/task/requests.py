"""
The requests of a download: sends each, writes its piece to a place of its own, and cancels those that are not wanted
any more.

A second request for a piece, made because the first is slow, writes to a file of its own. When it is complete and
verified, the first is given up, and then the piece is copied to its place by a thread. A thread cannot be cancelled: so
one copy is made at a time, and the end of a download waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from msgspec import Struct
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.deferreds import FlatLock, call_if_late, outlast
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import PieceRefused, SinkFailed
from dragonfly_vortex.events import PieceUnderWay
from dragonfly_vortex.files import write_all
from dragonfly_vortex.interfaces import DownloadPieceRequest, IDownloader, IFileSink, InThread
from dragonfly_vortex.model import Claim, DownloadPieceResponse, FilePlace, piece_id
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.task.disk import SparePlace
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = ["Answer", "OutputSink", "Requests"]

_PATIENCE = 2.0
"""Seconds that cancelled requests have to end. One that does not is left behind: what it still receives is written
nowhere."""


class Answer(Struct, frozen=True, kw_only=True):
    """
    The outcome of a request.

    :param result: the piece; or the claim of another process, so that it was not requested; or why it failed.
    :param is_given_up: whether it was given up before. Then nothing comes of it, whatever it is.
    :param seconds: how long it took.
    :param refusal: why the piece was refused; None where it was not.
    :param received: bytes of the piece that have arrived.
    """

    request: Request
    result: DownloadPieceResponse | Claim | Failure
    is_given_up: bool
    seconds: float
    refusal: PieceRefused | None = None
    received: int = 0


class HasDescriptor(Protocol):
    """An object with a file that a piece can be written to."""

    @property
    def descriptor(self) -> int:
        """A file, open for reading and writing."""


@implementer(IFileSink)
class OutputSink:
    """
    The place of one piece in a file. Its content, for :meth:`finish`, is the number of bytes.

    :param output: whatever has the file open.
    :param judge: raises :class:`~dragonfly_vortex.errors.PieceRefused` for metadata that cannot be right.
    :param is_alone: whether the file is for this piece alone, which begins at its first byte then.
    """

    def __init__(
        self, output: HasDescriptor, judge: Callable[[PieceMetadata], None], *, is_alone: bool = False
    ) -> None:
        self.length: int | None = None
        """Bytes of the piece; None before the parent has said it."""
        self.refusal: PieceRefused | None = None
        """Why the piece was refused; None where it was not."""
        self.is_revoked = False
        self.is_held: Callable[[], bool] = lambda: True
        """Whether the piece may still be written here, see :class:`~dragonfly_vortex.interfaces.Claim`."""
        self._output = output
        self._judge = judge
        self._is_alone = is_alone
        self._at = 0
        self._written = 0

    @property
    def received(self) -> int:
        """Bytes of the piece that have arrived."""
        return self._written

    def revoke(self) -> None:
        """Take the place away: later writes to it raise an error."""
        self.is_revoked = True

    def begin(self, metadata: PieceMetadata) -> None:
        try:
            self._judge(metadata)
        except PieceRefused as refusal:
            self.refusal = refusal
            raise
        self.length = metadata.length
        self._at = 0 if self._is_alone else metadata.offset
        self._written = 0

    def write(self, data: bytes | memoryview) -> None:
        place = self.place()
        written = os.pwrite(place.descriptor, data, place.offset)
        if written < len(data):
            write_all(place.descriptor, memoryview(data)[written:], place.offset + written)
        self.wrote(len(data))

    def place(self) -> FilePlace:
        """See :meth:`IFileSink.place`."""
        if self.is_revoked:
            raise OSError("the place of this piece has been taken away")
        self._check_held()
        return FilePlace(self._output.descriptor, self._at + self._written)

    def wrote(self, length: int) -> None:
        """See :meth:`IFileSink.wrote`."""
        self._written += length
        self._check_held()  # if it was lost meanwhile, what has just been written is not to be counted on

    def _check_held(self) -> None:
        """Write no piece that another download has taken over."""
        if not self.is_held():
            raise OSError("another download has taken this piece over")

    def finish(self) -> int:
        return self._written

    def fail(self) -> None:
        """See :meth:`IPieceSink.fail`. What was written stays where it is, until the piece is written again."""


class _UnderWay(Struct, frozen=True, kw_only=True):
    """
    A request that has been made.

    :param since: when, in the reactor's seconds.
    """

    coming: Deferred[DownloadPieceResponse | Claim]
    sink: OutputSink
    since: float


class Requests:
    """
    The requests without an answer.

    :param reactor: the clock.
    :param in_thread: how to call a function in a thread.
    :param downloader: asks the parents.
    :param target: where the pieces go.
    :param kind: the kind of the pieces.
    :param on_answer: called with each answer. The request is not under way any more.
    :param is_whole_verified: whether the whole will be verified against a digest.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        in_thread: InThread,
        downloader: IDownloader,
        target: IDownloadTarget,
        kind: PieceKind,
        task_id: str,
        on_answer: Callable[[Answer], None],
        *,
        is_whole_verified: bool,
    ) -> None:
        self._reactor = reactor
        self._in_thread = in_thread
        self._downloader = downloader
        self._target = target
        self._kind = kind
        self.task_id = task_id
        """The task, which lines of the log about this download name."""
        self._on_answer = on_answer
        self._is_whole_verified = is_whole_verified
        self._under_way: dict[Request, _UnderWay] = {}
        self._copying = FlatLock()  # held while a thread writes to the target
        self._lost: set[Request] = set()  # those that have been cancelled as another download fetches the piece
        self._quiet: Deferred[None] | None = None  # fires when nothing is under way

    def ask(self, request: Request, judge: Callable[[PieceMetadata], None], *, needs_claim: bool = True) -> None:
        """
        Ask a parent for a piece.

        :param judge: as for :class:`OutputSink`.
        :param needs_claim: whether the piece is to be written; otherwise ``judge`` refuses it once it is described.
        """
        if request.is_spare:
            spare = SparePlace(self._target.directory)
            sink = OutputSink(spare, judge, is_alone=True)
            fetching = Deferred.fromCoroutine(self._fetch_copy(request, sink, spare))
        else:
            sink = OutputSink(self._target, judge)
            fetching = self._fetch(request, sink, needs_claim=needs_claim)
        coming: Deferred[Any] = fetching.addCallbacks(
            self._fetched, self._failed, callbackArgs=(request, sink), errbackArgs=(request, sink)
        )
        self.add(request, coming, sink)

    def add(self, request: Request, coming: Deferred[DownloadPieceResponse | Claim], sink: OutputSink) -> None:
        """
        Add a request that was made.

        :param coming: fires with its answer, and is cancelled when it is given up.
        :param sink: where the piece is written to; it is revoked then.
        """
        self._under_way[request] = _UnderWay(coming=coming, sink=sink, since=self._reactor.seconds())
        coming.addBoth(self._answered, request)

    def report(self, progress: Callable[[Request, int, int], None]) -> None:
        """
        Report the progress of the requests to the plan.

        :param progress: called with each request whose parent has said how long the piece is, with the bytes that have
            arrived, and with that length.
        """
        for request, under_way in self._under_way.items():
            if under_way.sink.length is not None and not under_way.sink.is_revoked:
                progress(request, under_way.sink.received, under_way.sink.length)

    def under_way(self) -> list[PieceUnderWay]:
        """The requests without an answer, but for those that were given up."""
        return [
            PieceUnderWay(number=request.number, parent=request.parent, received=each.sink.received)
            for request, each in self._under_way.items()
            if not each.sink.is_revoked
        ]

    def give_up(self, request: Request) -> None:
        """Cancel a request, unless it has ended. What it still writes goes nowhere."""
        under_way = self._under_way.get(request)
        if under_way is not None and not under_way.sink.is_revoked:
            under_way.sink.revoke()
            under_way.coming.cancel()

    def look_at_claims(self) -> None:
        """Wait no longer for what another download has taken over."""
        for request, under_way in list(self._under_way.items()):
            if request not in self._lost and not under_way.sink.is_revoked and not under_way.sink.is_held():
                self._lost.add(request)
                under_way.coming.cancel()

    def give_up_all(self) -> None:
        """Cancel all that are under way."""
        for request in list(self._under_way):
            self.give_up(request)

    def stop(self) -> Deferred[None]:
        """
        Cancel all that are under way. Fires when they have ended, or have been given the time to, and no thread writes
        to the target any more.
        """
        self.give_up_all()
        stopped: Deferred[None] = Deferred()
        if not self._under_way:
            stopped.callback(None)
            return stopped
        self._quiet = stopped
        return call_if_late(stopped, self._reactor, _PATIENCE, self._lose_patience)

    def _fetched(self, answer: DownloadPieceResponse | Claim, request: Request, sink: OutputSink) -> Any:
        """Take the answer of a request, unless another download has taken the piece over meanwhile."""
        return answer if sink.is_held() else Deferred.fromCoroutine(self._claim_of_other(request))

    def _failed(self, failure: Failure, request: Request, sink: OutputSink) -> Any:
        """Take the failure of a request. Where the claim is lost, why it failed says nothing."""
        if sink.is_held() or sink.is_revoked:
            return failure
        return Deferred.fromCoroutine(self._claim_of_other(request))

    async def _claim_of_other(self, request: Request) -> DownloadPieceResponse | Claim:
        """
        If this process did not run for so long that another download has taken the piece over, the result of a request
        is that download's claim.
        """
        self._lost.add(request)  # so that look_at_claims() does not cancel what follows
        self._target.release(request.number)
        claim = await self._target.claim(request.number)
        if claim.is_ours:
            self._target.release(request.number)
            return Claim(is_ours=False)
        return claim

    def _fetch(
        self, request: Request, sink: OutputSink, *, needs_claim: bool = True
    ) -> Deferred[DownloadPieceResponse | Claim]:
        """Fetch a piece, unless another process fetches it, or has."""
        if needs_claim:
            return self._target.claim(request.number).addCallback(self._claimed, request, sink)
        return self._download(request, sink)

    def _claimed(
        self, claim: Claim, request: Request, sink: OutputSink
    ) -> Claim | Deferred[DownloadPieceResponse | Claim]:
        """Fetch a piece that is claimed here."""
        if not claim.is_ours:
            return claim
        sink.is_held = claim.is_held
        return self._download(request, sink)

    def _download(self, request: Request, sink: OutputSink) -> Deferred[Any]:
        """Have the downloader fetch a piece."""
        wanted = DownloadPieceRequest(
            kind=self._kind,
            task_id=self.task_id,
            number=request.number,
            sink=sink,
            announced_length=request.announced_length,
            is_whole_verified=self._is_whole_verified,
        )
        coming: Deferred[Any] = maybeDeferred(self._downloader.download, request.parent, wanted)  # a user's may raise
        return coming

    async def _fetch_copy(self, request: Request, sink: OutputSink, spare: SparePlace) -> DownloadPieceResponse | Claim:
        """Fetch another copy of a piece, and have it in its place once it is verified and nothing else writes there."""
        try:
            await self._at_disk(request, spare.open)
            response = await self._fetch(request, sink)
            if isinstance(response, DownloadPieceResponse):
                for other in list(self._under_way):
                    if other.number == request.number and other is not request:
                        self.give_up(other)
                async with self._copying:
                    place = FilePlace(self._target.descriptor, response.metadata.offset)
                    await self._at_disk(request, partial(spare.copy, place, response.metadata.length, sink.is_held))
            return response
        finally:
            await outlast(self._in_thread(spare.close), forget_cancellation=True)

    async def _at_disk(self, request: Request, work: Callable[[], None]) -> None:
        """Do something in a thread, to its end even if the request is cancelled."""
        try:
            await outlast(self._in_thread(work))
        except OSError as error:
            name = piece_id(self.task_id, request.number)
            raise SinkFailed(
                f"piece {name} from parent {request.parent} could not be written: {reason_of(error)}"
            ) from error

    def _answered(self, result: DownloadPieceResponse | Claim | Failure, request: Request) -> None:
        """Handle the end of a request."""
        under_way = self._under_way.pop(request)
        self._lost.discard(request)
        answer = Answer(
            request=request,
            result=result,
            is_given_up=under_way.sink.is_revoked,
            seconds=self._reactor.seconds() - under_way.since,
            refusal=under_way.sink.refusal,
            received=under_way.sink.received,
        )
        self._on_answer(answer)
        if not self._under_way:
            self._be_quiet()

    def _lose_patience(self) -> None:
        """Wait for the cancelled requests no longer, but for a thread that writes to the target: it is closed next."""
        for request in self._under_way:
            self._log.warn("A request to parent {parent} does not end", parent=request.parent)
        self._copying.run(self._be_quiet)

    def _be_quiet(self) -> None:
        """Fire the Deferred that waits for the end of all requests."""
        quiet, self._quiet = self._quiet, None
        if quiet is not None:
            quiet.callback(None)
