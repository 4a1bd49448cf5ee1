"""
Tests for :mod:`dragonfly_vortex.config.worker_split`.
"""

from __future__ import annotations

from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.worker_split import main_share, worker_share
from test.config.files import ConfigFileTestCase


class ShareTests(ConfigFileTestCase):
    """
    What each process of a peer has of its limits.
    """

    def config(self, workers: int, protocol: str = "tcp", connections: int = 1000, bandwidth: int = 1000) -> Config:
        """
        A peer's configuration.
        """
        return self.load(
            f"storage: {{dir: /data, server: {{protocol: {protocol}, workers: {workers}, "
            f"tcp: {{max_connections: {connections}}}}}}}\nupload: {{bandwidth_limit: {bandwidth}}}\n"
        ).config

    def shares(self, config: Config) -> list[Config]:
        """
        What each worker has.
        """
        return [worker_share(config, number) for number in range(1, config.storage.server.workers + 1)]

    def test_one_tells_of_all(self) -> None:
        """
        The main process has the page of metrics, and advertises the peer; its workers do neither.
        """
        config = self.load("storage: {server: {workers: 2}}\ndiscovery: {enable: true}\n").config
        for share in self.shares(config):
            self.assertEqual((share.metrics.enable, share.discovery.enable), (False, False))
        self.assertTrue(main_share(config).discovery.enable)

    def test_connections(self) -> None:
        """
        The workers' connections are as even as can be, and their sum is what was configured.
        """
        shares = self.shares(self.config(3, connections=11))
        self.assertEqual([share.storage.server.tcp.max_connections for share in shares], [4, 4, 3])

    def test_bandwidth(self) -> None:
        """
        So is the bandwidth; the gRPC door is one more that has a part, where it is open.
        """
        for protocol, expected in (("tcp", [334, 333, 333]), ("all", [250, 250, 250])):
            shares = self.shares(self.config(3, protocol))
            self.assertEqual([share.upload.bandwidth_limit for share in shares], expected)
        self.assertEqual(main_share(self.config(3, "all")).upload.bandwidth_limit, 250)

    def test_alone(self) -> None:
        """
        A process that has no workers beside it has all of it.
        """
        for workers, protocol in ((1, "tcp"), (1, "all"), (3, "grpc")):
            config = self.config(workers, protocol)
            self.assertEqual(main_share(config), config)

    def test_one_process(self) -> None:
        """
        A worker serves by Vortex alone, and has no workers itself; what else was configured is the same.
        """
        config = self.config(2, "all")
        share = worker_share(config, 1)
        self.assertEqual((share.storage.server.protocol, share.storage.server.workers), ("tcp", 1))
        self.assertEqual((share.storage.dir, share.download), (config.storage.dir, config.download))
        self.assertEqual((share.metrics.enable, config.metrics.enable), (False, True))

    def test_too_little(self) -> None:
        """
        Nothing that can be shared out may be less than one for each.
        """
        error = self.refused("storage:\n  server:\n    workers: 3\n    tcp: {max_connections: 2}\n")
        self.assertEqual((error.line, error.key), (3, "storage.server.workers"))
        self.assertIn("expected at most one worker for each of 2 connections (max_connections); got 3", str(error))
        error = self.refused("storage: {server: {workers: 2}}\nupload: {bandwidth_limit: 2}\n")
        self.assertIn("a byte per second for each worker and the main process", str(error))
        self.config(3, connections=3, bandwidth=3)
