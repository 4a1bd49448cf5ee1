"""
Reports the events of a download, and its result. For the events it compares what is known of the task and its parents
with what it has reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.logger import Logger

from dragonfly_vortex.events import (
    DigestMismatched,
    DownloadedTask,
    DownloadEvent,
    LayoutFound,
    OnEvent,
    ParentAdded,
    ParentDropped,
    ParentShare,
    PieceKept,
    PiecesDropped,
    Waiting,
)
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE, Parent, Standing
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["Reporter", "share_of", "summary_of"]


class Reporter:
    """
    The events of one download.

    :param on_event: called with each event.
    """

    _log = Logger()

    def __init__(self, on_event: OnEvent) -> None:
        self.is_reporting = False
        """Whether the listener is being called: it may do what cannot be done while the download runs."""
        self._on_event = on_event
        self._layout: tuple[int | None, int | None] = (None, None)
        self._asked: set[str] = set()  # the parents that have been reported as added
        self._kept: dict[int, int] = {}  # the lengths of the pieces that have been reported, by their numbers
        self._kept_bytes = 0

    def look(self, plan: Plan) -> None:
        """Report the lengths of the task and its parents, where they have changed."""
        told = plan.layout.content_length  # what follows from the pieces is looked at with each piece: it takes longer
        self._look_at_layout(plan, self._layout[0] if told is None else told)
        for address, parent in plan.parents.items():
            if parent.is_alive != (address in self._asked):
                if parent.is_alive:
                    self._asked.add(address)
                    self._report(ParentAdded(parent=address))
                else:
                    has_lied = not parent.is_honest
                    self._drop(
                        address,
                        _reason(parent),
                        has_lied=has_lied,
                        has_failed=has_lied or not parent.is_removed,
                        rests=parent.retry_at is not None,
                    )

    def _look_at_layout(self, plan: Plan, content_length: int | None) -> None:
        """Report the lengths where they have changed."""
        layout = content_length, plan.layout.piece_length
        if layout != self._layout:
            self._layout = layout
            self._report(LayoutFound(content_length=content_length, piece_length=layout[1]))

    def follow(self, plan: Plan) -> None:
        """Report on another plan from now on: the parents that it does not have are asked no more."""
        for address in sorted(self._asked - plan.parents.keys()):
            self._drop(address, f"only {', '.join(plan.parents)} is asked, to see who is right")
        self.look(plan)

    def keep(
        self,
        plan: Plan,
        metadata: PieceMetadata,
        *,
        parent: str = "",
        transport: str = "",
        seconds: float = 0.0,
        throttled: float = 0.0,
    ) -> None:
        """
        Report a piece.

        :param metadata: its row.
        :param parent: what sent it, see :class:`~dragonfly_vortex.events.PieceKept`, as for the other parameters.
        """
        content_length = plan.pieces.content_length
        self._look_at_layout(plan, content_length)
        self._kept_bytes += metadata.length - self._kept.get(metadata.number, 0)
        self._kept[metadata.number] = metadata.length
        self._report(
            PieceKept(
                number=metadata.number,
                offset=metadata.offset,
                length=metadata.length,
                digest=metadata.digest,
                parent=parent,
                transport=transport,
                seconds=seconds,
                throttled=throttled,
                kept_bytes=self._kept_bytes,
                kept_pieces=len(self._kept),
                content_length=content_length,
            )
        )

    def drop(self, numbers: Sequence[int], reason: str = "") -> None:
        """
        Report that pieces are not kept any more. Those that were not reported are left out, unless there is a reason.

        :param reason: in words.
        """
        dropped = [number for number in numbers if number in self._kept]
        self._kept_bytes -= sum(self._kept.pop(number) for number in dropped)
        if dropped or reason:
            self._report(
                PiecesDropped(
                    numbers=tuple(dropped if dropped else numbers),
                    reason=reason,
                    kept_bytes=self._kept_bytes,
                    kept_pieces=len(self._kept),
                )
            )

    def begin_anew(self, reason: str) -> None:
        """Report that the download begins anew."""
        self.drop(tuple(self._kept), reason)

    def mismatch(self, reason: str, number: int | None = None, parent: str = "") -> None:
        """Report a digest that does not fit, see :class:`~dragonfly_vortex.events.DigestMismatched`."""
        self._report(DigestMismatched(number=number, parent=parent, reason=reason))

    def wait(self, waiting: Waiting) -> None:
        """Report a wait."""
        self._report(waiting)

    def _drop(self, address: str, reason: str, **flags: bool) -> None:
        """Report a parent that is not asked any more, with what is true of it."""
        self._asked.discard(address)
        self._report(ParentDropped(parent=address, reason=reason, **flags))

    def end(self, event: DownloadEvent) -> None:
        """Report the last event. What the listener makes of it changes nothing any more."""
        try:
            self._report(event)
        except Exception:
            self._log.failure("The last event of a download could not be reported")

    def _report(self, event: DownloadEvent) -> None:
        """Report an event."""
        was_reporting, self.is_reporting = self.is_reporting, True  # what a listener does may be reported to it at once
        try:
            self._on_event(event)
        finally:
            self.is_reporting = was_reporting


def _reason(parent: Parent) -> str:
    """Why a parent is not asked any more."""
    if parent.standing is Standing.LIED:
        return parent.lie
    return "removed" if parent.is_removed else parent.failure


def share_of(parent: str, pieces: Sequence[VerifiedPiece]) -> ParentShare:
    """Count the pieces and bytes that a parent has given."""
    lengths = [piece.length for piece in pieces if piece.parent == parent]
    return ParentShare(parent=parent, piece_count=len(lengths), content_length=sum(lengths))


def summary_of(
    plan: Plan,
    parents: Sequence[str],
    *,
    seconds: float,
    left_to_hash: int,
    lies: Mapping[str, str],
    digest: str,
    from_source: Mapping[str, int],
) -> DownloadedTask:
    """
    The result of a download.

    :param plan: the one that was followed to its end.
    :param parents: all parents that were named.
    :param digest: the digest of the whole that was expected; empty for none.
    :param from_source: how many pieces were asked of the source, by the reasons.
    """
    pieces = [plan.layout.verified[number] for number in range(plan.numbers.end or 0)]
    return DownloadedTask(
        task_id=plan.task_id,
        content_length=plan.pieces.content_length or 0,
        piece_length=plan.layout.piece_length or 0,
        piece_count=len(pieces),
        seconds=seconds,
        left_to_hash=left_to_hash,
        shares=tuple(share_of(parent, pieces) for parent in parents),
        fetched_twice=plan.pieces.fetched_twice,
        found_piece_count=share_of(STORAGE, pieces).piece_count,
        lies=dict(lies),
        digest=digest,
        from_source=dict(from_source),
    )
