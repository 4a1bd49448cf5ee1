"""Downloads by the local door: what is said of a task and its pieces, and what becomes of the output."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from dragonfly_api import dfdaemon_pb2
from grpc import StatusCode
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import TaskRequest
from dragonfly_vortex.rpc.methods import LOCAL_SERVICE, task_methods
from dragonfly_vortex.rpc.task_orders import DownloadOrder
from dragonfly_vortex.rpc.task_stream import DownloadStream
from dragonfly_vortex.wire import PieceKind
from test.rpc.local_peer import LENGTH, PIECES, LocalPeerTestCase, peer_reactor, until


def pieces_in(replies: list[Any]) -> list[Any]:
    """The pieces that replies tell of."""
    return [
        each.download_piece_finished_response.piece
        for each in replies
        if each.HasField("download_piece_finished_response")
    ]


class _Caller:
    """A caller that keeps what is sent to it."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []

    async def write(self, reply: bytes) -> None:
        """Send a reply."""
        self.replies.append(reply)


class ManyPiecesTests(SynchronousTestCase):
    """Tasks of very many pieces, without a peer."""

    def test_started(self) -> None:
        """The pieces are listed in several turns of the event loop, in which other calls are answered."""
        (method,) = (each for each in task_methods(LOCAL_SERVICE) if each.name == "DownloadTask")
        tasks, thread, caller = cast(Any, SimpleNamespace(host_id="host")), cast(Any, None), _Caller()
        order = DownloadOrder(request=TaskRequest(kind=PieceKind.STANDARD, task_id="a" * 64))
        stream = DownloadStream(tasks, thread, method, order, cast(Any, caller), cast(Any, None))

        async def turns_taken() -> int:
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.ensure_future(count())
            await stream._start(20_000, 4, is_finished=True)
            counting.cancel()
            return turns

        self.assertGreaterEqual(asyncio.run(turns_taken()), 4)
        reply = dfdaemon_pb2.DownloadTaskResponse.FromString(*caller.replies)
        pieces = reply.download_task_started_response.pieces
        self.assertEqual([piece.number for piece in pieces], list(range(5000)))
        self.assertEqual((pieces[-1].offset, pieces[-1].length), (19_996, 4))


class StreamTests(LocalPeerTestCase):
    """What the replies say."""

    async def test_replies(self) -> None:
        """The first reply has the length, each of the others a piece; all name host, task and peer."""
        replies = await self.export()
        started = replies[0].download_persistent_cache_task_started_response
        self.assertEqual(started.content_length, LENGTH)
        pieces = pieces_in(replies[1:])
        self.assertEqual(sorted(piece.number for piece in pieces), list(range(PIECES)))
        self.assertEqual(sum(piece.length for piece in pieces), LENGTH)
        host = self.config.host
        self.assertEqual({each.host_id for each in replies}, {f"{host.ip}-{host.hostname}"})
        self.assertEqual({each.task_id for each in replies}, {self.task_id})
        (peer_id,) = {each.peer_id for each in replies}
        self.assertTrue(peer_id.startswith(f"{host.ip}-{host.hostname}-"))

    async def test_from_the_storage(self) -> None:
        """A task that is complete is reported again without its parent."""
        await self.export()
        await self.parent.stopService()
        self.assertEqual(len(pieces_in(await self.export())), PIECES)

    async def test_content(self) -> None:
        """The content of all pieces is sent where it is wanted, and all of it is right."""
        replies = await self.export(need_piece_content=True)
        content = bytearray(LENGTH)
        for piece in pieces_in(replies):
            content[piece.offset : piece.offset + piece.length] = piece.content
        self.assertEqual(bytes(content), self.content)

    async def test_content_that_is_not_read(self) -> None:
        """Content waits for a caller that does not read it, and nothing is left out."""
        await self.export()
        path = f"/{LOCAL_SERVICE}/DownloadPersistentCacheTask"
        request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=self.task_id, need_piece_content=True)
        reply = dfdaemon_pb2.DownloadPersistentCacheTaskResponse.FromString
        stream = self.channel.unary_stream(path, type(request).SerializeToString, reply)(request, timeout=120)
        first = await self.in_thread(lambda: next(stream))
        self.assertEqual(first.download_persistent_cache_task_started_response.content_length, LENGTH)
        self.assertEqual(len(await self.export()), PIECES + 1)  # others are served meanwhile
        self.assertEqual(len(pieces_in(await self.in_thread(lambda: list(stream)))), PIECES)

    async def test_caller_that_goes_away(self) -> None:
        """The download ends when its only caller goes away."""
        await self.parent.stopService()  # so that the download does not end by itself
        path = f"/{LOCAL_SERVICE}/DownloadPersistentCacheTask"
        request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=self.task_id)
        reply = dfdaemon_pb2.DownloadPersistentCacheTaskResponse.FromString
        call = self.channel.unary_stream(path, type(request).SerializeToString, reply)(request)
        downloads: Any = self.peer._downloads
        await until(lambda: len(downloads) == 1)
        call.cancel()
        await until(lambda: len(downloads) == 0)


