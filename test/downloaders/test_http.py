"""Downloads from a source, and from peers beside it, over real sockets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from zope.interface import implementer
from zope.interface.verify import verifyObject

from benchmarks.processes import free_port
from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import (
    Config,
    DownloadConfig,
    MetricsConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
)
from dragonfly_vortex.config.content import UploadConfig, UploadServerConfig
from dragonfly_vortex.daemon.door import IPeerReactor
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.download_target import IDownloadTarget
from dragonfly_vortex.downloaders.factory import Negotiation, negotiate
from dragonfly_vortex.downloaders.http import SourceAnnouncer
from dragonfly_vortex.errors import (
    NoParentLeft,
    ParentRefused,
    SourceUnavailable,
    TaskDigestMismatch,
    TaskNotFound,
    UnexpectedPiece,
)
from dragonfly_vortex.events import DownloadedTask, DownloadEvent, PieceKept, Waiting
from dragonfly_vortex.geometry import MAX_PIECE_COUNT
from dragonfly_vortex.interfaces import IDownloader, ISource
from dragonfly_vortex.model import BackToSource, Origin, SourceStat
from dragonfly_vortex.source.pieces import SourcePieces
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.task import source_choice
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.testing.scripted_origin import Asked, ScriptedOrigin, cut_off, hang, say, whole
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport_table import transport_of_scheme
from dragonfly_vortex.wire import PieceKind, TrafficType
from test.source.origins import SourceCase, pattern

LENGTH = 65_536
CONTENT = pattern(LENGTH * 20 + 1)
URL_TASK = "ab" * 32
TASK_ID = hashlib.sha256(CONTENT).hexdigest()


class SourceDownloadCase(SourceCase):
    """A task of 21 pieces."""

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.peer_reactor = cast(IPeerReactor, self.reactor)
        self.in_thread = partial(deferToThreadPool, self.peer_reactor, self.peer_reactor.getThreadPool())
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.output = self.directory / "file"
        self.events: list[DownloadEvent] = []

    async def peer(self, content: bytes = CONTENT, *, scheme: str = "grpc", name: str = "peer") -> ParentAddress:
        """A running peer that has imported a content."""
        file, storage = self.directory / f"{name}.file", self.directory / name
        file.write_bytes(content)
        if content:
            await deferToThread(import_file, file, storage, PieceKind.STANDARD, LENGTH)
        server = StorageServerConfig(ip="127.0.0.1", tcp=StorageTCPConfig(port=0))
        config = Config(
            storage=StorageConfig(dir=storage, server=server),
            upload=UploadConfig(server=UploadServerConfig(ip="127.0.0.1", port=0)),
            metrics=MetricsConfig(enable=False),
        )
        service = VortexService(config, self.peer_reactor)
        service.startService()
        self.addCleanup(service.stopService)
        transport = transport_of_scheme(scheme).name
        while (address := service.address_of(transport)) is None:
            await deferLater(self.clock, 0.01)
        return ParentAddress.from_text(f"{scheme}://127.0.0.1:{cast(IPv4Address, address).port}")

    def negotiation(
        self, *peers: ParentAddress, protocol: str = "auto", rate: int = 1 << 40, piece_timeout: float = 10.0
    ) -> Negotiation:
        """What speaks to peers and a source."""
        config = Config(download=DownloadConfig(bandwidth_limit=rate, piece_timeout=piece_timeout))
        negotiation = negotiate(protocol, config, peers, reactor=self.reactor, has_source=True)
        self.addCleanup(negotiation.downloader.stop)
        return negotiation

    async def download(
        self,
        origin: ScriptedOrigin,
        *peers: ParentAddress,
        policy: BackToSource = BackToSource.LAST_RESORT,
        task_id: str = TASK_ID,
        digest: str | None = None,
        target: IDownloadTarget | None = None,
        retry: float = 5.0,
        piece_length: int | None = LENGTH,
        negotiation: Negotiation | None = None,
    ) -> DownloadedTask:
        """Download the task from an origin and peers."""
        negotiation = negotiation or self.negotiation(*peers)
        url = Origin(url=origin.url("/f?sig=secret"), piece_length=piece_length)
        source = negotiation.add_source(url, task_id)
        try:
            return await TaskDownload(
                self.peer_reactor,
                self.in_thread,
                negotiation.downloader,
                kind=PieceKind.STANDARD,
                task_id=task_id,
                digest=digest,
                parents=[*map(str, peers), source],
                target=target or OutputTarget(self.output, self.in_thread),
                announcers=negotiation.announcers,
                retry=retry,
                source=source,
                back_to_source=policy,
                stat_source=partial(negotiation.stat_source, source, task_id),
                on_event=self.events.append,
            ).start()
        finally:
            negotiation.remove_source(source, task_id)

    def as_deferred(self, coroutine: Coroutine[Deferred[Any], Any, DownloadedTask]) -> Deferred[DownloadedTask]:
        """A download that has begun."""
        return Deferred.fromCoroutine(coroutine)

    def assert_each_once(self, origin: ScriptedOrigin, numbers: Sequence[int] = range(21)) -> None:
        """Assert that the origin was asked for these pieces, each once."""
        expected = [(n * LENGTH, min((n + 1) * LENGTH, len(CONTENT)) - 1) for n in numbers]
        self.assertEqual(origin.ranges, expected)


class AloneTests(SourceDownloadCase):
    """Downloads from a source alone."""

    async def test_whole(self) -> None:
        """All pieces come from the source, each by one request, and the content is what it is."""
        origin = self.origin(CONTENT)
        negotiation = self.negotiation()
        verifyObject(IDownloader, negotiation.downloader)
        done = await self.download(origin, negotiation=negotiation)
        self.assertEqual(self.output.read_bytes(), CONTENT)
        self.assert_each_once(origin)
        self.assertEqual(dict(done.from_source), {"no_parent": 21})
        self.assertEqual([(share.parent, share.piece_count) for share in done.shares], [(origin.url("/f"), 21)])

    async def test_token_of_the_environment(self) -> None:
        """The environment's token for a hub is not used for requests that are limited to some hosts: strangers'."""
        origin = self.origin(CONTENT)
        self.patch(os, "environ", {**os.environ, "HF_TOKEN": "secret", "HF_ENDPOINT": origin.url("").rstrip("/")})
        negotiation = self.negotiation()
        for may_connect, expected in ((None, "Bearer secret"), (lambda host, address: True, None)):
            source = negotiation.add_source(Origin(url="hf://o/r/f"), TASK_ID, may_connect=may_connect)
            await negotiation.stat_source(source, TASK_ID)
            self.assertEqual(origin.asked[-1].headers.get("authorization"), expected)
            negotiation.remove_source(source, TASK_ID)

    async def test_key_of_the_environment(self) -> None:
        """Nor is the environment's access key for an object storage."""
        origin = self.origin(CONTENT)
        key = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session"}
        self.patch(os, "environ", {**os.environ, **key, "AWS_ENDPOINT_URL": origin.url("")})
        negotiation = self.negotiation()
        for may_connect, is_signed in ((None, True), (lambda host, address: True, False)):
            source = negotiation.add_source(Origin(url="s3://bucket/key"), TASK_ID, may_connect=may_connect)
            await negotiation.stat_source(source, TASK_ID)
            path, _, query = origin.asked[-1].uri.partition("?")
            self.assertEqual(
                (path, "X-Amz-Credential=own%2F" in query, bool(query)), ("/bucket/key", is_signed, is_signed)
            )
            negotiation.remove_source(source, TASK_ID)

    async def test_list_without_an_answer(self) -> None:
        """A hub that does not answer when it is asked for a list is a source's failure, which says how long it took."""
        origin = self.origin(CONTENT, always=hang)
        asked = Origin(url="hf://o/r/", endpoint=origin.url("").rstrip("/"))
        listing = self.negotiation(piece_timeout=0.2).list_source(asked)
        error = await self.assertFailure(listing, SourceUnavailable)
        self.assertIn("expected the list of files within 0.2 s", str(error))

    async def test_one_transport(self) -> None:
        """A source is asked whatever transport the peers are to be asked by."""
        for protocol in ("tcp", "grpc"):
            self.output = self.directory / protocol
            await self.download(self.origin(CONTENT), negotiation=self.negotiation(protocol=protocol))
            self.assertEqual(self.output.read_bytes(), CONTENT)

    async def test_without_ranges(self) -> None:
        """A source without ranges, and without a length, is read once."""
        for names_length in (True, False):
            self.output = self.directory / str(names_length)
            origin = self.origin(CONTENT, has_ranges=False, names_length=names_length)
            await self.download(origin)
            self.assertEqual(self.output.read_bytes(), CONTENT)
            self.assertEqual(len(origin.asked), 2)

    async def test_without_a_digest(self) -> None:
        """A task of a URL has no digest: the source's length decides, wherever the end lies."""
        for content in (CONTENT, CONTENT[: 2 * LENGTH], b""):
            for names_length in (True, False):
                self.output = self.directory / f"{len(content)}{names_length}"
                origin = self.origin(content, has_ranges=names_length, names_length=names_length)
                done = await self.download(origin, task_id="ab" * 32, digest="")
                self.assertEqual(self.output.read_bytes(), content)
                self.assertEqual((done.digest, done.content_length), ("", len(content)))

    async def test_by_the_rule(self) -> None:
        """Pieces are as long as Dragonfly's rule says."""
        done = await self.download(self.origin(CONTENT), piece_length=None)
        self.assertEqual((done.piece_length, done.piece_count), (len(CONTENT), 1))

    async def test_retries(self) -> None:
        """What fails for a while is asked for again after growing pauses, also the first request."""
        origin = self.origin(CONTENT, script=[say(503), say(503), None, say(500), cut_off(100)])
        await self.download(origin, retry=30.0)
        self.assertEqual(self.output.read_bytes(), CONTENT)
        lines = "".join(event.text for event in self.events if isinstance(event, Waiting))
        self.assertIn("expected status 200 or 206, got 503", lines)
        self.assertNotIn("secret", "".join(map(str, self.events)))

    async def test_retry_after(self) -> None:
        """A source that asks for a second's pause is not asked in that second."""
        origin = self.origin(CONTENT, script=[say(503, Retry_After="1")])
        began = self.clock.seconds()
        await self.download(origin)
        self.assertGreaterEqual(self.clock.seconds() - began, 1.0)
        self.assertEqual(len(origin.asked), 1 + 1 + 21)

    async def test_failures(self) -> None:
        """What cannot be had fails at once, and the error has no secrets."""
        for status, kind in ((404, TaskNotFound), (403, NoParentLeft)):
            error = await self.failure_of(self.as_deferred(self.download(self.origin(always=say(status)))))
            self.assertIsInstance(error, kind)
        self.assertIsInstance(cast(NoParentLeft, error).last, ParentRefused)
        error = await self.failure_of(self.as_deferred(self.download(self.origin(CONTENT[::-1]))))
        self.assertIsInstance(error, TaskDigestMismatch)
        self.assertFalse(self.output.exists())

    async def test_too_many_pieces(self) -> None:
        """A piece length that gives too many pieces is an error in one line."""
        origin = self.origin(bytes(MAX_PIECE_COUNT + 1))
        error = await self.failure_of(self.as_deferred(self.download(origin, piece_length=1)))
        self.assertRegex(str(cast(NoParentLeft, error).last), "at most 1048576 pieces, got 1048577 pieces")

    async def test_another_version_in_the_middle(self) -> None:
        """Where the content changes the download fails: its first half would be of another version."""
        origin = self.origin(CONTENT, script=[None, None])

        def change(origin: ScriptedOrigin, request: object, asked: object) -> None:
            origin.etag, origin.content, origin.always = '"2"', CONTENT[::-1], None
            say(412)(origin, request, asked)  # type: ignore[arg-type]

        origin.always = change
        error = await self.failure_of(self.as_deferred(self.download(origin)))
        self.assertIsInstance(error, NoParentLeft)
        self.assertIsInstance(cast(NoParentLeft, error).last, UnexpectedPiece)

    async def test_ranges_that_are_ignored(self) -> None:
        """A source that sends the whole in place of a range is read as one stream."""
        await self.download(self.origin(CONTENT, script=[None], always=whole))
        self.assertEqual(self.output.read_bytes(), CONTENT)

    async def test_into_the_storage(self) -> None:
        """In the storage each piece has a digest, and no child gets the source's URL."""
        store = PieceStore(self.directory / "store", self.peer_reactor)
        await store.start()
        self.addCleanup(store.stop)
        target = store.write_task(PieceKind.STANDARD, TASK_ID)
        await self.download(self.origin(CONTENT), target=target)
        pieces = await store.get_pieces(PieceKind.STANDARD, TASK_ID)
        self.assertEqual(len(pieces), 21)
        for piece in pieces:
            self.assertEqual(piece.metadata.parent_id, "")
            self.assertEqual(piece.metadata.traffic_type, TrafficType.BACK_TO_SOURCE)
            self.assertTrue(piece.metadata.digest.startswith("crc32:"))

    async def test_limit(self) -> None:
        """What comes from a source is within the limit of all content."""
        began = self.clock.seconds()
        await self.download(self.origin(CONTENT), negotiation=self.negotiation(rate=2_000_000))
        self.assertGreater(self.clock.seconds() - began, 0.5)


