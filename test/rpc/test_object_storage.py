"""A persistent task in a real object storage of S3's kind, which verifies the signatures: versitygw."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import Any

from dragonfly_api import common_pb2, dfdaemon_pb2
from grpc import StatusCode
from twisted.internet.task import deferLater

from benchmarks.processes import free_port
from test.rpc.local_peer import LENGTH, peer_reactor
from test.rpc.test_source_tasks import SourceTestCase

VERSITYGW = shutil.which("versitygw")

URL = "s3://bucket/d/a%20file+(1)~"


class RealStorageTests(SourceTestCase):
    """The storage as a process, over a directory."""

    if VERSITYGW is None:
        skip = "no versitygw here (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)"

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        self.directory.joinpath("objects", "bucket").mkdir(parents=True)
        self.port = free_port()
        command = [VERSITYGW or "", "--port", f"127.0.0.1:{self.port}", "--region", "eu-west-1"]
        running = subprocess.Popen(
            [*command, "posix", str(self.directory / "objects")],
            env={**os.environ, "ROOT_ACCESS_KEY": "key", "ROOT_SECRET_KEY": "sec/ret+="},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(running.wait)
        self.addCleanup(running.terminate)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                await deferLater(peer_reactor, 0.05)
            else:
                return

    def storage(self, secret: str = "sec/ret+=") -> common_pb2.ObjectStorage:
        """How a program describes it."""
        endpoint = f"http://127.0.0.1:{self.port}"
        return common_pb2.ObjectStorage(
            region="eu-west-1", endpoint=endpoint, access_key_id="key", access_key_secret=secret
        )

    async def test_there_and_back(self) -> None:
        """A file is put into the storage, and the object comes out of it; a wrong key is refused."""
        upload = dfdaemon_pb2.UploadPersistentTaskRequest(url=URL, path=str(self.directory / "file"))
        upload.object_storage.CopyFrom(self.storage())
        task: Any = await self.call("UploadPersistentTask", upload)
        self.assertEqual(task.content_length, LENGTH)
        written = self.directory / "objects" / "bucket" / "d" / "a file+(1)~"
        self.assertEqual(written.read_bytes(), self.content)
        code, _ = await self.refusal(self.call("UploadPersistentTask", upload))
        self.assertEqual(code, StatusCode.ALREADY_EXISTS)
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.download.url, request.download.output_path = URL, str(self.output)
        request.download.object_storage.CopyFrom(self.storage())
        await self.call("DownloadTask", request)
        self.assertEqual(self.output.read_bytes(), self.content)
        request.download.tag, request.download.output_path = "another", ""
        request.download.object_storage.CopyFrom(self.storage("wrong"))
        _, text = await self.refusal(self.call("DownloadTask", request))
        self.assertIn("got 403", text)
