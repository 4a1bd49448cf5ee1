"""From a configuration to the downloader that it asks for: the design document's ``DownloaderFactory``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import IReactorTCP, IReactorTime, ITCPTransport
from twisted.logger import Logger

from dragonfly_vortex.config import Config, client_tls
from dragonfly_vortex.downloaders.auto import AutoDownloader
from dragonfly_vortex.downloaders.pooled import GRPCDownloader, TCPDownloader
from dragonfly_vortex.errors import UnknownProtocol
from dragonfly_vortex.interfaces import IDownloader
from dragonfly_vortex.transport.endpoints import client_endpoint
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.socket_options import (
    SocketOptions,
    apply_connection_options,
    plain_socket,
    socket_options,
)
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.transport.tls import client_tls_from
from dragonfly_vortex.vortex.client import CONNECT_TIMEOUT, TCPClient
from dragonfly_vortex.vortex.client_pool import ClientPool
from dragonfly_vortex.vortex.client_protocol import ClientSettings

if TYPE_CHECKING:
    from dragonfly_vortex.rpc.client import GRPCSettings

__all__ = ["BUILDERS", "DownloaderFactory", "build_auto", "grpc_settings"]

_log = Logger()


class DownloaderFactory:
    """
    Build the downloader for a protocol.

    :param protocol: the protocol's name, one of :data:`BUILDERS`.
    :param config: the whole configuration.
    :param reactor: connects, resolves names and tells the time.
    """

    def __init__(self, protocol: str, config: Config, *, reactor: IReactorTCP) -> None:
        self.protocol = protocol
        self.config = config
        self.reactor = reactor

    def build(self) -> IDownloader:
        """
        A new downloader; its :meth:`~dragonfly_vortex.interfaces.IDownloader.stop` ends it.

        :raises UnknownProtocol: there is no such protocol.
        :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
        """
        build = BUILDERS.get(self.protocol)
        if build is None:
            raise UnknownProtocol(self.protocol, tuple(BUILDERS))
        return build(self.config, self.reactor)


def _build_tcp(config: Config, reactor: IReactorTCP, limiter: TokenBucket | None = None) -> IDownloader:
    download = config.download
    clock = IReactorTime(reactor)
    tls = client_tls_from(client_tls(config))
    splicer = Splicer()
    settings = ClientSettings(
        clock=clock,
        configure_socket=partial(_configure_socket, options=socket_options(config.storage.server.tcp)),
        receive_limiter=limiter or _receive_limiter(config, reactor),
        allow_empty_digest=download.allow_empty_digest,
        splicer=splicer,
    )

    def make_client(address: str) -> TCPClient:
        return TCPClient(
            address,
            partial(client_endpoint, reactor, timeout=CONNECT_TIMEOUT, tls=tls),
            settings,
            connections_per_address=download.tcp.connections_per_address,
            idle_timeout=download.tcp.idle_timeout,
        )

    pool = ClientPool(make_client, clock, capacity=download.tcp.capacity, idle_timeout=download.tcp.idle_timeout)
    return TCPDownloader(pool, download.piece_timeout, stopped=splicer.close)


def _build_grpc(config: Config, reactor: IReactorTCP, limiter: TokenBucket | None = None) -> IDownloader:
    # grpcio takes a tenth of a second to import, and whoever has chosen TCP does without.
    from dragonfly_vortex.rpc.client import GRPCClient

    download = config.download
    settings = grpc_settings(config, reactor, limiter or _receive_limiter(config, reactor))
    pool = ClientPool(
        partial(GRPCClient, settings=settings),
        IReactorTime(reactor),
        capacity=download.tcp.capacity,
        idle_timeout=download.tcp.idle_timeout,
    )
    return GRPCDownloader(pool, download.piece_timeout)


def _build_auto(config: Config, reactor: IReactorTCP) -> IDownloader:
    return build_auto(config, reactor)


def build_auto(
    config: Config,
    reactor: IReactorTCP,
    *,
    with_grpc: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> AutoDownloader:
    """
    The downloader that takes the best transport of each parent.

    :param with_grpc: whether content may go over gRPC; otherwise it goes over TCP alone, also from parents that are
        known by their gRPC address.
    :param say: called with one line about each change of a parent's transport.
    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    limiter = _receive_limiter(config, reactor)  # one for both: the limit is that of all content
    return AutoDownloader(
        IReactorTime(reactor),
        _build_tcp(config, reactor, limiter),
        partial(_build_grpc, config, reactor, limiter) if with_grpc else None,
        piece_timeout=config.download.piece_timeout,
        say=say,
    )


def grpc_settings(config: Config, reactor: IReactorTCP, limiter: TokenBucket | None = None) -> GRPCSettings:
    """
    What all channels to parents have in common. Loads gRPC.

    :param limiter: what all content is spent from; None for no limit.
    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    from dragonfly_vortex.rpc.client import GRPCSettings, IRPCReactor
    from dragonfly_vortex.rpc.credentials import channel_credentials

    return GRPCSettings(
        reactor=cast(IRPCReactor, reactor),  # the real reactors provide both of its interfaces
        credentials=channel_credentials(client_tls(config)),
        receive_limiter=limiter,
        allow_empty_digest=config.download.allow_empty_digest,
    )


def _receive_limiter(config: Config, reactor: IReactorTCP) -> TokenBucket:
    return TokenBucket(config.download.bandwidth_limit, IReactorTime(reactor))


BUILDERS: dict[str, Callable[[Config, IReactorTCP], IDownloader]] = {
    "tcp": _build_tcp,
    "grpc": _build_grpc,
    "auto": _build_auto,
}
"""Who builds the downloader for a protocol. Another protocol is another row."""


def _configure_socket(transport: ITCPTransport, options: SocketOptions) -> None:
    """Set the options on a connection; what the kernel will not do is no reason to go without the piece."""
    sock = plain_socket(transport)
    for warning in apply_connection_options(sock, options, fastopen=False) if sock is not None else ():
        _log.warn("connection to {peer}: {text}", peer=transport.getPeer(), text=warning)
