"""
A download of a whole task: the plan's requests are asked, their answers recorded, the bytes written and hashed, the
file published.

Everything that is known changes in the reactor's thread alone. Threads open the file, hash it and publish it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.errors import OutputError, PieceError, SinkFailed
from dragonfly_vortex.interfaces import DownloadPieceRequest, DownloadPieceResponse, IDownloader
from dragonfly_vortex.task.hashing import GrowingHash, InThread
from dragonfly_vortex.task.output import Output, OutputSink
from dragonfly_vortex.task.plan import Plan, Request, VerifiedPiece
from dragonfly_vortex.wire import PieceKind

__all__ = ["DownloadedTask", "ParentShare", "Progress", "TaskDownload"]

_T = TypeVar("_T")

_MOST_WAITING = 32 * 1024 * 1024
"""
Bytes that may wait to be hashed before no more is asked for. With as much under way, 8 pieces of 4 MiB, at most 64 MiB
are left to be hashed when the last piece comes.
"""

_PATIENCE = 2.0
"""Seconds that cancelled requests have to end. One that does not is left behind: its bytes have nowhere to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    How far a download is.

    :param verified_bytes: bytes of the pieces that have come and have their digests.
    :param verified_pieces: how many pieces these are.
    :param content_length: bytes of the whole task; None while nobody knows.
    """

    verified_bytes: int
    verified_pieces: int
    content_length: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentShare:
    """
    What a parent has given.

    :param parent: its address, ``HOST:PORT``.
    :param piece_count: pieces of the finished file that came from it.
    :param content_length: bytes of these.
    """

    parent: str
    piece_count: int
    content_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedTask:
    """
    A task that has been downloaded: it is at its target, and its SHA-256 is its ID.

    :param content_length: bytes of it.
    :param piece_length: bytes of every piece but the last.
    :param piece_count: how many pieces it has.
    :param seconds: how long it took, publishing included.
    :param left_to_hash: bytes that had not been hashed when the last piece had come.
    :param shares: what each parent has given, in the order in which they were named.
    """

    task_id: str
    content_length: int
    piece_length: int
    piece_count: int
    seconds: float
    left_to_hash: int
    shares: tuple[ParentShare, ...]


class TaskDownload:
    """
    One download of one task into one file.

    :param reactor: the clock.
    :param in_thread: how to call a function in a thread.
    :param downloader: an :class:`~dragonfly_vortex.interfaces.IDownloader`, which also ends a request that takes too
        long.
    :param kind: the kind of the task's pieces.
    :param task_id: the task, which is the SHA-256 of its content in small hexadecimal letters. The content of a task
        with any other ID, such as one made from a URL, never fits.
    :param parents: the addresses, ``HOST:PORT``, of those who may have it.
    :param target: where the file is to be.
    :param overwrite: whether a file that stands there is replaced.
    :param concurrent_piece_count: how many pieces are asked for at once.
    :param on_progress: called in the reactor's thread whenever a piece has come.
    :raises ValueError: there is no parent, or nothing may be asked.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        in_thread: InThread,
        downloader: IDownloader,
        *,
        kind: PieceKind,
        task_id: str,
        parents: Sequence[str],
        target: Path,
        overwrite: bool = False,
        concurrent_piece_count: int = 8,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.kind = kind
        self.task_id = task_id
        self.parents = tuple(dict.fromkeys(parents))
        self._reactor = reactor
        self._in_thread = in_thread
        self._downloader = downloader
        self._on_progress = on_progress
        self._plan = Plan(task_id, self.parents, concurrent_piece_count)
        self._output = Output(target, overwrite=overwrite)
        self._hash: GrowingHash | None = None
        self._drops = 0
        self._left_to_hash: int | None = None
        self._under_way: dict[Request, tuple[Deferred[DownloadPieceResponse], OutputSink]] = {}
        self._turn: Deferred[None] | None = None  # fires when all is there and hashed, or fails
        self._quiet: Deferred[None] | None = None  # fires when nothing is under way
        self._is_advancing = False
        self._running: Deferred[DownloadedTask] | None = None

    def start(self) -> Deferred[DownloadedTask]:
        """
        Download it. To be called once.

        :returns: fires when the file is at its target. Fails, when nothing of it is left there, with
            :class:`~dragonfly_vortex.errors.TaskNotFound`, :class:`~dragonfly_vortex.errors.NoParentLeft`,
            :class:`~dragonfly_vortex.errors.TaskDigestMismatch`, :class:`~dragonfly_vortex.errors.OutputError`, or with
            what a downloader says that is about no parent, such as :class:`~dragonfly_vortex.errors.PoolClosed`.
            Cancelling it is :meth:`cancel`: it fails with ``CancelledError`` then.
        """
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def cancel(self) -> None:
        """Give up, unless the file is being published by now. What :meth:`start` gave fires when nothing is left."""
        if self._running is not None:
            self._running.cancel()

    # -- from the beginning to the end ---------------------------------------------------------------------------------

    async def _run(self) -> DownloadedTask:
        """Open, fetch, verify and publish; and whatever happens, tidy up."""
        started = self._reactor.seconds()
        try:
            await _outlast(self._in_thread(self._output.open))
            self._hash = GrowingHash(self._output.descriptor, self._in_thread, self._advance)
            await self._fetch(self._hash)
            await _outlast(self._stop_requests())
            with contextlib.suppress(CancelledError):  # too late: by now it is published
                length = self._plan.content_length or 0
                await _outlast(self._in_thread(lambda: self._output.publish(length)))
        finally:
            await self._tidy_up()
        return self._summary(self._reactor.seconds() - started)

    async def _fetch(self, growing: GrowingHash) -> None:
        """Have everything fetched, until the file as a whole is what its ID says."""
        while True:
            self._turn = Deferred()
            self._advance()
            await self._turn
            if growing.text() == f"sha256:{self.task_id}":
                return
            self._left_to_hash = None
            self._plan.record_mismatch(growing.text().partition(":")[2])

    async def _tidy_up(self) -> None:
        """Leave nothing behind: no request, no thread at work, no temporary."""
        self._turn = None
        await _outlast(self._stop_requests(), forget_cancellation=True)
        if self._hash is not None:
            await _outlast(self._hash.stop(), forget_cancellation=True)
        try:
            await _outlast(self._in_thread(self._output.discard), forget_cancellation=True)
        except OutputError:
            self._log.failure("A temporary is left behind")

    def _summary(self, seconds: float) -> DownloadedTask:
        """What has been done, when it is done."""
        pieces = [self._plan.verified[number] for number in range(self._plan.end or 0)]
        return DownloadedTask(
            task_id=self.task_id,
            content_length=self._plan.content_length or 0,
            piece_length=self._plan.piece_length or 0,
            piece_count=len(pieces),
            seconds=seconds,
            left_to_hash=self._left_to_hash or 0,
            shares=tuple(_share(parent, pieces) for parent in self.parents),
        )

    # -- one thing after the other -------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Do all that can be done now. What changes meanwhile is seen by the same loop."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._turn is not None and not self._turn.called and self._take_step(self._turn):
                pass
        except Exception:  # whatever it is, the download ends with it
            self._end_turn(Failure())
        finally:
            self._is_advancing = False

    def _take_step(self, turn: Deferred[None]) -> bool:
        """Do the next thing; tell whether there may be another."""
        withdrawn = self._plan.next_withdrawn()
        if withdrawn is not None:
            self._give_up(withdrawn)
            return True
        waiting = self._hash_what_is_there()
        if self._plan.is_complete:
            return self._take_last_step(turn, waiting)
        failure = self._plan.failure()
        if failure is not None:
            raise failure
        request = self._plan.next_request() if waiting <= _MOST_WAITING else None
        if request is None:
            return False
        self._ask(request)
        return True

    def _take_last_step(self, turn: Deferred[None], waiting: int) -> bool:
        """All pieces are there: what is still under way is superfluous, and when all is hashed this turn ends."""
        if self._left_to_hash is None:
            self._left_to_hash = waiting
        for request in list(self._under_way):
            self._give_up(request)
        if waiting:
            return False
        turn.callback(None)
        return True  # this was the end, or there is another turn by now

    def _hash_what_is_there(self) -> int:
        """Have the verified bytes hashed; how many of them have not been."""
        if self._hash is None:
            return 0
        if self._hash.error is not None:
            raise OutputError(f"{self._output.target}: cannot be read back: {self._hash.error}") from self._hash.error
        if self._drops != self._plan.drops:
            self._drops = self._plan.drops
            self._hash.start_anew()
        self._hash.grow(self._plan.prefix_length)
        return self._hash.waiting

    def _end_turn(self, failure: Failure) -> None:
        """Nothing more is to be done but tidying up."""
        if self._turn is not None and not self._turn.called:
            self._turn.errback(failure)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        """Ask a parent for a piece."""
        sink = OutputSink(self._output, partial(self._plan.judge, request))
        wanted = DownloadPieceRequest(kind=self.kind, task_id=self.task_id, number=request.number, sink=sink)
        answer = maybeDeferred(self._downloader.download, request.parent, wanted)
        self._under_way[request] = (answer, sink)
        answer.addBoth(self._answered, request).addErrback(self._end_turn)

    def _give_up(self, request: Request) -> None:
        """Cancel a request. What it still writes goes nowhere, and what it still says is not heard."""
        answer, sink = self._under_way[request]
        if not sink.is_revoked:
            sink.revoke()
            answer.cancel()

    def _answered(self, result: DownloadPieceResponse | Failure, request: Request) -> None:
        """A request has come to its end."""
        _, sink = self._under_way.pop(request)
        if sink.is_revoked:
            self._plan.record_cancelled(request)
        elif not isinstance(result, Failure):
            self._plan.record_verified(request, result.metadata)
            self._tell_progress()
        elif isinstance(result.value, PieceError):
            self._plan.record_failure(request, result.value)
        else:
            self._plan.record_cancelled(request)
            self._end_turn(self._own_failure(result))
        if not self._under_way and self._quiet is not None:
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)
        self._advance()

    def _own_failure(self, failure: Failure) -> Failure:
        """What a failure that is no parent's means for the download."""
        if not isinstance(failure.value, SinkFailed):
            return failure
        error = OutputError(f"{self._output.target}: {failure.value.__cause__ or failure.value}")
        error.__cause__ = failure.value
        return Failure(error)

    def _tell_progress(self) -> None:
        """Tell how far it is."""
        if self._on_progress is not None:
            progress = Progress(
                verified_bytes=self._plan.verified_length,
                verified_pieces=len(self._plan.verified),
                content_length=self._plan.content_length,
            )
            self._on_progress(progress)

    def _stop_requests(self) -> Deferred[None]:
        """Cancel what is under way. Fires when all has ended, or has been given the time to."""
        for request in list(self._under_way):
            self._give_up(request)
        stopped: Deferred[None] = Deferred()
        if not self._under_way:
            stopped.callback(None)
            return stopped
        self._quiet = stopped
        patience = self._reactor.callLater(_PATIENCE, self._lose_patience)
        return stopped.addBoth(_end_delay, patience)

    def _lose_patience(self) -> None:
        """Wait for the cancelled requests no longer."""
        for request in self._under_way:
            self._log.warn("A request to parent {parent} does not end", parent=request.parent)
        quiet, self._quiet = self._quiet, None
        if quiet is not None:
            quiet.callback(None)


