"""
What a peer says is what was recorded: each test plays the scheduler's part of a recording to a conversation, and
compares what the conversation sends with the peer's part.
"""

from __future__ import annotations

from typing import Any

from dragonfly_api import common_pb2, scheduler_pb2
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cluster.conversation import Conversation, EmptyTask, GoToSource, Parents, State
from dragonfly_vortex.cluster.requests import FinishedPiece
from dragonfly_vortex.errors import RemoteProtocolError
from dragonfly_vortex.wire import PieceKind
from test.cluster.recordings import PIECE_LENGTH, TASK_ID, request_of, said

IDS = {"host_id": "192.0.2.7-peer", "task_id": TASK_ID, "peer_id": "192.0.2.7-peer-1"}

CREATED_AT = 1_795_989_600.0
"""When the recorded pieces were downloaded."""


def piece(number: int, *, cost: float = 0.004, **more: Any) -> FinishedPiece:
    """A piece of the recordings."""
    return FinishedPiece(number, number * PIECE_LENGTH, PIECE_LENGTH, "crc32:3431120345", cost, CREATED_AT, **more)


class ConversationTestCase(SynchronousTestCase):
    """Conversations with recordings."""

    maxDiff = None

    def begin(self, name: str, *, is_owner: bool = False, **more: Any) -> Conversation:
        """A conversation about the task of a recording."""
        self.peer, self.scheduler, self.end = said(name, IDS)
        most = more.pop("most_answers", 5)
        return Conversation(
            request_of(**more),
            host_id=IDS["host_id"],
            peer_id=IDS["peer_id"],
            is_owner=is_owner,
            most_answers=most,
        )

    def sent(self, conversation: Conversation) -> list[Any]:
        """What a conversation has to send now."""
        request = type(self.peer[0])
        return [request.FromString(data) for data in conversation.take()]

    def parents(self, event: object) -> Parents:
        """An event that must be an offer."""
        assert isinstance(event, Parents), event
        return event


