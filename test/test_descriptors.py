"""How many files this process may have open."""

from __future__ import annotations

import resource

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import Config, StorageConfig, StorageServerConfig, StorageTCPConfig
from dragonfly_vortex.descriptors import allow_descriptors, within_descriptors


def config(connections: int) -> Config:
    """A configuration with so many connections."""
    tcp = StorageTCPConfig(max_connections=connections)
    return Config(storage=StorageConfig(server=StorageServerConfig(tcp=tcp)))


class DescriptorTests(TestCase):
    """The soft limit; what a hard one does is seen where a daemon has one (``test_tap``)."""

    def setUp(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.hard = limits[1]
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, self.hard))
        self.observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def soft(self) -> int:
        """The soft limit."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def test_raised(self) -> None:
        """It is raised to a socket and a file for each connection, and what else there is; never lowered."""
        self.assertEqual(allow_descriptors(config(300)), 300)
        self.assertEqual(self.soft(), 764)
        self.assertEqual(allow_descriptors(config(10)), 10)
        self.assertEqual(self.soft(), 764)

    def test_enough(self) -> None:
        """A configuration that can be had stays what it is, and nothing is said."""
        self.assertEqual(within_descriptors(config(300)), config(300))
        self.assertEqual(list(self.observer), [])

    def test_too_few(self) -> None:
        """Where the hard limit is in the way there are as many connections as it allows, and a warning."""
        if self.hard == resource.RLIM_INFINITY:
            return
        possible = (self.hard - 164) // 2
        self.assertEqual(within_descriptors(config(self.hard)), config(possible))
        self.assertEqual(self.soft(), self.hard)
        (event,) = self.observer
        self.assertEqual((event["log_level"], event["possible"]), (LogLevel.warn, possible))
