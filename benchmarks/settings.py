"""What is measured, as values: the cases, and the order in which their turns come."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["START_UP_LENGTH", "Case", "Settings", "turns"]

START_UP_LENGTH = 1_000_000
"""Bytes of the task on which start-up is measured: processes, imports, a connection, and next to no content."""

_START_UPS = 3
"""How often in each round start-up is measured: it is taken off every other figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    Something that is measured once in each round.

    :param transport: a name in :data:`~benchmarks.peers.TRANSPORTS`.
    :param content_length: bytes of the task.
    :param piece_length: bytes of every piece but the last.
    :param concurrency: pieces that the child asks for at once.
    """

    transport: str
    content_length: int
    piece_length: int
    concurrency: int

    @property
    def is_start_up(self) -> bool:
        """Whether it is start-up that is measured."""
        return self.content_length == START_UP_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    A whole run.

    :param transports: names in :data:`~benchmarks.peers.TRANSPORTS`; the first is the one that is compared.
    :param content_length: bytes of the file.
    :param piece_lengths: in bytes.
    :param concurrencies: pieces that are asked for at once.
    :param rounds: how often everything is measured.
    :param seed: what the order of the turns is drawn from.
    """

    transports: tuple[str, ...]
    content_length: int
    piece_lengths: tuple[int, ...]
    concurrencies: tuple[int, ...]
    rounds: int
    seed: int


def turns(settings: Settings) -> Iterator[tuple[int, Case]]:
    """
    All turns, in their order, each with the number of its round.

    Each round has everything, shuffled. The transports take their turns on the same task one right after the other,
    shuffled too, so that what else the machine does meanwhile is the same for all as nearly as can be.
    """
    order = random.Random(settings.seed)
    tasks = [
        *(
            (settings.content_length, pieces, many)
            for pieces in settings.piece_lengths
            for many in settings.concurrencies
        ),
        *[(START_UP_LENGTH, settings.piece_lengths[0], 1)] * _START_UPS,
    ]
    for number in range(settings.rounds):
        for content_length, piece_length, concurrency in order.sample(tasks, len(tasks)):
            for transport in order.sample(settings.transports, len(settings.transports)):
                yield (
                    number,
                    Case(
                        transport=transport,
                        content_length=content_length,
                        piece_length=piece_length,
                        concurrency=concurrency,
                    ),
                )
