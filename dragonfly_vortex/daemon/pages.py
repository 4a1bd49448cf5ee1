"""
The pages of a peer over HTTP, as its configuration has them. Importing this does not load Twisted's web server, which a
worker has no use for: making a server does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import Door, IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.interfaces import IServer

if TYPE_CHECKING:
    from dragonfly_vortex.metrics.http import IHTTPReactor, IMetricsReactor

__all__ = ["health_server", "metrics_server"]


def metrics_server(
    config: Config, reactor: IPeerReactor, doors: Sequence[Door], downloads: Downloads
) -> IServer | None:
    """
    Make the server of the page of metrics, of this process and of its workers; None where there is to be none.

    :param config: the peer's configuration.
    :param reactor: what the peer runs on.
    :param doors: which count what they send.
    :param downloads: which count what they fetch.
    """
    if not config.metrics.enable:
        return None
    from dragonfly_vortex.metrics.http import MetricsServer
    from dragonfly_vortex.metrics.peer_collector import PeerMetrics

    metrics = PeerMetrics(
        storage=config.storage.dir.absolute(),
        tallies=lambda: chain.from_iterable(door.tallies for door in doors),
        workers=lambda: chain.from_iterable(door.worker_pids for door in doors),
        tasks=downloads.metrics,
        from_source=lambda: downloads.from_source,
    )
    place = config.metrics.server
    return IServer(MetricsServer(cast("IMetricsReactor", reactor), metrics.families, ip=place.ip, port=place.port))


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
    from dragonfly_vortex.metrics.health import HealthServer

    return IServer(HealthServer(cast("IHTTPReactor", reactor), missing, ip=place.ip, port=place.port))
