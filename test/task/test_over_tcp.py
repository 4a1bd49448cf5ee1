"""Tests of downloads over real sockets, from real peers with real storages, and from peers that do not behave."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.trial.unittest import TestCase

from benchmarks.processes import free_port
from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
)
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.downloaders.factory import DownloaderFactory
from dragonfly_vortex.errors import NoParentLeft, PieceTimeout, TaskDigestMismatch, TaskNotFound
from dragonfly_vortex.events import DownloadedTask
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.task.scheduler import END_DISPUTED_AT
from dragonfly_vortex.testing.scripted_parent import End, Pause, Reset, ScriptedParent, Send, Step
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceContent, PieceKind, PieceMetadata, PieceRequest

PEER_REACTOR = cast(IPeerReactor, reactor)
PIECE_LENGTH = 100_000
Answer = Callable[[PieceRequest], Iterable[Step]]


class OverTCPTestCase(TestCase):
    """Downloads of one task of twenty-one pieces."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.output = self.directory / "output"
        self.output.mkdir()
        self.content = os.urandom(20 * PIECE_LENGTH + 1)
        self.task_id = hashlib.sha256(self.content).hexdigest()

    async def peer(self, content: bytes, name: str) -> str:
        """A peer that has imported that content; its address."""
        file, storage = self.directory / f"{name}.file", self.directory / name
        file.write_bytes(content)
        await deferToThread(import_file, file, storage, PieceKind.STANDARD, PIECE_LENGTH)
        server = StorageServerConfig(ip="127.0.0.1", protocol="tcp", tcp=StorageTCPConfig(port=0))
        config = Config(storage=StorageConfig(dir=storage, server=server), metrics=MetricsConfig(enable=False))
        service = VortexService(config, PEER_REACTOR)
        service.startService()
        self.addCleanup(service.stopService)
        address = cast(IPv4Address, service.address)
        return f"{address.host}:{address.port}"

    def scripted(self, answer: Answer) -> ScriptedParent:
        """A peer that answers each request by a script, and listens."""
        parent = ScriptedParent(PEER_REACTOR, answer)
        parent.start()
        self.addCleanup(parent.stop)
        return parent

    def sends(self, content: bytes, shift: int = 0) -> Answer:
        """A script that sends a content's pieces, each with its digest, their offsets shifted."""

        def answer(request: PieceRequest) -> Iterable[Step]:
            start = request.number * PIECE_LENGTH
            data = content[start : start + PIECE_LENGTH]
            metadata = PieceMetadata(
                number=request.number, offset=start + shift, length=len(data), digest=f"crc32:{zlib.crc32(data)}"
            )
            reply = PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=metadata)
            return (Send(reply.to_bytes() + data),)

        return answer

    async def download(
        self,
        *parents: str,
        piece_timeout: float = 100.0,
        retry: float = 0.0,
        end_disputed_at: int = END_DISPUTED_AT,
    ) -> DownloadedTask:
        """Download the task from these parents."""
        config = Config(download=DownloadConfig(piece_timeout=piece_timeout))
        downloader = DownloaderFactory("tcp", config, reactor=PEER_REACTOR).build()
        try:
            in_thread = partial(deferToThreadPool, PEER_REACTOR, PEER_REACTOR.getThreadPool())
            return await TaskDownload(
                PEER_REACTOR,
                in_thread,
                downloader,
                kind=PieceKind.STANDARD,
                task_id=self.task_id,
                parents=parents,
                target=OutputTarget(self.output / "file", in_thread),
                retry=retry,
                late_after=piece_timeout,
                end_disputed_at=end_disputed_at,
            ).start()
        finally:
            await downloader.stop()

    def assert_complete(self) -> None:
        """Assert that the file is there, whole, and nothing else."""
        self.assertEqual(os.listdir(self.output), ["file"])
        self.assertTrue((self.output / "file").read_bytes() == self.content)

    async def assert_fails(self, error: type[Exception], *parents: str, piece_timeout: float = 100.0) -> str:
        """Assert that a download fails and leaves nothing; what it says."""
        with self.assertRaises(error) as raised:
            await self.download(*parents, piece_timeout=piece_timeout)
        self.assertEqual(os.listdir(self.output), [])
        return str(raised.exception)