class ChildTests(ConversationTestCase):
    """A peer that downloads."""

    def test_child(self) -> None:
        """It registers, is given a parent, tells of pieces and that it has all, and waits for the end."""
        conversation = self.begin("child")
        self.assertEqual(self.sent(conversation), self.peer[:1])
        offer = self.parents(conversation.receive(self.scheduler[0])).parents
        self.assertEqual([(each.ip, each.port, each.state) for each in offer], [("127.0.0.1", 4000, "Succeeded")])
        conversation.finished_piece(piece(0))
        conversation.finished_piece(piece(1))
        conversation.finish()
        self.assertEqual(self.sent(conversation), self.peer[1:])
        self.assertIs(conversation.state, State.ENDING)
        self.assertTrue(conversation.ended())

    def test_reschedule(self) -> None:
        """Parents go back as they came; without others the peer goes to the source, and tells what it gets there."""
        conversation = self.begin("rescheduled to the source")
        offer = self.parents(conversation.receive(self.scheduler[0])).parents
        conversation.failed_parent(offer[0].peer_id, 0)
        self.assertTrue(conversation.reschedule("no parent does"))
        self.assertEqual(self.sent(conversation), self.peer[:4])
        event = conversation.receive(self.scheduler[1])
        self.assertIsInstance(event, GoToSource)
        conversation.finished_piece(piece(0, is_from_source=True))
        conversation.finish()
        self.assertEqual(self.sent(conversation), self.peer[4:])

    def test_unknown_field_of_a_parent(self) -> None:
        """A field of a later version comes back with the rest of its parent."""
        conversation = self.begin("child")
        response = scheduler_pb2.AnnouncePeerResponse.FromString(self.scheduler[0])
        peer = response.normal_task_response.candidate_parents[0]
        peer.MergeFromString(b"\xfa\x3f\x05later")  # field 1023
        conversation.receive(response.SerializeToString())
        conversation.reschedule("")
        request = self.sent(conversation)[-1].reschedule_peer_request
        self.assertEqual(request.candidate_parents[0], peer)
        self.assertIn(b"later", request.SerializeToString())
        self.assertFalse(request.HasField("description"))

    def test_reschedule_once(self) -> None:
        """Other parents can be asked for once per offer, and not before one."""
        conversation = self.begin("child")
        self.assertFalse(conversation.reschedule("too early"))
        conversation.receive(self.scheduler[0])
        self.assertTrue(conversation.reschedule("first"))
        self.assertFalse(conversation.reschedule("second"))

    def test_long_offer(self) -> None:
        """Of an offer of very many parents the first are taken."""
        conversation = self.begin("child")
        offer = scheduler_pb2.AnnouncePeerResponse.FromString(self.scheduler[0])
        candidates = offer.normal_task_response.candidate_parents
        candidates.extend([candidates[0]] * 1000)
        self.assertEqual(len(self.parents(conversation.receive(offer.SerializeToString())).parents), 64)

    def test_first_child(self) -> None:
        """Sent to the source at once, it says that it goes there, and what it gets."""
        conversation = self.begin("first child")
        event = conversation.receive(self.scheduler[0])
        self.assertEqual(event, GoToSource("peer's NeedBackToSource is true"))
        conversation.finished_piece(piece(0, is_from_source=True))
        conversation.finish()
        self.assertEqual(self.sent(conversation), self.peer)

    def test_failures(self) -> None:
        """It says why it gives up, in the words that belong to where it was."""
        for name, reason in (("child that fails", "no space"), ("first child that fails", "404")):
            conversation = self.begin(name)
            conversation.receive(self.scheduler[0])
            conversation.fail(reason)
            self.assertEqual(self.sent(conversation), self.peer, name)
            self.assertTrue(conversation.ended())

    def test_empty_task(self) -> None:
        """What the scheduler takes for an empty task is said to be that, and finished."""
        conversation = self.begin("no length", content_length=None, piece_length=None)
        self.assertIsInstance(conversation.receive(self.scheduler[0]), EmptyTask)
        conversation.finish()
        self.assertEqual(self.sent(conversation), self.peer)

    def test_end_before_the_answer(self) -> None:
        """A download that ends before it is answered says so after the answer, and gets no more events."""
        conversation = self.begin("child")
        conversation.finish()
        self.assertEqual(len(self.sent(conversation)), 1)
        self.assertIsNone(conversation.receive(self.scheduler[0]))
        words = [message.WhichOneof("request") for message in self.sent(conversation)]
        self.assertEqual(words, ["download_peer_started_request", "download_peer_finished_request"])
        conversation = self.begin("first child")
        conversation.fail("cancelled")
        self.assertIsNone(conversation.receive(self.scheduler[0]))
        (*_, last) = self.sent(conversation)
        self.assertEqual(last.download_peer_back_to_source_failed_request.description, "cancelled")

    def test_too_many_answers(self) -> None:
        """After so many answers it says that it has failed, and is to go to the source."""
        conversation = self.begin("child", most_answers=2)
        for _ in range(2):
            self.assertIsInstance(conversation.receive(self.scheduler[0]), Parents)
            conversation.reschedule("again")
        self.assertIsInstance(conversation.receive(self.scheduler[0]), GoToSource)
        (*_, last) = self.sent(conversation)
        self.assertEqual(last.WhichOneof("request"), "download_peer_failed_request")
        self.assertIs(conversation.state, State.ENDING)

    def test_broken_off(self) -> None:
        """A call that ends before the last words has not been heard to its end."""
        conversation = self.begin("child")
        conversation.receive(self.scheduler[0])
        self.assertFalse(conversation.ended())
        self.assertIs(conversation.state, State.ENDED)
        conversation.finished_piece(piece(0))
        conversation.finish()
        self.assertEqual(len(self.sent(conversation)), 2)

    def test_costs(self) -> None:
        """No cost is nothing, or over ten times the mean before it: a scheduler drops a parent for such a piece."""
        conversation = self.begin("child")
        conversation.receive(self.scheduler[0])
        for number, cost in enumerate((0.0, 0.002, 30.0, 0.001)):
            conversation.finished_piece(piece(number, cost=cost))
        told = [
            message.download_piece_finished_request.piece.cost.ToMicroseconds()
            for message in self.sent(conversation)[2:]
        ]
        self.assertEqual(told, [1000, 2000, 15_000, 1000])

    def test_digests(self) -> None:
        """A digest that a scheduler would end the call for is left out."""
        conversation = self.begin("child")
        conversation.receive(self.scheduler[0])
        for digest, told in (("crc32:12", "crc32:12"), ("", ""), ("sha256:12", ""), ("xxh3:12", "")):
            conversation.finished_piece(piece(0)._replace(digest=digest))
            self.assertEqual(self.sent(conversation)[-1].download_piece_finished_request.piece.digest, told)

    def test_nonsense(self) -> None:
        """What is no response, an unknown one, and one that belongs to an owner are errors."""
        for data in (
            b"\xff\xff",
            b"",
            scheduler_pb2.AnnouncePeerResponse(metadata_only_response={}).SerializeToString(),
        ):
            with self.assertRaises(RemoteProtocolError):
                self.begin("child").receive(data)

    def test_register(self) -> None:
        """A register says all that is known of the task, and nothing that a scheduler would refuse."""
        origin = request_of().origin
        assert origin is not None
        request = request_of(digest="sha256:" + "0" * 64, range=(5, 7), headers=(("X", "y"),), concurrent_piece_count=8)
        first = Conversation(request, host_id="h", peer_id="p").take()[0]
        download = scheduler_pb2.AnnouncePeerRequest.FromString(first).register_peer_request.download
        self.assertEqual((download.range.start, download.range.length), (5, 7))
        self.assertEqual(dict(download.request_header), {"X": "y"})
        self.assertEqual(download.digest, request.digest)
        self.assertEqual(download.type, common_pb2.STANDARD)
        self.assertFalse(download.HasField("piece_length"))
        first = Conversation(request_of(origin=None, digest="sha3:0"), host_id="h", peer_id="p").take()[0]
        download = scheduler_pb2.AnnouncePeerRequest.FromString(first).register_peer_request.download
        self.assertEqual(download.url, f"urn:dragonfly:task:{TASK_ID}")
        self.assertFalse(download.HasField("digest"))


