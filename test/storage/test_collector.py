"""Tests of the garbage collection: real files, other processes that use them, and collectors that are killed."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage import collector as collector_module
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.collector import Collected, Collector, Reason
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.policy import Policy
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import content_of, files_in, wrong_pieces

KIND = PieceKind.STANDARD
DAY = 24 * 3600
MIB = 1024 * 1024
ENOUGH = 1 << 50
"""Bytes for a storage in which room is never needed, however full the disk of this machine is."""

_USER = """
import os, pathlib, sys
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.task_file import TaskFile
from dragonfly_vortex.wire import PieceKind
directory, how, task_id = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if how == "serves":
    descriptor = os.dup(Content(directory).open(PieceKind.STANDARD, task_id))
else:
    catalog = Catalog(directory)
    catalog.open()
    file = TaskFile(directory, catalog, PieceKind.STANDARD, task_id)
    file.open()
print("ready", flush=True)
sys.stdin.read()
"""

_COLLECTOR = """
import pathlib, sys
from dragonfly_vortex.storage.collector import Collector, Policy
sys.stdin.readline()
print("begins", flush=True)
Collector(pathlib.Path(sys.argv[1]), Policy(task_ttl=1, disk_threshold=1 << 50), now=lambda: 1e12).run()
"""


class CollectorCase(SynchronousTestCase):
    """A storage with tasks."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.now = time.time()

    def add(
        self,
        seed: int,
        age: float = 0.0,
        kind: PieceKind = KIND,
        length: int = MIB,
        ttl: int | None = None,
        link: bool = False,
    ) -> StoredTask:
        """Import a task that was created, and used last, some seconds ago."""
        path = Path(self.mktemp())
        path.write_bytes(content_of(length, seed))
        task = import_file(path, self.directory, kind, 256 * 1024, link, ttl=ttl)
        if not link:
            path.unlink()
        self.change("UPDATE task SET created_at = ? WHERE task_id = ?", int(self.now - age), task.task_id)
        return task

    def change(self, statement: str, *parameters: int | str) -> None:
        """Change rows, past everything else."""
        with Catalog(self.directory) as catalog, catalog._database.change() as connection:
            connection.execute(statement, parameters)

    def collect(self, policy: Policy | None = None, *, room: int = 0, is_dry: bool = False) -> Collected:
        """Collect garbage at the time of the test."""
        now = self.now
        return Collector(
            self.directory, policy or Policy(disk_threshold=ENOUGH), room=room, is_dry=is_dry, now=lambda: now
        ).run()

    def tasks(self) -> set[str]:
        """The IDs of the tasks that are left. Each has its file, and there is no other file."""
        with Catalog(self.directory, Access.READ) as catalog:
            tasks = catalog.list_tasks()
        place = Content(self.directory)
        expected = sorted(str(place.path(task.kind, task.task_id).relative_to(place.directory)) for task in tasks)
        self.assertEqual(files_in(self.directory), expected)
        return {task.task_id for task in tasks}

    def use(self, how: str, task: StoredTask) -> subprocess.Popen[str]:
        """Another process that uses a task."""
        command = [sys.executable, "-c", _USER, str(self.directory), how, task.task_id]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process


