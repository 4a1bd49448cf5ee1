"""What is said about a host is what Dragonfly's peers look for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.model import HostConfig
from dragonfly_vortex.rpc.host import host_message


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
