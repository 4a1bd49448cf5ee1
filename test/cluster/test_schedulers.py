"""Which schedulers serve."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import cast

import grpc
from dragonfly_api import scheduler_pb2
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads

from benchmarks.processes import free_port
from dragonfly_vortex.cluster.schedulers import Schedulers
from dragonfly_vortex.config.model import SchedulerConfig
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.status import CallFailed
from dragonfly_vortex.testing.fake_scheduler import FakeScheduler
from test.certificates import Authority
from test.cluster.member import MemberTestCase
from test.cluster.recordings import RECORDINGS
from test.rpc.clocks import ClockReactor


class SchedulersTests(MemberTestCase):
    """Schedulers that come and go."""

    async def test_scheduler_that_comes_later(self) -> None:
        """A scheduler that is not there at the start is used when it is."""
        port = free_port()
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

    async def test_stop_after_late_question(self) -> None:
        """The end is in order where the time of a question came while another one was under way."""
        mute = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(mute.close)
        clock = ClockReactor()
        settings = GRPCSettings(reactor=cast(IRPCReactor, clock), credentials=None, connect_timeout=60.0)
        schedulers = Schedulers(settings, lambda address: succeed(True))
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        schedulers.set_known([address])
        checked = schedulers.check_one(address)
        schedulers.suspect(address)
        clock.advance(1)
        await schedulers.stop()
        await checked
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_stop_while_the_host_is_measured(self) -> None:
        """The end does not wait for an announcement that waits for a disk which does not answer."""
        scheduler = await self.scheduler()
        settings = GRPCSettings(reactor=cast(IRPCReactor, reactor), credentials=None, connect_timeout=60.0)
        measuring: list[Deferred[bool]] = []

        def welcome(address: str) -> Deferred[bool]:
            measuring.append(Deferred())
            return measuring[0]

        schedulers = Schedulers(settings, welcome)
        schedulers.set_known([f"127.0.0.1:{scheduler.port}"])
        checked = schedulers.check()
        await self.until(lambda: bool(measuring))
        await schedulers.stop()
        await checked

    async def test_tls(self) -> None:
        """With certificate, key and authority both sides show who they are; without them nothing is announced."""
        authority = Authority(self.directory)
        server, client = authority.issue("scheduler"), authority.issue("member")
        credentials = grpc.ssl_server_credentials(
            [(server.key.read_bytes(), server.certificate.read_bytes())], authority.file.read_bytes(), True
        )
        scheduler = FakeScheduler(IReactorFromThreads(reactor), RECORDINGS, self.conditions.look, credentials)
        await scheduler.start()
        self.addCleanup(scheduler.stop)
        config = self.config([scheduler])
        membership = await self.member(config)
        self.assertEqual(membership.serving, frozenset())
        await membership.stop()
        section = replace(config.scheduler, cert=client.certificate, key=client.key, ca_cert=authority.file)
        membership = await self.member(replace(config, scheduler=section))
        self.assertEqual(list(scheduler.hosts), ["127.0.0.1-member"])
