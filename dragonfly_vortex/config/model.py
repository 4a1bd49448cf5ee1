"""
The configuration as one tree of frozen values, with every default, every limit and the description of every key.

The keys are only here and, for what is fetched, served and kept, in :mod:`dragonfly_vortex.config.content`:
:mod:`dragonfly_vortex.config.loader` reads files by them, and :mod:`dragonfly_vortex.config.markdown` writes the
reference from them. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import enum
import os
from dataclasses import field
from pathlib import Path

from dragonfly_vortex.config.content import DownloadConfig, GCConfig, StorageConfig, TLSConfig, UploadConfig
from dragonfly_vortex.config.kinds import FLAG, Address, AddressAndPort, Choice, File, ListOf, Name
from dragonfly_vortex.config.quantities import Duration, Whole
from dragonfly_vortex.config.setting import file_setting, section, setting

__all__ = [
    "Config",
    "DiscoveryConfig",
    "DynconfigConfig",
    "HealthConfig",
    "HealthServerConfig",
    "HostConfig",
    "LogConfig",
    "LogFormat",
    "MetricsConfig",
    "MetricsServerConfig",
    "SchedulerConfig",
    "SeedPeerConfig",
    "StatusConfig",
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
class MetricsServerConfig:
    """Where the page is served, over HTTP at `/metrics`."""

    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on for metrics.", nullable=True),
    )
    port: int = field(
        default=4002,
        metadata=setting(Whole(minimum=0, maximum=65_535), "The port to listen on for metrics."),
    )


@section
class StatusConfig:
    """The [status page](status-page.md), at `/` of the same port."""

    enable: bool = field(
        default=True,
        metadata=setting(FLAG, "Serve the status page."),
    )
    allow_remote: bool = field(
        default=False,
        metadata=setting(
            FLAG,
            "Show it, with tasks, their URLs and addresses of peers, to all who reach the port.",
        ),
    )
    hosts: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(Name(pattern=r"[A-Za-z0-9_.-]{1,255}", allowed="a host name")),
            "Names by which browsers may call it, beside the machine's addresses and `host.hostname`.",
            omitted="none",
            nullable=True,
        ),
    )


@section
class MetricsConfig:
    """[Metrics](metrics.md) for Prometheus."""

    enable: bool = field(
        default=True,
        metadata=setting(FLAG, "Serve the page of metrics."),
    )
    server: MetricsServerConfig = field(default_factory=MetricsServerConfig)
    status: StatusConfig = field(default_factory=StatusConfig)


@section
class HealthServerConfig:
    """Where the pages are served, over HTTP at `/healthy` and `/readiness`."""

    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on for probes.", nullable=True),
    )
    port: int | None = field(
        default=None,
        metadata=setting(
            Whole(minimum=0, maximum=65_535),
            "The port to listen on for probes.",
            omitted="4003 for `twistd dfvortex`, no pages for a peer in another program",
            nullable=True,
        ),
    )


@section
class HealthConfig:
    """[Pages for the probes](health.md) of a supervisor."""

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
    """The [log](log.md) of `twistd dfvortex`."""

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
    How peers find each other: [in the local network](negotiation.md#peers-of-the-local-network) by DNS-SD, and by an
    [exchange of their addresses](negotiation.md#peer-exchange).
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
            "Name to each child the other peers of the same task. As a child, say where this peer serves, and ask the "
            "peers that ask it, or that a parent names.",
        ),
    )


@section
class SchedulerConfig:
    """
    The schedulers of a Dragonfly [cluster](cluster.md). Without `addrs` and `dynconfig.file` this peer is in no
    cluster, and the rest of this section is not used.
    """

    addrs: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(AddressAndPort()),
            "The schedulers. A `dfdaemon.yaml` has them in the file of `dynconfig.file`.",
            omitted="none",
            nullable=True,
        ),
    )
    announce_interval: float = field(
        default=300.0,
        metadata=setting(
            Duration(), "How often this peer announces itself. A scheduler forgets it after twice that time."
        ),
    )
    schedule_timeout: float = field(
        default=10.0,
        metadata=setting(
            Duration(),
            "How long a scheduler may take to offer parents before another one is asked. More than 10s counts as 10s.",
        ),
    )
    max_schedule_count: int = field(
        default=5,
        metadata=setting(
            Whole(minimum=1, maximum=2**32 - 1),
            "How often a download takes parents from a scheduler before it goes to the source.",
        ),
    )
    cert: Path | None = field(
        default=None,
        metadata=file_setting("As `tls.cert`, for schedulers."),
    )
    key: Path | None = field(
        default=None,
        metadata=file_setting("As `tls.key`."),
    )
    ca_cert: Path | None = field(
        default=None,
        metadata=file_setting("As `tls.ca_cert`, for schedulers. With all three, schedulers are spoken to with TLS."),
    )


@section
class DynconfigConfig:
    """
    The reference's file with the addresses of the schedulers: `scheduler.addrs`, a list of addresses with ports, or
    else `scheduler.addr`, a name with a port, for all its addresses.
    """

    file: Path | None = field(
        default=None,
        metadata=setting(
            File(),
            "The file. `twistd dfvortex --dynconfig FILE` names it, too.",
            omitted="none",
            nullable=True,
        ),
    )
    refresh_interval: float = field(
        default=60.0,
        metadata=setting(Duration(), "How often the file is read again, and each scheduler is asked for its health."),
    )


@section
class SeedPeerConfig:
    """
    A [seed](local-door.md#seed) downloads tasks for others: any client of the gRPC door, such as a scheduler, can have
    it fetch a URL and delete a task.
    """

    enable: bool = field(
        default=False,
        metadata=setting(FLAG, "Serve these calls of the gRPC door, and announce the peer to schedulers as a seed."),
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
            "How long pieces under way may take when the peer ends; workers can take 2 s longer. Containers are killed "
            "after 10 s by default.",
        ),
    )


def default_config() -> Config:
    """
    Return the configuration that holds without a file.

    :returns: the defaults; ``storage.dir`` is then relative to the working directory.
    """
    return Config()
