"""The rules of the garbage collection: for how long tasks are kept, and how much room there is for them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from msgspec import Struct

from dragonfly_vortex.wire import PieceKind

__all__ = ["Policy", "policy_of", "ttl_key", "usage"]


class Policy(Struct, frozen=True, kw_only=True):
    """
    The rules. The names, the defaults and the meanings are those of ``gc.policy`` of the configuration.

    :param task_ttl: seconds after its last use for which a standard or cache task is kept.
    :param persistent_task_ttl: seconds after its creation for which a persistent task is kept.
    :param persistent_cache_task_ttl: the same for a persistent cache task.
    :param disk_threshold: bytes for the content of the storage; 0 for the whole disk, with what others have there.
    :param disk_high_threshold_percent: the part of that from which on tasks are removed.
    :param disk_low_threshold_percent: the part of it down to which they are removed then.
    """

    task_ttl: float = 30 * 24 * 3600.0
    persistent_task_ttl: float = 24 * 3600.0
    persistent_cache_task_ttl: float = 24 * 3600.0
    disk_threshold: int = 0
    disk_high_threshold_percent: int = 80
    disk_low_threshold_percent: int = 60

    def ttl_of(self, kind: PieceKind) -> int:
        """Whole seconds for which a task of a kind is kept that has no time of its own."""
        ttl: float = getattr(self, ttl_key(kind))
        return math.ceil(ttl)

    def room_rule(self) -> str:
        """The keys by which tasks are removed where room is needed."""
        capacity = "gc.policy.disk_threshold, " if self.disk_threshold else ""
        return f"{capacity}gc.policy.disk_high_threshold_percent"


def ttl_key(kind: PieceKind) -> str:
    """The key of the policy that says how long a task of a kind is kept."""
    keys = {
        PieceKind.PERSISTENT: "persistent_task_ttl",
        PieceKind.PERSISTENT_CACHE: "persistent_cache_task_ttl",
    }
    return keys.get(kind, "task_ttl")


def policy_of(section: object) -> Policy:
    """
    The rules that a configuration has.

    :param section: its ``gc.policy``, which has an attribute for each field.
    """
    return Policy(**{name: getattr(section, name) for name in Policy.__struct_fields__})


def usage(directory: Path, threshold: int, own: int) -> tuple[int, int]:
    """
    How much room there is in all for the content of a storage, and how much of it is used.

    :param directory: the storage's directory.
    :param threshold: bytes for the content; 0 for the whole disk, with what others have there.
    :param own: bytes that the content has on the disk.
    :raises OSError: the disk cannot be looked at.
    """
    if threshold:
        return threshold, own
    disk = os.statvfs(directory)
    return disk.f_blocks * disk.f_frsize, (disk.f_blocks - disk.f_bavail) * disk.f_frsize
