"""
The configuration as one tree of frozen values, with every default, every limit and the description of every key.

This is the only place that knows the keys: :mod:`dragonfly_vortex.config.loader` reads files by it, and
:mod:`dragonfly_vortex.config.markdown` writes the reference from it. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import enum
import os
from dataclasses import field
from pathlib import Path

from dragonfly_vortex.config.cluster import DynconfigConfig, SchedulerConfig, SeedPeerConfig
from dragonfly_vortex.config.download import DownloadConfig
from dragonfly_vortex.config.gc import GCConfig
from dragonfly_vortex.config.kinds import (
    FLAG,
    RATE,
    Address,
    Choice,
    Directory,
    Duration,
    ListOf,
    Name,
    ProtocolName,
    Size,
    Whole,
)
from dragonfly_vortex.config.setting import file_setting, section, setting
from dragonfly_vortex.transport_table import ALL

__all__ = [
    "Config",
    "DiscoveryConfig",
    "DynconfigConfig",
    "GCConfig",
    "HealthConfig",
    "HealthServerConfig",
    "HostConfig",
    "KeepaliveConfig",
    "LogConfig",
    "LogFormat",
    "MetricsConfig",
    "MetricsServerConfig",
    "SchedulerConfig",
    "StatusConfig",
    "StorageConfig",
    "StorageServerConfig",
    "StorageTCPConfig",
    "TLSConfig",
    "UploadClientConfig",
    "UploadConfig",
    "UploadServerConfig",
    "default_config",
]

_LEVEL = "(?:trace|debug|info|warn|error|critical|off)"
"""A level of the log; the first and the last one are of the reference's."""


def _host_name() -> str:
    """The machine's host name. The socket module would say the same, and takes long to load."""
    return os.uname().nodename


_LOCATION = Name(pattern=r"[^\x00-\x1f]{0,255}", allowed="a text of at most 255 characters")


@section
class HostConfig:
    """How this peer names itself to others."""

    ip: str = field(
        default="127.0.0.1",
        metadata=setting(
            Address(), "The address that this peer gives to others; the first part of its host ID.", nullable=True
        ),
    )
    hostname: str = field(
        default_factory=_host_name,
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


@section
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


@section
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


@section
class UploadClientConfig(TLSConfig):
    """
    This peer's TLS as a child, with parents that speak it. What is left out is taken from `tls`, certificate and key
    together.
    """


@section
class UploadConfig:
    """How this peer serves, as a parent."""

    bandwidth_limit: int = field(
        default=50_000_000_000,
        metadata=setting(RATE, "Bytes of content sent per second, over all connections."),
    )
    disable_shared: bool = field(
        default=False,
        metadata=setting(FLAG, "Have schedulers offer this peer to no other."),
    )
    server: UploadServerConfig = field(default_factory=UploadServerConfig)
    client: UploadClientConfig = field(default_factory=UploadClientConfig)


@section
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


@section
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
        metadata=setting(FLAG, "Send small segments at once (TCP_NODELAY)."),
    )
    cork: bool = field(
        default=False,
        metadata=setting(FLAG, "Hold back partial segments until a reply is complete (TCP_CORK)."),
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
        metadata=setting(FLAG, "Take data in a connection's first segment (TCP_FASTOPEN)."),
    )


@section
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


@section
class StorageConfig:
    """The storage, and how it is served."""

    dir: Path = field(
        default=Path("dfvortex-data"),
        metadata=setting(Directory(), "The directory for content and metadata, which are kept over restarts."),
    )
    server: StorageServerConfig = field(default_factory=StorageServerConfig)


@section
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


@section
class StatusConfig:
    """The status page, at `/` of the same port. See [Status page](status-page.md)."""

    enable: bool = field(
        default=True,
        metadata=setting(FLAG, "Serve the status page."),
    )
    allow_remote: bool = field(
        default=False,
        metadata=setting(
            FLAG,
            "Show it to browsers on other machines, too. It names tasks, their URLs and the addresses of peers, to all "
            "who reach the port.",
        ),
    )
    hosts: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(Name(pattern=r"[A-Za-z0-9_.-]{1,255}", allowed="a host name")),
            "Names by which browsers on other machines may call it, beside the machine's addresses and "
            "`host.hostname`.",
            omitted="none",
            nullable=True,
        ),
    )


@section
class MetricsConfig:
    """Counters and gauges for Prometheus. See [Metrics](metrics.md)."""

    enable: bool = field(
        default=True,
        metadata=setting(FLAG, "Serve the page of metrics."),
    )
    server: MetricsServerConfig = field(default_factory=MetricsServerConfig)
    status: StatusConfig = field(default_factory=StatusConfig)


@section
class HealthServerConfig:
    """The address and port of the pages; they are served over HTTP at `/healthy` and `/readiness`."""

    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on for probes.", nullable=True),
    )
    port: int | None = field(
        default=None,
        metadata=setting(
            Whole(minimum=0, maximum=65_535),
            "The port to listen on for probes; 0 takes a free one.",
            omitted="4003 for `twistd dfvortex`, no pages for a peer in another program",
            nullable=True,
        ),
    )


@section
class HealthConfig:
    """Pages for the probes of a supervisor. See [Health](health.md)."""

    enable: bool = field(
        default=True,
        metadata=setting(FLAG, "Serve the pages for probes."),
    )
    server: HealthServerConfig = field(default_factory=HealthServerConfig)

    @property
    def has_pages(self) -> bool:
        """Whether there are to be pages."""
        return self.enable and self.server.port is not None


class LogFormat(enum.Enum):
    """How the log is written."""

    TEXT = "text"
    JSON = "json"


@section
class LogConfig:
    """The log of `twistd dfvortex`. See [Log](log.md)."""

    format: LogFormat = field(
        default=LogFormat.TEXT,
        metadata=setting(Choice(LogFormat), "Lines of text, or of JSON."),
    )
    level: str = field(
        default="info",
        metadata=setting(
            Name(
                pattern=rf"(?i:{_LEVEL}(?:,[a-z_]\w*(?:\.\w+)*={_LEVEL})*)",
                allowed="a level (debug, info, warn, error or critical), and perhaps NAMESPACE=LEVEL behind commas",
            ),
            "The least level that is logged, and that of some namespaces, such as `info,dragonfly_vortex.task=debug`.",
            nullable=True,
        ),
    )


@section
class DiscoveryConfig:
    """
    How peers find each other: in the local network by DNS-SD, and by an exchange of their addresses. See
    [Peers of the local network](negotiation.md#peers-of-the-local-network) and
    [Peers that other peers know](negotiation.md#peers-that-other-peers-know).
    """

    enable: bool = field(
        default=False,
        metadata=setting(FLAG, "Advertise this peer, and have `dfvortex download` ask the peers that are found."),
    )
    ip: str | None = field(
        default=None,
        metadata=setting(Address(), "The address of the network interface for DNS-SD.", omitted="all", nullable=True),
    )
    peer_exchange: bool = field(
        default=False,
        metadata=setting(
            FLAG,
            "Name to each child the other peers that ask for the same task. As a child, say where this peer serves, "
            "and ask the peers that ask it, or that a parent names.",
        ),
    )


@section
class Config:
    """A peer's whole configuration. These keys are in no section."""

    host: HostConfig = field(default_factory=HostConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    upload: UploadConfig = field(default_factory=UploadConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    gc: GCConfig = field(default_factory=GCConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    log: LogConfig = field(default_factory=LogConfig)
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
