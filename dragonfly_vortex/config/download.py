"""The sections of the configuration about downloads; part of the tree of the model."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config.kinds import (
    FLAG,
    RATE,
    Choice,
    Duration,
    File,
    ListOf,
    Mode,
    Name,
    Parent,
    ProtocolName,
    Whole,
)
from dragonfly_vortex.config.setting import section, setting
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.transport_table import BEST

__all__ = ["DownloadConfig", "DownloadServerConfig", "DownloadTCPConfig"]


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
            "Accept a piece without a digest where no digest of the whole is known, either. With one, it always is.",
        ),
    )
    follow_announced_addresses: bool = field(
        default=False,
        metadata=setting(
            FLAG,
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
            "When the source of a task is asked for a piece that no other parent has. See [A "
            "source](download.md#a-source).",
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
