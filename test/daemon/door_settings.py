"""What doors are built from, for tests of single doors."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime

from dragonfly_vortex.config import Config, server_tls
from dragonfly_vortex.daemon.door import DoorSettings, IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.storage.reactor.rechecks import Rechecks
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import ReadAhead

__all__ = ["door_settings"]


def door_settings(config: Config, directory: Path) -> DoorSettings:
    """Settings for a store that is not opened."""
    peer_reactor = cast(IPeerReactor, reactor)
    read_ahead = ReadAhead(peer_reactor)
    store = PieceStore(directory, peer_reactor)
    return DoorSettings(
        config=config,
        reactor=peer_reactor,
        store=store,
        limiter=UploadLimiter(10**9, peer_reactor),
        read_ahead=read_ahead,
        rechecks=Rechecks(directory, IReactorTime(reactor), read_ahead.in_thread),
        tasks=LocalTasks(config, peer_reactor, store, Downloads(config, peer_reactor, store)),
        identity=server_tls(config),
        metrics=TaskMetrics(peer_reactor.seconds),
        tally=None,
        shared=None,
        port_of=lambda transport: None,
        failed=lambda reason: None,
    )
