"""
The pages of a peer over HTTP, as its configuration has them. Importing this does not load Twisted's web server, which a
worker has no use for: making a server does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import Door, IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport_table import TRANSPORTS
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.metrics.http import IHTTPReactor, IMetricsReactor
    from dragonfly_vortex.metrics.status_page import StatusPage

__all__ = ["health_server", "metrics_server", "start_health"]

_log = Logger()


def metrics_server(
    config: Config,
    reactor: IPeerReactor,
    doors: Mapping[str, Door],
    downloads: Downloads,
    limit: Tally,
    store: PieceStore,
    missing: Callable[[], Sequence[str]],
) -> IServer | None:
    """
    Make the server of the metrics, of this process and of its workers, and of the status page; None where there is to
    be none.

    :param config: the peer's configuration.
    :param reactor: what the peer runs on.
    :param doors: which count what they send, by the names of their transports.
    :param downloads: which count what they fetch.
    :param limit: counts how long this process's replies wait for the limit of bytes per second.
    :param store: the storage.
    :param missing: gives what the peer lacks to be ready, in words.
    """
    if not config.metrics.enable:
        return None
    from dragonfly_vortex.metrics.http import MetricsServer
    from dragonfly_vortex.metrics.peer_collector import PeerMetrics

    metrics = PeerMetrics(
        storage=config.storage.dir.absolute(),
        tallies=lambda: chain([limit], *(door.tallies for door in doors.values())),
        stored=partial(_stored, config.storage.dir.absolute()),
        connections=lambda: {name: door.connections for name, door in doors.items()},
        workers=lambda: chain.from_iterable(door.worker_pids for door in doors.values()),
        tasks=downloads.metrics,
        from_source=lambda: downloads.from_source,
    )
    place = config.metrics.server
    status = _status_page(config, reactor, doors, downloads, store, missing) if config.metrics.status.enable else None
    return IServer(
        MetricsServer(cast("IMetricsReactor", reactor), metrics.families, ip=place.ip, port=place.port, status=status)
    )


def _status_page(
    config: Config,
    reactor: IPeerReactor,
    doors: Mapping[str, Door],
    downloads: Downloads,
    store: PieceStore,
    missing: Callable[[], Sequence[str]],
) -> StatusPage:
    """The page for browsers; see :func:`metrics_server`."""
    from dragonfly_vortex.daemon.status import PeerStatus, ServingView
    from dragonfly_vortex.metrics.status_page import Audience, StatusPage

    def serving() -> list[ServingView]:
        return [
            ServingView(
                label=transport.label,
                address=door.address,
                tallies=door.tallies,
                workers=len(door.worker_pids),
            )
            for transport in TRANSPORTS
            if (door := doors.get(transport.name)) is not None
        ]

    clock = IReactorTime(reactor)
    status = PeerStatus(clock, config.host.hostname, store, downloads.transfers, serving, missing)
    page = config.metrics.status
    audience = Audience(allow_remote=page.allow_remote, hosts=frozenset({config.host.hostname, *page.hosts}))
    return StatusPage(clock, status, audience)


def _stored(directory: Path) -> dict[PieceKind, tuple[int, int]]:
    """What a storage has. Blocks. Nothing where it cannot be read: the other metrics stay."""
    try:
        with Catalog(directory, Access.READ) as catalog:
            return catalog.sums()
    except StorageError:
        return {}


def health_server(config: Config, reactor: IPeerReactor, missing: Callable[[], Sequence[str]]) -> IServer | None:
    """
    Make the server of the pages for probes; None where there are to be none.

    :param config: the peer's configuration.
    :param reactor: what the peer runs on.
    :param missing: gives what the peer lacks to be ready, in words.
    """
    place = config.health.server
    if not config.health.has_pages or place.port is None:
        return None
    from dragonfly_vortex.metrics.http import HealthServer

    return IServer(HealthServer(cast("IHTTPReactor", reactor), missing, ip=place.ip, port=place.port))


def start_health(health: IServer | None, *, can_do_without: bool) -> IServer | None:
    """
    Serve the pages for probes, if there are to be any.

    :param can_do_without: whether the peer does without where the port is taken.
    :returns: the same server; None where they are not served.
    :raises CannotListenError: the port cannot be had, and is needed.
    """
    try:
        if health is not None:
            health.start()
    except CannotListenError as error:
        if not can_do_without or error.socketError.errno != errno.EADDRINUSE:
            raise
        # Another peer of this machine, ours or the reference's, has the port by default, too.
        _log.warn(
            "no pages for probes: port {port} cannot be listened on ({error}); health.server.port names another",
            port=error.port,
            error=error.socketError.strerror or str(error.socketError),
        )
        return None
    return health