class OverTCPTests(OverTCPTestCase):
    """Parents that behave, and parents that do not."""

    async def test_several_parents(self) -> None:
        """Three peers each give a part of the task."""
        parents = [await self.peer(self.content, name) for name in ("a", "b", "c")]
        done = await self.download(*parents)
        self.assert_complete()
        self.assertEqual((done.piece_count, done.piece_length), (21, PIECE_LENGTH))
        self.assertTrue(all(share.piece_count for share in done.shares), done.shares)

    async def test_bad_company(self) -> None:
        """Peers that refuse, reset, close, lie or have something else do not keep an honest one from giving it all."""
        done = await self.download(
            f"127.0.0.1:{free_port()}",
            self.scripted(lambda _: (Reset(),)).address,
            self.scripted(lambda _: (End(),)).address,
            self.scripted(self.sends(self.content, shift=1)).address,
            self.scripted(lambda _: (Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), End())).address,
            await self.peer(b"something else", "other"),
            await self.peer(self.content, "honest"),
        )
        self.assert_complete()
        self.assertEqual([share.piece_count for share in done.shares], [0, 0, 0, 0, 0, 0, 21])

    async def test_not_found(self) -> None:
        """A task that the peers do not have is not found."""
        said = await self.assert_fails(TaskNotFound, await self.peer(b"something else", "a"))
        self.assertIn(self.task_id, said)

    async def test_unreachable(self) -> None:
        """A parent that refuses is named, with the piece and why."""
        gone = f"127.0.0.1:{free_port()}"
        said = await self.assert_fails(NoParentLeft, gone)
        self.assertIn(f"piece 0 from parent {gone}: ", said)

    def logs(self, missing: list[int], has: int) -> Answer:
        """
        A script of a parent with the first pieces of the task whose packet IDs are its own, as those of a dfdaemon.

        :param missing: takes the numbers of the pieces that it is asked for in vain.
        :param has: how many it has.
        """
        send = self.sends(self.content)

        def answer(request: PieceRequest) -> Iterable[Step]:
            request = replace(request, packet_id=(request.packet_id + 100) % 256)
            if request.number < has:
                return send(request)
            missing.append(request.number)
            reply = ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text="")
            return (Send(reply.to_bytes()),)

        return answer

    async def test_parent_that_logs(self) -> None:
        """A parent that logs what it lacks is asked for one piece behind the last, and for none where that is short."""
        for length, count, expected in ((20 * PIECE_LENGTH + 1, 21, []), (20 * PIECE_LENGTH, 20, [20])):
            self.content = os.urandom(length)
            self.task_id = hashlib.sha256(self.content).hexdigest()
            missing: list[int] = []
            await self.download(self.scripted(self.logs(missing, count)).address)
            self.assert_complete()
            self.assertEqual(missing, expected)
            (self.output / "file").unlink()

    async def test_wrong_offset(self) -> None:
        """The error of a wrong offset has what was expected and got; the parent is asked only once."""
        liar = self.scripted(self.sends(self.content, shift=5))
        said = await self.assert_fails(NoParentLeft, liar.address)
        self.assertIn("expected offset 0, got 5", said)
        self.assertEqual(len(liar.requests), 1)

    async def test_stalls(self) -> None:
        """A parent that stalls is out after one time-out."""
        stalling = self.scripted(lambda _: ())
        with self.assertRaises(NoParentLeft) as raised:
            await self.download(stalling.address, piece_timeout=0.3)
        self.assertIsInstance(raised.exception.last, PieceTimeout)
        self.assertEqual(len(stalling.requests), 1)

    async def test_wrong_content(self) -> None:
        """A content whose pieces fit their digests, but not the task's ID, is refused."""
        said = await self.assert_fails(TaskDigestMismatch, self.scripted(self.sends(self.content[::-1])).address)
        self.assertIn(
            f"expected sha256:{self.task_id}, got sha256:{hashlib.sha256(self.content[::-1]).hexdigest()}", said
        )

    async def test_poisoned_pieces(self) -> None:
        """One parent sends wrong pieces with fitting digests: another one's are taken, and the liar is named."""
        wrong = bytearray(self.content)
        for number in (4, 5, 12, 13):
            wrong[number * PIECE_LENGTH] ^= 1
        liar = self.scripted(self.sends(bytes(wrong)))
        honest = self.scripted(self.sends(self.content))
        done = await self.download(liar.address, honest.address)
        self.assert_complete()
        self.assertEqual(list(done.lies), [liar.address])
        self.assertRegex(done.lies[liar.address], r"^it sent pieces? \d+(, \d+)* with other content$")
        self.assertGreater(done.shares[0].piece_count, 0)

    async def test_endless(self) -> None:
        """A parent that always has one more piece does not keep an honest one's task from being found."""

        def answer(request: PieceRequest) -> Iterable[Step]:
            start = request.number * PIECE_LENGTH
            data = self.content[start : start + PIECE_LENGTH].ljust(PIECE_LENGTH, b"-")
            digest = f"crc32:{zlib.crc32(data)}"
            metadata = PieceMetadata(number=request.number, offset=start, length=len(data), digest=digest)
            reply = PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=metadata)
            return (Send(reply.to_bytes() + data),)

        honest = self.scripted(self.honest)
        for _ in range(3):
            endless = self.scripted(answer)
            done = await self.download(endless.address, honest.address, end_disputed_at=3_000_000)
            self.assert_complete()
            self.assertEqual(done.piece_count, 21)
            self.assertLess(len(endless.requests), 300)
            (self.output / "file").unlink()

    def honest(self, request: PieceRequest) -> Iterable[Step]:
        """A script that sends the content's pieces, and says that there are no others."""
        if request.number > len(self.content) // PIECE_LENGTH:
            return (Send(ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text="no").to_bytes()),)
        return self.sends(self.content)(request)

    async def test_dies(self) -> None:
        """A parent that dies in the middle is replaced by another; what it gave is kept."""
        honest = self.sends(self.content)
        dying = self.scripted(lambda request: honest(request) if request.number < 9 else (Reset(),))
        done = await self.download(dying.address, await self.peer(self.content, "honest"))
        self.assert_complete()
        self.assertGreater(done.shares[0].piece_count, 0)


