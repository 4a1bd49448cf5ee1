"""The state of parents and the connections to them, which all downloads of a running peer share."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.downloaders.factory import negotiate
from dragonfly_vortex.transport.endpoints import Dial

__all__ = ["SharedParents"]

_MOST_PARENTS = 1000
"""Parents that are remembered before all is forgotten that is known of them."""


class SharedParents:
    """
    What all downloads share. As a context manager it is in use inside the block.

    :param config: the peer's configuration.
    :param reactor: connects, resolves names, and is the clock.
    :param dial: makes the endpoints for parents' addresses; None for the usual ones.
    :raises CertificateUnusable: a file for TLS cannot be used.
    """

    def __init__(self, config: Config, reactor: IPeerReactor, dial: Dial | None = None) -> None:
        self.config = config
        download = config.download
        self.negotiation = negotiate(
            download.protocol, config, download.parents, reactor=reactor, has_source=True, dial=dial
        )
        self._users = 0
        self._is_retired = False
        self._stopped: Deferred[None] = Deferred()

    @property
    def is_full(self) -> bool:
        """Whether so many parents are remembered that it is to be replaced."""
        return len(self.negotiation.announcers) > _MOST_PARENTS

    def __enter__(self) -> SharedParents:
        self._users += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._users -= 1
        self._stop_if_unused()

    def retire(self) -> Deferred[None]:
        """Close all connections when the last download is over that uses them. Fires then; called once."""
        self._is_retired = True
        self._stop_if_unused()
        return self._stopped

    def _stop_if_unused(self) -> None:
        if self._is_retired and not self._users:
            self.negotiation.downloader.stop().chainDeferred(self._stopped)
