"""The sections of the configuration that are for a peer in a cluster with schedulers; part of the tree of the model."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from dragonfly_vortex.config.kinds import FLAG, AddressAndPort, Duration, File, ListOf, Name, Whole
from dragonfly_vortex.config.setting import file_setting, section, setting

__all__ = ["DynconfigConfig", "SchedulerConfig", "SeedPeerConfig"]


@section
class SchedulerConfig:
    """
    The schedulers of a Dragonfly cluster. Without `addrs`, and without `dynconfig.file`, this peer is in no cluster,
    and the rest of this section is not used. See [Cluster](cluster.md).
    """

    addrs: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=setting(
            ListOf(AddressAndPort()),
            "The schedulers. A task belongs to one of them, chosen by consistent hashing as in the reference. Not in "
            "`dfdaemon.yaml`: there the schedulers are in the file of `dynconfig.file`.",
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
            "How long a scheduler may take to offer parents before another one is asked. More than 10s, such as the "
            "reference's 3h, counts as 10s.",
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
        metadata=file_setting("This side's certificate for schedulers, then those that lead to an authority."),
    )
    key: Path | None = field(
        default=None,
        metadata=file_setting("The certificate's private key, without a password."),
    )
    ca_cert: Path | None = field(
        default=None,
        metadata=file_setting(
            "The authorities trusted to sign a scheduler's certificate. With them, `cert` and `key`, schedulers are "
            "spoken to with TLS."
        ),
    )


@section
class DynconfigConfig:
    """
    The file with the addresses of the schedulers, as the reference has it: `scheduler.addrs`, a list of addresses with
    ports, or else `scheduler.addr`, a name with a port that stands for all addresses that it has.
    """

    file: Path | None = field(
        default=None,
        metadata=setting(
            File(),
            "The file. `twistd dfvortex --dynconfig FILE` names it, too, as in the reference.",
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
    A seed downloads tasks for others: any client of the gRPC door, such as a scheduler, can have it fetch a URL and
    delete a task. See [Seed](local-door.md#seed).
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
