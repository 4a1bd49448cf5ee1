"""What is measured, as values: the cases, and the order in which their turns come."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["START_UP_LENGTH", "Case", "Settings", "Shape", "cases", "turns"]

START_UP_LENGTH = 1_000_000
"""Bytes of the task on which start-up is measured: processes, imports, a connection, and next to no content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    How a file is fetched.

    :param piece_length: bytes of every piece but the last.
    :param concurrency: pieces, or connections, that the child has under way at once.
    """

    piece_length: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    Something that is measured once in each round.

    :param contestant: a name in :data:`~benchmarks.contestants.CONTESTANTS`.
    :param content_length: bytes of the task.
    :param shape: how it is fetched.
    """

    contestant: str
    content_length: int
    shape: Shape

    @property
    def is_start_up(self) -> bool:
        """Whether it is start-up that is measured."""
        return self.content_length == START_UP_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    A whole run.

    :param contestants: names in :data:`~benchmarks.contestants.CONTESTANTS`: all of them fetch the file in one shape.
    :param shape: that shape.
    :param in_other_shapes: those of them that fetch it in others too.
    :param other_shapes: the others.
    :param content_length: bytes of the file.
    :param rounds: how often everything is measured.
    :param start_ups: how often in each round start-up is measured: it is taken off every other figure.
    :param seed: what the order of the turns is drawn from.
    """

    contestants: tuple[str, ...]
    shape: Shape
    in_other_shapes: tuple[str, ...]
    other_shapes: tuple[Shape, ...]
    content_length: int
    rounds: int
    start_ups: int
    seed: int

    def piece_count(self, shape: Shape) -> int:
        """How many pieces the file has."""
        return math.ceil(self.content_length / shape.piece_length)


def cases(settings: Settings) -> Iterator[Case]:
    """All in which the file is fetched."""
    for contestant in settings.contestants:
        yield Case(contestant=contestant, content_length=settings.content_length, shape=settings.shape)
    for shape in settings.other_shapes:
        for contestant in settings.in_other_shapes:
            yield Case(contestant=contestant, content_length=settings.content_length, shape=shape)


def turns(settings: Settings) -> Iterator[tuple[int, Case]]:
    """
    All turns, in their order, each with the number of its round. Each round has everything, shuffled: what else the
    machine does meanwhile meets everyone.
    """
    order = random.Random(settings.seed)
    start_ups = [
        Case(contestant=contestant, content_length=START_UP_LENGTH, shape=settings.shape)
        for contestant in settings.contestants
    ]
    every = [*cases(settings), *start_ups * settings.start_ups]
    for number in range(settings.rounds):
        for case in order.sample(every, len(every)):
            yield number, case
