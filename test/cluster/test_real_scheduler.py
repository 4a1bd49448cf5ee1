"""A member of a cluster whose scheduler is a real one; skipped where there is none."""

from __future__ import annotations

import os
import unittest
from dataclasses import replace
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from benchmarks.cluster.programs import Scheduler
from dragonfly_vortex.cluster.hash_ring import HashRing
from dragonfly_vortex.cluster.membership import IMemberReactor, Membership
from dragonfly_vortex.config.model import HostConfig, SchedulerConfig
from dragonfly_vortex.wire import PieceKind
from test.cluster.member import Download, MemberTestCase
from test.cluster.recordings import PIECE_LENGTH, TASK_ID, request_of

PROGRAM = os.environ.get("DFVORTEX_SCHEDULER", "")


class RealSchedulerTestCase(MemberTestCase):
    """Hosts of this process, and schedulers in processes of their own."""

    timeout = 240

    def setUp(self) -> None:
        super().setUp()
        self.reals: list[Scheduler] = []

    async def scheduler_process(self, name: str) -> Scheduler:
        """A scheduler that serves until the end of the test."""
        directory = self.directory.absolute() / name
        directory.mkdir()
        real = Scheduler(Path(PROGRAM), directory)
        await deferToThread(real.__enter__)
        self.addCleanup(deferToThread, real.__exit__)
        return real

    async def host(self, name: str, port: int, *, is_stopped: bool = True) -> Membership:
        """A host of the cluster; with ``is_stopped`` it is stopped at the end."""
        config = replace(
            self.config([]),
            host=HostConfig(ip="127.0.0.1", hostname=name),
            scheduler=SchedulerConfig(
                addrs=tuple(f"127.0.0.1:{real.port}" for real in self.reals), schedule_timeout=5.0
            ),
        )
        membership = Membership(config, cast(IMemberReactor, reactor), port)
        await membership.start()
        if is_stopped:
            self.addCleanup(membership.stop)
        return membership

    async def owner(self) -> Membership:
        """A host that has the task, and of which the scheduler knows that."""
        owner = await self.host("owner", 4001)
        owner.announce_stored(self.stored())
        await self.until(lambda: owner.announced == 1)
        return owner

    def answered(self, download: Download) -> Deferred[None]:
        """Fires when a scheduler has said something to a download."""
        return self.until(lambda: bool(download.offers or download.reasons))

    def announced(self, membership: Membership) -> Deferred[None]:
        """Fires when a scheduler knows the task of a host."""
        return self.until(lambda: membership.announced == 1)

    def ports(self, download: Download) -> list[list[int]]:
        """The ports of the parents of each offer."""
        return [[parent.port for parent in offer] for offer in download.offers]


