"""The Vortex door opens a port and goes on with another configuration; ``test_service`` has it in a whole peer."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import Config, StorageConfig, StorageServerConfig, StorageTCPConfig, TLSConfig, server_tls
from dragonfly_vortex.daemon.vortex_door import VortexDoor
from dragonfly_vortex.errors import CertificateUnusable
from test.certificates import Authority
from test.daemon.door_settings import door_settings


def config(port: int = 0, tls: TLSConfig | None = None) -> Config:
    """A configuration that listens on 127.0.0.1."""
    server = StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=port))
    return Config(storage=StorageConfig(server=server), tls=tls or TLSConfig())


class VortexDoorTests(TestCase):
    """A door without a store that is open."""

    async def test_open(self) -> None:
        """It listens once it is open, serves at once, and listens no more when it has stopped."""
        door = VortexDoor(door_settings(config(), Path(self.mktemp())))
        door.open()
        self.addCleanup(door.stop, 0.0)
        self.assertIsNotNone(door.address)
        self.successResultOf(door.start())
        await door.stop(0.0)
        self.assertIsNone(door.address)

    def test_port_in_use(self) -> None:
        """A port in use is reported when the door opens."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            door = VortexDoor(door_settings(config(other.getsockname()[1]), Path(self.mktemp())))
            self.assertRaises(CannotListenError, door.open)

    def test_reload(self) -> None:
        """TLS files that cannot be used are reported before anything changes."""
        directory = Path(self.mktemp())
        directory.mkdir()
        issued = Authority(directory).issue()
        tls = TLSConfig(cert=issued.certificate, key=issued.key)
        door = VortexDoor(door_settings(config(tls=tls), directory))
        broken = config(tls=replace(tls, cert=directory / "missing.crt"))
        self.assertRaises(CertificateUnusable, door.prepare_reload, broken, server_tls(broken))
        door.prepare_reload(config(tls=tls), server_tls(config(tls=tls)))()
