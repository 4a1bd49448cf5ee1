"""The table of the methods that concern whole tasks."""

from __future__ import annotations

from dragonfly_api import dfdaemon_pb2
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.methods import SERVICE
from dragonfly_vortex.rpc.task_methods import LOCAL_SERVICE, listed_reply, started_reply, task_methods
from dragonfly_vortex.wire import PieceKind


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
