"""
Measures the machine of a peer: processors, memory, disk, and the network interface of its address.

Reading takes system calls, and the disk may be slow to answer: :meth:`HostMeter.read` belongs in a thread.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

__all__ = ["HostMeter", "HostStats", "NetworkMeter", "NetworkStats"]

_SAMPLE = 0.1
"""Seconds over which the load of the processors is measured."""


class NetworkStats(NamedTuple):
    """
    The network interface of a peer, in bits per second.

    :param max_rx: what it can receive: the speed of the interface, or this peer's own limit where that is lower.
    :param rx: what it received since the last reading.
    :param max_tx: what it can send.
    :param tx: what it sent since the last reading.
    """

    max_rx: int
    rx: int
    max_tx: int
    tx: int


class NetworkMeter:
    """
    Measures the interface that has an address. An address that no interface has, such as that of a router in front of
    this machine, leaves the peer's own limits, and no traffic.

    :param ip: the address that this peer gives to others.
    :param receive_limit: this peer's own limit, in bytes per second.
    :param send_limit: the same for what it sends.
    """

    def __init__(self, ip: str, receive_limit: int, send_limit: int) -> None:
        self._interface = _interface_of(ip)
        speed = _speed_of(self._interface)
        self._max_rx = min(speed, 8 * receive_limit) if speed else 8 * receive_limit
        self._max_tx = min(speed, 8 * send_limit) if speed else 8 * send_limit
        self._last = self._count()

    def read(self) -> NetworkStats:
        """Return the traffic since the last reading, or since this object was made."""
        now = self._count()
        seconds = now[0] - self._last[0]
        received, sent = now[1] - self._last[1], now[2] - self._last[2]
        self._last = now
        if seconds <= 0:
            return NetworkStats(self._max_rx, 0, self._max_tx, 0)
        # A counter that an interface began anew is no traffic.
        rx, tx = round(8 * max(0, received) / seconds), round(8 * max(0, sent) / seconds)
        return NetworkStats(self._max_rx, rx, self._max_tx, tx)

    def _count(self) -> tuple[float, int, int]:
        """The time, and the bytes that the interface has received and sent."""
        counters = psutil.net_io_counters(pernic=True).get(self._interface)
        return time.monotonic(), *((counters.bytes_recv, counters.bytes_sent) if counters is not None else (0, 0))


class HostStats(NamedTuple):
    """
    A machine and this process on it. Sizes are in bytes, shares in percent, rates in bytes per second.

    :param cpu_percent: of all processors.
    :param process_cpu_percent: of one processor; more than 100 where this process uses several.
    :param disk_read_rate: of this process, since the last reading.
    :param disk_write_rate: the same for what it wrote.
    """

    logical_cpus: int
    physical_cpus: int
    cpu_percent: float
    process_cpu_percent: float
    memory_total: int
    memory_available: int
    memory_used: int
    memory_free: int
    memory_percent: float
    process_memory_percent: float
    disk_total: int
    disk_used: int
    disk_free: int
    disk_percent: float
    inodes_total: int
    inodes_free: int
    disk_read_rate: int
    disk_write_rate: int
    network: NetworkStats


class HostMeter:
    """
    Measures a machine.

    :param directory: the storage; its file system is the disk that is described.
    :param network: for the network interface.
    """

    def __init__(self, directory: Path, network: NetworkMeter) -> None:
        self._directory = directory
        self._network = network
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._last_io = self._io()

    def read(self) -> HostStats:
        """
        Measure. This blocks for a tenth of a second, and as long as the disk takes to answer.

        :raises OSError: the directory cannot be asked.
        """
        with self._lock:
            self._process.cpu_percent()
            cpu_percent = psutil.cpu_percent(interval=_SAMPLE)
            process_cpu_percent = self._process.cpu_percent()
            memory = psutil.virtual_memory()
            disk = os.statvfs(self._directory)
            disk_total = disk.f_blocks * disk.f_frsize
            disk_free = disk.f_bavail * disk.f_frsize
            disk_used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            read_rate, write_rate = self._io_rates()
            return HostStats(
                logical_cpus=psutil.cpu_count() or 1,
                physical_cpus=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
                cpu_percent=min(100.0, max(0.0, cpu_percent)),
                process_cpu_percent=max(0.0, process_cpu_percent),
                memory_total=memory.total,
                memory_available=memory.available,
                memory_used=memory.used,
                memory_free=memory.free,
                memory_percent=memory.percent,
                process_memory_percent=self._process.memory_percent(),
                disk_total=disk_total,
                disk_used=disk_used,
                disk_free=disk_free,
                # As df has it: blocks that are kept for root count neither as free nor as used.
                disk_percent=100.0 * disk_used / (disk_used + disk_free) if disk_used + disk_free else 0.0,
                inodes_total=disk.f_files,
                inodes_free=disk.f_favail,
                disk_read_rate=read_rate,
                disk_write_rate=write_rate,
                network=self._network.read(),
            )

    def _io(self) -> tuple[float, int, int]:
        """The time, and the bytes that this process has read from disks and written to them."""
        try:
            counters = self._process.io_counters()
        except (AttributeError, psutil.Error, OSError):  # not on every system, and not for every user
            return time.monotonic(), 0, 0
        return time.monotonic(), counters.read_bytes, counters.write_bytes

    def _io_rates(self) -> tuple[int, int]:
        now, last = self._io(), self._last_io
        self._last_io = now
        seconds = now[0] - last[0]
        if seconds <= 0:
            return 0, 0
        return round(max(0, now[1] - last[1]) / seconds), round(max(0, now[2] - last[2]) / seconds)


def _interface_of(ip: str) -> str:
    """The name of the interface that has an address; empty where none has it."""
    for name, addresses in psutil.net_if_addrs().items():
        # An IPv6 address may be followed by its zone.
        if any(address.address.partition("%")[0] == ip for address in addresses):
            return name
    return ""


def _speed_of(interface: str) -> int:
    """The speed of an interface in bits per second; 0 where it is not known."""
    stats = psutil.net_if_stats().get(interface)
    return stats.speed * 1_000_000 if stats is not None and stats.speed > 0 else 0
