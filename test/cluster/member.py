"""A member among fake schedulers, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from dragonfly_vortex.cluster.membership import IMemberReactor, Membership
from dragonfly_vortex.cluster.registration import Registration
from dragonfly_vortex.cluster.requests import CandidateParent, TaskAnnouncement
from dragonfly_vortex.config import Config, default_config
from dragonfly_vortex.config.content import StorageConfig
from dragonfly_vortex.config.model import DynconfigConfig, HostConfig, SchedulerConfig
from dragonfly_vortex.model import Origin, StoredTask
from dragonfly_vortex.testing.fake_scheduler import FakeScheduler
from dragonfly_vortex.wire import PieceKind
from test.cluster.recordings import LENGTH, PIECE_LENGTH, RECORDINGS, TASK_ID, request_of
from test.rpc.conditions import Conditions

__all__ = ["PORT", "Download", "MemberTestCase"]

PORT = 4000
"""Where the member says that its gRPC server is."""


class Download:
    """A download that writes down what its registration tells it."""

    def __init__(self, membership: Membership, request: TaskAnnouncement, changed: Callable[[], None]) -> None:
        self.offers: list[tuple[CandidateParent, ...]] = []
        self.reasons: list[str] = []
        self._changed = changed
        self.registration: Registration = membership.register(request, self._offered, self._sent_to_source)

    def _offered(self, parents: tuple[CandidateParent, ...]) -> None:
        self.offers.append(parents)
        self._changed()

    def _sent_to_source(self, reason: str) -> None:
        self.reasons.append(reason)
        self._changed()


class MemberTestCase(TestCase):
    """A member, and schedulers that can be stopped."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.conditions = Conditions()
        looking = LoopingCall(self.conditions.look)  # for what nothing tells of
        looking.start(0.01, now=False)
        self.addCleanup(looking.stop)

    async def scheduler(self, port: int = 0, *, plays: str = "") -> FakeScheduler:
        """
        A scheduler that serves, on :attr:`FakeScheduler.port`.

        :param plays: the recording that it plays for the task; empty for that of an owner.
        """
        scheduler = FakeScheduler(IReactorFromThreads(reactor), RECORDINGS, self.conditions.look)
        if plays:
            scheduler.script[TASK_ID] = [plays]
        await scheduler.start(port)
        self.addCleanup(lambda: scheduler.stop() if scheduler.port else succeed(None))
        return scheduler

    def config(self, schedulers: Sequence[FakeScheduler], **more: Any) -> Config:
        """A configuration that names these schedulers."""
        return replace(
            default_config(),
            host=HostConfig(ip="127.0.0.1", hostname="member"),
            storage=StorageConfig(dir=self.directory),
            scheduler=SchedulerConfig(addrs=tuple(f"127.0.0.1:{each.port}" for each in schedulers), **more),
            dynconfig=DynconfigConfig(refresh_interval=0.3),
        )

    async def member(self, config: Config) -> Membership:
        """A member that runs, and is stopped in the end."""
        membership = Membership(config, cast(IMemberReactor, reactor), PORT)
        await membership.start()
        self.addCleanup(lambda: None if self.is_stopped else membership.stop())
        self.is_stopped = False
        return membership

    def download(self, membership: Membership, request: TaskAnnouncement | None = None) -> Download:
        """A registered download, which ends with the test."""
        return Download(membership, request or request_of(), self.conditions.look)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when a condition is true."""
        return self.conditions.until(condition)

    def stored(self, task_id: str = TASK_ID, kind: PieceKind = PieceKind.STANDARD) -> StoredTask:
        """A task of the storage."""
        return StoredTask(
            kind=kind,
            task_id=task_id,
            content_length=LENGTH,
            piece_length=PIECE_LENGTH,
            created_at=0,
            origin=Origin(url="https://origin.example/file"),
        )
