"""The keys for a peer in a cluster."""

from __future__ import annotations

from dragonfly_vortex.config.tls_files import scheduler_tls
from dragonfly_vortex.errors import ConfigError
from test.config.files import ConfigFileTestCase


class ClusterTests(ConfigFileTestCase):
    """What is taken and refused."""

    def test_addresses(self) -> None:
        """Schedulers are IP addresses with ports: names are for the file of dynconfig."""
        config = self.load("scheduler: {addrs: ['10.0.0.1:8002', '[::1]:8002']}\n").config
        self.assertEqual(config.scheduler.addrs, ("10.0.0.1:8002", "[::1]:8002"))
        for text, key in (
            ("['scheduler:8002']", "scheduler.addrs[0]"),
            ("['10.0.0.1']", "scheduler.addrs[0]"),
            ("['999.0.0.1:8002']", "scheduler.addrs[0]"),
            ("10.0.0.1:8002", "scheduler.addrs"),
        ):
            error = self.assertRaises(ConfigError, self.load, f"scheduler: {{addrs: {text}}}\n")
            self.assertEqual(error.key, key)

    def test_tls(self) -> None:
        """As in the reference, TLS needs all three files; with fewer there is a warning, and none."""
        loaded = self.load("scheduler: {cert: /c, key: /k, caCert: /a}\n")
        self.assertIsNotNone(scheduler_tls(loaded.config))
        self.assertEqual(loaded.warnings, ())
        loaded = self.load("scheduler: {caCert: /a}\n")
        self.assertIsNone(scheduler_tls(loaded.config))
        self.assertIn("without TLS", loaded.warnings[0])
