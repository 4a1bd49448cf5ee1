"""The sections about downloads."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import default_config
from dragonfly_vortex.config.download import DownloadConfig


class DownloadTests(SynchronousTestCase):
    """What holds without a file; ``test_loader`` has each key."""

    def test_no_door_by_itself(self) -> None:
        """Without a path there is no local door; with one only the peer's own user can open it."""
        server = DownloadConfig().server
        self.assertEqual((server.socket_path, server.socket_mode, server.socket_group), (None, 0o600, None))

    def test_part_of_the_tree(self) -> None:
        """The section is that of a whole configuration."""
        self.assertEqual(dataclasses.asdict(default_config().download), dataclasses.asdict(DownloadConfig()))
