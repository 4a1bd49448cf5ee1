"""
The configuration as one tree of frozen values, with every default, every limit and the description of every key.

This is the only place that knows the keys: :mod:`dragonfly_vortex.config.loader` reads files by it, and
:mod:`dragonfly_vortex.config.markdown` writes the reference from it. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config.cluster import DynconfigConfig, SchedulerConfig
from dragonfly_vortex.config.kinds import (
    Address,
    Choice,
    Directory,
    Duration,
    File,
    Flag,
    ListOf,
    Mode,
    Name,
    Parent,
    ProtocolName,
    Size,
    Whole,
)
from dragonfly_vortex.config.setting import file_setting, setting
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.transport_table import ALL, BEST

__all__ = [
    "Config",
    "DiscoveryConfig",
    "DownloadConfig",
    "DownloadServerConfig",
    "DownloadTCPConfig",
    "DynconfigConfig",
    "HostConfig",
    "KeepaliveConfig",
    "MetricsConfig",
    "MetricsServerConfig",
    "SchedulerConfig",
    "SeedPeerConfig",
    "StorageConfig",
    "StorageServerConfig",
    "StorageTCPConfig",
    "TLSConfig",
    "UploadClientConfig",
    "UploadConfig",
    "UploadServerConfig",
    "default_config",
]

_RATE = Size(maximum=2**63 - 1, per_second=True)
_FLAG = Flag()
_LOCATION = Name(pattern=r"[^\x00-\x1f]{0,255}", allowed="a text of at most 255 characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """How this peer names itself to others."""

    ip: str = field(
        default="127.0.0.1",
        metadata=setting(
            Address(), "The address that this peer gives to others; the first part of its host ID.", nullable=True
        ),
    )
    hostname: str = field(
        default_factory=socket.gethostname,
        metadata=setting(
            Name(
                pattern="[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_])?",
                allowed="a host name of 1 to 255 letters, digits, '.', '_' and '-'",
            ),
            "The name that this peer gives to others; the last part of its host ID.",
            omitted="the machine's host name",
        ),
    )
    idc: str | None = field(
        default=None,
        metadata=setting(
            _LOCATION, "The data centre. Schedulers prefer parents of the same one.", omitted="none", nullable=True
        ),
    )
    location: str | None = field(
        default=None,
        metadata=setting(
            _LOCATION,
            "The place, from large to small, with `|` between: schedulers prefer parents with more of it in common.",
            omitted="none",
            nullable=True,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadTCPConfig:
    """The pool of connections to parents."""

    capacity: int = field(
        default=2000,
        metadata=setting(
            Whole(minimum=1, maximum=1_000_000),
            "How many parents, by address, the pool holds; if all are busy, another waits.",
        ),
    )
    idle_timeout: float = field(
        default=420.0,
        metadata=setting(Duration(), "How long an unused connection to a parent is kept."),
    )
    connections_per_address: int = field(
        default=32,
        metadata=setting(Whole(minimum=1, maximum=65_535), "The most connections to one address."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadServerConfig:
    """
    The local door: a Unix socket for dfget, dfcache and dfctl on the same machine. Any program that can open the socket
    can have the peer read and write files with the peer's own rights. See [Local door](local-door.md).
    """

    socket_path: Path | None = field(
        default=None,
        metadata=setting(File(), "The socket; its directory is made if missing.", omitted="no local door"),
    )
    socket_mode: int = field(
        default=0o600,
        metadata=setting(Mode(), "The rights on the socket. A program needs the right to write to it."),
    )
    socket_group: str | None = field(
        default=None,
        metadata=setting(
            Name(pattern="[A-Za-z0-9_.-]{1,32}", allowed="the name or the number of a group"),
            "The group that the socket is given.",
            omitted="the peer's own",
            nullable=True,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadConfig:
    """How this peer fetches, as a child."""

    protocol: str = field(
        default=BEST,
        metadata=setting(ProtocolName(BEST), "The transport for content; auto: the best that each parent offers."),
    )
    piece_timeout: float = field(
        default=360.0,
        metadata=setting(Duration(), "The time without a byte of a piece after which its request fails."),
    )
    concurrent_piece_count: int = field(
        default=8,
        metadata=setting(Whole(minimum=1, maximum=2**32 - 1), "Pieces of a task that are fetched at once."),
    )
    bandwidth_limit: int = field(
        default=50_000_000_000,
        metadata=setting(_RATE, "Bytes of content received per second, over all connections."),
    )
    allow_empty_digest: bool = field(
        default=False,
        metadata=setting(
            _FLAG,
            "Accept a piece without a digest where no digest of the whole is known, either. With one, it always is.",
        ),
    )
    follow_announced_addresses: bool = field(
        default=False,
        metadata=setting(
            _FLAG,
            "Fetch content from any address and port that a parent announces over gRPC. By default only from the host "
            "by which the parent is known, at an announced port from 1024 on.",
        ),
    )
    parents: tuple[ParentAddress, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(Parent()),
            "The parents of `dfvortex download` where the command names none, and of all downloads of a running peer.",
            omitted="none",
            nullable=True,
        ),
    )
    back_to_source: BackToSource = field(
        default=BackToSource.LAST_RESORT,
        metadata=setting(
            Choice(BackToSource),
            "When the source of a task is asked for a piece that no other parent has: `never`; as `last_resort`, when "
            "no parent may announce it any more, or nothing has come for 5 s; `always`: at once, but parents have a "
            "second to say what they have. See [A source](download.md#a-source).",
        ),
    )
    concurrent_task_count: int = field(
        default=100,
        metadata=setting(
            Whole(minimum=1, maximum=10_000), "Tasks that a running peer downloads at once; further ones wait."
        ),
    )
    tcp: DownloadTCPConfig = field(default_factory=DownloadTCPConfig)
    server: DownloadServerConfig = field(default_factory=DownloadServerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """
    TLS, off by default: files in PEM for both sides and both transports, where `upload.server` and `upload.client` name
    no others. See [TLS](tls.md).
    """

    cert: Path | None = field(
        default=None,
        metadata=file_setting("This side's certificate, then those that lead to an authority."),
    )
    key: Path | None = field(
        default=None,
        metadata=file_setting("The certificate's private key, without a password."),
    )
    ca_cert: Path | None = field(
        default=None,
        metadata=file_setting(
            "The authorities trusted to sign the other side's certificate. With them a server requires one of every "
            "client (mutual TLS); without them a client trusts those of its platform."
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadServerConfig(TLSConfig):
    """
    The gRPC door, and this peer's TLS as a parent, on both doors: a certificate with its key turns it on. What is left
    out is taken from `tls`, certificate and key together.
    """

    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on for gRPC.", nullable=True),
    )
    port: int = field(
        default=4000,
        metadata=setting(Whole(minimum=0, maximum=65_535), "The port to listen on for gRPC; 0 takes a free one."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadClientConfig(TLSConfig):
    """
    This peer's TLS as a child, with parents that speak it. What is left out is taken from `tls`, certificate and key
    together.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadConfig:
    """How this peer serves, as a parent."""

    bandwidth_limit: int = field(
        default=50_000_000_000,
        metadata=setting(_RATE, "Bytes of content sent per second, over all connections."),
    )
    disable_shared: bool = field(
        default=False,
        metadata=setting(_FLAG, "Have schedulers offer this peer to no other."),
    )
    server: UploadServerConfig = field(default_factory=UploadServerConfig)
    client: UploadClientConfig = field(default_factory=UploadClientConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveConfig:
    """TCP's probes of a silent connection; the limits are the kernel's."""

    idle: float = field(
        default=5.0,
        metadata=setting(
            Duration(minimum=1, maximum=32_767, whole=True), "How long a connection is silent before it is probed."
        ),
    )
    interval: float = field(
        default=3.0,
        metadata=setting(Duration(minimum=1, maximum=32_767, whole=True), "The time between two probes."),
    )
    probes: int = field(
        default=3,
        metadata=setting(Whole(minimum=1, maximum=127), "Probes without an answer that end the connection."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageTCPConfig:
    """
    The listening socket, and the connections of children. The socket options hold for connections to parents, too
    ([measured](tuning.md#sockets)).
    """

    port: int = field(
        default=4005,
        metadata=setting(Whole(minimum=0, maximum=65_535), "The port to listen on; 0 takes a free one."),
    )
    buffer_size: int | None = field(
        default=None,
        metadata=setting(
            Size(maximum=2**31 - 1),
            "The kernel's buffers for a connection (SO_SNDBUF, SO_RCVBUF). A value ends the kernel's own tuning and is "
            "capped by net.core.wmem_max and net.core.rmem_max.",
            omitted="the kernel tunes",
            nullable=True,
        ),
    )
    idle_timeout: float = field(
        default=300.0,
        metadata=setting(Duration(), "How long a connection stays open without a request."),
    )
    max_connections: int = field(
        default=1000,
        metadata=setting(
            Whole(minimum=1, maximum=1_000_000),
            "The most open connections. One more closes the one that was idle longest; if all are busy, it waits.",
        ),
    )
    nodelay: bool = field(
        default=True,
        metadata=setting(_FLAG, "Send small segments at once (TCP_NODELAY)."),
    )
    cork: bool = field(
        default=False,
        metadata=setting(_FLAG, "Hold back partial segments until a reply is complete (TCP_CORK)."),
    )
    keepalive: KeepaliveConfig = field(default_factory=KeepaliveConfig)
    congestion_control: str | None = field(
        default=None,
        metadata=setting(
            Name(
                pattern="[A-Za-z0-9_-]{1,15}",
                allowed="the name of a congestion control such as bbr or cubic (1 to 15 letters, digits, '_' and '-')",
            ),
            "The congestion control (TCP_CONGESTION).",
            omitted="the system's",
            nullable=True,
        ),
    )
    fastopen: bool = field(
        default=False,
        metadata=setting(_FLAG, "Take data in a connection's first segment (TCP_FASTOPEN)."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageServerConfig:
    """The doors that this peer opens to children."""

    protocol: str = field(
        default=ALL,
        metadata=setting(ProtocolName(ALL), "Which doors this peer opens."),
    )
    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on.", nullable=True),
    )
    workers: int = field(
        default=1,
        metadata=setting(
            Whole(minimum=1, maximum=256),
            "Processes that serve by Vortex, each with its part of the connections and of the bandwidth; 1: the main "
            "process itself. See [More than one core](tuning.md#more-than-one-core).",
        ),
    )
    tcp: StorageTCPConfig = field(default_factory=StorageTCPConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """The storage, and how it is served."""

    dir: Path = field(
        default=Path("dfvortex-data"),
        metadata=setting(Directory(), "The directory for content and metadata, which are kept over restarts."),
    )
    server: StorageServerConfig = field(default_factory=StorageServerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsServerConfig:
    """The page's address and port; it is served over HTTP at `/metrics`."""

    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on for metrics.", nullable=True),
    )
    port: int = field(
        default=4002,
        metadata=setting(Whole(minimum=0, maximum=65_535), "The port to listen on for metrics; 0 takes a free one."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Counters and gauges for Prometheus. See [Metrics](metrics.md)."""

    enable: bool = field(
        default=True,
        metadata=setting(_FLAG, "Serve the page of metrics."),
    )
    server: MetricsServerConfig = field(default_factory=MetricsServerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPeerConfig:
    """
    A seed downloads tasks for others: any client of the gRPC door, such as a scheduler, can have it fetch a URL and
    delete a task. See [Seed](local-door.md#seed).
    """

    enable: bool = field(
        default=False,
        metadata=setting(_FLAG, "Serve these calls of the gRPC door, and announce the peer to schedulers as a seed."),
    )
    sources: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(
                Name(
                    pattern="[A-Za-z0-9_.:-]{1,253}(?:/[0-9]{1,3})?",
                    allowed="a host name, an IP address or a network such as 10.0.0.0/8",
                )
            ),
            "The hosts that a seed fetches from when the gRPC door is asked.",
            omitted="all but this machine and link-local addresses",
            nullable=True,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """
    How peers find each other: in the local network by DNS-SD, and by an exchange of their addresses. See
    [Peers of the local network](negotiation.md#peers-of-the-local-network) and
    [Peers that other peers know](negotiation.md#peers-that-other-peers-know).
    """

    enable: bool = field(
        default=False,
        metadata=setting(_FLAG, "Advertise this peer, and have `dfvortex download` ask the peers that are found."),
    )
    ip: str | None = field(
        default=None,
        metadata=setting(Address(), "The address of the network interface for DNS-SD.", omitted="all", nullable=True),
    )
    peer_exchange: bool = field(
        default=False,
        metadata=setting(
            _FLAG,
            "Name to each child the other peers that ask for the same task. As a child, say where this peer serves, "
            "and ask the peers that ask it, or that a parent names.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A peer's whole configuration. These keys are in no section."""

    host: HostConfig = field(default_factory=HostConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    upload: UploadConfig = field(default_factory=UploadConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    tls: TLSConfig = field(default_factory=TLSConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    dynconfig: DynconfigConfig = field(default_factory=DynconfigConfig)
    seed_peer: SeedPeerConfig = field(default_factory=SeedPeerConfig)
    shutdown_timeout: float = field(
        default=7.0,
        metadata=setting(
            Duration(),
            "How long pieces under way may take when the peer ends; the rest is aborted. Workers can take 2 s longer. "
            "Containers are killed after 10 s by default.",
        ),
    )


def default_config() -> Config:
    """
    Return the configuration that holds without a file.

    :returns: the defaults; ``storage.dir`` is then relative to the working directory.
    """
    return Config()
