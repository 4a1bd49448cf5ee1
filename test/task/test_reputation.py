"""Tests of the reputation of parents, and of what is forgotten after a lie: through the plan."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from dragonfly_vortex.errors import (
    DigestMismatch,
    EndDisputed,
    NoParentLeft,
    ParentFailed,
    ParentUnreachable,
    PieceNotFound,
    PieceRefused,
    PieceTimeout,
    TaskDigestMismatch,
)
from dragonfly_vortex.task.parent_state import Standing
from test.task.planning import DIGEST, GOT, PlanTestCase, piece


class DoubtTests(PlanTestCase):
    """A parent that closes or refuses is asked once more."""

    def test_once_more(self) -> None:
        """After two failures in turn no parent is left, and the last failure is raised."""
        for kind in (ParentUnreachable, ParentFailed):
            self.begin("a")
            self.fail_with(kind, self.ask())
            self.assertIs(self.plan.parents["a"].standing, Standing.DOUBTED)
            self.assertIsNone(self.plan.failure())
            self.fail_with(kind, self.ask())
            self.assertIs(self.plan.parents["a"].standing, Standing.OUT)
            failure = self.plan.failure()
            self.assertIsInstance(failure, NoParentLeft)
            self.assertIn("piece 0 from parent a: expected a piece, got none", str(failure))
            self.assertIsNone(self.plan.next_request())

    def test_together(self) -> None:
        """Requests that were under way together fail together: that counts as one failure, and one piece is tried."""
        requests = self.begin_with_first("a")
        self.fail_with(ParentUnreachable, requests[0])
        probe = self.ask_all()
        self.assertEqual(len(probe), 1)
        self.fail_with(ParentUnreachable, *requests[1:])
        self.assertEqual(self.ask_all(), [])
        self.assertIs(self.plan.parents["a"].standing, Standing.DOUBTED)
        self.give(probe[0])
        self.assertIs(self.plan.parents["a"].standing, Standing.GOOD)
        self.assertEqual(len(self.ask_all()), 4)

    def test_any_answer(self) -> None:
        """ "Not found" is an answer too."""
        requests = self.begin_with_first("a", "b", at_once=1)
        parent = requests[0].parent
        self.fail_with(ParentUnreachable, requests[0])
        request = self.ask()
        while request.parent != parent:
            self.give(request)
            request = self.ask()
        self.fail_with(PieceNotFound, request)
        self.assertIs(self.plan.parents[parent].standing, Standing.GOOD)

    def test_same_piece(self) -> None:
        """A parent that gives other pieces but fails to give one twice is not asked for that one again."""
        requests = self.begin_with_first("a", at_once=2)
        self.fail_with(ParentUnreachable, requests[0])
        self.give(requests[1])
        again, other = self.ask_all()
        self.assertEqual(again.number, 1)
        self.fail_with(ParentUnreachable, again)
        self.give(other)
        self.assertIs(self.plan.parents["a"].standing, Standing.GOOD)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_others_take_over(self) -> None:
        """What a parent that is out was asked for is asked of the others."""
        requests = self.begin_with_first("a", "b", at_once=2)
        lost = requests[0].parent
        self.fail_with(PieceTimeout, requests[0])
        self.assertEqual([(r.number, r.parent == lost) for r in self.ask_all()], [(1, False)])

    def test_timeout(self) -> None:
        """A time-out puts a parent out at once, and what else it was asked for is withdrawn."""
        requests = self.begin_with_first("a", at_once=3)
        self.fail_with(PieceTimeout, requests[1])
        self.assertIs(self.plan.parents["a"].standing, Standing.OUT)
        self.assertEqual(self.withdrawn(), [requests[2], requests[0]])
        for request in (requests[0], requests[2]):
            self.plan.record_cancelled(request)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_under_way_goes_on(self) -> None:
        """A parent that takes no more requests may finish those that it has, and these may be enough."""
        requests = self.begin_with_first("a", at_once=2)
        self.fail_with(ParentUnreachable, requests[1])
        self.fail_with(ParentUnreachable, self.ask())
        self.assertIs(self.plan.parents["a"].standing, Standing.OUT)
        self.assertIsNone(self.plan.failure())
        self.give(requests[0], length=3)
        self.assertTrue(self.plan.is_complete)

    def test_certain_loss(self) -> None:
        """It is over at once when a piece before others cannot be had, whatever else is under way."""
        requests = self.begin_with_first("a", at_once=3)
        self.give(requests[2])
        self.fail_with(ParentUnreachable, requests[1])
        self.fail_with(ParentUnreachable, *self.ask_all())
        self.assertEqual(self.plan.requests_under_way, 1)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)


class LieTests(PlanTestCase):
    """A parent that lied is not asked again, and what is known from it alone is forgotten."""

    def test_not_asked_again(self) -> None:
        """What else it was asked for is withdrawn, whatever comes of that is not used, and others are asked."""
        requests = self.begin_with_first("a", "b")
        liar = requests[0].parent
        self.fail_with(DigestMismatch, requests[0])
        (withdrawn,) = self.withdrawn()
        self.assertEqual(withdrawn.parent, liar)
        self.assertRaises(PieceRefused, self.plan.judge, withdrawn, piece(withdrawn.number))
        self.give(withdrawn)
        self.assertNotIn(withdrawn.number, self.plan.layout.verified)
        self.assertNotIn(liar, [request.parent for request in self.ask_all()])

    def test_answered_before_cancelled(self) -> None:
        """A withdrawn request that is answered before it is cancelled needs no cancelling."""
        requests = self.begin_with_first("a", "b")
        self.fail_with(DigestMismatch, requests[0])
        (other,) = (r for r in requests[1:] if r.parent == requests[0].parent)
        self.fail_with(ParentUnreachable, other)
        self.assertEqual(self.withdrawn(), [])

    def test_layout_is_forgotten(self) -> None:
        """If it alone vouches for the piece length, all starts anew from piece 0, with another length."""
        requests = self.begin_with_first("a", "b", at_once=2)
        (of_liar,) = (request for request in requests if request.parent == "a")
        self.fail_with(DigestMismatch, of_liar)
        self.assertEqual(self.plan.layout.verified, {})
        self.assertEqual((self.plan.layout.prefix, self.plan.pieces.drops), (0, 1))
        (withdrawn,) = self.withdrawn()
        self.plan.record_cancelled(withdrawn)
        (request,) = self.ask_all()
        self.assertEqual((request.number, request.parent), (0, "b"))
        self.plan.record_verified(request, piece(0, length=7))
        self.assertEqual(self.plan.layout.piece_length, 7)
        self.assertEqual(self.numbers(self.ask_all()), [1, 2])

    def test_layout_is_kept(self) -> None:
        """If another parent's piece fits, length and pieces stay."""
        requests = self.begin_with_first("a", "b", at_once=2)
        by_parent = {request.parent: request for request in requests}
        self.give(by_parent["b"])
        self.fail_with(DigestMismatch, by_parent["a"])
        self.assertEqual(set(self.plan.layout.verified), {0, by_parent["b"].number})
        self.assertEqual((self.plan.layout.piece_length, self.plan.pieces.drops), (10, 0))

    def test_end_is_forgotten(self) -> None:
        """If it said which piece is the last, that piece is asked of others, and those beyond as well."""
        requests = self.begin_with_first("a", "b", at_once=4)
        self.assertEqual([request.parent for request in requests], ["b", "a", "b", "a"])
        self.give(requests[0])
        self.give(requests[1], length=2)
        self.assertEqual(self.plan.pieces.content_length, 22)
        self.fail_with(DigestMismatch, requests[3])
        self.assertIsNone(self.plan.numbers.end)
        self.assertEqual(set(self.plan.layout.verified), {0, 1})
        again = self.ask_all()
        self.assertEqual(self.numbers(again), [2, 4, 5])
        self.assertEqual({request.parent for request in again}, {"b"})

    def test_lacks_are_forgotten(self) -> None:
        """A liar's "not found" holds nothing up."""
        requests = self.begin_with_first("a", "b", at_once=4)
        mine = [request for request in requests if request.parent == "b"]
        self.give(next(request for request in requests if request.parent == "a"))
        self.fail_with(PieceNotFound, mine[0])
        self.fail_with(DigestMismatch, mine[1])
        self.assertGreater(max(self.numbers(self.ask_all())), mine[1].number)

    def test_acquitted(self) -> None:
        """A parent that contradicted only a liar has not lied, and is asked again."""
        requests = self.begin_with_first("a", "b", at_once=2)
        by_parent = {request.parent: request for request in requests}
        self.refuse(by_parent["b"], piece(by_parent["b"].number, offset=3))
        self.assertIs(self.plan.parents["b"].standing, Standing.LIED)
        self.fail_with(DigestMismatch, by_parent["a"])
        self.assertIs(self.plan.parents["b"].standing, Standing.GOOD)
        request = self.ask()
        self.assertEqual((request.number, request.parent), (0, "b"))

    def test_not_acquitted(self) -> None:
        """A parent that contradicted an honest one as well stays out."""
        self.begin("a", "b", "c", at_once=1)
        for _ in range(2):
            self.give(self.ask())
        third = self.ask()
        self.refuse(third, piece(third.number, offset=3))
        lie = self.ask()
        self.fail_with(DigestMismatch, lie)
        self.assertIs(self.plan.parents["c"].standing, Standing.LIED)
        self.assertIs(self.plan.parents[lie.parent].standing, Standing.LIED)

    def test_acquitted_once(self) -> None:
        """A parent is acquitted once only: if all are liars the download ends."""
        requests = self.begin_with_first("a", "b", "c", at_once=3)
        by_parent = {request.parent: request for request in requests}
        self.refuse(by_parent["b"], piece(by_parent["b"].number, offset=3))
        self.fail_with(DigestMismatch, by_parent["a"])
        for request in self.withdrawn():
            self.plan.record_cancelled(request)
        self.assertIs(self.plan.parents["b"].standing, Standing.GOOD)
        self.fail_with(ParentUnreachable, self.ask())
        self.give(self.ask())
        by_parent = {request.parent: request for request in self.ask_all()}
        self.refuse(by_parent["b"], piece(by_parent["b"].number, offset=3))
        self.fail_with(DigestMismatch, by_parent["c"])
        self.assertEqual({self.plan.parents[parent].standing for parent in ("a", "b", "c")}, {Standing.LIED})

    def test_refused_on_a_liars_word(self) -> None:
        """A refusal on the word of a parent that is exposed before it is recorded says nothing."""
        requests = self.begin_with_first("a", "b", "c", at_once=6)
        self.assertEqual([request.parent for request in requests], ["b", "c", "a", "b", "c", "a"])
        self.give(requests[0])
        self.give(requests[2], length=4)
        refusal = self.assertRaises(PieceRefused, self.plan.judge, requests[4], piece(5))
        self.fail_with(DigestMismatch, requests[5])
        self.plan.record_refusal(requests[4], refusal)
        self.assertIs(self.plan.parents["c"].standing, Standing.GOOD)
        self.assertNotIn("c", [request.parent for request in self.withdrawn()])
        self.assertIn(5, self.numbers(self.ask_all()))

    def test_pieces_beyond_the_end(self) -> None:
        """What a liar sent beyond the last piece is forgotten when that comes from an honest parent."""
        requests = self.begin_with_first("a", "b", at_once=4)
        self.assertEqual([request.parent for request in requests], ["b", "a", "b", "a"])
        self.give(requests[0])
        self.give(requests[3])
        self.fail_with(DigestMismatch, requests[1])
        self.give(requests[2], length=4)
        self.assertEqual((set(self.plan.layout.verified), self.plan.pieces.drops), ({0, 1, 3}, 1))
        self.give(self.ask())
        self.assertTrue(self.plan.is_complete)
        self.assertEqual((self.plan.layout.prefix_length, self.plan.pieces.content_length), (34, 34))

    def test_self_contradiction(self) -> None:
        """A parent that contradicts itself has lied, even if others are exposed."""
        self.begin("a", "b", at_once=1)
        self.give(self.ask())
        self.fail_with(ParentUnreachable, self.ask())
        own = self.ask()
        while own.parent != "a":
            self.fail_with(ParentUnreachable, own)
            own = self.ask()
        self.refuse(own, piece(own.number, offset=1))
        self.fail_with(DigestMismatch, self.ask())
        self.assertIs(self.plan.parents["a"].standing, Standing.LIED)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_for_ever(self) -> None:
        """A parent that gives a piece now and then is not followed for ever where another one contradicts it."""
        for parents, is_disputed in ((("a", "b"), True), (("a",), False)):
            self.begin(*parents, at_once=2)
            self.give(self.ask())
            for request in self.ask_all():
                if request.parent == "b":
                    self.refuse(request, piece(request.number, offset=7))
            hours = 0
            while self.plan.failure() is None and hours < 24:
                self.wait(3600.0)
                hours += 1
                for request in self.ask_all():
                    self.give(request)
            self.assertEqual(isinstance(self.plan.failure(), EndDisputed), is_disputed, parents)
        self.assertEqual(hours, 24)

    def test_disputed_again(self) -> None:
        """An end that was disputed for nothing is disputed again when the download has taken twice as long."""
        self.begin("a", "b", at_once=2)
        self.give(self.ask())
        for request in self.ask_all():
            if request.parent == "b":
                self.refuse(request, piece(request.number, offset=7))
        taken = []
        for hour in range(100):
            self.wait(3600.0)
            self.ask_all()
            if self.plan.reputation.is_end_disputed:
                taken.append(hour + 1)
                self.plan.reputation.is_end_disputed = False  # as the trials do, where no parent is right alone
        self.assertEqual(taken, [19, 38, 76])

    def test_withdrawn_from_a_liar(self) -> None:
        """A piece that was requested from a liar, and that no other parent has, is lost: the download ends."""
        requests = {request.number: request for request in self.begin_with_first("a", "b")}
        self.assertEqual([requests[number].parent for number in (1, 2, 3, 4)], ["b", "a", "b", "a"])
        self.fail_with(PieceNotFound, requests[2])
        again = self.ask()
        self.assertEqual((again.parent, again.number), ("b", 2))
        self.fail_with(DigestMismatch, requests[1])
        self.give(requests[4])
        self.assertEqual(len(withdrawn := self.withdrawn()), 2)
        for request in withdrawn:
            self.plan.record_cancelled(request)
        self.give(self.ask())
        self.assertEqual(self.ask_all(), [])
        self.assertIsInstance(self.plan.failure(), NoParentLeft)