class SlowParentTests(OverTCPTestCase):
    """Downloads of the same task from a parent that is slow, and one that is not."""

    async def assert_soon(self, slow: Answer) -> None:
        """Assert that the whole task comes from the other parent, in whatever order they are named."""
        honest = await self.peer(self.content, "honest")
        parent = self.scripted(slow)
        for parents in ((parent.address, honest), (honest, parent.address)):
            await self.download(*parents)
            self.assert_complete()
            (self.output / "file").unlink()

    async def test_silent(self) -> None:
        """What a parent owes that says nothing comes from the other one, long before its time-out."""
        await self.assert_soon(lambda _: ())

    async def test_silent_later(self) -> None:
        """So does what one owes that falls silent."""
        honest = self.sends(self.content)
        await self.assert_soon(lambda request: honest(request) if request.number < 9 else ())

    async def test_trickle(self) -> None:
        """So does what one owes that sends a byte now and then."""
        honest = self.sends(self.content)

        def trickle(request: PieceRequest) -> Iterable[Step]:
            (send,) = cast("tuple[Send]", tuple(honest(request)))
            yield Send(send.data[:200])
            for start in range(200, len(send.data)):
                yield Pause(0.3)
                yield Send(send.data[start : start + 1])

        await self.assert_soon(trickle)
