"""The section of the configuration for the garbage collection of the storage; part of the tree of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from dragonfly_vortex.config.kinds import FLAG, Duration, Size, Whole
from dragonfly_vortex.config.setting import section, setting

__all__ = ["GCConfig", "GCPolicyConfig", "unreachable"]

_DAY = 24 * 3600.0
_PERCENT = Whole(minimum=1, maximum=99)


@section
class GCPolicyConfig:
    """The rules by which tasks are removed from the storage."""

    task_ttl: float = field(
        default=30 * _DAY,
        metadata=setting(
            Duration(minimum=1), "How long a standard or cache task is kept after its last use, unless it has its own."
        ),
    )
    persistent_task_ttl: float = field(
        default=_DAY,
        metadata=setting(
            Duration(minimum=1), "How long a persistent task is kept after its creation, unless it has its own."
        ),
    )
    persistent_cache_task_ttl: float = field(
        default=_DAY,
        metadata=setting(
            Duration(minimum=1), "How long a persistent cache task is kept after its creation, unless it has its own."
        ),
    )
    disk_threshold: int = field(
        default=0,
        metadata=setting(
            Size(minimum=0, maximum=2**63 - 1),
            "The room for the storage's content, in bytes on the disk: no download may need more, and the two keys "
            "below are parts of it. 0: the whole disk, with what others have there.",
        ),
    )
    disk_high_threshold_percent: int = field(
        default=80,
        metadata=setting(_PERCENT, "The part of the room from which on tasks are removed."),
    )
    disk_low_threshold_percent: int = field(
        default=60,
        metadata=setting(_PERCENT, "The part of the room down to which they are removed then."),
    )


@section
class GCConfig:
    """The removal of tasks that are not used, and of what killed processes have left. See [Space](space.md)."""

    enable: bool = field(
        default=True,
        metadata=setting(
            FLAG,
            "Remove tasks by `gc.policy`. Without it only `dfvortex gc` does, and a download that needs room fails.",
        ),
    )
    interval: float = field(
        default=900.0,
        metadata=setting(Duration(minimum=1), "How often that is done; for the first time so long after the start."),
    )
    policy: GCPolicyConfig = field(default_factory=GCPolicyConfig)


def unreachable(config: GCConfig) -> Iterator[tuple[str, str]]:
    """
    Find a lower threshold above the higher one.

    :returns: the key to blame, which the file has, and what is wrong.
    """
    high, low = config.policy.disk_high_threshold_percent, config.policy.disk_low_threshold_percent
    if low > high:
        is_low_given = low != GCPolicyConfig().disk_low_threshold_percent
        key = f"gc.policy.disk_{'low' if is_low_given else 'high'}_threshold_percent"
        yield (
            key,
            f"expected disk_low_threshold_percent to be at most disk_high_threshold_percent; got {low} and {high}",
        )
