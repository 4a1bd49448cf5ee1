"""The pieces of a source: cut by Dragonfly's rule, hashed as they come, and by how many requests."""

from __future__ import annotations

from zlib import crc32

from twisted.internet.defer import CancelledError, gatherResults

from dragonfly_vortex.errors import (
    ParentRefused,
    ParentUnreachable,
    PieceNotFound,
    PieceTimeout,
    SinkFailed,
    UnexpectedPiece,
)
from dragonfly_vortex.interfaces import DownloadPieceRequest, IPieceSink
from dragonfly_vortex.model import DownloadPieceResponse
from dragonfly_vortex.source import pieces as pieces_of_source
from dragonfly_vortex.source.pieces import SourcePieces
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, cut_off, hang, say, whole
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.sinks import MemorySink
from dragonfly_vortex.wire import PieceKind, TrafficType
from test.source.origins import CONTENT, SourceCase

LENGTH = 65_536
COUNT = 5
TASK = "0" * 64


class PiecesCase(SourceCase):
    """Pieces of 64 KiB of an origin's 300000 bytes."""

    def pieces(
        self,
        origin: ScriptedOrigin,
        *,
        piece_length: int | None = LENGTH,
        rate: int = 1 << 40,
        timeout: float = 9,
        version: str = "",
    ) -> SourcePieces:
        """The pieces of an origin."""
        pieces = SourcePieces(
            self.source(origin.url("/f?sig=secret")),
            self.clock,
            TokenBucket(rate, self.clock),
            timeout=timeout,
            piece_length=piece_length,
            version=version,
        )
        self.addCleanup(pieces.stop)
        return pieces

    def request(self, number: int, sink: IPieceSink | None = None) -> DownloadPieceRequest:
        """A request for a piece."""
        return DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=TASK, number=number, sink=sink)

    def assert_piece(self, response: DownloadPieceResponse, number: int, content: bytes = CONTENT) -> None:
        """Assert that a piece is right: its bytes, and what is said of them."""
        expected = content[number * LENGTH : (number + 1) * LENGTH]
        self.assertEqual(response.content, expected)
        metadata = response.metadata
        self.assertEqual((metadata.number, metadata.offset, metadata.length), (number, number * LENGTH, len(expected)))
        self.assertEqual(metadata.digest, f"crc32:{crc32(expected)}")
        self.assertEqual(metadata.traffic_type, TrafficType.BACK_TO_SOURCE)

    async def assert_all(self, pieces: SourcePieces, content: bytes = CONTENT) -> None:
        """Assert that all pieces come right, asked for at the same time."""
        numbers = range(-(-len(content) // LENGTH))
        for number, response in enumerate(await gatherResults([pieces.download(self.request(n), 9) for n in numbers])):
            self.assert_piece(response, number, content)


class RangeTests(PiecesCase):
    """Pieces of a source that has ranges."""

    async def test_all_at_once(self) -> None:
        """Each piece is one request for its range, and one more tells the length."""
        origin = self.origin()
        pieces = self.pieces(origin)
        await self.assert_all(pieces)
        self.assertEqual(origin.ranges, [(n * LENGTH, min((n + 1) * LENGTH, 300_000) - 1) for n in range(COUNT)])
        self.assertEqual(len(origin.asked), COUNT + 1)
        self.assertEqual(pieces.version, '"1"')

    async def test_mute_at_first(self) -> None:
        """A source that does not say what it has is asked again when that is wanted again."""
        self.patch(pieces_of_source, "_PAUSE", 0.0)
        origin = self.origin(script=[hang])
        pieces = self.pieces(origin, timeout=0.2)
        error = await self.failure_of(pieces.stat())
        self.assertIn("expected an answer within 0.2 s", str(error))
        pieces._timeout = 9  # so that the second answer may take its time
        self.assertEqual((await pieces.stat()).content_length, len(CONTENT))

    async def test_rule(self) -> None:
        """Without a wanted length pieces are as long as Dragonfly's rule says."""
        pieces = self.pieces(self.origin(), piece_length=None)
        await pieces.stat()
        self.assertEqual(pieces.piece_length, 4 << 20)

    async def test_empty(self) -> None:
        """An empty content is a piece 0 of no bytes."""
        response = await self.pieces(self.origin(b"")).download(self.request(0), 9)
        self.assertEqual((response.content, response.metadata.length), (b"", 0))

    async def test_behind_the_end(self) -> None:
        """There is no piece behind the last one."""
        error = await self.failure_of(self.pieces(self.origin()).download(self.request(COUNT), 9))
        self.assertIsInstance(error, PieceNotFound)

    async def test_cut_off(self) -> None:
        """A connection that ends in the middle is followed by a request for what is missing."""
        origin = self.origin(script=[None, cut_off(1000), cut_off(2000)])
        self.assert_piece(await self.pieces(origin).download(self.request(1), 9), 1)
        last = 2 * LENGTH - 1
        self.assertEqual(origin.ranges, [(LENGTH, last), (LENGTH + 1000, last), (LENGTH + 3000, last)])

    async def test_cut_off_without_progress(self) -> None:
        """Where nothing comes, the piece fails; whether it is asked for again is the download's business."""
        origin = self.origin(script=[None, cut_off(1000)], always=cut_off(0))
        error = await self.failure_of(self.pieces(origin).download(self.request(1), 9))
        self.assertIsInstance(error, ParentUnreachable)
        self.assertEqual(len(origin.ranges), 2)

    async def test_errors(self) -> None:
        """What a source answers is said as of a parent, without secrets."""
        for status, kind in ((404, PieceNotFound), (403, ParentRefused), (503, ParentUnreachable)):
            origin = self.origin(script=[None], always=say(status, Retry_After="9"))
            error = await self.failure_of(self.pieces(origin).download(self.request(0), 9))
            self.assertIsInstance(error, kind)
            self.assertEqual(getattr(error, "retry_after", 0.0), 9.0 if status == 503 else 0.0)
            self.assertIn(f"from parent http://127.0.0.1:{origin.port}/f: expected status", str(error))

    async def test_versions_do_not_mix(self) -> None:
        """Another version in the middle, or than the one that is known, is not taken."""
        origin = self.origin()
        pieces = self.pieces(origin)
        await pieces.download(self.request(0), 9)
        origin.etag = '"2"'
        self.assertIsInstance(await self.failure_of(pieces.download(self.request(1), 9)), UnexpectedPiece)
        error = await self.failure_of(self.pieces(origin, version='"1"').download(self.request(1), 9))
        self.assertIn('expected version "1", got "2"', str(error))

    async def test_stat_is_asked_for_again(self) -> None:
        """A source that could not be asked is asked again, but not at once: all requests share one answer."""
        for pause, asked in ((1000.0, 1), (0.0, 3)):
            self.patch(pieces_of_source, "_PAUSE", pause)
            origin = self.origin(script=[say(503)])
            pieces = self.pieces(origin)
            await self.failure_of(pieces.download(self.request(0), 9))
            if asked == 1:
                await self.failure_of(pieces.download(self.request(1), 9))
            else:
                self.assert_piece(await pieces.download(self.request(0), 9), 0)
            self.assertEqual(len(origin.asked), asked)

    async def test_timeout(self) -> None:
        """A source that says nothing for so long is given up."""
        origin = self.origin(script=[None, hang])
        pieces = self.pieces(origin)
        await pieces.stat()
        error = await self.failure_of(pieces.download(self.request(0), 0.2))
        self.assertIsInstance(error, PieceTimeout)
        self.assertIn("expected some of the piece within 0.2 s, got 0 bytes", str(error))

    async def test_limit(self) -> None:
        """What comes is within the limit of all content, and the wait is reported."""
        pieces = self.pieces(self.origin(), rate=600_000)
        began = self.clock.seconds()
        responses = await gatherResults([pieces.download(self.request(n), 9) for n in range(COUNT)])
        self.assertGreater(self.clock.seconds() - began, 0.3)
        self.assertGreater(max(response.waited for response in responses), 0.1)

    async def test_sink_fails(self) -> None:
        """A sink that cannot write is this side's failure."""

        class Full(MemorySink):
            """Takes nothing."""

            def write(self, data: bytes | memoryview) -> None:
                raise OSError("no space")

        error = await self.failure_of(self.pieces(self.origin()).download(self.request(0, Full()), 9))
        self.assertIsInstance(error, SinkFailed)

    async def test_cancelled(self) -> None:
        """A piece can be given up; its sink hears of it."""
        origin = self.origin(script=[None, hang])
        failed: list[bool] = []

        class Sink(MemorySink):
            """Notes that it is given up."""

            def fail(self) -> None:
                failed.append(True)

        downloading = self.pieces(origin).download(self.request(0, Sink()), 9)
        await origin.until_asked(2)
        downloading.cancel()
        self.assertIsInstance(await self.failure_of(downloading), CancelledError)
        self.assertEqual(failed, [True])


class StreamTests(PiecesCase):
    """Pieces of a source that gives no ranges."""

    async def test_one_stream(self) -> None:
        """All pieces come out of one stream, with a length or without."""
        for names_length in (True, False):
            origin = self.origin(has_ranges=False, names_length=names_length)
            await self.assert_all(self.pieces(origin))
            self.assertEqual([each.range for each in origin.asked], [(0, 0), None])

    async def test_ranges_are_ignored_later(self) -> None:
        """A source that said it had ranges, and sends all, is read as a stream from then on."""
        origin = self.origin(script=[None], always=whole)
        await self.assert_all(self.pieces(origin))
        self.assertLessEqual(len(origin.asked), 2 + COUNT)

    async def test_one_after_the_other(self) -> None:
        """The stream waits for the next request; for an earlier piece it begins anew."""
        origin = self.origin(CONTENT, has_ranges=False)
        pieces = self.pieces(origin)
        for number in (0, 1, 3):
            self.assert_piece(await pieces.download(self.request(number), 9), number)
        self.assertEqual(len(origin.asked), 2)
        self.assert_piece(await pieces.download(self.request(2), 9), 2)
        self.assertEqual(len(origin.asked), 3)

    async def test_an_earlier_one_meanwhile(self) -> None:
        """A piece that has gone by is got by a stream from the beginning when the others have arrived."""
        origin = self.origin(has_ranges=False)
        pieces = self.pieces(origin)
        late = [pieces.download(self.request(number), 9) for number in (2, 3)]
        responses = await gatherResults([*late, pieces.download(self.request(0), 9)])
        for response in responses:
            self.assert_piece(response, response.metadata.number)

    async def test_end_at_a_boundary(self) -> None:
        """Without a length the end shows when the stream ends, also where the last piece is as long as the others."""
        for content in (CONTENT, CONTENT[: 2 * LENGTH], b""):
            origin = self.origin(content, has_ranges=False, names_length=False)
            pieces = self.pieces(origin)
            await self.assert_all(pieces, content)
            end = max(1, -(-len(content) // LENGTH))
            self.assertIsInstance(
                await self.failure_of(pieces.download(self.request(end), 9)), PieceNotFound, len(content)
            )

    async def test_empty_without_a_length(self) -> None:
        """An empty stream is a piece 0 of no bytes."""
        origin = self.origin(b"", has_ranges=False, names_length=False)
        response = await self.pieces(origin).download(self.request(0), 9)
        self.assertEqual((response.content, response.metadata.length), (b"", 0))

    async def test_lies_about_its_length(self) -> None:
        """A stream of another length than was said is refused."""
        origin = self.origin(has_ranges=False)

        def shorter(origin, request, asked):  # type: ignore[no-untyped-def]
            origin.send(request, CONTENT[:1000])

        origin.script = [None, shorter]
        error = await self.failure_of(self.pieces(origin).download(self.request(0), 9))
        self.assertIsInstance(error, UnexpectedPiece)

    async def test_cut_off(self) -> None:
        """A stream that breaks off fails what was wanted of it, and the next request begins it anew."""
        origin = self.origin(has_ranges=False, script=[None, cut_off(LENGTH + 5)])
        pieces = self.pieces(origin)
        first, second = pieces.download(self.request(0), 9), pieces.download(self.request(1), 9)
        self.assert_piece(await first, 0)
        self.assertIsInstance(await self.failure_of(second), ParentUnreachable)
        self.assert_piece(await pieces.download(self.request(1), 9), 1)

    async def test_cancelled(self) -> None:
        """A piece that is given up does not hold up the others."""
        origin = self.origin(CONTENT * 20, has_ranges=False)
        pieces = self.pieces(origin)
        first, second = pieces.download(self.request(0), 9), pieces.download(self.request(50), 9)
        first.cancel()
        self.assertIsInstance(await self.failure_of(first), CancelledError)
        self.assert_piece(await second, 50, CONTENT * 20)