class AnnouncerTests(SynchronousTestCase):
    """What a source announces."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[int] = []
        self.ended: list[bool] = []

    def start(self, length: int, next_turn: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """
        Announce a content in pieces of one byte.

        :param next_turn: called in the turn after that of the first announcement.
        :returns: ends it.
        """
        pieces = SourcePieces(
            SourceOf(length), self.clock, TokenBucket(1 << 40, self.clock), timeout=10.0, piece_length=1
        )
        return SourceAnnouncer("source", {("source", "task"): pieces}, self.clock).start(
            PieceKind.STANDARD,
            "task",
            lambda *_: cast(None, self.clock.callLater(0, next_turn)),
            lambda number, *_: self.told.append(number),
            self.ended.append,
        )

    def test_in_batches(self) -> None:
        """A source of many pieces does not announce all of them in one turn of the reactor."""
        before: list[int] = []
        self.start(10_000, lambda: before.append(len(self.told)))
        self.clock.advance(0)
        self.assertLess(before[0], 1000)
        self.assertEqual((self.told, self.ended), (list(range(10_000)), [True]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Between two batches it can be stopped."""
        stop = self.start(10_000, lambda: stop())
        self.clock.advance(0)
        self.assertLess(len(self.told), 1000)
        self.assertEqual(self.ended, [])

    def test_too_many(self) -> None:
        """A source of too many pieces announces none."""
        self.start(MAX_PIECE_COUNT + 1)
        self.clock.advance(0)
        self.assertEqual((self.told, self.ended), ([], [False]))


