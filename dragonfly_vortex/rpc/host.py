"""
A peer's description of itself: the ``Host`` message of Dragonfly's API with the fields that this package knows, and the
``AnnounceHost`` message, by which a peer announces itself to schedulers.
"""

from __future__ import annotations

import os
import platform
from threading import Lock
from time import monotonic
from typing import Protocol

from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2

from dragonfly_vortex import __version__
from dragonfly_vortex.config import Config
from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.host_stats import HostStats, NetworkMeter
from dragonfly_vortex.identity import host_id_of
from dragonfly_vortex.rpc.codec import parse
from dragonfly_vortex.rpc.server_call import Answer, Metadata, is_tonic

__all__ = ["HOST_INTERVAL", "HostNames", "HostStatus", "announcement", "host_id", "host_message"]

HOST_INTERVAL = 1.0
"""Seconds between two messages about the host."""

_NEARLY = 0.9
"""The part of an interval after which a measurement is old: timers are not exact."""


class HostNames(Protocol):
    """The names of a peer: :class:`~dragonfly_vortex.config.model.HostConfig`, or anything like it."""

    @property
    def ip(self) -> str:
        """The address that it gives to others."""

    @property
    def hostname(self) -> str:
        """The name that it gives to others."""


def host_message(host: HostNames, port: int) -> common_pb2.Host:
    """
    A host that serves pieces.

    :param port: where its gRPC server listens. As with the reference, that is where pieces are to be had, too.
    """
    return common_pb2.Host(
        id=f"{host.ip}-{host.hostname}",
        hostname=host.hostname,
        name=host.hostname,
        ip=host.ip,
        port=port,
        download_port=port,
        os=platform.system().lower(),
        platform=platform.system().lower(),
        platform_version=platform.release(),
        kernel_version=platform.release(),
        build=common_pb2.Build(platform=platform.machine()),
    )


_NORMAL, _SEED = 0, 1
"""The numbers of the types of hosts (``HostType`` in ``dfdaemon.rs``)."""


def host_id(config: Config) -> str:
    """The ID of this host."""
    return host_id_of(config.host.ip, config.host.hostname, is_seed=config.seed_peer.enable)


def announcement(config: Config, port: int, stats: HostStats) -> scheduler_pb2.AnnounceHostRequest:
    """
    The message that announces this host.

    :param port: where its gRPC server listens.
    :param stats: what was measured of the machine.
    """
    request = scheduler_pb2.AnnounceHostRequest(host=host_message(config.host, port))
    request.interval.FromMilliseconds(round(config.scheduler.announce_interval * 1000))
    host = request.host
    host.id = host_id(config)
    host.type = _SEED if config.seed_peer.enable else _NORMAL
    host.platform_family = "unix" if os.name == "posix" else os.name
    host.name = "-".join(filter(None, (os.environ.get("POD_NAMESPACE"), os.environ.get("POD_NAME")))) or host.hostname
    host.disable_shared = config.upload.disable_shared
    host.cpu.CopyFrom(
        common_pb2.CPU(
            logical_count=stats.logical_cpus,
            physical_count=stats.physical_cpus,
            percent=stats.cpu_percent,
            process_percent=stats.process_cpu_percent,
        )
    )
    host.memory.CopyFrom(
        common_pb2.Memory(
            total=stats.memory_total,
            available=stats.memory_available,
            used=stats.memory_used,
            used_percent=stats.memory_percent,
            process_used_percent=stats.process_memory_percent,
            free=stats.memory_free,
        )
    )
    network = stats.network
    host.network.CopyFrom(
        common_pb2.Network(
            max_rx_bandwidth=network.max_rx,
            rx_bandwidth=network.rx,
            max_tx_bandwidth=network.max_tx,
            tx_bandwidth=network.tx,
        )
    )
    if config.host.idc:
        host.network.idc = config.host.idc
    if config.host.location:
        host.network.location = config.host.location
    host.disk.CopyFrom(
        common_pb2.Disk(
            total=stats.disk_total,
            free=stats.disk_free,
            used=stats.disk_used,
            used_percent=stats.disk_percent,
            inodes_total=stats.inodes_total,
            inodes_used=stats.inodes_total - stats.inodes_free,
            inodes_free=stats.inodes_free,
            inodes_used_percent=_percent(stats.inodes_total - stats.inodes_free, stats.inodes_total),
            read_bandwidth=stats.disk_read_rate,
            write_bandwidth=stats.disk_write_rate,
        )
    )
    host.build.CopyFrom(common_pb2.Build(git_version=__version__, platform=f"{host.os}-{platform.machine()}"))
    return request


def _percent(part: int, whole: int) -> float:
    return min(100.0, 100.0 * part / whole) if whole else 0.0


class HostStatus:
    """
    What a parent says about its host. All streams share one measurement of a second. For any thread.

    :param network: measures the network interface; None: nothing is said about it.
    """

    def __init__(self, network: NetworkMeter | None) -> None:
        self.message = common_pb2.Host()
        """The host; its network is filled in."""
        self._network = network
        self._measured_at = -HOST_INTERVAL
        self._lock = Lock()

    def current(self) -> bytes:
        """The host as it is now."""
        with self._lock:
            now = monotonic()
            if self._network is not None and now - self._measured_at >= HOST_INTERVAL * _NEARLY:
                self._measured_at = now
                stats = self._network.read()
                network = self.message.network
                network.max_rx_bandwidth, network.rx_bandwidth = stats.max_rx, stats.rx
                network.max_tx_bandwidth, network.tx_bandwidth = stats.max_tx, stats.tx
            return self.message.SerializeToString()

    def answer(self, metadata: Metadata, data: bytes) -> Answer | None:
        """
        Answer a real child in the reactor's thread. It asks about the host just before it asks for pieces. If a handler
        gave the first message, the event loop's thread would run while the reactor's answers the second question.

        :param metadata: the headers of the call.
        :param data: the message of the call.
        :returns: the first message, behind which the handler goes on; None where a handler has to give it.
        """
        try:
            parse(dfdaemon_pb2.SyncHostRequest, data)
        except RemoteProtocolError:
            return None
        return Answer([self.current()], HOST_INTERVAL, goes_on=True) if is_tonic(metadata) else None
