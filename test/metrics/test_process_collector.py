"""What processes take of the machine."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.metrics import process_collector
from dragonfly_vortex.metrics.process_collector import ProcessMetrics

BUSY = """
import os, sys
held = bytearray(50_000_000)
while sum(os.times()[:2]) < 0.3: pass
print("ready", flush=True)
sys.stdin.read()
"""

TELLS = """
from dragonfly_vortex.metrics.process_collector import ProcessMetrics
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
        self.patch(process_collector, "_PROC", Path("/nonexistent"))
        self.assertEqual(values(ProcessMetrics(lambda: [1])), {})

    def test_no_boot_time(self) -> None:
        """Where the machine's start is hidden, only the process's own is not told."""
        proc = Path(self.mktemp())
        proc.mkdir()
        (proc / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
        self.patch(process_collector, "_PROC", proc)
        for hidden in (None, b"cpu  1 2 3\n"):
            if hidden is not None:
                (proc / "stat").write_bytes(hidden)
            told = values(ProcessMetrics(lambda: []))
            self.assertNotIn("process_start_time_seconds", told)
            self.assertIn("process_threads", told)