class TimeTests(CollectorCase):
    """Tasks whose time is over."""

    def test_by_kind(self) -> None:
        """Each kind has its time, persistent ones from their creation on and others from their last use on."""
        kept, gone = [], []
        for seed, (kind, days) in enumerate(
            ((KIND, 30), (PieceKind.CACHE, 30), (PieceKind.PERSISTENT, 1), (PieceKind.PERSISTENT_CACHE, 1))
        ):
            kept.append(self.add(seed, days * DAY - 60, kind).task_id)
            gone.append(self.add(seed + 10, days * DAY + 60, kind).task_id)
        used = [self.add(20, 31 * DAY), self.add(21, 31 * DAY, PieceKind.PERSISTENT)]
        with Catalog(self.directory) as catalog:
            catalog.record_uses([(task.kind, task.task_id) for task in used], int(self.now))
        collected = self.collect()
        self.assertEqual(self.tasks(), {*kept, used[0].task_id})
        self.assertEqual({each.task_id for each in collected.removed}, {*gone, used[1].task_id})
        self.assertEqual({each.reason for each in collected.removed}, {Reason.EXPIRED})
        keys = {
            PieceKind.PERSISTENT: "gc.policy.persistent_task_ttl",
            PieceKind.PERSISTENT_CACHE: "gc.policy.persistent_cache_task_ttl",
        }
        for each in collected.removed:
            self.assertEqual(each.rule, keys.get(each.kind, "gc.policy.task_ttl"))
        self.assertEqual(collected.freed, 5 * MIB)

    def test_own_time(self) -> None:
        """A task with a time of its own is kept for that, and with 0 without end."""
        kept = [self.add(0, 100 * DAY, ttl=101 * DAY), self.add(1, 100 * DAY, PieceKind.PERSISTENT, ttl=0)]
        self.add(2, 61, ttl=60)
        self.assertEqual([each.rule for each in self.collect().removed], ["its own TTL"])
        self.assertEqual(self.tasks(), {task.task_id for task in kept})

    def test_dry(self) -> None:
        """A dry run tells the same, and changes nothing; it makes no storage either."""
        self.add(0, 31 * DAY)
        (self.directory / "content/tasks/abc").mkdir()
        stray = self.directory / "content/tasks/abc/abcdef"
        stray.write_bytes(bytes(5000))
        before = [path.stat().st_mtime_ns for path in sorted(self.directory.rglob("*"))]
        dry = self.collect(is_dry=True)
        self.assertEqual([path.stat().st_mtime_ns for path in sorted(self.directory.rglob("*"))], before)
        self.assertEqual(dry, self.collect())
        removed = [(each.reason, each.rule) for each in dry.removed]
        self.assertEqual(removed, [(Reason.STRAY, "no row"), (Reason.EXPIRED, "gc.policy.task_ttl")])
        self.assertEqual(self.tasks(), set())
        self.directory = Path(self.mktemp())
        self.assertEqual(self.collect(is_dry=True), Collected())
        self.assertFalse(self.directory.exists())

    def test_many_pieces(self) -> None:
        """The rows of a task of many pieces are deleted in several transactions."""
        self.patch(collector_module, "_MOST_PIECES", 2)
        self.add(0, 31 * DAY)
        self.collect()
        self.assertEqual(self.tasks(), set())

    def test_used_meanwhile(self) -> None:
        """What has been used since it was chosen is kept."""
        task = self.add(0, 31 * DAY)
        lock = Content.lock

        def use(content: Content) -> object:
            self.change("UPDATE task SET used_at = ?", int(self.now))
            return lock(content)

        self.patch(Content, "lock", use)
        self.assertEqual(self.collect().removed, [])
        self.assertEqual(self.tasks(), {task.task_id})

    def test_stopped(self) -> None:
        """A collection that is not wanted any more ends at its next step."""
        tasks = {self.add(seed, 31 * DAY).task_id for seed in range(2)}
        Collector(self.directory, Policy(disk_threshold=ENOUGH), is_wanted=lambda: False).run()
        self.assertEqual(self.tasks(), tasks)


