"""Which schedulers serve."""

from __future__ import annotations

from dataclasses import replace

from dragonfly_api import scheduler_pb2

from dragonfly_vortex.config.cluster import SchedulerConfig
from dragonfly_vortex.rpc.status import CallFailed
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

    async def test_removed(self) -> None:
        """A call to a scheduler that the configuration names no more fails, as one to a scheduler that is away."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        schedulers = membership._schedulers
        schedulers.set_known(())
        request = scheduler_pb2.DeleteHostRequest(host_id="h")
        with self.assertRaises(CallFailed):
            await schedulers.call(f"127.0.0.1:{scheduler.port}", "DeleteHost", request)
        with self.assertRaises(CallFailed):
            schedulers.converse(f"127.0.0.1:{scheduler.port}", "AnnouncePeer", lambda data: None)
