"""Tasks of the storage, as schedulers hear of them."""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace
from twisted.internet.defer import CancelledError

from dragonfly_vortex.config.model import DynconfigConfig
from dragonfly_vortex.wire import PieceKind
from test.cluster.member import MemberTestCase
from test.cluster.recordings import LENGTH, PIECE_LENGTH, TASK_ID, request_of


class OwnerTests(MemberTestCase):
    """Tasks of the storage."""

    async def test_announced(self) -> None:
        """Tasks are announced each to the scheduler that it belongs to, and withdrawn when they leave the storage."""
        schedulers = [await self.scheduler(), await self.scheduler()]
        membership = await self.member(self.config(schedulers))
        tasks = [f"{number:064x}" for number in range(20)]
        for task_id in tasks:
            membership.announce_stored(self.stored(task_id))
        await self.until(lambda: membership.announced == len(tasks))
        told = [[heard.messages[0].task_id for heard in each.heard] for each in schedulers]
        self.assertEqual(sorted([*told[0], *told[1]]), tasks)
        self.assertTrue(told[0] and told[1])
        (owner,) = [each for each in schedulers if tasks[0] in each.peers.values()]
        membership.forget_stored(PieceKind.STANDARD, tasks[0])
        await self.until(lambda: tasks[0] not in owner.peers.values())
        self.assertEqual(membership.announced, len(tasks) - 1)

    async def test_while_it_is_downloaded(self) -> None:
        """A task that the storage has before its download has told its end is announced by that end alone."""
        scheduler = await self.scheduler(plays="child")
        membership = await self.member(self.config([scheduler]))
        download = self.download(membership)
        await self.until(lambda: bool(download.offers))
        membership.announce_stored(self.stored())
        download.registration.finish()
        await self.until(lambda: membership.announced == 1 and scheduler.heard[0].is_over)
        membership.announce_stored(self.stored("c" * 64))
        await self.until(lambda: membership.announced == 2)
        self.assertEqual(len(scheduler.heard), 2)

    async def test_many(self) -> None:
        """To announce one task more does not mean to look at all others."""
        scheduler = await self.scheduler()
        config = self.config([scheduler])
        membership = await self.member(dataclasses.replace(config, dynconfig=DynconfigConfig()))
        looks = 0

        def first(task_id: str) -> str:
            nonlocal looks
            looks += 1
            return f"127.0.0.1:{scheduler.port}"

        self.patch(membership._schedulers, "first", first)
        for number in range(200):
            membership.announce_stored(self.stored(f"{number:064x}"))
        await self.until(lambda: membership.announced == 200)
        self.assertLessEqual(looks, 3 * 200)

    async def test_answer(self) -> None:
        """Who announces a task hears when a scheduler has taken it, or refused it, and need not wait for that."""
        scheduler = await self.scheduler()
        scheduler.script["d" * 64] = ["url that is not absolute"]
        membership = await self.member(self.config([scheduler]))
        self.assertTrue(await membership.announce_stored(self.stored()))
        self.assertTrue(await membership.announce_stored(self.stored()))
        self.assertFalse(await membership.announce_stored(self.stored("d" * 64)))
        self.assertFalse(await membership.announce_stored(self.stored(kind=PieceKind.CACHE)))
        scheduler.is_hanging = True
        waiting = membership.announce_stored(self.stored("e" * 64))
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        scheduler.is_hanging = False
        await self.until(lambda: membership.announced == 2)

    async def test_killed_before(self) -> None:
        """The peers of an earlier process of this host, which was killed, are not offered beside the new one."""
        scheduler = await self.scheduler()
        scheduler.peers.update({"127.0.0.1-member-1": TASK_ID, "127.0.0.1-other-1": TASK_ID})
        membership = await self.member(self.config([scheduler]))
        membership.announce_stored(self.stored())
        await self.until(lambda: membership.announced == 1)
        peers = sorted(scheduler.peers)
        self.assertEqual(len(peers), 2)
        self.assertNotIn("127.0.0.1-member-1", peers)
        self.assertIn("127.0.0.1-other-1", peers)

    async def test_restarted_scheduler(self) -> None:
        """Tasks are announced again to a scheduler that has forgotten them."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        membership.announce_stored(self.stored())
        await self.until(lambda: membership.announced == 1)
        (first,) = scheduler.peers
        scheduler.peers.clear()
        scheduler.hosts.clear()
        await self.until(lambda: bool(scheduler.peers))
        self.assertNotIn(first, scheduler.peers)
        self.assertEqual(list(scheduler.hosts), ["127.0.0.1-member"])

    async def test_scheduler_that_takes_over(self) -> None:
        """When a scheduler dies its tasks are announced to the other, and again to the first when that is back."""
        schedulers = [await self.scheduler(), await self.scheduler()]
        membership = await self.member(self.config(schedulers))
        membership.announce_stored(self.stored())
        await self.until(lambda: membership.announced == 1)
        (owner,) = [each for each in schedulers if each.peers]
        (other,) = [each for each in schedulers if not each.peers]
        port = owner.port
        await owner.stop()
        await self.until(lambda: bool(other.peers))
        back = await self.scheduler(port)
        await self.until(lambda: bool(back.peers) and not other.peers)

    async def test_persistent_kinds(self) -> None:
        """A task that is kept, and that no other peer has, is uploaded: the scheduler hears its lengths."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        membership.announce_stored(self.stored(kind=PieceKind.PERSISTENT_CACHE))
        await self.until(lambda: membership.announced == 1)
        (started,) = [message for name, message in scheduler.calls if name == "UploadPersistentCacheTaskStarted"]
        self.assertEqual((started.content_length, started.piece_count, started.piece_length), (LENGTH, 3, PIECE_LENGTH))
        self.assertIn("UploadPersistentCacheTaskFinished", [name for name, _ in scheduler.calls])
        self.assertEqual(scheduler.heard, [])

    async def test_failed_download(self) -> None:
        """A download of a persistent kind that has failed leaves no peer in the scheduler's database."""
        scheduler = await self.scheduler(plays="persistent cache child that fails")
        membership = await self.member(self.config([scheduler]))
        download = self.download(membership, request_of(PieceKind.PERSISTENT_CACHE))
        await self.until(lambda: bool(download.offers))
        download.registration.fail("no space")
        await self.until(lambda: "DeletePersistentCachePeer" in [name for name, _ in scheduler.calls])
        (deleted,) = [message for name, message in scheduler.calls if name == "DeletePersistentCachePeer"]
        self.assertEqual(deleted.peer_id, scheduler.heard[0].messages[0].peer_id)

    async def test_joins(self) -> None:
        """A task that is kept, and that others have, is joined by a conversation."""
        scheduler = await self.scheduler()
        scheduler.script[TASK_ID] = ["persistent child"]
        scheduler.replicas = 1
        membership = await self.member(self.config([scheduler]))
        membership.announce_stored(self.stored(kind=PieceKind.PERSISTENT))
        await self.until(lambda: membership.announced == 1)
        self.assertEqual(scheduler.heard[0].words[-1], "download_persistent_peer_finished_request")

    async def test_made_anew(self) -> None:
        """A task that is kept, and that all peers have left, is made anew: it can be neither uploaded nor joined."""
        scheduler = await self.scheduler()
        scheduler.script[TASK_ID] = ["owner"]  # it is known
        membership = await self.member(self.config([scheduler]))
        membership.announce_stored(self.stored(kind=PieceKind.PERSISTENT_CACHE))
        await self.until(lambda: membership.announced == 1)
        names = [name for name, _ in scheduler.calls if "Task" in name]
        self.assertEqual(
            names,
            [
                *("StatPersistentCacheTask", "DeletePersistentCacheTask"),
                *("UploadPersistentCacheTaskStarted", "UploadPersistentCacheTaskFinished"),
            ],
        )

    async def test_unfinished(self) -> None:
        """A task whose length is not known, and a kind that schedulers do not know, are not announced."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        membership.announce_stored(replace(self.stored(), content_length=None))
        membership.announce_stored(self.stored(kind=PieceKind.CACHE))
        membership.announce_stored(self.stored("c" * 64))
        await self.until(lambda: membership.announced == 1)
        self.assertEqual([heard.messages[0].task_id for heard in scheduler.heard], ["c" * 64])
