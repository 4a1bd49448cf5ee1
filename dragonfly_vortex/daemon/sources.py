"""
What the downloads of a running peer may ask of sources, a source that is asked what it has before a download, and
objects that are made in an object storage.

A seed connects for strangers to no source that only this machine, or its network, can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.shared_download import SharedParents
from dragonfly_vortex.errors import NoSourceKnown, PoolClosed
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import BackToSource, Credentials, ListedFile, Origin, SourceStat, TaskRequest
from dragonfly_vortex.source.location import is_directory
from dragonfly_vortex.source.policy import SourcePolicy
from dragonfly_vortex.transport_table import is_url

if TYPE_CHECKING:  # a peer without sources does not load treq
    from dragonfly_vortex.source.upload import FileBody

__all__ = ["Sources"]

_T = TypeVar("_T")

_NEVER = "this peer asks no source (download.back_to_source)"


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
        self._asking: set[Deferred[Any]] = set()
        self._is_stopped = False

    def ask(self, request: TaskRequest) -> Deferred[SourceStat]:
        """
        Ask a source what it has.

        :param request: its origin is asked for. Its ID is not used.
        :returns: fails with :class:`~dragonfly_vortex.errors.InvalidOrigin` where it has no URL of a source, with
            :class:`~dragonfly_vortex.errors.NoSourceKnown` where sources are never asked, and with a
            :class:`~dragonfly_vortex.errors.SourceError` where the source does not answer well.
        """
        return self._track(self._ask(request))

    def list_files(self, request: TaskRequest) -> Deferred[list[ListedFile]]:
        """
        Ask a hub of models for the files of a repository, or of a directory there.

        :param request: see :meth:`ask`.
        :returns: fails as :meth:`ask` does, and with :class:`~dragonfly_vortex.errors.NoSourceKnown` for any other
            source: none is listed.
        """
        return self._track(self._list(request))

    def has_object(self, origin: Origin, credentials: Credentials) -> Deferred[bool]:
        """
        Ask an object storage whether an object is there.

        :returns: fails with :class:`~dragonfly_vortex.errors.InvalidOrigin` where the origin is no object, and with a
            :class:`~dragonfly_vortex.errors.SourceError` where the storage does not say.
        """

        async def ask() -> bool:
            with self._known_parents() as parents:
                return await parents.negotiation.upload(origin, credentials, self._metrics).exists()

        return self._track(ask())

    def put_object(self, origin: Origin, credentials: Credentials, body: FileBody) -> Deferred[None]:
        """
        Make an object.

        :param body: its content.
        :returns: fails as :meth:`has_object` does.
        """

        async def put() -> None:
            with self._known_parents() as parents:
                await parents.negotiation.upload(origin, credentials, self._metrics).put(body)

        return self._track(put())

    def _track(self, question: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
        """Ask a question, until the peer is stopped."""
        if self._is_stopped:
            question.close()
            return fail(PoolClosed("expected a running peer, got one that is stopped"))
        asking = Deferred.fromCoroutine(question)
        self._asking.add(asking)

        def ended(result: _T | Failure) -> _T | Failure:
            self._asking.discard(asking)
            return result

        return asking.addBoth(ended)

    async def _list(self, request: TaskRequest) -> list[ListedFile]:
        origin = request.origin
        if origin is None or not is_directory(origin.url):
            raise NoSourceKnown("expected a directory of a hub of models (hf), got another one: none is listed")
        with self._known_parents() as parents:
            if parents.config.download.back_to_source is BackToSource.NEVER:
                raise NoSourceKnown(_NEVER)
            return await parents.negotiation.list_source(
                origin,
                tuple(request.headers.items()),
                credentials=request.credentials,
                may_connect=self._policy.allows if request.is_foreign else None,
                metrics=self._metrics,
            )

    async def _ask(self, request: TaskRequest) -> SourceStat:
        name = str(uuid4())  # no task has it
        with self._known_parents() as parents:
            source = self.add(parents, replace(request, task_id=name))
            if not source:
                raise NoSourceKnown(_NEVER)
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
            credentials=request.credentials,
            may_connect=self._policy.allows if request.is_foreign else None,
            metrics=self._metrics,
        )

    def stop(self) -> None:
        """Cancel all requests; a later one fails."""
        self._is_stopped = True
        for asking in list(self._asking):
            asking.cancel()
