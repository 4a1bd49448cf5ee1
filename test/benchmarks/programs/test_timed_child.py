"""A child that keeps nothing, and counts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from benchmarks.programs.timed_child import Tally
from dragonfly_vortex.interfaces import IPieceSink


class TallyTests(SynchronousTestCase):
    """Where the pieces go."""

    def test_counts(self) -> None:
        """The bytes of all pieces are counted, by a sink as others are."""
        tally = Tally()
        verifyObject(IPieceSink, tally)
        tally.write(b"four")
        tally.write(memoryview(b"seven.."))
        self.assertEqual(tally.received, 11)
