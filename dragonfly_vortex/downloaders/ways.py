"""
What is known of the ways to a parent: which of them work, which of them rest, and what is to be said of a change.

A way that fails rests for a while; then one piece at a time tries it again. The life of a way::

    WORKING --a piece fails there--> RESTING --after a while--> one piece tries it
       ^                                ^                          |          |
       |                                +---------it fails---------+          |
       +------------------------------it answers------------------------------+

Pieces that were under way together when a way failed say nothing new about it: each has been asked for in a round, and
each change begins another one. While all ways rest all are tried: nothing is given up for having failed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dragonfly_vortex.interfaces import IDownloader

__all__ = ["REST", "KnownParent", "Way"]

REST = 30.0
"""Seconds that a way is left alone after it has failed, while there is another one."""


@dataclass(slots=True, kw_only=True, eq=False)
class Way:
    """
    A transport to one parent.

    :param name: what it is called in messages.
    :param address: the parent's address there.
    :param downloader: gives what takes pieces that way.
    :param can_be_heard: whether a piece is seen to arrive before it is complete.
    :param heard_at: when something came last, on whichever piece; None before that.
    :param failed_at: when it failed; None while it works.
    :param why: what was said about the failure.
    :param is_tried: whether a piece is trying it again.
    :param round: counts its changes; see the module.
    """

    name: str
    address: str
    downloader: Callable[[], IDownloader]
    can_be_heard: bool
    heard_at: float | None = None
    failed_at: float | None = None
    why: str = ""
    is_tried: bool = False
    round: int = 0

    def is_resting(self, now: float) -> bool:
        """Whether it has failed, and is not to be tried by one more piece now."""
        return self.failed_at is not None and (self.is_tried or now < self.failed_at + REST)

    def failed(self, asked_in: int, now: float, why: str) -> bool:
        """
        A piece has failed here.

        :param asked_in: the round in which it was asked for.
        :param why: what is said about the failure.
        :returns: whether that is news.
        """
        if asked_in != self.round:
            return False
        self.failed_at = now
        self.why = why
        self.round += 1
        return True


@dataclass(slots=True, kw_only=True, eq=False)
class KnownParent:
    """
    A parent that is known by its gRPC address.

    :param address: that address, for messages.
    :param ways: the ways to it, the best first.
    :param in_use: the one that its pieces come by; None before there was any.
    """

    address: str
    ways: tuple[Way, ...] = ()
    in_use: Way | None = None

    def in_order(self, now: float) -> list[Way]:
        """The ways in the order in which a piece tries them."""
        return sorted(self.ways, key=lambda way: way.is_resting(now))

    @property
    def best(self) -> Way | None:
        """The best of those that work."""
        return next((way for way in self.ways if way.failed_at is None), None)

    def offer(self, wanted: Sequence[Way]) -> None:
        """
        Its ways are these, the best first. What is known of one stays while its address is the same.

        :param wanted: ways as if nothing were known of them.
        """
        known = {(way.name, way.address): way for way in self.ways}
        before, self.ways = self.ways, tuple(known.get((way.name, way.address), way) for way in wanted)
        if self.ways != before:
            self.in_use = None

    def answered(self, way: Way, asked_in: int) -> str | None:
        """
        It has said something on a way, about a piece.

        :param asked_in: the round in which it was asked for that.
        :returns: a line about the change that this is; None where nothing has changed, or not for the user.
        """
        if asked_in == way.round and way.failed_at is not None:
            way.failed_at = None
            way.round += 1
        if way is not self.best or way is self.in_use:
            return None
        before, self.in_use = self.in_use, way
        failed = next((other for other in self.ways if other.failed_at is not None), None)
        if failed is not None and (before is not None or way is not self.ways[0]):
            named = _named(failed, self.address)
            return f"parent {self.address}: {named} does not answer ({failed.why}), using {way.name}"
        if before is not None:
            return f"parent {self.address}: {way.name} answers again, using {way.name}"
        return None


def _named(way: Way, parent: str) -> str:
    """A way for a message: with its port, and with its whole address where that is on another host."""
    if way.name != "TCP":
        return way.name
    host, _, port = way.address.rpartition(":")
    is_there = host.rpartition("://")[2] == parent.rpartition("://")[2].rpartition(":")[0]
    return f"TCP port {port}" if is_there else f"TCP at {way.address}"