@implementer(ISource)
class SourceOf:
    """
    A source that has metadata alone.

    :param length: bytes of its content.
    """

    name = "source"

    def __init__(self, length: int) -> None:
        self._length = length

    def stat(self) -> Deferred[SourceStat]:
        """Say it."""
        return succeed(SourceStat(content_length=self._length, version="1", has_ranges=True))

    def fetch(self, start: int, length: int | None, consumer: IConsumer) -> Deferred[None]:
        """Give nothing."""
        return fail(NotImplementedError())

    def stop(self) -> Deferred[None]:
        """End."""
        return succeed(None)


class BesidePeersTests(SourceDownloadCase):
    """Downloads from peers and a source."""

    async def test_a_peer_has_it(self) -> None:
        """
        Where a peer has all of it, the source is asked for nothing but its length. If it is always asked, it may give
        what a peer on a busy machine has not announced in time.
        """
        for policy in (BackToSource.LAST_RESORT, BackToSource.ALWAYS):
            for scheme in ("grpc", "tcp"):
                self.output = self.directory / f"{policy.value}-{scheme}"
                origin = self.origin(CONTENT)
                peer = await self.peer(scheme=scheme, name=f"{policy.value}{scheme}peer")
                done = await self.download(origin, peer, policy=policy)
                self.assertEqual(self.output.read_bytes(), CONTENT)
                self.assertEqual(len(origin.ranges), sum(done.from_source.values()))
                late = set() if policy is BackToSource.LAST_RESORT else {"not_announced", "slow"}
                self.assertLessEqual(set(done.from_source), late)

    async def test_a_peer_lacks_it(self) -> None:
        """Where no peer has the task, the source gives all of it, without a wait."""
        for scheme in ("grpc", "tcp"):
            self.output = self.directory / scheme
            peer = await self.peer(b"", scheme=scheme, name=f"{scheme}peer")
            origin = self.origin(CONTENT)
            done = await self.download(origin, peer, retry=1000.0)  # longer than this test may take
            self.assertEqual(self.output.read_bytes(), CONTENT)
            self.assert_each_once(origin)
            self.assertEqual(dict(done.from_source), {"not_found": 21})

    async def test_a_peer_is_away(self) -> None:
        """A peer that cannot be reached costs nothing but its attempts."""
        origin = self.origin(CONTENT)
        peer = ParentAddress.from_text(f"tcp://127.0.0.1:{free_port()}")
        done = await self.download(origin, peer, retry=30.0)
        self.assertEqual(self.output.read_bytes(), CONTENT)
        self.assert_each_once(origin)
        self.assertEqual(set(done.from_source), {"failed"})

    async def test_a_peer_has_a_part(self) -> None:
        """What a peer has comes from it, and the rest from the source, each piece once."""
        self.patch(source_choice, "QUIET", 3.0)  # seconds that the source waits for the peer
        store = PieceStore(self.directory / "half", self.peer_reactor)
        await store.start()
        target = store.write_task(PieceKind.STANDARD, TASK_ID)
        broken = self.origin(CONTENT, script=[None] * 8, always=say(403))
        with_a_part = self.download(broken, target=target)
        await self.failure_of(self.as_deferred(with_a_part))
        there = {piece.metadata.number for piece in await store.get_pieces(PieceKind.STANDARD, TASK_ID)}
        await store.stop()
        self.assertTrue(0 < len(there) < 21)
        peer = await self.peer(b"", name="half")
        origin = self.origin(CONTENT)
        done = await self.download(origin, peer, policy=BackToSource.LAST_RESORT)
        self.assertEqual(self.output.read_bytes(), CONTENT)
        asked = {first // LENGTH for first, _ in origin.ranges}
        self.assert_each_once(origin, sorted(asked))
        self.assertLessEqual(set(range(21)) - there, asked)
        # On a busy machine the peer may be slow for a while.
        self.assertEqual(len(asked & there), done.from_source.get("slow", 0))


class StoredTests(SourceDownloadCase):
    """Downloads from a source into a storage."""

    async def store(self) -> PieceStore:
        """The storage of the peer ``peer``, open until the end of the case."""
        store = PieceStore(self.directory / "peer", self.peer_reactor)
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def test_served_as_it_comes(self) -> None:
        """A peer serves the pieces that have arrived from the source while the last one is still to come."""
        held: list[tuple[Request, Asked]] = []

        def hold_the_last(origin: ScriptedOrigin, request: Request, asked: Asked) -> None:
            if asked.range is not None and asked.range[0] == 20 * LENGTH:
                held.append((request, asked))
            else:
                origin.answer_well(request, asked)

        origin = self.origin(CONTENT, always=hold_the_last)
        store = await self.store()
        fetching = self.as_deferred(self.download(origin, target=store.write_task(PieceKind.STANDARD, TASK_ID)))
        await origin.until_asked(22)
        peer = await self.peer(b"")
        child = self.negotiation(peer)
        arrived: Deferred[None] = Deferred()

        def look(event: DownloadEvent) -> None:
            if isinstance(event, PieceKept) and event.kept_pieces == 20 and not arrived.called:
                arrived.callback(None)

        copying = TaskDownload(
            self.peer_reactor,
            self.in_thread,
            child.downloader,
            kind=PieceKind.STANDARD,
            task_id=TASK_ID,
            parents=[str(peer)],
            target=OutputTarget(self.output, self.in_thread),
            announcers=child.announcers,
            on_event=look,
        ).start()
        await arrived
        self.assertFalse(fetching.called)
        origin.answer_well(*held[0])
        await fetching
        await copying
        self.assertEqual(self.output.read_bytes(), CONTENT)
        self.assert_each_once(origin)

    async def broken_off(self, target: IDownloadTarget, digest: str = "") -> None:
        """A download that has ended after some pieces of version 1."""
        origin = self.origin(CONTENT, script=[None] * 8, always=say(403))
        await self.failure_of(self.as_deferred(self.download(origin, target=target, task_id=URL_TASK, digest=digest)))

    async def test_same_version_on_another_day(self) -> None:
        """A download is resumed while the source has the same version: no piece is fetched again."""
        store = await self.store()
        await self.broken_off(store.write_task(PieceKind.STANDARD, URL_TASK, ""))
        self.assertEqual((await store.get_task(PieceKind.STANDARD, URL_TASK)).source_version, '"1"')
        there = len(await store.get_pieces(PieceKind.STANDARD, URL_TASK))
        origin = self.origin(CONTENT)
        target = store.write_task(PieceKind.STANDARD, URL_TASK, "")
        await self.download(origin, target=target, task_id=URL_TASK, digest="")
        self.assertEqual(len(origin.ranges), 21 - there)

    async def test_another_version_on_another_day(self) -> None:
        """A download that is resumed begins anew where the source has changed, also in its length."""
        for content in (CONTENT[::-1], CONTENT[LENGTH:], b"short"):
            store = await self.store()
            for make in (self.stored_target, self.kept_target):
                await self.broken_off(make(store))
                origin = self.origin(content, etag='"2"')
                await self.download(origin, target=make(store), task_id=URL_TASK, digest="")
                self.assertEqual(len(origin.ranges), -(-len(content) // LENGTH))
            self.assertEqual(self.output.read_bytes(), content)
            self.output.unlink()
            self.assertEqual((await store.get_task(PieceKind.STANDARD, URL_TASK)).source_version, '"2"')
            await store.stop()
            await deferToThread(remove_task, self.directory / "peer", PieceKind.STANDARD, URL_TASK)

    def stored_target(self, store: PieceStore) -> IDownloadTarget:
        """The storage."""
        return store.write_task(PieceKind.STANDARD, URL_TASK, "")

    def kept_target(self, _: PieceStore) -> IDownloadTarget:
        """An output whose pieces are kept where a download ends early."""
        return OutputTarget(self.output, self.in_thread, kept_for=(PieceKind.STANDARD, URL_TASK))

    async def test_another_version_with_a_digest(self) -> None:
        """With a digest the stored pieces stay: the source is of another version, and gives nothing."""
        store = await self.store()
        digest = f"sha256:{TASK_ID}"
        await self.broken_off(store.write_task(PieceKind.STANDARD, URL_TASK, digest), digest)
        target = store.write_task(PieceKind.STANDARD, URL_TASK, digest)
        origin = self.origin(CONTENT, etag='"2"')
        resuming = self.as_deferred(self.download(origin, target=target, task_id=URL_TASK, digest=digest))
        error = await self.failure_of(resuming)
        self.assertIn('expected version "1", as that of other pieces, got "2"', str(error))


class LoadedTests(SourceCase):
    """What is loaded when."""

    def test_treq_is_loaded_late(self) -> None:
        """A download without a source does not load treq."""
        import subprocess
        import sys

        code = "import sys, dragonfly_vortex.cli.download; print('treq' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "False")
