"""The peer's own tasks are what the servicer wants."""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import Config, HostConfig, SeedPeerConfig
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from dragonfly_vortex.rpc.peer_tasks import PeerTasks
from dragonfly_vortex.storage.reactor.store import PieceStore
from test.rpc.local_peer import peer_reactor


class NameTests(SynchronousTestCase):
    """What a peer is called."""

    def tasks(self, *, seed: bool) -> PeerTasks:
        """The tasks of a peer."""
        host = HostConfig(ip="10.0.0.1", hostname="peer")
        config = Config(host=host, seed_peer=SeedPeerConfig(enable=seed))
        store = cast(PieceStore, None)
        return LocalTasks(config, peer_reactor, store, Downloads(config, peer_reactor, store))

    def test_names(self) -> None:
        """Host and peer IDs are formed as the reference forms them; no two downloads have one peer ID."""
        for seed, end in ((False, ""), (True, "-seed")):
            tasks = self.tasks(seed=seed)
            self.assertEqual(tasks.host_id, f"10.0.0.1-peer{end}")
            first, second = tasks.new_peer_id(), tasks.new_peer_id()
            self.assertNotEqual(first, second)
            self.assertRegex(first, f"^10.0.0.1-peer-[0-9a-f-]{{36}}{end}$")
