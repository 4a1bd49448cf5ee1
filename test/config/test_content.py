"""Tests of the sections about content; ``test_loader`` has each key."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import default_config
from dragonfly_vortex.config.content import DownloadConfig, GCConfig, GCPolicyConfig
from dragonfly_vortex.config.peer import unreachable


class GCConfigTests(SynchronousTestCase):
    """The rules of the configuration are those of the storage."""

    def test_thresholds(self) -> None:
        """A lower threshold above the higher one is found; equal ones are allowed."""
        for high, low, key in ((50, 51, "low"), (50, 60, "high"), (50, 50, "")):
            policy = GCPolicyConfig(disk_high_threshold_percent=high, disk_low_threshold_percent=low)
            found = [key for key, _ in unreachable(GCConfig(policy=policy))]
            self.assertEqual(found, [f"gc.policy.disk_{key}_threshold_percent"] if key else [])


class DownloadTests(SynchronousTestCase):
    """What holds for downloads without a file."""

    def test_no_door_by_itself(self) -> None:
        """Without a path there is no local door; with one only the peer's own user can open it."""
        server = DownloadConfig().server
        self.assertEqual((server.socket_path, server.socket_mode, server.socket_group), (None, 0o600, None))

    def test_part_of_the_tree(self) -> None:
        """The section is that of a whole configuration."""
        self.assertEqual(dataclasses.asdict(default_config().download), dataclasses.asdict(DownloadConfig()))
