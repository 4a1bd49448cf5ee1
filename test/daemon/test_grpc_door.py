"""The gRPC door sees whether its port can be had; ``test_service`` has it in a whole peer."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import Config, UploadConfig, UploadServerConfig
from dragonfly_vortex.daemon.grpc_door import GRPCDoor
from test.daemon.door_settings import door_settings


class GRPCDoorTests(TestCase):
    """A door without a store that is open."""

    timeout = 120

    def door(self, port: int) -> GRPCDoor:
        """A door on that port."""
        config = Config(upload=UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=port)))
        return GRPCDoor(door_settings(config, Path(self.mktemp())))

    async def test_start(self) -> None:
        """Opening it leaves nothing; once it has started it listens, and no more when it has stopped."""
        door = self.door(0)
        door.open()
        self.assertIsNone(door.address)
        self.addCleanup(door.stop, 0.0)
        await door.start()
        self.assertIsNotNone(door.address)
        await door.stop(0.0)
        self.assertIsNone(door.address)

    def test_port_in_use(self) -> None:
        """A port in use is reported when the door opens."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.assertRaises(CannotListenError, self.door(other.getsockname()[1]).open)

    def test_import(self) -> None:
        """Importing the module imports no grpc."""
        code = "import sys, dragonfly_vortex.daemon.grpc_door; print('grpc' in sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout, "False\n")
