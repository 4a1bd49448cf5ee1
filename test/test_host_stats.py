"""What is measured of this machine is what the kernel says of it."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.host_stats import HostMeter, NetworkMeter


class NetworkMeterTests(SynchronousTestCase):
    """The interface of an address."""

    def test_traffic(self) -> None:
        """Bytes over the loopback interface are counted once, in bits per second."""
        meter = NetworkMeter("127.0.0.1", 10**9, 10**9)
        meter.read()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        ):
            two.bind(("127.0.0.1", 0))
            for _ in range(50):
                one.sendto(bytes(20_000), two.getsockname())
        stats = meter.read()
        self.assertGreater(stats.rx, 0)
        self.assertGreater(stats.tx, 0)

    def test_limits(self) -> None:
        """An interface without a speed, and an address of no interface, have the peer's own limits."""
        for ip in ("127.0.0.1", "203.0.113.7"):
            stats = NetworkMeter(ip, 1000, 2000).read()
            self.assertEqual((stats.max_rx, stats.max_tx), (8000, 16000))

    def test_unknown_address(self) -> None:
        """An address of no interface has no traffic."""
        stats = NetworkMeter("203.0.113.7", 1000, 1000).read()
        self.assertEqual((stats.rx, stats.tx), (0, 0))


class HostMeterTests(SynchronousTestCase):
    """The machine."""

    def test_read(self) -> None:
        """Sizes agree with the system's own calls, and shares are shares."""
        directory = Path(self.mktemp())
        directory.mkdir()
        stats = HostMeter(directory, NetworkMeter("127.0.0.1", 10**9, 10**9)).read()
        self.assertEqual(stats.logical_cpus, os.cpu_count())
        self.assertGreaterEqual(stats.logical_cpus, stats.physical_cpus)
        self.assertEqual(stats.memory_total, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        self.assertEqual(stats.disk_total, shutil.disk_usage(directory).total)
        for share in (stats.cpu_percent, stats.memory_percent, stats.process_memory_percent, stats.disk_percent):
            self.assertTrue(0 <= share <= 100, share)
        self.assertGreater(stats.process_memory_percent, 0)
        self.assertGreaterEqual(stats.inodes_total, stats.inodes_free)

    def test_missing_directory(self) -> None:
        """A storage that is not there is an error, not a full disk."""
        meter = HostMeter(Path(self.mktemp()), NetworkMeter("127.0.0.1", 1, 1))
        with self.assertRaises(OSError):
            meter.read()
