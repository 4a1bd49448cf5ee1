"""
A whole peer for a program: :class:`VortexPeer` is the daemon's service, with keywords for what programs want, and with
downloads that a program can follow and read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config, default_config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.daemon.task_handle import Download
from dragonfly_vortex.errors import PoolClosed, UsageError
from dragonfly_vortex.identity import default_revision, task_id_of
from dragonfly_vortex.model import Origin, TaskRequest
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.transport_table import ALL, TCP
from dragonfly_vortex.wire import PieceKind

__all__ = ["VortexPeer"]


class VortexPeer(VortexService):
    """
    A peer as one service of a program: it keeps tasks in a storage, serves them to other peers, and downloads more.

    Without a configuration it opens what the keywords name and nothing else: no gRPC, no metrics. With one, the
    keywords stand in place of its keys.

    :param reactor: what it runs on: epoll, poll, select or asyncio.
    :param config: a configuration, from ``load_config`` or made by hand; None for the
        defaults.
    :param storage: the directory of the storage.
    :param listen: where children are served by Vortex: descriptions of server endpoints, such as
        ``tcp:4005:interface=10.0.0.1``, ``tcp6:4005``, ``unix:/run/peer.sock``, ``systemd:domain=INET:index=0``,
        ``tls:…`` and ``mtls:…``, or endpoints. Empty for nowhere. None for the address and port of the configuration;
        without a configuration, for nowhere.
    :param parents: parents that all downloads ask.
    :param schedulers: the schedulers of a cluster, ``HOST:PORT``. They need the gRPC door, which listens at
        ``upload.server`` of the configuration.
    :param dial: makes the endpoint for a parent's address, in place of those for TCP and TLS.
    :raises ValueError: a parent's address is none.
    """

    def __init__(
        self,
        reactor: IPeerReactor,
        config: Config | None = None,
        *,
        storage: Path | str | None = None,
        listen: Sequence[str | IStreamServerEndpoint] | None = None,
        parents: Sequence[str] | None = None,
        schedulers: Sequence[str] | None = None,
        dial: Dial | None = None,
    ) -> None:
        if config is None:
            config = _small_config(has_schedulers=bool(schedulers))
            listen = () if listen is None else listen
        if storage is not None:
            config = replace(config, storage=replace(config.storage, dir=Path(storage).absolute()))
        if parents is not None:
            addresses = tuple(map(ParentAddress.from_text, parents))
            config = replace(config, download=replace(config.download, parents=addresses))
        if schedulers is not None:
            config = replace(config, scheduler=replace(config.scheduler, addrs=tuple(schedulers)))
        super().__init__(config, reactor, dial=dial)
        self._listen = listen

    def startService(self) -> None:
        """
        Open the storage and listen, see :meth:`~dragonfly_vortex.daemon.service.VortexService.startService`.

        :raises ValueError: a description of an endpoint cannot be read.
        :raises UsageError: there are workers, which cannot listen at endpoints.
        """
        if self._listen is not None:
            if self.config.storage.server.workers > 1:
                raise UsageError("expected storage.server.workers: 1 with endpoints to listen at, got more")
            self._endpoints = [
                serverFromString(self.reactor, each) if isinstance(each, str) else each for each in self._listen
            ]
        super().startService()

    def download(
        self,
        task_id: str = "",
        *,
        url: str = "",
        origin: Origin | None = None,
        kind: PieceKind = PieceKind.STANDARD,
        digest: str | None = None,
        headers: Mapping[str, str] | None = None,
        parents: Sequence[str] = (),
        whole: bool = True,
    ) -> Download:
        """
        Download a task into the storage, from the parents, the schedulers' and the source. Two downloads of one task
        share the work.

        :param task_id: the task; may be left out where there is a URL or an origin.
        :param url: the source: ``http://``, ``https://``, ``hf://`` or ``s3://``; short for an origin of it alone.
        :param origin: what the task is made from.
        :param kind: the kind of the task.
        :param digest: the digest of the whole, such as ``sha256:<hex>``; empty for none; None for the SHA-256 that the
            ID is, where there is no origin, and else for none.
        :param headers: what the source is sent.
        :param parents: addresses of parents that this download asks beside the peer's.
        :param whole: whether all of it is fetched. Otherwise only what is read, see
            :class:`~dragonfly_vortex.daemon.task_handle.Download`.
        :returns: the download, which has begun.
        :raises InvalidOrigin: no task ID can be made of the origin.
        :raises PoolClosed: the peer is not running.
        :raises ValueError: there is neither a task ID nor an origin, or a parent's address is none.
        """
        if self._downloads is None or self._store is None:
            raise PoolClosed("expected a running peer, got one that is not started, or stopped")
        if url and origin is None:
            origin = Origin(url=url, revision=default_revision(url))
        if not task_id:
            if origin is None:
                raise ValueError("expected a task ID, a URL or an origin, got none of them")
            task_id = task_id_of(origin, kind)
        for parent in parents:
            ParentAddress.from_text(parent)
        request = TaskRequest(
            kind=kind,
            task_id=task_id,
            origin=origin,
            digest="" if digest is None and origin is not None else digest,
            headers=dict(headers or {}),
            parents=tuple(parents),
        )
        download = Download(self._downloads, self._store, request, IReactorTime(self.reactor), whole=whole)
        download.start()
        return download


def _small_config(*, has_schedulers: bool) -> Config:
    """The defaults, without what an embedded peer is not asked for."""
    config = default_config()
    doors = replace(config.storage.server, protocol=ALL if has_schedulers else TCP.name)
    return replace(
        config,
        storage=replace(config.storage, server=doors),
        metrics=replace(config.metrics, enable=False),
    )
