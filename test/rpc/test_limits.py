"""How long questions may be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.inquiry import MAX_PIECES
from dragonfly_vortex.rpc.limits import MAX_NUMBERS, MAX_PLAIN_REQUEST, MAX_REQUEST
from dragonfly_vortex.rpc.methods import METHODS


class LimitTests(SynchronousTestCase):
    """A child's questions are not too long for a parent."""

    def test_numbers(self) -> None:
        """The longest question that a child asks fits, with IDs that are as long as a plain question may be."""
        numbers = range(MAX_PIECES - MAX_NUMBERS, MAX_PIECES)
        for row in METHODS.values():
            request = row.sync_request(**{"task_id": "x" * MAX_PLAIN_REQUEST, row.interested: numbers})
            self.assertLess(request.ByteSize(), MAX_REQUEST)