class OwnerTests(ConversationTestCase):
    """A peer that has all of a task."""

    def test_owner(self) -> None:
        """It tells the task's metadata, and that it has all, after the answer."""
        conversation = self.begin("owner", is_owner=True)
        self.assertEqual(self.sent(conversation), self.peer[:1])
        self.assertIsNone(conversation.receive(self.scheduler[0]))
        self.assertEqual(self.sent(conversation), self.peer[1:])
        self.assertTrue(conversation.ended())

    def test_older_scheduler(self) -> None:
        """A scheduler that knows no metadata alone answers with parents or the source: it hears that all is there."""
        for name, last in (
            ("child", "download_peer_finished_request"),
            ("first child", "download_peer_back_to_source_finished_request"),
        ):
            conversation = self.begin(name, is_owner=True)
            self.assertIsNone(conversation.receive(self.scheduler[0]))
            self.assertEqual(self.sent(conversation)[-1].WhichOneof("request"), last)

    def test_empty(self) -> None:
        """An empty task is announced with the length of nothing."""
        conversation = self.begin("no length", is_owner=True, content_length=0)
        (register,) = self.sent(conversation)
        download = register.register_peer_request.download
        self.assertTrue(download.HasField("actual_content_length"))
        self.assertEqual((download.actual_content_length, download.actual_piece_count), (0, 0))
        self.assertIsNone(conversation.receive(self.scheduler[0]))
        self.assertTrue(conversation.ended())


class KindTests(ConversationTestCase):
    """The kinds that are kept have other messages and the same conversation."""

    def test_kinds(self) -> None:
        """A child of each kind says what was recorded."""
        for name, kind in (
            ("persistent cache child", PieceKind.PERSISTENT_CACHE),
            ("persistent child", PieceKind.PERSISTENT),
        ):
            conversation = self.begin(name, kind=kind)
            offer = self.parents(conversation.receive(self.scheduler[0])).parents
            self.assertEqual(len(offer), 1)
            conversation.finished_piece(piece(0))
            conversation.finish()
            self.assertEqual(self.sent(conversation), self.peer)

    def test_source(self) -> None:
        """A kind without a source tells of no piece from there."""
        conversation = self.begin("persistent cache child", kind=PieceKind.PERSISTENT_CACHE)
        conversation.receive(self.scheduler[0])
        self.sent(conversation)
        conversation.finished_piece(piece(0, is_from_source=True))
        self.assertEqual(self.sent(conversation), [])
