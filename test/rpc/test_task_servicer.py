"""All methods of the local door but the downloads, with grpcio's own client over a real socket."""

from __future__ import annotations

import hashlib
from typing import Any

from dragonfly_api import dfdaemon_pb2
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode
from twisted.internet.defer import Deferred

from dragonfly_vortex.rpc.methods import LOCAL_SERVICE, task_methods
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind
from test.rpc.local_peer import LENGTH, PIECE_LENGTH, PIECES, LocalPeerTestCase


class ServicerTests(LocalPeerTestCase):
    """A peer that has downloaded a task."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        await self.export()

    def ask(self, name: str, task_id: str) -> Deferred[Any]:
        """Call a method with a task ID."""
        (method,) = (each for each in task_methods(LOCAL_SERVICE) if each.name == name)
        message: Any = method.request
        return self.call(name, message(task_id=task_id))

    async def test_stat(self) -> None:
        """A task of the storage is described by both methods; dfcache requires a time to live."""
        task = await self.ask("StatPersistentCacheTask", self.task_id)
        self.assertEqual(
            (task.id, task.content_length, task.piece_length, task.piece_count, task.state),
            (self.task_id, LENGTH, PIECE_LENGTH, PIECES, "Succeeded"),
        )
        self.assertTrue(task.HasField("ttl"))
        local = await self.ask("StatLocalPersistentCacheTask", self.task_id)
        self.assertEqual((local.task_id, local.content_length), (self.task_id, LENGTH))
        self.assertTrue(local.HasField("finished_at"))

    async def test_unknown(self) -> None:
        """A task that is not there is NOT_FOUND for a question, and INTERNAL for a removal, as in the reference."""
        for name, expected in (
            ("StatTask", (StatusCode.NOT_FOUND, "task not found: no-such-task")),
            ("StatLocalTask", (StatusCode.NOT_FOUND, "local task not found: no-such-task")),
            ("StatCacheTask", (StatusCode.NOT_FOUND, "task not found: no-such-task")),
            ("DeleteTask", (StatusCode.INTERNAL, "task no-such-task not found")),
            ("DeleteLocalTask", (StatusCode.INTERNAL, "task no-such-task not found")),
            ("DeleteCacheTask", (StatusCode.INTERNAL, "task no-such-task not found")),
        ):
            self.assertEqual(await self.refusal(self.ask(name, "no-such-task")), expected)
        # A task is of one kind.
        code, _ = await self.refusal(self.ask("StatTask", self.task_id))
        self.assertEqual(code, StatusCode.NOT_FOUND)

    async def test_list(self) -> None:
        """A list has the tasks of one kind."""
        lists = {}
        for name in ("ListLocalTasks", "ListLocalPersistentTasks", "ListLocalPersistentCacheTasks"):
            reply = await self.call(name, getattr(dfdaemon_pb2, f"{name}Request")())
            lists[name] = [(task.task_id, task.HasField("finished_at")) for task in reply.tasks]
        self.assertEqual(
            lists,
            {
                "ListLocalTasks": [],
                "ListLocalPersistentTasks": [],
                "ListLocalPersistentCacheTasks": [(self.task_id, True)],
            },
        )

    async def test_import_and_delete(self) -> None:
        """A file can be imported, and its task exported and removed."""
        path = self.directory / "another"
        path.write_bytes(b"content")
        request = dfdaemon_pb2.UploadPersistentCacheTaskRequest(path=str(path), persistent_replica_count=2, tag="tag")
        request.ttl.seconds = 3600
        task = await self.call("UploadPersistentCacheTask", request)
        self.assertEqual((task.content_length, task.ttl.seconds, task.persistent_replica_count), (7, 3600, 2))
        stat = await self.call("StatPersistentCacheTask", dfdaemon_pb2.StatPersistentCacheTaskRequest(task_id=task.id))
        self.assertEqual(stat.ttl.seconds, 3600)
        self.assertEqual(task.id, hashlib.sha256(b"content" + b"tag" + b"PERSISTENT_CACHE").hexdigest())
        output = self.directory / "output"
        await self.export(task_id=task.id, output_path=str(output))
        self.assertEqual(output.read_bytes(), b"content")

    async def test_import_of_nothing(self) -> None:
        """A file that is not there cannot be imported."""
        request = dfdaemon_pb2.UploadPersistentCacheTaskRequest(path=str(self.directory / "missing"))
        code, text = await self.refusal(self.call("UploadPersistentCacheTask", request))
        self.assertEqual(code, StatusCode.INTERNAL)
        self.assertIn("missing", text)

    async def test_delete(self) -> None:
        """A task is removed with its file, and a second time it is not there."""
        path = self.directory / "another"
        path.write_bytes(b"content")
        storage = self.directory / "storage"
        task_id = await self.in_thread(lambda: import_file(path, storage, PieceKind.STANDARD).task_id)
        for name in ("DeleteTask", "DeleteLocalTask"):
            await self.in_thread(lambda: import_file(path, storage, PieceKind.STANDARD))
            await self.ask(name, task_id)
            self.assertEqual(list(storage.rglob(task_id)), [])
            code, _ = await self.refusal(self.ask(name, task_id))
            self.assertEqual(code, StatusCode.INTERNAL)

    async def test_without_scheduler(self) -> None:
        """Without a scheduler there is none to leave."""
        call = self.channel.unary_unary(f"/{LOCAL_SERVICE}/DeleteHost", Empty.SerializeToString, Empty.FromString)
        refusal = await self.refusal(self.in_thread(lambda: call(Empty(), timeout=120)))
        self.assertEqual(refusal, (StatusCode.INTERNAL, "expected a scheduler in the configuration, got none"))

    async def test_malformed(self) -> None:
        """A request that is none is refused with what was expected."""
        call = self.channel.unary_unary(f"/{LOCAL_SERVICE}/StatTask")
        code, text = await self.refusal(self.in_thread(lambda: call(b"\xff\xff", timeout=120)))
        self.assertEqual(code, StatusCode.INVALID_ARGUMENT)
        self.assertIn("StatTaskRequest", text)
        code, text = await self.refusal(self.call("DownloadTask", dfdaemon_pb2.DownloadTaskRequest()))
        self.assertEqual((code, text), (StatusCode.INVALID_ARGUMENT, "missing download"))
