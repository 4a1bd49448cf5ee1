"""Which pages a peer has over HTTP; what is on them is seen where a peer serves them (``test_service``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import (
    Config,
    HealthConfig,
    HealthServerConfig,
    MetricsConfig,
    StorageConfig,
    default_config,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.downloads import Downloads
from dragonfly_vortex.daemon.pages import health_server, metrics_server
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.storage.reactor.store import PieceStore

peer_reactor = cast(IPeerReactor, reactor)


class PagesTests(SynchronousTestCase):
    """Servers that are made, and not started."""

    def has_metrics(self, *, enable: bool) -> bool:
        """Whether there is a page of metrics."""
        storage = Path(self.mktemp()).absolute()
        config = Config(storage=StorageConfig(dir=storage), metrics=MetricsConfig(enable=enable))
        store = PieceStore(storage, peer_reactor)
        downloads = Downloads(config, peer_reactor, store)
        return metrics_server(config, peer_reactor, {}, downloads, Tally(), store, list) is not None

    def test_metrics(self) -> None:
        """A peer that is to tell nothing has no server for it."""
        self.assertEqual([self.has_metrics(enable=enable) for enable in (True, False)], [True, False])

    def test_health(self) -> None:
        """There are pages for probes where the configuration has a port for them, unless they are turned off."""
        place = HealthServerConfig(port=0)
        self.assertIsNotNone(health_server(Config(health=HealthConfig(server=place)), peer_reactor, list))
        self.assertIsNone(health_server(default_config(), peer_reactor, list))
        self.assertIsNone(health_server(Config(health=HealthConfig(enable=False, server=place)), peer_reactor, list))

    def test_loaded_late(self) -> None:
        """The web server is loaded only by peers that have pages."""
        program = "import sys, dragonfly_vortex.daemon.pages as pages; print('twisted.web.server' in sys.modules)"
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
        self.assertEqual(ran.stdout, "False\n")