def _end_delay(result: None, delay: IDelayedCall) -> None:
    """Call off what was to be called later, if it has not been called."""
    if delay.active():
        delay.cancel()


def _share(parent: str, pieces: Sequence[VerifiedPiece]) -> ParentShare:
    """What a parent has given of these pieces."""
    lengths = [piece.length for piece in pieces if piece.parent == parent]
    return ParentShare(parent=parent, piece_count=len(lengths), content_length=sum(lengths))


async def _outlast(deferred: Deferred[_T], *, forget_cancellation: bool = False) -> _T:
    """
    Wait for a Deferred to its end even if the waiting is cancelled: a thread, for one, goes on all the same.

    :param forget_cancellation: whether a cancellation is then forgotten, and not raised.
    :raises CancelledError: it was cancelled, and has come to a good end.
    """
    outcome: list[_T | Failure] = []
    sleeper: Deferred[None] = Deferred()

    def wake(result: _T | Failure) -> None:
        # The outcome is taken here: while its callbacks run a Deferred that has failed cannot be awaited.
        outcome.append(result)
        if not sleeper.called:
            sleeper.callback(None)

    deferred.addBoth(wake)
    is_cancelled = False
    while not outcome:
        try:
            await sleeper
        except CancelledError:
            is_cancelled = True
            sleeper = Deferred()
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    if is_cancelled and not forget_cancellation:
        raise CancelledError
    return result
