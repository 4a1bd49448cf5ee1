"""Tests of the room for downloads: real files on a real disk, of which the test says how full it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.storage.room import Room
from dragonfly_vortex.wire import PieceKind

MIB = 1024 * 1024


class RoomTests(SynchronousTestCase):
    """A file that is going to have some length."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.descriptor = os.open(self.directory / "file", os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.descriptor)

    def add(self, length: int, used_at: int) -> str:
        """Import a task."""
        path = Path(self.mktemp())
        path.write_bytes(os.urandom(length))
        task = import_file(path, self.directory, PieceKind.STANDARD)
        with Catalog(self.directory) as catalog, catalog._database.change() as connection:
            connection.execute("UPDATE task SET created_at = ? WHERE task_id = ?", (used_at, task.task_id))
        return task.task_id

    def left(self) -> list[str]:
        """The tasks that are left."""
        with Catalog(self.directory) as catalog:
            return [task.task_id for task in catalog.list_tasks()]

    def assert_full(self, room: Room, length: int, *, is_foreign: bool = False) -> None:
        """Assert that there is no room."""
        error = self.assertRaises(OSError, room.reserve, self.descriptor, length, is_foreign=is_foreign)
        self.assertEqual(error.errno, errno.ENOSPC)

    def test_threshold(self) -> None:
        """A storage has no more room than its threshold, whatever the disk has."""
        self.add(2 * MIB, 1_700_000_000)
        room = Room(self.directory, Policy(disk_threshold=10 * MIB), is_made=False)
        self.assert_full(room, 9 * MIB)
        room.reserve(self.descriptor, 7 * MIB)

    def test_made(self) -> None:
        """Where room is made, the least recently used tasks go, and no more of them than needed."""
        first, second = self.add(2 * MIB, 1_700_000_000), self.add(2 * MIB, 1_700_000_001)
        policy = Policy(task_ttl=1e10, disk_threshold=10 * MIB)
        Room(self.directory, policy, is_made=True).reserve(self.descriptor, 3 * MIB)
        self.assertEqual(self.left(), [first, second])
        os.ftruncate(self.descriptor, 0)
        Room(self.directory, policy, is_made=True).reserve(self.descriptor, 5 * MIB)
        self.assertEqual(self.left(), [second])
        os.ftruncate(self.descriptor, 0)

    def test_lie(self) -> None:
        """For a length that the storage can never have, such as one that a source lies about, no task is removed."""
        tasks = [self.add(2 * MIB, 1_700_000_000 + age) for age in range(2)]
        limited = Room(self.directory, Policy(task_ttl=1e10, disk_threshold=10 * MIB), is_made=True)
        self.assert_full(limited, 11 * MIB)
        self.assert_full(limited, 9 * MIB, is_foreign=True)
        self.assert_full(Room(self.directory, Policy(task_ttl=1e10), is_made=True), 1 << 60)
        self.assertEqual(self.left(), tasks)
        limited.reserve(self.descriptor, 9 * MIB)
        self.assertEqual(self.left(), [])

    def test_strangers(self) -> None:
        """Strangers fill a storage up to the higher threshold of what it can have, and not the disk."""
        policy = Policy(task_ttl=1e10, disk_threshold=10 * MIB, disk_high_threshold_percent=50)
        room = Room(self.directory, Policy(disk_threshold=1 << 50), is_made=False)
        disk = os.statvfs(self.directory)
        free = disk.f_bavail * disk.f_frsize
        self.assert_full(room, free * 81 // 100, is_foreign=True)
        room.reserve(self.descriptor, MIB, is_foreign=True)
        os.ftruncate(self.descriptor, 0)
        self.add(MIB, 1_700_000_000)
        self.assert_full(Room(self.directory, policy, is_made=False), 5 * MIB, is_foreign=True)
        Room(self.directory, policy, is_made=False).reserve(self.descriptor, 4 * MIB, is_foreign=True)
