"""What is said about a host is what Dragonfly's peers look for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import HostConfig, SeedPeerConfig, UploadConfig, default_config
from dragonfly_vortex.config.model import SchedulerConfig
from dragonfly_vortex.host_stats import HostMeter, NetworkMeter
from dragonfly_vortex.rpc.host import announcement, host_id, host_message


class HostMessageTests(SynchronousTestCase):
    """A host from its names and port."""

    def test_names(self) -> None:
        """The ID is made of address and name, and both ports are the server's."""
        host = host_message(HostConfig(ip="192.0.2.1", hostname="peer"), 4000)
        self.assertEqual((host.id, host.ip, host.hostname, host.name), ("192.0.2.1-peer", "192.0.2.1", "peer", "peer"))
        self.assertEqual((host.port, host.download_port), (4000, 4000))

    def test_survives_the_wire(self) -> None:
        """It can be written and read."""
        host = host_message(HostConfig(), 1)
        self.assertEqual(type(host).FromString(host.SerializeToString()), host)


CONFIG = replace(
    default_config(),
    host=HostConfig(ip="192.0.2.7", hostname="peer", idc="idc-1", location="a|b"),
    scheduler=SchedulerConfig(announce_interval=1.5),
)


class AnnouncementTests(SynchronousTestCase):
    """The message."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.stats = HostMeter(directory, NetworkMeter("127.0.0.1", 1000, 2000)).read()

    def test_announcement(self) -> None:
        """It has what was measured, and what the configuration says."""
        request = announcement(CONFIG, 4001, self.stats)
        host = request.host
        self.assertEqual(request.interval.ToMilliseconds(), 1500)
        self.assertEqual((host.id, host.type, host.ip, host.hostname), ("192.0.2.7-peer", 0, "192.0.2.7", "peer"))
        self.assertEqual((host.port, host.download_port), (4001, 4001))
        self.assertEqual((host.network.idc, host.network.location), ("idc-1", "a|b"))
        self.assertEqual((host.network.max_rx_bandwidth, host.network.max_tx_bandwidth), (8000, 16000))
        self.assertEqual(host.cpu.logical_count, self.stats.logical_cpus)
        self.assertEqual(host.memory.total, self.stats.memory_total)
        self.assertEqual(host.disk.total, self.stats.disk_total)
        self.assertTrue(host.build.git_version)
        self.assertFalse(host.disable_shared)

    def test_seed(self) -> None:
        """A seed has another ID and type; a host may ask not to be offered."""
        config = replace(CONFIG, seed_peer=SeedPeerConfig(enable=True), upload=UploadConfig(disable_shared=True))
        host = announcement(config, 4001, self.stats).host
        self.assertEqual((host.id, host.type, host.disable_shared), ("192.0.2.7-peer-seed", 1, True))
        self.assertEqual(host_id(config), host.id)
