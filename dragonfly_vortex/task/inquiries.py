"""Asks parents which pieces they have, and passes the answers to the plan of a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.wire import PieceKind

__all__ = ["Inquiries"]


class Inquiries:
    """
    The inquiries of one download, about one task.

    :param announcers: the parents that can be asked what they have, by address. One may be added at any time.
    :param on_told: called when the plan knows what a parent has said.
    """

    def __init__(
        self, announcers: Mapping[str, IPieceAnnouncer], kind: PieceKind, task_id: str, on_told: Callable[[], None]
    ) -> None:
        self._announcers = announcers
        self._kind = kind
        self._task_id = task_id
        self._on_told = on_told
        self._stops: dict[str, Callable[[], None]] = {}

    def follow(self, plan: Plan) -> None:
        """Ask the parents of a plan, and no others from now on."""
        self.stop()
        for parent in plan.parents.values():
            if not parent.is_removed:
                self.begin(plan, parent.address)

    def begin(self, plan: Plan, parent: str) -> None:
        """Ask a parent what it has, if it can be asked that and is not being asked."""
        if parent in self._announcers and parent not in self._stops:
            plan.announcing_began(parent)
            self.repeat(plan, parent)

    def repeat(self, plan: Plan, parent: str) -> None:
        """Ask a parent once more what it has."""
        self._stops[parent] = self._announcers[parent].start(
            self._kind,
            self._task_id,
            partial(self._hear, partial(plan.learn_layout, parent)),
            partial(self._hear, partial(plan.announce, parent)),
            partial(self._hear, partial(plan.announcing_ended, parent)),
        )

    def end(self, parent: str) -> None:
        """Ask a parent no more, if it is being asked."""
        stop = self._stops.pop(parent, None)
        if stop is not None:
            stop()

    def stop(self) -> None:
        """Ask no parent any more."""
        for parent in list(self._stops):
            self.end(parent)

    def _hear(self, record: Callable[..., None], *told: int | None) -> None:
        """Pass a parent's announcement to the plan."""
        record(*told)
        self._on_told()
