"""Tests of what is tried when the whole is wrong: any set of liars, and an honest parent among them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import (
    DigestMismatch,
    EndDisputed,
    ParentFailed,
    PieceError,
    PieceNotFound,
    PieceRefused,
    TaskDigestMismatch,
    TaskError,
)
from dragonfly_vortex.task import reputation
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.scheduler import Plan, Request, VerifiedPiece
from dragonfly_vortex.task.trials import Trials
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import TASK_ID, why
from test.wire.profiles import PROFILE

GOT = "cd" * 32

MOST = 150
"""Bytes that are taken from a parent before the end of the task is disputed."""


@dataclass(frozen=True)
class Given:
    """
    A piece as a parent gives it.

    :param content: what its bytes are; equal content has equal bytes, but not the other way round.
    """

    metadata: PieceMetadata
    content: str


@dataclass(kw_only=True)
class Task:
    """A task, or what a liar takes for it."""

    count: int
    last_length: int
    piece_length: int = 10

    def give(self, number: int, content: str = "true", digest: str | None = None) -> Given:
        """A piece of it."""
        length = self.last_length if number == self.count - 1 else self.piece_length
        text = f"{content} {number * self.piece_length}+{length}"
        metadata = PieceMetadata(
            number=number, offset=number * self.piece_length, length=length, digest=digest or f"crc32:{text}"
        )
        return Given(metadata, text)

    @property
    def length(self) -> int:
        """Bytes of the whole."""
        return (self.count - 1) * self.piece_length + self.last_length


@dataclass(kw_only=True)
class Played:
    """
    A parent, played.

    :param task: what it gives and tells.
    :param wrong: what it gives in place of some pieces: the words that name the content.
    :param forges: whether the digest of such a piece is the one of the right piece.
    :param changes: whether each of its wrong pieces is another one each time.
    :param lacks: numbers of pieces that it does not give.
    :param faults: what it does at its first, second, ... request instead of an answer.
    :param announces: whether it says which pieces it has.
    """

    task: Task
    wrong: dict[int, str] = field(default_factory=dict)
    forges: bool = False
    changes: bool = False
    lacks: frozenset[int] = frozenset()
    faults: list[type[PieceError] | None] = field(default_factory=list)
    announces: bool = False
    asked: int = 0

    def give(self, number: int) -> Given | type[PieceError]:
        """Its answer to a request."""
        self.asked += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return fault
        if number in self.lacks or number >= self.task.count:
            return PieceNotFound
        if number not in self.wrong:
            return self.task.give(number)
        content = f"{self.wrong[number]} {self.asked}" if self.changes else self.wrong[number]
        digest = self.task.give(number).metadata.digest if self.forges else None
        return self.task.give(number, content, digest)


class Game:
    """A download that is played: a plan, parents, and the file."""

    def __init__(
        self,
        true: Task,
        parents: dict[str, Played],
        at_once: int,
        choose: Callable[[int], int] = lambda count: 0,
        there: dict[int, Given] | None = None,
    ) -> None:
        self.true = true
        self.parents = parents
        self.choose = choose
        self.plan = Plan(TASK_ID, list(parents), at_once, end_disputed_at=MOST)
        self.trials = Trials(self.plan, self.make_trial, MOST)
        self.at_once = at_once
        self.file: dict[int, Given] = {}
        self.under_way: list[Request] = []
        self.fetched: Counter[str] = Counter()
        self.compared: Counter[str] = Counter()
        self.left_over: list[int] = []
        self.wrong: set[str] = set()
        self.disputes = 0
        if there:
            self.plan.learn_layout(STORAGE, None, true.piece_length)
            for given_ in there.values():
                self.plan.record_present(given_.metadata)
                self.file[given_.metadata.number] = given_
        for name in parents:
            self.hear(name)

    def make_trial(self, parent: str, there: Mapping[int, VerifiedPiece], compares: bool, most: int) -> Plan:
        """The plan of a trial."""
        return Plan(TASK_ID, [parent], self.at_once, there=there, compares=compares, end_disputed_at=most)

    def hear(self, name: str) -> None:
        """A parent that announces tells all that it has."""
        parent = self.parents[name]
        if not parent.announces:
            return
        self.plan.announcing_began(name)
        self.plan.learn_layout(name, parent.task.length, parent.task.piece_length)
        for number in range(parent.task.count):
            metadata = parent.task.give(number).metadata
            self.plan.announce(name, number, metadata.offset, metadata.length)
        self.plan.announcing_ended(name, True)

    def play(self) -> TaskError | None:
        """Play it to its end. The error that it ends with, None for success."""
        for _ in range(20_000):
            while (withdrawn := self.plan.pieces.next_withdrawn()) is not None:
                self.under_way.remove(withdrawn)
                self.plan.record_cancelled(withdrawn)
            self.drop()
            if self.plan.is_complete:
                for superfluous in self.under_way:
                    self.plan.record_cancelled(superfluous)
                self.under_way.clear()
                if self.is_right():
                    self.left_over = self.trials.succeed()
                    return None
                self.blame()
                self.plan.record_mismatch(f"sha256:{TASK_ID}", GOT)
                continue
            failure = self.plan.failure()
            if failure is not None:
                self.disputes += isinstance(failure, EndDisputed)
                for given_up in self.under_way:
                    self.plan.record_cancelled(given_up)
                self.under_way.clear()
                self.drop()
                plan = self.trials.next(failure)
                if plan is None:
                    return self.trials.failure
                self.plan = plan
                for name in plan.parents:
                    self.hear(name)
                continue
            while (request := self.plan.next_request()) is not None:
                self.under_way.append(request)
            if not self.under_way:
                raise AssertionError("hangs")
            self.answer(self.under_way.pop(self.choose(len(self.under_way))))
        raise AssertionError("does not come to an end")

    def drop(self) -> None:
        """Take from the file what the plan has forgotten."""
        for number in self.plan.pieces.take_dropped():
            self.file.pop(number, None)

    def answer(self, request: Request) -> None:
        """Answer a request as the parent does, and write the piece as a download does."""
        answer = self.parents[request.parent].give(request.number)
        if not isinstance(answer, Given):
            self.plan.record_failure(request, why(answer, request))
            return
        is_comparison = request.is_comparison
        (self.compared if is_comparison else self.fetched)[request.parent] += 1
        try:
            self.plan.judge(request, answer.metadata)
        except PieceRefused as refusal:
            self.plan.record_refusal(request, refusal)
            return
        if request.number in self.file:
            raise AssertionError(f"{request} writes where a piece is")
        self.plan.record_verified(request, answer.metadata)
        if request.number in self.plan.layout.verified:
            self.file[request.number] = answer

    def blame(self) -> None:
        """The whole is wrong: note whose pieces are, where their digests show it."""
        for number in range(self.plan.choice.end or 0):
            right = self.true.give(number).metadata if number < self.true.count else None
            parent = self.plan.layout.verified[number].parent
            if parent and self.file[number].metadata != right:
                self.wrong.add(parent)

    def is_right(self) -> bool:
        """Whether the file has the right SHA-256."""
        count = self.plan.choice.end or 0
        contents = [self.file[number].content for number in range(count)]
        for number in range(count):
            if self.plan.layout.verified[number].offset != self.file[number].metadata.offset:
                raise AssertionError(f"piece {number} is not where the plan has it")
        return contents == [self.true.give(number).content for number in range(self.true.count)]


class TrialsTests(SynchronousTestCase):
    """Downloads whose parents together give a wrong whole."""

    TRUE = Task(count=6, last_length=7)

    def game(self, at_once: int = 2, there: dict[int, Given] | None = None, **parents: Played) -> Game:
        """A download from these parents, in this order."""
        return Game(self.TRUE, parents, at_once, there=there)

    def honest(self) -> Played:
        """A parent that gives everything as it is."""
        return Played(task=self.TRUE)

    def liar(self, *numbers: int, word: str = "wrong", forges: bool = False) -> Played:
        """A parent that gives other content for these pieces."""
        return Played(task=self.TRUE, wrong=dict.fromkeys(numbers, word), forges=forges)

    def test_few_pieces(self) -> None:
        """One liar costs comparisons, and the pieces that differ."""
        game = self.game(honest=self.honest(), liar=self.liar(1, 2, 3))
        self.assertIsNone(game.play())
        self.assertEqual(set(game.trials.lies), {"liar"})
        self.assertIn("with other content", game.trials.lies["liar"])
        self.assertLessEqual(sum(game.fetched.values()), 6 + 2 * 3)

    def test_nobody(self) -> None:
        """Without an honest parent it fails as it first did; what is not disputed is kept, and each liar is named."""
        game = self.game(p=self.liar(1, 2, word="wrong"), q=self.liar(1, 2, word="other"))
        failure = game.play()
        self.assertIsInstance(failure, TaskDigestMismatch)
        self.assertIn("from p, q", str(failure))
        self.assertEqual(set(game.trials.lies), {"p", "q"})
        self.assertEqual(game.trials.doubtful(), [1, 2])
        self.assertLessEqual(max(game.fetched.values()), 2 * 6)

    def test_forged(self) -> None:
        """A wrong piece with the right piece's digest is found when its place is fetched from the honest parent."""
        game = self.game(liar=self.liar(0, 1, 2, 3, 4, forges=True), honest=self.honest())
        self.assertIsNone(game.play())
        self.assertNotIn("honest", game.trials.lies)

    def test_caught(self) -> None:
        """A parent that is caught in its trial is not tried again, and is named."""
        liar = self.liar(0, 1, 2, 3, 4, 5)
        game = self.game(liar=liar, honest=self.honest())
        liar.faults = [None, None, None, DigestMismatch]
        self.assertIsNone(game.play())
        self.assertIn("liar", game.trials.lies)

    def test_storage(self) -> None:
        """What was there and is right is kept; the storage is not named."""
        there = {number: self.TRUE.give(number, "rot" if number == 1 else "true") for number in range(4)}
        game = self.game(honest=self.honest(), there=there)
        self.assertIsNone(game.play())
        self.assertEqual((game.fetched["honest"], game.trials.lies), (3, {}))

    def test_left_over(self) -> None:
        """Pieces behind the end are returned, so that they are dropped."""
        true = Task(count=6, last_length=10)
        parents = {"liar": Played(task=Task(count=8, last_length=7)), "honest": Played(task=true)}
        game = Game(true, parents, 3)
        self.assertIsNone(game.play())
        self.assertEqual(game.left_over, [6, 7])
        self.assertIn("liar", game.trials.lies)

    def test_endless(self) -> None:
        """A liar that always has one more piece is not followed for ever if another parent says that it ends."""
        for last_length in (10, 7):
            true = Task(count=3, last_length=last_length)
            parents = {"liar": Played(task=Task(count=ENDLESS, last_length=10)), "honest": Played(task=true)}
            for names in (("liar", "honest"), ("honest", "liar")):
                game = Game(true, {name: parents[name] for name in names}, 2)
                self.assertIsNone(game.play())
                self.assertEqual(bool(game.left_over), "liar" in game.trials.lies)
                self.assertLess(game.fetched["liar"], 2 * MOST // 10)

    def test_endless_in_short_pieces(self) -> None:
        """Nor is it if its pieces are so short that they never make much."""
        self.patch(reputation, "_DISPUTED_PIECES", 20)
        self.patch(sys.modules[__name__], "MOST", 30_000)
        true = Task(count=3, last_length=7)
        parents = {"liar": Played(task=Task(count=ENDLESS, last_length=10)), "honest": Played(task=true)}
        game = Game(true, parents, 2)
        self.assertIsNone(game.play())
        self.assertLess(game.fetched["liar"], 60)

    def test_endless_trial(self) -> None:
        """So it is in its own trial, after the whole of all together was wrong."""
        true = Task(count=3, last_length=7)
        liar = Played(task=Task(count=ENDLESS, last_length=10), wrong=dict.fromkeys(range(10), "wrong"))
        parents = {"liar": liar, "honest": Played(task=true)}
        for at_once in (1, 2, 3):
            game = Game(true, parents, at_once)
            self.assertIsNone(game.play())
            self.assertEqual(set(game.trials.lies), {"liar"})

    def test_partial(self) -> None:
        """A parent that has but a part of a long task is tried in vain; then all go on together, and lose nothing."""
        true = Task(count=60, last_length=7)
        part = Played(task=true, lacks=frozenset(range(3, 60)))
        game = Game(true, {"part": part, "whole": Played(task=true)}, 2)
        self.assertIsNone(game.play())
        self.assertEqual(game.trials.lies, {})
        self.assertLessEqual(game.compared["part"] + game.fetched["part"], 3 + 3 * 3 * game.disputes)
        self.assertGreater(game.disputes, 0)
        self.assertLessEqual(game.fetched["whole"], 60)

    def test_incomplete(self) -> None:
        """A parent that has but a part of the task, all of which was there, is not asked for it again."""
        part = Played(task=self.TRUE, lacks=frozenset({4, 5}))
        game = self.game(part=part, there={number: self.TRUE.give(number) for number in range(4)})
        self.assertIsInstance(game.play(), TaskDigestMismatch)
        self.assertEqual((game.fetched["part"], game.trials.doubtful(), game.trials.lies), (0, [], {}))

    def test_many_named(self) -> None:
        """Of many wrong pieces the first ones are named."""
        true = Task(count=40, last_length=10)
        liar = Played(task=true, wrong=dict.fromkeys(range(40), "wrong"))
        game = Game(true, {"honest": Played(task=true), "liar": liar}, 1)
        self.assertIsNone(game.play())
        self.assertRegex(game.trials.lies["liar"], r"^it sent pieces (\d+, ){7}\d+ and \d+ more with other content$")


FAULTS = (None, ParentFailed, DigestMismatch, PieceNotFound)


ENDLESS = 1_000_000
"""Pieces of a task that never ends."""


@st.composite
def liars(draw: st.DrawFn, true: Task) -> Played:
    """A parent that lies about some pieces, about the layout, or about both; colluding liars say the same words."""
    is_layout = draw(st.booleans(), label="about the layout")
    task = true
    if is_layout:
        count = draw(st.one_of(st.integers(1, 9), st.just(ENDLESS)), label="pieces of a liar")
        length = draw(st.sampled_from((10, 5, 12)), label="piece length of a liar")
        task = Task(count=count, last_length=draw(st.sampled_from((length, length - 3, 0))), piece_length=length)
    numbers = draw(st.sets(st.integers(0, min(task.count, 10) - 1), min_size=0 if is_layout else 1), label="wrong")
    word = draw(st.sampled_from(("conspiracy", "p", "q")), label="word")
    return Played(
        task=task,
        wrong=dict.fromkeys(numbers, word),
        forges=draw(st.booleans(), label="forges"),
        changes=draw(st.booleans(), label="changes"),
        lacks=draw(st.frozensets(st.integers(0, 8)), label="lacks") if draw(st.booleans()) else frozenset(),
        faults=draw(st.lists(st.sampled_from(FAULTS), max_size=4), label="faults"),
        announces=task.count < ENDLESS and draw(st.booleans(), label="announces"),
    )


@st.composite
def games(draw: st.DrawFn) -> tuple[Task, dict[str, Played], int, dict[int, Given]]:
    """Downloads from an honest parent that has everything, and liars."""
    count = draw(st.integers(1, 8), label="pieces")
    true = Task(count=count, last_length=draw(st.sampled_from((10, 7)), label="last"))
    parents = {"honest": Played(task=true, announces=draw(st.booleans(), label="honest announces"))}
    for name in ("p", "q", "r")[: draw(st.integers(1, 3), label="liars")]:
        parents[name] = draw(liars(true))
    there = {}
    for number in draw(st.sets(st.integers(0, count - 1)), label="there"):
        there[number] = true.give(number, draw(st.sampled_from(("true", "conspiracy", "rot"))))
    names = draw(st.permutations(sorted(parents)))
    return true, {name: parents[name] for name in names}, draw(st.integers(1, 4), label="at once"), there


class PropertyTests(SynchronousTestCase):
    """An honest parent that has everything, and any set of liars."""

    @PROFILE
    @given(st.data(), games())
    def test_one_honest_parent(
        self, data: st.DataObject, drawn: tuple[Task, dict[str, Played], int, dict[int, Given]]
    ) -> None:
        """
        The download succeeds, at a bounded cost, and names the parents that sent wrong pieces, and not the honest one.

        Fails if :meth:`Trials.next` gives no plan.
        """
        true, parents, at_once, there = drawn
        game = Game(true, parents, at_once, lambda count: data.draw(st.integers(0, count - 1)), there)
        self.assertIsNone(game.play())
        self.assertNotIn("honest", game.trials.lies)
        self.assertLessEqual(game.wrong, set(game.trials.lies))
        self.assertLessEqual(game.compared["honest"], 2 * true.count * (1 + game.disputes))
        self.assertLessEqual(game.fetched["honest"], 3 * true.count * (1 + game.disputes))
