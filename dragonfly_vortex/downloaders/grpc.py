"""
The downloader over gRPC, and the announcers, for a configuration: what the row ``grpc`` of the table of transports
names. Importing this loads gRPC.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from twisted.internet.interfaces import IReactorTCP, IReactorTime

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cluster import is_configured
from dragonfly_vortex.config import Config, client_tls
from dragonfly_vortex.downloaders.pooled import GRPCDownloader
from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.peer_exchange import PeerExchange
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.client import GRPCClient
from dragonfly_vortex.rpc.credentials import channel_credentials
from dragonfly_vortex.rpc.host import host_id
from dragonfly_vortex.rpc.piece_discovery import PieceDiscovery
from dragonfly_vortex.transport.endpoints import Dial
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.vortex.client_pool import ClientPool

__all__ = ["announcers", "build"]


def build(config: Config, reactor: IReactorTCP, limiter: TokenBucket, dial: Dial | None = None) -> GRPCDownloader:
    """
    Build the downloader. See :class:`~dragonfly_vortex.downloaders.factory.DownloaderBuilder`.

    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    download = config.download
    pool = ClientPool(
        partial(GRPCClient, settings=_settings(config, reactor, limiter)),
        IReactorTime(reactor),
        capacity=download.tcp.capacity,
        idle_timeout=download.tcp.idle_timeout,
    )
    return GRPCDownloader(pool, download.piece_timeout)


def announcers(
    config: Config, reactor: IReactorTCP
) -> Callable[[ParentAddress, Callable[[str], None], PeerExchange | None], IPieceAnnouncer]:
    """
    Prepare to ask parents what they have. See :class:`~dragonfly_vortex.downloaders.factory.AnnouncerBuilder`.

    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    settings = _settings(config, reactor)
    return partial(_announcer, settings=settings, follow=config.download.follow_announced_addresses)


def _announcer(
    parent: ParentAddress,
    learn: Callable[[str], None],
    exchange: PeerExchange | None,
    *,
    settings: GRPCSettings,
    follow: bool,
) -> PieceDiscovery:
    return PieceDiscovery(parent, settings, learn, follow=follow, exchange=exchange)


def _settings(config: Config, reactor: IReactorTCP, limiter: TokenBucket | None = None) -> GRPCSettings:
    """
    What all channels to parents have in common.

    :param limiter: what all content is spent from; None where no content comes.
    """
    return GRPCSettings(
        reactor=cast(IRPCReactor, reactor),  # the real reactors provide both of its interfaces
        credentials=channel_credentials(client_tls(config)),
        receive_limiter=limiter,
        allow_empty_digest=config.download.allow_empty_digest,
        host_id=host_id(config) if is_configured(config) else "",
    )
