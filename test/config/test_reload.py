"""What of a configuration can change while a peer runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import Config, TLSConfig, reloaded


class ReloadedTests(SynchronousTestCase):
    """What is taken from a new configuration."""

    def setUp(self) -> None:
        self.running = Config()

    def test_nothing_new(self) -> None:
        """The same configuration changes nothing."""
        self.assertEqual(reloaded(self.running, Config()), (self.running, ()))

    def test_limits(self) -> None:
        """Limits and timeouts are taken."""
        server = self.running.storage.server
        tcp = replace(server.tcp, max_connections=7, idle_timeout=8.0)
        storage = replace(self.running.storage, server=replace(server, tcp=tcp))
        upload = replace(self.running.upload, bandwidth_limit=9)
        new = replace(self.running, storage=storage, upload=upload, shutdown_timeout=1.0)
        self.assertEqual(reloaded(self.running, new), (new, ()))

    def test_restart(self) -> None:
        """Ports, places and the local door hold from the next start on."""
        server = self.running.storage.server
        storage = replace(
            self.running.storage, dir=Path("elsewhere"), server=replace(server, tcp=replace(server.tcp, port=1))
        )
        door = replace(self.running.download.server, socket_path=Path("/run/peer.sock"))
        download = replace(self.running.download, server=door, concurrent_task_count=1)
        keys = ("download.concurrent_task_count", "download.server.socket_path")
        new = replace(self.running, storage=storage, download=download)
        self.assertEqual(reloaded(self.running, new), (self.running, (*keys, "storage.dir", "storage.server.tcp.port")))

    def test_downloads(self) -> None:
        """What the next download goes by is taken."""
        new = replace(self.running, download=replace(self.running.download, concurrent_piece_count=3))
        self.assertEqual(reloaded(self.running, new), (new, ()))

    def test_certificates(self) -> None:
        """Files for TLS are taken, unless they turn TLS on or off, or make it mutual."""
        none, one = TLSConfig(), TLSConfig(cert=Path("a.crt"), key=Path("a.key"))
        other = TLSConfig(cert=Path("b.crt"), key=Path("b.key"))
        mutual = replace(other, ca_cert=Path("ca.crt"))
        for before, after, left in (
            (one, other, ()),
            (none, one, ("tls.cert", "tls.key")),
            (one, none, ("tls.cert", "tls.key")),
            (other, mutual, ("tls.ca_cert",)),
        ):
            running, new = replace(self.running, tls=before), replace(self.running, tls=after)
            taken = before if left else after
            self.assertEqual(reloaded(running, new), (replace(running, tls=taken), left))
