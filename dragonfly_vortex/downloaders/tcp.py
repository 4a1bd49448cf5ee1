"""The downloader over TCP, for a configuration: what the row ``tcp`` of the table of transports names."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTCP, IReactorTime, IStreamClientEndpoint

from dragonfly_vortex.address import CONNECT_TIMEOUT, ParentAddress
from dragonfly_vortex.config import Config, TLSIdentity, client_tls
from dragonfly_vortex.downloaders.pooled import TCPDownloader
from dragonfly_vortex.transport.endpoints import Dial, client_endpoint
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.socket_options import configure_connection, socket_options
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.transport_table import TCP
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_pool import ClientPool
from dragonfly_vortex.vortex.client_protocol import ClientSettings

if TYPE_CHECKING:
    from dragonfly_vortex.transport.tls import ClientTLS

__all__ = ["build"]


def build(config: Config, reactor: IReactorTCP, limiter: TokenBucket, dial: Dial | None = None) -> TCPDownloader:
    """
    Build the downloader. See :class:`~dragonfly_vortex.downloaders.factory.DownloaderBuilder`.

    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    download = config.download
    clock = IReactorTime(reactor)
    identity = client_tls(config)

    @cache
    def tls() -> ClientTLS:
        from dragonfly_vortex.transport.tls import client_tls_from  # most parents are spoken to without TLS

        return client_tls_from(identity)

    if identity != TLSIdentity():
        tls()

    def make_endpoint(address: str) -> IStreamClientEndpoint:
        is_plain = ParentAddress.from_text(address).scheme == TCP.scheme
        return client_endpoint(reactor, address, CONNECT_TIMEOUT, None if is_plain else tls())

    splicer = Splicer()
    settings = ClientSettings(
        clock=clock,
        configure_socket=partial(configure_connection, options=socket_options(config.storage.server.tcp)),
        receive_limiter=limiter,
        allow_empty_digest=download.allow_empty_digest,
        splicer=splicer,
    )

    def make_client(address: str) -> TCPClient:
        return TCPClient(
            address,
            dial or make_endpoint,
            settings,
            connections_per_address=download.tcp.connections_per_address,
            idle_timeout=download.tcp.idle_timeout,
        )

    pool = ClientPool(make_client, clock, capacity=download.tcp.capacity, idle_timeout=download.tcp.idle_timeout)
    return TCPDownloader(pool, download.piece_timeout, stopped=splicer.close)
