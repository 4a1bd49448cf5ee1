"""
A simulator of a swarm: many peers fetch one task from each other, in simulated time and without sockets.

Each child follows the real :class:`~dragonfly_vortex.task.scheduler.Plan` and the real
:class:`~dragonfly_vortex.task.trials.Trials`, and each parent serves in the order of the real
:class:`~dragonfly_vortex.transport.serving_order.ServingOrder`. What lies between them is a model: a parent sends one
step after the other at its upload rate, each message takes the same delay, and a peer's download rate has no limit. All
chance comes from one seed, so that a run can be repeated.

Peer 0 has the task from the beginning. The peers from 1 on are children, and parents of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from dragonfly_vortex.errors import (
    DigestMismatch,
    ParentFailed,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceRefused,
    PieceTruncated,
    TaskError,
)
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.timing import TICK, Request
from dragonfly_vortex.task.trials import Trials
from dragonfly_vortex.testing.pieces import TASK_ID
from dragonfly_vortex.testing.simulation import Event, Lie, Outcome, Simulation, Swarm, Transfer, Upload
from dragonfly_vortex.wire import ErrorCode, PieceMetadata

__all__ = ["simulate"]

_RIGHT, _FORGED = "crc32:1", "crc32:2"
"""The digest of the task's content, and that of a liar's."""

_CODES = {Lie.INVALID_ARGUMENT: ErrorCode.INVALID_ARGUMENT, Lie.INTERNAL: ErrorCode.INTERNAL}
"""What a liar says that fails."""


def simulate(
    swarm: Swarm,
    make_plan: Callable[..., Plan] = Plan,
    longest: float = 3600.0,
) -> Outcome:
    """
    Let a swarm run until all children have the task, or cannot have it.

    :param make_plan: makes the plans, called as :class:`~dragonfly_vortex.task.scheduler.Plan`.
    :param longest: seconds of the simulated time after which it ends in any case.
    """
    simulation = Simulation(swarm)
    peers = [_Peer(simulation, number) for number in range(swarm.peers + 1)]
    children = [_Child(simulation, peer, peers, make_plan) for peer in peers[1:] if peer.lie is None]
    for child in children:
        simulation.later(simulation.chance.uniform(0.0, swarm.start_spread), child.start)
    for number, at in swarm.departures.items():
        simulation.later(at, peers[number].leave)
    simulation.run(lambda: simulation.fetching == 0, longest)
    outcome = simulation.outcome
    for child in children:
        if not child.peer.has_left:  # it could not know what is wrong
            wrong = [number for number, digest in child.peer.has.items() if digest != _RIGHT]
            outcome.wrong += sum(map(swarm.length, wrong))
        if child.peer.number not in outcome.finished:
            outcome.failed.setdefault(child.peer.number, None)
    return outcome


class _Peer:
    """A peer as others see it: it serves, and announces."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.number = number
        self.name = f"peer-{number}"
        self.swarm = simulation.swarm
        self.lie = self.swarm.liars.get(number)
        self.has: dict[int, str] = {}
        """The digest of the content of each piece that it has."""
        if number == 0 or self.lie is not None:
            digest = _FORGED if self.lie is Lie.FORGED else _RIGHT
            self.has = dict.fromkeys(range(self.swarm.piece_count), digest)
        self.is_whole = bool(self.has)
        self.has_left = False
        self.child: _Child | None = None
        self._simulation = simulation
        self._children: dict[int, _Child] = {}  # the children that have requested a piece
        self._listeners: dict[_Child, None] = {}
        rate = self.swarm.rates.get(number, self.swarm.rate)
        self._upload = Upload(rate, lambda: simulation.now, simulation.later, self._end)

    # -- what children ask

    def ask(self, child: _Child, transfer: Transfer) -> None:
        """Answer a child's request."""
        if self.has_left:
            self._answer(child.failed, transfer, ParentUnreachable, "closed before a reply")
        elif self.lie is Lie.NOT_FOUND or transfer.number not in self.has:
            self._answer(child.failed, transfer, PieceNotFound, "expected the piece, got not found")
        elif self.lie in _CODES:
            self._answer(child.failed, transfer, partial(ParentFailed, code=_CODES[self.lie]), "expected the piece")
        elif self.lie is Lie.NO_DIGEST:
            self._answer(child.failed, transfer, DigestMismatch, "expected a digest, got none")
        elif self.lie is not Lie.SILENT and not transfer.is_over:
            self._children[transfer.child] = child
            if self.lie in (Lie.TRUNCATED, Lie.STALLED):
                transfer.until = transfer.length // 2
            number = transfer.number + 1 if self.lie is Lie.WRONG_NUMBER else transfer.number
            self._answer(child.begin, transfer, self.has[transfer.number], number)
            self._upload.add(transfer)

    def cancel(self, transfer: Transfer) -> None:
        """Cancel a transfer for a child."""
        if transfer in self._upload.transfers:
            self._upload.remove(transfer)
            self._simulation.outcome.sent[self.number] += transfer.sent

    def listen(self, child: _Child) -> None:
        """Subscribe a child to this peer's announcements. Without a piece a peer does not know the task."""
        if self.has_left or not self.has:
            self._answer(child.hear_end, self, not self.has_left)
        else:
            self._listeners[child] = None
            self._answer(child.hear, self, sorted(self.has), self.is_whole)

    def announce(self, *numbers: int) -> None:
        """Announce pieces to the subscribed children."""
        if not self.has_left:
            for child in self._listeners:
                self._answer(child.hear, self, numbers, self.is_whole)

    def leave(self) -> None:
        """Serve nothing from now on, and fetch nothing."""
        self.has_left = True
        for transfer in self._upload.transfers:
            self.cancel(transfer)
            self._answer(self._children[transfer.child].failed, transfer, PieceTruncated, "closed in the middle")
        for child in self._listeners:
            self._answer(child.hear_end, self, False)
        if self.child is not None:
            self.child.stop()

    def _end(self, transfer: Transfer) -> None:
        """Handle the end of a transfer."""
        self._simulation.outcome.sent[self.number] += transfer.sent
        child = self._children[transfer.child]
        if self.lie is Lie.WRONG_BYTE:
            self._answer(child.failed, transfer, DigestMismatch, f"expected {_RIGHT}, got {_FORGED}")
        elif self.lie is Lie.TRUNCATED:
            self._answer(child.failed, transfer, PieceTruncated, "closed in the middle")
        elif self.lie is not Lie.STALLED:
            self._answer(child.arrived, transfer, self.has.get(transfer.number, _RIGHT))

    def _answer(self, call: Callable[..., None], *what: object) -> None:
        """Have a message come to its receiver."""
        self._simulation.later(self.swarm.delay, partial(call, *what))


