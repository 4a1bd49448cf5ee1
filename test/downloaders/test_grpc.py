"""The downloader over gRPC and the announcers are what their row builds."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import default_config
from dragonfly_vortex.downloaders.grpc import announcers, build
from dragonfly_vortex.downloaders.pooled import GRPCDownloader
from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.transport.ratelimit import TokenBucket


class BuildTests(SynchronousTestCase):
    """What the row names."""

    def test_build(self) -> None:
        """It is made for the configuration, and does not connect before its first request."""
        reactor = MemoryReactorClock()
        self.assertIsInstance(build(default_config(), reactor, TokenBucket(1000, Clock())), GRPCDownloader)
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_announcers(self) -> None:
        """Each parent has an announcer of its own."""
        make = announcers(default_config(), MemoryReactorClock())
        parents = [ParentAddress.from_text(f"grpc://192.0.2.{number}:4000") for number in (1, 2)]
        made = [make(parent, lambda address: None, None) for parent in parents]
        for each in made:
            verifyObject(IPieceAnnouncer, each)
        self.assertIsNot(made[0], made[1])
