"""
Counters of a peer's doors, in memory that its workers write and its main process reads.

A door of a process has a tally of its own. With workers the tallies lie in memory that the main process shares with
them: each worker counts in its own place, and the main process adds them up when it is asked. So nothing has to be
sent or fetched, a stopped worker delays nothing, and the counts of a killed worker stay: its successor counts on from
them.

Prometheus's own library for Python would do the same by a file for each process. But it decides so for all that a
program counts, by an environment variable that must be there when it is imported; and the files of processes that have
ended stay, and become ever more.
"""

from __future__ import annotations

import mmap

from dragonfly_vortex.files import shared_memory

__all__ = ["Child", "Children", "Tally", "shared_tallies", "tallies_in"]

_UNDER_WAY, _SENT, _CONNECTIONS, _IDLE, _WAITED = range(5)

_LENGTH = 8 * 5
"""Bytes of a tally: five numbers. Each is written by one thread at a time, and read as a whole."""

_MICROSECONDS = 1_000_000


_MOST_CHILDREN = 256
"""Hosts that a door counts for at once."""


class Child:
    """
    The counters of what a door has sent to one host.

    :param host: its address.
    """

    __slots__ = ("host", "sent", "task_id")

    def __init__(self, host: str) -> None:
        self.host = host
        self.sent = 0
        """Bytes of content."""
        self.task_id = ""
        """The task of the last piece."""


class Children:
    """The counters of what a door has sent to each of the last hosts. One thread counts, any other one may read."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}  # the one that was named last is the last

    def of(self, host: str) -> Child:
        """The counters of a host. Where there are too many, those of the host that was not named for longest go."""
        child = self._children.pop(host, None) or Child(host)
        self._children[host] = child
        if len(self._children) > _MOST_CHILDREN:
            del self._children[next(iter(self._children))]
        return child

    def all(self) -> list[Child]:
        """All counters, those of the host that was named last first."""
        return list(self._children.values())[::-1]


class Tally:
    """
    The pieces that one door has sent, and is sending. One thread counts, any other one may read.

    :param memory: a place that :func:`tallies_in` has found; None for one that no other process knows.
    """

    __slots__ = ("_numbers", "children")

    def __init__(self, memory: memoryview | None = None) -> None:
        self.children = Children()
        """What each host was sent by this process; another process that counts here has its own."""
        self._numbers = (memoryview(bytearray(_LENGTH)) if memory is None else memory).cast("q")

    def piece_begun(self) -> None:
        """Count a request for a piece."""
        self._numbers[_UNDER_WAY] += 1

    def piece_ended(self) -> None:
        """Count the end of a reply, complete or not."""
        self._numbers[_UNDER_WAY] -= 1

    def sent(self, length: int) -> None:
        """Count bytes of a piece's content that were sent."""
        self._numbers[_SENT] += length

    def connections_changed(self, *, more: int = 0, more_idle: int = 0) -> None:
        """
        Count connections from children.

        :param more: how many more there are.
        :param more_idle: how many more of them wait for a request.
        """
        self._numbers[_CONNECTIONS] += more
        self._numbers[_IDLE] += more_idle

    def waited(self, seconds: float) -> None:
        """Count the time for which a reply had to wait for the limit of bytes per second."""
        self._numbers[_WAITED] += int(seconds * _MICROSECONDS)

    def nothing_under_way(self) -> None:
        """Set the pieces and connections under way to none: the process that counted here has ended."""
        self._numbers[_UNDER_WAY] = self._numbers[_CONNECTIONS] = self._numbers[_IDLE] = 0

    @property
    def pieces_under_way(self) -> int:
        """The number of pieces that are being sent."""
        return self._numbers[_UNDER_WAY]

    @property
    def connections(self) -> int:
        """The number of connections from children."""
        return self._numbers[_CONNECTIONS]

    @property
    def idle_connections(self) -> int:
        """The number of those that wait for a request."""
        return self._numbers[_IDLE]

    @property
    def seconds_waited(self) -> float:
        """Seconds for which replies had to wait for the limit of bytes per second, summed over replies."""
        return self._numbers[_WAITED] / _MICROSECONDS

    @property
    def bytes_sent(self) -> int:
        """The bytes of content that have been sent."""
        return self._numbers[_SENT]


def shared_tallies(count: int) -> int:
    """
    Make the memory for some tallies.

    :returns: the descriptor of a file without a name, for other processes to inherit.
    """
    return shared_memory("dfvortex-tallies", bytes(_LENGTH * count))


def tallies_in(descriptor: int) -> tuple[Tally, ...]:
    """
    Return all tallies in shared memory, which they keep alive.

    :param descriptor: of :func:`shared_tallies`; it is not needed any more then.
    """
    memory = memoryview(mmap.mmap(descriptor, 0))
    return tuple(Tally(memory[start : start + _LENGTH]) for start in range(0, len(memory), _LENGTH))
