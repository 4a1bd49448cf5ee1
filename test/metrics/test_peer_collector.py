"""Tests of a peer's metrics, by the reference's names."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import MetricsConfig, load_config
from dragonfly_vortex.metrics import peer_collector
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.instruments import Family
from dragonfly_vortex.metrics.peer_collector import PeerMetrics, ProcessMetrics
from dragonfly_vortex.metrics.task_metrics import PREFIX, TaskMetrics
from dragonfly_vortex.wire import PieceKind

ROOT = Path(__file__).resolve().parents[2]

_TYPED = ("type", "tag", "app")
_URGENT = (*_TYPED, "priority")
_SIZED = ("task_type", "task_size_level")
_ASKED = ("scheme", "method")

REFERENCE: dict[str, tuple[str, tuple[str, ...]]] = {
    "version": ("Version info of the service.", ("git_version", "git_commit", "platform", "build_time")),
    "upload_task_total": ("Counter of the number of the upload task.", _TYPED),
    "upload_task_failure_total": ("Counter of the number of failed of the upload task.", _TYPED),
    "concurrent_upload_task_total": ("Gauge of the number of concurrent of the upload task.", _TYPED),
    "upload_task_duration_milliseconds": ("Histogram of the upload task duration.", _SIZED),
    "download_task_total": ("Counter of the number of the download task.", _URGENT),
    "download_task_failure_total": ("Counter of the number of failed of the download task.", _URGENT),
    "prefetch_task_total": ("Counter of the number of the prefetch task.", _URGENT),
    "prefetch_task_failure_total": ("Counter of the number of failed of the prefetch task.", _URGENT),
    "concurrent_download_task_total": ("Gauge of the number of concurrent of the download task.", _URGENT),
    "concurrent_upload_piece_total": ("Gauge of the number of concurrent of the upload piece.", ()),
    "download_traffic": ("Counter of the number of the download traffic.", ("type",)),
    "download_piece_duration_milliseconds": ("Histogram of the download piece duration.", ("type",)),
    "upload_traffic": ("Counter of the number of the upload traffic.", ()),
    "download_task_duration_milliseconds": ("Histogram of the download task duration.", _SIZED),
    "backend_request_total": ("Counter of the number of the backend request.", _ASKED),
    "backend_request_failure_total": ("Counter of the number of failed of the backend request.", _ASKED),
    "backend_request_duration_milliseconds": ("Histogram of the backend request duration.", _ASKED),
    "proxy_request_total": ("Counter of the number of the proxy request.", _ASKED),
    "proxy_request_failure_total": ("Counter of the number of failed of the proxy request.", ()),
    "update_task_total": ("Counter of the number of the update task.", ("type",)),
    "update_task_failure_total": ("Counter of the number of failed of the update task.", ("type",)),
    "stat_task_total": ("Counter of the number of the stat task.", ("type",)),
    "stat_task_failure_total": ("Counter of the number of failed of the stat task.", ("type",)),
    "stat_local_task_total": ("Counter of the number of the stat local task.", ("type",)),
    "stat_local_task_failure_total": ("Counter of the number of failed of the stat local task.", ("type",)),
    "list_local_tasks_total": ("Counter of the number of the list tasks.", ("type",)),
    "list_tasks_failure_total": ("Counter of the number of failed of the list tasks.", ("type",)),
    "list_task_entries_total": ("Counter of the number of the list task entries.", ("type",)),
    "list_task_entries_failure_total": ("Counter of the number of failed of the list task entries.", ("type",)),
    "delete_task_total": ("Counter of the number of the delete task.", ("type",)),
    "delete_task_failure_total": ("Counter of the number of failed of the delete task.", ("type",)),
    "delete_local_task_total": ("Counter of the number of the delete local task.", ("type",)),
    "delete_local_task_failure_total": ("Counter of the number of failed of the delete local task.", ("type",)),
    "delete_host_total": ("Counter of the number of the delete host.", ()),
    "delete_host_failure_total": ("Counter of the number of failed of the delete host.", ()),
    "download_task_blocked_total": ("Counter of the number of download task blocked.", ("type",)),
    "upload_task_blocked_total": ("Counter of the number of upload task blocked.", ("type",)),
    "disk_space_total": ("Gauge of the disk space in bytes", ()),
    "disk_usage_space_total": ("Gauge of the disk usage space in bytes", ()),
}
"""Names without their prefix, help texts and labels, from dragonfly-client-metric 1.5.10, of what a peer does."""


def labels_of(family: Family) -> tuple[str, ...]:
    """The labels of a metric."""
    return tuple(label for label, _ in next(iter(family.samples or family.distributions)))


class PeerTests(SynchronousTestCase):
    """A peer with some tallies."""

    def setUp(self) -> None:
        self.tallies = [Tally(), Tally()]
        self.looks = 0
        self.storage = Path.cwd()
        self.tasks = TaskMetrics(lambda: 0.0)
        self.from_source = {"no_parent": 3, "failed": 0}

    def stored(self) -> dict[PieceKind, tuple[int, int]]:
        """What the storage has, counted."""
        self.looks += 1
        return {PieceKind.PERSISTENT: (2, 7_000)}

    def told(self) -> dict[str, Family]:
        """The metrics, by their names."""
        metrics = PeerMetrics(
            storage=self.storage,
            tallies=lambda: self.tallies,
            workers=lambda: [],
            tasks=self.tasks,
            connections=lambda: {"tcp": (5, 3)},
            stored=self.stored,
            from_source=lambda: self.from_source,
        )
        return {family.name: family for family in metrics.families()}

    def test_names(self) -> None:
        """Names, help texts and labels are the reference's, and those of every process."""
        told = self.told()
        ours = {
            name.removeprefix(PREFIX): (family.help, labels_of(family))
            for name, family in told.items()
            if name.startswith(PREFIX)
        }
        self.assertEqual(ours, REFERENCE)
        self.assertIn("process_cpu_seconds_total", told)

    def test_document(self) -> None:
        """The document's table has each of them with its labels, and no other; its configuration is one."""
        text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
        there, _ = text.split("## With workers")
        rows = re.findall(r"^\| (`.*?) \| .*? \| (.*?) ?\|", there, re.MULTILINE)
        documented = {name: labels for names, labels in rows for name in re.findall(r"`(\w+)`", names)}
        told = self.told()
        labels = {name: ", ".join(f"`{label}`" for label in labels_of(family)) for name, family in told.items()}
        self.assertEqual(documented, labels)
        (_, config) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        file = Path(self.mktemp())
        file.write_text(config)
        loaded = load_config(file).config.metrics
        self.assertEqual((loaded.enable, loaded.server.port), (True, MetricsConfig().server.port))

    def test_version(self) -> None:
        """The version has the reference's labels; unknown ones are empty."""
        ((labels, value),) = self.told()["dragonfly_client_version"].samples.items()
        self.assertEqual(value, 1)
        self.assertEqual([name for name, _ in labels], ["git_version", "git_commit", "platform", "build_time"])
        self.assertRegex(dict(labels)["git_version"], r"^\d+\.\d+")

    def test_sum(self) -> None:
        """What the doors have counted is added up."""
        for tally, length in zip(self.tallies, (5, 7), strict=True):
            tally.piece_begun()
            tally.sent(length)
        told = self.told()
        self.assertEqual(told["dragonfly_client_concurrent_upload_piece_total"].samples, {(): 2})
        self.assertEqual(told["dragonfly_client_upload_traffic"].samples, {(): 12})
        self.assertEqual(told["dragonfly_client_upload_traffic"].kind, "counter")
        self.assertEqual(told["dragonfly_client_concurrent_upload_piece_total"].kind, "gauge")

    def test_connections(self) -> None:
        """Connections are counted by transport and state, and the time that replies waited is added up."""
        for tally, seconds in zip(self.tallies, (0.5, 0.25), strict=True):
            tally.waited(seconds)
        told = self.told()
        samples = {tuple(value for _, value in labels): n for labels, n in told["dfvortex_connections"].samples.items()}
        self.assertEqual(samples, {("tcp", "busy"): 2, ("tcp", "idle"): 3})
        self.assertEqual(told["dfvortex_upload_throttled_seconds_total"].samples, {(): 0.75})

    def test_storage(self) -> None:
        """What the storage has is shown by type, and read once a minute."""
        metrics = PeerMetrics(storage=self.storage, tallies=tuple, workers=tuple, tasks=self.tasks, stored=self.stored)
        for _ in range(2):
            told = {family.name: family.samples for family in metrics.families()}
            self.assertEqual(told["dfvortex_storage_tasks"][(("type", "1"),)], 2)
            self.assertEqual(told["dfvortex_storage_bytes"][(("type", "1"),)], 7_000)
            self.assertEqual(told["dfvortex_storage_bytes"][(("type", "0"),)], 0)
        self.assertEqual(self.looks, 1)

    def test_sources(self) -> None:
        """Pieces from a source are counted by reason, where there are downloads."""
        family = self.told()["dfvortex_source_piece_total"]
        self.assertEqual(family.samples, {(("reason", "no_parent"),): 3, (("reason", "failed"),): 0})
        self.from_source = {}
        self.assertNotIn("dfvortex_source_piece_total", self.told())

    def test_disk(self) -> None:
        """The disk is the storage's; if that is gone, the other metrics stay."""
        disk = os.statvfs(self.storage)
        told = self.told()
        (total,) = told["dragonfly_client_disk_space_total"].samples.values()
        (used,) = told["dragonfly_client_disk_usage_space_total"].samples.values()
        self.assertEqual(total, disk.f_blocks * disk.f_frsize)
        self.assertLess(abs(total - used - disk.f_bavail * disk.f_frsize), 10**9)  # others write to it
        self.storage = Path(self.mktemp())
        self.assertEqual([name for name in REFERENCE if PREFIX + name not in self.told() and "disk" not in name], [])


