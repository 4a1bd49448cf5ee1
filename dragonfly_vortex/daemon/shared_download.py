"""
A download with any number of callers: each gets all pieces from the first one on, and the last one who goes ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.deferreds import Ending
from dragonfly_vortex.downloaders.factory import negotiate
from dragonfly_vortex.model import ArrivedPiece, ByteRange, StoredTask, TaskRequest
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["ArrivedPieces", "OnPiece", "SharedDownload", "Wishes"]

OnPiece = Callable[[ArrivedPiece], None]
"""Called for each piece that is in the storage; for one that was wrong and was fetched again, twice."""

_IN_A_TURN = 256
"""Pieces that a listener hears of in one turn of the reactor."""


class Listener:
    """
    A function that is called for each piece of a download, and the pieces that it has not been called for yet.

    :param clock: for the turns of the reactor.
    :param on_piece: the function.
    :param is_current: tells whether a piece is still in the storage.
    :param pieces: those that are there already.
    """

    def __init__(
        self,
        clock: IReactorTime,
        on_piece: OnPiece,
        is_current: Callable[[ArrivedPiece], bool],
        pieces: Iterable[ArrivedPiece],
    ) -> None:
        self._clock = clock
        self._on_piece = on_piece
        self._is_current = is_current
        self._pending = deque(pieces)
        self._left = _IN_A_TURN
        self._pause: IDelayedCall | None = None
        self._is_stopped = False
        self._catching_up = Ending(lambda: not self._pending)
        self._tell()

    def hear(self, piece: ArrivedPiece) -> None:
        """Call the function for one more piece, now or in a later turn."""
        if self._is_stopped:  # by another listener, which has heard of the piece before
            return
        self._pending.append(piece)
        if self._pause is None:
            self._tell()

    def catch_up(self) -> Deferred[None]:
        """Fires when the function has been called for all pieces, which may be at once."""
        return self._catching_up.wait()

    def stop(self) -> None:
        """Call the function no more."""
        self._is_stopped = True
        self._pending.clear()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _tell(self) -> None:
        while self._pending and self._left:
            self._left -= 1
            piece = self._pending.popleft()
            if self._is_current(piece):
                self._on_piece(piece)
        if not self._left and self._pause is None and not self._is_stopped:
            self._pause = self._clock.callLater(0, self._go_on)
        self._catching_up.look()

    def _go_on(self) -> None:
        self._pause = None
        self._left = _IN_A_TURN
        self._tell()


class ArrivedPieces:
    """
    The pieces of a download that are in the storage, and the functions that are called for each.

    :param clock: for the turns of the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.listeners: list[Listener] = []
        self._clock = clock
        self._pieces: dict[int, ArrivedPiece] = {}
        self._piece_length = 0

    def add(self, metadata: PieceMetadata, piece_length: int | None = None, content_length: int | None = None) -> None:
        """
        Record a piece that is in the storage.

        :param piece_length: of its task; None for as before.
        :param content_length: of its task; None while it is not known.
        """
        self._piece_length = piece_length or self._piece_length
        piece = self._pieces[metadata.number] = ArrivedPiece(metadata, self._piece_length, content_length)
        for listener in list(self.listeners):
            listener.hear(piece)

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove pieces that are not in the storage any more."""
        for number in numbers:
            self._pieces.pop(number, None)

    def clear(self) -> None:
        """Remove all pieces."""
        self._pieces.clear()

    def listen(self, on_piece: OnPiece) -> Listener:
        """Have a function called for all pieces from the first one on, a bounded number in a turn of the reactor."""
        listener = Listener(self._clock, on_piece, self._has, self._pieces.values())
        self.listeners.append(listener)
        return listener

    def _has(self, piece: ArrivedPiece) -> bool:
        return self._pieces.get(piece.metadata.number) is piece


class Wishes:
    """
    The parts of a content that one caller wants; they may change while the download runs.

    :param ranges: what is wanted first.
    :param is_all: whether the rest is wanted, too.
    """

    def __init__(self, ranges: Sequence[ByteRange] = (), *, is_all: bool = True) -> None:
        self.ranges = ranges
        self.is_all = is_all
        self.changed: Callable[[], None] = lambda: None
        """Is called when the ranges have changed; the download that is joined sets it."""

    def change(self, ranges: Sequence[ByteRange]) -> None:
        """Want other ranges first from now on."""
        self.ranges = ranges
        self.changed()


class SharedDownload:
    """
    A download, and its callers.

    :param request: the first request for it.
    :param over: called when nothing more can come of it.
    :param clock: for the turns of the reactor.
    """

    def __init__(self, request: TaskRequest, over: Callable[[], None], clock: IReactorTime) -> None:
        self.request = request
        self.arrived = ArrivedPieces(clock)
        self._over = over
        self._waiting: dict[Deferred[StoredTask], tuple[Wishes, Listener]] = {}  # what each caller wants and hears
        self._want: Callable[[Sequence[ByteRange], bool], None] | None = None
        self._work: Deferred[StoredTask] | None = None
        self._outcome: StoredTask | Failure | None = None
        self._leaving = Ending(lambda: not self._waiting)

    def run(self, fetch: Callable[[], Coroutine[Deferred[Any], Any, StoredTask]]) -> Deferred[None]:
        """Start the download. Fires when it is over, successfully or not, and all callers know that or have gone."""
        self._work = Deferred.fromCoroutine(fetch())
        return self._work.addBoth(self._ended)

    def join(self, on_piece: OnPiece, wishes: Wishes | None = None) -> Deferred[StoredTask]:
        """
        Wait for its end. The last one who cancels this ends it.

        :param wishes: what this caller wants of the content; None for all of it.
        """
        listener = self.arrived.listen(on_piece)

        def leave(left: Deferred[StoredTask]) -> None:
            self._leave(left)
            if self._waiting:
                self._tell_wanted()
            else:
                self.cancel()
            self._leaving.look()

        waiting: Deferred[StoredTask] = Deferred(leave)
        wishes = wishes or Wishes()
        wishes.changed = self._tell_wanted
        self._waiting[waiting] = wishes, listener
        self._tell_wanted()
        if self._outcome is not None:
            self._ended(self._outcome)
        return waiting

    def _leave(self, caller: Deferred[StoredTask]) -> None:
        """Report nothing more to a caller."""
        wishes, listener = self._waiting.pop(caller)
        wishes.changed = lambda: None
        listener.stop()
        self.arrived.listeners.remove(listener)

    def follow_wanted(self, want: Callable[[Sequence[ByteRange], bool], None]) -> None:
        """
        Report what the callers want, now and at each change.

        :param want: called with the ranges, and with whether a caller wants all of the content.
        """
        self._want = want
        self._tell_wanted()

    def _tell_wanted(self) -> None:
        if self._want is not None and self._outcome is None:
            wishes = [wishes for wishes, _ in self._waiting.values()]
            ranges = tuple(dict.fromkeys(each for wish in wishes for each in wish.ranges))
            self._want(ranges, not wishes or any(wish.is_all for wish in wishes))

    def cancel(self) -> None:
        """Cancel the download."""
        self._over()
        if self._work is not None and self._outcome is None:
            self._work.cancel()

    def _ended(self, outcome: StoredTask | Failure) -> Deferred[None]:
        """Fire the Deferreds of all callers; where it has succeeded, after all pieces were reported to them."""
        self._over()
        self._outcome = outcome

        def fire(_: None, caller: Deferred[StoredTask]) -> None:
            if caller in self._waiting:
                self._leave(caller)
                caller.callback(outcome)  # a Failure is taken as one
                self._leaving.look()

        for caller, (_, listener) in list(self._waiting.items()):
            if isinstance(outcome, Failure):
                listener.stop()
            listener.catch_up().addCallback(fire, caller)
        return self._leaving.wait()


_MOST_PARENTS = 1000
"""Parents that are remembered before all is forgotten that is known of them."""


class SharedParents:
    """
    The negotiation with parents that all downloads share. As a context manager it is in use inside the block.

    :param config: the peer's configuration.
    :param reactor: connects, resolves names, and is the clock.
    :param dial: makes the endpoints for parents' addresses; None for the usual ones.
    :raises CertificateUnusable: a file for TLS cannot be used.
    """

    def __init__(self, config: Config, reactor: IPeerReactor, dial: Dial | None = None) -> None:
        self.config = config
        download = config.download
        self.negotiation = negotiate(
            download.protocol, config, download.parents, reactor=reactor, has_source=True, dial=dial
        )
        self._users = 0
        self._is_retired = False
        self._stopped: Deferred[None] = Deferred()

    @property
    def is_full(self) -> bool:
        """Whether so many parents are remembered that it is to be replaced."""
        return len(self.negotiation.announcers) > _MOST_PARENTS

    def __enter__(self) -> SharedParents:
        self._users += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._users -= 1
        self._stop_if_unused()

    def retire(self) -> Deferred[None]:
        """Close all connections when the last download is over that uses them. Fires then; called once."""
        self._is_retired = True
        self._stop_if_unused()
        return self._stopped

    def _stop_if_unused(self) -> None:
        if self._is_retired and not self._users:
            self.negotiation.downloader.stop().chainDeferred(self._stopped)
