"""Tests of the rules of the garbage collection."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from msgspec.structs import fields as struct_fields
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config import GCPolicyConfig
from dragonfly_vortex.storage.policy import Policy, policy_of, usage
from dragonfly_vortex.wire import PieceKind


class PolicyTests(SynchronousTestCase):
    """The rules, and those of the configuration."""

    def test_policy(self) -> None:
        """Names and defaults are the same in both places, and a value gets there."""
        self.assertEqual([each.name for each in fields(GCPolicyConfig)], [each.name for each in struct_fields(Policy)])
        self.assertEqual(policy_of(GCPolicyConfig()), Policy())
        self.assertEqual(policy_of(GCPolicyConfig(disk_threshold=5)), Policy(disk_threshold=5))

    def test_ttl(self) -> None:
        """Each kind has its own time, in whole seconds."""
        policy = Policy(task_ttl=1.5, persistent_task_ttl=2, persistent_cache_task_ttl=3)
        self.assertEqual([policy.ttl_of(kind) for kind in PieceKind], [2, 2, 3, 2])

    def test_usage(self) -> None:
        """With a threshold the content alone counts, without one the disk with all that is there."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertEqual(usage(directory, 100, 30), (100, 30))
        total, used = usage(directory, 0, 30)
        disk = os.statvfs(directory)
        self.assertEqual(total, disk.f_blocks * disk.f_frsize)
        self.assertTrue(0 < used <= total)
