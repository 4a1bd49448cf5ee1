"""
Balances connections between processes that accept from one listening socket.

All of them wake for a connection, and the first one gets it. A process that is awake already would take all connections
that arrive at once, as a child's do. So each process publishes its number of connections in shared memory, and one that
has more than another lets that one go first, for a moment.
"""

from __future__ import annotations

import mmap
import sys

from dragonfly_vortex.files import shared_memory

__all__ = ["Turns", "shared_counts"]

_NONE = 2**32 - 1
"""The count of a process that takes none: because it is full, or has not come yet, or has gone."""

_WIDTH = 4  # bytes of a count; each is written by one process at a time, and read as a whole


def shared_counts(count: int) -> int:
    """
    Make the memory for some processes, none of which takes connections yet.

    :param count: how many processes.
    :returns: the descriptor of a file without a name, for them to inherit.
    """
    return shared_memory("dfvortex-counts", _NONE.to_bytes(_WIDTH, sys.byteorder) * count)


class Turns:
    """
    The connections of all processes that share a socket, as one of them sees and changes them.

    :param counts: of :func:`shared_counts`; the descriptor is not needed any more then.
    :param own: the process's number, from 1.
    """

    def __init__(self, counts: int, own: int) -> None:
        self._memory = mmap.mmap(counts, 0)
        self._counts = memoryview(self._memory).cast("I")
        self._own = own - 1

    def close(self) -> None:
        """Free the memory. No method may be called any more."""
        self._counts.release()
        self._memory.close()

    def tell(self, connections: int) -> None:
        """Publish how many connections this process has."""
        self._counts[self._own] = connections

    def take_none(self) -> None:
        """Publish that this process takes no connection, so that the others do not wait for it."""
        self._counts[self._own] = _NONE

    @property
    def mine(self) -> bool:
        """Whether no other process has fewer connections."""
        return self._counts[self._own] <= min(self._counts)

    @property
    def counts(self) -> tuple[int | None, ...]:
        """How many connections each process has, None for one that takes none."""
        return tuple(None if count == _NONE else count for count in self._counts)
