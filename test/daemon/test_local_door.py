"""The local door sees whether its socket can be had; ``test.rpc.test_local_server`` has it in a whole peer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import TestCase

from dragonfly_vortex.config import DownloadServerConfig
from dragonfly_vortex.daemon.local_door import LocalDoor
from dragonfly_vortex.daemon.peer_tasks import LocalTasks
from test.rpc.local_peer import peer_reactor


class LocalDoorTests(TestCase):
    """A door without a peer."""

    timeout = 60

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="dfl")
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "peer.sock")

    def door(self) -> LocalDoor:
        """A door at the path."""
        return LocalDoor(DownloadServerConfig(), self.path, cast(LocalTasks, None), peer_reactor)

    async def test_start(self) -> None:
        """Opening it leaves nothing; once it has started it listens, and no more when it has stopped."""
        door = self.door()
        door.open()
        self.assertFalse(self.path.exists())
        await door.start()
        self.assertIsNotNone(door.address)
        self.assertRaises(CannotListenError, self.door().open)
        await door.stop(0.0)
        self.assertIsNone(door.address)
        self.assertFalse(self.path.exists())

    def test_import(self) -> None:
        """Importing the module imports no grpc."""
        code = "import sys, dragonfly_vortex.daemon.local_door; print('grpc' in sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout, "False\n")
