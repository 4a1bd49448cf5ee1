"""The downloader over TCP is what its row builds; ``test_factory`` tries what the configuration does to it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.pooled import TCPDownloader
from dragonfly_vortex.downloaders.tcp import build
from dragonfly_vortex.transport.ratelimit import TokenBucket


class BuildTests(SynchronousTestCase):
    """What the row names."""

    def test_build(self) -> None:
        """It is made for the configuration, and does not connect before its first request."""
        reactor = MemoryReactorClock()
        self.assertIsInstance(build(default_config(), reactor, TokenBucket(1000, Clock())), TCPDownloader)
        self.assertEqual((reactor.tcpClients, reactor.getDelayedCalls()), ([], []))