class RangeTests(LocalPeerTestCase):
    """Ranges of a standard task, which a registry's blob is."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.kind = PieceKind.STANDARD
        await super().setUp()

    def request(self, **fields: Any) -> dfdaemon_pb2.DownloadTaskRequest:
        """A request for bytes 5000 to 9000 of the task."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = f"https://registry.example/v2/name/blobs/sha256:{self.task_id}"
        request.download.enable_task_id_based_blob_digest = True
        request.download.request_header["Range"] = "bytes=5000-9000"
        for name, value in fields.items():
            setattr(request.download, name, value)
        return request

    async def test_pieces(self) -> None:
        """The pieces that have the range are announced and sent, and no others."""
        replies = await self.call("DownloadTask", self.request(need_piece_content=True))
        started = replies[0].download_task_started_response
        self.assertEqual((started.content_length, started.range.start, started.range.length), (LENGTH, 5000, 4001))
        self.assertEqual([piece.number for piece in started.pieces], [1, 2])
        self.assertEqual({piece.number for piece in pieces_in(replies)}, {1, 2})
        for piece in pieces_in(replies):
            self.assertEqual(piece.content, self.content[piece.offset : piece.offset + piece.length])

    async def test_nothing_else_is_fetched(self) -> None:
        """What is before a range is not fetched, nor what is behind it."""
        request = self.request()
        request.download.request_header["Range"] = "bytes=81920-90111"
        await self.call("DownloadTask", request)
        self.assertEqual(self.sent.bytes_sent, 2 * 4096)

    async def test_output(self) -> None:
        """The output is as long as the content, and has the range."""
        output = self.directory / "output"
        await self.call("DownloadTask", self.request(output_path=str(output)))
        written = output.read_bytes()
        self.assertEqual((len(written), written[5000:9001]), (LENGTH, self.content[5000:9001]))

    async def test_prefetch(self) -> None:
        """The rest is downloaded after the call where that is wanted."""
        await self.call("DownloadTask", self.request(prefetch=True))
        store: Any = self.peer._store

        async def pieces() -> int:
            return len(await store.get_pieces(PieceKind.STANDARD, self.task_id))

        while await pieces() < PIECES:
            await deferLater(peer_reactor, 0.01)

    async def test_outside(self) -> None:
        """A range outside of the content is a failed precondition."""
        request = self.request()
        request.download.request_header["Range"] = f"bytes={LENGTH}-"
        code, text = await self.refusal(self.call("DownloadTask", request))
        self.assertEqual(code, StatusCode.FAILED_PRECONDITION)
        self.assertIn(str(LENGTH), text)


class OutputTests(LocalPeerTestCase):
    """What becomes of the output."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        self.output = self.directory / "output"

    def stored_file(self) -> Path:
        """The task's file in the storage."""
        (path,) = self.directory.joinpath("storage", "content").rglob(self.task_id)
        return path

    async def test_link(self) -> None:
        """The output is a hard link to the storage's file."""
        await self.export(output_path=str(self.output))
        self.assertEqual(self.output.read_bytes(), self.content)
        self.assertTrue(os.path.samefile(self.output, self.stored_file()))

    async def test_copy(self) -> None:
        """On another file system the output is a copy, unless it has to be a link."""
        refused = self.export(output_path="/proc/output", force_hard_link=True)
        code, text = await self.refusal(refused)
        self.assertEqual(code, StatusCode.INTERNAL)
        self.assertIn("cannot link", text)
        shared = Path("/dev/shm") / self.directory.name
        if os.stat("/dev/shm").st_dev != os.stat(self.directory).st_dev:
            self.addCleanup(lambda: shared.unlink(missing_ok=True))
            await self.export(output_path=str(shared))
            self.assertEqual(shared.read_bytes(), self.content)

    async def test_output_exists(self) -> None:
        """A file that stands there is replaced only where that is wanted; the task's own file is no other."""
        self.output.write_text("mine")
        refusal = await self.refusal(self.export(output_path=str(self.output)))
        self.assertEqual(refusal, (StatusCode.INTERNAL, f"output path {self.output} is already exists"))
        self.assertEqual(self.output.read_text(), "mine")
        await self.export(output_path=str(self.output), overwrite=True)
        self.assertEqual(self.output.read_bytes(), self.content)
        await self.export(output_path=str(self.output))

    async def test_digest(self) -> None:
        """The content is verified before it is the output; the words for a mismatch are the reference's."""
        await self.export()
        wrong = "sha512:" + "0" * 128
        code, text = await self.refusal(self.export(output_path=str(self.output), digest=wrong))
        self.assertEqual(code, StatusCode.INTERNAL)
        self.assertIn(f"digest mismatch expected: {wrong}, actual: sha512:", text)
        self.assertEqual(self.output.read_bytes(), b"")  # which dfget deletes
        self.output.unlink()
        await self.export(output_path=str(self.output), digest=f"sha256:{self.task_id}")
        self.assertEqual(self.output.read_bytes(), self.content)

    async def test_impossible_output(self) -> None:
        """A directory that is not there is named; a path that is not absolute is refused."""
        code, text = await self.refusal(self.export(output_path=str(self.directory / "missing" / "output")))
        self.assertEqual(code, StatusCode.INTERNAL)
        self.assertIn("missing/output", text)
        code, _ = await self.refusal(self.export(output_path="output"))
        self.assertEqual(code, StatusCode.INVALID_ARGUMENT)
