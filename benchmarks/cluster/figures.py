"""How fast peers of ours are in a real cluster, beside real ones: what is measured, each case in turns."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.cluster.programs import Cluster, Peer
from benchmarks.processes import DidNotWork

__all__ = ["FIGURES", "Figure", "Measured"]

_CROWD = 8
"""Peers that fetch one task at once."""

_ONLY_PEERS = "protocol: tcp, back_to_source: never"
"""A section ``download`` of peers that wait for others, as real ones do; these skip the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    The result of a figure.

    :param ours: seconds of each round.
    :param real: the same with real peers in the place of ours.
    :param load: the machine's load of the last minute, before and after.
    """

    ours: tuple[float, ...]
    real: tuple[float, ...]
    load: tuple[float, float]

    @property
    def ratio(self) -> float:
        """The median of ours to that of the real ones."""
        return statistics.median(self.ours) / statistics.median(self.real)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    Something to measure.

    :param name: on the command line.
    :param words: what is measured.
    :param most: what the ratio is to be at most.
    :param measure: measures so many rounds.
    """

    name: str
    words: str
    most: float
    measure: Callable[[Cluster, int], Measured]


def _in_turns(rounds: int, ours: Callable[[int], float], real: Callable[[int], float]) -> Measured:
    """Measure one after the other, after a round that does not count."""
    before = os.getloadavg()[0]
    times: tuple[list[float], list[float]] = [], []
    for number in range(-1, rounds):
        for measure, seconds in zip((ours, real), times, strict=True):
            took = measure(number)
            if number >= 0:
                seconds.append(took)
    return Measured(ours=tuple(times[0]), real=tuple(times[1]), load=(before, os.getloadavg()[0]))


def _pairs(cluster: Cluster, rounds: int) -> Measured:
    file = cluster.file(300_000_000)
    with ExitStack() as stack:
        pairs = {}
        for is_ours in (True, False):
            parent, child = (stack.enter_context(cluster.peer(is_ours=is_ours)) for _ in range(2))
            pairs[is_ours] = parent, child

        def fetch(is_ours: bool, number: int) -> float:
            url = f"{file.url}?{is_ours}{number}"
            parent, child = pairs[is_ours]
            _fetch(cluster, parent, url)
            return _fetch(cluster, child, url)

        return _in_turns(rounds, lambda number: fetch(True, number), lambda number: fetch(False, number))


def _fresh(cluster: Cluster, rounds: int) -> Measured:
    file = cluster.file(300_000_000)
    with cluster.peer(is_ours=True) as ours, cluster.peer(is_ours=False) as real:
        return _in_turns(
            rounds,
            lambda number: _fetch(cluster, ours, f"{file.url}?ours{number}"),
            lambda number: _fetch(cluster, real, f"{file.url}?real{number}"),
        )


def _crowds(of_ours: int) -> Callable[[Cluster, int], Measured]:
    """A crowd of eight, so many of them ours, against one of real peers alone."""

    def measure(cluster: Cluster, rounds: int) -> Measured:
        file = cluster.file(80_000_000)

        def crowd(ours: int, number: int) -> float:
            url = f"{file.url}?{ours}of8n{number}"
            with ExitStack() as stack:
                owner = stack.enter_context(cluster.peer(is_ours=ours == _CROWD, limit="10MB"))
                children = [
                    stack.enter_context(cluster.peer(is_ours=place < ours, limit="10MB", download=_ONLY_PEERS))
                    for place in range(_CROWD)
                ]
                _fetch(cluster, owner, url)
                before = cluster.asked_of_origin(file)
                took = _all_at_once(cluster, children, url)
                spare = cluster.asked_of_origin(file) - before
                if spare > 1_000_000:
                    raise DidNotWork(f"expected nothing from the origin, got {spare} bytes")
                return took

        return _in_turns(rounds, lambda number: crowd(of_ours, number), lambda number: crowd(0, number))

    return measure


def _fetch(cluster: Cluster, peer: Peer, url: str) -> float:
    """Seconds that dfget takes."""
    ran, output = cluster.dfget(peer, url)
    ran.checked(f"dfget through {peer.name}")
    output.unlink()
    return ran.seconds


def _all_at_once(cluster: Cluster, peers: list[Peer], url: str) -> float:
    """Seconds until the last of all peers has a task."""
    errors: list[BaseException] = []

    def fetch(peer: Peer) -> None:
        try:
            _fetch(cluster, peer, url)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch, args=(peer,)) for peer in peers]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return time.monotonic() - began


FIGURES = (
    Figure(
        name="pairs",
        words="dfget of 300 MB: child and parent ours, against child and parent real",
        most=1.1,
        measure=_pairs,
    ),
    Figure(
        name="fresh",
        words="dfget of a fresh task of 300 MB through our daemon, against a real one",
        most=1.1,
        measure=_fresh,
    ),
    Figure(
        name="crowd",
        words="eight of ours fetch 80 MB at once, each sends at most 10 MB/s, against eight real ones",
        most=0.5,
        measure=_crowds(8),
    ),
    Figure(
        name="mixed",
        words="four of ours and four real ones, the same, against eight real ones",
        most=0.8,
        measure=_crowds(4),
    ),
)
"""All figures."""
