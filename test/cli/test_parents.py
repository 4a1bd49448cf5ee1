"""The parents of a download by the command: named, configured, and in a list that changes while it runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import grpc
from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cli.parents import FIND_TIMEOUT, Parents
from dragonfly_vortex.config import DiscoveryConfig, default_config
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.downloaders.factory import negotiate
from dragonfly_vortex.errors import NoPeerFound
from dragonfly_vortex.peer_exchange import PEERS_KEY, PORT_KEY, askers_file
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.testing.contract_parent import Fault, Offer, VortexContractParent
from dragonfly_vortex.testing.memory_store import MemoryChild, MemoryTarget
from dragonfly_vortex.testing.memory_swarm import MemorySwarm
from dragonfly_vortex.testing.pieces import sample_piece
from dragonfly_vortex.wire import PieceKind
from test.processes import PROGRAMS, dfvortex, start, write_config
from test.rpc.announcing_parent import AnnouncingParent, Stream, says_and_waits

_T = TypeVar("_T")

_PIECES = [sample_piece(10_000, number=number) for number in range(6)]
_CONTENT = b"".join(piece.content for piece in _PIECES)
_TASK_ID = hashlib.sha256(_CONTENT).hexdigest()


def next_line(running: subprocess.Popen[str], words: str) -> str:
    """The next line with these words that a command says on standard error."""
    return next(line for line in running.stderr or () if words in line)


class ParentsTests(TestCase):
    """The command as a process, with parents in this one."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.list = self.directory / "parents.txt"

    def parent(self, *, gives: int = len(_PIECES)) -> VortexContractParent:
        """A parent that gives so many pieces, and fails to give the others."""
        offers = [Offer(piece=piece, fault=Fault.NONE if piece.number < gives else Fault.INTERNAL) for piece in _PIECES]
        made = VortexContractParent(IReactorTCP(reactor), offers)
        made.start()
        self.addCleanup(made.stop)
        return made

    def write(self, *parents: VortexContractParent) -> None:
        """Replace the list."""
        new = self.list.with_suffix(".new")
        new.write_text("".join(f"{parent.address}\n" for parent in parents))
        os.replace(new, self.list)

    async def download(self, *arguments: str) -> str:
        """Download, and give what the command says on standard error."""
        ran = await deferToThread(
            dfvortex, "download", _TASK_ID, "--output", "out", *arguments, directory=self.directory
        )
        self.assertEqual(ran.returncode, 0, ran)
        self.assertTrue((self.directory / "out").read_bytes() == _CONTENT)
        return ran.stderr

    def start(self, *arguments: str) -> Deferred[str]:
        """Start to download; fires as :meth:`download` returns."""
        return Deferred.fromCoroutine(self.download(*arguments))

    async def test_added_and_removed(self) -> None:
        """A list that is rewritten during the download: the new parent is asked, the old one is asked no more."""
        partial, whole = self.parent(gives=1), self.parent()
        self.write(partial)
        started = self.start("--parents", str(self.list))
        await partial.until_asked(3)
        self.assertEqual(whole.requests, [])
        self.write(whole)
        await started
        self.assertTrue(whole.requests)

    async def test_unusable_change(self) -> None:
        """A list that cannot be used any more is reported, and the download goes on with its parents."""
        partial, whole = self.parent(gives=1), self.parent()
        self.write(partial)
        command = [str(PROGRAMS / "dfvortex"), "download", _TASK_ID, "--output", "out", "--parents", str(self.list)]
        running = start(command, cwd=self.directory, stderr=subprocess.PIPE, text=True)
        self.addCleanup(running.kill)
        await partial.until_asked(3)
        self.list.write_text("nowhere\n")
        line = await deferToThread(next_line, running, "stay as they were")
        self.assertIn("parents.txt:1: expected an address HOST:PORT", line)
        self.write(partial, whole)
        await deferToThread(running.communicate)
        self.assertEqual(running.returncode, 0)
        self.assertTrue((self.directory / "out").read_bytes() == _CONTENT)

    async def test_configured(self) -> None:
        """Where the command names no parent those of the configuration are asked, also of the default file."""
        parent = self.parent()
        for name, arguments in (("other.yaml", ("--config", "other.yaml")), ("tap.yaml", ())):
            (self.directory / name).write_text(f"download: {{parents: ['{parent.address}']}}\n")
            before = len(parent.requests)
            await self.download(*arguments, "--overwrite")
            self.assertGreater(len(parent.requests), before)

    async def test_named_beats_configured(self) -> None:
        """Parents that the command names are asked in place of those of the configuration."""
        named, configured = self.parent(), self.parent()
        (self.directory / "tap.yaml").write_text(f"download: {{parents: ['{configured.address}']}}\n")
        await self.download("--config", "tap.yaml", "--parent", named.address)
        self.assertEqual(configured.requests, [])

    async def test_none(self) -> None:
        """Without any parent that is one line, and status 2; so is a list that cannot be read."""
        for arguments, said in (
            (
                (),
                "expected a parent (--parent, --parents, or download.parents of the configuration) or the URL of a"
                " source, got none",
            ),
            (("--parents", "missing"), "missing: cannot be read: No such file or directory"),
        ):
            ran = await deferToThread(
                dfvortex, "download", _TASK_ID, "--output", "out", *arguments, directory=self.directory
            )
            self.assertEqual((ran.returncode, ran.stdout), (2, ""))
            self.assertEqual(ran.stderr, f"dfvortex: {said}\n")


