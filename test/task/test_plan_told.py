"""Tests of the plan's other inputs: stored pieces, pieces that others fetch, announcements."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import (
    NoParentLeft,
    ParentUnreachable,
    PieceError,
    PieceNotFound,
    PieceRefused,
    PieceTimeout,
    TaskDigestMismatch,
    TaskError,
    TaskNotFound,
)
from dragonfly_vortex.task.parent_state import STORAGE, Standing
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import DIGEST, GOT, TASK_ID, PlanTestCase, piece, why
from test.wire.profiles import PROFILE


class PresentTests(PlanTestCase):
    """What is there already."""

    def begin_with(self, *numbers: int, parents: tuple[str, ...] = ("a",), length: int = 10) -> None:
        """Plan a download of which some pieces are there."""
        self.begin(*parents)
        self.plan.announcements.learn(STORAGE, None, length)
        for number in numbers:
            self.plan.record_present(piece(number, length, piece_length=length))

    def test_not_asked_for(self) -> None:
        """What is there counts as verified; the others are asked for at once, piece 0 too."""
        self.begin_with(1, 3)
        self.assertEqual((sorted(self.plan.layout.verified), self.plan.layout.prefix), ([1, 3], 0))
        requests = self.ask_all()
        self.assertEqual(self.numbers(requests), [0, 2, 4, 5])
        self.give(requests[0])
        self.assertEqual((self.plan.layout.prefix, self.plan.layout.prefix_length), (2, 20))

    def test_all_of_it(self) -> None:
        """A task that is stored as a whole needs no request."""
        self.begin("a")
        self.plan.announcements.learn(STORAGE, 25, 10)
        for number in range(3):
            self.plan.record_present(piece(number, 5 if number == 2 else 10))
        self.assertTrue(self.plan.is_complete)
        self.assertIsNone(self.plan.next_request())

    def test_impossible(self) -> None:
        """A piece that cannot be one of the task is refused."""
        self.begin_with(1)
        self.assertRaises(PieceRefused, self.plan.record_present, piece(2, offset=7))
        self.plan.record_present(piece(1))
        self.assertEqual(len(self.plan.layout.verified), 1)

    def test_wrong_whole(self) -> None:
        """If the whole is wrong, the download has failed, and any parent that has not sent all of it may be right."""
        self.begin_with(0, 2)
        first, last, *others = self.ask_all()
        self.give(first)
        self.give(last, length=4)
        for request in others:
            self.plan.record_cancelled(request)
        self.assertTrue(self.plan.is_complete)
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertEqual((self.plan.pieces.take_dropped(), self.plan.pieces.drops), ([], 0))
        self.assertIsInstance(self.plan.failure(), TaskDigestMismatch)
        self.assertEqual(self.plan.reputation.may_be_right_alone(), ["a"])
        self.assertIs(self.plan.parents["a"].standing, Standing.GOOD)

    def test_incomplete(self) -> None:
        """
        If the whole is wrong and its end is only a number that no parent has, it may be incomplete: nothing is dropped.
        """
        self.begin_with(0, 1)
        self.fail_with(PieceNotFound, *self.ask_all())
        self.assertEqual(
            (self.plan.is_complete, self.plan.pieces.content_length, self.plan.layout.content_length), (True, 20, None)
        )
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertEqual((self.plan.pieces.take_dropped(), self.plan.pieces.drops), ([], 0))
        self.assertIn("; no parent has piece 2, but the task may have it", str(self.plan.failure()))
        self.assertIs(self.plan.parents["a"].standing, Standing.GOOD)

    def test_other_layout(self) -> None:
        """If all parents contradict it, it is what was wrong, and it starts anew with them."""
        self.begin_with(0, 1, parents=("a", "b"), length=7)
        for _ in range(2):
            request = self.ask()
            self.refuse(request, piece(request.number))
            for withdrawn in self.withdrawn():
                self.plan.record_cancelled(withdrawn)
        self.assertIsNone(self.plan.failure())
        self.assertEqual((self.plan.pieces.take_dropped(), self.plan.layout.piece_length), ([0, 1], None))
        (request,) = self.ask_all()
        self.give(request)
        self.assertEqual(self.plan.layout.piece_length, 10)


class BusyTests(PlanTestCase):
    """Pieces that another process fetches."""

    def test_busy(self) -> None:
        """A busy piece is neither asked for nor missed; others are asked for meanwhile."""
        requests = self.begin_with_first("a", at_once=2)
        self.plan.record_busy(requests[0])
        self.assertTrue(self.plan.numbers.busy)
        self.give(requests[1], length=3)
        self.assertEqual((self.ask_all(), self.plan.failure(), self.plan.is_complete), ([], None, False))
        self.plan.record_present(piece(1))
        self.assertTrue(self.plan.is_complete)
        self.assertFalse(self.plan.numbers.busy)

    def test_asked_again(self) -> None:
        """Released, busy pieces come first, and the parent has not been asked for nothing."""
        requests = self.begin_with_first("a", "b", at_once=2)
        for request in requests:
            self.plan.record_busy(request)
        self.plan.pieces.take_from_others()
        self.assertEqual([(r.number, r.parent) for r in self.ask_all()], [(r.number, r.parent) for r in requests])

    def test_all_of_them(self) -> None:
        """When another process seems to have claimed everything, no more is requested until it is released."""
        for request in self.begin_with_first("a", at_once=1):
            self.plan.record_busy(request)
        count = 1
        while count < 1000 and (asked := self.plan.next_request()) is not None:
            self.plan.record_busy(asked)
            count += 1
        self.assertEqual((count, self.plan.failure()), (256, None))
        self.plan.pieces.take_from_others()
        self.assertEqual(self.ask().number, 1)

    def test_first(self) -> None:
        """While the first piece is busy nothing is asked; when it is there its length is known."""
        self.begin("a")
        self.plan.record_busy(self.ask())
        self.assertEqual((self.ask_all(), self.plan.failure()), ([], None))
        self.plan.record_present(piece(0))
        self.assertEqual(self.numbers(self.ask_all()), [1, 2, 3, 4])

    def test_parent_is_lost(self) -> None:
        """What is busy may come without a parent; what is not is lost."""
        requests = self.begin_with_first("a", at_once=2)
        self.plan.record_busy(requests[0])
        self.fail_with(PieceTimeout, requests[1])
        self.assertIsNone(self.plan.failure())
        self.plan.pieces.take_from_others()
        self.assertIsInstance(self.plan.failure(), NoParentLeft)


class AnnounceTests(PlanTestCase):
    """Parents that announce what they have."""

    def begin_announcing(self, *parents: str, others: tuple[str, ...] = (), at_once: int = 4) -> None:
        """Plan a download from parents that announce and from others that do not."""
        self.begin(*parents, *others, at_once=at_once)
        for parent in parents:
            self.plan.announcements.begin(parent)

    def announce(self, parent: str, *numbers: int, length: int = 10) -> None:
        """A parent has pieces of ten bytes."""
        for number in numbers:
            self.plan.announcements.add(parent, number, number * 10, length)

    def test_only_what_is_announced(self) -> None:
        """It is asked for what it has announced, in any order, as it announces it; meanwhile the plan waits."""
        self.begin_announcing("a")
        self.assertEqual((self.ask_all(), self.plan.failure()), ([], None))
        self.announce("a", 3, 1)
        self.assertEqual(self.numbers(requests := self.ask_all()), [1, 3])
        for request in requests:
            self.give(request)
        self.assertEqual((self.ask_all(), self.plan.failure(), self.plan.numbers.end), ([], None, None))
        self.announce("a", 0, 2)
        for request in self.ask_all():
            self.give(request)
        self.assertEqual((self.plan.is_complete, self.plan.failure()), (False, None))
        self.plan.announcements.end("a", True)
        self.assertEqual((self.plan.is_complete, self.plan.pieces.content_length), (True, 40))

    def test_short(self) -> None:
        """A short piece that is announced is the last."""
        self.begin_announcing("a")
        self.announce("a", 0, 1)
        self.plan.announcements.add("a", 2, 20, 3)
        self.assertEqual((self.plan.numbers.end, self.plan.pieces.content_length), (3, 23))
        for request in self.ask_all():
            self.give(request, length=3 if request.number == 2 else 10)
        self.assertTrue(self.plan.is_complete)

    def test_told_lengths(self) -> None:
        """What a parent says of the lengths is enough to begin with any piece, and to know the end."""
        self.begin_announcing("a", others=("b",))
        self.plan.announcements.learn("a", 35, 10)
        self.assertEqual(
            (self.plan.layout.piece_length, self.plan.numbers.end, self.plan.pieces.content_length), (10, 4, 35)
        )
        for number in range(4):
            (request,) = self.ask_all()
            self.assertEqual((request.parent, request.number), ("b", number))
            self.give(request, length=5 if number == 3 else 10)
        self.assertTrue(self.plan.is_complete)

    def test_one_piece(self) -> None:
        """A task of one piece may have a longer piece length, which cannot be seen."""
        self.begin_announcing("a")
        self.plan.announcements.learn("a", 5, 4096)
        self.plan.announcements.add("a", 0, 0, 5)
        self.give(self.ask(), length=5)
        self.assertEqual((self.plan.is_complete, self.plan.pieces.content_length), (True, 5))

    def test_each_what_it_has(self) -> None:
        """Several parents, each with a part, give each its own part."""
        self.begin_announcing("a", "b")
        self.announce("a", 0, 2)
        self.announce("b", 1, 3)
        asked = {}
        while requests := self.ask_all():
            for request in requests:
                asked[request.number] = request.parent
                self.give(request)
        self.assertEqual(asked, {0: "a", 1: "b", 2: "a", 3: "b"})

    def test_beyond_the_hold(self) -> None:
        """What has been announced is asked for beyond a "not found" of another."""
        self.begin_announcing("a", others=("b",), at_once=1)
        self.announce("a", 0, 5)
        self.give(self.ask())
        request = self.ask()
        self.assertEqual((request.parent, request.number), ("a", 5))
        self.give(request)
        self.announce("a", 7)
        self.plan.parents["a"].most = 0
        request = self.ask()
        self.assertEqual((request.parent, request.number), ("b", 1))
        self.fail_with(PieceNotFound, request)
        self.plan.parents["a"].most = None
        request = self.ask()
        self.assertEqual((request.parent, request.number), ("a", 7))

    def test_not_there_after_all(self) -> None:
        """A piece that was announced and is not there is not asked of this parent again."""
        self.begin_announcing("a")
        self.announce("a", 0)
        self.fail_with(PieceNotFound, self.ask())
        self.announce("a", 0)
        self.assertIsNone(self.plan.next_request())
        self.plan.announcements.end("a", True)
        self.assertIsInstance(self.plan.failure(), TaskNotFound)

    def test_returned(self) -> None:
        """A piece whose request fails is asked for again."""
        self.begin_announcing("a")
        self.announce("a", 0, 1)
        self.fail_with(ParentUnreachable, self.ask())
        self.assertEqual(self.numbers(self.ask_all()), [0])

    def test_nothing(self) -> None:
        """When all announcing has ended and nothing was announced, the task is not found."""
        self.begin_announcing("a", "b")
        self.plan.announcements.end("a", True)
        self.assertIsNone(self.plan.failure())
        self.plan.announcements.end("b", True)
        self.assertIsInstance(self.plan.failure(), TaskNotFound)

    def test_hole(self) -> None:
        """When all announcing has ended and a piece is missing, that is what the failure names."""
        self.begin_announcing("a")
        self.announce("a", 0, 2)
        for request in self.ask_all():
            self.give(request)
        self.assertIsNone(self.plan.failure())
        self.plan.announcements.end("a", True)
        failure = self.plan.failure()
        self.assertIsInstance(failure, NoParentLeft)
        self.assertIn("piece 1 from parent a: expected one of them to have it", str(failure))

    def test_broken_off(self) -> None:
        """A parent that cannot be asked any more what it has may be asked for anything."""
        self.begin_announcing("a")
        self.announce("a", 0)
        self.give(self.ask())
        self.plan.announcements.end("a", False)
        self.assertEqual(self.numbers(requests := self.ask_all()), [1, 2, 3, 4])
        self.fail_with(PieceNotFound, *requests)
        self.assertTrue(self.plan.is_complete)

    def test_parent_is_out(self) -> None:
        """Announcements of a parent that is out have no effect."""
        self.begin_announcing("a")
        self.announce("a", 0, 1)
        first, second = self.ask_all()
        self.fail_with(PieceTimeout, first)
        self.plan.record_cancelled(second)
        self.announce("a", 2)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_lies(self) -> None:
        """A self-contradiction is a lie of any parent."""
        for first, second in (
            ((1, 10, 10), (1, 10, 9)),
            ((2, 20, 10), (3, 31, 10)),
            ((1, 10, 11), None),
            ((0, 1, 5), None),
        ):
            self.begin_announcing("a")
            self.plan.announcements.add("a", *first)
            if second is not None:
                self.plan.announcements.add("a", *second)
            self.assertIs(self.plan.parents["a"].standing, Standing.LIED)
            failure = self.plan.failure()
            self.assertIsInstance(failure, NoParentLeft)
            self.assertIn("from parent a: expected", str(failure))

    def test_impossible_lengths(self) -> None:
        """Lengths that no task can have are a lie, whatever is known."""
        for content_length, piece_length in ((None, 1 << 40), (1 << 63, None), (1 << 40, 1), (1 << 62, 1 << 62)):
            self.begin_announcing("a", others=("b",))
            self.plan.announcements.learn("a", content_length, piece_length)
            self.assertIs(self.plan.parents["a"].standing, Standing.LIED, (content_length, piece_length))
            self.assertIsNone(self.plan.layout.piece_length)
        self.begin_announcing("a", others=("b",))
        self.plan.announcements.add("a", 1, 1 << 62, 10)
        self.assertIs(self.plan.parents["a"].standing, Standing.LIED)

    def test_impossible_by_another(self) -> None:
        """A length of the whole that turns out to be impossible, when the pieces' is known, does not count."""
        self.begin_announcing("a", others=("b",))
        self.plan.announcements.learn("a", 1 << 60, None)
        self.give(self.ask())
        self.assertIsNone(self.plan.layout.content_length)
        self.assertIsNone(self.plan.numbers.end)

    def test_not_as_announced(self) -> None:
        """A piece that is not as its own parent announced it is a lie of that parent."""
        self.begin_announcing("a", "b")
        self.announce("a", 0, 1)
        self.announce("b", 0, 1)
        request = self.ask()
        self.refuse(request, piece(0, length=7))
        self.assertIs(self.plan.parents[request.parent].standing, Standing.LIED)

    def test_contradicts_another(self) -> None:
        """A parent that contradicts an honest one has lied; if that one has lied, it is believed after all."""
        self.begin_announcing("a", others=("b",))
        self.plan.announcements.learn("a", 35, 10)
        (request, *_) = self.ask_all()
        self.refuse(request, piece(0, length=7))
        self.assertIs(self.plan.parents["b"].standing, Standing.LIED)
        self.plan.announcements.add("a", 1, 11, 10)
        self.assertEqual(
            (self.plan.parents["a"].standing, self.plan.parents["b"].standing), (Standing.LIED, Standing.GOOD)
        )
        self.assertIsNone(self.plan.layout.piece_length)

    def test_lie_about_the_length(self) -> None:
        """Where a length that one parent told makes the whole wrong, the parent that gave the pieces may be right."""
        self.begin_announcing("a", others=("b",))
        self.plan.announcements.learn("a", 20, 10)
        while requests := self.ask_all():
            self.give(requests[0])
        self.assertTrue(self.plan.is_complete)
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertIsInstance(self.plan.failure(), TaskDigestMismatch)
        self.assertEqual(self.plan.reputation.may_be_right_alone(), ["b", "a"])

    def test_end_of_a_liar(self) -> None:
        """A piece that is short by a liar's piece length is not the end that a parent gives which announces more."""
        self.begin_announcing("a", "b", "honest")
        self.plan.announcements.learn("a", None, 12)
        self.plan.announcements.learn("honest", 57, 10)
        self.announce("honest", 0, 1, 2)
        self.plan.announcements.add("b", 1, 12, 12)
        self.plan.announcements.add("a", 1, 12, 12)
        self.plan.announcements.add("a", 1, 12, 11)
        self.assertEqual(self.plan.layout.piece_length, 12)
        while requests := [request for request in self.ask_all() if request.parent == "honest"]:
            self.give(requests[0])
        self.assertEqual((self.plan.is_complete, self.plan.layout.short), (True, 0))
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertIn("honest", self.plan.reputation.may_be_right_alone())


