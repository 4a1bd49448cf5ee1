"""A plan, and short ways to talk to it: what the tests of the plan and of its parts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import ParentFailed, PieceError, PieceRefused
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.task.layout import Wanted
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.pieces import Pieces
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.timing import Request, Timing
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["DIGEST", "GOT", "TASK_ID", "PlanTestCase", "piece", "pieces_of", "why"]

TASK_ID = "ab" * 32
DIGEST = f"sha256:{TASK_ID}"
GOT = f"sha256:{'cd' * 32}"
"""A wrong digest."""


def piece(number: int, length: int = 10, offset: int | None = None, piece_length: int = 10) -> PieceMetadata:
    """A piece's metadata, at its place unless an offset is given."""
    at = number * piece_length if offset is None else offset
    return PieceMetadata(number=number, offset=at, length=length, digest="crc32:0")


def why(kind: type[PieceError], request: Request, reason: str = "expected a piece, got none") -> PieceError:
    """A failure of a request."""
    name = f"{TASK_ID}-{request.number}"
    if kind is ParentFailed:
        return ParentFailed(request.parent, name, reason, 3)
    return kind(request.parent, name, reason)


def pieces_of(parents: Mapping[str, Parent], *others: str) -> Pieces:
    """Pieces of a task that these parents are asked for, and of which others have told."""
    sources = {**parents, **{name: Parent(address=name, is_open=False) for name in others}}
    timing = Timing(parents, limit=8, late_after=360.0, jitter=lambda: 1.0)
    return Pieces(parents, sources, timing, lambda: 1.0)


class PlanTestCase(SynchronousTestCase):
    """A plan, and short ways to talk to it."""

    def begin(
        self,
        *parents: str,
        at_once: int = 4,
        retry: float = 0.0,
        late_after: float = 360.0,
        source: str = "",
        back_to_source: BackToSource = BackToSource.LAST_RESORT,
    ) -> None:
        """Plan a download from these parents, at 100 seconds."""
        self.from_source: Counter[str] = Counter()
        self.wanted = Wanted()
        self.plan = Plan(
            TASK_ID,
            parents,
            at_once,
            retry=retry,
            late_after=late_after,
            source=source,
            back_to_source=back_to_source,
            from_source=self.from_source,
            wanted=self.wanted,
        )
        self.now = 100.0
        self.plan.advance(self.now)

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        self.plan.advance(self.now)

    def ask(self) -> Request:
        """The next request, which there is."""
        request = self.plan.next_request()
        if request is None:
            raise self.failureException("expected a request, got none")
        return request

    def ask_all(self) -> list[Request]:
        """All requests that can be made now."""
        requests = []
        while (request := self.plan.next_request()) is not None:
            requests.append(request)
        return requests

    def give(self, request: Request, length: int = 10) -> None:
        """Answer a request with a piece at its place."""
        self.plan.record_verified(request, piece(request.number, length))

    def fail_with(self, kind: type[PieceError], *requests: Request) -> None:
        """Answer requests with a failure."""
        for request in requests:
            self.plan.record_failure(request, why(kind, request))

    def begin_with_first(
        self, *parents: str, at_once: int = 4, retry: float = 0.0, late_after: float = 360.0
    ) -> list[Request]:
        """Plan a download, have its first piece come, and give what is asked next."""
        self.begin(*parents, at_once=at_once, retry=retry, late_after=late_after)
        self.give(self.ask())
        return self.ask_all()

    def refuse(self, request: Request, metadata: PieceMetadata) -> str:
        """The reason for which a piece is refused, which is the answer to the request then."""
        refusal = self.assertRaises(PieceRefused, self.plan.judge, request, metadata)
        self.plan.record_refusal(request, refusal)
        return str(refusal)

    def withdrawn(self) -> list[Request]:
        """What the plan wants to be cancelled."""
        requests = []
        while (request := self.plan.pieces.next_withdrawn()) is not None:
            requests.append(request)
        return requests

    def numbers(self, requests: list[Request]) -> list[int]:
        """The numbers of the pieces that are asked for."""
        return [request.number for request in requests]
