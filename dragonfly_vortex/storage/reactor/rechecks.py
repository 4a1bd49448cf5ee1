"""
Verifies pieces that the same child requests again soon after it got all of them, and marks damaged ones. A child cannot
report damage otherwise: neither Vortex nor gRPC has a message for that.

A child has often another reason to ask again, and may ask for anything as often as it likes. Therefore one piece is
read at a time, with a pause behind it, none twice in an hour, and what is remembered is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.storage.verifier import check_piece
from dragonfly_vortex.wire import PieceKind

__all__ = ["CHECKED_FOR", "MOST_SENT", "MOST_WAITING", "PAUSE", "SOON", "Rechecks"]

SOON = 300.0
"""Seconds in which a second request for a piece is a sign that the first reply was no good."""

PAUSE = 10.0
"""Seconds between the end of one check and the next. A piece has 64 MiB by Dragonfly's rule at the most."""

CHECKED_FOR = 3600.0
"""Seconds for which a piece that has been checked is not checked again."""

MOST_SENT = 4096
"""Replies that are remembered."""

MOST_WAITING = 16
"""Pieces that may wait to be checked; further ones are not checked this time."""

_MOST_CHECKED = 1024
"""Checks that are remembered."""

_K = TypeVar("_K")
_Piece = tuple[PieceKind, str, int]


class Rechecks:
    """
    The checks of one peer. All of it belongs to the reactor's thread.

    :param directory: the storage's directory.
    :param clock: the time.
    :param in_thread: calls a function in a thread that may wait for the disk.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, directory: Path, clock: IReactorTime, in_thread: InThread) -> None:
        self._directory = directory
        self._clock = clock
        self._limited_log = LimitedLog(self.log, clock)
        self._in_thread = in_thread
        self._sent: OrderedDict[tuple[str, _Piece], float] = OrderedDict()
        self._checked: OrderedDict[_Piece, float] = OrderedDict()
        self._waiting: OrderedDict[_Piece, str] = OrderedDict()
        self._is_checking = False
        self._is_stopped = False
        self._pause: IDelayedCall | None = None

    def sent(self, child: str, kind: PieceKind, task_id: str, number: int) -> None:
        """
        Record that a child was sent a whole piece.

        :param child: its host, whatever the connection.
        """
        piece = (kind, task_id, number)
        sent, now = (child, piece), self._clock.seconds()
        before = self._sent.pop(sent, None)
        self._sent[sent] = now
        if before is None:
            if len(self._sent) > MOST_SENT:
                self._sent.popitem(last=False)
            return
        if now - before > SOON:
            return
        if now - self._checked.get(piece, float("-inf")) < CHECKED_FOR:
            return
        if piece not in self._waiting and len(self._waiting) < MOST_WAITING:
            self._waiting[piece] = child
            self._check_next()

    def stop(self) -> None:
        """Check nothing more. A check that is under way is finished."""
        self._is_stopped = True
        self._limited_log.close()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _check_next(self) -> None:
        """Have the next piece read, unless one is being read, or it is too soon."""
        if self._is_checking or self._is_stopped or self._pause is not None or not self._waiting:
            return
        piece, child = self._waiting.popitem(last=False)
        _remember(self._checked, piece, self._clock.seconds(), _MOST_CHECKED)
        self._is_checking = True
        checking = self._in_thread(partial(check_piece, self._directory, *piece))
        checking.addBoth(self._ended, piece, child)

    def _ended(self, result: str | Failure, piece: _Piece, child: str) -> None:
        """Log the result of a check, and go on after a pause."""
        _, task_id, number = piece
        name = piece_id(task_id, number)
        self._is_checking = False
        if isinstance(result, Failure):
            self._limited_log.error(
                "piece {piece} could not be checked: {reason}", piece=name, reason=result.getErrorMessage()
            )
        elif result:
            text = "piece {piece}: {reason}; it was checked because {child} asked for it again"
            self._limited_log.error(text, piece=name, reason=result, child=child)
        if not self._is_stopped:
            self._pause = self._clock.callLater(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._check_next()


def _remember(known: OrderedDict[_K, float], key: _K, now: float, most: int) -> None:
    """Write down when something happened, in place of what happened longest ago."""
    known.pop(key, None)
    known[key] = now
    if len(known) > most:
        known.popitem(last=False)
