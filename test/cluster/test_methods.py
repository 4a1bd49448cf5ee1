"""The table of calls fits the messages of Dragonfly's API."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cluster.methods import METHODS, digest_for_scheduler, path
from dragonfly_vortex.cluster.requests import TaskAnnouncement
from dragonfly_vortex.model import Origin
from dragonfly_vortex.wire import PieceKind
from test.cluster.recordings import TASK_ID, request_of


class MethodsTests(SynchronousTestCase):
    """The rows."""

    def test_path(self) -> None:
        """A call is one of the service of schedulers."""
        self.assertEqual(path("AnnounceHost"), "/scheduler.v2.Scheduler/AnnounceHost")

    def test_fields(self) -> None:
        """Each kind's messages have the fields that a conversation uses."""
        for kind, methods in METHODS.items():
            fields: Any = methods.request.DESCRIPTOR.fields_by_name
            for name in (
                "register_{}peer_request",
                "download_{}peer_started_request",
                "reschedule_{}peer_request",
                "download_{}peer_finished_request",
                "download_{}peer_failed_request",
            ):
                self.assertIn(name.format(methods.word), fields, kind)
            source = f"download_{methods.word}peer_back_to_source_started_request"
            self.assertEqual(source in fields, methods.has_source, kind)
            # What was offered goes back in a field of the same number and type.
            responses: Any = methods.response.DESCRIPTOR
            offer = responses.fields_by_name[f"normal_{methods.word}task_response"].message_type
            asked = fields[f"reschedule_{methods.word}peer_request"].message_type
            self.assertIs(offer.fields_by_number[1].message_type, asked.fields_by_number[1].message_type, kind)

    def test_digests(self) -> None:
        """Only digests that a scheduler accepts are sent."""
        for digest in ("sha256:" + "a" * 64, "crc32:1234567890", "md5:" + "0" * 32):
            self.assertEqual(digest_for_scheduler(digest), digest)
        for digest in ("", "sha256:a", "sha384:" + "a" * 96, "a" * 64):
            self.assertEqual(digest_for_scheduler(digest), "")

    def test_uploads(self) -> None:
        """What is uploaded names its lengths, and is kept for a time that a scheduler takes."""
        for kind in (PieceKind.PERSISTENT, PieceKind.PERSISTENT_CACHE):
            for ttl, told in ((0.0, 300), (3600.0, 3600), (1e9, 604_800)):
                started = METHODS[kind].upload_started(request_of(kind), {"task_id": TASK_ID}, 0, ttl)
                self.assertEqual(getattr(started, "ttl").ToSeconds(), told)  # noqa: B009  # of each of these messages
                self.assertEqual(getattr(started, "persistent_replica_count"), 1)  # noqa: B009

    def test_piece_length(self) -> None:
        """A piece length that a user asked for is sent where a scheduler accepts it."""
        for length, is_told in ((4 * 1024 * 1024, True), (1000, False), (None, False)):
            request = TaskAnnouncement(
                kind=PieceKind.STANDARD, task_id=TASK_ID, origin=Origin(url="http://h/f", piece_length=length)
            )
            message = METHODS[PieceKind.STANDARD].request()
            register = getattr(message, "register_peer_request")  # noqa: B009
            METHODS[PieceKind.STANDARD].register(register, request)
            self.assertEqual(register.download.HasField("piece_length"), is_told)