@unittest.skipUnless(
    os.path.isfile(PROGRAM), "expected the program of Dragonfly's scheduler 2.5.1 in DFVORTEX_SCHEDULER"
)
class RealSchedulerTests(RealSchedulerTestCase):
    """One scheduler."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        super().setUp()
        self.real = await self.scheduler_process("scheduler")
        self.reals = [self.real]

    async def test_owner_is_offered(self) -> None:
        """A child is offered the owner, and then the next child the first one, too."""
        await self.owner()
        child = await self.host("child", 4002)
        download = self.download(child)
        await self.until(lambda: bool(download.offers))
        self.assertEqual(self.ports(download), [[4001]])
        self.assertEqual(download.offers[0][0].content_length, request_of().content_length)
        download.registration.finish()
        await self.until(lambda: child.announced == 1)
        second = self.download(await self.host("second", 4003))
        await self.until(lambda: bool(second.offers))
        self.assertEqual(sorted(self.ports(second)[0]), [4001, 4002])
        second.registration.fail("enough")

    async def test_host_that_was_killed(self) -> None:
        """A host that comes back without having left is offered once."""
        await self.owner()
        await self.owner()
        download = self.download(await self.host("child", 4002))
        await self.until(lambda: bool(download.offers))
        self.assertEqual(self.ports(download), [[4001]])
        download.registration.fail("enough")

    async def test_reschedule(self) -> None:
        """Parents that do not do are not offered again; without others the source is named."""
        await self.owner()
        download = self.download(await self.host("child", 4002))
        await self.until(lambda: bool(download.offers))
        download.registration.report_failure(download.offers[0][0].peer_id)
        download.registration.reschedule("it does not answer")
        await self.until(lambda: bool(download.reasons))
        self.assertIn("RetryBackToSourceLimit", download.reasons[0])
        download.registration.fail("no source")

    async def test_withdrawn(self) -> None:
        """A task that has left the storage, and a host that has left, are offered no more."""
        owner = await self.owner()
        owner.forget_stored(PieceKind.STANDARD, TASK_ID)
        child = await self.host("child", 4002)
        for _ in range(50):  # the scheduler hears of it in its own time
            download = self.download(child)
            await self.answered(download)
            download.registration.fail("enough")
            if download.reasons:
                break
        self.assertEqual(download.offers, [])

    async def test_killed(self) -> None:
        """A scheduler that is killed and comes back knows the owner and the child again; the download never ends."""
        owner = await self.owner()
        child = await self.host("child", 4002)
        download = self.download(child)
        await self.until(lambda: bool(download.offers))
        await deferToThread(self.real.kill)
        await self.until(lambda: bool(download.reasons))
        self.assertEqual(download.reasons[0], "no scheduler can be reached")
        await deferToThread(self.real.start)
        await self.until(lambda: bool(owner.serving and child.serving and owner.announced))
        third = await self.host("third", 4003)
        while True:  # until the owner has been announced again, the source is named
            later = self.download(third)
            await self.answered(later)
            later.registration.fail("enough")
            if later.offers and 4001 in self.ports(later)[0]:
                break
        download.registration.finish()
        await self.until(lambda: child.announced == 1)

    async def test_frozen(self) -> None:
        """A scheduler that hangs when other parents are asked for is not waited for, and is used when it goes on."""
        await self.owner()
        child = await self.host("child", 4002)
        download = self.download(child)
        await self.until(lambda: bool(download.offers))
        self.real.freeze(True)
        download.registration.reschedule("it does not answer")
        await self.until(lambda: bool(download.reasons))
        self.real.freeze(False)
        await self.until(lambda: len(download.offers) == 2)
        download.registration.finish()
        await self.until(lambda: child.announced == 1)

    async def test_kinds(self) -> None:
        """Tasks of the persistent kinds are offered, also after the only owner has left and come back."""
        for number, kind in enumerate((PieceKind.PERSISTENT, PieceKind.PERSISTENT_CACHE)):
            task_id = f"{number:064x}"
            owner = await self.host(f"owner-{number}", 4001, is_stopped=False)
            owner.announce_stored(self.stored(task_id, kind))
            await self.announced(owner)
            child = await self.host(f"child-{number}", 4002)
            download = self.download(child, request_of(kind, task_id=task_id))
            await self.answered(download)
            self.assertEqual(self.ports(download), [[4001]], download.reasons)
            download.registration.fail("enough")
            await owner.stop()
            again = await self.host(f"again-{number}", 4003)
            again.announce_stored(self.stored(task_id, kind))
            await self.announced(again)
            download = self.download(child, request_of(kind, task_id=task_id))
            await self.answered(download)
            self.assertEqual(self.ports(download), [[4003]], download.reasons)
            download.registration.fail("enough")

    async def test_unregistered_length(self) -> None:
        """A child that does not know the length does not make an empty task of it for all others."""
        child = await self.host("child", 4002)
        download = self.download(child, request_of(content_length=None, piece_length=None))
        await self.until(lambda: bool(download.reasons))
        await self.owner()
        await self.until(lambda: bool(download.offers))
        self.assertEqual(self.ports(download), [[4001]])
        self.assertGreater(download.offers[0][0].content_length, PIECE_LENGTH)
        download.registration.fail("enough")


@unittest.skipUnless(
    os.path.isfile(PROGRAM), "expected the program of Dragonfly's scheduler 2.5.1 in DFVORTEX_SCHEDULER"
)
class TwoRealSchedulersTests(RealSchedulerTestCase):
    """Two schedulers that know nothing of each other."""

    async def test_other_takes_over(self) -> None:
        """When its scheduler is killed a download is registered with the other, and so is the owner."""
        one, two = self.reals = [await self.scheduler_process("one"), await self.scheduler_process("two")]
        owner = await self.owner()
        download = self.download(await self.host("child", 4002))
        await self.until(lambda: bool(download.offers))
        (address, *_) = HashRing(f"127.0.0.1:{each.port}" for each in (one, two)).in_order(TASK_ID)
        (asked,) = [each for each in (one, two) if address.endswith(f":{each.port}")]
        await deferToThread(asked.kill)
        # The other one may be asked before the owner is announced to it, and names the source then.
        await self.until(lambda: len(download.offers) == 2 or bool(download.reasons))
        await self.until(lambda: owner.announced == 1 and len(owner.serving) == 1)
        later = self.download(await self.host("later", 4003))
        await self.until(lambda: bool(later.offers))
        self.assertIn(4001, self.ports(later)[0])
        for each in (download, later):
            each.registration.fail("enough")
