"""The interface of the targets is provided by those that the package has, and by those of its kit."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.storage.reactor.stored_target import StoredTarget
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.task.pipe_target import PipeTarget
from dragonfly_vortex.testing.memory_store import MemoryTarget


class TargetTests(SynchronousTestCase):
    """All targets can be used in place of each other."""

    def test_all(self) -> None:
        """Each has all methods and attributes, with the parameters of the interface."""
        for target in (OutputTarget, PipeTarget, StoredTarget, MemoryTarget):
            self.assertTrue(verifyClass(IDownloadTarget, target), target)