class ExchangeTests(TestCase):
    """The command as a process that takes part in the exchange of peers."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory, grpc_port=4007, more="discovery: {peer_exchange: true}\n")

    def start(self, parent: str) -> None:
        """Start to download into the storage from a parent."""
        command = [str(PROGRAMS / "dfvortex"), "download", _TASK_ID, "--store", "--parent", parent]
        running = start(command, cwd=self.directory, stderr=subprocess.DEVNULL)
        self.addCleanup(running.wait)
        self.addCleanup(running.kill)

    def announcing(self, stream: Stream) -> AnnouncingParent:
        """A parent with a gRPC door that has no piece."""
        stat = dfdaemon_pb2.StatLocalTaskResponse(task_id=_TASK_ID, content_length=len(_CONTENT), piece_length=10_000)
        parent = AnnouncingParent(reactor, [stat], [stream])
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    async def test_named(self) -> None:
        """It says the port of the peer's gRPC door, and asks the peers that its parent names."""
        said: list[object] = []
        other = self.announcing(says_and_waits())

        def stream(context: grpc.ServicerContext) -> Iterator[Message]:
            said.extend(value for key, value in context.invocation_metadata() if key == PORT_KEY)
            context.send_initial_metadata(((PEERS_KEY, f"127.0.0.1:{other.port}"),))
            yield from says_and_waits()(context)

        self.start(f"grpc://127.0.0.1:{self.announcing(stream).port}")
        await _until(lambda: bool(other.asked))
        self.assertEqual(said, ["4007"])

    async def test_asking(self) -> None:
        """It asks the peers that ask this one for the task."""
        asking = self.announcing(says_and_waits())
        path = askers_file(self.directory / "data", PieceKind.STANDARD, _TASK_ID)
        path.parent.mkdir(parents=True)
        path.write_text(f"grpc://127.0.0.1:{asking.port}\n")
        self.start(f"grpc://127.0.0.1:{self.announcing(says_and_waits()).port}")
        await _until(lambda: bool(asking.asked))


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    while not condition():
        await deferLater(IReactorTime(reactor), 0.02)


