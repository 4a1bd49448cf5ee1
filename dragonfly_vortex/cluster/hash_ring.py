"""
Chooses the scheduler of a task by consistent hashing, as Dragonfly's clients do, so that all peers of a task ask the
same scheduler.

The rule is that of the crate ``dragonfly-hashring`` 0.2.0: each name has 512 virtual nodes; the place of a virtual node
is the SipHash-2-4, with a key of zeros, of its number (8 bytes, little-endian), its name and the byte 0xff; the place
of a key is the same hash of the key and the byte 0xff; a key belongs to the first virtual node at or behind its place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache

__all__ = ["HashRing", "siphash24"]

_VIRTUAL_NODES = 512
"""Virtual nodes of each name."""

_MASK = 2**64 - 1
_INITIAL_STATE = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
"""The state that SipHash begins with where its key is zero."""

_State = tuple[int, int, int, int]


class HashRing:
    """
    A ring of names.

    :param names: the names, in any order.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        places = sorted((place, name) for name in self.names for place in _places_of(name))
        self._places = [place for place, _ in places]
        self._names = [name for _, name in places]

    def in_order(self, key: str) -> Iterator[str]:
        """
        The names in the order in which they are responsible for a key: the first one, and those that replace it where
        it is not available.

        :param key: a task's ID.
        """
        place = bisect_left(self._places, _place_of(key))
        yield from dict.fromkeys(self._names[place:] + self._names[:place])

    def first(self, key: str) -> str:
        """
        The name that is responsible for a key; empty for a ring without names.

        :param key: a task's ID.
        """
        if not self._names:
            return ""
        return self._names[bisect_left(self._places, _place_of(key)) % len(self._names)]


@lru_cache(maxsize=16_384)
def _place_of(key: str) -> int:
    """The place of a key. The tasks of a storage are looked up again and again."""
    return siphash24(key.encode() + b"\xff")


@lru_cache(maxsize=64)
def _places_of(name: str) -> tuple[int, ...]:
    """The places of a name's virtual nodes. They take some ten milliseconds, and a ring changes often by one name."""
    return tuple(siphash24(number.to_bytes(8, "little") + name.encode() + b"\xff") for number in range(_VIRTUAL_NODES))


def siphash24(data: bytes) -> int:
    """
    Return the SipHash-2-4 of some bytes, with a key of zeros.

    :param data: at most a few hundred bytes: this is not fast.
    """
    state = _INITIAL_STATE
    whole = len(data) - len(data) % 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) % 256])
    for block in (*(data[at : at + 8] for at in range(0, whole, 8)), last):
        word = int.from_bytes(block, "little")
        state = (*state[:3], state[3] ^ word)
        state = _rounds(state, 2)
        state = (state[0] ^ word, *state[1:])
    state = _rounds((state[0], state[1], state[2] ^ 0xFF, state[3]), 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: _State, count: int) -> _State:
    """Some rounds of SipHash."""
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = ((v1 << 13 | v1 >> 51) & _MASK) ^ v0
        v0 = (v0 << 32 | v0 >> 32) & _MASK
        v2 = (v2 + v3) & _MASK
        v3 = ((v3 << 16 | v3 >> 48) & _MASK) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = ((v3 << 21 | v3 >> 43) & _MASK) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = ((v1 << 17 | v1 >> 47) & _MASK) ^ v2
        v2 = (v2 << 32 | v2 >> 32) & _MASK
    return v0, v1, v2, v3
