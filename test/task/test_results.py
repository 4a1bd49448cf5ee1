"""Tests of a download's result."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.events import ParentShare
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.results import share_of


class ShareTests(SynchronousTestCase):
    """What each parent has given."""

    def test_share(self) -> None:
        """Only its own pieces count; a parent that has sent nothing has a share of nothing."""
        pieces = [VerifiedPiece(parent=name, length=length) for name, length in (("a", 3), ("b", 5), ("a", 2))]
        self.assertEqual(share_of("a", pieces), ParentShare(parent="a", piece_count=2, content_length=5))
        self.assertEqual(share_of("c", pieces), ParentShare(parent="c", piece_count=0, content_length=0))
