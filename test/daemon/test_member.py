"""A peer that announces the tasks of its storage to a scheduler."""

from __future__ import annotations

from typing import Any

from dragonfly_api import dfdaemon_pb2
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from dragonfly_vortex.cluster.dynconfig import read_dynconfig
from dragonfly_vortex.metrics.task_metrics import PREFIX
from dragonfly_vortex.model import Origin
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, hang, say
from dragonfly_vortex.wire import PieceKind
from test.daemon.clustered import ClusterTestCase
from test.metrics.page import values_of
from test.rpc.local_peer import LENGTH, peer_reactor, until


class MemberTests(ClusterTestCase):
    """A member with a storage."""

    async def test_announced(self) -> None:
        """A task that is imported while the peer runs is announced, and withdrawn when it is removed."""
        path, storage = self.directory / "file", self.directory / "storage"
        origin = Origin(url="https://origin.example/file")
        task = await self.in_thread(lambda: import_file(path, storage, PieceKind.STANDARD, origin=origin))
        await until(lambda: task.task_id in self.scheduler.peers.values())
        (heard,) = self.scheduler.heard
        download = heard.messages[0].register_peer_request.download
        self.assertEqual((download.url, download.actual_content_length), (origin.url, LENGTH))
        await self.call("DeleteTask", dfdaemon_pb2.DeleteTaskRequest(task_id=task.task_id))
        await until(lambda: not self.scheduler.peers)

    async def test_prepared(self) -> None:
        """What children will ask of a task is there before a scheduler offers this peer to them."""
        path, storage = self.directory / "file", self.directory / "storage"
        task = await self.in_thread(lambda: import_file(path, storage, PieceKind.STANDARD))
        await until(lambda: task.task_id in self.scheduler.peers.values())
        door: Any = self.peer._doors["grpc"]
        await until(lambda: door._server._rpcs.announcements.get(PieceKind.STANDARD, task.task_id) is not None)

    async def test_failed_look(self) -> None:
        """A task is announced at the next look at the storage where one look failed."""
        peer: Any = self.peer
        store = peer._store
        list_tasks = store.list_tasks
        failed: list[PieceKind] = []

        def fail_once(kind: PieceKind) -> Any:
            if not failed:
                failed.append(kind)
                raise RuntimeError("no thread")
            return list_tasks(kind)

        self.patch(store, "list_tasks", fail_once)
        path, storage = self.directory / "file", self.directory / "storage"
        task = await self.in_thread(lambda: import_file(path, storage, PieceKind.STANDARD))
        await until(lambda: task.task_id in self.scheduler.peers.values())
        self.assertEqual((len(failed), len(self.flushLoggedErrors(RuntimeError))), (1, 1))

    async def test_imported_by_the_local_door(self) -> None:
        """When an import by the local door has succeeded the scheduler knows the task."""
        member: Any = self.peer._member
        await until(lambda: member._membership.serving)
        path = str(self.directory / "file")
        request = dfdaemon_pb2.UploadPersistentCacheTaskRequest(path=path, persistent_replica_count=2)
        task = await self.call("UploadPersistentCacheTask", request)
        (started,) = self.calls("UploadPersistentCacheTaskStarted")
        self.assertEqual((started.task_id, started.content_length), (task.id, LENGTH))
        self.assertEqual(started.persistent_replica_count, 2)

    async def test_announced_after_its_object(self) -> None:
        """A persistent task is announced when its object storage has it, and not before."""
        member: Any = self.peer._member
        await until(lambda: member._membership.serving)
        origin = ScriptedOrigin(b"", script=[say(404), hang])
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        request = dfdaemon_pb2.UploadPersistentTaskRequest(url="s3://bucket/key", path=str(self.directory / "file"))
        request.persistent_replica_count = 3
        request.object_storage.region, request.object_storage.endpoint = "region", origin.url("")
        uploading = self.call("UploadPersistentTask", request)
        await origin.until_asked(2)
        await member._find()
        self.assertEqual(self.calls("UploadPersistentTaskStarted"), [])
        await origin.stop()
        await self.refusal(uploading)
        self.assertEqual(self.calls("UploadPersistentTaskStarted"), [])
        again = ScriptedOrigin(b"", script=[say(404), say(200)])
        again.start(peer_reactor)
        self.addCleanup(again.stop)
        request.object_storage.endpoint = again.url("")
        task = await self.call("UploadPersistentTask", request)
        (started,) = self.calls("UploadPersistentTaskStarted")
        self.assertEqual((started.task_id, started.persistent_replica_count), (task.id, 3))

    async def test_blocked(self) -> None:
        """What the operator of the cluster has blocked is neither downloaded nor imported for programs here."""
        file = self.directory / "dynconfig.yaml"
        lists = "task: {download: {urls: ['forbidden']}}, persistentCacheTask: {upload: {tags: [secret]}}"
        file.write_text(f"clientConfig: {{blockList: {{{lists}}}}}\n", encoding="utf-8")
        member: Any = self.peer._member
        member._membership._block_lists = read_dynconfig(file).client
        download = dfdaemon_pb2.DownloadTaskRequest()
        download.download.url = "http://origin.example/forbidden"
        upload = dfdaemon_pb2.UploadPersistentCacheTaskRequest(path=str(self.directory / "file"), tag="secret")
        for name, request, act in (
            ("DownloadTask", download, "download"),
            ("UploadPersistentCacheTask", upload, "upload"),
        ):
            refused = await self.refusal(self.call(name, request))
            self.assertEqual(refused, (StatusCode.PERMISSION_DENIED, f"{act} rejected by blocklist policy"))
        counted = values_of(member._downloads.metrics.families())
        self.assertEqual(counted[f"{PREFIX}download_task_blocked_total{{type=0}}"], 1)
        self.assertEqual(counted[f"{PREFIX}upload_task_blocked_total{{type=2}}"], 1)
        upload.tag = "other"
        await self.call("UploadPersistentCacheTask", upload)

    async def test_asked(self) -> None:
        """The local door tells what the scheduler knows of a task, and has it forget this host."""
        member: Any = self.peer._member
        await until(lambda: member._membership.serving)
        self.scheduler.script["known"] = ["owner"]
        task = await self.call("StatTask", dfdaemon_pb2.StatTaskRequest(task_id="known"))
        self.assertEqual((task.id, task.state), ("known", ""))  # the storage would say more
        unknown = self.call("StatTask", dfdaemon_pb2.StatTaskRequest(task_id="unknown"))
        self.assertEqual(await self.refusal(unknown), (StatusCode.NOT_FOUND, "task not found: unknown"))
        path = "/dfdaemon.v2.DfdaemonDownload/DeleteHost"
        delete = self.channel.unary_unary(path, Empty.SerializeToString, Empty.FromString)
        await self.in_thread(lambda: delete(Empty(), timeout=120))
        self.assertEqual((len(self.scheduler.left), self.scheduler.hosts), (1, {}))

    async def test_ready(self) -> None:
        """The peer is ready once the scheduler knows it, and no more while no scheduler serves."""
        await until(lambda: not self.peer.missing())
        self.assertTrue(self.scheduler.hosts)
        member: Any = self.peer._member
        member._membership._schedulers.suspect(f"127.0.0.1:{self.scheduler.port}")
        self.assertEqual(self.peer.missing(), ["no scheduler serves and knows this host"])

    async def test_leaves(self) -> None:
        """The host is announced with the address of its gRPC door, and leaves when the peer ends."""
        member: Any = self.peer._member
        await until(lambda: member._membership.serving)
        (host,) = self.scheduler.hosts.values()
        self.assertEqual((host.ip, host.port), ("127.0.0.1", getattr(self.peer.grpc_address, "port", 0)))
        await self.peer.stopService()
        self.assertEqual(self.scheduler.left, [host.id])
