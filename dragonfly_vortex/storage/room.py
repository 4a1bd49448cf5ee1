"""
Reserves room in a storage for a download, and removes tasks for it where that is needed. Everything here blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dragonfly_vortex.storage.collector import Collected, Collector, own_bytes
from dragonfly_vortex.storage.disk import free_at, reserve
from dragonfly_vortex.storage.policy import Policy, usage

__all__ = ["Room"]


class Room:
    """
    The room for the content of a storage.

    :param directory: the storage's directory.
    :param policy: how much room there is.
    :param is_made: whether tasks are removed for a download that needs room.
    :param collected: is called with what was removed, in the thread that needs the room.
    """

    def __init__(
        self,
        directory: Path,
        policy: Policy,
        *,
        is_made: bool,
        collected: Callable[[Collected], object] = lambda collected: None,
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._is_made = is_made
        self._collected = collected

    def reserve(self, descriptor: int, content_length: int, *, is_foreign: bool = False) -> None:
        """
        Reserve room for the file of a task, and remove tasks for it where that is needed.

        :param descriptor: the file, open for writing.
        :param content_length: bytes that it is going to have.
        :param is_foreign: whether a stranger wants it. Strangers can fill the part of the storage's room up to the
            higher threshold, and no more.
        :raises OSError: ``ENOSPC`` where there is too little.
        :raises StorageFailure: the storage failed.
        """
        reserve(descriptor, content_length, lambda needed: self._find(needed, is_foreign=is_foreign))

    def _find(self, needed: int, *, is_foreign: bool) -> int:
        """Make room, if that is needed; returns how many bytes a download may take."""
        policy, high = self._policy, self._policy.disk_high_threshold_percent
        own = own_bytes(self._directory) if policy.disk_threshold or is_foreign else 0
        total, used = usage(self._directory, policy.disk_threshold, own)
        if self._is_made and (used + needed) * 100 >= high * total:
            own = own or own_bytes(self._directory)
            # A length may be a lie. No task is removed for one for which there is too little without all of them, too.
            if needed <= self._free(0, self._free_on_disk() + own, is_foreign=is_foreign):
                collected = Collector(self._directory, policy, room=needed).run()
                self._collected(collected)
                own -= collected.freed
        return self._free(own, self._free_on_disk(), is_foreign=is_foreign)

    def _free_on_disk(self) -> int:
        """Bytes that are free on the storage's disk."""
        return free_at(os.statvfs(self._directory))

    def _free(self, own: int, free: int, *, is_foreign: bool) -> int:
        """
        How many bytes a download may take.

        :param own: bytes that the storage has on the disk.
        :param free: bytes that are free there.
        """
        policy = self._policy
        room = min(free, policy.disk_threshold - own) if policy.disk_threshold else free
        return policy.disk_high_threshold_percent * (own + room) // 100 - own if is_foreign else room