class UseTests(CollectorCase):
    """Tasks that are used, also by other processes."""

    def test_served(self) -> None:
        """A task that a process serves or reads is kept until its file is closed, also where that process is killed."""
        task = self.add(0, 31 * DAY)
        process = self.use("serves", task)
        for collected in (self.collect(), self.collect(is_dry=True)):
            self.assertEqual((collected.removed, collected.in_use), ([], 1))
        self.assertEqual(self.tasks(), {task.task_id})
        process.kill()
        process.communicate()
        self.collect()
        self.assertEqual(self.tasks(), set())

    def test_fetched(self) -> None:
        """A task that a process fetches is kept, with a row or without one; then what the process leaves goes."""
        for has_row in (True, False):
            task = self.add(0, 31 * DAY)
            process = self.use("fetches", task)
            if not has_row:
                self.change("DELETE FROM task WHERE task_id = ?", task.task_id)
            collected = self.collect()
            self.assertNotIn(task.task_id, [each.task_id for each in collected.removed])
            self.assertTrue(Content(self.directory).path(task.kind, task.task_id).exists())
            process.kill()
            process.communicate()
            self.collect()
            self.assertFalse(Content(self.directory).path(task.kind, task.task_id).exists())
        self.assertEqual(list((self.directory / "claims").rglob("?" * 64)), [])

    def test_download_of_this_process(self) -> None:
        """A download of the collecting process itself counts, too."""
        task = self.add(0, 31 * DAY)
        with Catalog(self.directory) as catalog:
            file = TaskFile(self.directory, catalog, task.kind, task.task_id)
            file.open()
            self.assertEqual((self.collect().removed, self.collect().in_use), ([], 1))
            file.close()
        self.collect()
        self.assertEqual(self.tasks(), set())

    def test_cannot_be_removed(self) -> None:
        """A link that leads elsewhere goes, and what it leads to stays; nothing that cannot go keeps others from it."""
        content, tasks = Content(self.directory), [self.add(seed, 100 * DAY) for seed in range(4)]
        tasks.sort(key=lambda task: task.task_id)
        stray = content.path(KIND, tasks[0].task_id).parent / ("0" * 64)
        stray.mkdir()
        other = self.directory.parent / "other"
        other.write_bytes(b"of somebody else")
        for task in tasks[:2]:
            content.path(KIND, task.task_id).unlink()
        content.path(KIND, tasks[0].task_id).mkdir()
        content.path(KIND, tasks[1].task_id).symlink_to(other.absolute())
        locked, unlink = content.path(KIND, tasks[2].task_id), os.unlink

        def refuse(path: Path) -> None:
            if path == locked:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            unlink(path)

        self.patch(os, "unlink", refuse)
        for removed in ([tasks[1].task_id, tasks[3].task_id], []):
            collected = self.collect()
            self.assertEqual((sorted(each.task_id for each in collected.removed), collected.in_use), (removed, 2))
            self.assertEqual(other.read_bytes(), b"of somebody else")
            left = {path.name for path in content.directory.glob("*/*/*")}
            self.assertEqual(left, {stray.name, tasks[0].task_id, tasks[2].task_id})

    def test_not_to_be_opened(self) -> None:
        """A task goes whose file may not be opened, because the owner of a linked file has taken the right."""
        tasks = [self.add(seed, 100 * DAY) for seed in range(2)]
        locked, open_file = Content(self.directory).path(KIND, tasks[0].task_id), os.open

        def refuse(path: str | Path, *how: int) -> int:
            if path == locked:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return open_file(path, *how)

        self.patch(os, "open", refuse)
        self.assertEqual((len(self.collect().removed), self.tasks()), (2, set()))
        self.assertFalse(locked.exists())

    def test_being_imported(self) -> None:
        """The file of an import that is under way stays."""
        self.add(0)
        with Content(self.directory).stage() as staged:
            self.collect()
            self.assertTrue(staged.path.exists())


