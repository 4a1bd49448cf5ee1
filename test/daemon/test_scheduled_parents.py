"""Downloads whose parents a scheduler offers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from dragonfly_api import common_pb2, dfdaemon_pb2
from grpc import StatusCode
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request

from benchmarks.processes import free_port
from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cluster.membership import Membership
from dragonfly_vortex.cluster.requests import CandidateParent, TaskAnnouncement
from dragonfly_vortex.config import Config
from dragonfly_vortex.daemon.scheduled_parents import ScheduledParents
from dragonfly_vortex.downloaders.factory import Negotiation
from dragonfly_vortex.events import Waiting, WaitReason
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.piece_discovery import PieceDiscovery
from dragonfly_vortex.rpc.status import CallFailed, Status
from dragonfly_vortex.testing.scripted_origin import Asked, ScriptedOrigin
from dragonfly_vortex.transport_table import GRPC, TCP
from dragonfly_vortex.wire import PieceKind
from test.daemon.clustered import ClusterTestCase
from test.rpc.announcing_parent import AnnouncingParent, says_and_waits
from test.rpc.local_peer import LENGTH, PIECES, until
from test.task.parents import PlayedDownloader


class ScheduledTests(ClusterTestCase):
    """A registry's blob, which a parent has."""

    def blob(self) -> Deferred[Any]:
        """Have it downloaded by the local door."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = f"https://registry.example/v2/name/blobs/sha256:{self.task_id}"
        request.download.enable_task_id_based_blob_digest = True
        request.download.disable_back_to_source = True
        request.download.priority = common_pb2.LEVEL5
        return self.call("DownloadTask", request)

    async def test_offered(self) -> None:
        """The parent that is offered is asked; each piece and the end are reported."""
        self.scheduler.script[self.task_id] = ["child"]
        replies = await self.blob()
        self.assertEqual(replies[0].download_task_started_response.content_length, LENGTH)
        await until(lambda: [heard.is_over for heard in self.scheduler.heard] == [True])
        (heard,) = self.scheduler.heard
        words = heard.words
        self.assertEqual(words.count("download_piece_finished_request"), PIECES)
        self.assertEqual((words[0], words[-1]), ("register_peer_request", "download_peer_finished_request"))
        registered = heard.messages[0].register_peer_request.download
        self.assertEqual(
            (registered.url, registered.priority), (f"https://registry.example/v2/name/blobs/sha256:{self.task_id}", 5)
        )
        pieces = [
            message.download_piece_finished_request.piece
            for message in heard.messages
            if message.WhichOneof("request") == "download_piece_finished_request"
        ]
        self.assertEqual(sum(piece.length for piece in pieces), LENGTH)
        self.assertEqual(len({piece.parent_id for piece in pieces}), 1)
        self.assertTrue(all(piece.parent_id for piece in pieces))
        self.assertTrue(all(piece.cost.ToNanoseconds() % 10**9 for piece in pieces))  # no whole seconds
        self.assertTrue(all(abs(piece.created_at.ToSeconds() - time.time()) < 60 for piece in pieces))

    async def test_nothing_offered(self) -> None:
        """Without a parent and a source the download fails with what the scheduler says, which hears of it."""
        self.scheduler.script[self.task_id] = ["first child that fails"]
        code, text = await self.refusal(self.blob())
        self.assertEqual(code, StatusCode.INTERNAL)
        self.assertIn(self.task_id, text)
        await until(lambda: all(heard.is_over for heard in self.scheduler.heard))

    async def test_dead_parents(self) -> None:
        """Where no offered parent can be reached, the scheduler is asked for others, and the download succeeds."""
        await self.try_useless(free_port())

    async def test_parents_that_refuse(self) -> None:
        """Nor does a download end with parents that answer, and know nothing of the task."""
        await self.try_useless(self.scheduler.port)

    async def test_no_addresses(self) -> None:
        """Of what a scheduler names, only other peers are asked: addresses, and no port of the system's services."""
        itself = ("127.0.0.1", getattr(self.peer.grpc_address, "port", 0))
        for useless in (("127.0.0.1", 0), ("127.0.0.1", 22), ("127.0.0.1", 70_000), ("no address", 4000), itself):
            self.scheduler.script[self.task_id] = ["rescheduled to another parent"]
            self.scheduler.offers = [[useless, useless]]
            code, text = await self.refusal(self.blob())
            self.assertEqual(code, StatusCode.INTERNAL)
            self.assertIn("no parent that can be asked", text)
        self.scheduler.script[self.task_id] = ["rescheduled to another parent"]
        self.scheduler.offers = [[("127.0.0.1", 22), ("127.0.0.1", getattr(self.parent.grpc_address, "port", 0))]]
        await self.blob()

    async def try_useless(self, port: int) -> None:
        """Download where the first parents that are offered do not do."""
        self.scheduler.script[self.task_id] = ["rescheduled to another parent"]
        self.scheduler.offers = [[("127.0.0.1", port), ("127.0.0.1", port)], self.scheduler.parents]
        replies = await self.blob()
        self.assertEqual(replies[0].download_task_started_response.content_length, LENGTH)
        # A loaded machine may have the peer register a second time.
        messages = [message for heard in self.scheduler.heard for message in heard.messages]
        words = [message.WhichOneof("request") for message in messages]
        self.assertIn("reschedule_peer_request", words)
        failed = messages[words.index("download_piece_failed_request")].download_piece_failed_request
        self.assertTrue(failed.temporary and failed.parent_id)
        heard = self.scheduler.heard[-1]
        await until(lambda: heard.is_over)
        self.assertEqual(heard.words[-1], "download_peer_finished_request")

    async def test_child_in_turn(self) -> None:
        """A child that asks for the task is asked for pieces in turn, where the scheduler knows its host."""
        self.scheduler.script[self.task_id] = ["child"]
        self.scheduler.offers = [[("127.0.0.1", free_port())]]
        port = getattr(self.parent.grpc_address, "port", 0)
        self.scheduler.hosts["127.0.0.1-child"] = common_pb2.Host(id="127.0.0.1-child", ip="127.0.0.1", port=port)
        downloading = self.blob()
        await until(lambda: self.scheduler.heard)
        for host_id in ("127.0.0.1-stranger", "127.0.0.1-child"):
            self.ask_for(self.task_id, host_id)
        await downloading.addTimeout(120, reactor)
        self.assertTrue(self.calls("ListHosts"))
        (heard,) = self.scheduler.heard
        await until(lambda: heard.is_over)
        self.assertEqual(heard.words.count("download_piece_finished_request"), PIECES)

    def ask_for(self, task_id: str, host_id: str) -> None:
        """Ask the peer for a task, as a child on this host."""
        settings = GRPCSettings(reactor=cast(IRPCReactor, reactor), host_id=host_id)
        address = ParentAddress.from_text(f"grpc://127.0.0.1:{getattr(self.peer.grpc_address, 'port', 0)}")
        discovery = PieceDiscovery(address, settings, lambda address: None)
        self.addCleanup(discovery.start(self.kind, task_id, _ignore, _ignore, _ignore))

    async def test_child_beside_a_source(self) -> None:
        """Beside a source a child is asked in turn as well, and the source does not wait for what it may announce."""
        held: list[Callable[[], None]] = []

        def hold(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
            if asked.range == (0, 0):  # what it has
                origin.answer_well(request, asked)
            else:
                held.append(partial(origin.answer_well, request, asked))

        origin = ScriptedOrigin(bytes(5 * 1024 * 1024), always=hold)
        origin.start(IReactorTCP(reactor))
        self.addCleanup(origin.stop)
        stat = dfdaemon_pb2.StatLocalTaskResponse(content_length=5 * 1024 * 1024, piece_length=4 * 1024 * 1024)
        child = AnnouncingParent(reactor, [stat], [says_and_waits()])
        child.start()
        self.addCleanup(child.stop)
        self.scheduler.default = "first child"
        self.scheduler.hosts["127.0.0.1-child"] = common_pb2.Host(id="127.0.0.1-child", ip="127.0.0.1", port=child.port)
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = origin.url("/file")
        downloading = self.call("DownloadTask", request)
        await until(lambda: held)
        self.ask_for(self.scheduler.heard[0].messages[0].task_id, "127.0.0.1-child")
        await until(lambda: child.asked)
        origin.always = None
        for answer in held:
            answer()
        await downloading.addTimeout(120, reactor)
        self.assertEqual(len(origin.ranges), 2)

    async def test_source(self) -> None:
        """The pieces that come from the source are reported as such, and so is the end."""
        origin = ScriptedOrigin(bytes(5 * 1024 * 1024))
        origin.start(IReactorTCP(reactor))
        self.addCleanup(origin.stop)
        self.scheduler.default = "first child"
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = origin.url("/file")
        await self.call("DownloadTask", request)
        await until(lambda: [heard.is_over for heard in self.scheduler.heard] == [True])
        (heard,) = self.scheduler.heard
        self.assertEqual(heard.words.count("download_piece_back_to_source_finished_request"), 2)
        self.assertEqual(heard.words[-1], "download_peer_back_to_source_finished_request")


class _PlayedMembership:
    """A cluster that answers when the test does."""

    address = ("127.0.0.1", 4000)

    def __init__(self) -> None:
        self.looked_up: list[str] = []
        self.answers: list[Deferred[tuple[str, int] | None]] = []
        self.complaints: list[str] = []
        self.offered: Callable[[tuple[CandidateParent, ...]], None]

    def register(self, request: TaskAnnouncement, offered: Any, nothing_offered: Any) -> _PlayedMembership:
        """A scheduler offers what the test says."""
        self.offered = offered
        return self

    def find_host(self, task_id: str, host_id: str) -> Deferred[tuple[str, int] | None]:
        """The test answers."""
        self.looked_up.append(host_id)
        self.answers.append(Deferred())
        return self.answers[-1]

    def reschedule(self, reason: str) -> None:
        """Other parents are asked for."""
        self.complaints.append(reason)

    def finish(self) -> None:
        """The download is over."""


class MetTests(SynchronousTestCase):
    """The children of one download, and the complaints about its parents, without a cluster."""

    def setUp(self) -> None:
        self.cluster = _PlayedMembership()
        negotiation = Negotiation([GRPC, TCP], Config(), IReactorTCP(reactor), PlayedDownloader({}))
        request = TaskAnnouncement(kind=PieceKind.STANDARD, task_id="ab" * 32)
        self.parents = ScheduledParents(
            cast(Membership, self.cluster), request, negotiation, scheme=GRPC.scheme, source=""
        )

    def offer(self, *ports: int) -> None:
        """A scheduler offers the parents at these ports."""
        self.cluster.offered(
            tuple(CandidateParent(str(port), str(port), "127.0.0.1", port, "Running", 0) for port in ports)
        )

    def test_once(self) -> None:
        """A host is looked up once, while that lasts and after it was found."""
        for _ in range(2):
            self.parents.meet("host")
        self.cluster.answers[0].callback(("127.0.0.1", 5000))
        self.parents.meet("host")
        self.assertEqual((self.cluster.looked_up, self.parents._children), (["host"], ["grpc://127.0.0.1:5000"]))

    def test_not_found(self) -> None:
        """A host that was not found, or whose lookup failed, is looked up again when its child asks again."""
        self.parents.meet("host")
        self.cluster.answers[0].callback(None)
        self.parents.meet("host")
        self.cluster.answers[1].errback(CallFailed(Status(StatusCode.UNAVAILABLE, "away")))
        self.parents.meet("host")
        self.assertEqual(self.cluster.looked_up, ["host"] * 3)

    def test_most(self) -> None:
        """No more than sixteen hosts are looked up."""
        for number in range(20):
            self.parents.meet(f"host-{number}")
        self.assertEqual(len(self.cluster.looked_up), 16)

    def test_over(self) -> None:
        """When the download is over no host is looked up, and one that is found then is not asked."""
        self.parents.meet("host")
        self.parents.finish()
        self.cluster.answers[0].callback(("127.0.0.1", 5000))
        self.parents.meet("another")
        self.assertEqual((self.cluster.looked_up, self.parents._children), (["host"], []))

    def test_offered_too(self) -> None:
        """A child that is a parent already is not asked in turn."""
        self.offer(5000)
        self.parents.meet("host")
        self.cluster.answers[0].callback(("127.0.0.1", 5000))
        self.assertEqual(self.parents._children, [])

    def test_two_hosts_at_one_address(self) -> None:
        """Two hosts at one address are one parent."""
        for number, host_id in enumerate(("host", "renamed")):
            self.parents.meet(host_id)
            self.cluster.answers[number].callback(("127.0.0.1", 5000))
        self.assertEqual(self.parents._children, ["grpc://127.0.0.1:5000"])

    def test_complaint(self) -> None:
        """Other parents are asked for once for each offer, and not where there was none."""
        waiting = Waiting(reason=WaitReason.SILENT_PARENT, text="it is silent", parent="a", seconds=5.0)
        self.parents.on_event(waiting)
        for port in (5000, 5001):
            self.offer(port)
            self.parents.on_event(waiting)
            self.parents.on_event(waiting)
        self.assertEqual(self.cluster.complaints, ["it is silent"] * 2)


def _ignore(*told: object) -> None:
    """Do nothing with what a parent says."""
