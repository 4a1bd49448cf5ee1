"""The sections of the configuration about content: how it is fetched, served and kept. They are part of the model."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config.kinds import (
    FLAG,
    Address,
    Choice,
    Directory,
    File,
    ListOf,
    Mode,
    Name,
    Parent,
    ProtocolName,
)
from dragonfly_vortex.config.quantities import RATE, Duration, Size, Whole
from dragonfly_vortex.config.setting import file_setting, section, setting
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.transport_table import ALL, BEST

__all__ = [
    "DownloadConfig",
    "DownloadServerConfig",
    "DownloadTCPConfig",
    "GCConfig",
    "GCPolicyConfig",
    "KeepaliveConfig",
    "StorageConfig",
    "StorageServerConfig",
    "StorageTCPConfig",
    "TLSConfig",
    "UploadClientConfig",
    "UploadConfig",
    "UploadServerConfig",
]

_DAY = 24 * 3600.0
_PERCENT = Whole(minimum=1, maximum=99)


@section
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


@section
class DownloadServerConfig:
    """
    The [local door](local-door.md): a Unix socket for dfget, dfcache and dfctl. A program that can open it can have the
    peer read and write files with the peer's rights.
    """

    socket_path: Path | None = field(
        default=None,
        metadata=setting(File(), "The socket; its directory is made if missing.", omitted="no local door"),
    )
    socket_mode: int = field(
        default=0o600,
        metadata=setting(Mode(), "The rights on the socket. A program needs to write to it."),
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


@section
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
        metadata=setting(RATE, "Bytes of content received per second, over all connections."),
    )
    allow_empty_digest: bool = field(
        default=False,
        metadata=setting(
            FLAG,
            "Accept a piece without a digest where no digest of the whole is known, either.",
        ),
    )
    follow_announced_addresses: bool = field(
        default=False,
        metadata=setting(
            FLAG,
            "Fetch content from any address and port that a parent announces over gRPC; by default only from the "
            "parent's own host, at an announced port from 1024 on.",
        ),
    )
    parents: tuple[ParentAddress, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(Parent()),
            "The parents of a running peer's downloads, and of `dfvortex download` where it names none.",
            omitted="none",
            nullable=True,
        ),
    )
    back_to_source: BackToSource = field(
        default=BackToSource.LAST_RESORT,
        metadata=setting(
            Choice(BackToSource),
            "When [the source of a task](download.md#a-source) is asked for a piece that no other parent has.",
        ),
    )
    concurrent_task_count: int = field(
        default=100,
        metadata=setting(Whole(minimum=1, maximum=10_000), "Tasks that a peer downloads at once; further ones wait."),
    )
    tcp: DownloadTCPConfig = field(default_factory=DownloadTCPConfig)
    server: DownloadServerConfig = field(default_factory=DownloadServerConfig)


@section
class TLSConfig:
    """
    [TLS](tls.md), off by default: files in PEM for both sides and both transports, where `upload.server` and
    `upload.client` name no others.
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
    out is taken from `tls`.
    """

    ip: str = field(
        default="0.0.0.0",
        metadata=setting(Address(), "The address to listen on for gRPC.", nullable=True),
    )
    port: int = field(
        default=4000,
        metadata=setting(Whole(minimum=0, maximum=65_535), "The port to listen on for gRPC."),
    )


@section
class UploadClientConfig(TLSConfig):
    """
    This peer's TLS as a child. What is left out is taken from `tls`; certificate and key go together.
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
    The listening socket, and the connections of children. The [socket options](tuning.md#sockets) hold for connections
    to parents, too.
    """

    port: int = field(
        default=4005,
        metadata=setting(Whole(minimum=0, maximum=65_535), "The port to listen on."),
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
            "The most open connections. One more closes the one that was idle longest; if all are busy, it waits."
            " The same holds for an address, which has at most half of what the others leave.",
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
            "[Processes that serve by Vortex](tuning.md#more-than-one-core); 1: the main process itself.",
        ),
    )
    tcp: StorageTCPConfig = field(default_factory=StorageTCPConfig)


@section
class StorageConfig:
    """The storage, and how it is served."""

    dir: Path = field(
        default=Path("dfvortex-data"),
        metadata=setting(Directory(), "The directory for content and metadata."),
    )
    server: StorageServerConfig = field(default_factory=StorageServerConfig)


@section
class GCPolicyConfig:
    """The rules by which tasks are removed from the storage."""

    task_ttl: float = field(
        default=30 * _DAY,
        metadata=setting(
            Duration(minimum=1),
            "How long a standard or cache task is kept after its last use, unless it has its own time.",
        ),
    )
    persistent_task_ttl: float = field(
        default=_DAY,
        metadata=setting(Duration(minimum=1), "The same of a persistent task, after its creation."),
    )
    persistent_cache_task_ttl: float = field(
        default=_DAY,
        metadata=setting(Duration(minimum=1), "The same of a persistent cache task, after its creation."),
    )
    disk_threshold: int = field(
        default=0,
        metadata=setting(
            Size(minimum=0, maximum=2**63 - 1),
            "The room for the storage's content, in bytes on the disk: no download may need more, and the two keys "
            "below are parts of it. 0: the whole disk.",
        ),
    )
    disk_high_threshold_percent: int = field(
        default=80,
        metadata=setting(_PERCENT, "The part of the room from which on tasks are removed."),
    )
    disk_low_threshold_percent: int = field(
        default=60,
        metadata=setting(_PERCENT, "The part of the room down to which they are removed."),
    )


@section
class GCConfig:
    """The [removal](space.md) of tasks that are not used, and of what killed processes have left."""

    enable: bool = field(
        default=True,
        metadata=setting(
            FLAG,
            "Remove tasks by `gc.policy`. Without it only `dfvortex gc` does, and a download that needs room fails.",
        ),
    )
    interval: float = field(
        default=900.0,
        metadata=setting(Duration(minimum=1), "How often that is done; the first time that long after the start."),
    )
    policy: GCPolicyConfig = field(default_factory=GCPolicyConfig)
