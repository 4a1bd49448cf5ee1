"""Tasks that come from a source, by the local door and by that of a seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
from dragonfly_api import common_pb2, dfdaemon_pb2
from grpc import StatusCode
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dragonfly_vortex.config import SeedPeerConfig
from dragonfly_vortex.rpc.methods import SERVICE
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, say
from test.rpc.local_peer import LENGTH, LocalPeerTestCase, peer_reactor, until
from test.source.objects import ACCESS_KEY, REGION, signed_only


def object_storage(origin: ScriptedOrigin, access_key_secret: str = "") -> common_pb2.ObjectStorage:
    """How a program describes an object storage."""
    return common_pb2.ObjectStorage(
        region=REGION,
        endpoint=origin.url(""),
        access_key_id=ACCESS_KEY.access_key_id,
        access_key_secret=access_key_secret or ACCESS_KEY.access_key_secret,
        session_token=ACCESS_KEY.session_token,
    )


class SourceTestCase(LocalPeerTestCase):
    """A peer without a parent, and a source on this machine."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        self.output = self.directory / "output"

    async def start(self) -> None:
        self.config = replace(self.config, download=replace(self.config.download, parents=()))
        await super().start()

    def origin(self, *script: Any, always: Any = None) -> ScriptedOrigin:
        """A source with the content."""
        origin = ScriptedOrigin(self.content, script=list(script), always=always)
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        return origin

    def request(self, origin: ScriptedOrigin, **fields: Any) -> dfdaemon_pb2.DownloadTaskRequest:
        """A request for its content."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = origin.url()
        for name, value in fields.items():
            if name == "request_header":
                request.download.request_header.update(value)
            else:
                setattr(request.download, name, value)
        return request


class LocalTests(SourceTestCase):
    """By the local door."""

    async def test_once(self) -> None:
        """A task is fetched from its source once; headers go along, and the digest is verified."""
        origin = self.origin()
        digest = f"sha256:{hashlib.sha256(self.content).hexdigest()}"
        wishes = {"output_path": str(self.output), "digest": digest, "request_header": {"X-Key": "value"}}
        replies = await self.call("DownloadTask", self.request(origin, **wishes))
        self.assertEqual(replies[0].download_task_started_response.content_length, LENGTH)
        self.assertEqual(self.output.read_bytes(), self.content)
        asked = len(origin.asked)
        self.assertGreater(asked, 0)
        await self.call("DownloadTask", self.request(origin, output_path=str(self.directory / "again")))
        self.assertEqual(len(origin.asked), asked)

    async def test_range(self) -> None:
        """The pieces that have a range are asked of the source, and no others."""
        origin = self.origin()
        wishes = {"piece_length": 4096, "output_path": str(self.output), "request_header": {"Range": "bytes=-9000"}}
        await self.call("DownloadTask", self.request(origin, **wishes))
        self.assertEqual(origin.ranges, [(90112, 94207), (94208, 98303), (98304, LENGTH - 1)])
        self.assertEqual(self.output.read_bytes()[-9000:], self.content[-9000:])

    async def test_not_there(self) -> None:
        """What the source answers is passed on with its status, as dfget shows it."""
        call = self.call("DownloadTask", self.request(self.origin(always=say(404, X_Reason="gone"))))
        error: Any = await self.assertFailure(call, grpc.RpcError)
        self.assertEqual(error.code(), StatusCode.INTERNAL)
        (details,) = [value for name, value in error.trailing_metadata() if name == "grpc-status-details-bin"]
        backend = json.loads(details)
        self.assertEqual(backend["status_code"], 404)
        self.assertIn("404", backend["message"])
        self.assertEqual(backend["header"].get("x-reason"), "gone")

    async def test_source_forbidden(self) -> None:
        """Where the source may not be asked, it is not."""
        origin = self.origin()
        code, _ = await self.refusal(self.call("DownloadTask", self.request(origin, disable_back_to_source=True)))
        self.assertEqual((code, origin.asked), (StatusCode.INTERNAL, []))

    async def test_another_ones_headers(self) -> None:
        """A request does not fail because another one for the task, at the same time, was refused by the source."""

        def only_with_key(origin: Any, request: Any, asked: Any) -> None:
            if request.getHeader(b"x-key") == b"right":
                origin.answer_well(request, asked)
            else:
                say(403)(origin, request, asked)

        origin = self.origin(always=only_with_key)
        wrong = self.call("DownloadTask", self.request(origin, request_header={"X-Key": "wrong"}))
        downloads: Any = self.peer._downloads
        await until(lambda: len(downloads) or origin.asked)  # else it would be the one who joins
        right = self.call("DownloadTask", self.request(origin, request_header={"X-Key": "right"}))
        await self.assertFailure(wrong, grpc.RpcError)
        self.assertEqual((await right)[0].download_task_started_response.content_length, LENGTH)

    async def test_entries(self) -> None:
        """A source is asked about a URL, and a refusal of it is passed on."""
        origin = self.origin()
        path = "/dfdaemon.v2.DfdaemonDownload/ListTaskEntries"
        message = dfdaemon_pb2.ListTaskEntriesRequest(task_id="task", url=origin.url())
        reply = dfdaemon_pb2.ListTaskEntriesResponse.FromString
        entries: Any = self.channel.unary_unary(path, type(message).SerializeToString, reply)
        found = await self.in_thread(lambda: entries(message, timeout=120))
        self.assertEqual((found.content_length, len(found.entries)), (LENGTH, 0))
        message.url = f"{origin.url()}/"
        code, text = await self.refusal(self.in_thread(partial(entries, message, timeout=120)))
        self.assertEqual((code, "none is listed" in text), (StatusCode.INTERNAL, True))

    async def test_object(self) -> None:
        """An object is fetched with the access key of the request, once; one without the right key is refused."""
        origin = self.origin(always=signed_only())
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url, request.download.piece_length = "s3://bucket/d/file%20name", 4 << 20
        request.download.object_storage.CopyFrom(object_storage(origin))
        request.download.output_path = str(self.output)
        persistent = dfdaemon_pb2.DownloadPersistentTaskRequest(url=request.download.url)
        persistent.object_storage.CopyFrom(request.download.object_storage)
        persistent.output_path = str(self.directory / "persistent")
        await self.call("DownloadTask", request)
        await self.call("DownloadPersistentTask", persistent)
        for name in ("output", "persistent"):
            self.assertEqual(self.directory.joinpath(name).read_bytes(), self.content)
        self.assertEqual({each.uri.partition("?")[0] for each in origin.asked}, {"/bucket/d/file%20name"})
        request.download.tag, request.download.output_path = "another", ""
        request.download.object_storage.access_key_secret = "wrong"
        _, text = await self.refusal(self.call("DownloadTask", request))
        self.assertIn("got 403", text)
        self.assertNotIn("X-Amz", text)

    def upload(self, origin: ScriptedOrigin, **storage: str) -> dfdaemon_pb2.UploadPersistentTaskRequest:
        """A request to put the content into an object storage."""
        request = dfdaemon_pb2.UploadPersistentTaskRequest(url="s3://bucket/d/key", path=str(self.directory / "file"))
        request.object_storage.CopyFrom(object_storage(origin, **storage))
        request.ttl.seconds, request.persistent_replica_count = 3600, 1
        return request

    async def test_upload(self) -> None:
        """A persistent task is in the object storage and in this peer's; it is not uploaded a second time."""
        origin = self.origin(always=signed_only(has_object=False))
        origin.content = b""
        task = await self.call("UploadPersistentTask", self.upload(origin))
        self.assertEqual(origin.content, self.content)
        expected = hashlib.sha256(f"s3://bucket/d/key{REGION}{origin.url('')}PERSISTENT".encode()).hexdigest()
        self.assertEqual((task.id, task.content_length, task.ttl.seconds), (expected, LENGTH, 3600))
        stat = dfdaemon_pb2.StatLocalPersistentTaskRequest(task_id=task.id)
        self.assertEqual((await self.call("StatLocalPersistentTask", stat)).content_length, LENGTH)
        refusal = await self.refusal(self.call("UploadPersistentTask", self.upload(origin)))
        self.assertEqual(refusal, (StatusCode.ALREADY_EXISTS, "persistent task already exists"))

    async def test_failed_upload(self) -> None:
        """What the object storage does not take is not kept; a wrong key and a wrong URL are named."""
        origin = self.origin(say(404), say(503))
        code, text = await self.refusal(self.call("UploadPersistentTask", self.upload(origin)))
        self.assertEqual((code, "got 503" in text), (StatusCode.INTERNAL, True), text)
        kept = await self.call("ListLocalPersistentTasks", dfdaemon_pb2.ListLocalPersistentTasksRequest())
        self.assertEqual(list(kept.tasks), [])
        request = self.upload(self.origin(always=signed_only()), access_key_secret="wrong")
        code, text = await self.refusal(self.call("UploadPersistentTask", request))
        self.assertEqual((code, "got 403" in text, "X-Amz" in text), (StatusCode.INTERNAL, True, False), text)
        request.url = "gs://bucket/key"
        code, text = await self.refusal(self.call("UploadPersistentTask", request))
        self.assertIn("expected s3://BUCKET/KEY", text)

    async def test_other_schemes(self) -> None:
        """A source of a scheme that this peer does not know is named, where no parent has the task."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = "gs://bucket/file"
        persistent = dfdaemon_pb2.DownloadPersistentTaskRequest(url="gs://bucket/file")
        persistent.object_storage.region, persistent.object_storage.endpoint = "region", "endpoint"
        for name, message in (("DownloadTask", request), ("DownloadPersistentTask", persistent)):
            code, text = await self.refusal(self.call(name, message))
            self.assertEqual((code, "the scheme 'gs' cannot be asked" in text), (StatusCode.INTERNAL, True), text)


class SeedTests(SourceTestCase):
    """By the gRPC door of a seed."""

    async def ask(self, origin: ScriptedOrigin, *sources: str) -> Deferred[Any]:
        """Have a seed download from the source."""
        await self.peer.stopService()
        self.config = replace(self.config, seed_peer=SeedPeerConfig(enable=True, sources=sources))
        await self.start()
        await until(lambda: self.peer.grpc_address)
        channel: Any = grpc.insecure_channel(f"127.0.0.1:{getattr(self.peer.grpc_address, 'port', 0)}")
        self.addCleanup(deferToThread, channel.close)  # it may wait for what the reactor answers
        request, reply = self.request(origin, need_back_to_source=True), dfdaemon_pb2.DownloadTaskResponse.FromString
        stream = channel.unary_stream(f"/{SERVICE}/DownloadTask", type(request).SerializeToString, reply)
        return self.in_thread(lambda: list(stream(request, timeout=120)))

    async def test_this_machine(self) -> None:
        """A seed does not ask its own machine for others."""
        origin = self.origin()
        code, text = await self.refusal(await self.ask(origin))
        self.assertEqual((code, origin.asked, len(origin._transports)), (StatusCode.INTERNAL, [], 0))
        self.assertIn("this host may not be asked", text)

    async def test_allowed(self) -> None:
        """A source that is configured is asked."""
        replies = await (await self.ask(self.origin(), "127.0.0.1"))
        self.assertEqual(replies[0].download_task_started_response.content_length, LENGTH)

    async def test_not_there(self) -> None:
        """A stranger gets the status of the source's answer, and nothing of its headers."""
        origin = self.origin(always=say(404, X_Reason="gone"))
        error: Any = await self.assertFailure(await self.ask(origin, "127.0.0.1"), grpc.RpcError)
        self.assertEqual(error.code(), StatusCode.INTERNAL)
        self.assertIn("404", error.details())
        self.assertNotIn("gone", f"{error.details()} {error.trailing_metadata()}")
