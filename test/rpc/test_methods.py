"""The methods of each kind are those of Dragonfly's API."""

from __future__ import annotations

import re
from pathlib import Path

from dragonfly_api import dfdaemon_pb2
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.methods import (
    LOCAL_SERVICE,
    METHODS,
    SERVICE,
    SYNC_HOST,
    PieceReply,
    PieceRequest,
    listed_reply,
    path,
    started_reply,
    task_methods,
)
from dragonfly_vortex.wire import PieceKind
from test.rpc.by_hand import LEGACY_PATHS

DOCS = Path(__file__).resolve().parents[2] / "docs"
_SERVICE = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"]


class MethodsTests(SynchronousTestCase):
    """The table against the API's own description."""

    def test_every_kind(self) -> None:
        """There is a row for each kind of piece, with methods of its own."""
        self.assertEqual(set(METHODS), set(PieceKind))
        names = [name for row in METHODS.values() for name in (row.download, row.sync, row.stat)]
        self.assertEqual(len(set(names)), 12)

    def test_service(self) -> None:
        """The service has that name, and a method that tells about the host."""
        self.assertEqual(SERVICE, _SERVICE.full_name)
        self.assertEqual(_SERVICE.methods_by_name[SYNC_HOST].output_type.full_name, "common.v2.Host")

    def test_streams_and_stats(self) -> None:
        """The methods that the API has take and give the messages that the table names."""
        for row in METHODS.values():
            for name, request, reply in (
                (row.sync, row.sync_request, row.sync_reply),
                (row.stat, row.stat_request, row.stat_reply),
            ):
                method = _SERVICE.methods_by_name[name]
                self.assertEqual((method.input_type, method.output_type), (request.DESCRIPTOR, reply.DESCRIPTOR), name)
            self.assertIn(row.interested, row.sync_request.DESCRIPTOR.fields_by_name)

    def test_downloads(self) -> None:
        """Pieces are asked for under the names that deployed peers have, also those that the API has no more."""
        self.assertEqual({kind: path(row.download) for kind, row in METHODS.items()}, LEGACY_PATHS)
        method = _SERVICE.methods_by_name[METHODS[PieceKind.CACHE].download]
        self.assertEqual((method.input_type, method.output_type), (PieceRequest.DESCRIPTOR, PieceReply.DESCRIPTOR))


class TaskMethodTests(SynchronousTestCase):
    """What is read from the API."""

    def test_all_of_the_local_door(self) -> None:
        """Of the local door all methods are in the table, but those about entries and the host."""
        service = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonDownload"]
        names = {method.name for method in service.methods}
        self.assertEqual(names - {each.name for each in task_methods(LOCAL_SERVICE)}, {"ListTaskEntries", "DeleteHost"})

    def test_rows(self) -> None:
        """A row has the kind, what is done, and the messages."""
        rows = {each.name: each for each in task_methods(SERVICE)}
        row = rows["DownloadPersistentCacheTask"]
        self.assertEqual((row.verb, row.kind, row.is_stream), ("Download", PieceKind.PERSISTENT_CACHE, True))
        self.assertIs(row.request, dfdaemon_pb2.DownloadPersistentCacheTaskRequest)
        self.assertEqual(rows["StatLocalTask"].verb, "StatLocal")

    def test_messages_in_replies(self) -> None:
        """The first reply of a download, and a task in a list, have messages of their own."""
        rows = {each.name: each for each in task_methods(LOCAL_SERVICE)}
        name, message = started_reply(rows["DownloadTask"])
        self.assertEqual(
            (name, message.DESCRIPTOR.name), ("download_task_started_response", "DownloadTaskStartedResponse")
        )
        self.assertIs(listed_reply(rows["ListLocalTasks"]), dfdaemon_pb2.StatLocalTaskResponse)

    def test_unknown_service(self) -> None:
        """Another service has no table."""
        self.assertRaises(ValueError, task_methods, "dfdaemon.v2.Other")


class DocumentTests(SynchronousTestCase):
    """The methods that the documents name."""

    def test_every_method_has_a_row(self) -> None:
        """The pages about the two doors say of each method what the peer answers."""
        for page, service in (("grpc.md", "DfdaemonUpload"), ("local-door.md", "DfdaemonDownload")):
            text = (DOCS / page).read_text(encoding="utf-8")
            (rows,) = re.findall(r"<!-- methods -->\n(.*?)<!-- end -->", text, re.DOTALL)
            api = {method.name for method in dfdaemon_pb2.DESCRIPTOR.services_by_name[service].methods}
            gone = {row.download for row in METHODS.values()} if service == "DfdaemonUpload" else set()
            self.assertEqual(set(re.findall(r"`([A-Z][a-z][A-Za-z]+)`", rows)), api | gone, page)