class FindTests(SynchronousTestCase):
    """Peers that are found, by a clock that the test turns and without a network."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []

    def find(self, protocol: str = "auto", *named: ParentAddress) -> Deferred[None]:
        """Begin to look for peers."""
        self.parents = Parents(
            cast(IPeerReactor, self.clock), self.not_at_all, named, None, DiscoveryConfig(enable=True), self.said.append
        )
        self.parents.read()
        negotiation = negotiate(protocol, default_config(), [], reactor=MemoryReactorClock())
        return Deferred.fromCoroutine(self.parents.find(negotiation))

    @staticmethod
    def not_at_all(work: Callable[[], _T], /) -> Deferred[_T]:
        """In place of a thread that opens sockets."""
        return succeed(cast(_T, None))

    def found(self, *texts: str) -> list[str]:
        """These peers are there; what parents there are then."""
        self.parents._change("found", [ParentAddress.from_text(text) for text in texts])
        return [str(parent) for parent in self.parents.all]

    def test_none(self) -> None:
        """Without any parent a peer is waited for, and that none was found is a usage error."""
        finding = self.find()
        self.clock.advance(FIND_TIMEOUT - 1)
        self.assertNoResult(finding)
        self.clock.advance(1)
        error = self.failureResultOf(finding, NoPeerFound).value
        self.assertEqual(str(error), "expected a peer on the local network within 5 s, or a named parent, got none")

    def test_first(self) -> None:
        """The first peer is enough to begin."""
        finding = self.find()
        self.assertEqual(self.found("grpc://10.0.0.7:4000"), ["grpc://10.0.0.7:4000"])
        self.successResultOf(finding)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_beside_others(self) -> None:
        """With a parent that is named nothing is waited for; what is found comes behind it."""
        self.successResultOf(self.find("auto", ParentAddress.from_text("h:1")))
        self.assertEqual(self.found("10.0.0.7:4005", "h:1"), ["h:1", "10.0.0.7:4005"])

    def test_awaited(self) -> None:
        """The source waits for peers that are found, and not for those that only ask, as long as that is all."""
        self.successResultOf(self.find("auto", ParentAddress.from_text("h:1")))
        child, swarm = MemoryChild("child"), MemorySwarm(b"", 1)
        download = TaskDownload(
            self.clock,
            self.not_at_all,
            swarm.downloader,
            kind=PieceKind.STANDARD,
            task_id=_TASK_ID,
            parents=["h:1", "source"],
            target=MemoryTarget(child),
            source="source",
        )
        self.parents.follow(download)
        parents = download._trials.plan.parents
        asking, met = (ParentAddress.from_text(text) for text in ("10.0.0.7:4005", "10.0.0.8:4005"))
        self.parents._change("asking", [asking])
        self.parents.meet([met])
        self.assertEqual([name for name, each in parents.items() if not each.is_awaited], [str(asking), str(met)])
        self.found(str(asking))
        self.assertEqual([name for name, each in parents.items() if not each.is_awaited], [str(met)])

    def test_wrong_transport(self) -> None:
        """A peer that cannot be asked by the transport that carries content gets a line, and is no parent."""
        finding = self.find("grpc")
        self.assertEqual(self.found("10.0.0.7:4005"), [])
        self.assertNoResult(finding)
        self.assertIn("for the protocol grpc, got 10.0.0.7:4005", self.said[0])
        self.clock.advance(FIND_TIMEOUT)
        self.failureResultOf(finding, NoPeerFound)


class FollowTests(SynchronousTestCase):
    """The parents of a download that has begun, while peers come and go."""

    def setUp(self) -> None:
        self.clock = Clock()

    def follow(self, *, are_needed: bool) -> None:
        """Have a download follow the parents, of which one is there."""
        reactor = cast(IPeerReactor, self.clock)
        self.parents = Parents(reactor, FindTests.not_at_all, (), None, DiscoveryConfig(enable=True), self.fail)
        self.parents.are_needed = are_needed
        negotiation = negotiate("auto", default_config(), [], reactor=MemoryReactorClock())
        self.finding = Deferred.fromCoroutine(self.parents.find(negotiation))
        self.change("10.0.0.1:4005")
        self.successResultOf(self.finding)
        source = [] if are_needed else ["https://h/f"]
        self.download = TaskDownload(
            self.clock,
            FindTests.not_at_all,
            negotiation.downloader,
            kind=PieceKind.STANDARD,
            task_id=_TASK_ID,
            parents=[*map(str, self.parents.all), *source],
            target=OutputTarget(Path(self.mktemp()), FindTests.not_at_all),
            source="".join(source),
        )
        self.parents.follow(self.download)

    def change(self, *texts: str) -> None:
        """These peers are there now, and no others."""
        self.parents._change("found", [ParentAddress.from_text(text) for text in texts])

    def asked(self) -> list[str]:
        """The parents that the download asks."""
        plan = self.download._trials.plan
        return [address for address, parent in plan.parents.items() if not parent.is_removed]

    def test_gone(self) -> None:
        """A peer that has gone is asked no more, where there is another one."""
        self.follow(are_needed=True)
        self.change("10.0.0.1:4005", "10.0.0.2:4005")
        self.assertEqual(self.asked(), ["10.0.0.1:4005", "10.0.0.2:4005"])
        self.change("10.0.0.2:4005")
        self.assertEqual(self.asked(), ["10.0.0.2:4005"])

    def test_last(self) -> None:
        """The last peer stays until there is another one: without any the download would fail."""
        self.follow(are_needed=True)
        self.change()
        self.assertEqual(self.asked(), ["10.0.0.1:4005"])
        self.change("10.0.0.2:4005")
        self.assertEqual(self.asked(), ["10.0.0.2:4005"])

    def test_last_beside_a_source(self) -> None:
        """Beside a source the last peer goes, too."""
        self.follow(are_needed=False)
        self.assertEqual(self.asked(), ["10.0.0.1:4005", "https://h/f"])
        self.change()
        self.assertEqual(self.asked(), ["https://h/f"])
