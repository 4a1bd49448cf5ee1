"""Free memory that is there."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.free_memory import have_free_memory


class FreeMemoryTests(SynchronousTestCase):
    """Memory that is used and let go of."""

    def test_used(self) -> None:
        """So much has been in memory at once, every page of it."""
        length = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 32 * 2**20
        have_free_memory(length)
        self.assertGreaterEqual(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, length)
