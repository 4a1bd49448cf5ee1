"""The connections to sources: most of a body goes from the socket to the file, past the client of HTTP."""

from __future__ import annotations

import os
import tempfile
from zlib import crc32

from twisted.internet.defer import CancelledError, gatherResults

from dragonfly_vortex.errors import ParentUnreachable, SinkFailed
from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.model import DownloadPieceResponse, FilePlace
from dragonfly_vortex.source.pieces import SourcePieces
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, cut_off
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.sinks import FileSink
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.wire import PieceKind
from test.source.origins import SourceCase, pattern

LENGTH = 4 << 20
CONTENT = pattern(2 * LENGTH + 12_345)


class Counting(Splicer):
    """Counts what it moves."""

    moved = 0

    def move(self, socket: int, place: FilePlace, length: int) -> int:
        moved = super().move(socket, place, length)
        self.moved += moved
        return moved


class SplicedTests(SourceCase):
    """Pieces of a source that are written to a file."""

    def setUp(self) -> None:
        super().setUp()
        self.splicer = Counting()
        self.addCleanup(self.splicer.close)
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the test ends
        self.addCleanup(self.file.close)

    def pieces(self, origin: ScriptedOrigin, *, rate: int = 1 << 40) -> SourcePieces:
        """The pieces of an origin, each of 4 MiB."""
        pieces = SourcePieces(
            self.source(origin.url()),
            self.clock,
            TokenBucket(rate, self.clock),
            timeout=120,
            piece_length=LENGTH,
            splicer=self.splicer,
        )
        self.addCleanup(pieces.stop)
        return pieces

    def request(self, number: int, sink: FileSink | None = None) -> DownloadPieceRequest:
        """A request for a piece at its place in the file."""
        sink = sink or FileSink(self.file.fileno(), number * LENGTH)
        return DownloadPieceRequest(kind=PieceKind.STANDARD, task_id="0" * 64, number=number, sink=sink)

    def assert_piece(self, response: DownloadPieceResponse, number: int) -> None:
        """Assert that a piece is in the file, and that its digest is that of its bytes."""
        expected = CONTENT[number * LENGTH : (number + 1) * LENGTH]
        self.assertEqual(response.metadata.length, len(expected))
        self.assertEqual(response.metadata.digest, f"crc32:{crc32(expected)}")
        self.assertEqual(os.pread(self.file.fileno(), LENGTH, number * LENGTH)[: len(expected)], expected)

    async def test_most_bytes_are_spliced(self) -> None:
        """Of each body more than half goes past the client, which keeps the connection for the next request."""
        origin = self.origin(CONTENT)
        pieces = self.pieces(origin)
        for number in range(3):
            self.assert_piece(await pieces.download(self.request(number), 30), number)
        self.assertGreater(self.splicer.moved, len(CONTENT) // 2)
        self.assertEqual(len(origin._transports), 1)

    async def test_first_read(self) -> None:
        """Little of a body is read with the headers, whose lines the client cuts off one by one, by copies."""
        lengths: list[int] = []

        class Noting(FileSink):
            """Notes how much is written at a time."""

            def write(self, data: bytes | memoryview) -> None:
                lengths.append(len(data))
                super().write(data)

        pieces = self.pieces(self.origin(CONTENT))
        for number in range(2):
            sink = Noting(self.file.fileno(), number * LENGTH)
            self.assert_piece(await pieces.download(self.request(number, sink), 30), number)
        self.assertLessEqual(max(lengths), 16 * 1024)

    async def test_several_at_once(self) -> None:
        """Bodies on several connections do not mix."""
        pieces = self.pieces(self.origin(CONTENT))
        responses = await gatherResults([pieces.download(self.request(number), 30) for number in range(3)])
        for number, response in enumerate(responses):
            self.assert_piece(response, number)

    async def test_cut_off(self) -> None:
        """Where the connection ends in the middle, what is missing is asked for, from the right byte on."""
        after = LENGTH // 2 + 1
        origin = self.origin(CONTENT, script=[None, cut_off(after)])
        self.assert_piece(await self.pieces(origin).download(self.request(0), 30), 0)
        self.assertEqual(origin.ranges, [(0, LENGTH - 1), (after, LENGTH - 1)])

    async def test_gone(self) -> None:
        """A source that breaks off and does not answer any more fails the piece."""
        origin = self.origin(CONTENT, script=[None, cut_off(LENGTH // 2)], always=cut_off(0))
        error = await self.failure_of(self.pieces(origin).download(self.request(0), 30))
        self.assertIsInstance(error, ParentUnreachable)

    async def test_chunks(self) -> None:
        """Nothing is taken of a body in chunks, whose frames are the client's to read."""

        def in_chunks(origin, request, asked):  # type: ignore[no-untyped-def]
            first, last = asked.range
            place = f"bytes {first}-{last}/{len(CONTENT)}"
            origin.send(request, CONTENT[first : last + 1], place=place, length=None)

        origin = self.origin(CONTENT, script=[None], always=in_chunks)
        self.assert_piece(await self.pieces(origin).download(self.request(1), 30), 1)
        self.assertEqual(self.splicer.moved, 0)

    async def test_tls(self) -> None:
        """Nothing is taken from a socket under TLS."""
        origin = self.secure()
        origin.content = CONTENT
        self.assert_piece(await self.pieces(origin).download(self.request(1), 30), 1)
        self.assertEqual(self.splicer.moved, 0)

    async def test_sink_fails(self) -> None:
        """A file that takes no more of what is spliced is this side's failure."""

        class Full(FileSink):
            """Has no place after its first bytes."""

            def place(self) -> FilePlace | None:
                raise OSError("no space")

        sink = Full(self.file.fileno(), 0)
        error = await self.failure_of(self.pieces(self.origin(CONTENT)).download(self.request(0, sink), 30))
        self.assertIsInstance(error, SinkFailed)

    async def test_limit(self) -> None:
        """What is spliced is within the limit of all content."""
        pieces = self.pieces(self.origin(CONTENT), rate=10_000_000)
        began = self.clock.seconds()
        response = await pieces.download(self.request(0), 30)
        self.assert_piece(response, 0)
        self.assertGreater(self.clock.seconds() - began, 0.3)

    async def test_given_up(self) -> None:
        """A piece that is given up in the middle leaves the next ones right."""
        origin = self.origin(CONTENT)
        pieces = self.pieces(origin, rate=20_000_000)
        downloading = pieces.download(self.request(0), 30)
        await origin.until_asked(2)
        downloading.cancel()
        self.assertIsInstance(await self.failure_of(downloading), CancelledError)
        self.assert_piece(await pieces.download(self.request(2), 30), 2)
