"""Which schedulers serve."""

from __future__ import annotations

from dataclasses import replace

from dragonfly_vortex.config.cluster import SchedulerConfig
from test.cluster.member import MemberTestCase


class SchedulersTests(MemberTestCase):
    """Schedulers that come and go."""

    async def test_scheduler_that_comes_later(self) -> None:
        """A scheduler that is not there at the start is used when it is."""
        gone = await self.scheduler()
        port = gone.port
        await gone.stop()
        membership = await self.member(
            replace(self.config([]), scheduler=SchedulerConfig(addrs=(f"127.0.0.1:{port}",)))
        )
        self.assertEqual(membership.serving, frozenset())
        scheduler = await self.scheduler(port)
        await self.until(lambda: bool(membership.serving))
        self.assertEqual(list(scheduler.hosts), ["127.0.0.1-member"])
