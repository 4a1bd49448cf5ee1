"""
The parents of a download in the exchange of peers (:mod:`dragonfly_vortex.peer_exchange`): the peers that its parents
name, and those that ask this peer for the same task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config, server_tls
from dragonfly_vortex.downloaders.factory import Negotiation
from dragonfly_vortex.errors import WrongTransport
from dragonfly_vortex.interfaces import InThread, IPieceAnnouncer
from dragonfly_vortex.model import TaskRequest
from dragonfly_vortex.peer_exchange import MOST_MET, PeerExchange, askers_file
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.parents_file import ParentsFile
from dragonfly_vortex.wire.messages import printable

__all__ = ["ExchangedParents"]


class ExchangedParents:
    """
    The exchange of one download.

    :param config: the peer's configuration.
    :param request: the task.
    :param negotiation: prepares to speak to parents.
    :param port: of this peer's gRPC door; None where there is none.
    :param clock: for the looks at the list of those that ask this peer.
    :param in_thread: reads that list.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        config: Config,
        request: TaskRequest,
        negotiation: Negotiation,
        port: int | None,
        clock: IReactorTime,
        in_thread: InThread,
    ) -> None:
        self._negotiation = negotiation
        self._download: TaskDownload | None = None
        self._met: set[str] = set()
        self._exchange = PeerExchange(
            port=port or 0,
            is_secure=server_tls(config) is not None,
            follow=config.download.follow_announced_addresses,
            on_peers=self._meet,
        )
        askers = askers_file(config.storage.dir, request.kind, request.task_id)
        self._askers = ParentsFile(askers, clock, in_thread, self._meet, lambda line: None)

    def announcer(self, parent: str) -> IPieceAnnouncer | None:
        """The announcer of a parent, which takes part in the exchange; None where the parent has none."""
        return self._negotiation.announcer(parent, self._exchange)

    def follow(self, download: TaskDownload, parents: Iterable[str]) -> None:
        """
        Add parents to a download from now on.

        :param parents: those that it has.
        """
        self._download = download
        self._met.update(parents)
        self._askers.start()

    def end(self) -> None:
        """Add no more parents: the download is over."""
        self._download = None
        self._askers.stop()

    def _meet(self, peers: Iterable[ParentAddress]) -> None:
        """Ask these peers, too. The source does not wait for what they may announce."""
        for peer in peers:
            address = str(peer)
            if self._download is None or address in self._met or len(self._met) >= MOST_MET:
                continue
            self._met.add(address)
            try:
                self._negotiation.add(peer)
            except WrongTransport as error:
                self._log.info("a peer that another one names is not asked: {error}", error=printable(str(error)))
            else:
                self._download.add_parent(address, self.announcer(address), is_awaited=False)
