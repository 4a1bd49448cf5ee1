"""What the gRPC door does with whole tasks: for a seed all, for any other peer only what it has."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import grpc
from dragonfly_api import dfdaemon_pb2
from google.protobuf.message import Message
from grpc import StatusCode
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dragonfly_vortex.config import SeedPeerConfig
from dragonfly_vortex.rpc.methods import SERVICE, task_methods
from dragonfly_vortex.wire import PieceKind
from test.rpc.local_peer import LENGTH, PIECES, LocalPeerTestCase, until


class UploadTestCase(LocalPeerTestCase):
    """A peer whose gRPC door is called."""

    async def restart(self, *, seed: bool) -> None:
        """Start the peer anew, as a seed or not."""
        await self.peer.stopService()
        self.config = replace(self.config, seed_peer=SeedPeerConfig(enable=seed))
        await self.start()
        await until(lambda: self.peer.grpc_address)
        channel = grpc.insecure_channel(f"127.0.0.1:{getattr(self.peer.grpc_address, 'port', 0)}")
        self.addCleanup(deferToThread, channel.close)  # it may wait for what the reactor answers
        self.door: Any = channel

    def ask(self, name: str, message: Message) -> Deferred[Any]:
        """Call a method of the gRPC door. Fires with all replies."""
        (method,) = (each for each in task_methods(SERVICE) if each.name == name)
        path = f"/{SERVICE}/{name}"
        kind = self.door.unary_stream if method.is_stream else self.door.unary_unary
        call = kind(path, type(message).SerializeToString, method.reply.FromString)
        if method.is_stream:
            return self.in_thread(lambda: list(call(message, timeout=120)))
        return self.in_thread(lambda: [call(message, timeout=120)])


class NoSeedTests(UploadTestCase):
    """A peer that is no seed."""

    async def test_refused(self) -> None:
        """A stranger can have nothing downloaded, deleted or asked of a source."""
        await self.export()
        await self.restart(seed=False)
        download = dfdaemon_pb2.DownloadTaskRequest()
        download.download.url = "http://127.0.0.1/"
        task_id = self.task_id
        messages: dict[str, Message] = {
            "DownloadTask": download,
            "DownloadPersistentCacheTask": dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=task_id),
            "DeleteTask": dfdaemon_pb2.DeleteTaskRequest(task_id=task_id),
            "DeletePersistentCacheTask": dfdaemon_pb2.DeletePersistentCacheTaskRequest(task_id=task_id),
            "UpdatePersistentCacheTask": dfdaemon_pb2.UpdatePersistentCacheTaskRequest(task_id=self.task_id),
        }
        for name, message in messages.items():
            code, text = await self.refusal(self.ask(name, message))
            self.assertEqual(code, StatusCode.PERMISSION_DENIED, name)
            self.assertIn("no seed", text)
        entries = self.door.unary_unary(f"/{SERVICE}/ListTaskEntries")
        code, _ = await self.refusal(self.in_thread(lambda: entries(b"", timeout=120)))
        self.assertEqual(code, StatusCode.PERMISSION_DENIED)

    async def test_stat(self) -> None:
        """What it has can be asked."""
        await self.export()
        await self.restart(seed=False)
        request = dfdaemon_pb2.StatPersistentCacheTaskRequest(task_id=self.task_id)
        (task,) = await self.ask("StatPersistentCacheTask", request)
        self.assertEqual((task.id, task.content_length), (self.task_id, LENGTH))


class SeedTests(UploadTestCase):
    """A seed."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        await self.restart(seed=True)

    async def test_download(self) -> None:
        """A task is downloaded for any caller, with its content where that is wanted, and counted as sent."""
        request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=self.task_id, need_piece_content=True)
        replies = await self.ask("DownloadPersistentCacheTask", request)
        pieces = [each.download_piece_finished_response.piece for each in replies[1:]]
        content = b"".join(piece.content for piece in sorted(pieces, key=lambda piece: int(piece.number)))
        self.assertEqual((len(pieces), content), (PIECES, self.content))
        self.assertTrue(replies[0].host_id.endswith("-seed"))
        tallies = [tally for door in self.peer._doors.values() for tally in door.tallies]
        self.assertEqual(sum(tally.bytes_sent for tally in tallies), LENGTH)

    async def test_output(self) -> None:
        """No file is written for a caller over the network."""
        output = self.directory / "output"
        request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=self.task_id, output_path=str(output))
        code, _ = await self.refusal(self.ask("DownloadPersistentCacheTask", request))
        self.assertEqual(code, StatusCode.PERMISSION_DENIED)
        self.assertFalse(output.exists())

    async def test_keep_and_delete(self) -> None:
        """A task that is there can be kept however full the disk is, and no more, and deleted."""
        await self.export()
        task_id = self.task_id
        store: Any = self.peer._store
        for is_pinned in (True, False):
            update = dfdaemon_pb2.UpdatePersistentCacheTaskRequest(task_id=task_id, persistent=is_pinned)
            await self.ask("UpdatePersistentCacheTask", update)
            task = await store.get_task(PieceKind.PERSISTENT_CACHE, task_id)
            self.assertIs(task.is_pinned, is_pinned)
        await self.ask("DeletePersistentCacheTask", dfdaemon_pb2.DeletePersistentCacheTaskRequest(task_id=task_id))
        update = dfdaemon_pb2.UpdatePersistentCacheTaskRequest(task_id=self.task_id)
        code, _ = await self.refusal(self.ask("UpdatePersistentCacheTask", update))
        self.assertEqual(code, StatusCode.NOT_FOUND)

    async def test_errors_tell_no_path(self) -> None:
        """An error says nothing about this machine."""
        content = self.peer.config.storage.dir / "content"
        shutil.rmtree(content, ignore_errors=True)
        content.write_text("in the way")
        request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=self.task_id)
        code, text = await self.refusal(self.ask("DownloadPersistentCacheTask", request))
        self.assertIs(code, StatusCode.INTERNAL)
        self.assertNotIn(str(self.directory), text)
