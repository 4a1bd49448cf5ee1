"""What a member announces, and to which schedulers."""

from __future__ import annotations

from dataclasses import replace
from threading import Event, current_thread
from typing import cast

import grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher

from dragonfly_vortex.cluster import is_configured
from dragonfly_vortex.cluster.membership import IMemberReactor, Membership
from dragonfly_vortex.config import default_config
from dragonfly_vortex.config.model import DynconfigConfig, SchedulerConfig
from dragonfly_vortex.host_stats import HostMeter, HostStats
from dragonfly_vortex.rpc.status import CallFailed
from dragonfly_vortex.wire import PieceKind
from test.cluster.member import PORT, MemberTestCase
from test.cluster.recordings import TASK_ID


class _Measured(HostMeter):
    """
    A meter that has measured already.

    :param stats: what it reads.
    """

    def __init__(self, stats: HostStats) -> None:
        self.done = Event()
        self._stats = stats

    def read(self) -> HostStats:
        self.done.set()
        return self._stats


class _Broken(HostMeter):
    """A meter that cannot measure."""

    def __init__(self) -> None:
        pass

    def read(self) -> HostStats:
        raise RuntimeError("no thread")


class HostTests(MemberTestCase):
    """What schedulers hear of this host."""

    def test_configured(self) -> None:
        """A peer is a member where schedulers are named, by an address or by a file."""
        config = default_config()
        self.assertFalse(is_configured(config))
        self.assertTrue(is_configured(replace(config, scheduler=SchedulerConfig(addrs=("127.0.0.1:1",)))))
        self.assertTrue(is_configured(replace(config, dynconfig=DynconfigConfig(file=self.directory / "file"))))

    async def test_announced(self) -> None:
        """The host is announced to all schedulers, again at each interval, and leaves in the end."""
        schedulers = [await self.scheduler(), await self.scheduler()]
        membership = await self.member(self.config(schedulers, announce_interval=0.2))
        for scheduler in schedulers:
            self.assertEqual(list(scheduler.hosts), ["127.0.0.1-member"])
        await self.until(lambda: all(scheduler.announcements >= 3 for scheduler in schedulers))
        host = schedulers[0].hosts["127.0.0.1-member"]
        self.assertEqual((host.ip, host.port, host.download_port, host.type), ("127.0.0.1", PORT, PORT, 0))
        for name in ("cpu", "memory", "network", "disk", "build"):
            self.assertTrue(host.HasField(name), name)
        await membership.stop()
        self.is_stopped = True
        for scheduler in schedulers:
            self.assertEqual(scheduler.left, ["127.0.0.1-member"])

    async def test_dynconfig(self) -> None:
        """The file names the schedulers, and is read again."""
        one, two = await self.scheduler(), await self.scheduler()
        file = self.directory / "dynconfig.yaml"
        file.write_text(f"scheduler: {{addrs: ['127.0.0.1:{one.port}']}}\n")
        config = replace(self.config([]), dynconfig=DynconfigConfig(file=file, refresh_interval=0.1))
        membership = await self.member(config)
        self.assertEqual(membership.serving, {f"127.0.0.1:{one.port}"})
        file.write_text(f"scheduler: {{addr: 'localhost:{two.port}'}}\n")
        await self.until(lambda: membership.serving == {f"127.0.0.1:{two.port}"})
        file.write_text("scheduler: {addrs: [nonsense]}\n")
        await self.until(lambda: bool(self.flushLoggedErrors()) or two.announcements >= 1)
        self.assertEqual(membership.serving, {f"127.0.0.1:{two.port}"})

    async def test_address_of_this_machine(self) -> None:
        """A loopback address is of no use to a scheduler on another machine: a warning says so."""
        membership = Membership(self.config([]), cast(IMemberReactor, reactor), PORT)
        await membership.start()
        self.addCleanup(membership.stop)
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        await membership._welcome("192.0.2.1:8002")
        await membership._welcome("127.0.0.1:8002")
        warnings = [event for event in observer if "set host.ip" in str(event.get("log_format"))]
        self.assertEqual([event["address"] for event in warnings], ["192.0.2.1:8002"])

    async def test_announcement_late(self) -> None:
        """A host that leaves while it is measured is not announced after that."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        announced = scheduler.announcements
        measured = membership._meter = _Measured(membership._meter.read())
        again = Deferred.fromCoroutine(membership._announce_again())
        measured.done.wait()
        stopping = membership.stop()
        await again
        await stopping
        self.assertEqual(scheduler.announcements, announced)

    async def test_failed_turn(self) -> None:
        """The host is announced again at the next interval where it could not be measured once."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler], announce_interval=0.1))
        meter, membership._meter = membership._meter, _Broken()
        await self.until(lambda: bool(self.flushLoggedErrors(RuntimeError)))
        announced = scheduler.announcements
        membership._meter = _Measured(meter.read())
        await self.until(lambda: scheduler.announcements > announced)
        self.flushLoggedErrors(RuntimeError)

    async def test_threads(self) -> None:
        """A thread that a disk or a name server keeps does not keep the process."""
        membership = await self.member(self.config([]))
        self.assertTrue(await membership._in_thread(lambda: current_thread().daemon))

    async def test_refresh_late(self) -> None:
        """A list of schedulers that is read while the member stops is not used."""
        scheduler = await self.scheduler()
        config = self.config([scheduler])
        membership = await self.member(replace(config, scheduler=SchedulerConfig(addrs=())))
        membership._config = config
        refreshed = Deferred.fromCoroutine(membership._refresh())
        await membership.stop()
        await refreshed
        self.assertEqual((membership._schedulers.known, scheduler.announcements), (frozenset(), 0))

    async def test_stat(self) -> None:
        """What a scheduler knows of a task can be asked, and that it does not know it, or is not there, is an error."""
        scheduler = await self.scheduler(plays="child")
        membership = await self.member(self.config([scheduler]))
        task = await membership.stat(PieceKind.STANDARD, TASK_ID)
        self.assertEqual(getattr(task, "id"), TASK_ID)  # noqa: B009  # of each kind of task
        for task_id, code in (("c" * 64, grpc.StatusCode.NOT_FOUND), (TASK_ID, grpc.StatusCode.UNAVAILABLE)):
            if code is grpc.StatusCode.UNAVAILABLE:
                await scheduler.stop()
                await self.until(lambda: not membership.serving)
            with self.assertRaises(CallFailed) as raised:
                await membership.stat(PieceKind.STANDARD, task_id)
            self.assertIs(raised.exception.status.code, code)

    async def test_delete_host(self) -> None:
        """The host can leave for a while."""
        scheduler = await self.scheduler()
        membership = await self.member(self.config([scheduler]))
        await membership.delete_host()
        self.assertEqual(scheduler.left, ["127.0.0.1-member"])
