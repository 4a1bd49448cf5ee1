"""
The local door: the service ``dfdaemon.v2.DfdaemonDownload`` on a Unix socket, for programs on the same machine; and the
socket's place in the file system, with its access rights.

gRPC's core deletes any socket at the path that it binds, and gives the new one the rights that the umask leaves. So it
binds in a directory that only this user can enter, and the socket is moved to its place with its rights set. All
methods of the place block.

Importing this loads nothing of gRPC: starting the service does, in the event loop's thread.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IReactorFromThreads, IReactorTime

from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.rpc.limits import PIECES_IN_MEMORY, Budget
from dragonfly_vortex.rpc.server import DRAIN_TIMEOUT, GRPCService, RPCs

if TYPE_CHECKING:
    import grpc

    from dragonfly_vortex.rpc.event_loop import EventLoopThread
    from dragonfly_vortex.rpc.peer_tasks import PeerTasks

__all__ = ["MAX_PATH", "LocalService", "SocketPlace"]


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


MAX_PATH = 107
"""Bytes of a path that Linux binds and connects a Unix socket by (``unix(7)``, ``sun_path``)."""


class SocketPlace:
    """
    The path of a listening socket.

    :param path: absolute.
    :param mode: the rights on the socket.
    :param group: the name or the number of its group; None: this process's.
    """

    def __init__(self, path: Path, mode: int, group: str | None = None) -> None:
        self.path = path
        self._mode = mode
        self._group = group
        self._status: os.stat_result | None = None

    def check(self) -> None:
        """
        Check that the path can be used. The directory of the socket is made if it is missing.

        :raises OSError: it cannot: ``EADDRINUSE`` where another process listens there, ``EEXIST`` where there is
            something else than a socket.
        :raises ValueError: the group is unknown, or the path is too long.
        """
        with self._directory():
            self._make_room(delete=False)

    def bind(self, listen: Callable[[Path], None]) -> None:
        """
        Have a socket listen at the path. One that is left from a dead process is replaced.

        :param listen: binds a socket to the path that it is given.
        :raises OSError: see :meth:`check`.
        :raises ValueError: see :meth:`check`.
        """
        with self._directory() as directory, tempfile.TemporaryDirectory(dir=directory, prefix=".") as hidden:
            self._make_room(delete=False)  # before there is a socket, which gRPC would not close soon
            bound = Path(hidden, "s")
            listen(bound)
            os.chmod(bound, self._mode)
            if self._group is not None:
                os.chown(bound, -1, _group_id(self._group))
            self._make_room(delete=True)
            os.rename(bound, self.path)
            self._status = os.lstat(self.path)

    def remove(self) -> None:
        """Delete the socket, unless another one is in its place by now."""
        status, self._status = self._status, None
        with suppress(OSError):
            if status is not None and os.path.samestat(status, os.lstat(self.path)):
                os.unlink(self.path)

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        """The socket's directory, locked: two processes that start at once take turns."""
        directory = self.path.parent
        if len(os.fsencode(self.path)) > MAX_PATH or len(os.fsencode(directory)) > MAX_PATH - 12:
            raise ValueError(f"expected a path of at most {MAX_PATH} bytes, got {self.path}")
        if self._group is not None:
            _group_id(self._group)
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(descriptor)

    def _make_room(self, *, delete: bool) -> None:
        """
        See what is at the path.

        :param delete: whether to delete a socket that nothing listens at.
        """
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(status.st_mode):
            raise FileExistsError(errno.EEXIST, "expected nothing or a socket there, got something else")
        if _is_alive(self.path):
            raise OSError(errno.EADDRINUSE, "another process listens there")
        if delete:
            os.unlink(self.path)


def _is_alive(path: Path) -> bool:
    """Whether a process listens at a socket. One that does not accept, and one that this user may not open, count."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog is EAGAIN then
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            pass
    return True


def _group_id(group: str) -> int:
    """
    The number of a group.

    :raises ValueError: there is no such group.
    """
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ValueError(f"expected the name or the number of a group, got {group!r}") from error