class RoomTests(CollectorCase):
    """Tasks that go because room is needed."""

    policy = Policy(disk_threshold=10 * MIB)

    def test_order(self) -> None:
        """From the higher threshold on, the least recently used go, down to the lower; persistent ones last."""
        persistent = self.add(0, 900, PieceKind.PERSISTENT)
        self.change("UPDATE task SET is_pinned = 0")
        pinned = self.add(1, 901, PieceKind.PERSISTENT_CACHE)
        tasks = [self.add(seed, 100 * seed) for seed in range(2, 7)]
        self.assertEqual(self.collect(self.policy).removed, [])
        tasks.append(self.add(7, 50))
        collected = self.collect(self.policy)
        self.assertEqual([each.task_id for each in collected.removed], [tasks[4].task_id, tasks[3].task_id])
        rule = "gc.policy.disk_threshold, gc.policy.disk_high_threshold_percent"
        self.assertEqual({(each.reason, each.rule) for each in collected.removed}, {(Reason.ROOM, rule)})
        small = Policy(disk_threshold=MIB)
        collected = self.collect(small)
        self.assertEqual(collected.removed[-1].task_id, persistent.task_id)
        self.assertEqual(self.tasks(), {pinned.task_id})
        self.assertEqual(collected.missing, MIB - 60 * MIB // 100)

    def test_for_a_download(self) -> None:
        """For a download no more goes than it needs, and nothing where there is room."""
        tasks = [self.add(seed, 100 * seed) for seed in range(6)]
        self.assertEqual(self.collect(self.policy, room=MIB).removed, [])
        collected = self.collect(self.policy, room=3 * MIB)
        self.assertEqual([each.task_id for each in collected.removed], [tasks[5].task_id])
        self.assertEqual(self.collect(self.policy, room=9 * MIB).missing, MIB)

    def test_freed_before(self) -> None:
        """The room of what goes because its time is over counts as free: no other task goes for it."""
        kept = {self.add(seed).task_id for seed in range(6)}
        for seed in range(6, 9):
            self.add(seed, 31 * DAY)
        for is_dry in (True, False):
            removed = self.collect(self.policy, is_dry=is_dry).removed
            self.assertEqual([each.reason for each in removed], [Reason.EXPIRED] * 3)
        self.assertEqual(self.tasks(), kept)

    def test_linked(self) -> None:
        """A file with another name takes no room and frees none: it goes when its time is over, and not for room."""
        linked = self.add(0, 900, link=True)
        others = [self.add(seed, 100 * seed) for seed in range(1, 3)]
        tight = Policy(disk_threshold=2 * MIB)
        for is_dry in (True, False):
            collected = self.collect(tight, is_dry=is_dry)
            self.assertEqual([each.task_id for each in collected.removed], [others[1].task_id])
        self.assertIn(linked.task_id, self.tasks())
        self.change("UPDATE task SET created_at = 1 WHERE task_id = ?", linked.task_id)
        (removed,) = self.collect(tight).removed
        self.assertEqual((removed.task_id, removed.freed, removed.is_linked), (linked.task_id, 0, True))

    def test_sparse(self) -> None:
        """Bytes count as they are on the disk: a file with a hole takes less than its length."""
        task = self.add(0)
        os.truncate(Content(self.directory).path(task.kind, task.task_id), 1000 * MIB)
        self.assertEqual(self.collect(self.policy).removed, [])
        self.assertEqual(self.collect(Policy(disk_threshold=MIB)).freed, MIB)

    def test_whole_disk(self) -> None:
        """Without a threshold in bytes the disk is looked at, with what others have there."""
        self.add(0)
        disk = os.statvfs(self.directory)
        used = (disk.f_blocks - disk.f_bavail) * 100 // disk.f_blocks
        for high, count in ((min(99, used + 5), 0), (max(1, used - 5), 1)):
            policy = Policy(disk_high_threshold_percent=high, disk_low_threshold_percent=1)
            self.assertEqual(len(self.collect(policy, is_dry=True).removed), count, (high, used))


class KilledTests(CollectorCase):
    """Collectors that are killed."""

    def test_killed(self) -> None:
        """Whenever a collector is killed, what is left is sound, and the next one leaves no file without a row."""
        count = int(os.environ.get("DFVORTEX_TEST_KILLS", "4"))
        generator = random.Random(1)
        for _ in range(count):
            kept = {self.add(seed, ttl=0, length=300_000).task_id for seed in range(2)}
            for seed in range(10, 40):
                self.add(seed, length=300_000)
            command = [sys.executable, "-c", _COLLECTOR, str(self.directory)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            time.sleep(generator.random() * 0.1)  # which moment it is, is left to chance
            process.send_signal(signal.SIGKILL)
            process.communicate()
            with Catalog(self.directory, Access.READ) as catalog:
                tasks = catalog.list_tasks()
            self.assertLessEqual(kept, {task.task_id for task in tasks})
            self.assertEqual(wrong_pieces(self.directory), [])
            self.collect(Policy(task_ttl=1e6, disk_threshold=ENOUGH))
            self.assertEqual(self.tasks(), {task.task_id for task in tasks})
            self.assertEqual(list((self.directory / "claims").rglob("?" * 64)), [])
            with Catalog(self.directory) as catalog:
                for task in tasks:
                    catalog.get_pieces(task.kind, task.task_id)
                with self.assertRaises(NotStored):
                    catalog.get_task(KIND, "another")
