"""How fast peers of ours are in a real cluster, beside real ones: what is measured, each case in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.cluster.programs import Cluster, Peer
from benchmarks.processes import DidNotWork

__all__ = ["FIGURES", "Figure", "Measured"]

_CROWD = 8
"""Peers that fetch one task at once."""

_ONLY_PEERS = "protocol: tcp, back_to_source: never"
"""A section ``download`` of peers that wait for others, as real ones do; these skip the key."""

Measured = dict[str, list[float]]
"""The seconds of each round, ``ours`` and ``real``; and ``load``, the machine's load average before and after."""


class Figure(NamedTuple):
    """
    Something to measure.

    :ivar words: what is measured.
    :ivar most: what the ratio of the medians is to be at most.
    :ivar measure: measures so many rounds.
    """

    words: str
    most: float
    measure: Callable[[Cluster, int], Measured]


def _in_turns(rounds: int, seconds: Callable[[bool, int], float]) -> Measured:
    """
    Measure ours and the real ones one after the other, after a round that does not count. The disk has nothing left to
    do for what was measured before.
    """
    os.sync()
    load = [os.getloadavg()[0]]
    took = [[seconds(is_ours, number) for is_ours in (True, False)] for number in range(-1, rounds)][1:]
    ours, real = (list(each) for each in zip(*took, strict=True))
    return {"ours": ours, "real": real, "load": [*load, os.getloadavg()[0]]}


def _pairs(cluster: Cluster, rounds: int) -> Measured:
    file = cluster.file(300_000_000)
    with ExitStack() as stack:
        pairs = {
            is_ours: [stack.enter_context(cluster.peer(is_ours=is_ours)) for _ in range(2)] for is_ours in (True, False)
        }

        def seconds(is_ours: bool, number: int) -> float:
            # The parent, and then the child.
            return [_fetch(cluster, each, f"{file.url}?{is_ours}{number}") for each in pairs[is_ours]][-1]

        return _in_turns(rounds, seconds)


def _fresh(cluster: Cluster, rounds: int) -> Measured:
    file = cluster.file(300_000_000)
    with cluster.peer(is_ours=True) as ours, cluster.peer(is_ours=False) as real:
        peers = {True: ours, False: real}
        return _in_turns(
            rounds, lambda is_ours, number: _fetch(cluster, peers[is_ours], f"{file.url}?{is_ours}{number}")
        )


def _crowds(of_ours: int) -> Callable[[Cluster, int], Measured]:
    """A crowd of eight, so many of them ours, against one of real peers alone."""

    def measure(cluster: Cluster, rounds: int) -> Measured:
        file = cluster.file(80_000_000)

        def seconds(is_ours: bool, number: int) -> float:
            ours = of_ours if is_ours else 0
            url = f"{file.url}?{ours}of8n{number}"
            with ExitStack() as stack:
                owner = stack.enter_context(cluster.peer(is_ours=ours == _CROWD, limit="10MB"))
                children = [
                    stack.enter_context(cluster.peer(is_ours=place < ours, limit="10MB", download=_ONLY_PEERS))
                    for place in range(_CROWD)
                ]
                _fetch(cluster, owner, url)
                before, began = cluster.asked_of_origin(file), time.monotonic()
                with ThreadPoolExecutor(_CROWD) as threads:
                    list(threads.map(lambda peer: _fetch(cluster, peer, url), children))
                took, spare = time.monotonic() - began, cluster.asked_of_origin(file) - before
                if spare > 1_000_000:
                    raise DidNotWork(f"expected nothing from the source, got {spare} bytes")
                return took

        return _in_turns(rounds, seconds)

    return measure


def _fetch(cluster: Cluster, peer: Peer, url: str) -> float:
    """Seconds that dfget takes."""
    ran, output = cluster.dfget(peer, url)
    ran.checked(f"dfget through {peer.name}")
    output.unlink()
    return ran.seconds


FIGURES = {
    "pairs": Figure("dfget of 300 MB: child and parent ours, against child and parent real", 1.1, _pairs),
    "fresh": Figure("dfget of a fresh task of 300 MB through our daemon, against a real one", 1.1, _fresh),
    "crowd": Figure(
        "eight of ours fetch 80 MB at once, each sends at most 10 MB/s, against eight real ones", 0.5, _crowds(8)
    ),
    "mixed": Figure("four of ours and four real ones, the same, against eight real ones", 0.8, _crowds(4)),
}
"""All figures, by the name on the command line."""
