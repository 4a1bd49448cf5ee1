"""What requests for downloads and imports are read as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragonfly_api import dfdaemon_pb2
from grpc import StatusCode
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.identity import task_id_of
from dragonfly_vortex.model import Credentials, Origin
from dragonfly_vortex.rpc.methods import LOCAL_SERVICE, task_methods
from dragonfly_vortex.rpc.peer_tasks import OutputRequest
from dragonfly_vortex.rpc.task_orders import CallRefused, DownloadOrder, download_order, import_order
from dragonfly_vortex.wire import PieceKind

METHODS = {method.name: method for method in task_methods(LOCAL_SERVICE)}

URL = "https://example.com/file"


def order_of(*, is_foreign: bool = False, **fields: Any) -> DownloadOrder:
    """What a request for a standard task is read as."""
    request = dfdaemon_pb2.DownloadTaskRequest()
    request.download.url = URL
    for name, value in fields.items():
        if isinstance(value, dict) and name == "request_header":
            request.download.request_header.update(value)
        else:
            setattr(request.download, name, value)
    return download_order(METHODS["DownloadTask"], request, is_foreign=is_foreign)


class DownloadOrderTests(SynchronousTestCase):
    """Requests for downloads."""

    def refused(self, **fields: Any) -> StatusCode:
        """The code with which a request is refused."""
        error: CallRefused = self.assertRaises(CallRefused, lambda: order_of(**fields))
        return error.status.code

    def test_id(self) -> None:
        """The ID of a standard task follows from URL and options; a range, headers and a digest are no part of it."""
        origin = Origin(url=URL, tag="tag", application="application")
        digest = "crc32:5"
        order = order_of(tag="tag", application="application", request_header={"Range": "bytes=0-1"}, digest=digest)
        self.assertEqual(order.request.task_id, task_id_of(origin))
        self.assertEqual((order.request.origin, order.request.digest, order.digest), (origin, digest, digest))
        self.assertEqual(
            order_of(piece_length=4 << 20).request.task_id, task_id_of(Origin(url=URL, piece_length=4 << 20))
        )

    def test_hub_of_a_stranger(self) -> None:
        """A stranger does not choose the hub whose content others get by the task's ID."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = "hf://o/r/f"
        request.download.hugging_face.base_url = "https://hub.example"
        orders = [download_order(METHODS["DownloadTask"], request, is_foreign=each) for each in (False, True)]
        endpoints = [order.request.origin and order.request.origin.endpoint for order in orders]
        self.assertEqual(endpoints, ["https://hub.example", ""])

    def test_blob(self) -> None:
        """The digest in the URL of a registry's blob is the ID, and what the download is verified against."""
        blob = "https://registry.example/v2/a/blobs/sha256:" + "a" * 64
        order = order_of(url=blob, enable_task_id_based_blob_digest=True, digest="crc32:5")
        self.assertEqual(order.request.task_id, "a" * 64)
        self.assertEqual((order.request.digest, order.digest), ("sha256:" + "a" * 64, "crc32:5"))
        self.assertEqual(order_of(url=blob).request.digest, "")

    def test_secrets(self) -> None:
        """Headers and tokens are not shown with a request, which may be logged."""
        request = order_of(request_header={"Authorization": "secret"}).request
        self.assertEqual(request.headers, {"Authorization": "secret"})
        self.assertNotIn("secret", repr(request))

    def test_range(self) -> None:
        """A range comes from the header of that name, in whatever case, and is not sent to the source."""
        for text, expected in (
            ("bytes=0-99", (0, 100)),
            ("bytes=100-", (100, 1000)),
            ("bytes=-10", (990, 1000)),
            ("bytes=-5000", (0, 1000)),
            ("bytes=990-5000", (990, 1000)),
            ("bytes=0-0,5-6", (0, 1)),
        ):
            order = order_of(request_header={"rAnGe": text})
            self.assertEqual((order.has_range, order.span(1000), order.request.headers), (True, expected, {}), text)
        self.assertEqual(order_of().span(1000), (0, 1000))
        self.assertEqual(order_of().span(0), (0, 0))

    def test_impossible_range(self) -> None:
        """A range that is none, or lies outside of the content, is a failed precondition."""
        for text in ("bytes=9-5", "lines=0-5", "bytes=-", "5"):
            self.assertEqual(self.refused(request_header={"Range": text}), StatusCode.FAILED_PRECONDITION)
        order = order_of(request_header={"Range": "bytes=1000-"})
        error = self.assertRaises(CallRefused, order.span, 1000)
        self.assertEqual(error.status.code, StatusCode.FAILED_PRECONDITION)

    def test_range_of_the_request(self) -> None:
        """The range of the request itself comes before that of a header."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = URL
        request.download.range.start, request.download.range.length = 5, 10
        request.download.request_header["Range"] = "bytes=0-99"
        order = download_order(METHODS["DownloadTask"], request, is_foreign=False)
        self.assertEqual(order.span(1000), (5, 15))

    def test_output(self) -> None:
        """An output is for callers on this machine, and has an absolute path."""
        order = order_of(output_path="/output", overwrite=True, force_hard_link=True)
        self.assertEqual(order.output, OutputRequest(path=Path("/output"), overwrite=True, must_link=True))
        self.assertEqual(self.refused(output_path="output"), StatusCode.INVALID_ARGUMENT)
        self.assertEqual(self.refused(output_path="/output", is_foreign=True), StatusCode.PERMISSION_DENIED)
        self.assertIsNone(order_of(output_path="").output)

    def test_wrong(self) -> None:
        """What has no URL, or an unknown digest, is refused."""
        self.assertEqual(self.refused(url=""), StatusCode.INVALID_ARGUMENT)
        self.assertEqual(self.refused(digest="md5:0"), StatusCode.INVALID_ARGUMENT)

    def test_no_task_id(self) -> None:
        """An ID that no task can have is refused, before it is logged."""
        method = METHODS["DownloadPersistentCacheTask"]
        for task_id in ("", "a/../b", "\x1b[2J", "a" * 100_000):
            request = dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=task_id)
            error: CallRefused = self.assertRaises(
                CallRefused, lambda request=request: download_order(method, request, is_foreign=True)
            )
            self.assertEqual(error.status.code, StatusCode.INVALID_ARGUMENT)

    def test_object_storage(self) -> None:
        """A persistent task needs region and endpoint of an object storage."""
        request = dfdaemon_pb2.DownloadPersistentTaskRequest(url="s3://bucket/file")
        method = METHODS["DownloadPersistentTask"]
        for text in ("missing object storage", "missing object storage region", "missing object storage endpoint"):
            error = self.assertRaises(CallRefused, lambda: download_order(method, request, is_foreign=False))
            self.assertEqual(str(error), text)
            request.object_storage.region = "region" if request.HasField("object_storage") else ""
            if text.endswith("storage"):
                request.object_storage.SetInParent()
        request.object_storage.endpoint = "endpoint"
        order = download_order(method, request, is_foreign=False)
        origin = Origin(url="s3://bucket/file", region="region", endpoint="endpoint")
        self.assertEqual(order.request.task_id, task_id_of(origin, PieceKind.PERSISTENT))
        self.assertFalse(order.request.is_pinned)
        request.persistent = True
        self.assertTrue(download_order(method, request, is_foreign=False).request.is_pinned)

    def test_objects_of_strangers(self) -> None:
        """A standard task has the key of its request; a stranger does not choose the storage, which is in no ID."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url = "s3://bucket/file"
        storage = request.download.object_storage
        storage.region, storage.endpoint, storage.access_key_id = "region", "http://h", "key"
        storage.access_key_secret, storage.session_token = "secret", "token"
        for is_foreign, endpoint in ((False, "http://h"), (True, "")):
            wanted = download_order(METHODS["DownloadTask"], request, is_foreign=is_foreign).request
            self.assertEqual(wanted.origin, Origin(url="s3://bucket/file", region="region", endpoint=endpoint))
            self.assertEqual(
                wanted.credentials,
                Credentials(access_key_id="key", access_key_secret="secret", session_token="token"),
            )
            self.assertNotIn("secret", repr(wanted))


class ImportOrderTests(SynchronousTestCase):
    """Requests for imports."""

    def test_import(self) -> None:
        """File, tag, piece length and time to live are taken."""
        request = dfdaemon_pb2.UploadPersistentCacheTaskRequest(path="/file", tag="tag", piece_length=4 << 20)
        request.ttl.seconds = 60
        order = import_order(METHODS["UploadPersistentCacheTask"], request)
        self.assertEqual((order.path, order.ttl, order.kind), (Path("/file"), 60.0, PieceKind.PERSISTENT_CACHE))
        self.assertEqual(order.origin, Origin(tag="tag", piece_length=4 << 20))

    def test_relative(self) -> None:
        """A relative path is refused: the caller's directory is not the peer's."""
        request = dfdaemon_pb2.UploadPersistentCacheTaskRequest(path="file")
        self.assertRaises(CallRefused, import_order, METHODS["UploadPersistentCacheTask"], request)