@dataclass(kw_only=True)
class Announced:
    """A parent that announces, played: what it will announce, then its end."""

    name: str
    has: list[int]
    is_finished: bool
    piece_length: int
    faults: list[type[PieceError] | None] = field(default_factory=list)


COUNT = 7


class PropertyTests(SynchronousTestCase):
    """Parents that announce anything in any order, while others fetch and pieces are there."""

    @PROFILE
    @given(st.data())
    def test_comes_to_an_end(self, data: st.DataObject) -> None:
        """
        With a parent that announces all of it in the end it succeeds, whatever honest others do; with liars it ends.

        Fails if :meth:`PieceNumbers._may_be_had` does not wait for what may be announced yet.
        """
        has_liars = data.draw(st.booleans(), label="liars")
        parents = [
            Announced(
                name="steady", has=list(data.draw(st.permutations(range(COUNT)))), is_finished=True, piece_length=10
            )
        ]
        for name in ("p", "q")[: data.draw(st.integers(0, 2), label="others")]:
            faults = data.draw(
                st.lists(st.sampled_from((None, ParentUnreachable, PieceNotFound, PieceTimeout)), max_size=4)
            )
            parents.append(
                Announced(
                    name=name,
                    has=data.draw(st.lists(st.integers(0, COUNT - 1), unique=True)),
                    is_finished=data.draw(st.booleans()),
                    piece_length=data.draw(st.sampled_from((10, 7))) if has_liars else 10,
                    faults=list(faults),
                )
            )
        failure = self.play(data, parents)
        if failure is not None and not has_liars:
            raise AssertionError(f"expected success, got {failure}")

    def play(self, data: st.DataObject, parents: list[Announced]) -> TaskError | None:
        """Play a download to its end."""
        plan = Plan(TASK_ID, [parent.name for parent in parents], data.draw(st.integers(1, 3), label="at once"))
        by_name = {parent.name: parent for parent in parents}
        there = data.draw(st.sets(st.integers(0, COUNT - 1)), label="there")
        if there:
            plan.announcements.learn(STORAGE, None, 10)
        for number in there:
            plan.record_present(self.piece(number, 10))
        for parent in parents:
            plan.announcements.begin(parent.name)
        telling = {parent.name: [*parent.has] for parent in parents}
        under_way: list[Request] = []
        for _ in range(3000):
            while (withdrawn := plan.pieces.next_withdrawn()) is not None:
                under_way.remove(withdrawn)
                plan.record_cancelled(withdrawn)
            if plan.is_complete:
                senders = {plan.layout.verified[number].parent for number in range(plan.numbers.end or 0)}
                if plan.numbers.end == COUNT and all(not name or by_name[name].piece_length == 10 for name in senders):
                    return None
                for request in under_way:
                    plan.record_cancelled(request)
                under_way.clear()
                plan.reputation.record_mismatch(DIGEST, GOT)
                continue
            failure = plan.failure()
            if failure is not None:
                return failure
            while (asked := plan.next_request()) is not None:
                if (
                    plan.parents[asked.parent].standing in (Standing.OUT, Standing.LIED)
                    or asked.number in plan.layout.verified
                ):
                    raise AssertionError(f"{asked} makes no sense")
                under_way.append(asked)
            choices = [
                *telling,
                *(["answer"] if under_way else []),
                *(["release"] if plan.numbers.busy else []),
            ]
            if not choices:
                raise AssertionError(f"hangs: {vars(plan)}")
            choice = data.draw(st.sampled_from(choices), label="next")
            if choice == "answer":
                self.answer(data, plan, under_way.pop(data.draw(st.integers(0, len(under_way) - 1))), by_name)
            elif choice == "release":
                plan.pieces.take_from_others()
            elif telling[choice]:
                number = telling[choice].pop(0)
                metadata = self.piece(number, by_name[choice].piece_length)
                plan.announcements.add(choice, number, metadata.offset, metadata.length)
            else:
                del telling[choice]
                plan.announcements.end(choice, by_name[choice].is_finished)
        raise AssertionError("does not come to an end")

    def piece(self, number: int, piece_length: int) -> PieceMetadata:
        """A piece's metadata; the last one is short."""
        return piece(number, piece_length // 2 if number == COUNT - 1 else piece_length, piece_length=piece_length)

    def answer(self, data: st.DataObject, plan: Plan, request: Request, parents: dict[str, Announced]) -> None:
        """Answer a request as its parent does, or have another process fetch it."""
        parent = parents[request.parent]
        if data.draw(st.integers(0, 5), label="busy") == 5:
            plan.record_busy(request)
            return
        fault = parent.faults.pop(0) if parent.faults else None
        if fault is not None:
            plan.record_failure(request, why(fault, request))
        elif request.number not in parent.has:
            plan.record_failure(request, why(PieceNotFound, request))
        else:
            plan.record_verified(request, self.piece(request.number, parent.piece_length))
