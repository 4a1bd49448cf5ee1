"""Where the hosts of a cluster are, as a real member learns it of a fake scheduler."""

from __future__ import annotations

from threading import current_thread, main_thread
from typing import cast

from dragonfly_api import common_pb2
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dragonfly_vortex.cluster import hosts
from dragonfly_vortex.rpc.status import CallFailed
from test.cluster.member import MemberTestCase
from test.cluster.recordings import TASK_ID


class HostsTests(MemberTestCase):
    """Hosts that are found, and those that are not."""

    async def test_hosts_not_listed(self) -> None:
        """A scheduler that fails to list its hosts is not asked again for each child, but after a pause."""
        self.patch(hosts, "_UNKNOWN_FOR", 0.5)
        scheduler = await self.scheduler()
        scheduler.refused = {"ListHosts"}
        membership = await self.member(self.config([scheduler]))
        await self.assertFailure(membership.find_host(TASK_ID, "127.0.0.1-member"), CallFailed)
        for _ in range(5):
            self.assertIsNone(await membership.find_host(TASK_ID, "127.0.0.1-member"))
        self.assertEqual([method for method, _ in scheduler.calls].count("ListHosts"), 1)
        scheduler.refused = set()

        async def found() -> bool:
            return await membership.find_host(TASK_ID, "127.0.0.1-member") is not None

        while not await found():
            await deferLater(cast(IReactorTime, reactor), 0.05)

    async def test_many_hosts(self) -> None:
        """Hundreds of children are found by one question to the scheduler."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        places = [membership.find_host(TASK_ID, f"child-{number}") for number in range(400)]
        self.assertEqual(await gatherResults(places), [None] * 400)
        self.assertEqual([method for method, _ in scheduler.calls].count("ListHosts"), 1)

    async def test_large_answer(self) -> None:
        """The hosts of a large cluster are read in a thread, not in a turn of the reactor."""
        threads, read_places = [], hosts.read_places

        def read(data: bytes) -> hosts.Places:
            threads.append(current_thread())
            return read_places(data)

        self.patch(hosts, "read_places", read)
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        many = (common_pb2.Host(id=f"host-{number}", ip="192.0.2.1", port=number) for number in range(1, 2001))
        scheduler.hosts.update((host.id, host) for host in many)
        self.assertEqual(await membership.find_host(TASK_ID, "host-2000"), ("192.0.2.1", 2000))
        self.assertNotIn(main_thread(), threads)
