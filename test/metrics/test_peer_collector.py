"""Tests of a peer's metrics, by the reference's names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import MetricsConfig, load_config
from dragonfly_vortex.metrics.counters import DownloadTally, StatTally, Tally
from dragonfly_vortex.metrics.exposition import Family
from dragonfly_vortex.metrics.peer_collector import PeerMetrics
from dragonfly_vortex.wire import PieceKind

ROOT = Path(__file__).resolve().parents[2]

REFERENCE = {
    "dragonfly_client_version": "Version info of the service.",
    "dragonfly_client_concurrent_upload_piece_total": "Gauge of the number of concurrent of the upload piece.",
    "dragonfly_client_upload_traffic": "Counter of the number of the upload traffic.",
    "dragonfly_client_download_task_total": "Counter of the number of the download task.",
    "dragonfly_client_download_task_failure_total": "Counter of the number of failed of the download task.",
    "dragonfly_client_concurrent_download_task_total": "Gauge of the number of concurrent of the download task.",
    "dragonfly_client_stat_task_total": "Counter of the number of the stat task.",
    "dragonfly_client_stat_task_failure_total": "Counter of the number of failed of the stat task.",
    "dragonfly_client_stat_local_task_total": "Counter of the number of the stat local task.",
    "dragonfly_client_stat_local_task_failure_total": "Counter of the number of failed of the stat local task.",
    "dragonfly_client_disk_space_total": "Gauge of the disk space in bytes",
    "dragonfly_client_disk_usage_space_total": "Gauge of the disk usage space in bytes",
}
"""Names and help texts, from dragonfly-client-metric 1.5.10."""


class PeerTests(SynchronousTestCase):
    """A peer with some tallies."""

    def setUp(self) -> None:
        self.tallies = [Tally(), Tally()]
        self.stats: StatTally | None = StatTally()
        self.storage = Path.cwd()
        self.downloads = DownloadTally()
        self.from_source = {"no_parent": 3, "failed": 0}

    def told(self) -> dict[str, Family]:
        """The metrics, by their names."""
        metrics = PeerMetrics(
            storage=self.storage,
            tallies=lambda: self.tallies,
            stats=self.stats,
            workers=lambda: [],
            downloads=self.downloads,
            from_source=lambda: self.from_source,
        )
        return {family.name: family for family in metrics.families()}

    def test_names(self) -> None:
        """Names and help texts are the reference's, and those of every process."""
        told = self.told()
        ours = {name: family.help for name, family in told.items() if name.startswith("dragonfly_client_")}
        self.assertEqual(ours, REFERENCE)
        self.assertIn("process_cpu_seconds_total", told)

    def test_downloads(self) -> None:
        """Requests for tasks are counted by kind and priority; the counters are there before the first one."""
        self.downloads.begun[PieceKind.PERSISTENT, 6] += 2
        self.downloads.begun[PieceKind.STANDARD, 3] += 1
        samples = self.told()["dragonfly_client_download_task_total"].samples
        counts = {(labels["type"], labels["priority"]): n for labels, n in ((dict(k), n) for k, n in samples.items())}
        self.assertEqual(counts, {("0", "6"): 0, ("1", "6"): 2, ("2", "6"): 0, ("3", "6"): 0, ("0", "3"): 1})

    def test_document(self) -> None:
        """The document's table has each of them with its labels, and no other; its configuration is one."""
        text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
        there, _ = text.split("## With workers")
        rows = re.findall(r"^\| (`.*?) \| .*? \| (.*?) ?\|", there, re.MULTILINE)
        documented = {name: labels for names, labels in rows for name in re.findall(r"`(\w+)`", names)}
        told = self.told()
        labels = {
            name: ", ".join(f"`{label}`" for label, _ in next(iter(family.samples))) for name, family in told.items()
        }
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

    def test_sources(self) -> None:
        """Pieces from a source are counted by reason, where there are downloads."""
        family = self.told()["dfvortex_source_piece_total"]
        self.assertEqual(family.samples, {(("reason", "no_parent"),): 3, (("reason", "failed"),): 0})
        self.downloads = DownloadTally()
        self.from_source = {}
        self.assertNotIn("dfvortex_source_piece_total", self.told())

    def test_stats(self) -> None:
        """Questions about tasks are counted by type, those about standard tasks apart from the others."""
        if self.stats is not None:
            self.stats.asked.update(
                {PieceKind.STANDARD: 4, PieceKind.PERSISTENT: 5, PieceKind.PERSISTENT_CACHE: 6, PieceKind.CACHE: 7}
            )
            self.stats.failed[PieceKind.CACHE] = 1
        told = self.told()
        one, two, three = ((("type", number),) for number in "123")
        self.assertEqual(told["dragonfly_client_stat_task_total"].samples, {one: 5, two: 6, three: 7})
        self.assertEqual(told["dragonfly_client_stat_task_failure_total"].samples, {one: 0, two: 0, three: 1})
        self.assertEqual(told["dragonfly_client_stat_local_task_total"].samples, {(("type", "0"),): 4})

    def test_no_grpc(self) -> None:
        """Without the gRPC door, which alone is asked about tasks, there are no metrics of such questions."""
        self.stats = None
        self.assertEqual([name for name in self.told() if "stat" in name.split("_")], [])

    def test_disk(self) -> None:
        """The disk is the storage's; if that is gone, the other metrics stay."""
        disk = os.statvfs(self.storage)
        told = self.told()
        (total,) = told["dragonfly_client_disk_space_total"].samples.values()
        (used,) = told["dragonfly_client_disk_usage_space_total"].samples.values()
        self.assertEqual(total, disk.f_blocks * disk.f_frsize)
        self.assertLess(abs(total - used - disk.f_bavail * disk.f_frsize), 10**9)  # others write to it
        self.storage = Path(self.mktemp())
        self.assertEqual([name for name in REFERENCE if name not in self.told() and "disk" not in name], [])
