"""The local door: a Unix socket for programs on the same machine. Importing this loads nothing of gRPC."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress

from dragonfly_vortex.config import DownloadServerConfig
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.rpc.local_server import LocalService, SocketPlace

__all__ = ["LocalDoor"]


class LocalDoor:
    """
    Unlike the doors of the transports, it offers no pieces to children.

    :param server: where the socket is, and who may open it.
    :param path: of the socket.
    :param tasks: what is done in the peer.
    :param reactor: what the peer runs on.
    :param metrics: where calls are counted; None: in metrics of its own.
    """

    def __init__(
        self,
        server: DownloadServerConfig,
        path: Path,
        tasks: LocalTasks,
        reactor: IPeerReactor,
        metrics: TaskMetrics | None = None,
    ) -> None:
        place = SocketPlace(path, server.socket_mode, server.socket_group)
        self._service = LocalService(tasks, reactor, place, metrics=metrics)

    @property
    def address(self) -> IAddress | None:
        """Where it listens, None while it does not."""
        return self._service.address

    def open(self) -> None:
        """See :meth:`dragonfly_vortex.daemon.door.Door.open`."""
        self._service.check()

    def start(self) -> Deferred[None]:
        """See :meth:`dragonfly_vortex.daemon.door.Door.start`."""
        return self._service.startService().addCallback(lambda _: None)

    def stop(self, timeout: float) -> Deferred[None]:
        """See :meth:`dragonfly_vortex.daemon.door.Door.stop`."""
        return self._service.stop(timeout)
