"""The doors of all transports have what the service of a peer asks of a door."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.door import Door
from dragonfly_vortex.transport_table import load_code, transports_named
from test.daemon.door_settings import door_settings


class DoorTests(SynchronousTestCase):
    """What a class of a door has to define."""

    def test_all(self) -> None:
        """Each defines all that the base class leaves open; built, it listens nowhere."""
        left_open = ("address", "tallies", "open", "start", "prepare_reload", "stop")
        for transport in transports_named("all"):
            door_class = load_code(transport.door)
            self.assertTrue(issubclass(door_class, Door))
            for name in left_open:
                self.assertIsNot(getattr(door_class, name), getattr(Door, name), f"{transport.name}: {name}")
            door = door_class(door_settings(Config(), Path(self.mktemp())))
            self.assertIsNone(door.address)
            self.assertEqual([tally.bytes_sent for tally in door.tallies], [0])
            self.assertEqual([*door.worker_pids], [])
