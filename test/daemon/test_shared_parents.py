"""The parents that downloads share."""

from __future__ import annotations

from typing import cast

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon import shared_parents
from dragonfly_vortex.daemon.service import IPeerReactor
from dragonfly_vortex.daemon.shared_parents import SharedParents


class SharedParentsTests(TestCase):
    """How long connections to parents stay."""

    timeout = 60

    async def test_retire(self) -> None:
        """The connections are closed when the last download that uses them is over."""
        parents = SharedParents(Config(), cast(IPeerReactor, reactor))
        with parents:
            with parents:
                retired = parents.retire()
            self.assertNoResult(retired)
        await retired

    async def test_full(self) -> None:
        """What is known of parents is to be replaced when there are very many."""
        self.patch(shared_parents, "_MOST_PARENTS", 1)
        parents = SharedParents(Config(), cast(IPeerReactor, reactor))
        for port in (1, 2):
            self.assertFalse(parents.is_full)
            parents.negotiation.add(ParentAddress.from_text(f"grpc://127.0.0.1:{port}"))
        self.assertTrue(parents.is_full)
        await parents.retire()
