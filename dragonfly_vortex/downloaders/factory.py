"""
From a configuration to the downloader that it asks for, the design document's ``DownloaderFactory``; and to all that
one download needs to speak to its parents, whatever their addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import IReactorTCP, IReactorTime, ITCPTransport
from twisted.logger import Logger

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config, client_tls
from dragonfly_vortex.downloaders.auto import AutoDownloader
from dragonfly_vortex.downloaders.pooled import GRPCDownloader, TCPDownloader
from dragonfly_vortex.errors import UnknownProtocol, WrongTransport
from dragonfly_vortex.interfaces import IDownloader, IPieceAnnouncer
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

__all__ = ["BUILDERS", "DownloaderFactory", "Negotiation", "negotiate"]

_GRPC_SCHEMES = ("grpc", "grpcs")

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
    # grpcio takes a tenth of a second to import, and TCP does not need it.
    from dragonfly_vortex.rpc.client import GRPCClient

    download = config.download
    settings = _grpc_settings(config, reactor, limiter or _receive_limiter(config, reactor))
    pool = ClientPool(
        partial(GRPCClient, settings=settings),
        IReactorTime(reactor),
        capacity=download.tcp.capacity,
        idle_timeout=download.tcp.idle_timeout,
    )
    return GRPCDownloader(pool, download.piece_timeout)


def _build_auto(
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


def _grpc_settings(config: Config, reactor: IReactorTCP, limiter: TokenBucket | None = None) -> GRPCSettings:
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
"""The function that builds the downloader for a protocol. Another protocol is another row."""


def _configure_socket(transport: ITCPTransport, options: SocketOptions) -> None:
    """Set the options on a connection; what the kernel will not do is no reason to go without the piece."""
    sock = plain_socket(transport)
    for warning in apply_connection_options(sock, options, fastopen=False) if sock is not None else ():
        _log.warn("connection to {peer}: {text}", peer=transport.getPeer(), text=warning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiation:
    """
    Both sides of the talk with parents, for a :class:`~dragonfly_vortex.task.download.TaskDownload`.

    :param downloader: to be stopped in the end.
    :param announcers: by the parents' addresses as text.
    :param carried: the number of pieces received over each transport, where there was a choice.
    """

    downloader: IDownloader
    announcers: Mapping[str, IPieceAnnouncer]
    carried: Counter[str] = field(default_factory=Counter)


def negotiate(
    protocol: str,
    config: Config,
    parents: Sequence[ParentAddress],
    *,
    reactor: IReactorTCP,
    say: Callable[[str], None] = lambda line: None,
) -> Negotiation:
    """
    Prepare to speak to parents. gRPC is loaded only if one of them is known by its gRPC address.

    :param protocol: what carries content: ``tcp``, ``grpc``, or ``auto`` for the best that a parent offers.
    :param say: called with one line about each change of a parent's transport.
    :raises UnknownProtocol: there is no such protocol.
    :raises WrongTransport: content is to go over gRPC, and a parent is known by its TCP address.
    :raises CertificateUnusable: a file for TLS, which are read now, cannot be used.
    """
    by_grpc = [parent for parent in parents if parent.scheme in _GRPC_SCHEMES]
    if protocol == "grpc":
        wrong = next((parent for parent in parents if parent.scheme not in _GRPC_SCHEMES), None)
        if wrong is not None:
            raise WrongTransport(str(wrong))
    if protocol not in ("auto", "tcp"):
        downloader = DownloaderFactory(protocol, config, reactor=reactor).build()
        return Negotiation(downloader=downloader, announcers=_announcers(config, by_grpc, reactor, _learn_nothing))
    auto = _build_auto(config, reactor, with_grpc=protocol == "auto", say=say)
    announcers = _announcers(config, by_grpc, reactor, auto.learn)
    return Negotiation(downloader=auto, announcers=announcers, carried=auto.carried)


def _announcers(
    config: Config, parents: Sequence[ParentAddress], reactor: IReactorTCP, learn: Callable[[str, str], None]
) -> dict[str, IPieceAnnouncer]:
    """
    The announcers for these parents.

    :param learn: called with a parent, and the TCP address that it offers.
    """
    if not parents:
        return {}
    from dragonfly_vortex.rpc.piece_discovery import PieceDiscovery

    settings = _grpc_settings(config, reactor)
    follow = config.download.follow_announced_addresses
    return {
        str(parent): PieceDiscovery(parent, settings, partial(learn, str(parent)), follow=follow) for parent in parents
    }


def _learn_nothing(parent: str, tcp_address: str) -> None:
    """Content goes over gRPC: where else it could be had does not matter."""
