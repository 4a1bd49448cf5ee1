"""
The parents of a download that a scheduler offers. An offer changes the parents of the download, and the progress of the
download is reported to the scheduler.

A scheduler offers no parent that has, directly or through others, this peer as its parent (``scheduling.go``). So those
that begin first would get all pieces from the first owner alone. Therefore a child that asks for the same task is asked
in turn, at the address that the scheduler has for its host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.address import LEAST_PORT, ParentAddress, plain_ip
from dragonfly_vortex.cluster.requests import CandidateParent, FinishedPiece, TaskAnnouncement
from dragonfly_vortex.config import Config, client_tls
from dragonfly_vortex.downloaders.factory import Negotiation
from dragonfly_vortex.errors import SourceError, WrongTransport
from dragonfly_vortex.events import DownloadEvent, ParentDropped, PieceKept, Waiting
from dragonfly_vortex.geometry import piece_length_for
from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.model import TaskRequest
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.transport_table import GRPC
from dragonfly_vortex.wire.messages import printable

if TYPE_CHECKING:
    from dragonfly_vortex.cluster.membership import Membership

__all__ = ["ScheduledParents", "register"]

_SMALL = 4 * 1024 * 1024
"""Bytes of a task up to which the source is asked without a scheduler, as by the reference (``task.rs``)."""

_MOST_CHILDREN = 16
"""Children of one download that are asked in turn, as many as a scheduler offers parents at the most by itself."""


async def register(
    membership: Membership, config: Config, negotiation: Negotiation, request: TaskRequest, source: str
) -> ScheduledParents | None:
    """
    Have schedulers offer parents for a download.

    :param membership: registers it.
    :param config: the peer's configuration.
    :param negotiation: prepares to speak to parents.
    :param source: the address of the source, which says how long the task is; empty for none.
    :returns: None for a very small task of a source: no scheduler is asked.
    """
    content_length = piece_length = None
    if source:
        with suppress(SourceError):  # a request for a piece shows why
            content_length = (await negotiation.stat_source(source, request.task_id)).content_length
    if content_length is not None:
        if content_length <= _SMALL and not request.must_ask_scheduler:
            return None
        wanted = request.origin.piece_length if request.origin is not None else None
        piece_length = wanted or piece_length_for(content_length)
    announcement = TaskAnnouncement(
        kind=request.kind,
        task_id=request.task_id,
        origin=request.origin,
        content_length=content_length,
        piece_length=piece_length,
        digest=request.digest or "",
        headers=tuple(request.headers.items()),
        priority=request.priority,
        need_back_to_source=request.must_ask_source,
        concurrent_piece_count=config.download.concurrent_piece_count,
        is_replica=request.is_pinned,
    )
    scheme = GRPC.schemes[client_tls(config).authority is not None]
    return ScheduledParents(membership, announcement, negotiation, scheme=scheme, source=source)


class ScheduledParents:
    """
    The parents of one download.

    :param membership: registers the download.
    :param request: the task, as it is announced to schedulers.
    :param negotiation: prepares to speak to parents.
    :param scheme: of the parents' addresses.
    :param source: the address of the source among the parents of the download; empty for none.
    """

    _log = Logger()

    def __init__(
        self, membership: Membership, request: TaskAnnouncement, negotiation: Negotiation, *, scheme: str, source: str
    ) -> None:
        self.addresses: tuple[str, ...] = ()
        """The parents that are offered now."""
        self.reason = ""
        """Why there are none."""
        self.announcer: Callable[[str], IPieceAnnouncer | None] = negotiation.announcers.get
        """Gives the announcer of a parent."""
        self._negotiation = negotiation
        self._scheme = scheme
        self._source = source
        self._places: dict[str, tuple[str, int]] = {}  # IP address and port of each parent that was ever offered
        self._download: TaskDownload | None = None
        self._has_complained = False  # since the last offer
        self._is_over = False
        self._answered: Deferred[None] | None = None
        self._itself = membership.address
        self._membership = membership
        self._task_id = request.task_id
        self._hosts: set[str] = set()  # of the children that have asked
        self._children: list[str] = []  # the addresses of those that are asked in turn
        self._registration = membership.register(request, self._offered, self._nothing_offered)

    def answer(self) -> Deferred[None]:
        """Wait for the first answer. To be called once."""
        if self.addresses or self.reason:
            return succeed(None)
        self._answered = Deferred()
        return self._answered

    def follow(self, download: TaskDownload) -> None:
        """Change the parents of a download from now on."""
        self._download = download
        for address in self._children:
            self._ask_in_turn(download, address)

    def meet(self, host_id: str) -> None:
        """
        Ask a child in turn, which asks for pieces of the same task. One that no scheduler knows is not asked.

        :param host_id: the ID of its host, as the child says.
        """
        if self._is_over or host_id in self._hosts or len(self._hosts) >= _MOST_CHILDREN:
            return
        self._hosts.add(host_id)

        def failed(failure: Failure) -> None:
            self._hosts.discard(host_id)
            text = "the child on host {host_id} is not asked in turn: {reason}"
            self._log.info(text, host_id=printable(host_id), reason=printable(failure.getErrorMessage()))

        self._membership.find_host(self._task_id, host_id).addCallback(self._found, host_id).addErrback(failed)

    def _found(self, place: tuple[str, int] | None, host_id: str) -> None:
        """Ask a child for pieces in turn, if a scheduler knows its host."""
        if place is None:
            self._hosts.discard(host_id)  # invented, or announced a moment later
        address = "" if place is None or self._is_over else self._prepare(*place)
        if not address or address in self.addresses or address in self._children:
            return
        self._children.append(address)
        if self._download is not None:
            self._ask_in_turn(self._download, address)

    def _ask_in_turn(self, download: TaskDownload, address: str) -> None:
        """Ask a child for what it announces. The source does not wait for that."""
        download.add_parent(address, self.announcer(address), is_awaited=False)

    def on_event(self, event: DownloadEvent) -> None:
        """Report an event of the download to the scheduler, as far as it concerns that."""
        match event:
            case PieceKept(parent=parent) if parent:
                self._registration.report_piece(
                    FinishedPiece(
                        number=event.number,
                        offset=event.offset,
                        length=event.length,
                        digest=event.digest,
                        cost=max(0.0, event.seconds - event.throttled),
                        created_at=time.time(),
                        parent_id=self._peer_id_of(parent),
                        is_from_source=parent == self._source,
                    )
                )
            case ParentDropped(has_failed=True):
                self._registration.report_failure(self._peer_id_of(event.parent))
            case Waiting() if self.addresses and not self._has_complained:
                self._has_complained = True  # once for each offer
                self._registration.reschedule(event.text)

    def _peer_id_of(self, parent: str) -> str:
        """The ID by which the scheduler knows a parent; empty for one that it did not offer."""
        place = self._places.get(parent)
        return "" if place is None else self._registration.peer_id_at(*place)

    def finish(self) -> None:
        """Report that all of the task is in the storage."""
        self._end()
        self._registration.finish()

    def fail(self, reason: str) -> None:
        """
        Report that the download has failed, or was given up.

        :param reason: in words.
        """
        self._end()
        self._registration.fail(reason)

    def _end(self) -> None:
        """Record the end of the download."""
        self._download = None
        self._is_over = True

    def _offered(self, candidates: tuple[CandidateParent, ...]) -> None:
        """Replace the parents of the download by those that a scheduler offers."""
        prepared = (self._prepare(each.ip, each.port) for each in candidates)
        before, self.addresses = self.addresses, tuple(dict.fromkeys(filter(None, prepared)))
        self._has_complained = False
        if not self.addresses:
            self.reason = "the scheduler offers no parent that can be asked"
        if self._download is not None:
            for address in self.addresses:
                self._download.add_parent(address, self.announcer(address))
            for address in before:  # later: a download without any parent fails
                if address not in self.addresses and address not in self._children:
                    self._download.remove_parent(address)
        self._tell_answer()

    def _prepare(self, ip: str, port: int) -> str:
        """The address of a parent that can be asked; empty for one that cannot."""
        try:
            parent = ParentAddress(scheme=self._scheme, host=str(plain_ip(ip)), port=port)
            if not LEAST_PORT <= port <= 65535:
                raise ValueError(f"expected a port from {LEAST_PORT} to 65535, got {port}")
            if (parent.host, parent.port) == self._itself:
                raise ValueError("expected another peer, got this one")
            self._negotiation.add(parent)
        except (ValueError, WrongTransport) as error:
            self._log.warn("a scheduler's parent is not asked: {error}", error=printable(str(error)))
            return ""
        self._places[str(parent)] = (ip, port)
        return str(parent)

    def _nothing_offered(self, reason: str) -> None:
        """Record why no scheduler offers a parent."""
        self.reason = reason
        self._tell_answer()

    def _tell_answer(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.callback(None)
