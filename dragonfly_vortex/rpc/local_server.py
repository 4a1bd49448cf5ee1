"""
The local door: the service ``dfdaemon.v2.DfdaemonDownload`` on a Unix socket, for programs on the same machine.

Importing this loads nothing of gRPC: starting the service does, in the event loop's thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IReactorFromThreads, IReactorTime

from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.rpc.limits import PIECES_IN_MEMORY, Budget
from dragonfly_vortex.rpc.server import DRAIN_TIMEOUT, GRPCService, RPCs
from dragonfly_vortex.rpc.unix_socket import SocketPlace

if TYPE_CHECKING:
    import grpc

    from dragonfly_vortex.rpc.event_loop import EventLoopThread
    from dragonfly_vortex.rpc.peer_tasks import PeerTasks

__all__ = ["LocalService"]


class LocalService(GRPCService):
    """
    Serves all methods of ``dfdaemon.v2.DfdaemonDownload``, and those about its health.

    :param tasks: what is done in the peer.
    :param reactor: where that is done, and Deferreds fire.
    :param place: where the socket is to be, and who may open it.
    :param metrics: where calls are counted; None: in metrics of its own.
    :param drain_timeout: see :class:`~dragonfly_vortex.rpc.server.GRPCService`.
    :param memory: bytes of the pieces that are in memory at once; further ones wait.
    """

    def __init__(
        self,
        tasks: PeerTasks,
        reactor: IReactorFromThreads,
        place: SocketPlace,
        *,
        metrics: TaskMetrics | None = None,
        drain_timeout: float = DRAIN_TIMEOUT,
        memory: int = PIECES_IN_MEMORY,
    ) -> None:
        super().__init__(reactor, "local", drain_timeout=drain_timeout)
        self._metrics = metrics or TaskMetrics(cast(IReactorTime, reactor).seconds)
        self._tasks = tasks
        self._place = place
        self._memory = memory

    def check(self) -> None:
        """
        Check that the socket can be opened. Blocks.

        :raises CannotListenError: it cannot.
        """
        try:
            self._place.check()
        except (OSError, ValueError) as error:
            raise self._cannot_listen(error) from error

    def make_rpcs(self, thread: EventLoopThread) -> RPCs:
        from dragonfly_vortex.rpc.task_servicer import LocalRPCs

        budget = Budget(self._memory, fair=True)
        return LocalRPCs(self._tasks, thread, budget=budget, metrics=self._metrics, limited_log=self.limited_log)

    def bind(self, server: grpc.aio.Server) -> IAddress:
        def listen(path: Path) -> None:
            try:
                server.add_insecure_port(f"unix:{quote(str(path))}")
            except RuntimeError as error:
                raise OSError(str(error)) from error

        try:
            self._place.bind(listen)
        except (OSError, ValueError) as error:
            raise self._cannot_listen(error) from error
        address: IAddress = UNIXAddress(str(self._place.path))
        return address

    def unbind(self) -> None:
        self._place.remove()

    def log_start(self, address: IAddress) -> None:
        self.log.info("serving the local door at {path}", path=self._place.path)

    def _cannot_listen(self, error: Exception) -> CannotListenError:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        return CannotListenError("unix", str(self._place.path), reason)