class MismatchTests(PlanTestCase):
    """The SHA-256 decides."""

    def complete(self, *senders: str) -> None:
        """Have each of these parents send a piece, and the last a shorter one."""
        self.begin(*dict.fromkeys(senders), at_once=1)
        for number, _ in enumerate(senders, start=1):
            self.give(self.ask(), length=10 if number < len(senders) else 5)
        self.assertTrue(self.plan.is_complete)

    def test_disagreement(self) -> None:
        """Two parents that name different digests for a piece that both are asked for are noted, and go on."""
        self.begin("a", "b", at_once=1)
        self.give(self.ask())
        first = self.ask()
        self.wait(60)
        second = self.ask()
        self.assertEqual((second.number, second.is_spare), (first.number, True))
        self.plan.judge(first, piece(first.number))
        self.plan.judge(second, piece(first.number))
        for digest in ("", f"sha256:{'0' * 64}"):  # they cannot be compared
            self.plan.judge(second, replace(piece(first.number), digest=digest))
        self.assertEqual(self.plan.reputation.disagreements, {})
        self.plan.judge(second, replace(piece(first.number), digest="crc32:9"))
        said = f"its piece {first.number} has the digest crc32:9, that of {first.parent} crc32:0"
        self.assertEqual(self.plan.reputation.disagreements, {second.parent: said})
        self.give(second)

    def test_one_parent(self) -> None:
        """A task that one parent sent and that is wrong is refused; the error says what was expected and got."""
        self.complete("a", "a")
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        failure = self.plan.failure()
        self.assertIsInstance(failure, TaskDigestMismatch)
        self.assertIn(f"expected {DIGEST}, got {GOT}, of 15 bytes in 2 pieces from a", str(failure))

    def test_end_unknown_again(self) -> None:
        """A digest of pieces behind which a new parent may have another one says nothing about the task."""
        self.begin("a", at_once=1)
        self.give(self.ask())
        self.give(self.ask())
        self.fail_with(PieceNotFound, self.ask())
        self.assertEqual(self.plan.numbers.end, 2)
        self.plan.add_parent("b")
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertIsNone(self.plan.failure())
        request = self.ask()
        self.assertEqual((request.parent, request.number), ("b", 2))

    def test_other_parents(self) -> None:
        """If it all came from one of several parents, that one has lied, and another may be right."""
        self.begin("a", "b", at_once=1)
        self.give(self.ask(), length=0)
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertIsInstance(self.plan.failure(), TaskDigestMismatch)
        self.assertIs(self.plan.parents["a"].standing, Standing.LIED)
        self.assertEqual(self.plan.reputation.may_be_right_alone(), ["b"])

    def test_who_knows(self) -> None:
        """If several parents sent it, each of them may be right, the one that sent most first."""
        self.complete("a", "b", "b")
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertIsInstance(self.plan.failure(), TaskDigestMismatch)
        counts = Counter(piece.parent for piece in self.plan.layout.verified.values())
        self.assertEqual(self.plan.reputation.may_be_right_alone(), [parent for parent, _ in counts.most_common()])

    def test_caught(self) -> None:
        """A parent that has been caught in a lie of its own, and one that is out, cannot be right."""
        self.begin("a", "b", "c", at_once=1)
        for _ in range(3):
            self.give(self.ask())
        lie, late = self.ask(), self.ask
        self.fail_with(DigestMismatch, lie)
        out = late()
        self.fail_with(PieceTimeout, out)
        self.give(self.ask(), length=5)
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertEqual({lie.parent, out.parent, *self.plan.reputation.may_be_right_alone()}, {"a", "b", "c"})
        self.assertEqual(len(self.plan.reputation.may_be_right_alone()), 1)

    def test_lost(self) -> None:
        """If a piece is lost, a parent may be right that was refused on the word of others, or says it ends there."""
        requests = {request.parent: request for request in self.begin_with_first("a", "b", "c", at_once=3)}
        self.refuse(requests["b"], piece(requests["b"].number, length=11))
        self.give(requests["a"])
        self.fail_with(PieceTimeout, requests["c"])
        lost = self.ask()
        self.assertEqual(lost.parent, "a")
        self.fail_with(PieceNotFound, lost)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)
        self.assertEqual(self.plan.reputation.may_be_right_alone(), ["a", "b"])
