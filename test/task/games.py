"""
Downloads that are played: a plan and its trials, parents that lie in many ways, and a file. No I/O, clock or reactor.

``python -m test.task.games FIRST END`` plays the random games of the seeds from FIRST to END - 1, and prints those that
end in a wrong way.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from dragonfly_vortex.errors import (
    DigestMismatch,
    EndDisputed,
    ParentFailed,
    PieceError,
    PieceNotFound,
    PieceRefused,
    TaskError,
)
from dragonfly_vortex.task.layout import VerifiedPiece
from dragonfly_vortex.task.parent_state import STORAGE
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.task.trials import Trials
from dragonfly_vortex.wire import PieceMetadata
from test.task.planning import TASK_ID, why

__all__ = ["ENDLESS", "MOST", "Game", "Given", "Played", "Task", "random_game", "wrong_end"]

GOT = "cd" * 32

_FAULTS = (None, ParentFailed, DigestMismatch, PieceNotFound)

ENDLESS = 1_000_000
"""Pieces of a task that never ends."""

NOTHING = "nothing"
"""The content of a piece of no bytes."""

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
        text = f"{content} {number * self.piece_length}+{length}" if length else NOTHING
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
    :param algorithm: what its digests begin with; empty where it names none.
    """

    task: Task
    wrong: dict[int, str] = field(default_factory=dict)
    forges: bool = False
    changes: bool = False
    lacks: frozenset[int] = frozenset()
    faults: list[type[PieceError] | None] = field(default_factory=list)
    announces: bool = False
    algorithm: str = "crc32"
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
            right = self.task.give(number)
            named = right.metadata.digest.replace("crc32", self.algorithm) if self.algorithm else ""
            return Given(replace(right.metadata, digest=named), right.content)
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
            self.plan.announcements.learn(STORAGE, None, true.piece_length)
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
        self.plan.announcements.begin(name)
        self.plan.announcements.learn(name, parent.task.length, parent.task.piece_length)
        for number in range(parent.task.count):
            metadata = parent.task.give(number).metadata
            self.plan.announcements.add(name, number, metadata.offset, metadata.length)
        self.plan.announcements.end(name, True)

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
                self.plan.reputation.record_mismatch(f"sha256:{TASK_ID}", GOT)
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
        for number in range(self.plan.numbers.end or 0):
            right = self.true.give(number).metadata if number < self.true.count else None
            parent = self.plan.layout.verified[number].parent
            is_nothing = right is None and self.file[number].content == NOTHING
            if parent and self.file[number].metadata != right and not is_nothing:
                self.wrong.add(parent)

    def is_right(self) -> bool:
        """Whether the file has the right SHA-256."""
        count = self.plan.numbers.end or 0
        contents = [self.file[number].content for number in range(count)]
        for number in range(count):
            if self.plan.layout.verified[number].offset != self.file[number].metadata.offset:
                raise AssertionError(f"piece {number} is not where the plan has it")
        right = [self.true.give(number).content for number in range(self.true.count)]
        return [each for each in contents if each != NOTHING] == right  # a piece of no bytes changes nothing


def random_game(chance: Random) -> Game:
    """
    A download from an honest parent that has everything, and one to three liars, with some pieces in the file.

    :param chance: all that is random about it, so that a seed gives one game.
    """
    count = chance.randint(1, 8)
    true = Task(count=count, last_length=chance.choice((10, 7)))
    parents = {"honest": Played(task=true, announces=chance.random() < 0.5)}
    for name in ("p", "q", "r")[: chance.randint(1, 3)]:
        parents[name] = _random_liar(chance, true)
    there = {
        number: true.give(number, chance.choice(("true", "conspiracy", "rot")))
        for number in range(count)
        if chance.random() < 0.3
    }
    names = sorted(parents)
    chance.shuffle(names)
    return Game(true, {name: parents[name] for name in names}, chance.randint(1, 4), chance.randrange, there)


def _random_liar(chance: Random, true: Task) -> Played:
    """A parent that lies about some pieces, about the layout, or about both; colluding liars say the same words."""
    task, is_layout = true, chance.random() < 0.5
    if is_layout:
        count = chance.choice([chance.randint(1, 9)] * 3 + [ENDLESS])
        length = chance.choice((10, 5, 12))
        task = Task(count=count, last_length=chance.choice((length, length - 3, 0)), piece_length=length)
    pool = range(min(task.count, 10))
    numbers = [number for number in pool if chance.random() < 0.4] or ([] if is_layout else [chance.choice(pool)])
    return Played(
        task=task,
        wrong=dict.fromkeys(numbers, chance.choice(("conspiracy", "p", "q"))),
        forges=chance.random() < 0.5,
        changes=chance.random() < 0.5,
        lacks=frozenset(n for n in range(9) if chance.random() < 0.3) if chance.random() < 0.5 else frozenset(),
        faults=[chance.choice(_FAULTS) for _ in range(chance.randint(0, 4))],
        announces=task.count < ENDLESS and chance.random() < 0.5,
    )


def wrong_end(game: Game) -> str:
    """
    Play a game with an honest parent, and say what is wrong about its end; empty where nothing is.

    The download must succeed, at a bounded cost, and name the parents that sent wrong pieces, and not the honest one.
    """
    try:
        failure = game.play()
    except AssertionError as error:
        return str(error)
    if failure is not None:
        return f"expected the task, got {failure}"
    named = set(game.trials.lies)
    if "honest" in named or not game.wrong <= named:
        return f"expected the senders of wrong pieces, {sorted(game.wrong)}, to be named, got {sorted(named)}"
    pieces = game.true.count * (1 + game.disputes)
    compared, fetched = game.compared["honest"], game.fetched["honest"]
    if compared > 2 * pieces or fetched > 3 * pieces:
        return f"expected {2 * pieces} comparisons and {3 * pieces} pieces at most, got {compared} and {fetched}"
    return ""


if __name__ == "__main__":
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        if reason := wrong_end(random_game(Random(seed))):
            print(f"seed {seed}: {reason}", flush=True)