class _Child:
    """A peer as a child: what :class:`~dragonfly_vortex.task.download.TaskDownload` does with a plan, without I/O."""

    def __init__(
        self, simulation: Simulation, peer: _Peer, peers: Sequence[_Peer], make_plan: Callable[..., Plan]
    ) -> None:
        swarm = simulation.swarm
        self.peer = peer
        self.is_over = False
        self._simulation = simulation
        self._began_at = 0.0
        others = [each for each in peers[1:] if each is not peer]
        if swarm.neighbours is not None and swarm.neighbours < len(others):
            others = simulation.chance.sample(others, swarm.neighbours)
        self._parents = {each.name: each for each in (peers[0], *others)}
        self._make_plan = partial(
            make_plan,
            TASK_ID,
            concurrent_piece_count=swarm.at_once,
            retry=swarm.retry,
            jitter=simulation.chance.random,
        )
        self._plan = self._make_plan(parents=list(self._parents))
        self._trials = Trials(self._plan, self._make_trial)
        self._transfers: dict[Request, Transfer] = {}
        peer.child = self
        simulation.fetching += 1

    def start(self) -> None:
        """Begin."""
        if not self.peer.has_left:
            self._ask_for_announcements()
            self._tick()

    def stop(self) -> None:
        """Ask for nothing any more."""
        if not self.is_over:
            self.is_over = True
            self._simulation.fetching -= 1
        for transfer in list(self._transfers.values()):
            self._give_up(transfer)

    def _ask_for_announcements(self) -> None:
        for name in self._plan.parents:
            if self._parents[name].number not in self.peer.swarm.mute:
                self._plan.announcements.begin(name)
                self._inquire(name)

    def _inquire(self, name: str) -> None:
        """Ask a parent what it has."""
        self._simulation.later(self.peer.swarm.delay, partial(self._parents[name].listen, self))

    def _make_trial(self, parent: str, there: Mapping[int, VerifiedPiece], compares: bool, most: int) -> Plan:
        plan = self._make_plan(parents=[parent], there=there, compares=compares, end_disputed_at=most)
        plan.advance(self._simulation.now)
        return plan

    # -- what parents say

    def hear(self, parent: _Peer, numbers: Sequence[int], is_whole: bool) -> None:
        """Handle the announcement of pieces by a parent."""
        swarm, plan = self.peer.swarm, self._plan
        if self.is_over or parent.name not in plan.parents:
            return
        plan.advance(self._simulation.now)
        plan.announcements.learn(parent.name, swarm.content_length, swarm.piece_length)
        for number in numbers:
            plan.announcements.add(parent.name, number, number * swarm.piece_length, swarm.length(number))
        if is_whole:
            plan.announcements.end(parent.name, True)
        self._step()

    def hear_end(self, parent: _Peer, is_final: bool) -> None:
        """Handle the end of a parent's announcements."""
        if not self.is_over and parent.name in self._plan.parents:
            self._plan.advance(self._simulation.now)
            self._plan.announcements.end(parent.name, is_final)
            self._step()

    def begin(self, transfer: Transfer, digest: str, number: int) -> None:
        """Judge what a parent is about to send."""
        if transfer.is_over:
            return
        self._plan.advance(self._simulation.now)
        try:
            self._plan.judge(transfer.request, replace(self._metadata(transfer, digest), number=number))
        except PieceRefused as refusal:
            self._cancel(transfer)
            self._note("refused", transfer)
            self._plan.record_refusal(transfer.request, refusal)
            self._step()

    def arrived(self, transfer: Transfer, digest: str) -> None:
        """Handle a piece that has arrived, and fits its digest."""
        if self._end(transfer):
            parent = self._parents[transfer.request.parent]
            self._plan.record_verified(transfer.request, self._metadata(transfer, digest))
            if transfer.number in self._plan.layout.verified:
                self._note("verified", transfer)
                self.peer.has[transfer.number] = digest
                self._simulation.outcome.kept[self.peer.number, parent.number] += transfer.length
                self._simulation.later(self.peer.swarm.announce_delay, partial(self.peer.announce, transfer.number))
            self._step()

    def failed(self, transfer: Transfer, kind: Callable[[str, str, str], PieceError], reason: str) -> None:
        """Handle a piece that will not come."""
        if self._end(transfer):
            self._note("failed", transfer)
            name = piece_id(TASK_ID, transfer.number)
            self._plan.record_failure(transfer.request, kind(transfer.request.parent, name, reason))
            self._step()

    def _end(self, transfer: Transfer) -> bool:
        """Remove a request that was answered; returns whether it was waited for."""
        if transfer.is_over:
            return False
        transfer.is_over = True
        del self._transfers[transfer.request]
        self._plan.advance(self._simulation.now)
        return True

    # -- what the plan says

    def _step(self) -> None:
        """Do all that can be done now, as :meth:`~dragonfly_vortex.task.download.TaskDownload` does."""
        while not self.is_over:
            plan = self._plan
            while (withdrawn := plan.pieces.next_withdrawn()) is not None:
                self._give_up(self._transfers[withdrawn])
            while (inquiry := plan.waits.next_inquiry()) is not None:
                self._inquire(inquiry)
            for number in plan.pieces.take_dropped():
                self.peer.has.pop(number, None)
            if plan.is_complete:
                if all(digest == _RIGHT for digest in self.peer.has.values()):
                    self._finish()
                    return
                plan.reputation.record_mismatch("the right pieces", "wrong ones")
            failure = plan.failure()
            if failure is not None:
                self._try_next(failure)
            elif not plan.is_complete:
                if plan.pieces.swarm.is_on:
                    self._report()
                request = plan.next_request()
                if request is None:
                    return
                self._ask(request)

    def _finish(self) -> None:
        self._simulation.outcome.finished[self.peer.number] = self._simulation.now
        self.stop()
        self._trials.succeed()
        self.peer.is_whole = True
        self._simulation.later(self.peer.swarm.announce_delay, self.peer.announce)

    def _try_next(self, failure: TaskError) -> None:
        """Follow the next plan after a failure, if there is one."""
        for transfer in list(self._transfers.values()):
            self._give_up(transfer)
        plan = self._trials.next(failure)
        if plan is None:
            for number in self._trials.doubtful():
                self.peer.has.pop(number, None)
            self._simulation.outcome.failed[self.peer.number] = failure
            self.stop()
        else:
            self._plan = plan
            self._ask_for_announcements()

    def _ask(self, request: Request) -> None:
        number = request.number
        transfer = Transfer(
            child=self.peer.number, number=number, length=self.peer.swarm.length(number), request=request
        )
        self._transfers[request] = transfer
        self._note("asked", transfer)
        parent = self._parents[request.parent]
        self._simulation.later(self.peer.swarm.delay, partial(parent.ask, self, transfer))

    def _give_up(self, transfer: Transfer) -> None:
        """Cancel a request."""
        self._cancel(transfer)
        self._note("cancelled", transfer)
        self._plan.record_cancelled(transfer.request, transfer.sent)

    def _cancel(self, transfer: Transfer) -> None:
        if self._end(transfer):
            parent = self._parents[transfer.request.parent]
            self._simulation.later(self.peer.swarm.delay, partial(parent.cancel, transfer))

    def _tick(self) -> None:
        """See how far the requests are, and what time has changed."""
        if self.is_over:
            return
        self._simulation.later(TICK, self._tick)
        self._plan.advance(self._simulation.now)
        self._report()
        self._step()

    def _report(self) -> None:
        """See how far the requests are."""
        for request, transfer in self._transfers.items():
            if transfer.sent:
                self._plan.timing.progress(request, transfer.sent, transfer.length)

    def _metadata(self, transfer: Transfer, digest: str) -> PieceMetadata:
        offset = transfer.number * self.peer.swarm.piece_length
        return PieceMetadata(number=transfer.number, offset=offset, length=transfer.length, digest=digest)

    def _note(self, what: str, transfer: Transfer) -> None:
        event = Event(
            at=self._simulation.now,
            what=what,
            child=transfer.child,
            parent=transfer.request.parent,
            number=transfer.number,
        )
        self._simulation.outcome.trace.append(event)
