"""The requests of a download that are under way: given up one by one, and all of them in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.interfaces import Claim, DownloadPieceResponse
from dragonfly_vortex.task.choice import Request
from dragonfly_vortex.task.output import OutputSink

__all__ = ["Answer", "Requests"]

_PATIENCE = 2.0
"""Seconds that cancelled requests have to end. One that does not is left behind: its bytes have nowhere to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What has become of a request.

    :param result: the piece; or that it was not asked for, as it is somebody else's; or why it has not come.
    :param is_given_up: whether it was given up before. Then nothing comes of it, whatever it is.
    :param seconds: how long it took.
    """

    request: Request
    result: DownloadPieceResponse | Claim | Failure
    is_given_up: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnderWay:
    """
    A request that has been made.

    :param since: when, in the reactor's seconds.
    """

    coming: Deferred[DownloadPieceResponse | Claim]
    sink: OutputSink
    since: float


class Requests:
    """
    All that have no answer yet.

    :param reactor: the clock.
    :param on_answer: called with each answer. The request is not under way any more.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, on_answer: Callable[[Answer], None]) -> None:
        self._reactor = reactor
        self._on_answer = on_answer
        self._under_way: dict[Request, _UnderWay] = {}
        self._quiet: Deferred[None] | None = None  # fires when nothing is under way

    def add(self, request: Request, coming: Deferred[DownloadPieceResponse | Claim], sink: OutputSink) -> None:
        """
        A request has been made.

        :param coming: fires with its answer, and is cancelled when it is given up.
        :param sink: where the piece is written to; it is revoked then.
        """
        self._under_way[request] = _UnderWay(coming=coming, sink=sink, since=self._reactor.seconds())
        coming.addBoth(self._answered, request)

    def give_up(self, request: Request) -> None:
        """Cancel a request. What it still writes goes nowhere."""
        under_way = self._under_way[request]
        if not under_way.sink.is_revoked:
            under_way.sink.revoke()
            under_way.coming.cancel()

    def give_up_all(self) -> None:
        """Cancel all that are under way."""
        for request in list(self._under_way):
            self.give_up(request)

    def stop(self) -> Deferred[None]:
        """Cancel all that are under way. Fires when they have ended, or have been given the time to."""
        self.give_up_all()
        stopped: Deferred[None] = Deferred()
        if not self._under_way:
            stopped.callback(None)
            return stopped
        self._quiet = stopped
        patience = self._reactor.callLater(_PATIENCE, self._lose_patience)
        return stopped.addBoth(_end_delay, patience)

    def _answered(self, result: DownloadPieceResponse | Claim | Failure, request: Request) -> None:
        """A request has come to its end."""
        under_way = self._under_way.pop(request)
        answer = Answer(
            request=request,
            result=result,
            is_given_up=under_way.sink.is_revoked,
            seconds=self._reactor.seconds() - under_way.since,
        )
        self._on_answer(answer)
        if not self._under_way:
            self._be_quiet()

    def _lose_patience(self) -> None:
        """Wait for the cancelled requests no longer."""
        for request in self._under_way:
            self._log.warn("A request to parent {parent} does not end", parent=request.parent)
        self._be_quiet()

    def _be_quiet(self) -> None:
        """Tell whoever waits for the end."""
        quiet, self._quiet = self._quiet, None
        if quiet is not None:
            quiet.callback(None)


def _end_delay(result: None, delay: IDelayedCall) -> None:
    """Call off what was to be called later, if it has not been called."""
    if delay.active():
        delay.cancel()
