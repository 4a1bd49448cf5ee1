"""What a download changes at its target: it commits verified pieces, and drops wrong ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.deferreds import outlast
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.errors import PieceTakenOver
from dragonfly_vortex.geometry import piece_length_for
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.task.layout import EMPTY_PIECE, VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.reporter import Reporter
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.wire import TrafficType

__all__ = ["LOOK_AGAIN", "Commits"]

LOOK_AGAIN = 2.0
"""Seconds between two tries to claim what other processes fetch: one that is killed reports nothing."""


class Commits:
    """
    The commits and drops of one download that are under way at its target.

    :param reactor: the clock.
    :param target: where the pieces go.
    :param plan: the first plan.
    :param reporter: reports the pieces that are kept and dropped.
    :param advance: called when a commit or a drop has been done.
    :param fail: called with the failure of a commit or a drop, with which the download ends.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        target: IDownloadTarget,
        plan: Plan,
        reporter: Reporter,
        advance: Callable[[], None],
        fail: Callable[[Failure], None],
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._plan = plan
        self._reporter = reporter
        self._advance = advance
        self._fail = fail
        self._commits: set[Deferred[None]] = set()  # that are under way
        self._drops: set[Deferred[None]] = set()  # that are under way

    @property
    def is_committing(self) -> bool:
        """Whether a commit is under way."""
        return bool(self._commits)

    @property
    def is_dropping(self) -> bool:
        """Whether a drop is under way: nothing may be written in the place of the pieces."""
        return bool(self._drops)

    def follow(self, plan: Plan) -> None:
        """Record what has been committed in this plan from now on."""
        self._plan = plan

    def commit(self, response: DownloadPieceResponse, parent: str, seconds: float) -> None:
        """
        Have a verified piece committed, and report it then.

        :param response: the piece.
        :param parent: the address of the parent that sent it.
        :param seconds: how long the request took.
        """
        metadata = response.metadata
        is_source = self._plan.parents[parent].is_source
        row = replace(
            metadata,
            parent_id="" if is_source else parent,  # children get it, and a URL may have secrets
            traffic_type=TrafficType.BACK_TO_SOURCE if is_source else TrafficType.REMOTE_PEER,
            cost=int(seconds),
            created_at=int(time.time()),
        )
        # The parent on trial may say less than there is.
        length = self._plan.layout.content_length if self._plan.comparison is None else None
        committed = self._target.commit(row, self._plan.layout.piece_length or 0, length)
        committed.addCallbacks(
            self._kept, self._lost, callbackArgs=(response, parent, seconds), errbackArgs=(metadata.number,)
        )
        self._finish(self._commits, committed)

    def drop_what_is_forgotten(self) -> None:
        """Have the pieces dropped that the plan has forgotten."""
        if self._plan.pieces.dropped:
            dropped = self._plan.pieces.take_dropped()
            self._reporter.drop(dropped)
            self._finish(self._drops, self._target.drop(dropped))

    async def drop(self, numbers: Sequence[int], reason: str = "") -> None:
        """
        Drop wrong pieces from the target.

        :param reason: why, for the log and the event, where no parent is the reason.
        """
        if reason:
            self._log.info("task {task_id}: {reason}", task_id=self._plan.task_id, reason=reason)
        self._reporter.drop(numbers, reason)
        if numbers:
            await outlast(self._target.drop(numbers))

    async def hold(self) -> None:
        """
        Keep other downloads from changing the task, before anything is concluded from what is wrong with it.

        :raises TaskChanged: another one has changed it by now.
        """
        while not await outlast(self._target.hold()):
            await deferLater(self._reactor, LOOK_AGAIN)

    async def put_nothing(self) -> None:
        """Put the one piece of a task without bytes to the target, unless another download has done so."""
        while not (claim := await outlast(self._target.claim(0))).is_ours and claim.piece is None:
            await deferLater(self._reactor, LOOK_AGAIN)
        if claim.is_ours:
            await outlast(self._target.commit(EMPTY_PIECE, piece_length_for(0), 0))
        self._plan.pieces.add(0, VerifiedPiece.of(STORAGE, EMPTY_PIECE))
        self._reporter.keep(self._plan, EMPTY_PIECE)

    def _kept(self, _: None, response: DownloadPieceResponse, parent: str, seconds: float) -> None:
        """Report a committed piece, unless the plan has learned meanwhile that it is wrong."""
        if self._plan.has(response.metadata.number):
            self._reporter.keep(
                self._plan,
                response.metadata,
                parent=parent,
                transport=response.transport,
                seconds=seconds,
                throttled=response.waited,
            )

    def _lost(self, failure: Failure, number: int) -> None:
        """Have a piece asked for again that another download has taken over, unless that one has committed it."""
        failure.trap(PieceTakenOver)
        self._plan.pieces.lose([number])

    def _finish(self, under_way: set[Deferred[None]], change: Deferred[None]) -> None:
        """Keep the download from ending before a change of its target; it fails if the change fails."""
        under_way.add(change)
        change.addBoth(self._finished, under_way, change)
        if change in under_way:  # or else the steps that follow are about to be taken in any case
            change.addCallback(self._go_on)

    def _finished(self, result: Failure | None, under_way: set[Deferred[None]], change: Deferred[None]) -> None:
        """End a change of the target; a failed one ends the download."""
        under_way.discard(change)
        if isinstance(result, Failure):
            self._fail(result)

    def _go_on(self, _: None) -> None:
        """Advance the download after a change at the target that took a while."""
        self._advance()
