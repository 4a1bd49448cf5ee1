"""What the downloads of a running peer may ask of sources, and a source that is asked what it has before a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import uuid4

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.shared_parents import SharedParents
from dragonfly_vortex.errors import NoSourceKnown, PoolClosed
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import BackToSource, Origin, SourceStat, TaskRequest
from dragonfly_vortex.source.location import is_url
from dragonfly_vortex.source.policy import SourcePolicy
from dragonfly_vortex.wire import PieceKind

__all__ = ["Sources"]


class Sources:
    """
    The sources of a running peer's tasks.

    :param config: says which sources strangers may have this peer ask.
    :param known_parents: what is known of parents, for the next question.
    :param metrics: counts what is asked.
    """

    def __init__(self, config: Config, known_parents: Callable[[], SharedParents], metrics: TaskMetrics) -> None:
        self._policy = SourcePolicy(config.seed_peer.sources)
        self._known_parents = known_parents
        self._metrics = metrics
        self._asking: set[Deferred[SourceStat]] = set()
        self._is_stopped = False

    def ask(self, origin: Origin, headers: Mapping[str, str], *, is_foreign: bool) -> Deferred[SourceStat]:
        """
        Ask a source what it has.

        :param origin: its URL is asked for.
        :param headers: what is sent along.
        :param is_foreign: see :class:`~dragonfly_vortex.model.TaskRequest`.
        :returns: fails with :class:`~dragonfly_vortex.errors.InvalidOrigin` where it has no URL of a source, with
            :class:`~dragonfly_vortex.errors.NoSourceKnown` where sources are never asked, and with a
            :class:`~dragonfly_vortex.errors.SourceError` where the source does not answer well.
        """
        if self._is_stopped:
            return fail(PoolClosed("expected a running peer, got one that is stopped"))
        asking = Deferred.fromCoroutine(self._ask(origin, headers, is_foreign=is_foreign))
        self._asking.add(asking)

        def ended(result: SourceStat | Failure) -> SourceStat | Failure:
            self._asking.discard(asking)
            return result

        return asking.addBoth(ended)

    async def _ask(self, origin: Origin, headers: Mapping[str, str], *, is_foreign: bool) -> SourceStat:
        name = str(uuid4())  # no task has it
        request = TaskRequest(
            kind=PieceKind.STANDARD, task_id=name, origin=origin, headers=headers, is_foreign=is_foreign
        )
        with self._known_parents() as parents:
            source = self.add(parents, request)
            if not source:
                raise NoSourceKnown("this peer asks no source (download.back_to_source)")
            try:
                return await parents.negotiation.stat_source(source, name)
            finally:
                parents.negotiation.remove_source(source, name)

    def add(self, parents: SharedParents, request: TaskRequest) -> str:
        """Make the source of a task known. Returns its address; empty where none may be asked."""
        origin = request.origin
        if origin is None or not request.may_ask_source or not is_url(origin.url):
            return ""
        if parents.config.download.back_to_source is BackToSource.NEVER:
            return ""
        return parents.negotiation.add_source(
            origin,
            request.task_id,
            tuple(request.headers.items()),
            token=request.token,
            may_connect=self._policy.allows if request.is_foreign else None,
            metrics=self._metrics,
        )

    def stop(self) -> None:
        """Give up all questions; another one fails."""
        self._is_stopped = True
        for asking in list(self._asking):
            asking.cancel()