BUSY = """
import os, sys
held = bytearray(50_000_000)
while sum(os.times()[:2]) < 0.3: pass
print("ready", flush=True)
sys.stdin.read()
"""

TELLS = """
from dragonfly_vortex.metrics.peer_collector import ProcessMetrics
for family in ProcessMetrics(lambda: []).families():
    if family.name == "process_start_time_seconds":
        print(family.samples[()])
"""


def values(metrics: ProcessMetrics) -> dict[str, float]:
    """The metrics, by their names."""
    return {family.name: next(iter(family.samples.values())) for family in metrics.families()}


class ProcessTests(SynchronousTestCase):
    """This process, alone and with another one."""

    def test_alone(self) -> None:
        """This process's metrics are what other programs report of it."""
        before, threads = sum(os.times()[:2]), len(os.listdir("/proc/self/task"))
        told = values(ProcessMetrics(lambda: []))
        self.assertTrue(before - 0.02 <= told["process_cpu_seconds_total"] <= sum(os.times()[:2]) + 0.02)
        self.assertEqual(told["process_open_fds"], len(os.listdir("/proc/self/fd")))
        self.assertEqual(told["process_max_fds"], resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.assertIn(told["process_threads"], {threads, len(os.listdir("/proc/self/task"))})
        self.assertLess(told["process_resident_memory_bytes"], told["process_virtual_memory_bytes"])
        self.assertGreater(told["process_resident_memory_bytes"], 10_000_000)

    def test_start(self) -> None:
        """The start of a process is given in Unix seconds."""
        before = time.time()
        said = subprocess.run([sys.executable, "-c", TELLS], capture_output=True, text=True, check=True).stdout
        self.assertTrue(before - 2 <= int(said) <= time.time() + 2, said)

    def test_together(self) -> None:
        """Another process is added; what it took of the processor still counts when it has been killed."""
        others: list[int] = []
        metrics = ProcessMetrics(lambda: others)
        alone = values(metrics)
        with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            self.assertEqual(other.stdout and other.stdout.readline(), b"ready\n")
            others.append(other.pid)
            both = values(metrics)
            other.kill()
        for name in ("process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_threads"):
            self.assertGreater(both[name], alone[name], name)
        self.assertGreater(both["process_resident_memory_bytes"], alone["process_resident_memory_bytes"] + 50_000_000)
        self.assertEqual(both["process_start_time_seconds"], alone["process_start_time_seconds"])
        self.assertGreaterEqual(both["process_cpu_seconds_total"], alone["process_cpu_seconds_total"] + 0.2)
        later = values(metrics)
        self.assertGreaterEqual(later["process_cpu_seconds_total"], both["process_cpu_seconds_total"])
        self.assertLess(later["process_open_fds"], both["process_open_fds"])

    def test_elsewhere(self) -> None:
        """Without /proc there are no metrics."""
        self.patch(peer_collector, "_PROC", Path("/nonexistent"))
        self.assertEqual(values(ProcessMetrics(lambda: [1])), {})

    def test_no_boot_time(self) -> None:
        """Where the machine's start is hidden, only the process's own is not told."""
        proc = Path(self.mktemp())
        proc.mkdir()
        (proc / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
        self.patch(peer_collector, "_PROC", proc)
        for hidden in (None, b"cpu  1 2 3\n"):
            if hidden is not None:
                (proc / "stat").write_bytes(hidden)
            told = values(ProcessMetrics(lambda: []))
            self.assertNotIn("process_start_time_seconds", told)
            self.assertIn("process_threads", told)
