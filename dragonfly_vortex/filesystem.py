"""
The file system ``dragonfly://`` of fsspec: pandas, pyarrow and others read a task of a swarm as a file, and only the
pieces that they read are fetched.

A path is the ID of a task, or the URL of its source: ``dragonfly://TASK_ID``, ``dragonfly://https://HOST/FILE``. fsspec
is synchronous; the peer runs on Twisted's reactor in a thread of its own, or where the program runs the reactor.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from dragonfly_vortex.cluster import is_configured
from dragonfly_vortex.daemon.peer import VortexPeer
from dragonfly_vortex.daemon.task_handle import Download
from dragonfly_vortex.events import (
    DownloadEvent,
    DownloadFailed,
    LayoutFound,
    ParentAdded,
    ParentDropped,
    PieceKept,
    Waiting,
    WaitReason,
)
from dragonfly_vortex.transport_table import is_url

if TYPE_CHECKING:
    from dragonfly_vortex.daemon.door import IPeerReactor

__all__ = ["DragonflyFileSystem"]

_T = TypeVar("_T")

_STOP_TIMEOUT = 10.0
"""Seconds that the end of a program waits for the peer and the reactor."""

_MOST_DOWNLOADS = 32
"""Downloads that are kept for further reads at most. One of which a part is missing takes one of the places that
``download.concurrent_task_count`` has, and does not end by itself."""

_starting = threading.Lock()


class DragonflyFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """
    Reads tasks through a peer.

    :param parents: the addresses of parents, ``grpc://HOST:4000`` for ones that announce their pieces: then only what
        is read is fetched.
    :param storage: the directory where the pieces stay, for other reads and programs; None for one that is deleted at
        the end of the program.
    :param retry: seconds for which parents that cannot be reached are asked again for a task of which nothing is known
        yet. A task that all parents lack does not exist: that is not waited for, unless schedulers or the exchange of
        peers may name others.
    :param options: further keywords of :class:`~dragonfly_vortex.daemon.peer.VortexPeer`.
    """

    protocol = "dragonfly"
    root_marker = ""

    def __init__(
        self,
        parents: Sequence[str] = (),
        storage: str | None = None,
        storage_options: Any = None,
        retry: float = 5.0,
        **options: Any,
    ) -> None:
        own = {name: options.pop(name) for name in ("config", "listen", "schedulers", "dial") if name in options}
        super().__init__(**options)
        self._parents = tuple(parents)
        self._storage = storage
        self._retry = retry
        self._options = own
        self._peer: VortexPeer | None = None
        self._downloads: dict[str, Download] = {}  # by path, the one that was read last is the last; the reactor's
        self._absent: dict[str, str] = {}  # why there is no such task, by path, while it is read; the reactor's
        self._reads: Counter[str] = Counter()  # that are under way, by path; the reactor's
        self._lock = threading.Lock()

    # -- what fsspec calls

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return str(path).removeprefix("dragonfly://")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """
        Return what is known of a task: ``name``, ``size`` in bytes, ``type``.

        :raises FileNotFoundError: it cannot be had.
        """
        path = self._strip_protocol(path)
        return {"name": path, "size": self._call(path, lambda download: download.size()), "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """A task as the only entry of its own path: a swarm cannot be listed."""
        info = self.info(path)
        return [info if detail else info["name"]]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes of a task, from ``start`` to before ``end``; negative ones count from its end."""
        path = self._strip_protocol(path)
        size = self.info(path)["size"] if end is None or end < 0 or (start or 0) < 0 else None
        first = max(0, (start or 0) + (size if size is not None and (start or 0) < 0 else 0))
        last = size if end is None else end + size if size is not None and end < 0 else end
        return self.read_range(path, first, max(0, cast(int, last) - first))

    def _open(self, path: str, mode: str = "rb", cache_type: str = "none", **options: Any) -> _TaskFile:
        if mode != "rb":
            raise NotImplementedError(f"expected mode rb, got {mode}: a task cannot be written")
        options.pop("block_size", None)
        options.pop("autocommit", None)
        # Not fsspec's usual cache, which reads 5 MiB for ten bytes: what has been read is in the storage.
        return _TaskFile(self, self._strip_protocol(path), mode, cache_type=cache_type, size=None, **options)

    def created(self, path: str) -> Any:
        """Raise an error, because the creation time of a task is not known."""
        raise NotImplementedError

    modified = created

    # -- the peer

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """
        Read bytes of a task.

        :param path: without the protocol.
        :param offset: the first byte.
        :param length: how many; those behind the end are left out.
        :raises FileNotFoundError: they cannot be had.
        """
        return self._call(path, lambda download: download.read(offset, length))

    def stop(self) -> None:
        """End the peer; a later read begins with a new one. At the end of a program it is called."""
        with self._lock:
            peer, self._peer = self._peer, None
        if peer is not None and _is_running(peer.reactor):  # at a reactor's end the storage has been closed
            _wait_for(peer.reactor, partial(self._stop_peer, peer))

    def _stop_peer(self, peer: VortexPeer) -> Deferred[None]:
        self._downloads.clear()
        return peer.stopService()

    def _call(self, path: str, ask: Callable[[Download], Deferred[_T]]) -> _T:
        """Ask something of a download in the reactor's thread, and wait for it."""
        reactor = _running_reactor()
        with self._lock:
            if self._peer is None:
                self._peer = self._make_peer(reactor)
            peer = self._peer
        try:
            return _wait_for(reactor, lambda: self._read(peer, path, ask))
        except Exception as error:
            raise FileNotFoundError(f"dragonfly://{path}: {error}") from error

    def _read(self, peer: VortexPeer, path: str, ask: Callable[[Download], Deferred[_T]]) -> Deferred[_T]:
        """Ask something of the download of a path. In the reactor's thread."""
        download = self._download(peer, path)
        self._reads[path] += 1
        self._close_unread(peer)

        def ended(result: _T | Failure) -> _T | Failure:
            absent = self._absent.get(path)
            self._reads[path] -= 1
            if not self._reads[path]:
                del self._reads[path]
                self._absent.pop(path, None)
            if isinstance(result, Failure) and self._downloads.get(path) is download:
                del self._downloads[path]  # the next read begins another one
                download.close()
            self._close_unread(peer)
            if absent is not None and isinstance(result, Failure) and result.check(CancelledError):
                return Failure(FileNotFoundError(absent))
            return result

        return maybeDeferred(ask, download).addBoth(ended)

    def _close_unread(self, peer: VortexPeer) -> None:
        """Close the downloads that are too many, those that were not read for longest first."""
        too_many = len(self._downloads) - min(_MOST_DOWNLOADS, peer.config.download.concurrent_task_count)
        unread = [path for path in self._downloads if path not in self._reads]
        for path in unread[: max(0, too_many)]:
            self._downloads.pop(path).close()

    def _make_peer(self, reactor: IPeerReactor) -> VortexPeer:
        """Start a peer, whose end is at that of the program."""
        storage = self._storage
        if storage is None:
            storage = tempfile.mkdtemp(prefix="dragonfly-")
            atexit.register(shutil.rmtree, storage, ignore_errors=True)
        peer = VortexPeer(reactor, storage=storage, parents=self._parents, **self._options)
        _wait_for(reactor, lambda: maybeDeferred(peer.startService))
        atexit.register(self.stop)
        return peer

    def _download(self, peer: VortexPeer, path: str) -> Download:
        """The download of a path, which is begun at the first read. In the reactor's thread."""
        download = self._downloads.pop(path, None)
        if download is None:
            download = peer.download(url=path, whole=False) if is_url(path) else peer.download(path, whole=False)
            download.done.addErrback(lambda failure: None)  # each read fails with it
            Deferred.fromCoroutine(self._watch(peer, path, download))
        self._downloads[path] = download
        return download

    async def _watch(self, peer: VortexPeer, path: str, download: Download) -> None:
        """
        End a download as soon as it is known that there is no such task. By itself it would ask for half a minute, as
        the task may still be imported, and the parents may be starting.
        """
        clock = IReactorTime(peer.reactor)
        said: dict[str, str] = {}  # by parent; empty for one that has not answered yet
        lacking: set[str] = set()

        def look() -> bool:
            """End the download where nothing can be had, and nothing is waited for any more; return whether it was."""
            others_come = is_configured(peer.config) or peer.config.discovery.peer_exchange
            may_come = lacking != said.keys() or others_come
            if not said or not all(said.values()) or (waiting.active() and may_come):
                return False
            if self._reads[path]:
                self._absent[path] = "; ".join(said.values())
            download.close()
            return True

        waiting = clock.callLater(self._retry, look)
        try:
            async with aclosing(aiter(download)) as events:  # closed, so that no later events are kept for it
                async for event in events:
                    if isinstance(event, (LayoutFound, PieceKept, DownloadFailed)):
                        return
                    _note(event, said, lacking)
                    if look():
                        return
        finally:
            if waiting.active():
                waiting.cancel()


