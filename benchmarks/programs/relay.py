"""
A wire of a length of our choice: two TUN devices, and between them a program that keeps each packet for a while, lets
through so many bytes a second, and loses some. It stands in for ``tc netem`` on kernels that have none.

What comes in by one device goes out by the other. A direction is a queue in front of a link: a packet that finds more
than :data:`QUEUE` waiting is dropped, as a router would; the link takes its time for each byte; then comes the way,
which is the same for all. Losses are drawn from a seeded generator, so that two runs lose the same packets.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import sys
import time
from collections import deque

__all__ = ["QUEUE", "Direction", "main"]

QUEUE = 0.02
"""Seconds that a packet may have to wait for those before it."""

_BATCH = 64
"""Packets that are taken from a device at a time."""

_LONGEST = 65_536
"""Bytes of a packet, at the most."""


class Direction:
    """
    One of the two.

    :param source: the descriptor of the device that packets come from.
    :param target: of the one that they go to.
    :param delay: seconds that the way takes.
    :param loss: the part of all packets that is lost.
    :param rate: bytes per second that the link takes.
    :param seed: of the losses.
    """

    def __init__(self, source: int, target: int, *, delay: float, loss: float, rate: float, seed: int) -> None:
        self.source = source
        self._target = target
        self._delay = delay
        self._rate = rate
        self._loss = loss
        self._random = random.Random(seed)
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0  # when the link has taken all that waits
        self._until_lost = self._draw()

    @property
    def due(self) -> float:
        """When the next packet arrives, infinite while there is none."""
        return self._under_way[0][0] if self._under_way else float("inf")

    def take(self, now: float) -> None:
        """Take what the device has, a batch at the most."""
        read, source, under_way, rate = os.read, self.source, self._under_way, self._rate
        latest = now + QUEUE
        free_at = max(self._free_at, now)
        try:
            for _ in range(_BATCH):
                packet = read(source, _LONGEST)
                self._until_lost -= 1
                if not self._until_lost:
                    self._until_lost = self._draw()
                elif free_at < latest:
                    free_at += len(packet) / rate
                    under_way.append((free_at + self._delay, packet))
        except BlockingIOError:
            pass
        self._free_at = free_at

    def deliver(self, now: float) -> None:
        """Hand on what has arrived."""
        under_way, target, write = self._under_way, self._target, os.write
        while under_way and under_way[0][0] <= now:
            write(target, under_way.popleft()[1])

    def _draw(self) -> int:
        """The number of the next packet that is lost, counted from here."""
        if not self._loss:
            return sys.maxsize
        number = 1
        while self._random.random() >= self._loss:
            number += 1
        return number


def main() -> None:
    """Relay until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.relay")
    parser.add_argument("descriptors", metavar="FD", type=int, nargs=2, help="the open TUN devices")
    parser.add_argument("--delay", metavar="S", type=float, required=True, help="seconds that each way takes")
    parser.add_argument(
        "--loss", metavar="PART", type=float, required=True, help="of the packets from the first device"
    )
    parser.add_argument("--rate", metavar="BYTES", type=float, required=True, help="per second, in each direction")
    given = parser.parse_args()
    one, other = given.descriptors
    directions = (
        Direction(one, other, delay=given.delay, loss=given.loss, rate=given.rate, seed=1),
        Direction(other, one, delay=given.delay, loss=0.0, rate=given.rate, seed=2),
    )
    for descriptor in (one, other):
        os.set_blocking(descriptor, False)
    while True:
        now = time.monotonic()
        for direction in directions:
            direction.take(now)
            direction.deliver(now)
        due = min(direction.due for direction in directions)
        select.select([one, other], [], [], min(1.0, max(0.0, due - time.monotonic())))


if __name__ == "__main__":
    main()
