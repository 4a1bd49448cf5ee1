"""
What operators look at: the dashboard and the alert rules in ``packaging/``, and those of Dragonfly, against the metrics
that there are; and a real Prometheus that reads a peer's page.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.processes import free_port
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.metrics.instruments import Family
from dragonfly_vortex.metrics.peer_collector import PeerMetrics
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from test.processes import Daemon, write_config

PACKAGING = Path(__file__).resolve().parent.parent / "packaging"

DASHBOARD = PACKAGING / "grafana" / "dfvortex.json"

RULES = PACKAGING / "prometheus" / "alerts.yml"

DRAGONFLY = [
    "dragonfly_client_backend_request_duration_milliseconds_bucket",
    "dragonfly_client_backend_request_duration_milliseconds_count",
    "dragonfly_client_backend_request_failure_total",
    "dragonfly_client_backend_request_total",
    "dragonfly_client_concurrent_download_task_total",
    "dragonfly_client_disk_space_total",
    "dragonfly_client_disk_usage_space_total",
    "dragonfly_client_download_task_duration_milliseconds_bucket",
    "dragonfly_client_download_task_failure_total",
    "dragonfly_client_download_task_total",
    "dragonfly_client_download_traffic",
    "dragonfly_client_prefetch_task_total",
    "dragonfly_client_proxy_request_failure_total",
    "dragonfly_client_proxy_request_total",
    "dragonfly_client_upload_traffic",
    "dragonfly_client_version",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_threads",
]
"""
The names in the dashboards for client and seed-client of dragonflyoss/monitoring at 7aa0c26. The alert rules of the
Helm chart 1.7.4 use three of them.
"""

OF_PROMETHEUS = {"up"}
"""A name that Prometheus itself writes."""

OF_SCRAPES = {"instance", "job", "le"}
"""Labels that Prometheus adds, and that of buckets."""

SECONDS = 90
"""How long a Prometheus may take to start, and to read a page."""


def families() -> Iterator[Family]:
    """The metrics of a peer that has done nothing."""
    return PeerMetrics(
        storage=Path.cwd(),
        tallies=lambda: [Tally()],
        workers=tuple,
        tasks=TaskMetrics(lambda: 0.0),
        connections=lambda: {"tcp": (0, 0)},
        from_source=lambda: {"failed": 0},
    ).families()


def names() -> dict[str, set[str]]:
    """The names of all samples, each with its labels."""
    found: dict[str, set[str]] = {}
    for family in families():
        labels = {label for label, _ in next(iter(family.samples or family.distributions))}
        suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        found.update({family.name + suffix: labels for suffix in suffixes})
    return found


def dashboard() -> list[str]:
    """The queries of the dashboard."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def rules() -> list[str]:
    """The queries of the alert rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def used_names(query: str) -> set[str]:
    """The metrics in a query."""
    return set(re.findall(r"\b(?:dragonfly_client|dfvortex|process)_\w+|\bup\b", query))


def used_labels(query: str) -> set[str]:
    """The labels in a query: those that are matched, and those that it sums by."""
    matched = re.findall(r"[{,]\s*(\w+)=", query)
    summed = re.findall(r"\bby \(([^)]*)\)", query)
    return {*matched, *(label.strip() for labels in summed for label in labels.split(","))}


class NamesTests(SynchronousTestCase):
    """The names in queries."""

    def test_ours(self) -> None:
        """The dashboard and the rules use metrics that there are, with labels that these have."""
        there = names()
        for query in (*dashboard(), *rules()):
            used = used_names(query) - OF_PROMETHEUS
            self.assertEqual(used - there.keys(), set(), query)
            labels = OF_SCRAPES.union(*(there[name] for name in used))
            self.assertEqual(used_labels(query) - labels, set(), query)

    def test_all_shown(self) -> None:
        """The dashboard or a rule uses every metric of our own."""
        used = set().union(*(used_names(query) for query in (*dashboard(), *rules())))
        ours = {family.name for family in families() if family.name.startswith("dfvortex_")}
        shown = {name.removesuffix("_bucket") for name in used}
        self.assertEqual(ours - shown, {"dfvortex_storage_tasks"})

    def test_dragonflys(self) -> None:
        """Dragonfly's own dashboards and alert rules find every name that they use, before anything has happened."""
        self.assertEqual([name for name in DRAGONFLY if name not in names()], [])


class PrometheusTests(SynchronousTestCase):
    """A real Prometheus."""

    def program(self, name: str) -> str:
        """A program of Prometheus; the test is skipped where it is not there."""
        found = shutil.which(name)
        if found is None:
            raise SkipTest(f"{name} is not installed")
        return found

    def test_rules(self) -> None:
        """``promtool`` finds no mistake in the rules."""
        ran = subprocess.run(
            [self.program("promtool"), "check", "rules", RULES], capture_output=True, text=True, timeout=SECONDS
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)

    def ask(self, port: int, query: str) -> list[Any]:
        """What a Prometheus answers to a query."""
        text = query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", "dragonfly-client")
        url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
        return result

    def test_scraped(self) -> None:
        """It reads a peer's page, has every name in use, and can answer every query of the dashboard and the rules."""
        program = self.program("prometheus")
        name = tempfile.mkdtemp(prefix="dfl")
        self.addCleanup(shutil.rmtree, name)
        directory = Path(name)
        write_config(directory)
        port = free_port()
        with Daemon(directory) as daemon:
            page = int(daemon.wait_for(r"serving metrics on .*port=(\d+)\)")[1])
            config = {
                "global": {"scrape_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {"job_name": "dragonfly-client", "static_configs": [{"targets": [f"127.0.0.1:{page}"]}]}
                ],
            }
            (directory / "prometheus.yml").write_text(json.dumps(config))
            arguments = (f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb")
            log = (directory / "prometheus.log").open("wb")
            self.addCleanup(log.close)
            with subprocess.Popen(
                [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
            ) as prometheus:
                try:
                    self.wait_until_scraped(port)
                    there = {each["metric"]["__name__"] for each in self.ask(port, '{job="dragonfly-client"}')}
                    used = set().union(*(used_names(query) for query in (*dashboard(), *rules())), DRAGONFLY)
                    self.assertEqual(used - there, set())
                    for query in (*dashboard(), *rules()):
                        self.ask(port, query)
                finally:
                    prometheus.kill()

    def wait_until_scraped(self, port: int) -> None:
        """Wait until a Prometheus has read a page."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                if any(each["value"][1] == "1" for each in self.ask(port, "up")):
                    return
            except OSError:
                pass  # it does not listen yet
            time.sleep(0.1)
        raise RuntimeError("expected a Prometheus to have read a page")