def _note(event: DownloadEvent, said: dict[str, str], lacking: set[str]) -> None:
    """Note what an event says of a parent: why nothing can be had from it, and whether it lacks the task."""
    if isinstance(event, ParentAdded):
        said.setdefault(event.parent, "")
    elif isinstance(event, ParentDropped):
        said[event.parent] = f"parent {event.parent}: {event.reason}"
        lacking.discard(event.parent)
    elif isinstance(event, Waiting) and event.reason is WaitReason.PARENT_WITHOUT_TASK:
        said[event.parent] = f"parent {event.parent} does not have the task"
        lacking.add(event.parent)


class _TaskFile(AbstractBufferedFile):  # type: ignore[misc] # fsspec has no types
    """A task that is open for reading."""

    fs: DragonflyFileSystem

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.read_range(self.path, start, end - start)


def _wait_for(reactor: IPeerReactor, work: Callable[[], Deferred[_T]]) -> _T:
    """Have something done in the reactor's thread, and wait for it in this one."""
    blocking_call: Any = blockingCallFromThread  # its type knows no function that gives a Deferred
    return cast(_T, blocking_call(reactor, work))


def _is_running(reactor: IPeerReactor) -> bool:
    return bool(reactor.running)


def _running_reactor() -> IPeerReactor:
    """
    Twisted's reactor, which runs: in a thread that is started here, unless the program runs it.

    :raises RuntimeError: this is the reactor's thread, which must not wait.
    """
    from twisted.internet import reactor
    from twisted.python.threadable import isInIOThread

    from dragonfly_vortex.clock import use_monotonic_clock

    running = cast("IPeerReactor", reactor)
    with _starting:
        if not _is_running(running):
            use_monotonic_clock(running)
            started = threading.Event()
            running.callWhenRunning(started.set)
            thread = threading.Thread(
                target=running.run, kwargs={"installSignalHandlers": False}, name="dragonfly", daemon=True
            )
            thread.start()
            started.wait()
            atexit.register(_stop_reactor, running, thread)
        elif isInIOThread():
            raise RuntimeError("expected another thread than the reactor's: reading waits (deferToThread)")
    return running


def _stop_reactor(reactor: IPeerReactor, thread: threading.Thread) -> None:
    """End the reactor that was started here."""
    reactor.callFromThread(reactor.stop)
    thread.join(_STOP_TIMEOUT)
